"""From options to a chat: at a terminal, in a pipe, with a file of questions, over HTTP."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from medtune.arguments import (
    ChatArguments,
    ModelArguments,
    SamplingArguments,
    ServingArguments,
)
from medtune.chat.batch import answer_file
from medtune.chat.engine import Engine
from medtune.chat.loading import load_sessions
from medtune.chat.log import ChatLog
from medtune.chat.piping import answer_lines
from medtune.chat.talk import Talk
from medtune.chat.terminal import Terminal
from medtune.chat.web.server import Api
from medtune.chat.web.serving import is_asked_for, serve
from medtune.common.errors import ConfigError
from medtune.safety.red_flags import advice_for

DISCLAIMER = Path(__file__).with_name("disclaimer.txt")


def run_chat(
    model_arguments: ModelArguments,
    arguments: ChatArguments,
    options: SamplingArguments,
    serving: ServingArguments,
) -> None:
    """Talk until there is no more input, or serve until Ctrl-C.

    Raises CheckpointError, ConfigError and DataError for what cannot be loaded or written.
    """
    if is_asked_for(serving):
        if arguments.batch:
            raise ConfigError("--batch and --web or --api clash: give one of them.")
        engine = Engine(serving.max_queue)
        sessions = load_sessions(model_arguments, arguments, engine)
        # A core stays free for the connections: threads that wait for it wait for each other.
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
        sys.setswitchinterval(0.0005)  # seconds; the default 5 ms hold each step up
        engine.start()
        serve(Api(sessions, serving, arguments, options, advice_for), serving)
        return
    is_asked_at_once = arguments.batch or not sys.stdin.isatty()
    if arguments.compare and is_asked_at_once:
        raise ConfigError(
            "--compare: expected a terminal, --web or --api to show answers side by side, found "
            "--batch or a pipe, where one model answers. Run it once for each model."
        )
    log = None
    if not arguments.no_log:
        about = {
            "model": model_arguments.model_name_or_path,
            "adapter": arguments.adapter,
            "compare": arguments.compare,
        }
        log = ChatLog(arguments.log_dir, about)
    sessions = load_sessions(model_arguments, arguments, Engine())
    talk = Talk(sessions, arguments.system, log)
    sys.stderr.write(DISCLAIMER.read_text(encoding="utf-8"))
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if arguments.batch:
        with suppress_broken_pipe():
            answer_file(talk, Path(arguments.batch), sys.stdout, options)
    elif sys.stdin.isatty():
        # What is no text is refused with a sentence when it is asked.
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
        num_compared = len({*arguments.compare} - {arguments.adapter})
        terminal = Terminal(talk, options)
        terminal.compared = list(sessions)[1 : 1 + num_compared]
        terminal.run()
    else:
        with suppress_broken_pipe():
            answer_lines(talk, sys.stdin.buffer, sys.stdout, options)


@contextmanager
def suppress_broken_pipe() -> Iterator[None]:
    """Stop without a word when the reader of the answers has what it wants, as `head` does."""
    try:
        yield
    except BrokenPipeError:
        # Python would flush once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
