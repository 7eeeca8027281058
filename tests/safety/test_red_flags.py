"""Whether a question that tells of an emergency is answered with advice, and others are not.

Reference: questions labelled by hand, one a line below the kind of emergency in brackets, [none]
for those that want no advice. red_flags_development.txt is what the table was made for;
red_flags_held_out.txt was written before the table, by the same author, and red_flags_oblique.txt
after it, to avoid the usual words: neither was used to choose words.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medtune.safety.context import READINGS, place_of, reading_of
from medtune.safety.red_flags import ADVICE, TABLE, advice_for, find_kind, normalised
from medtune.safety.signs import NO_NEGATION_SIGN, TableError, read_sign

HERE = Path(__file__).parent
NONE = "none"
# The slowest takes 0.1 s on an idle core and twice that on a shared one; were its time to grow with
# the square of the length, as a careless pattern's does, it would be minutes.
NUM_CHARACTERS, MAX_SECONDS = 100_000, 1.0


def questions(name: str) -> list[tuple[str, str]]:
    """(kind, question) of a file of labelled questions."""
    kind, rows = "", []
    for line in (HERE / f"red_flags_{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]"):
            kind = line[1:-1]
        elif line and not line.startswith("#"):
            rows.append((kind, line))
    return rows


def kind_of(question: str) -> str:
    kind = find_kind(question)
    return kind.name if kind else NONE


def rates(name: str) -> tuple[float, float, float]:
    """Recall, share of emergencies with the advice of their own kind, share of false alarms."""
    emergencies = [(k, kind_of(q)) for k, q in questions(name) if k != NONE]
    others = [kind_of(q) for k, q in questions(name) if k == NONE]
    num = len(emergencies)
    return (
        sum(found != NONE for _, found in emergencies) / num,
        sum(found == kind for kind, found in emergencies) / num,
        sum(found != NONE for found in others) / max(1, len(others)),
    )


def failures(name: str) -> list[str]:
    return [f"{k} -> {kind_of(q)}: {q}" for k, q in questions(name) if kind_of(q) != k]


def test_the_sets_cover_every_kind_and_share_no_question() -> None:
    development, held_out = questions("development"), questions("held_out")
    kinds = {kind.name for kind in TABLE.kinds}

    assert {k for k, _ in development} == kinds | {NONE}
    assert kinds - {k for k, _ in held_out} == {"pressure", "spine"}  # added to the table later
    assert not {q for _, q in development} & {q for _, q in held_out}
    for rows in (development, held_out):
        assert sum(k == NONE for k, _ in rows) >= 120
        assert sum(k != NONE for k, _ in rows) >= 120


def test_development_questions_are_found() -> None:
    recall, right_kind, false_alarms = rates("development")

    assert recall >= 335 / 339, failures("development")
    assert right_kind >= 331 / 339, failures("development")
    assert false_alarms == 0, failures("development")


def test_held_out_questions_are_found() -> None:
    recall, right_kind, false_alarms = rates("held_out")

    assert recall >= 188 / 189
    assert right_kind >= 184 / 189
    assert false_alarms <= 2 / 130


def test_oblique_questions_are_hardly_found() -> None:
    """What the table does not see, kept in sight: 3 of 28. Better is welcome, worse is not."""
    assert rates("oblique")[0] >= 3 / 28


# -- negation, its scope, and what else takes a sign back


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("没有胸痛", NONE),
        ("没有发烧但是胸痛得厉害", "heart"),
        ("没有发烧胸痛得厉害", "heart"),
        ("胸不痛，但是喘不上气", "breathing"),
        ("不是胸痛，是胃痛", NONE),
        ("不是没有胸痛", "heart"),
        ("没有一天不胸痛", "heart"),
        ("有没有胸痛？没有", NONE),
        ("胸痛：无", NONE),
        ("无明显诱因突发胸痛", "heart"),
        ("没有力气、胸痛", "heart"),
        ("高热不退、呼吸困难", "breathing"),
        ("不能排除心梗，胸痛两小时", "heart"),
        ("胸痛已经好了三年", NONE),
        ("胸痛3年前好了，但是今天又痛了", "heart"),
        ("我爸三年前做过支架，胸口痛得厉害", "heart"),
        ("昨晚半边身子没劲，十分钟就好了", "stroke"),
        ("胸痛的原因有哪些", NONE),
        ("我胸痛的原因是什么", "heart"),
        ("胸痛已经影响睡眠", "heart"),
        ("面色苍白、胸痛或心率很快", "heart"),
        ("考试的时候突然胸痛", "heart"),
        ("吃阿司匹林会引起大出血吗", NONE),
        ("担心胸痛是心梗", "heart"),
        ("如果夜里胸痛，能等到天亮再说吗", "heart"),
        ("刚才喝了百草枯，现在没事了", "poisoning"),
        ("一个月前被狗咬了没打疫苗", "rabies"),
        ("大前年被狗咬过，打了疫苗", NONE),
        ("如何预防自杀", NONE),
        ("怎么自杀", "suicide"),
        ("我担心自己会自杀", "suicide"),
        ("我没有自杀的念头", NONE),
        ("如果胸痛应去哪个科", NONE),
        ("三年前开始一直胸痛", "heart"),
        ("刚才胸痛，现在好了", "heart"),
        ("有胸痛病史", NONE),
        ("suicide prevention", NONE),
        ("偶尔胸痛好几年了，今天突然厉害了", "heart"),
        ("小说里主角割腕", NONE),
    ],
)
def test_what_is_said_of_a_sign_decides(question: str, kind: str) -> None:
    assert kind_of(question) == kind


@pytest.mark.parametrize(
    "question",
    [
        "胸痛",
        "胸　痛 得 厉 害",
        "胸\u200b痛",
        "（胸痛）",
        "胸ｋｏｕ疼",
        "ＣＨＥＳＴ ＰＡＩＮ",
        "胸口悶痛",
        "I’ve chest pain",
    ],
)
def test_signs_are_found_in_any_width_and_script(question: str) -> None:
    assert kind_of(question) == "heart"


def test_readings_have_the_names_that_the_table_uses() -> None:
    names = {name for kind in TABLE.kinds for name in kind.counts_even_if}

    assert names == {"past", "feared", "hypothetical", "resolved", "mild"}
    assert names <= set(READINGS)
    assert reading_of(place_of("没有胸痛", 2, 4)) == "negated"
    assert reading_of(place_of("没有胸痛", 2, 4), {"negated"}) == ""


# -- the advice


def test_advice_is_chinese_and_one_english_line() -> None:
    for advice in ADVICE:
        chinese, english = advice.splitlines()
        assert chinese.endswith("。") and english.isascii() and english.endswith(".")
        assert "120" in chinese or "急诊" in chinese or "接种疫苗" in chinese
    assert advice_for("我不想活了") == ADVICE[0]
    assert all(number in ADVICE[0] for number in ("12356", "120", "110"))
    assert advice_for("感冒吃什么药") == ""


def test_advice_is_written_as_people_write() -> None:
    assert not [kind.name for kind in TABLE.kinds if NO_NEGATION_SIGN in kind.advice]
    assert advice_for("腰痛，大小便控制不住").startswith("大小便控制不住")


def test_of_several_emergencies_the_first_of_the_table_is_answered() -> None:
    assert kind_of("胸痛，不想活了") == "suicide"
    assert kind_of("呼吸困难，胸痛") == "heart"


@pytest.mark.parametrize("sign", ["胸?痛", ".*痛", "<nobody>…痛", "胸…(痛", ""])
def test_a_sign_that_cannot_be_used_is_named(sign: str) -> None:
    with pytest.raises(TableError, match=r"red_flags.yaml: cannot use the sign"):
        read_sign(sign, 0, {})


def test_every_character_is_mapped_to_another() -> None:
    assert "頭" not in normalised("頭痛") and normalised("頭痛") == "头痛"
    assert all(old != new for old, new in TABLE.simplified.items())


# -- any text, in time


def salad(seed: int, signs: str) -> str:
    generator = random.Random(seed)
    return "".join(generator.choice(signs) for _ in range(NUM_CHARACTERS))


def times(text: str) -> Callable[[], str]:
    return lambda: (text * (NUM_CHARACTERS // len(text) + 1))[:NUM_CHARACTERS]


ADVERSARIAL = {
    "one first character": times("胸"),
    "half a sign": times("胸口"),
    "many signs begin with it": times("突然"),
    "denied over and over": times("没有胸痛，"),
    "each denial another": lambda: "".join(f"没有胸痛{n}，" for n in range(20_000))[
        :NUM_CHARACTERS
    ],
    "a part of a sign of three": times("过敏吃了"),
    "negations": times("没" + "想要" * 28 + "〇胸痛，"),
    "numbers": times("血糖1"),
    "titles": times("《a"),
    "spaced letters": times("我 的 "),
    "english": times("chest a b "),
    "a word without an end": times("allerg1"),
    "one letter": times("a"),
    "wide forms": times("ｘ㍿"),
    "first characters": lambda: salad(1, "胸心口突然血吃"),
    "no sign": times("最近饮食上要注意什么，"),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_long_texts_are_read_in_time(name: str) -> None:
    text = ADVERSARIAL[name]()
    seconds = []
    for _ in range(3):  # the best of three, in CPU time: other work on the machine is not its own
        begin = time.process_time()
        advice_for(text)
        seconds.append(time.process_time() - begin)

    assert len(text) == NUM_CHARACTERS
    assert min(seconds) < MAX_SECONDS


def test_an_emergency_is_found_anywhere_in_a_long_text() -> None:
    filler = "最近饮食上要注意什么，" * 4_000

    assert kind_of(filler + "我胸口疼得厉害。" + filler) == "heart"


def test_no_text_raises() -> None:
    generator = random.Random(0)
    for _ in range(300):
        length = generator.randrange(60)
        text = "".join(
            chr(
                generator.choice(
                    (
                        generator.randrange(0x110000),
                        0x4E00 + generator.randrange(20_000),
                        generator.randrange(128),
                    )
                )
            )
            for _ in range(length)
        )
        advice_for(text)
    for text in ("", " ", "\x00", "\ud800胸痛", "🚑" * 50, "(" * 500, "\\" * 500, "?" * 500):
        advice_for(text)
