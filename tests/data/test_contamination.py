"""Evaluation items are found in training records, in any dress, and clean records pass.

Reference: which rows the test itself planted. The exam items and the clean sentences are composed
from the same diseases, medicines and findings, so that only the wording tells them apart.
"""

import csv
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medtune.common.errors import ConfigError, DataError
from medtune.data.contamination.eval_items import GAP, EvalItem, read_eval_items
from medtune.data.contamination.gate import ContaminationGate, GateSettings
from medtune.data.contamination.ngrams import hash_ngrams, normalize, windows
from medtune.data.contamination.report import MATCHES_FILE, Match
from medtune.data.formats.files import read_json_rows
from medtune.data.records import Conversation, Message, PreferencePair, Record, Source, TextRecord
from tests.conftest import REPO, WriteJsonl

SHARED = REPO.parent / "shared" / "data"
needs_real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real data are not on this machine"
)

# -- synthetic exam items and clean sentences


def words(text: str) -> list[str]:
    return text.split()


DISEASES = words(
    """
    高血压 冠心病 心房颤动 二尖瓣狭窄 支气管哮喘 慢性阻塞性肺疾病 肺结核 大叶性肺炎 胃溃疡
    溃疡性结肠炎 肝硬化 急性胰腺炎 胆囊结石 肾病综合征 急性肾盂肾炎 缺铁性贫血 再生障碍性贫血
    甲状腺功能亢进症 2型糖尿病 痛风 系统性红斑狼疮 类风湿关节炎 脑梗死 帕金森病 偏头痛 癫痫
    子宫肌瘤 异位妊娠 手足口病 麻疹 白内障 急性中耳炎 荨麻疹 带状疱疹 腰椎间盘突出症 股骨颈骨折
    """
)
DRUGS = words(
    """
    阿司匹林 硝苯地平 美托洛尔 呋塞米 地高辛 华法林 沙丁胺醇 布地奈德 异烟肼 阿莫西林 左氧氟沙星
    奥美拉唑 柳氮磺吡啶 熊去氧胆酸 泼尼松 环磷酰胺 硫酸亚铁 甲巯咪唑 二甲双胍 格列美脲 别嘌醇
    秋水仙碱 甲氨蝶呤 阿替普酶 左旋多巴 卡马西平 丙戊酸钠 米非司酮 氯雷他定 阿昔洛韦
    """
)
FINDINGS = words(
    """
    发热伴寒战 夜间阵发性呼吸困难 咯少量鲜血 餐后上腹胀痛 黑便 皮肤黄染 双下肢凹陷性水肿
    尿频尿急 面色苍白 心悸多汗 多饮多尿 关节晨僵 面部蝶形红斑 单侧肢体无力 静止性震颤 视物模糊
    耳流脓 全身风团 腰痛向腿部放射 停经后阴道流血 口腔疱疹 咳铁锈色痰 右上腹绞痛 意识丧失伴抽搐
    """
)
TESTS = words(
    """
    血常规 尿常规 心电图 超声心动图 胸部CT 胃镜 肠镜 腹部超声 血淀粉酶 肝功能 肾功能 骨髓穿刺
    甲状腺功能 糖化血红蛋白 血尿酸 抗核抗体 头颅磁共振 脑电图 血清铁蛋白 痰涂片
    """
)
PARTS = words(
    """
    心尖部 左肺下叶 右下腹 剑突下 双肾区 甲状腺左叶 腰骶部 右侧膝关节 眼底 外耳道
    """
)

EXAM = [
    "患者，{sex}，{age}岁。{finding}{days}天，既往有{disease}病史，查体{part}压痛，最可能的诊断是",
    "{sex}，{age}岁，因{finding}就诊，{test}提示异常，{part}可见病灶，下一步首选的检查是",
    "关于{disease}合并{disease2}时使用{drug}的叙述，错误的是",
    "下列哪项不是{drug}用于{disease}时的常见不良反应",
    "诊断{disease}时，{test}与{test2}相比，最有价值的改变是",
    "某{age}岁{sex}性患者长期服用{drug}，近{days}日出现{finding}，应首先考虑",
    "{disease}患者出现{finding}，同时{part}体征阳性，其病理基础为",
    "与{disease}的鉴别诊断中，{finding}和{finding2}并存最支持",
    "{drug}联合{drug2}治疗{disease}，疗程第{days}周应复查的项目不包括",
    "{age}岁{sex}童，{finding}，{test}未见异常，护理措施中不妥的是",
    "（共用题干）{sex}，{age}岁，{disease}{days}年，今起{finding}。此时禁用的药物是",
    "按照指南，{disease}术后第{days}天发生{finding2}，属于",
    "为明确{part}病变的性质而行{test}，术前必须停用的药物是",
    "引起{finding}的各种原因中，与{disease}关系最小的是",
    "{disease}首选的药物是",  # short: needs its options
    "可致{finding}的药物是",
]
OPTIONS = [
    "{drug}口服", "{test}复查", "{disease}急性期", "{part}受累", "{drug}加{drug2}", "继发{finding}",
    "{disease}合并{disease2}", "立即行{test}", "停用{drug}", "观察{days}天",
]  # fmt: skip
ASKED = [
    "我{age}岁了，最近老是{finding}，已经{days}天，要不要紧？",
    "家里老人有{disease}，能和{drug2}一起吃{drug}吗？",
    "医生好，做了{test}说不太好，是不是{disease}？",
    "孩子{finding}，先挂哪个科看比较好",
    "{disease}平时饮食上要注意什么呢，谢谢大夫",
    "吃了{drug}以后{finding2}，需要停药吗？",
    "{part}不舒服好几个月了，{test}要空腹做吗",
]
ANSWERED = [
    "您好，{finding}的原因比较多，{disease}只是其中一种，建议先到医院做{test}。",
    "{drug}要按照医生的嘱咐服用，漏服一次不必加倍，出现{finding2}时请及时复诊。",
    "从描述来看不能排除{disease}，不过也有可能只是疲劳引起的，可以观察{days}天。",
    "{disease}的病人应当规律作息、清淡饮食，并且每年复查{test}和{test2}。",
    "如果{part}的不适逐渐加重，或者伴有{finding}，就要尽快去急诊。",
    "一般不主张自己把{drug}和{drug2}混在一起吃，用药前把{disease2}的病史告诉医生。",
    "{test}的结果需要结合病史来看，单独一项偏高并不等于{disease}。",
    "{age}岁以后患{disease}的人会多一些，保持心情舒畅对恢复有帮助。",
    "祝您早日康复，有问题可以继续咨询。",
]


def fill(rng: random.Random, template: str) -> str:
    """A template with its names drawn anew."""
    disease, disease2 = rng.sample(DISEASES, 2)
    drug, drug2 = rng.sample(DRUGS, 2)
    finding, finding2 = rng.sample(FINDINGS, 2)
    test, test2 = rng.sample(TESTS, 2)
    return template.format(
        disease=disease, disease2=disease2, drug=drug, drug2=drug2, finding=finding,
        finding2=finding2, test=test, test2=test2, part=rng.choice(PARTS), sex=rng.choice("男女"),
        age=rng.randint(3, 89), days=rng.randint(2, 30),
    )  # fmt: skip


def exam_items(count: int, seed: int = 1) -> list[EvalItem]:
    """Items with different questions and five different options each."""
    rng = random.Random(seed)
    questions: dict[str, tuple[str, ...]] = {}
    while len(questions) < count:
        options = {fill(rng, rng.choice(OPTIONS)) for _ in range(5)}
        questions[fill(rng, rng.choice(EXAM))] = tuple(sorted(options))
    return [
        EvalItem(Source("exam.json", number), question, options)
        for number, (question, options) in enumerate(questions.items(), start=1)
    ]


def clean_rows(count: int, seed: int = 2) -> list[Conversation]:
    rng = random.Random(seed)
    return [
        talk(
            fill(rng, rng.choice(ASKED)),
            "".join(fill(rng, sentence) for sentence in rng.sample(ANSWERED, rng.randint(2, 5))),
            number,
        )
        for number in range(1, count + 1)
    ]


def talk(question: str, answer: str = "略", line: int = 1) -> Conversation:
    messages = (Message("user", question), Message("assistant", answer))
    return Conversation(messages, Source("train.jsonl", line))


def exam_prompt(item: EvalItem) -> str:
    """An item as a prompt shows it."""
    letters = zip("ABCDEFGH", item.options, strict=False)
    return "\n".join([item.question, *(f"{letter}. {option}" for letter, option in letters)])


# -- disguises: what is done to a prompt and shall not hide it

FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
OTHER_SIGNS = str.maketrans("，。（）、：；", ",.(),:;")


def reorder_options(rng: random.Random, item: EvalItem) -> str:
    options = rng.sample(item.options, len(item.options))
    return exam_prompt(EvalItem(item.source, item.question, tuple(options)))


def use_full_width(rng: random.Random, item: EvalItem) -> str:
    return exam_prompt(item).translate(FULL_WIDTH)


def change_signs_and_spaces(rng: random.Random, item: EvalItem) -> str:
    text = exam_prompt(item).translate(OTHER_SIGNS)
    spaced = (c + rng.choice([" ", "\u3000", "\n"]) * (rng.random() < 0.1) for c in text)
    return f"【单选题】{''.join(spaced)}（    ）。"


def change_case_and_layout(rng: random.Random, item: EvalItem) -> str:
    options = "；".join(f"（{n}）{option}" for n, option in enumerate(item.options, start=1))
    return f"请选出正确答案。题目：{item.question}？选项：{options}".lower()


DISGUISES = [reorder_options, use_full_width, change_signs_and_spaces, change_case_and_layout]


def edit(rng: random.Random, text: str, every: int) -> str:
    """A text in which one character of each `every` is another, at random places."""
    edited = list(text)
    for start in range(0, len(text), every):
        place = start + rng.randrange(min(every, len(text) - start))
        edited[place] = "某"
    return "".join(edited)


# -- found


@pytest.fixture(scope="module")
def items() -> list[EvalItem]:
    return exam_items(1000)


@pytest.fixture(scope="module")
def gate(items: list[EvalItem]) -> ContaminationGate:
    return ContaminationGate(items)


def found(gate: ContaminationGate, items: list[EvalItem], rows: list[Record]) -> float:
    """The share of rows whose best match is the item that was planted there."""
    matches = [gate.match(row) for row in rows]
    return sum(
        match is not None and match.eval_source == item.source
        for match, item in zip(matches, items, strict=True)
    ) / len(rows)


def as_pair(text: str) -> PreferencePair:
    prompt = (Message("system", "你是医生。"), Message("user", text))
    return PreferencePair(prompt, "选A", "选B", Source("train.jsonl", 1))


SHAPES: dict[str, Callable[[str], Record]] = {
    "user": lambda text: talk(f"请回答：{text}"),
    "assistant": lambda text: talk("出一道题", f"好的。{text}\n答案：A"),
    "document": lambda text: TextRecord(f"第一章\n{text}\n第二章", Source("train.txt", 1)),
    "pair": as_pair,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_items_word_for_word_are_all_found_and_named(
    gate: ContaminationGate, items: list[EvalItem], shape: str
) -> None:
    planted = items[:200]
    rows = [SHAPES[shape](exam_prompt(item)) for item in planted]

    assert found(gate, planted, rows) == 1
    assert {match.kind for row in rows if (match := gate.match(row))} == {"question"}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_items_in_disguise_are_found_and_named(
    gate: ContaminationGate, items: list[EvalItem], disguise: Callable[..., str]
) -> None:
    rng = random.Random(3)
    planted = items[200:400]

    assert found(gate, planted, [talk(disguise(rng, item)) for item in planted]) >= 0.95


def test_questions_alone_are_found(gate: ContaminationGate, items: list[EvalItem]) -> None:
    assert found(gate, items, [talk(item.question) for item in items]) == 1


def test_edited_questions_are_found_by_overlap(
    gate: ContaminationGate, items: list[EvalItem]
) -> None:
    rng = random.Random(4)
    planted = [item for item in items if len(normalize(item.question)) >= 30]
    rows = [talk(edit(rng, item.question, every=30)) for item in planted]

    matches = [match for row in rows if (match := gate.match(row))]

    assert len(planted) > 200
    assert len(matches) >= 0.9 * len(planted)
    assert {match.kind for match in matches} == {"overlap"}
    assert all(0.7 <= match.score <= 1 for match in matches)


def test_items_are_found_at_any_place_of_a_long_document(items: list[EvalItem]) -> None:
    rng = random.Random(5)
    gate = ContaminationGate(items)
    filler = "".join(row.messages[1].content for row in clean_rows(600))
    assert len(filler) > 10 * gate.window_step
    for item in items[:100]:
        place = rng.randrange(len(filler))
        text = filler[:place] + exam_prompt(item) + filler[place:]

        match = gate.match(TextRecord(text, Source("book.txt", 1)))

        assert match == Match(Source("book.txt", 1), item.source, "question", 1.0)


# -- not found


def test_clean_rows_pass(gate: ContaminationGate) -> None:
    rows = clean_rows(5000)

    assert sum(gate.match(row) is not None for row in rows) <= 0.001 * len(rows)


def test_short_question_needs_its_options_or_a_turn_of_its_own() -> None:
    item = EvalItem(Source("e.json", 1), "治疗方法是", ("口服补液", "静脉输血", "手术切除", "1"))
    gate = ContaminationGate([item])

    def kind(record: Record) -> str | None:
        match = gate.match(record)
        return match and match.kind

    assert kind(talk("阑尾炎怎么办", "常用的治疗方法是手术切除，也可口服补液。")) is None
    assert kind(talk("治疗方法是：A手术切除 B静脉输血 C口服补液")) == "question"
    assert kind(talk("治疗方法是？", "手术")) == "question"
    assert kind(talk("怎么治", "治疗方法是")) is None  # the assistant's whole turn


def test_short_question_in_the_middle_of_a_talk_is_an_answer() -> None:
    gate = ContaminationGate([EvalItem(Source("e.json", 1), "腰骶部", ("痛", "痒", "胀"))])
    turns = ("我不舒服", "哪里不舒服？", "腰骶部", "多久了？")
    roles = ("user", "assistant", "user", "assistant")
    messages = tuple(Message(role, text) for role, text in zip(roles, turns, strict=True))

    assert gate.match(Conversation(messages, Source("train.jsonl", 1))) is None
    assert gate.match(Conversation(messages[2:], Source("train.jsonl", 1)))


def test_gate_without_items_lets_everything_pass() -> None:
    gate = ContaminationGate([])

    assert gate.matches(talk("头痛三天，怎么办才好")) == []
    assert gate.new_report().counts()["evaluation_files"] == {}


def test_options_far_from_a_short_question_do_not_count() -> None:
    gate = ContaminationGate([EvalItem(Source("e.json", 1), "首选药是", ("甲硝唑", "青霉素"))])
    chapter = "这一章说的是别的事情。" * 1000

    assert gate.match(TextRecord(f"首选药是{chapter}甲硝唑{chapter}青霉素", Source("b", 1))) is None
    assert gate.match(TextRecord(f"{chapter}首选药是甲硝唑或青霉素{chapter}", Source("b", 1)))


def test_short_question_without_options_is_looked_for_as_a_turn_or_counted() -> None:
    gate = ContaminationGate(
        [EvalItem(Source("e.json", 1), "痛风挂什么科？"), EvalItem(Source("e.json", 2), "怎么办")]
    )

    assert gate.match(talk("痛风挂什么科"))
    assert gate.match(talk("我想问问痛风挂什么科呢")) is None
    assert gate.match(talk("怎么办")) is None
    assert gate.num_unchecked == 1


def test_wording_of_a_task_is_no_overlap() -> None:
    """Rows of the same task share the lines around the sentence, and nothing else."""
    head = "请从下面的门诊记录中找出所有的症状、检查和药物，并逐行列出：\n"
    tail = "\n说明：没有提到的类别写无，不要加入自己的推断，按原文顺序回答"
    rng = random.Random(6)
    names = [*DISEASES, *DRUGS, *FINDINGS, *TESTS]
    sentences = ["，".join(rng.sample(names, 8)) for _ in range(40)]
    asked, trained = sentences[:20], sentences[20:]
    gate = ContaminationGate(
        EvalItem(Source("task.json", number), head + sentence + tail)
        for number, sentence in enumerate(asked, start=1)
    )

    assert [gate.match(talk(head + sentence + tail)) for sentence in trained] == [None] * 20
    assert all(gate.match(talk(head + sentence + tail)) for sentence in asked)
    assert all(gate.match(talk(f"解释一下：{sentence}")) for sentence in asked)  # another task


def test_of_one_question_with_other_options_the_right_one_is_named() -> None:
    question = "下列关于糖尿病足护理的说法，正确的一项是"
    choices = [("每天泡脚", "赤足行走"), ("每日检查双足", "自行修剪胼胝"), ("穿紧鞋", "用热水袋")]
    items = [EvalItem(Source("e.json", n), question, own) for n, own in enumerate(choices)]
    gate = ContaminationGate(items)

    for item in items:
        match = gate.match(talk(exam_prompt(item)))
        assert match and match.eval_source == item.source


# -- normalisation and n-grams


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ＰＨ 值为（７．３５）！", "ph值为735"),
        ("体温３８.5℃，①咳嗽\t②咳痰\u3000", "体温385c1咳嗽2咳痰"),
        ("“A”_b\n\n—C…", "abc"),
        ("？！", ""),
    ],
)
def test_normalize_keeps_letters_and_digits(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_equal_ngrams_have_equal_hashes_and_others_do_not() -> None:
    text = "高血压病人的血压高" * 2 + "𠀀"  # the last one is outside the basic plane
    for length in (1, 3, 8):
        ngrams = [text[n : n + length] for n in range(len(text) - length + 1)]
        hashes = hash_ngrams(text, length).tolist()
        assert len(hashes) == len(ngrams)
        assert len(set(hashes)) == len(set(ngrams))
        assert dict(zip(ngrams, hashes, strict=True)) == {
            ngram: hash_ngrams(ngram, length).item() for ngram in ngrams
        }
    assert not len(hash_ngrams("短", 2))


@pytest.mark.parametrize("length", [0, 1, 4, 5, 8, 9, 23])
def test_windows_hold_every_passage_of_one_step(length: int) -> None:
    text = "".join(chr(0x4E00 + n) for n in range(length))
    pieces = list(windows(text, 4))

    assert all(len(piece) <= 8 for piece in pieces)
    for start in range(max(1, length - 3)):
        assert any(text[start : start + 4] in piece for piece in pieces)


# -- the report


def report_on(rows: list[Conversation], **settings: Any) -> tuple[Any, list[Conversation]]:
    items = [
        EvalItem(Source("a.json", 1), "甲" * 20),
        EvalItem(Source("b.json", 7), "乙丙丁戊" * 8),
    ]
    gate = ContaminationGate(items, GateSettings(**settings))
    report = gate.new_report()
    clean = []
    for row in rows:
        matches = gate.matches(row)
        report.add(matches)
        clean += [] if matches else [row]
    return report, clean


ROWS = [
    talk("头痛", line=1),
    talk("甲" * 21, line=2),
    talk("发热", line=3),
    talk("乙丙丁戊" * 8 + "甲" * 20, line=4),
]


def test_report_counts_rows_and_items_and_keeps_the_clean_rows() -> None:
    report, kept = report_on(ROWS)

    assert kept == [ROWS[0], ROWS[2]]
    assert report.counts() == {
        "rows_checked": 4,
        "rows_contaminated": 2,
        "evaluation_files": {
            "a.json": {
                "items": 1,
                "rows_found": 1,
                "training_rows_question": 2,
                "training_rows_overlap": 0,
            },
            "b.json": {
                "items": 1,
                "rows_found": 1,
                "training_rows_question": 1,
                "training_rows_overlap": 0,
            },
        },
    }


def test_matches_file_names_both_places_and_holds_no_text(tmp_path: Path) -> None:
    report, _ = report_on(ROWS)
    report.write_matches(tmp_path / MATCHES_FILE)

    lines = (tmp_path / MATCHES_FILE).read_text(encoding="utf-8").splitlines()

    assert [json.loads(line) for line in lines] == [
        {
            "file": "train.jsonl", "line": line, "eval_file": file, "eval_line": eval_line,
            "kind": "question", "score": 1.0,
        }
        for line, file, eval_line in [(2, "a.json", 1), (4, "b.json", 7), (4, "a.json", 1)]
    ]  # fmt: skip


def test_contaminated_data_is_refused_with_places_counts_and_the_way_out() -> None:
    report, _ = report_on(ROWS)

    with pytest.raises(DataError) as caught:
        report.check()

    message = str(caught.value)
    assert message.startswith("train.jsonl:2: expected training data without evaluation items")
    assert "2 contaminated rows of 4, at most 0% may be" in message
    assert "train.jsonl:4 holds b.json:7 (question, 1.00)" in message
    assert "a.json: 1 rows (1 items in the file)" in message
    assert "matches.jsonl" in message and "max_contaminated_percentage" in message
    assert "甲" not in message


def test_refusal_shows_the_first_matches_only() -> None:
    report, _ = report_on([talk("甲" * 20, line=line) for line in range(1, 31)])

    with pytest.raises(DataError, match="and 10 more"):
        report.check()


@pytest.mark.parametrize(("percentage", "is_refused"), [(49.9, True), (50, False), (100, False)])
def test_share_of_contaminated_rows_up_to_the_limit_passes(
    percentage: float, is_refused: bool
) -> None:
    report, _ = report_on(ROWS, max_contaminated_percentage=percentage)

    if is_refused:
        with pytest.raises(DataError):
            report.check()
    else:
        report.check()


def test_clean_data_passes_and_writes_an_empty_file(tmp_path: Path) -> None:
    report, kept = report_on([ROWS[0]])
    report.check()
    report.write_matches(tmp_path / MATCHES_FILE)

    assert (kept, (tmp_path / MATCHES_FILE).read_text()) == ([ROWS[0]], "")


@pytest.mark.parametrize(
    "setting",
    [{"min_overlap": 0}, {"min_overlap": 60}, {"max_contaminated_percentage": 101},
     {"min_question_characters": 0}, {"ngram_characters": 1}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        GateSettings(**setting)


# -- evaluation files

EXAM_ROW = {
    "question": "首选药物是？",
    "option": {"A": "阿司匹林", "B": "", "C": "华法林"},
    "answer": "A",
}
CASE_ROW = {
    "title": "病例一",
    "description": "患者女，30岁，停经后腹痛。",
    "QA_pairs": [
        {"question": "诊断？", "answer": "异位妊娠"},
        {"question": "处理？", "solution": "手术"},
    ],
}
TASK_ROW = {
    "input": "判断意图：\n感冒吃什么药\n选项：病因分析，治疗方案，其他\n答：",
    "target": "治疗方案",
    "answer_choices": ["治疗方案", "病因分析", "其他"],
}
TURNS = [
    {"from": "human", "value": "咳嗽三天"},
    {"from": "gpt", "value": "有痰吗"},
    {"from": "human", "value": "有"},
]
MESSAGES = [{"role": "system", "content": "你是医生"}, {"role": "user", "content": "咳嗽三天"}]


@pytest.mark.parametrize("is_array", [True, False], ids=["array", "lines"])
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (EXAM_ROW, [("首选药物是？", ("阿司匹林", "华法林"))]),
        (
            CASE_ROW,
            [
                ("患者女，30岁，停经后腹痛。", ()),
                (f"诊断？{GAP}异位妊娠", ()),
                (f"处理？{GAP}手术", ()),
            ],
        ),
        (
            TASK_ROW,
            [
                (
                    f"判断意图：\n感冒吃什么药\n选项：{GAP}\n答：",
                    ("治疗方案", "病因分析", "其他"),
                )
            ],
        ),
        (
            TASK_ROW | {"answer_choices": "['治疗方案', '病因分析', '其他']"},
            [
                (
                    f"判断意图：\n感冒吃什么药\n选项：{GAP}\n答：",
                    ("治疗方案", "病因分析", "其他"),
                )
            ],
        ),
        (TASK_ROW | {"answer_choices": None}, [(TASK_ROW["input"], ())]),
        ({"question": "几点？", "options": ["一", "二"]}, [("几点？", ("一", "二"))]),
        ({"instruction": "翻译", "input": "咳嗽", "output": "cough"}, [(f"翻译{GAP}咳嗽", ())]),
        ({"instruction": "咳嗽吃什么", "input": "", "output": "水"}, [("咳嗽吃什么", ())]),
        ({"instruction": "", "input": "咳嗽吃什么", "output": "水"}, [("咳嗽吃什么", ())]),
        ({"prompt": "咳嗽"}, [("咳嗽", ())]),
        ({"prompt": MESSAGES}, [("咳嗽三天", ())]),
        ({"content": "咳嗽", "summary": "咳"}, [("咳嗽", ())]),
        ({"text": "咳嗽"}, [("咳嗽", ())]),
        ({"conversations": TURNS}, [(f"咳嗽三天{GAP}有", ())]),
        ({"messages": MESSAGES}, [("咳嗽三天", ())]),
        ({"question": [{"text": "咳嗽"}, {"text": "几天了"}]}, [(f"咳嗽{GAP}几天了", ())]),
    ],
)
def test_items_of_every_shape(
    tmp_path: Path,
    write_jsonl: WriteJsonl,
    row: dict[str, Any],
    expected: list[tuple[str, tuple[str, ...]]],
    is_array: bool,
) -> None:
    rows = [{"question": "第一题"}, row]
    content = [json.dumps(rows, ensure_ascii=False, indent=1)] if is_array else rows
    file = write_jsonl(tmp_path / "a.json", content)

    items = list(read_eval_items(file))

    assert [(item.question, item.options) for item in items[1:]] == expected
    assert {item.source for item in items[1:]} == {Source(str(file), 2)}


def test_task_prompt_is_found_with_its_choices_in_another_order(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    gate = ContaminationGate.from_files([write_jsonl(tmp_path / "a.json", [TASK_ROW])])

    match = gate.match(talk("判断意图：感冒吃什么药\n选项：其他，病因分析，治疗方案\n答："))

    assert match and (match.kind, match.eval_source.line) == ("question", 1)


def test_case_is_found_by_its_description_and_by_question_with_answer(
    tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    answer = "首先考虑输卵管妊娠破裂，应急查血人绒毛膜促性腺激素和盆腔超声"
    row = {
        "description": "患者女，30岁，停经45天，突发右下腹撕裂样痛2小时，伴头晕。",
        "QA_pairs": [{"question": "简述本例的诊断和治疗原则。", "solution": answer}],
    }
    gate = ContaminationGate.from_files([write_jsonl(tmp_path / "a.json", [row])])

    assert gate.match(talk(f"{row['description']}怎么处理？"))
    assert gate.match(talk("简述本例的诊断和治疗原则", f"答：{answer}。"))
    assert gate.match(talk("简述本例的诊断和治疗原则。", "这是一例普通感冒，多喝水。")) is None


def test_folder_stands_for_its_json_files(tmp_path: Path, write_jsonl: WriteJsonl) -> None:
    write_jsonl(tmp_path / "a" / "x.jsonl", [EXAM_ROW])
    write_jsonl(tmp_path / "b.json", [CASE_ROW])
    (tmp_path / "README.md").write_text("头痛", encoding="utf-8")

    report = ContaminationGate.from_files([tmp_path]).new_report()

    assert report.items_per_file == {
        str(tmp_path / "a" / "x.jsonl"): 1,
        str(tmp_path / "b.json"): 3,
    }


GOOD = {"question": "第一题"}
BAD_FILES: dict[str, tuple[list[Any], int, str]] = {
    "empty": ([], 1, "expected evaluation items, found none; leave the file out"),
    "empty-array": (["[]"], 1, "expected evaluation items, found none"),
    "not-json": ([GOOD, '{"question": '], 2, "expected JSON, found"),
    "broken-array": (["[", '{"question": "一"},', "]"], 1, "(line 3, character 1)"),
    "text-in-array": (['[{"question": "一"}, "二"]'], 2, "expected an object {…}, found str"),
    "answer-key": ([GOOD, {"id": 1, "answer": "D"}], 2, "expected one of question, instruction"),
    "blank": ([{"question": " \n"}], 1, "expected text in 'question', found a str"),
    "null": ([{"prompt": None}], 1, "expected text in 'prompt', found null"),
    "number": ([{"question": 7}], 1, "expected text in 'question', found a int"),
    "assistant-alone": ([{"messages": [{"role": "assistant", "content": "好"}]}], 1, "'messages'"),
    "bad-option": (
        [{"question": "一", "option": 5}],
        1,
        "expected 'option' as an object or a list",
    ),
    "nested-options": ([{"question": "一", "options": [["二"]]}], 1, "expected 'options' as"),
    "case-without-pairs": ([{"description": "病史", "QA_pairs": {}}], 1, "expected 'QA_pairs' as"),
    "case-without-answer": (
        [{"description": "病史", "QA_pairs": [{"question": "一"}]}],
        1,
        "expected text in 'solution', found null",
    ),
    "task-without-input": ([{"answer_choices": [], "target": ""}], 1, "expected text in 'input'"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_evaluation_file_is_refused_with_its_line(
    tmp_path: Path, write_jsonl: WriteJsonl, name: str
) -> None:
    rows, line, expected = BAD_FILES[name]
    file = write_jsonl(tmp_path / "a.json", rows)

    with pytest.raises(DataError) as caught:
        ContaminationGate.from_files([file])

    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert expected in str(caught.value)


def test_line_of_an_evaluation_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    file, line = tmp_path / "a.json", '{"question": "首选药物是"}\n'
    file.write_bytes(line.encode("gb18030") + line.encode() * 2)

    with pytest.raises(DataError, match="a.json:1: expected UTF-8 text"):
        list(read_eval_items(file))


def test_missing_evaluation_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "none.json"

    with pytest.raises(DataError, match="expected a folder or file with data"):
        ContaminationGate.from_files([file])
    with pytest.raises(DataError, match="expected a file of evaluation items"):
        list(read_eval_items(file))


# -- real data

ANSWERS_ALONE = {"cmb_test_answer_key.json", "toy_dev_structured.json"}
EVAL_FILES = [
    path
    for folder in ("cmb_exam", "cmb_clin", "promptcblue")
    for path in sorted(SHARED.glob(f"{folder}/*.json"))
    if path.name not in ANSWERS_ALONE
]


@pytest.fixture(scope="module")
def real_gate() -> ContaminationGate:
    return ContaminationGate.from_files(EVAL_FILES)


def real_clean_rows(name: str) -> Iterator[Record]:
    """The rows of one training file, read as simply as can be."""
    path = SHARED / name
    if path.suffix == ".csv":
        with path.open(encoding="gb18030", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                yield talk(f"{row['title']}\n{row['ask']}", row["answer"], number)
        return
    for number, row in read_json_rows(path):
        turns = row.get("conversations") or [
            {"from": "human", "value": row["instruction"]},
            {"from": "gpt", "value": row["output"]},
        ]
        yield talk(turns[0]["value"], turns[1]["value"], number)


def exam_rows() -> list[EvalItem]:
    files = [path for path in EVAL_FILES if path.parent.name == "cmb_exam"]
    return [item for path in files for item in read_eval_items(path)]


@needs_real_data
def test_every_exam_question_given_as_training_data_is_named(real_gate: ContaminationGate) -> None:
    questions = {item.source: normalize(item.question) for item in exam_rows()}
    assert len(questions) > 3000
    for source, question in questions.items():
        match = real_gate.match(talk(question))

        assert match and match.kind == "question"
        assert question == questions[match.eval_source], str(source)


@needs_real_data
@pytest.mark.parametrize("disguise", [lambda _, item: exam_prompt(item), *DISGUISES])
def test_planted_real_items_are_found(
    real_gate: ContaminationGate, disguise: Callable[..., str]
) -> None:
    rng = random.Random(7)
    planted = rng.sample(exam_rows(), 200)
    rows = [talk(f"请回答：{disguise(rng, item)}") for item in planted]

    matches = [real_gate.match(row) for row in rows]

    assert (
        sum(match is not None for match in matches) >= (0.95 if disguise in DISGUISES else 1) * 200
    )


@needs_real_data
@pytest.mark.parametrize(
    ("name", "num_rows"),
    [
        ("finetune/medicalgpt_medical_sft.jsonl", 799),
        ("finetune/huatuo_llama_knowledge_alpaca.jsonl", 2400),
        ("csv/toyhom_neike_gb18030.csv", 6070),
    ],
)
def test_clean_real_rows_pass(real_gate: ContaminationGate, name: str, num_rows: int) -> None:
    rows = list(real_clean_rows(name))
    matches = [match for row in rows if (match := real_gate.match(row))]

    assert len(rows) == num_rows
    assert len(matches) <= 0.001 * num_rows, "\n".join(map(str, matches))


@needs_real_data
def test_edited_real_questions_are_found(real_gate: ContaminationGate) -> None:
    rng = random.Random(8)
    planted = [item for item in exam_rows() if len(normalize(item.question)) >= 24]
    rows = [talk(edit(rng, normalize(item.question), every=30)) for item in planted]

    assert len(planted) > 900
    assert sum(real_gate.match(row) is not None for row in rows) >= 0.98 * len(rows)
