"""Our records as datatrove's documents and back: text for its steps, the record beside it.

A document's `text` is all that the record says, a line a text. What else the record is stands in
`metadata["record"]`, in lists and dicts, so that any writer of datatrove can store it. Only the
text of running text is read back from `text`: a step of datatrove that rewrites it does so to
records of that kind alone.
"""

from collections.abc import Iterable
from typing import Any

from datatrove.data import Document

from medtune.common.errors import DataError
from medtune.data.formats.inspection import CONVERSATION, PREFERENCE, TEXT
from medtune.data.parts import Reject
from medtune.data.privacy.scanner import texts_of
from medtune.data.records import Conversation, Message, PreferencePair, Record, Source, TextRecord

RECORD, REJECT, REASON = "record", "reject", "filter_reason"  # the last one is datatrove's


def document_of(record: Record) -> Document:
    """Return the document of a record; its id is `path:line`."""
    return Document(
        "\n".join(texts_of(record)), str(record.source), [], {RECORD: fields_of(record)}
    )


def fields_of(record: Record) -> dict[str, Any]:
    """Return a record as JSON can hold it, running text without its text."""
    place = {"path": record.source.path, "line": record.source.line}
    if isinstance(record, TextRecord):
        return {"kind": TEXT, **place}
    if isinstance(record, Conversation):
        return {"kind": CONVERSATION, **place, "messages": dicts_of(record.messages)}
    answers = {"chosen": record.chosen, "rejected": record.rejected}
    return {"kind": PREFERENCE, **place, "prompt": dicts_of(record.prompt), **answers}


def dicts_of(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Return messages as dicts."""
    return [message.to_dict() for message in messages]


def record_of(document: Document) -> Record:
    """Return the record that a document was made of. DataError for another reader's document."""
    fields = document.metadata.get(RECORD)
    if fields is None:
        raise DataError(
            f"{document.id}: expected a document of RecordReader, found one without a record; "
            "begin the pipeline with RecordReader."
        )
    source = Source(fields["path"], fields["line"])
    if fields["kind"] == TEXT:
        return TextRecord(document.text, source)
    if fields["kind"] == CONVERSATION:
        return Conversation(messages_of(fields["messages"]), source)
    prompt = messages_of(fields["prompt"])
    return PreferencePair(prompt, fields["chosen"], fields["rejected"], source)


def messages_of(dicts: Iterable[dict[str, Any]]) -> tuple[Message, ...]:
    """Return the messages that dicts_of was called on."""
    return tuple(Message(message["role"], message["content"]) for message in dicts)


def replace_record(document: Document, record: Record) -> None:
    """Put another record into a document."""
    new = document_of(record)
    document.text = new.text
    document.metadata[RECORD] = new.metadata[RECORD]


def document_of_reject(reject: Reject) -> Document:
    """Return a document for a row that became no record, for a writer of rejects."""
    return Document("", str(reject.source), [], {REASON: reject.reason, REJECT: reject.to_dict()})
