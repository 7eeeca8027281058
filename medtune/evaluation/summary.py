"""What each stage of a chain made of the model: one table, and the same as JSON.

    python -m medtune.evaluation.summary --base tiny-glm --pt M1 --sft M2 --dpo M3 --output_file F

Measured on held-out data (`data/eval`): perplexity of text and of answers, the share of replies
that stop by themselves, and the share of preference pairs whose chosen answer is the likelier one.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from medtune.arguments import ModelArguments
from medtune.common.errors import run_script
from medtune.common.files import read_json, sha256_of_file, write_json
from medtune.common.lineage import (
    COMPLETE_FILE,
    describe_data,
    describe_weights,
    lineage_file_of,
    write_lineage,
)
from medtune.common.log import logger
from medtune.data.formats.files import read_json_rows
from medtune.data.grouping import group_text_function, tokenize_function
from medtune.data.reading import (
    read_all,
    read_conversation_file,
    read_preference_file,
    read_text_file,
)
from medtune.data.records import Message
from medtune.data.rendering import ChatRenderer, render_conversation, render_pair
from medtune.evaluation.scoring import perplexity, preference_accuracy
from medtune.models.families import family_of
from medtune.models.generation import Reply, generate_replies
from medtune.models.loading import load_model, load_tokenizer, resolve_model
from medtune.parsing import parse_into

STAGES = ("base", "pt", "sft", "dpo")
NUM_SHOWN = 3


@dataclass
class SummaryArguments:
    """The models of a chain and the data to measure them on."""

    base: str = field(metadata={"help": "The model that the chain started from."})
    pt: str = field(metadata={"help": "Merged model after pretraining."})
    sft: str = field(metadata={"help": "Merged model after supervised fine-tuning."})
    dpo: str = field(metadata={"help": "Merged model after preference optimisation."})
    output_file: str = field(metadata={"help": "JSON file to write."})
    eval_dir: str = field(
        default="data/eval",
        metadata={"help": "Folder with pretrain/, finetune/, reward/ and questions.jsonl."},
    )
    max_length: int = field(default=512, metadata={"help": "Longest row and block, in tokens."})
    max_new_tokens: int = field(default=128, metadata={"help": "Longest reply, in tokens."})


@dataclass(frozen=True)
class Measured:
    """The numbers of one model and its replies to the questions."""

    metrics: dict[str, float]
    replies: list[Reply]


def main(argv: list[str]) -> None:
    """Measure the four models, print the table, write the JSON."""
    (arguments,) = parse_into(argv, [SummaryArguments], {})
    inputs = describe_inputs(arguments)
    questions = read_questions(Path(arguments.eval_dir) / "questions.jsonl")
    measured = {}
    for stage in STAGES:
        logger.info("measuring %s: %s", stage, getattr(arguments, stage))
        measured[stage] = measure(getattr(arguments, stage), arguments, questions)
    print_table(measured)
    print_replies(measured, questions)
    summary: dict[str, Any] = {stage: measured[stage].metrics for stage in STAGES}
    summary["seconds"] = read_seconds(arguments)
    output = Path(arguments.output_file)
    write_json(output, summary)
    write_lineage(lineage_file_of(output), inputs, {output.name: sha256_of_file(output)})
    logger.info("written: %s", arguments.output_file)


def describe_inputs(arguments: SummaryArguments) -> dict[str, Any]:
    """Return what is measured on what, with hashes, for the lineage of the summary.

    Raises CheckpointError, before anything is measured, for a model that is not finished.
    """
    folder = Path(arguments.eval_dir)
    texts = read_all(str(folder / "pretrain"), read_text_file)
    conversations = read_all(str(folder / "finetune"), read_conversation_file)
    pairs = read_all(str(folder / "reward"), read_preference_file)
    rows = Counter(text.source.path for text in texts)
    rows.update(conversation.source.path for conversation in conversations)
    rows.update(pair.source.path for pair in pairs)
    questions = folder / "questions.jsonl"
    rows[str(questions)] = len(read_questions(questions))
    return {
        "stage": "evaluation",
        "options": {
            "max_length": arguments.max_length,
            "max_new_tokens": arguments.max_new_tokens,
        },
        "models": {
            stage: describe_weights(resolve_model(getattr(arguments, stage))) for stage in STAGES
        },
        "data": describe_data([Path(path) for path in rows]),
        "rows": dict(rows),
    }


def read_questions(path: Path) -> list[str]:
    """Return the questions of a JSON lines file with a `question` field."""
    return [row["question"] for _, row in read_json_rows(path)]


def measure(name: str, arguments: SummaryArguments, questions: list[str]) -> Measured:
    """Return all numbers of one model."""
    model_arguments = ModelArguments(model_name_or_path=name)
    tokenizer = load_tokenizer(model_arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(model_arguments).eval().to(device)
    renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
    folder, limit = Path(arguments.eval_dir), arguments.max_length

    texts = [record.text for record in read_all(str(folder / "pretrain"), read_text_file)]
    blocks = group_text_function(tokenize_function(texts, tokenizer), limit)
    conversations = [
        vars(rendered)
        for record in read_all(str(folder / "finetune"), read_conversation_file)
        if (rendered := render_conversation(renderer, record, limit))
    ]
    pairs = [
        row
        for record in read_all(str(folder / "reward"), read_preference_file)
        if (row := render_pair(renderer, record, limit))
    ]
    prompts = [renderer.prompt_ids([Message("user", question)]) for question in questions]
    replies = generate_replies(model, tokenizer, prompts, arguments.max_new_tokens)
    pad = tokenizer.pad_token_id
    metrics = {
        "perplexity_text": perplexity(model, blocks, pad),
        "perplexity_answers": perplexity(model, conversations, pad),
        "stop_rate": sum(reply.stopped for reply in replies) / len(replies),
        "preference_accuracy": preference_accuracy(model, pairs, pad),
    }
    return Measured(metrics, replies)


def read_seconds(arguments: SummaryArguments) -> dict[str, float]:
    """Return the seconds that each stage and merge took, as their COMPLETE files say."""
    seconds = {}
    for stage in STAGES[1:]:
        merged = Path(getattr(arguments, stage))
        trained = merged.with_name(merged.name.replace("-merged", "-v1"))
        for name, folder in ((stage, trained), (f"{stage}_merge", merged)):
            if (folder / COMPLETE_FILE).exists():
                seconds[name] = read_json(folder / COMPLETE_FILE)["seconds"]
    return {**seconds, "total": round(sum(seconds.values()), 1)}


def print_table(measured: dict[str, Measured]) -> None:
    """Print one line per model."""
    table = Table(title="on held-out data")
    for name in ("model", "perplexity of text", "of answers", "replies that stop", "preference"):
        table.add_column(name, justify="right")
    for stage, result in measured.items():
        numbers = result.metrics
        table.add_row(
            stage,
            f"{numbers['perplexity_text']:,.2f}",
            f"{numbers['perplexity_answers']:,.2f}",
            f"{numbers['stop_rate']:.1%}",
            f"{numbers['preference_accuracy']:.1%}",
        )
    Console().print(table)


def print_replies(measured: dict[str, Measured], questions: list[str]) -> None:
    """Print the first questions with each model's reply, cut ones marked with …"""
    for number, question in enumerate(questions[:NUM_SHOWN]):
        table = Table(title=question, show_header=False, min_width=60)
        for stage, result in measured.items():
            reply = result.replies[number]
            table.add_row(stage, reply.text.replace("\n", " ") + "…" * (not reply.stopped))
        Console().print(table)


if __name__ == "__main__":
    run_script(main)
