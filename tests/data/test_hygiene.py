"""Each rule names exactly the rows that it should, drops or reports them, and keeps no text.

References: rows written by hand, and for random rows the same rules in plain loops over texts.
"""

import gc
import json
import random
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from medtune.common.errors import ConfigError
from medtune.data.formats.checks import is_sound
from medtune.data.hygiene.rules import (
    RULES,
    Checked,
    HygieneOptions,
    check_records,
    compute_length_bias,
)
from medtune.data.parts import Reject
from medtune.data.reading import read_conversation_file, read_preference_file
from medtune.data.records import (
    Conversation,
    Message,
    PreferencePair,
    Record,
    Role,
    Source,
    TextRecord,
)
from tests.conftest import REPO

DEFAULTS = HygieneOptions()
SHARED = REPO.parent / "shared" / "data"
SPEAKERS: tuple[Role, Role] = ("user", "assistant")


def talk(*turns: str, system: str = "") -> Conversation:
    """A conversation in which user and assistant take turns."""
    messages = [Message(SPEAKERS[number % 2], turn) for number, turn in enumerate(turns)]
    start = [Message("system", system)] if system else []
    return Conversation((*start, *messages), Source("a.jsonl", 1))


def pair(question: str, chosen: str, rejected: str, history: Sequence[str] = ()) -> PreferencePair:
    prompt = talk(*history, question).messages
    return PreferencePair(prompt, chosen, rejected, Source("a.jsonl", 1))


def document(text: str) -> TextRecord:
    return TextRecord(text, Source("a.jsonl", 1))


def numbered(records: Iterable[Record]) -> list[Record]:
    """The records as the lines 1, 2, 3, … of one file."""
    return [
        replace(r, source=Source("a.jsonl", n)) for r, n in zip(records, count(1), strict=False)
    ]


def check(*records: Record, **options: Any) -> Checked:
    return check_records(numbered(records), HygieneOptions(**options))


def found_by(rule: str, *records: Record, **options: Any) -> list[int]:
    """The places, from 0, of the rows that this rule alone names."""
    checked = check(*records, drop=(), report=(rule,), **options)
    assert checked.is_kept.all()
    assert {reject.reason for reject in checked.reported()} <= {rule}
    return [reject.source.line - 1 for reject in checked.reported()]


def nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {rule: number for rule, number in counts.items() if number}


# -- exact duplicates


def test_equal_text_is_dropped_whatever_its_width_and_white_space() -> None:
    checked = check(
        talk("头痛怎么办？", "多休息，多喝水。"),
        talk("头痛怎么办?", " 多休息,多喝水。\n"),
        talk("ＣＴ 要空腹吗", "平扫不用。"),
        talk("CT\u3000要空腹吗", "平扫不用。"),
        talk("头痛怎么办？", "多休息，多喝汤。"),
        talk("头 痛怎么办？", "多休息，多喝水。"),
    )

    assert checked.is_kept.tolist() == [True, False, True, False, True, True]
    assert nonzero(checked.report.dropped) == {"exact_duplicate": 2}
    assert checked.report.groups["exact_duplicate"] == 2


def test_duplicate_is_rejected_with_the_place_of_the_first_and_without_its_text() -> None:
    checked = check(
        talk("头痛怎么办", "多休息"), talk("发热", "喝水"), talk("头痛怎么办", "多休息")
    )

    (reject,) = checked.rejects()

    assert reject == Reject(
        Source("a.jsonl", 3),
        "exact_duplicate",
        "expected a new text, found that of a.jsonl:1 again; remove one of the two.",
    )
    assert reject.to_dict()["row"] is None


def test_place_of_the_first_counts_the_rows_dropped_before_it() -> None:
    checked = check(talk("咳嗽", "您好"), document("头痛"), talk("无", "多休息"), document("头痛"))

    messages = {reject.source.line: reject.message for reject in checked.rejects()}

    assert list(messages) == [1, 3, 4]
    assert "found that of a.jsonl:2 again" in messages[4]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (talk("头痛", "休息", "多久", "三天"), talk("头痛休息", "多久三天")),
        (talk("头痛", "休息", system="你是医生"), talk("头痛", "休息")),
        (pair("头痛", "休息", "忍着"), pair("头痛", "忍着", "休息")),
        (document("头痛"), talk("头痛", "休息")),
    ],
    ids=["turns", "system", "labels", "kinds"],
)
def test_the_same_words_said_otherwise_are_no_duplicate(one: Record, other: Record) -> None:
    assert check(one, other).is_kept.all()


def test_first_record_in_reading_order_is_kept_over_files() -> None:
    rows = [
        replace(document("头痛"), source=Source(path, 7)) for path in ("b.txt", "a.txt", "c.txt")
    ]
    checked = check_records(rows, DEFAULTS)

    assert [record.source.path for record in checked.kept(rows)] == ["b.txt"]
    assert [str(reject.source) for reject in checked.rejects()] == ["a.txt:7", "c.txt:7"]
    assert all("b.txt:7" in reject.message for reject in checked.rejects())


# -- rules that look at one row


@pytest.mark.parametrize(
    "record",
    [
        document("血压\ufffd高"),
        talk("血\ufffd", "多休息"),
        talk("血压高", "多休\ufffd"),
        talk("血压高", "多休息", system="\ufffd"),
        pair("血压高", "多休息", "\ufffd忍着"),
    ],
    ids=["document", "question", "answer", "system", "rejected"],
)
def test_lost_characters_are_found_wherever_they_are(record: Record) -> None:
    checked = check(talk("血压高", "少吃盐"), record)

    assert nonzero(checked.report.dropped) == {"replacement_character": 1}
    assert checked.is_kept.tolist() == [True, False]


EMPTY_ANSWERS = [
    "您好", "谢谢！", "不客气。", "祝您健康～", "请咨询医生", "您好，请咨询医生，祝您健康！",
    "谢谢谢谢您", "。。。", "😊", "Thank you!",
    "感谢您的咨询，希望我的回答对您有帮助。", "请 及时 就医",
]  # fmt: skip
FULL_ANSWERS = [
    "可以", "是", "A", "38.5", "多休息，不客气。", "您好，建议多喝水。", "请咨询医生能否停药",
    "谢谢您，可以吃。", "立即拨打120", "祝您健康长寿的秘诀是少盐",
]  # fmt: skip


@pytest.mark.parametrize("answer", EMPTY_ANSWERS)
def test_answer_of_courtesies_alone_is_boilerplate(answer: str) -> None:
    assert found_by("boilerplate_answer", talk("头痛怎么办", answer)) == [0]
    assert found_by("boilerplate_answer", pair("头痛怎么办", answer, "忍着")) == [0]


@pytest.mark.parametrize("answer", FULL_ANSWERS)
def test_answer_that_says_something_is_none(answer: str) -> None:
    assert found_by("boilerplate_answer", talk("头痛怎么办", answer)) == []


def test_courtesies_beside_an_answer_are_none() -> None:
    polite = talk("头痛怎么办", "多休息，必要时去神经内科。", "谢谢医生", "不客气，祝您健康！")
    empty = talk("在吗", "您好", "谢谢医生", "不客气，祝您健康！")
    worse = pair("头痛怎么办", "多休息", "请咨询医生")

    assert found_by("boilerplate_answer", polite, empty, worse, document("您好")) == [1]


def test_short_answers_are_boilerplate_below_the_limit() -> None:
    rows = talk("感冒怎么办", "多喝水，早睡！"), talk("感冒怎么办", "多喝温水，早点睡！")  # 5, 7

    assert found_by("boilerplate_answer", *rows) == []
    assert found_by("boilerplate_answer", *rows, min_answer_characters=7) == [0]
    assert found_by("boilerplate_answer", *rows, min_answer_characters=8) == [0, 1]


def test_conversation_whose_user_says_nothing_is_one_sided() -> None:
    rows = [
        talk("无", "多休息"), talk("？？", "多休息"), talk("嗯", "多休息", "。", "多喝水"),
        talk("NaN", "多休息"), talk("如题", "多休息", system="头痛"), pair("无", "多休息", "忍着"),
        talk("头", "多休息"), talk("无", "多休息", "头痛", "多喝水"), talk("无名指痛", "多休息"),
        talk("你好", "您好，哪里不舒服？"), pair("无", "多休息", "忍着", ["头痛", "多久了"]),
        document("无"),
    ]  # fmt: skip

    assert found_by("one_sided_conversation", *rows) == [0, 1, 2, 3, 4, 5]


def test_limit_of_characters_is_of_the_whole_record_and_inclusive() -> None:
    rows = (
        talk("头痛", "多休息"),
        talk("头痛", "多休息呀"),
        document("头痛多休息"),
        document("头痛多休息呀"),
    )

    assert found_by("over_long", *rows, max_characters=5) == [1, 3]
    assert found_by("over_long", *rows) == []


def test_row_counts_under_the_first_rule_that_drops_it() -> None:
    checked = check(talk("无", "\ufffd"), talk("无", "您好"), talk("无", "您好"))

    assert nonzero(checked.report.dropped) == {
        "replacement_character": 1,
        "one_sided_conversation": 2,
    }
    assert len(list(checked.rejects())) == 3


# -- rules that look at all rows


def test_answer_to_too_many_different_questions_is_templated() -> None:
    template = "请到内科检查，注意休息。"
    rows = [talk(f"问题{number}", template) for number in range(4)]
    same = [talk("头痛怎么办", "多喝热水") for _ in range(9)]
    few = [talk(f"另一问{number}", "少吃盐") for number in range(3)]

    found = found_by("templated_answer", *same, *rows, *few, max_questions_per_answer=3)

    assert found == [9, 10, 11, 12]


def test_chosen_answer_is_templated_and_the_rejected_is_not() -> None:
    rows = [pair(f"问题{n}", "请到内科检查", "忍着") for n in range(3)]
    rows += [pair(f"问题{n}", f"第{n}种办法", "请到内科检查") for n in range(3)]

    assert found_by("templated_answer", *rows, max_questions_per_answer=2) == [0, 1, 2]


def test_different_answers_to_a_question_contradict() -> None:
    rows = [
        talk("孕妇能吃四环素吗？", "不能。"),
        talk("头痛怎么办", "多休息。"),
        talk("孕妇能吃四环素吗?", "可以。", "真的吗", "真的。"),
        talk("头痛怎么办", "多休息。"),
        talk("孕妇能吃四环素吗？", "可以。", system="你故意答错。"),
        pair("头痛怎么办", "多喝水。", "忍着。"),
        pair("头痛怎么办", "去医院。", "忍着。"),
        document("头痛怎么办"),
    ]
    checked = check(*rows)

    assert checked.is_kept.tolist() == [True, True, True, False, True, True, True, True]
    assert nonzero(checked.report.reported) == {"contradicting_duplicate": 2}
    assert checked.report.groups["contradicting_duplicate"] == 1
    assert [(r.source.line, "a.jsonl:1" in r.message) for r in checked.reported()] == [
        (1, True),
        (3, True),
    ]


def test_contradictions_are_dropped_on_demand_all_of_them() -> None:
    rows = [talk("能停药吗", "能"), talk("能停药吗", "不能"), talk("头痛", "休息")]
    checked = check(*rows, drop=("contradicting_duplicate",), report=())

    assert checked.is_kept.tolist() == [False, False, True]


def test_row_dropped_by_an_earlier_rule_contradicts_nothing() -> None:
    rows = [talk("能停药吗", "请咨询医生"), talk("能停药吗", "不能自己停")]

    assert nonzero(check(*rows).report.reported) == {}


def test_opposite_preferences_are_found_on_both_sides() -> None:
    rows = [
        pair("能停药吗", "不能", "能"),
        pair("能停药吗", "能", "看情况"),
        pair("能停药吗？", "能", "不能"),
        pair("能停药吗", "能", "不能"),
        pair("能停药吗", "能", "不能", history=["我血压高", "多久了"]),
    ]
    checked = check(*rows)

    assert [reject.source.line for reject in checked.reported()] == [1, 4]
    assert nonzero(checked.report.reported) == {"opposite_labels": 2}
    assert checked.report.groups["opposite_labels"] == 1


def test_answers_that_are_equal_once_normalised_are_not_their_own_opposite() -> None:
    assert found_by("opposite_labels", pair("能停药吗", "不能,问医生", "不能，问医生")) == []


# -- preference lengths


def test_length_bias_of_kept_pairs() -> None:
    pairs = [
        pair("一", "四个字呀", "两字"),
        pair("二", "两字", "一共六个字呀"),
        pair("三", "同长", "一样"),
    ]
    checked = check(*pairs, pairs[0], talk("头痛", "多休息"))

    bias = checked.report.length_bias

    assert bias == {
        "mean_chosen_characters": 8 / 3,
        "mean_rejected_characters": 10 / 3,
        "win_by_length_accuracy": 1 / 3,
        "n": 3,
    }
    assert check(talk("头痛", "多休息")).report.length_bias is None


def test_length_bias_as_its_docstring_says() -> None:
    bias = compute_length_bias(np.array([4, 2]), np.array([2, 6]))

    assert bias is not None
    assert list(bias.values()) == [3, 4, 0.5, 2]


# -- options


def test_rule_can_drop_report_or_rest() -> None:
    rows = [talk("头痛", "多休息"), talk("头痛", "多休息"), talk("发热", "谢谢")]
    dropped = check(*rows, drop=("exact_duplicate",), report=("boilerplate_answer",))
    reported = check(*rows, drop=("boilerplate_answer",), report=("exact_duplicate",))
    at_rest = check(*rows, drop=(), report=())

    assert (dropped.report.dropped, dropped.report.reported) == (
        {"exact_duplicate": 1},
        {"boilerplate_answer": 1},
    )
    assert (reported.report.dropped, reported.report.reported) == (
        {"boilerplate_answer": 1},
        {"exact_duplicate": 1},
    )
    assert at_rest.is_kept.all()
    assert at_rest.report.to_dict() == {
        "rows": 3, "kept": 3, "dropped": {}, "reported": {}, "groups": {}, "length_bias": None
    }  # fmt: skip


def test_near_duplicates_are_searched_on_demand_only() -> None:
    assert set(RULES) - {*DEFAULTS.drop, *DEFAULTS.report} == {"near_duplicate"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": ("duplicate",)}, "drop, report: expected rules of .* found 'duplicate'"),
        ({"report": ("over_long",)}, r"found \['over_long'\] in both"),
        ({"max_characters": 0}, "max_characters: expected 1 or more, found 0"),
        ({"max_questions_per_answer": 0}, "max_questions_per_answer: expected 1 or more"),
        ({"ngram_characters": 0}, "ngram_characters: expected 1 or more"),
        ({"near_duplicate_threshold": 80}, "expected an index from 0.5 to 1, found 80"),
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HygieneOptions(**options)


# -- random rows: the same rules in plain loops

QUESTIONS = [
    "头痛怎么办",
    "头痛怎么办？",
    "发热吃什么药",
    "能停药吗",
    "无",
    "咳嗽三天了",
    "伤口\ufffd",
]
ANSWERS = ["多休息", "多休息。", "去医院检查", "您好", "多喝水", "按医嘱服药", "少吃盐"]
RANDOM_OPTIONS = HygieneOptions(max_characters=12, max_questions_per_answer=2)


def random_conversations(rng: random.Random) -> list[Record]:
    return numbered(
        talk(rng.choice(QUESTIONS), rng.choice(ANSWERS), system=rng.choice(["", "", "你是医生"]))
        for _ in range(rng.randint(1, 60))
    )


def random_pairs(rng: random.Random) -> list[Record]:
    return numbered(
        pair(rng.choice(QUESTIONS), *rng.sample(ANSWERS, 2)) for _ in range(rng.randint(1, 120))
    )


def reference_conversations(records: Sequence[Any]) -> tuple[list[bool], Counter[str]]:
    """What is kept of conversations with one question, and how many rows are reported."""
    seen: set[Any] = set()
    kept = []
    for record in records:
        messages = record.messages
        question, answer = messages[-2].content, messages[-1].content
        is_bad = "\ufffd" in question or sum(len(m.content) for m in messages) > 12
        is_kept = not (is_bad or question == "无" or answer == "您好" or messages in seen)
        seen |= {messages} if is_kept else set()
        kept.append(is_kept)
    questions, answers = defaultdict(set), defaultdict(set)
    for messages in seen:
        answers[messages[:-1]].add(messages[-1].content)
        questions[messages[-1].content].add(messages[:-1])
    return kept, Counter(
        templated_answer=sum(len(of) for of in questions.values() if len(of) > 2),
        contradicting_duplicate=sum(len(of) for of in answers.values() if len(of) > 1),
    )


@pytest.mark.parametrize("seed", range(40))
def test_random_conversations_are_decided_as_in_plain_loops(seed: int) -> None:
    records = random_conversations(random.Random(seed))
    kept, reported = reference_conversations(records)

    checked = check_records(records, RANDOM_OPTIONS)

    assert checked.is_kept.tolist() == kept
    assert nonzero(checked.report.reported) == nonzero(reported)
    assert list(checked.kept(records)) == [r for r, keep in zip(records, kept, strict=True) if keep]


@pytest.mark.parametrize("seed", range(40))
def test_random_pairs_with_an_opposite_are_all_found(seed: int) -> None:
    records = random_pairs(random.Random(seed))
    checked = check_records(records, HygieneOptions(drop=(), report=("opposite_labels",)))
    rows = {(r.key, r.chosen, r.rejected) for r in records if isinstance(r, PreferencePair)}

    expected = [
        number
        for number, r in enumerate(records, start=1)
        if isinstance(r, PreferencePair) and (r.key, r.rejected, r.chosen) in rows
    ]

    assert [reject.source.line for reject in checked.reported()] == expected


@pytest.mark.parametrize("make", [random_conversations, random_pairs])
@pytest.mark.parametrize("seed", range(20))
def test_counts_balance_and_every_row_is_listed(make: Any, seed: int) -> None:
    checked = check_records(make(random.Random(seed)), RANDOM_OPTIONS)
    report = checked.report

    assert report.rows == len(checked.is_kept) == report.kept + sum(report.dropped.values())
    assert Counter(reject.reason for reject in checked.rejects()) == nonzero(report.dropped)
    assert Counter(reject.reason for reject in checked.reported()) == nonzero(report.reported)
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


@pytest.mark.parametrize("make", [random_conversations, random_pairs])
@pytest.mark.parametrize("seed", range(20))
def test_order_decides_which_copy_is_kept_and_nothing_else(make: Any, seed: int) -> None:
    records = make(random.Random(seed))
    shuffled = random.Random(seed).sample(records, len(records))

    one, other = (check_records(rows, RANDOM_OPTIONS) for rows in (records, shuffled))

    assert one.report == other.report
    texts = [
        Counter(repr(replace(record, source=None)) for record in checked.kept(rows))
        for checked, rows in ((one, records), (other, shuffled))
    ]
    assert texts[0] == texts[1]


def test_two_runs_decide_the_same() -> None:
    records = random_conversations(random.Random(1))
    one, other = (check_records(iter(records), RANDOM_OPTIONS) for _ in range(2))

    assert list(one.rejects()) == list(other.rejects())
    assert list(one.reported()) == list(other.reported())


# -- streams


def test_no_record_is_no_mistake() -> None:
    checked = check_records([], HygieneOptions(report=("near_duplicate",)))

    assert (checked.report.rows, checked.report.kept) == (0, 0)
    assert list(checked.rejects()) == list(checked.reported()) == []


@pytest.mark.parametrize("change", [-1, 1])
def test_other_records_than_those_checked_are_refused(change: int) -> None:
    rows = numbered(document(f"文{number}") for number in range(4))
    checked = check_records(rows[:3], DEFAULTS)

    with pytest.raises(ValueError, match="zip"):
        list(checked.kept(rows[: 3 + change]))


def test_memory_holds_no_text() -> None:
    num_rows, num_characters = 2000, 2000

    def stream() -> Iterator[Record]:
        for number in range(num_rows):
            yield replace(document(f"{number}" + "文" * num_characters), source=Source("a", number))

    tracemalloc.start()
    checked = check_records(stream(), DEFAULTS)
    gc.collect()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert checked.report.kept == num_rows
    assert held < num_rows * 200  # bytes; one text alone has 4,000
    assert peak < num_rows * 500


def test_messages_hold_no_text() -> None:
    secrets = ["张三的血糖", "李四的病历", "王五的答复"]
    rows = [talk(secrets[0], secrets[1])] * 2 + [
        talk(secrets[0], secrets[2]),
        talk("无", secrets[2]),
    ]
    checked = check(*rows)

    messages = [reject.message for reject in (*checked.rejects(), *checked.reported())]

    assert len(messages) == 4
    assert not [text for text in secrets for message in messages if text in message]
    assert all(is_sound(message) and message.startswith("expected ") for message in messages)


# -- real data


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data are not on this machine")
@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("finetune/cmtmedqa_multiturn.jsonl", read_conversation_file),
        ("finetune/medicalgpt_medical_sft.jsonl", read_conversation_file),
        ("reward/parkinson_dpo.jsonl", read_preference_file),
        ("reward/medicalgpt_dpo_zh_500.jsonl", read_preference_file),
    ],
)
def test_real_data_are_mostly_kept(file: str, read: Any) -> None:
    records = [record for record in read(SHARED / file) if not isinstance(record, Reject)]
    report = check_records(records, DEFAULTS).report

    assert report.rows == len(records) == report.kept + sum(report.dropped.values())
    assert report.kept > 0.95 * report.rows
