"""Merge one or more LoRA adapters into their base model.

    python merge_peft_adapter.py --base_model BASE --lora_model ADAPTER --output_dir MERGED

The output loads with stock transformers. Several adapters are merged in the order given.
"""

from medtune.arguments import MergeArguments
from medtune.common.errors import run_script
from medtune.models.merging import merge_adapters
from medtune.parsing import parse_into


def main(argv: list[str]) -> None:
    """Merge with these options."""
    (arguments,) = parse_into(argv, [MergeArguments], {})
    merge_adapters(arguments)


if __name__ == "__main__":
    run_script(main)
