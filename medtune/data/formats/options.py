"""What a user may say about files instead of having it found: the flag always wins."""

from dataclasses import dataclass

from medtune.arguments import FormatArguments


@dataclass(kw_only=True)
class FormatOptions(FormatArguments):
    """How files are to be read: the user's options, checked, and what a document of text is."""

    doc_separator: str = "blank_line"


FOUND = FormatOptions()
