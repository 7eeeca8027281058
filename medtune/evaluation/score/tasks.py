"""What each task of `medtune.evaluation.score` makes of gold rows and predictions."""

from collections.abc import Callable, Sequence
from itertools import count, takewhile
from typing import Any, NamedTuple

from medtune.data.formats.checks import MalformedRow
from medtune.evaluation.score.files import GoldRow, join
from medtune.evaluation.score.logit_cases import score_logit_cases
from medtune.evaluation.scorers.cmb.official import (
    SEVERAL_ANSWERS,
    official_answer,
    official_choice,
)
from medtune.evaluation.scorers.cmb.reading import read_samples
from medtune.evaluation.scorers.cmb.scores import (
    UNSPECIFIED,
    ExamQuestion,
    official_counts,
    score_exam,
    strict_counts,
)
from medtune.evaluation.scorers.rouge_bleu import METRIC_NAMES, mean_scores, score_pair

OFFICIAL, STRICT = "official", "strict"

REFERENCE_FIELDS = (
    "labels",
    "label",
    "reference",
    "target",
    "output",
    "answer",
    "summary",
    "response",
)
PREDICTED_FIELDS = (
    "predict",
    "prediction",
    "model_output",
    "output",
    "response",
    "generated_text",
    "answer",
    "text",
    "target",
)


class ExamAnswer(NamedTuple):
    """What a model answered: texts to be read, or letters that were read before."""

    texts: tuple[str, ...] = ()
    letters: str | None = None


def score_cmb_exam(gold: Sequence[GoldRow], predictions: Sequence[Any], mode: str) -> dict:
    """Return accuracies on CMB-Exam; for raw texts also the letters read in them.

    Predictions: {id, model_answer}, or texts that are read first: {id, answers: [...]} or one of
    PREDICTED_FIELDS. Raises DataError for a gold row without its answer.
    """
    questions = [exam_question(row) for row in gold]
    joined = join(gold, predictions)
    answers = [exam_answer(value) for value in joined.of_gold]
    pairs = list(zip(questions, answers, strict=True))
    if mode == OFFICIAL:
        read: list[str | None] = [official_letters(*pair) for pair in pairs]
        counted = [official_counts(q.answer, c or "") for q, c in zip(questions, read, strict=True)]
    else:
        read = [strict_letters(*pair) for pair in pairs]
        counted = [strict_counts(q.answer, c) for q, c in zip(questions, read, strict=True)]
    result = {**score_exam(questions, counted), **joined.counts}
    result["malformed"] += num_malformed(joined.of_gold, answers)
    if any(answer and answer.texts for answer in answers):
        result["model_answers"] = read
    if mode == OFFICIAL and "model_answers" in result:
        result["match_choice"] = [
            [official_choice(text) for text in answer.texts] if answer else [] for answer in answers
        ]
    return result


def num_malformed(values: Sequence[Any], parsed: Sequence[Any]) -> int:
    """Return how many predictions are there and are JSON, but hold no answer."""
    return sum(
        answer is None and value is not None and not isinstance(value, MalformedRow)
        for value, answer in zip(values, parsed, strict=True)
    )


def exam_question(gold: GoldRow) -> ExamQuestion:
    """Return a row of the key. Raises DataError.

    A row with `answers` or `model_answer` and no `answer` is a case of extraction: its
    `model_answer`, which may be empty, is what should be read.
    """
    row = gold.row
    expected = row.get("model_answer")
    if "answer" not in row and (isinstance(row.get("answers"), list) or isinstance(expected, str)):
        answer = expected if isinstance(expected, str) else ""
    else:
        answer = gold.text("answer")
    question_type = row.get("question_type") or SEVERAL_ANSWERS * (len(answer.strip()) > 1)
    options = row.get("option") or row.get("options") or {}
    if not isinstance(question_type, str):
        raise gold.error("text", "question_type")
    if not isinstance(options, dict):
        raise gold.error("an object of letters and texts", "option")
    named = {name: row.get(name) or UNSPECIFIED for name in ("exam_type", "exam_class")}
    if wrong := next((name for name, value in named.items() if not isinstance(value, str)), None):
        raise gold.error("text or null", wrong)
    texts = {str(letter): "" if text is None else str(text) for letter, text in options.items()}
    return ExamQuestion(answer, question_type, **named, options=texts)


def exam_answer(value: Any) -> ExamAnswer | None:
    """Return what a prediction answers; None for one that answers nothing."""
    if isinstance(value, str):
        return ExamAnswer((value,))
    if not isinstance(value, dict):
        return None
    samples = value.get("answers")
    if samples is None:  # CMB's own code writes answer_0, answer_1, ...
        names = takewhile(value.__contains__, (f"answer_{number}" for number in count()))
        samples = [value[name] for name in names]
    if isinstance(samples, list) and samples and all(isinstance(text, str) for text in samples):
        return ExamAnswer(tuple(samples))
    if isinstance(value.get("model_answer"), str):
        return ExamAnswer(letters=value["model_answer"])
    text = first_text(value, PREDICTED_FIELDS)
    return None if text is None else ExamAnswer((text,))


def official_letters(question: ExamQuestion, answer: ExamAnswer | None) -> str:
    """Return the letters that CMB's code compares with the key."""
    if answer is None:
        return ""
    if answer.letters is not None:
        return answer.letters
    return official_answer(answer.texts, question.question_type)


def strict_letters(question: ExamQuestion, answer: ExamAnswer | None) -> str | None:
    """Return the letters that a careful person reads, None for none."""
    if answer is None:
        return None
    texts = answer.texts if answer.letters is None else (answer.letters,)
    return read_samples(texts, question.letters, question.question_type, question.options)


def first_text(row: dict[str, Any], fields: Sequence[str]) -> str | None:
    """Return the text of the first of these fields that holds text."""
    return next((row[name] for name in fields if isinstance(row.get(name), str)), None)


def score_rouge_bleu(gold: Sequence[GoldRow], predictions: Sequence[Any], mode: str) -> dict:
    """Return ROUGE and BLEU-4 by both definitions, as means and for each row.

    official: every row is rounded as the official code does; strict: nothing is rounded.
    Raises DataError for a gold row without a reference.
    """
    joined = join(gold, predictions)
    references = [first_text(row.row, REFERENCE_FIELDS) for row in gold]
    for row, reference in zip(gold, references, strict=True):
        if reference is None:
            raise row.error(f"a reference, here or in one of {REFERENCE_FIELDS},", "labels")
    texts = [predicted_text(value) for value in joined.of_gold]
    pairs = [
        score_pair(text or "", reference or "")
        for text, reference in zip(texts, references, strict=True)
    ]
    if mode == OFFICIAL:
        pairs = [pair.rounded() for pair in pairs]
    chatglm2 = mean_scores([pair.chatglm2 for pair in pairs]).named()
    glm4 = mean_scores([pair.glm4 for pair in pairs]).named()
    counts = {**joined.counts}
    counts["malformed"] += num_malformed(joined.of_gold, texts)
    return {
        "n": len(pairs),
        "chatglm2_aggregate": chatglm2,
        "glm4_aggregate": glm4,
        **dict(zip(METRIC_NAMES, (*chatglm2.values(), glm4["bleu-4"]), strict=True)),
        "unscored": sum(not pair.chatglm2.is_scored for pair in pairs),
        **counts,
        "rows": [
            {
                "chatglm2": pair.chatglm2.named(),
                "glm4": pair.glm4.named(),
                "is_scored": pair.chatglm2.is_scored,
            }
            for pair in pairs
        ],
    }


def predicted_text(value: Any) -> str | None:
    """Return what a prediction says; None for one that says nothing."""
    if isinstance(value, dict):
        return first_text(value, PREDICTED_FIELDS)
    return value if isinstance(value, str) else None


def score_promptcblue(gold: Sequence[GoldRow], predictions: Sequence[Any], mode: str) -> dict:
    """Return the scores of PromptCBLUE's 18 tasks. Raises DataError for a bad gold row."""
    from medtune.evaluation.scorers.promptcblue import score_rows

    values = [None if isinstance(value, MalformedRow) else value for value in predictions]
    rows = [row.row for row in gold]
    return score_rows(rows, values, mode, sources=[row.source for row in gold])


Scorer = Callable[[Sequence[GoldRow], Sequence[Any], str], dict]
SCORERS: dict[str, Scorer] = {
    "cmb_exam": score_cmb_exam,
    "promptcblue": score_promptcblue,
    "rouge_bleu": score_rouge_bleu,
    "perplexity_logits": score_logit_cases,
}
