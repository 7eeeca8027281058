"""PromptCBLUE: nothing that a model writes stops the scorer; F1, ROUGE and tokens by reference.

References: scikit-learn's classification_report, rouge_chinese, transformers' tokenizer of BERT.
"""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medtune.evaluation.scorers.overlap import rouge_f
from medtune.evaluation.scorers.promptcblue import (
    GENERATIONS,
    MODES,
    TASKS,
    counts,
    parse,
    score_rows,
)
from medtune.evaluation.scorers.promptcblue.tokens import basic_tokens
from tests.evaluation.promptcblue_cases import CASES, row_of

MARKS = "，；：。\n“”\"'[](){}=-,;:CDX1é́ \u3000\x00\ud800"
WORDS = ("头实体：", "；尾实体：", "；尾三元组：", "：role=", "；logical_rel=", "；triples=", "无")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
LABELS = st.sampled_from(["甲", "乙", "丙", "丁"])


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """A valid text with parts cut out, doubled, swapped or put in."""
    for _ in range(draw(st.integers(1, 6))):
        start, stop = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        new = draw(st.sampled_from([*MARKS, *WORDS, "", text[start:stop] * 2, text[:start]]))
        text = text[:start] + new + text[stop:]
    return text


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_malformed_predictions_of_any_kind_never_abort(task: str, data: st.DataObject) -> None:
    text = data.draw(st.text(max_size=40) | damaged(CASES[task].text) | JSON)
    mode, generation = data.draw(st.sampled_from(MODES)), data.draw(st.sampled_from(GENERATIONS))
    choices = data.draw(st.just(CASES[task].choices) | JSON)
    row = row_of(task) | {"target": text, "answer_choices": choices}

    scores = score_rows([row_of(task)], [row], mode, generation)

    # Edits of role and relation are not part of what a tree can lose at most: it may be below 0.
    assert scores[task]["primary"] <= 1
    assert scores[task]["primary"] >= 0 or task == "Text2DT"
    parsed = parse(task, row, text, generation, mode)
    assert (parsed.answer is None) >= (parsed.malformed is not None)


@settings(max_examples=100, deadline=None)
@given(row=JSON, answer=JSON, task=st.sampled_from(list(TASKS)))
def test_prediction_rows_of_any_kind_never_abort(row: Any, answer: Any, task: str) -> None:
    scores = score_rows([row_of(task)], [row, {"sample_id": "0", "answer": answer}, row])

    assert scores["unused_predictions"] == 2


@pytest.mark.parametrize(
    "literal",
    ["[" * 9000, "-" * 9000 + "1", "1+" * 9000 + "1", "9**9**9", "'\\z'", "[*'ab']", "{}[0]", "\0"],
)
def test_hostile_literals_are_empty_lists(literal: str) -> None:
    parsed = parse("Text2DT", {}, f"1：role=D；logical_rel=or；triples={literal}")

    assert parsed.answer == [{"role": "D", "logical_rel": "or", "triples": []}]
    assert parsed.unread


def test_a_very_long_reply_is_scored() -> None:
    text = "1：role=C；logical_rel=or；triples=[]\n" * 20_000 + "您好" * 20_000

    for task in ("MedDG", "CHIP-CDEE", "CMeEE-V2"):
        assert score_rows([row_of(task)], [row_of(task, text)])[task]["primary"] < 0.1
    tree = "1：role=C；logical_rel=or；triples=[]\n" * 20_000
    assert score_rows([row_of("Text2DT")], [row_of("Text2DT", tree)])["malformed"] == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS | st.just("别的")), min_size=1, max_size=30))
def test_f1_of_labels_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    gold, predicted = zip(*pairs, strict=True)
    report = metrics.classification_report(gold, predicted, output_dict=True, zero_division=0)

    for task, average in (("KUAKE-QTR", "weighted avg"), ("KUAKE-QIC", "macro avg")):
        rows = [{"sample_id": str(i), "task_dataset": task} for i in range(len(pairs))]
        scores = score_rows(
            [row | {"answer": label} for row, label in zip(rows, gold, strict=True)],
            [row | {"answer": label} for row, label in zip(rows, predicted, strict=True)],
        )[task]
        for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert scores[name] == pytest.approx(report[average][key], abs=1e-12)


PROSE = st.text(st.sampled_from([*"咳嗽发热头痛，。？！…”’ \nabc1é.", "\u2028"]), max_size=60)


@settings(max_examples=150, deadline=None)
@given(PROSE, PROSE)
@example("。。。 。”", "……咳嗽……。")
def test_rouge_is_that_of_rouge_chinese(gold: str, predicted: str) -> None:
    library = pytest.importorskip("rouge_chinese", reason="rouge_chinese is the reference")
    texts = [" ".join(basic_tokens(text)) or "无 。" for text in (predicted, gold)]
    expected = library.Rouge().get_scores(*texts, avg=True)
    ours = counts("MedDG", gold, predicted)

    for name, key in (("rouge1", "rouge-1"), ("rouge2", "rouge-2"), ("rougeL", "rouge-l")):
        assert ours[name] == pytest.approx(expected[key]["f"], abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30) | PROSE)
@example("Café İ ǅ ﬁ 豈 ㍿ a㐀b\U00020000\U0002b820\U0002a6e0\U0002fa20\ufffd\x00\u200b\x85\u2028x")
def test_tokens_are_those_of_bert(text: str) -> None:
    legacy = pytest.importorskip(
        "transformers.models.bert.tokenization_bert_legacy", reason="BERT is the reference"
    )

    assert basic_tokens(text) == legacy.BasicTokenizer().tokenize(text)


@settings(max_examples=100, deadline=None)
@given(*[st.lists(st.sampled_from("abc"), min_size=1, max_size=12)] * 2)
def test_rouge_l_is_by_the_longest_common_subsequence(one: list[str], other: list[str]) -> None:
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = max(table[i][j] + (a == b), table[i][j + 1], table[i + 1][j])
    length = table[-1][-1]

    assert rouge_f(one, other)[2] == pytest.approx(2 * length / (len(one) + len(other)), abs=1e-7)
