"""What a person sees of a run: one line per log, `metrics.jsonl`, and the curve as a picture."""

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from medtune.common.files import write_text
from medtune.common.log import is_main_process, logger
from medtune.data.rendering import supervised_spans

METRICS_FILE = "metrics.jsonl"
CURVE_FILE = "training_loss.png"


class Progress(TrainerCallback):
    """Prints loss, grad_norm, learning_rate, epoch, tokens/s and ETA; appends to metrics.jsonl."""

    def __init__(self, folder: Path) -> None:
        """Write below `folder`."""
        self.path = folder / METRICS_FILE
        self.started = self.last_time = time.monotonic()
        self.first_step = 0
        self.last_tokens = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the file anew with what a resumed run has already logged."""
        self.started = self.last_time = time.monotonic()
        self.first_step = state.global_step
        counts = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
        self.last_tokens = counts[-1] if counts else 0.0
        if state.is_world_process_zero:
            lines = [json.dumps(entry) + "\n" for entry in state.log_history]
            write_text(self.path, "".join(lines))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Write the entry and print it as one line."""
        if not state.is_world_process_zero or logs is None:
            return
        entry = {"step": state.global_step, **logs}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if "loss" in logs:
            logger.info("%s", self.training_line(state, logs))
        elif "eval_loss" in logs:
            words = [f"validation at step {state.global_step}/{state.max_steps}"]
            names = {"eval_loss": "loss", "eval_perplexity": "perplexity"}
            names |= {"eval_rewards/accuracies": "accuracy", "eval_rouge-l": "ROUGE-L"}
            words += [f"{label} {logs[name]:.4g}" for name, label in names.items() if name in logs]
            logger.info("%s", "  ".join(words))

    def training_line(self, state: TrainerState, logs: dict[str, float]) -> str:
        """Return the line for one training log."""
        now, tokens = time.monotonic(), logs.get("num_tokens", 0.0)
        rate = (tokens - self.last_tokens) / max(now - self.last_time, 1e-9)
        self.last_time, self.last_tokens = now, tokens
        done = state.global_step - self.first_step
        left = (now - self.started) / max(done, 1) * (state.max_steps - state.global_step)
        words = [
            f"step {state.global_step}/{state.max_steps}",
            f"epoch {logs.get('epoch', 0):.2f}",
            f"loss {logs['loss']:.4f}",
            f"grad_norm {float(logs.get('grad_norm', 0)):.3g}",
            f"learning_rate {logs.get('learning_rate', 0):.2e}",
            f"{rate:,.0f} tokens/s",
            f"ETA {timedelta(seconds=round(left))}",
        ]
        if "rewards/accuracies" in logs:
            words.insert(3, f"accuracy {logs['rewards/accuracies']:.2f}")
        return "  ".join(words)


def show_sample(tokenizer: PreTrainedTokenizerBase, row: dict[str, list[int]]) -> None:
    """Print one decoded training row with its supervised part marked.

    In colour on a terminal; between >>> and <<< elsewhere.
    """
    if not is_main_process():
        return
    console = Console(stderr=True)
    text = Text("one training row, the supervised part marked:\n")
    for part, is_supervised in supervised_spans(tokenizer, row):
        if not is_supervised:
            text.append(part)
        elif console.is_terminal:
            text.append(part, style="bold green reverse")
        else:
            text.append(f">>>{part}<<<")
    console.print(text)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of metrics.jsonl."""
    lines = (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def draw_curve(folder: Path, title: str) -> None:
    """Draw training and validation loss over the steps into training_loss.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import: only here
    from matplotlib.figure import Figure

    entries = read_metrics(folder)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, label, style in (("loss", "training", "-"), ("eval_loss", "validation", "o-")):
        points = [(entry["step"], entry[name]) for entry in entries if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=4)
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / CURVE_FILE, dpi=120)
