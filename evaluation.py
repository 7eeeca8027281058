"""Measure a model: numbers with intervals, every answer kept, compared with the stage before.

All benchmarks that data/eval has data of:
    python evaluation.py --model_name_or_path outputs/tiny-sft-merged --output_dir OUT
CMB-Exam with five worked examples, an adapter on its base, against an earlier evaluation:
    python evaluation.py --model_name_or_path BASE --adapter ADAPTER --tasks cmb_exam \
        --data_dir /data/benchmarks --num_fewshot 5 --output_dir OUT --baseline EARLIER
Many GPUs: torchrun as for the stages, a copy of the model on each.
"""

from medtune.arguments import EvaluationArguments, ModelArguments
from medtune.common.errors import run_script
from medtune.evaluation.run import run_evaluation
from medtune.parsing import parse_into


def main(argv: list[str]) -> None:
    """Measure one model with these options."""
    run_evaluation(*parse_into(argv, [ModelArguments, EvaluationArguments], {}))


if __name__ == "__main__":
    run_script(main)
