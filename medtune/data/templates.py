"""A chat template taken apart: what it writes itself, and where it puts what was said.

The template is asked once for each sequence of roles, with a stand-in for every content. What it
writes for real contents must be the same around them: training and chat would differ otherwise.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from medtune.common.errors import DataError
from medtune.data.encoding import PlainEncoder
from medtune.data.records import Message, Role

# Families that can think aloud (Qwen3) are asked for the reply alone: no other template reads this.
OPTIONS = {"tokenize": False, "enable_thinking": False}
# Private-use characters around a number stand for a message's content while the template runs.
PLACEHOLDER = re.compile("\ue000([0-9]+)\ue001")


class Run(NamedTuple):
    """Text that is encoded as a whole, and the control token that ends it (None at the end).

    parts: what the template writes, and the numbers of the messages whose content stands between.
    A run's tokens may reach across the border of template and content, as the stock tokenizer's do.
    """

    parts: tuple[str | int, ...]
    control: int | None

    def text(self, contents: Sequence[str]) -> str:
        """Return the run with the contents in their places."""
        return "".join([part if isinstance(part, str) else contents[part] for part in self.parts])


class Skeleton(NamedTuple):
    """What the template makes of these roles, whatever is said: literals around message numbers."""

    pieces: list[str]  # odd ones are message numbers
    runs: list[Run]

    def text(self, contents: Sequence[str]) -> str:
        """Return the rendered text with the contents in their places."""
        pieces = list(self.pieces)
        pieces[1::2] = [contents[int(number)] for number in pieces[1::2]]
        return "".join(pieces)


class Place(NamedTuple):
    """Where a rendered prefix ends: after `num_runs` whole runs and the text of `tail`."""

    num_runs: int
    tail: Run | None


def find_place(whole: Skeleton, prefix: Skeleton) -> Place | None:
    """Return where `prefix` ends in `whole`; None if it is not written at its beginning."""
    *closed, last = prefix.runs
    if closed != whole.runs[: len(closed)]:
        return None
    if not last.parts:
        return Place(len(closed), None)
    *before, tail = last.parts
    parts = whole.runs[len(closed)].parts
    if list(parts[: len(before)]) != before or len(parts) == len(before):
        return None
    part = parts[len(before)]
    is_start = isinstance(part, str) and isinstance(tail, str) and part.startswith(tail)
    return Place(len(closed), last) if part == tail or is_start else None


class ChatTemplate:
    """The chat template of a tokenizer. Raises DataError where it is missing, fails or rewrites."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, encoder: PlainEncoder) -> None:
        """Refuse a tokenizer without a chat template."""
        if not tokenizer.chat_template:
            raise DataError(
                f"{tokenizer.name_or_path}: expected a tokenizer with a chat template, found "
                "none; use the chat version of the model or add chat_template.jinja to its folder."
            )
        self.tokenizer = tokenizer
        self.encoder = encoder
        self._skeletons: dict[tuple[bool, tuple[Role, ...]], Skeleton] = {}
        self._heads: dict[tuple[bool, tuple[Role, ...]], tuple[Skeleton, dict[int, Run]]] = {}

    def take_apart(
        self, messages: Sequence[Message], for_reply: bool
    ) -> tuple[Skeleton, list[str]]:
        """Return the skeleton and the contents as they are written: as they are, or stripped.

        Raises DataError if the template writes something else.
        """
        roles = tuple(message.role for message in messages)
        contents = [message.content for message in messages]
        written = self.write(messages, for_reply)
        for _ in range(2):
            skeleton = self.skeleton(roles, for_reply)
            for variant in (contents, [content.strip() for content in contents]):
                if skeleton.text(variant) == written:
                    return skeleton, variant
            self._skeletons.clear()  # a template that writes the date may have written another one
        raise self._rewritten()

    def skeleton(self, roles: tuple[Role, ...], for_reply: bool) -> Skeleton:
        """Return what the template makes of these roles; it is asked once."""
        if (for_reply, roles) not in self._skeletons:
            stand_ins = [
                Message(role, f"\ue000{number}\ue001") for number, role in enumerate(roles)
            ]
            pieces = PLACEHOLDER.split(self.write(stand_ins, for_reply))
            if {int(number) for number in pieces[1::2]} != set(range(len(roles))):
                raise self._rewritten()
            self._skeletons[for_reply, roles] = Skeleton(pieces, self._runs(pieces))
        return self._skeletons[for_reply, roles]

    def heads(self, roles: tuple[Role, ...], for_reply: bool) -> dict[int, Run]:
        """Return, by the number of a run, what of it stands in the prompt of the reply in it."""
        whole = self.skeleton(roles, for_reply)
        known = self._heads.get((for_reply, roles))
        if known is None or known[0] is not whole:
            heads = {}
            for number, role in enumerate(roles):
                place = None
                if role == "assistant":
                    place = find_place(whole, self.skeleton(roles[:number], True))
                if place is not None and place.tail is not None:
                    heads[place.num_runs] = place.tail
            known = self._heads[for_reply, roles] = (whole, heads)
        return known[1]

    def _runs(self, pieces: list[str]) -> list[Run]:
        runs = []
        parts: list[str | int] = []
        for position, piece in enumerate(pieces):
            if position % 2:
                parts.append(int(piece))
                continue
            for literal, control in self.encoder.split(piece):
                if literal:
                    parts.append(literal)
                if control is not None:
                    runs.append(Run(tuple(parts), self.encoder.controls[control]))
                    parts = []
        return [*runs, Run(tuple(parts), None)]

    def write(self, messages: Sequence[Message], for_reply: bool) -> str:
        """Return the rendered text. Raises DataError if the template does."""
        try:
            return self.tokenizer.apply_chat_template(
                [message.to_dict() for message in messages],
                add_generation_prompt=for_reply,
                **OPTIONS,
            )
        except Exception as error:  # a template is a program: it may raise anything
            roles = [message.role for message in messages]
            raise DataError(
                f"{self.tokenizer.name_or_path}: the chat template refuses the roles {roles}: "
                f"{error}"
            ) from error

    def write_batch(self, conversations: Sequence[Sequence[Message]]) -> list[str] | list[None]:
        """Return the rendered texts, or None for each if the template fails for any of them."""
        try:
            return self.tokenizer.apply_chat_template(
                [[message.to_dict() for message in messages] for messages in conversations],
                **OPTIONS,
            )
        except Exception:  # a template is a program: it may raise anything
            return [None] * len(conversations)

    def _rewritten(self) -> DataError:
        return DataError(
            f"{self.tokenizer.name_or_path}: the chat template rewrites or drops what was said (it "
            "may refuse a system message, fold old turns or take <think> blocks out of replies); "
            "training on it would differ from chat."
        )
