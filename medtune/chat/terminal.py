"""The chat at a terminal: a prompt, commands that begin with a slash, answers as they come."""

import importlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from medtune.arguments import SamplingArguments
from medtune.chat.log import as_row, open_private
from medtune.chat.session import CANCEL, CONTEXT, LENGTH, Answer
from medtune.chat.talk import Talk, visible
from medtune.common.errors import MedtuneError
from medtune.data.records import Message

Command = Callable[[str], bool]


class Terminal:
    """A conversation with a person. `messages` are its questions and answers, in turn."""

    def __init__(self, talk: Talk, options: SamplingArguments) -> None:
        """Begin without a word said."""
        self.talk = talk
        self.options = options
        self.messages: list[Message] = []
        self.num_left_out = 0  # turns that the last answer did not know of
        self.num_retries = 0
        self.notes = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        self.commands: dict[str, tuple[Command, str]] = {
            "/clear": (self._clear, "begin anew; the system message stays"),
            "/undo": (self._undo, "take the last question and its answer back"),
            "/retry": (self._retry, "answer the last question again, with the next seed"),
            "/save": (self._save, "FILE: write the conversation as a line of JSON"),
            "/system": (self._system, "TEXT: set the system message; without a text: none"),
            "/help": (self._help, "these lines"),
            "/quit": (self._quit, "leave; so does Ctrl-D. Ctrl-C stops an answer"),
        }

    def run(self) -> None:
        """Read and answer until /quit or Ctrl-D."""
        with suppress(ImportError):
            importlib.import_module("readline")  # gives input() a history and keys to edit
        self._say("/help lists the commands.")
        while True:
            try:
                if not self.take(input(self.prompt)):
                    return
            except EOFError:
                show("\n")
                return
            except KeyboardInterrupt:
                show("\n")
                self._say("/quit or Ctrl-D leaves.")

    @property
    def prompt(self) -> str:
        """How long the conversation is, and how much of it no longer reaches the model."""
        left_out = f", {self.num_left_out} left out" if self.num_left_out else ""
        return f"[{turns(len(self.messages) // 2)}{left_out}] > "

    def take(self, line: str) -> bool:
        """Do what a line says; False if it is to be the last one."""
        if not line.strip():
            return True
        if not line.startswith("/"):
            self._ask(self.messages, line.strip(), self.options)
            return True
        name, _, rest = line.partition(" ")
        if name not in self.commands:
            self._say(
                f"{name}: no such command, /help lists them. A question that begins with a slash "
                "wants a blank before it."
            )
            return True
        return self.commands[name][0](rest.strip())

    # -- answers

    def _ask(self, history: list[Message], question: str, options: SamplingArguments) -> bool:
        """Show the answer; if there is one, the conversation is `history` with this turn.

        A turn without an answer, refused or stopped before a word, leaves all as it was.
        """
        try:
            answer = self.talk.ask(history, question, options)
            if answer.num_left_out > self.num_left_out:
                self._say(
                    f"{turns(answer.num_left_out)} at the beginning left out: the model has room "
                    f"for {self.talk.session.context_length:,} tokens."
                )
            with cancelled_by_interrupt(answer):
                for piece in answer.pieces:
                    show(visible(piece))
        except MedtuneError as error:
            self._say(f"error: {error}", style="red")
            return False
        show("\n")
        self.num_left_out = answer.num_left_out
        endings = {
            CANCEL: "stopped.",
            LENGTH: f"cut at --max_new_tokens {options.max_new_tokens:,}.",
            CONTEXT: f"cut: the {self.talk.session.context_length:,} tokens that the model has "
            "room for are full.",
        }
        if answer.ended_by in endings:
            self._say(endings[answer.ended_by])
        if not answer.text:
            self._say("no answer: the question is taken back.")
            return False
        self.messages = [*history, Message("user", question), Message("assistant", answer.text)]
        return True

    def _say(self, text: str, style: str = "dim") -> None:
        self.notes.print(visible(text), style=style, markup=False)

    # -- commands: each takes what follows its name and says whether the chat goes on

    def _clear(self, _: str) -> bool:
        self.messages, self.num_left_out = [], 0
        self.talk.session.forget()
        self._say("cleared.")
        return True

    def _undo(self, _: str) -> bool:
        self._say("taken back." if self.messages else "nothing to take back.")
        del self.messages[-2:]
        self.num_left_out = 0  # the next question finds out
        return True

    def _retry(self, _: str) -> bool:
        if not self.messages:
            self._say("nothing to answer again.")
            return True
        if self.options.temperature == 0:
            self._say("--temperature 0 gives the same answer to the same question.")
        self.num_retries += 1
        options = replace(self.options, seed=self.options.seed + self.num_retries)
        self._ask(self.messages[:-2], self.messages[-2].content, options)
        return True

    def _save(self, name: str) -> bool:
        if not name:
            self._say("/save FILE: expected the name of a new file, found none.")
            return True
        path = Path(name).expanduser()
        try:
            with open_private(path) as file:
                row = as_row(self.talk.messages(self.messages))
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._say(f"saved: {path}")
        except OSError as error:
            self._say(f"not saved: expected a new file that can be written: {error}", style="red")
        return True

    def _system(self, text: str) -> bool:
        self.talk.system = text or None
        self._say("system message set." if text else "no system message any more.")
        return True

    def _help(self, _: str) -> bool:
        for name, (_command, what) in self.commands.items():
            self._say(f"{name:8} {what}")
        return True

    def _quit(self, _: str) -> bool:
        return False


def show(text: str) -> None:
    """Write to standard output at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def turns(number: int) -> str:
    """Return a number of turns in words."""
    return f"{number} turn{'' if number == 1 else 's'}"


@contextmanager
def cancelled_by_interrupt(answer: Answer) -> Iterator[None]:
    """Let Ctrl-C stop the answer between two tokens, and not the program."""

    def cancel(number: int, frame: FrameType | None) -> None:
        answer.cancel()

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
