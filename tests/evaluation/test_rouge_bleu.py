"""ROUGE and BLEU-4: the numbers of the official code, of the libraries it calls, and by hand.

Reference: stored numbers of ChatGLM2's and GLM-4's code; rouge_chinese 1.0.3; nltk's sentence_bleu.
"""

import json
import math
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medtune.evaluation.scorers.overlap import longest_common_subsequence, smoothed_f
from medtune.evaluation.scorers.rouge_bleu import (
    METRIC_NAMES,
    UNSCORED,
    bleu_4,
    mean_scores,
    rouge_tokens,
    score_pair,
    words_of,
)
from tests.evaluation.parity import PARITY, needs_parity, read_lines

SENTENCES = st.text(alphabet="头痛发热咳嗽。！？?…”’，. \nab", max_size=30)


@needs_parity
@pytest.mark.parametrize("name", ["pairs", "edge_cases"])
def test_rows_have_the_numbers_of_the_official_code(name: str) -> None:
    for case in read_lines(PARITY / f"rouge_bleu/{name}.jsonl"):
        scores = score_pair(case["predict"], case["labels"]).rounded()
        if "raises" in case["chatglm2"]:
            assert scores == (UNSCORED, UNSCORED)
        else:
            assert scores.chatglm2.is_scored
            assert scores.chatglm2.named() == pytest.approx(case["chatglm2"], abs=1e-4)
            assert scores.glm4.named() == pytest.approx(case["glm4"], abs=1e-9)


@needs_parity
def test_means_are_those_of_the_official_code() -> None:
    expected = json.loads(
        (PARITY / "rouge_bleu/expected_aggregate.json").read_text(encoding="utf-8")
    )
    rows = read_lines(PARITY / "rouge_bleu/pairs.jsonl")
    pairs = [score_pair(row["predict"], row["labels"]).rounded() for row in rows]

    chatglm2 = mean_scores([pair.chatglm2 for pair in pairs]).named()
    glm4 = mean_scores([pair.glm4 for pair in pairs]).named()
    assert len(pairs) == expected["n"]
    assert chatglm2 == pytest.approx(expected["chatglm2_aggregate"], abs=1e-9)
    assert glm4 == pytest.approx(expected["glm4_aggregate"], abs=1e-9)


@given(SENTENCES, SENTENCES)
def test_rouge_is_that_of_the_library(predicted: str, reference: str) -> None:
    rouge_chinese = pytest.importorskip("rouge_chinese")
    texts = [" ".join(words_of(text)) for text in (predicted, reference)]
    try:
        (expected,) = rouge_chinese.Rouge().get_scores(*texts)
    except ValueError:
        assert score_pair(predicted, reference) == (UNSCORED, UNSCORED)
        return

    scores = score_pair(predicted, reference).chatglm2.named()
    for name in ("rouge-1", "rouge-2", "rouge-l"):
        assert scores[name] == pytest.approx(100 * expected[name]["f"], abs=1e-9)


@given(SENTENCES, SENTENCES)
def test_bleu_is_that_of_the_library(predicted: str, reference: str) -> None:
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    assume(predicted and reference)
    smoothing = bleu.SmoothingFunction().method3
    expected = bleu.sentence_bleu([list(reference)], list(predicted), smoothing_function=smoothing)

    assert bleu_4(predicted, reference) == pytest.approx(expected, abs=1e-12)


def test_a_pair_counted_by_hand() -> None:
    """Words a b c against a c d: 2 of 3 words and no pair in common, a c in order."""
    scores = score_pair("a b c", "a c d").chatglm2

    # jieba leaves the blanks as words, which ROUGE drops
    assert scores.rouge_1 == pytest.approx(100 * 2 / 3, abs=1e-5)
    assert (scores.rouge_2, scores.rouge_l) == (0.0, pytest.approx(100 * 2 / 3, abs=1e-5))
    # as characters: 4 of 5 clipped single ones ("a", "c", two blanks); of the pairs "a ", " c";
    # of three " c" has none behind it, of four none: 1/2 and 1/4 of one match
    assert scores.bleu_4 == pytest.approx(
        100
        * math.exp((math.log(4 / 5 * 2 / 4) + math.log(1 / (2 * 3)) + math.log(1 / (4 * 2))) / 4)
    )


def test_a_short_right_answer_scores_below_100() -> None:
    assert score_pair("再见", "再见").rounded().chatglm2.bleu_4 == 59.4604


@pytest.mark.parametrize(("text", "reference"), [("", "好"), ("好", ""), (" \n", "好"), ("", "")])
def test_blank_text_scores_0_and_is_counted(text: str, reference: str) -> None:
    counts = score_pair(text, reference).counts()

    assert counts == {**dict.fromkeys(METRIC_NAMES, 0.0), "items": 1, "unscored": 1}


def test_sums_of_counts_give_the_means() -> None:
    pairs = [score_pair("多喝水", "多喝水，休息"), score_pair("", "休息")]
    counts = [pair.counts() for pair in pairs]
    means = mean_scores([pair.chatglm2 for pair in pairs])

    assert sum(count["items"] for count in counts) == 2
    assert sum(count["rouge-1"] for count in counts) / 2 == means.rouge_1
    assert sum(count["bleu-4-char"] for count in counts) / 2 == means.bleu_4


def test_a_line_of_blanks_is_one_empty_token() -> None:
    assert rouge_tokens(["头痛", "\n", " ", "\n", "发热"]) == ["头痛", "", "发热"]


@given(st.text("ab", max_size=8), st.text("ab", max_size=8))
def test_common_subsequence_is_the_longest(one: str, other: str) -> None:
    table = {(n, m): 0 for n in range(len(one) + 1) for m in range(len(other) + 1)}
    for n, a in enumerate(one, start=1):
        for m, b in enumerate(other, start=1):
            longer = table[n - 1, m - 1] + 1 if a == b else 0
            table[n, m] = max(longer, table[n - 1, m], table[n, m - 1])

    assert longest_common_subsequence(one, other) == table[len(one), len(other)]


def test_f_of_rouge_is_smoothed_and_0_without_tokens() -> None:
    assert smoothed_f(3, 3, 3) == 2 / (2 + 1e-8) < 1
    assert smoothed_f(1, 2, 4) == 2 * (1 / 2 * 1 / 4) / (1 / 2 + 1 / 4 + 1e-8)
    assert smoothed_f(0, 0, 4) == smoothed_f(0, 4, 0) == smoothed_f(0, 0, 0) == 0


def test_texts_of_20000_characters_take_no_time() -> None:
    text = "".join(chr(0x4E00 + n * n % 5000) for n in range(20_000))
    words_of(text[:10])  # the dictionary is read once
    start = time.monotonic()
    scores = score_pair(text, text[::-1])

    assert 0 < scores.chatglm2.rouge_l < 100
    assert time.monotonic() - start < 20
