"""Scores of predictions against gold, one JSON object of metrics.

    python -m medtune.evaluation.score --task cmb_exam --gold key.json \
        --predictions answers.jsonl --mode official --out scores.json

Both files are JSON lines or one JSON array. `official` gives the numbers of the official scorers,
with their faults; `strict` what the predictions mean. See docs/evaluation.md.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medtune.common.errors import ConfigError, run_script
from medtune.common.files import write_json
from medtune.common.log import logger
from medtune.evaluation.score.files import read_gold, read_predictions
from medtune.evaluation.score.tasks import SCORERS
from medtune.parsing import parse_into


@dataclass
class ScoreArguments:
    """What is scored, and where the numbers go."""

    task: Literal["cmb_exam", "promptcblue", "rouge_bleu", "perplexity_logits"] = field(
        metadata={"help": "Which scorer."}
    )
    gold: str = field(metadata={"help": "File with the right answers, references or labels."})
    predictions: str = field(metadata={"help": "File with what a model answered."})
    out: str = field(metadata={"help": "JSON file to write."})
    mode: Literal["official", "strict"] = field(
        default="official",
        metadata={"help": "As the official scorer counts, or as a careful person would."},
    )


def main(argv: list[str]) -> None:
    """Score one file. Raises ConfigError and DataError."""
    (arguments,) = parse_into(argv, [ScoreArguments], {})
    out = Path(arguments.out)
    check_writable(out)
    gold = read_gold(Path(arguments.gold))
    predictions = read_predictions(Path(arguments.predictions))
    metrics = SCORERS[arguments.task](gold, predictions, arguments.mode)
    write_json(out, metrics)
    logger.info(
        "%s: %s gold rows, %s predictions, %s missing, %s malformed; written: %s",
        arguments.task,
        f"{len(gold):,}",
        f"{len(predictions):,}",
        metrics.get("missing", 0),
        metrics.get("malformed", 0),
        out,
    )


def check_writable(out: Path) -> None:
    """Make the folder of the output. Raises ConfigError before anything is read."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: expected a path to write to: {error}.") from error
    if out.is_dir():
        raise ConfigError(f"--out {out}: expected a file to write, found a folder; name a file.")


if __name__ == "__main__":
    run_script(main)
