"""Make an old ChatGLM2, ChatGLM3 or GLM-4 checkpoint or adapter a native one.

    python convert_chatglm.py --model_dir OLD --output_dir NEW

The output loads with stock transformers and without the checkpoint's own code, which never runs.
"""

from medtune.arguments import ConversionArguments
from medtune.common.errors import run_script
from medtune.models.conversion.run import convert
from medtune.parsing import parse_into


def main(argv: list[str]) -> None:
    """Convert with these options."""
    (arguments,) = parse_into(argv, [ConversionArguments], {})
    convert(arguments)


if __name__ == "__main__":
    run_script(main)
