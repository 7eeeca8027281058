"""What evaluation.py takes."""

from dataclasses import dataclass, field

from medtune.arguments.model import split_names
from medtune.common.errors import ConfigError

ALL_TASKS = "all"
HF, VLLM = "hf", "vllm"


@dataclass
class EvaluationArguments:
    """Which benchmarks, on which data, and how the model is asked."""

    output_dir: str = field(
        metadata={"help": "Folder for results.json and the samples; an interrupted one goes on."}
    )
    adapter: str | None = field(
        default=None,
        metadata={
            "help": "Adapter or prefix on top of the model, measured without a merge.",
            "aliases": ["--lora_model"],
        },
    )
    tasks: list[str] = field(
        default_factory=lambda: [ALL_TASKS],
        metadata={"help": "Benchmarks, by comma or blank; all: those that --data_dir has data of."},
    )
    data_dir: str = field(
        default="data/eval",
        metadata={"help": "Folder with the benchmarks' data, each in its own folder."},
    )
    hub_datasets: list[str] = field(
        default_factory=list,
        metadata={"help": "TASK=NAME: take a benchmark's data from this data set of the hub."},
    )
    limit: int | None = field(
        default=None, metadata={"help": "N items of each benchmark, evenly spread over its data."}
    )
    num_fewshot: int = field(
        default=0, metadata={"help": "Worked examples before each question, where there are any."}
    )
    chain_of_thought: bool = field(
        default=False, metadata={"help": "Ask CMB-Exam for an analysis of the options first."}
    )
    apply_chat_template: bool = field(
        default=True,
        metadata={"help": "Ask as a chat; False: as plain text, for models without a template."},
    )
    max_new_tokens: int = field(default=512, metadata={"help": "Longest reply, in tokens."})
    do_sample: bool = field(
        default=False, metadata={"help": "Draw the replies (seeded) instead of the likeliest one."}
    )
    temperature: float = field(
        default=1.0, metadata={"help": "Of drawn replies; ignored without --do_sample."}
    )
    top_p: float = field(
        default=1.0, metadata={"help": "Of drawn replies, 0-1; ignored without --do_sample."}
    )
    repetition_penalty: float | None = field(
        default=None, metadata={"help": "Of all replies; default: none, CMB-Clin 1.1 (official)."}
    )
    max_length: int | None = field(
        default=None,
        metadata={"help": "Longest prompt with its reply, in tokens; default: the model's own."},
    )
    stride: int | None = field(
        default=None,
        metadata={
            "help": "Perplexity of texts longer than max_length: by how many tokens the window "
            "moves on. Default max_length: blocks that do not overlap."
        },
    )
    tokens_per_batch: int | None = field(
        default=None,
        metadata={"help": "Tokens in the model at once; default 1,024 on a CPU, 8,192 on a GPU."},
    )
    seed: int = field(default=42, metadata={"help": "Of worked examples and drawn replies."})
    baseline: str | None = field(
        default=None,
        metadata={"help": "Finished evaluation to compare with, item by item: the stage before."},
    )
    fail_on_regression: bool = field(
        default=False,
        metadata={"help": "Exit with 5 if a benchmark of --regression_tasks is worse, see docs."},
    )
    regression_tasks: list[str] = field(
        default_factory=lambda: ["safety"],
        metadata={"help": "Benchmarks that --fail_on_regression looks at."},
    )
    judge_url: str | None = field(
        default=None,
        metadata={"help": "OpenAI-compatible address up to /v1: marks for CMB-Clin's replies."},
    )
    judge_model: str | None = field(
        default=None, metadata={"help": "Model to ask there; its key is in MEDTUNE_JUDGE_KEY."}
    )
    backend: str = field(
        default=HF,
        metadata={
            "help": "hf: this process, exact ids; vllm: lm-eval's vLLM, for many generations.",
            "choices": [HF, VLLM],
        },
    )
    backend_args: str = field(
        default="", metadata={"help": "For vllm: lm-eval's arguments, name=value by comma."}
    )

    def __post_init__(self) -> None:
        """Read comma lists and refuse what cannot be meant."""
        self.tasks = split_names(self.tasks)
        self.regression_tasks = split_names(self.regression_tasks)
        limits = (
            ("limit", self.limit, 1), ("max_length", self.max_length, 2),
            ("stride", self.stride, 1), ("tokens_per_batch", self.tokens_per_batch, 1),
            ("num_fewshot", self.num_fewshot, 0), ("max_new_tokens", self.max_new_tokens, 1),
        )  # fmt: skip
        for name, value, lowest in limits:
            if value is not None and value < lowest:
                raise ConfigError(f"--{name}: expected {lowest} or more, found {value}.")
        if self.fail_on_regression and not self.baseline:
            raise ConfigError(
                "--fail_on_regression: expected the evaluation to compare with in --baseline, "
                "found none."
            )
        if bool(self.judge_url) != bool(self.judge_model):
            raise ConfigError("--judge_url and --judge_model go together; give both or neither.")
        if self.adapter and self.backend != HF:
            raise ConfigError("--adapter and --backend vllm clash: merge the adapter first.")
        if self.backend_args and self.backend == HF:
            raise ConfigError("--backend_args: expected with --backend vllm, found hf.")


def hub_names(words: list[str]) -> dict[str, str]:
    """Return the hub names by task. Raises ConfigError for a word that is no TASK=NAME."""
    names = {}
    for word in words:
        task, equals, name = word.partition("=")
        if not (task and equals and name):
            raise ConfigError(f"--hub_datasets: expected TASK=NAME, found {word!r}.")
        names[task] = name
    return names
