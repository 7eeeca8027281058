"""Talk to a model: at a terminal, on a web page, through an API; LoRA and prefix adapters.

A built-in model to try it:
    python chat.py --model_name_or_path tiny-glm
An adapter on its base, drawn answers:
    python chat.py --model_name_or_path BASE --adapter ADAPTER --temperature 0.8 --top_p 0.8
Before and after side by side, on a page at 127.0.0.1:
    python chat.py --model_name_or_path BASE --adapter ADAPTER --web True
OpenAI's chat completions for programs:
    python chat.py --model_name_or_path BASE --api True --port 8000
Questions from a pipe, one a line, only answers to standard output:
    python chat.py --model_name_or_path BASE --no_log True
"""

from medtune.arguments import (
    ChatArguments,
    ModelArguments,
    SamplingArguments,
    ServingArguments,
)
from medtune.chat.run import run_chat
from medtune.common.errors import run_script
from medtune.parsing import parse_into


def main(argv: list[str]) -> None:
    """Chat with these options."""
    groups = [ModelArguments, ChatArguments, SamplingArguments, ServingArguments]
    run_chat(*parse_into(argv, groups, {}))


if __name__ == "__main__":
    run_script(main)
