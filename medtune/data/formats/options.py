"""What a user may say about files instead of having it found: the flag always wins."""

from dataclasses import dataclass

from medtune.arguments import AUTO


@dataclass(frozen=True)
class FormatOptions:
    """How files are to be read. AUTO: found from the content.

    data_format: a name of conversations.FORMATS.   encoding: a name of files.ENCODINGS.
    prompt_column, response_column, history_column: the fields of a question, its answer and the
    turns before it, where they have names of their own.   doc_separator: see texts.
    """

    data_format: str = AUTO
    encoding: str = AUTO
    prompt_column: str | None = None
    response_column: str | None = None
    history_column: str | None = None
    doc_separator: str = "blank_line"


FOUND = FormatOptions()
