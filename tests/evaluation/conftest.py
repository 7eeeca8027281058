"""The small model as lm-eval asks it, and a benchmark folder of made-up data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from medtune.arguments import ModelArguments
from medtune.data.rendering import ChatRenderer
from medtune.evaluation.asking.language_model import ChatModel, Limits
from medtune.models.families import family_of
from medtune.models.loading import load_model, load_tokenizer
from tests.conftest import WriteJsonl

Ask = Callable[..., ChatModel]
FEVER, COUGH = "发热怎么办？", "咳嗽挂什么科？"


@pytest.fixture(scope="session")
def small_model(small_model_folder: Path) -> PreTrainedModel:
    """The untrained small model, in evaluation mode."""
    return load_model(ModelArguments(str(small_model_folder))).eval()


@pytest.fixture(scope="session")
def chat_model(small_model: PreTrainedModel, small_model_folder: Path) -> Ask:
    """A function (limits by name) -> the small model to lm-eval."""
    tokenizer = load_tokenizer(ModelArguments(str(small_model_folder)))
    renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)

    def make(**limits: Any) -> ChatModel:
        numbers = {"max_length": 512, "per_batch": 256, "stride": 512, **limits}
        return ChatModel(small_model, tokenizer, renderer, Limits(**numbers))

    return make


@pytest.fixture
def benchmarks(tmp_path: Path, write_jsonl: WriteJsonl) -> Path:
    """A data folder with a few items for each benchmark that needs no probes."""
    folder = tmp_path / "benchmarks"
    (folder / "pretrain").mkdir(parents=True)
    (folder / "pretrain" / "book.txt").write_text(
        "发热要多喝水。\n\n咳嗽要休息，少说话。\n", "utf-8"
    )
    turns = [("human", FEVER), ("gpt", "多喝水。"), ("human", COUGH), ("gpt", "呼吸内科。")]
    conversation = [{"from": role, "value": text} for role, text in turns]
    write_jsonl(folder / "finetune" / "a.jsonl", [{"conversations": conversation}] * 2)
    pair = {"question": FEVER, "response_chosen": "先就医。", "response_rejected": "随便吃药。"}
    write_jsonl(folder / "reward" / "p.jsonl", [pair, {**pair, "question": COUGH}])
    write_jsonl(folder / "questions.jsonl", [{"question": FEVER, "reference": "多喝水。"}] * 2)
    write_jsonl(folder / "cmb_exam" / "q.jsonl", [exam_question(n) for n in range(4)])
    write_jsonl(folder / "cmb_clin" / "c.json", [clinical_case()])
    row = {"input": FEVER, "target": "是的", "task_dataset": "CHIP-STS", "sample_id": "1",
           "answer_choices": ["是的", "不是"]}  # fmt: skip
    write_jsonl(folder / "promptcblue" / "p.json", [row, {**row, "sample_id": "2"}])
    return folder


def exam_question(number: int, **changes: Any) -> dict[str, Any]:
    """A question of CMB-Exam's form; the last of four has two right answers."""
    several = number == 3
    return {
        "id": f"q{number}",
        "exam_type": "医师考试",
        "exam_class": "执业医师",
        "question": f"第{number}题，正确的是",
        "question_type": "多项选择题" if several else "单项选择题",
        "option": {"A": "休息", "B": "喝水", "C": "跑步", "D": ""},
        "answer": "AB" if several else "ABC"[number],
        **changes,
    }


def clinical_case() -> dict[str, Any]:
    """A case of CMB-Clin's form with two questions."""
    return {
        "id": "1",
        "title": "发热",
        "description": "患者，男，发热三天。",
        "QA_pairs": [
            {"question": "可能是什么病？", "answer": "上呼吸道感染。"},
            {"question": "如何处理？", "solution": "休息，多喝水。"},
        ],
    }
