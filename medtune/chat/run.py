"""From options to a chat: at a terminal with a person, in a pipe with one line after the other."""

import sys
from pathlib import Path

import torch
from transformers import PreTrainedModel

from medtune.arguments import ChatArguments, ModelArguments, SamplingArguments
from medtune.chat.log import ChatLog
from medtune.chat.piping import answer_lines
from medtune.chat.session import ChatSession
from medtune.chat.talk import Talk
from medtune.chat.terminal import Terminal
from medtune.models.adapters import load_adapter
from medtune.models.loading import load_model, load_tokenizer
from medtune.models.quantised_bases import warn_of_other_bits
from medtune.models.token_growth import check_sizes

DISCLAIMER = Path(__file__).with_name("disclaimer.txt")


def run_chat(
    model_arguments: ModelArguments, arguments: ChatArguments, options: SamplingArguments
) -> None:
    """Talk until there is no more input.

    Raises CheckpointError, ConfigError and DataError for what cannot be loaded or written.
    """
    log = None
    if not arguments.no_log:
        about = {"model": model_arguments.model_name_or_path, "adapter": arguments.adapter}
        log = ChatLog(arguments.log_dir, about)
    talk = Talk(load_session(model_arguments, arguments), arguments.system, log)
    sys.stderr.write(DISCLAIMER.read_text(encoding="utf-8"))
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if sys.stdin.isatty():
        # What is no text is refused with a sentence when it is asked.
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
        Terminal(talk, options).run()
    else:
        answer_lines(talk, sys.stdin.buffer, sys.stdout, options)


def load_session(model_arguments: ModelArguments, arguments: ChatArguments) -> ChatSession:
    """Return a session with the model and its adapter, on the GPU where there is one.

    Raises CheckpointError, ConfigError and DataError.
    """
    tokenizer = load_tokenizer(model_arguments, arguments.adapter)
    model: PreTrainedModel = load_model(model_arguments)
    if arguments.adapter:
        warn_of_other_bits(model_arguments, arguments.adapter)
        model = load_adapter(model, arguments.adapter)
    check_sizes(model, tokenizer, model_arguments.model_name_or_path)
    if torch.cuda.is_available() and model.device.type != "cuda":
        model = model.to("cuda")  # a quantised model is there already, and refuses to be moved
    return ChatSession(model, tokenizer, arguments.max_length)
