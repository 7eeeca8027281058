"""Patients' data in Chinese medical text: where it stands, and the text with it masked.

Numbers are known by their form and check digit or by the word before them, names and addresses by
the words around them (docs/privacy.md has what is not found). What is found is never logged: a
Finding holds a place, not the text.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

from medtune.data.records import Conversation, Message, PreferencePair, RecordT, TextRecord


class Kind(StrEnum):
    """A kind of patients' data; of two that fit the same characters, the first one here is it."""

    IDENTITY_NUMBER = "identity_number"
    EMAIL = "email"
    RECORD_NUMBER = "record_number"
    BANK_CARD = "bank_card"
    MOBILE_NUMBER = "mobile_number"
    LANDLINE_NUMBER = "landline_number"
    MESSENGER = "messenger"
    NAME = "name"
    ADDRESS = "address"


PLACEHOLDERS = {
    Kind.IDENTITY_NUMBER: "【身份证号】",
    Kind.EMAIL: "【邮箱】",
    Kind.RECORD_NUMBER: "【病历号】",
    Kind.BANK_CARD: "【银行卡号】",
    Kind.MOBILE_NUMBER: "【手机号】",
    Kind.LANDLINE_NUMBER: "【座机号】",
    Kind.MESSENGER: "【社交账号】",
    Kind.NAME: "【姓名】",
    Kind.ADDRESS: "【地址】",
}
PRIORITY = {kind: number for number, kind in enumerate(Kind)}


class Finding(NamedTuple):
    """A place in a text, as a half-open range of characters, and what kind of data stands there."""

    kind: Kind
    start: int
    end: int


# One character for one, so that places in the normalised text are places in the text.
FULL_WIDTH = {
    code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code) not in "，：；（）！？"
}
FULL_WIDTH |= {0x3000: ord(" "), 0xA0: ord(" "), 0x2010: ord("-"), 0x2011: ord("-")}
IS_FULL_WIDTH = re.compile("[" + "".join(map(re.escape, map(chr, FULL_WIDTH))) + "]")


def normalise(text: str) -> str:
    """Return the text with ASCII for full-width digits, letters and signs, as long as before."""
    return text.translate(FULL_WIDTH) if IS_FULL_WIDTH.search(text) else text


@cache
def recognizers() -> list[Any]:
    """Return Presidio's recognizers; the import takes seconds, so it waits for the first scan."""
    from medtune.data.privacy.recognizers import build_recognizers

    return build_recognizers()


def scan_text(text: str) -> list[Finding]:
    """Return the places of patients' data, in order and without overlap.

    Of findings that overlap the longest stays; of equal ones the kind that is first in Kind.
    Example: "电话13912345678" -> [Finding(Kind.MOBILE_NUMBER, 2, 13)]
    """
    text = normalise(text)
    found = [
        Finding(Kind(result.entity_type), result.start, result.end)
        for recognizer in recognizers()
        for result in recognizer.analyze(text, recognizer.supported_entities)
    ]
    kept: list[Finding] = []
    is_taken = bytearray(len(text))
    for finding in sorted(found, key=lambda f: (f.start - f.end, PRIORITY[f.kind], f.start)):
        if not any(is_taken[finding.start : finding.end]):
            is_taken[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
            kept.append(finding)
    return sorted(kept, key=lambda finding: finding.start)


def mask_text(text: str, findings: list[Finding]) -> str:
    """Return the text with its kind's placeholder in the place of each finding."""
    parts, end = [], 0
    for finding in findings:
        parts += [text[end : finding.start], PLACEHOLDERS[finding.kind]]
        end = finding.end
    return "".join([*parts, text[end:]])


def scan_record(record: Conversation | PreferencePair | TextRecord) -> Counter[Kind]:
    """Return how many findings of each kind the texts of a record hold."""
    return Counter(finding.kind for text in texts_of(record) for finding in scan_text(text))


def mask_record(record: RecordT) -> RecordT:
    """Return the record with its texts masked, or the record itself if nothing is found.

    Two answers of a pair that differ in masked data alone become equal.
    """

    def mask(text: str) -> str:
        return mask_text(text, scan_text(text))

    def mask_all(messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return tuple(Message(message.role, mask(message.content)) for message in messages)

    if isinstance(record, TextRecord):
        masked = replace(record, text=mask(record.text))
    elif isinstance(record, Conversation):
        masked = replace(record, messages=mask_all(record.messages))
    else:
        chosen, rejected = mask(record.chosen), mask(record.rejected)
        masked = replace(record, prompt=mask_all(record.prompt), chosen=chosen, rejected=rejected)
    return record if masked == record else masked


def texts_of(record: Conversation | PreferencePair | TextRecord) -> Iterator[str]:
    """Yield every text of a record, which is all that is scanned of it."""
    if isinstance(record, TextRecord):
        yield record.text
        return
    if isinstance(record, Conversation):
        yield from (message.content for message in record.messages)
        return
    yield from (message.content for message in record.prompt)
    yield from (record.chosen, record.rejected)
