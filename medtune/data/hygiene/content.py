"""What a record says: its normalised texts, and the rules that look at one record alone.

`empty_phrases.json` holds the phrases that say nothing: courtesies as answers, fillers as
questions. Letters and digits of a phrase count; case, spaces and punctuation do not.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from medtune.common.text import nfkc
from medtune.data.records import Message, PreferencePair, Record, TextRecord

Turn = tuple[str, str]  # role, normalised text

PHRASES_FILE = Path(__file__).with_name("empty_phrases.json")
NOT_CONTENT = re.compile(r"[\W_]+")


class Texts(NamedTuple):
    """The normalised texts of a record, by what they are for."""

    said: list[Turn]  # all of them; a pair's answers have the roles chosen and rejected
    question: list[Turn]  # what answers are compared under; a document has none
    answers: list[str]  # what is learnt from: the assistant's turns, or the chosen answer


def texts_of(record: Record) -> Texts:
    """Return the texts of a record.

    The question of a conversation is its system message and first user turn; that of a pair is its
    whole prompt.
    """
    if isinstance(record, TextRecord):
        return Texts([("text", normalise(record.text))], [], [])
    if isinstance(record, PreferencePair):
        prompt = turns_of(record.prompt)
        chosen, rejected = normalise(record.chosen), normalise(record.rejected)
        return Texts([*prompt, ("chosen", chosen), ("rejected", rejected)], prompt, [chosen])
    turns = turns_of(record.messages)
    num_asked = 2 if turns[0][0] == "system" else 1
    return Texts(turns, turns[:num_asked], [text for role, text in turns if role == "assistant"])


def turns_of(messages: Iterable[Message]) -> list[Turn]:
    """Return role and normalised text of each message."""
    return [(message.role, normalise(message.content)) for message in messages]


def normalise(text: str) -> str:
    """Return the text in NFKC, each run of white space as one space, none at the ends."""
    return " ".join(nfkc(text).split())


def phrase_pattern(phrases: Iterable[str]) -> re.Pattern[str]:
    """Return what matches letters and digits that are these phrases and nothing else.

    The longest phrase is taken and never given back, so that the time is linear in the text.
    """
    contents = {content_of(phrase) for phrase in phrases}
    longest_first = sorted(contents, key=lambda content: (-len(content), content))
    return re.compile(f"(?:{'|'.join(longest_first)})++")


def content_of(text: str) -> str:
    """Return the letters and digits of a text, without case."""
    return NOT_CONTENT.sub("", text).casefold()


PHRASES = json.loads(PHRASES_FILE.read_text(encoding="utf-8"))
EMPTY_ANSWER, EMPTY_QUESTION = (phrase_pattern(PHRASES[name]) for name in ("answers", "questions"))


def has_replacement_character(texts: Texts) -> bool:
    """True if bytes were lost when the record was decoded."""
    return any("\ufffd" in text for _, text in texts.said)


def is_one_sided(texts: Texts) -> bool:
    """True for a conversation or a prompt in which no user turn says anything."""
    asked = [content_of(text) for role, text in texts.said if role == "user"]
    return bool(asked) and all(not text or EMPTY_QUESTION.fullmatch(text) for text in asked)


def is_boilerplate(texts: Texts, min_answer_characters: int) -> bool:
    """True if no answer says anything: courtesies alone, or fewer letters than demanded."""
    answers = [content_of(text) for text in texts.answers]
    return bool(answers) and all(
        len(text) < min_answer_characters or EMPTY_ANSWER.fullmatch(text) for text in answers
    )
