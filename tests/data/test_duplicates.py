"""Equal hashes are found, and texts that differ in a few characters, and no others.

References: plain loops over lists, the exact Jaccard index of n-gram sets, and made-up medical
texts of which it is known which was made from which.
"""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from medtune.data.hygiene import duplicates
from medtune.data.hygiene.duplicates import (
    NUM_PERM,
    Signatures,
    count_partners,
    find_opposite,
    find_repeated,
    find_shared,
    first_near_places,
    first_places,
    hash_ngrams,
    hash_text,
    values_per_band,
)
from medtune.data.hygiene.rules import HygieneOptions, check_records
from medtune.data.records import Source, TextRecord

THRESHOLD, SIZE, SEED = 0.8, 3, 42
WHO = ["老人", "孩子", "孕妇", "司机", "学生", "教师", "运动员", "厨师", "夜班护士", "术后患者"]
SYMPTOMS = [
    "头晕", "胸口发闷", "右下腹疼痛", "夜里咳嗽", "反复低烧", "手脚发麻", "吃饭没胃口",
    "皮肤起红疹", "膝盖肿胀", "视力模糊", "心慌出汗", "牙龈出血", "小便发黄", "睡不着觉",
    "声音嘶哑", "腰酸背痛",
]  # fmt: skip
DURATIONS = ["半天", "两天", "一周", "十来天", "三个月", "大半年", "一年多", "断断续续几年"]
SIGNS = [
    "活动以后加重", "躺下会好一些", "饭后更明显", "没有受过外伤", "家里人也有过",
    "体温三十七度八", "血压偏高", "查过血常规没有异常", "吃过退烧药不见效",
    "舌苔有点厚", "伴有恶心", "体重掉了三公斤",
]  # fmt: skip
ADVICE = [
    "先拍一张胸片", "去心内科做心电图", "这几天别吃油腻的东西", "每天量两次血压并记下来",
    "用温水擦身", "查一下肝肾功能", "避免搬重物", "换软一点的牙刷", "到皮肤科看一看",
    "晚上早一点关灯", "多吃蔬菜少放盐", "按说明书的剂量服用", "找骨科医生评估",
    "加重就马上去急诊", "一周以后来复查", "暂时停止游泳",
]  # fmt: skip
OTHERS = "甲乙丙丁戊己庚辛壬癸"  # in none of the texts


def medical_text(rng: random.Random, num_sentences: int = 7) -> str:
    """Sentences of about 25 characters each; unrelated texts share many of their words."""
    return "".join(
        f"{rng.choice(WHO)}{rng.choice(SYMPTOMS)}{rng.choice(DURATIONS)}，{rng.choice(SIGNS)}，"
        f"{rng.choice(ADVICE)}。"
        for _ in range(num_sentences)
    )


def changed(text: str, num_changes: int, rng: random.Random) -> str:
    """The text with this many characters replaced, inserted or left out."""
    characters = list(text)
    for place in sorted(rng.sample(range(len(text)), num_changes), reverse=True):
        num_gone = rng.randint(0, 1)
        characters[place : place + num_gone] = rng.choice([*OTHERS, *[""] * num_gone])
    return "".join(characters)


def ngrams(text: str, size: int) -> list[str]:
    """Each run of `size` characters; a shorter text is filled up with spaces."""
    return [text[start : start + size] for start in range(len(text) - size + 1)] or [
        text.ljust(size)
    ]


def jaccard(one: str, other: str) -> float:
    a, b = (set(ngrams(text, SIZE)) for text in (one, other))
    return len(a & b) / len(a | b)


def signatures_of(texts: Sequence[str], seed: int = SEED) -> np.ndarray:
    signatures = Signatures(SIZE, seed)
    for text in texts:
        signatures.add(text)
    return signatures.to_array()


def search(texts: Sequence[str], threshold: float = THRESHOLD, seed: int = SEED) -> list[int]:
    return first_near_places(signatures_of(texts, seed), threshold).tolist()


# -- equal hashes


def test_hash_is_the_same_everywhere() -> None:
    expected = bytes.fromhex("58e56aef5ec58ede")  # printf 头痛 | b2sum -l 64

    assert hash_text("头痛").to_bytes(8, "little") == expected
    assert len({hash_text(text) for text in ("", "头", "头痛", "头痛 ", "痛头")}) == 5


@pytest.mark.parametrize("seed", range(20))
def test_first_places_and_partners_are_those_of_plain_loops(seed: int) -> None:
    rng = random.Random(seed)
    keys = [rng.randint(0, 9) for _ in range(rng.randint(0, 50))]
    partners = [rng.randint(0, 3) for _ in keys]
    both = [np.array(values, np.uint64) for values in (keys, partners)]
    num_partners = [
        len({p for k, p in zip(keys, partners, strict=True) if k == key}) for key in keys
    ]

    assert first_places(both[0]).tolist() == [keys.index(key) for key in keys]
    assert count_partners(*both).tolist() == num_partners
    assert find_shared(*both, max_partners=2)[0].tolist() == [n > 2 for n in num_partners]


def test_repeated_and_opposite_rows_are_found() -> None:
    pairs, swapped = np.array([5, 8, 3, 9, 5]), np.array([8, 5, 4, 9, 8])  # 9: equal answers

    assert find_repeated(np.array([0, 1, 0, 3]))[0].tolist() == [False, False, True, False]
    is_found, first = find_opposite(pairs, swapped)
    assert is_found.tolist() == [True, True, False, False, True]
    assert first.tolist() == [0, 0, 2, 3, 0]


# -- signatures


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_hashes_stand_for_the_runs_of_each_text(size: int) -> None:
    rng = random.Random(size)
    texts = ["".join(rng.choices("头痛发热咳", k=rng.randint(0, 12))) for _ in range(200)]
    runs = [ngrams(text, size) for text in texts]

    hashes, limits = hash_ngrams(texts, size)

    by_text = [hashes[a:b].tolist() for a, b in zip(limits[:-1], limits[1:], strict=True)]
    assert [len(of) for of in by_text] == [len(of) for of in runs]
    pairs = {
        (r, h) for of, its in zip(runs, by_text, strict=True) for r, h in zip(of, its, strict=True)
    }
    assert len({run for run, _ in pairs}) == len({number for _, number in pairs}) == len(pairs)


def test_signatures_estimate_the_jaccard_index() -> None:
    rng = random.Random(0)
    texts = [medical_text(rng) for _ in range(300)]
    others = [changed(text, rng.randint(1, 40), rng) for text in texts]
    exact = np.array([jaccard(*both) for both in zip(texts, others, strict=True)])
    estimate = (signatures_of(texts) == signatures_of(others)).mean(axis=1)

    error = estimate - exact

    assert exact.min() < 0.4 and exact.max() > 0.95
    assert abs(error.mean()) < 0.01
    assert error.std() < 0.05  # at an index of 0.5, 128 values give 0.044
    assert abs(error).max() < 0.17


def test_signatures_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    texts = [medical_text(rng, rng.randint(1, 9)) for _ in range(300)] + ["", "头"]
    whole = signatures_of(texts)
    monkeypatch.setattr(duplicates, "BATCH_CHARACTERS", 1)

    assert whole.shape == (302, NUM_PERM)
    assert (signatures_of(texts) == whole).all()


@pytest.mark.parametrize(("threshold", "length"), [(0.5, 3), (0.7, 5), (0.8, 7), (1.0, 7)])
def test_bands_are_as_long_as_recall_allows(threshold: float, length: int) -> None:
    def chance(of: int) -> float:
        return 1 - (1 - threshold**of) ** (NUM_PERM // of)

    assert values_per_band(threshold) == length
    assert chance(length) >= 0.98
    assert length == 7 or chance(length + 1) < 0.98


# -- near texts


@pytest.mark.parametrize("seed", range(3))
def test_texts_with_one_to_three_changes_are_found_and_no_others(seed: int) -> None:
    rng = random.Random(seed)
    originals = [medical_text(rng) for _ in range(400)]
    copied = rng.sample(range(400), 200)
    copies = [changed(originals[place], rng.randint(1, 3), rng) for place in copied]

    first = search([*originals, *copies])

    assert first[:400] == list(range(400))
    wrong = [(of, f) for of, f in zip(copied, first[400:], strict=True) if f < 400 and f != of]
    assert wrong == []
    num_found = sum(of == f for of, f in zip(copied, first[400:], strict=True))
    assert num_found >= 198


def test_search_decides_as_a_plain_loop_over_all_earlier_texts() -> None:
    rng = random.Random(5)
    texts = [medical_text(rng) for _ in range(60)]
    texts += [changed(rng.choice(texts), rng.randint(1, 6), rng) for _ in range(240)]
    rng.shuffle(texts)
    signatures = signatures_of(texts)

    expected: list[int] = []
    for place, signature in enumerate(signatures):
        kept = [p for p, f in enumerate(expected) if p == f]
        near = [p for p in kept if (signatures[p] == signature).mean() >= THRESHOLD]
        expected.append(near[0] if near else place)

    assert search(texts) == expected
    assert 50 < len(set(expected)) < 150


def test_chain_of_changes_is_cut_where_it_leaves_the_kept_text() -> None:
    rng = random.Random(2)
    chain = [medical_text(rng, 10)]
    for _ in range(5):
        chain.append(changed(chain[-1], 5, rng))
    first = search(chain)

    assert first[:2] == [0, 0]
    assert first[5] != 0
    assert jaccard(chain[0], chain[5]) < 0.75
    assert all(first[f] == f for f in first)  # what is named is kept


def test_groups_do_not_depend_on_the_order() -> None:
    rng = random.Random(3)
    families = [medical_text(rng) for _ in range(40)]
    texts = [
        text for text in families for text in (text, text + "谢谢", text.replace("。", "！", 1))
    ]

    for seed in range(5):
        order = random.Random(seed).sample(range(len(texts)), len(texts))
        first = search([texts[place] for place in order])

        family_of_first = [order[place] // 3 for place in first]
        assert family_of_first == [place // 3 for place in order]
        assert len(set(first)) == len(families)


def test_search_is_seeded() -> None:
    rng = random.Random(4)
    texts = [medical_text(rng) for _ in range(20)]

    one, same, other = (signatures_of(texts, seed) for seed in (1, 1, 2))

    assert (one == same).all()
    assert (one == other).mean() < 0.05


def test_one_changed_character_in_a_short_text_is_too_much() -> None:
    """18 n-grams, of which a change touches 3: an index of 15/21."""
    short = "饭后半小时吃药，两种药间隔一小时以上。"[:20]
    texts = [short, short.replace("两", "三")]

    assert jaccard(*texts) < THRESHOLD
    assert search(texts) == [0, 1]
    assert search(texts, threshold=0.5) == [0, 0]


def test_another_dose_is_near_which_is_why_the_search_rests_by_default() -> None:
    text = medical_text(random.Random(0)) + "每次一片，每天三次。"
    texts = [text, text.replace("一片", "四片")]

    assert search(texts) == [0, 0]


def test_near_rows_are_dropped_or_reported_and_counted_in_groups() -> None:
    rng = random.Random(1)
    texts = [medical_text(rng) for _ in range(3)]
    texts += [
        changed(texts[0], 1, rng),
        texts[1],
        changed(texts[0], 1, rng),
        changed(texts[2], 1, rng),
    ]
    records = [TextRecord(text, Source("b.txt", line)) for line, text in enumerate(texts, start=1)]

    checked = check_records(records, HygieneOptions(drop=("exact_duplicate", "near_duplicate")))

    assert checked.report.dropped == {"exact_duplicate": 1, "near_duplicate": 3}
    assert checked.report.groups["near_duplicate"] == 2
    assert [(r.source.line, r.reason) for r in checked.rejects()] == [
        (4, "near_duplicate"),
        (5, "exact_duplicate"),
        (6, "near_duplicate"),
        (7, "near_duplicate"),
    ]
    assert "nearly that of b.txt:3;" in [r.message for r in checked.rejects()][-1]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_no_text_and_empty_texts_can_be_searched(threshold: float) -> None:
    assert search([], threshold) == []
    assert search(["", "头痛", "", "头痛", "头"], threshold) == [0, 1, 0, 1, 4]
