"""What is compared: each case is two systems that do the same work, and the size of that work."""

from dataclasses import dataclass, replace

MAX_LENGTH_TOKENS = 768
LONG_PROMPT_TOKENS, LONG_PROMPT_ANSWER_TOKENS = 1024, 128
# Rows (conversations, pairs, blocks) of an epoch: the slowest system takes one to three minutes.
NUM_ROWS = {
    "sft": {"S": 200, "P": 80},
    "dpo": {"S": 48, "P": 24},
    "pt": {"S": 60, "P": 24},
    "long_prompt": {"S": 16, "P": 8},
}

# Tokens at 0, 10, … 100 % of the rows of the real files (bench/rows.py), uncut, vocabulary 8192.
QUANTILES = {
    "sft": {
        "prompt": (6, 9, 10, 11, 12, 13, 15, 26, 39, 57, 232),
        "answer": (3, 6, 9, 17, 34, 58, 71, 92, 151, 345, 1991),
    },
    "dpo": {
        "prompt": (8, 15, 20, 25, 37, 56, 75, 104, 162, 354, 1117),
        "chosen": (3, 25, 52, 84, 115, 170, 241, 309, 398, 517, 1610),
        "rejected": (3, 21, 45, 73, 95, 137, 180, 237, 300, 421, 1074),
    },
    "pt": {"document": (21, 43, 58, 79, 102, 132, 168, 231, 350, 684, 9857)},
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Two systems, one piece of work.

    kind: sft, dpo or pt.   model: S or P (bench/models.py).   batch_size: rows or pairs a step.
    num_rows: rows of one epoch.   is_long_prompt: synthetic pairs with a long prompt.
    """

    name: str
    kind: str
    model: str
    batch_size: int
    num_rows: int
    system: str = "ours"
    baseline: str = "trl"
    num_epochs: int = 1
    max_length_tokens: int = MAX_LENGTH_TOKENS
    is_long_prompt: bool = False


def build_cases() -> dict[str, Case]:
    """Return every case by its name."""
    cases = [case for model in ("S", "P") for case in cases_of_model(model)]
    return {case.name: case for case in cases}


def cases_of_model(model: str) -> list[Case]:
    """Return the cases of one model size."""
    found = []
    for size in (2, 4, 8):
        sft = Case(f"sft_{model}_bs{size}", "sft", model, size, NUM_ROWS["sft"][model])
        found += [sft, against(sft, "trl_bfd", "bfd")]
        found.append(Case(f"dpo_{model}_bs{size}", "dpo", model, size, NUM_ROWS["dpo"][model]))
    found += [against(sft, name, name) for name in ("medicalgpt", "llamafactory")]
    found.append(against(sft, "trl_bfd_same_tokens", "bfd_same_tokens"))
    found.append(against(sft, "trl_padding_free", "padding_free"))
    found += [precompute_case(model, size) for size in (4, 8)]
    long = Case(
        f"dpo_long_prompt_{model}", "dpo", model, 4, NUM_ROWS["long_prompt"][model],
        baseline="ours_unshared", is_long_prompt=True,
        max_length_tokens=LONG_PROMPT_TOKENS + LONG_PROMPT_ANSWER_TOKENS,
    )  # fmt: skip
    found += [long, against(long, "trl", "trl")]
    blocks = Case(f"pt_{model}", "pt", model, 4, NUM_ROWS["pt"][model])
    return [*found, replace(blocks, baseline="trl_padding_free")]


def against(case: Case, baseline: str, suffix: str) -> Case:
    """Return the same work against another baseline."""
    return replace(case, name=f"{case.name}_vs_{suffix}", baseline=baseline)


def precompute_case(model: str, batch_size: int) -> Case:
    """Return DPO over three epochs, the reference's log-probabilities computed once by both."""
    return Case(
        f"dpo_{model}_bs{batch_size}_precompute", "dpo", model, batch_size,
        NUM_ROWS["dpo"][model] // 2, "ours_precompute", "trl_precompute", num_epochs=3,
    )  # fmt: skip
