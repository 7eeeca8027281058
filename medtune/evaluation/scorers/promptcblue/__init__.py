"""PromptCBLUE's 18 tasks: a generated text becomes a structure, the structure is scored.

reading says what a parser is given, extraction, classification, reports and trees hold the parsers
of each shape and trees, tuples, classification and reports what is counted; tasks is the table,
joining brings gold and predictions together,
scoring adds up. Mode `official` agrees with the published scorer; mode `strict`
has the same metrics without its substitutions. No model is needed and no generated text is run.
"""

from medtune.evaluation.scorers.promptcblue.joining import Item, Options, Predictions, join
from medtune.evaluation.scorers.promptcblue.reading import (
    GENERATIONS,
    HEAD,
    MAY_2023,
    MODES,
    OFFICIAL,
    STRICT,
    Parsed,
)
from medtune.evaluation.scorers.promptcblue.scoring import score_rows
from medtune.evaluation.scorers.promptcblue.tasks import (
    TASKS,
    counts,
    generation_of,
    metric_of,
    metrics_of,
    parse,
)

__all__ = [
    "GENERATIONS",
    "HEAD",
    "MAY_2023",
    "MODES",
    "OFFICIAL",
    "STRICT",
    "TASKS",
    "Item",
    "Options",
    "Parsed",
    "Predictions",
    "counts",
    "generation_of",
    "join",
    "metric_of",
    "metrics_of",
    "parse",
    "score_rows",
]
