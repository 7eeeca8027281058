"""How answers are drawn, in chat and wherever a session is asked."""

import math
from dataclasses import dataclass, field

from medtune.common.errors import ConfigError

LARGEST_SEED = 2**63 - 1
SMALLEST_TEMPERATURE = 0.01  # logits divided by a much smaller one overflow


@dataclass(frozen=True)
class SamplingArguments:
    """How the tokens of an answer are chosen. Equal options give equal answers."""

    max_new_tokens: int = field(default=512, metadata={"help": "Longest answer, in tokens."})
    temperature: float = field(
        default=0.0,
        metadata={"help": "0: the likeliest token each time; above: drawn, the wilder the higher."},
    )
    top_p: float = field(
        default=1.0,
        metadata={"help": "Draw from the likeliest tokens that have this share together, 0-1."},
    )
    top_k: int = field(
        default=0, metadata={"help": "Draw from this many of the likeliest tokens; 0: from all."}
    )
    repetition_penalty: float = field(
        default=1.0, metadata={"help": "Above 1: what was said becomes less likely to be repeated."}
    )
    seed: int = field(default=42, metadata={"help": "Of drawn answers."})

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; NaN fails every comparison."""
        limits = (
            ("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more"),
            (
                "temperature",
                self.temperature,
                self.temperature == 0 or SMALLEST_TEMPERATURE <= self.temperature < math.inf,
                f"0, or {SMALLEST_TEMPERATURE} and more",
            ),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1"),
            ("top_k", self.top_k, self.top_k >= 0, "0 or more"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                0 < self.repetition_penalty < math.inf,
                "a number above 0",
            ),
            ("seed", self.seed, 0 <= self.seed <= LARGEST_SEED, f"0 to {LARGEST_SEED}"),
        )
        for name, value, is_sound, expected in limits:
            if not is_sound:
                raise ConfigError(f"--{name}: expected {expected}, found {value}.")
