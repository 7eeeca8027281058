"""Options of the stages, the merge, evaluation and chat: what the trainers' own configs lack.

Learning rate, batch size, epochs, deepspeed, max_length, beta and the like belong to TRL's
SFTConfig and DPOConfig and are not declared here. `medtune.parsing` reads them all.
"""

from medtune.arguments.chat import ChatArguments
from medtune.arguments.conversion import GENERATIONS, ConversionArguments
from medtune.arguments.data import (
    CONVERSATION,
    DOC_SEPARATORS,
    DROP,
    MASK,
    OFF,
    REPORT,
    BlockArguments,
    DataArguments,
    FormatArguments,
    ScreeningArguments,
    mix_percentages,
)
from medtune.arguments.evaluation import ALL_TASKS, HF, EvaluationArguments, hub_names
from medtune.arguments.merge import DEQUANTISED, ORIGINAL, MergeArguments
from medtune.arguments.model import (
    AUTO,
    CHATGLM,
    FREEZE,
    FULL,
    LORA,
    PISSA,
    PTUNING_V2,
    AdapterArguments,
    ModelArguments,
)
from medtune.arguments.sampling import SamplingArguments
from medtune.arguments.scratch import BPE, WORDPIECE, NewModelArguments
from medtune.arguments.serving import ServingArguments, is_loopback
from medtune.arguments.stage import RunArguments, SpeedArguments, StageArguments, TrainingT

__all__ = [
    "ALL_TASKS",
    "AUTO",
    "BPE",
    "CHATGLM",
    "CONVERSATION",
    "DEQUANTISED",
    "DOC_SEPARATORS",
    "DROP",
    "FREEZE",
    "FULL",
    "GENERATIONS",
    "HF",
    "LORA",
    "MASK",
    "OFF",
    "ORIGINAL",
    "PISSA",
    "PTUNING_V2",
    "REPORT",
    "WORDPIECE",
    "AdapterArguments",
    "BlockArguments",
    "ChatArguments",
    "ConversionArguments",
    "DataArguments",
    "EvaluationArguments",
    "FormatArguments",
    "MergeArguments",
    "ModelArguments",
    "NewModelArguments",
    "RunArguments",
    "SamplingArguments",
    "ScreeningArguments",
    "ServingArguments",
    "SpeedArguments",
    "StageArguments",
    "TrainingT",
    "hub_names",
    "is_loopback",
    "mix_percentages",
]
