"""The chat at a terminal: a prompt, commands that begin with a slash, answers as they come."""

import importlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from medtune.arguments import SamplingArguments
from medtune.chat.answer import CANCEL, CONTEXT, LENGTH, REPETITION, Answer
from medtune.chat.log import as_row, open_private
from medtune.chat.talk import Talk, visible
from medtune.common.errors import DataError, MedtuneError
from medtune.data.formats.checks import RowError
from medtune.data.formats.conversations import conversation_from_row
from medtune.data.records import Message, Source

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
        self.compared: list[str] = []  # models that are asked beside the one that answers
        self.notes = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        self.commands: dict[str, tuple[Command, str]] = {
            "/clear": (self._clear, "begin anew; the system message stays"),
            "/undo": (self._undo, "take the last question and its answer back"),
            "/retry": (self._retry, "answer the last question again, with the next seed"),
            "/save": (self._save, "FILE: write the conversation as a line of JSON"),
            "/load": (self._load, "FILE: go on with a conversation that was saved"),
            "/params": (self._params, "NAME=VALUE …: how answers are drawn; alone: show it"),
            "/model": (self._model, "NAME: who answers from now on; alone: who can"),
            "/compare": (self._compare, "NAME …: ask these too, side by side; off: no more"),
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
                if not self.take(self._read()):
                    return
            except EOFError:
                show("\n")
                return
            except KeyboardInterrupt:
                show("\n")
                self._say("/quit or Ctrl-D leaves.")

    def _read(self) -> str:
        """Return what a person enters; a backslash at the end of a line goes on with the next."""
        line = input(self.prompt)
        while line.endswith("\\"):
            line = f"{line[:-1]}\n{input('... ')}"
        return line

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
        names = [self.talk.name, *(name for name in self.compared if name != self.talk.name)]
        answers: list[Answer] = []
        try:
            for name in names:  # all are computed at one time, and shown one after the other
                answers.append(self.talk.ask(history, question, options, name))
            answer = answers[0]
            if answer.num_left_out > self.num_left_out:
                self._say(
                    f"{turns(answer.num_left_out)} at the beginning left out: the model has room "
                    f"for {self.talk.session.context_length:,} tokens."
                )
            if answer.advice:
                self._say(answer.advice, style="bold red")
            with cancelled_by_interrupt(answers):
                for name, one in zip(names, answers, strict=True):
                    if len(names) > 1:
                        self._say(f"-- {name}", style="bold")
                    self._show(one, options, self.talk.sessions[name].context_length)
        except MedtuneError as error:
            self._say(f"error: {error}", style="red")
            return False
        finally:  # where one is refused, nobody reads the others
            for one in answers:
                one.cancel()
        self.num_left_out = answer.num_left_out
        if not answer.text:
            self._say("no answer: the question is taken back.")
            return False
        self.messages = [*history, Message("user", question), Message("assistant", answer.text)]
        return True

    def _show(self, answer: Answer, options: SamplingArguments, context_length: int) -> None:
        """Show an answer as it comes, and how it ended."""
        for piece in answer.pieces:
            show(visible(piece))
        show("\n")
        endings = {
            CANCEL: "stopped.",
            LENGTH: f"cut at --max_new_tokens {options.max_new_tokens:,}.",
            REPETITION: "stopped: it repeats itself.",
            CONTEXT: f"cut: the {context_length:,} tokens that the model has room for are full.",
        }
        if answer.ended_by in endings:
            self._say(endings[answer.ended_by])

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

    def _load(self, name: str) -> bool:
        if not name:
            self._say("/load FILE: expected the name of a file of /save or of a log, found none.")
            return True
        try:
            system, messages = read_conversation(Path(name).expanduser())
        except DataError as error:
            self._say(f"not loaded: {error}", style="red")
            return True
        self.talk.system, self.messages, self.num_left_out = system, messages, 0
        self._say(f"loaded: {turns(len(messages) // 2)}.")
        return True

    def _params(self, text: str) -> bool:
        types: dict[str, Any] = {field.name: field.type for field in fields(self.options)}
        try:
            changes = dict(word.split("=", 1) for word in text.split())
            self.options = replace(
                self.options, **{name: types[name](value) for name, value in changes.items()}
            )
        except MedtuneError as error:
            self._say(f"error: {error}", style="red")
        except (KeyError, ValueError):
            self._say("/params: expected NAME=VALUE, with a number and a name of those below.")
        self._say(" ".join(f"{name}={getattr(self.options, name)}" for name in types))
        return True

    def _model(self, name: str) -> bool:
        if name in self.talk.sessions:
            self.talk.name = name
        elif name:
            self._say(f"/model {name}: no such model.")
        chosen = {other: "is compared" for other in self.compared} | {self.talk.name: "answers"}
        for other in self.talk.sessions:
            self._say(f"{other:20} {chosen.get(other, '')}".rstrip())
        return True

    def _compare(self, text: str) -> bool:
        names = [] if text == "off" else text.split()
        if unknown := [name for name in names if name not in self.talk.sessions]:
            self._say(f"/compare: no such model: {', '.join(unknown)}; /model lists them.")
            return True
        others = [name for name in self.talk.sessions if name != self.talk.name]
        self.compared = names or ([] if text == "off" else others)
        self._say(f"compared with: {', '.join(self.compared) or 'none'}.")
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


def read_conversation(path: Path) -> tuple[str | None, list[Message]]:
    """Return system message and turns of the last line of a file of /save or of a log.

    Raises DataError.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        row = json.loads(lines[-1])
        if not isinstance(row, dict):
            raise ValueError("found no object")
        messages = list(conversation_from_row(row, Source(str(path), len(lines))).messages)
    except (OSError, ValueError, IndexError, RowError) as error:
        raise DataError(f"{path}: expected a line with messages: {error}") from error
    system = messages.pop(0).content if messages[0].role == "system" else None
    return system, messages


@contextmanager
def cancelled_by_interrupt(answers: Sequence[Answer]) -> Iterator[None]:
    """Let Ctrl-C stop the answers between two tokens, and not the program."""

    def cancel(number: int, frame: FrameType | None) -> None:
        for answer in answers:
            answer.cancel()

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
