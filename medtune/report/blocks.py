"""What a section is made of, whatever it is written as: tables, figures, notes, questions."""

from dataclasses import dataclass, field

from markupsafe import Markup

from medtune.report.texts import Text, Words


@dataclass(frozen=True)
class Cell:
    """One cell of a table. below: smaller, under the words.   tone: better, worse, faint,
    exact or none.

    svg: drawn in the place of the words, which then are for who cannot see it.
    """

    words: Words = ""
    below: tuple[Words, ...] = ()
    svg: Markup | None = None
    tone: str = ""
    is_number: bool = True


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first cell of a row is its heading.

    A row of one cell is the heading of those below it.   is_folded: opened on demand.
    """

    caption: Words
    columns: list[Words]
    rows: list[list[Cell]]
    is_folded: bool = False
    kind = "table"


@dataclass(frozen=True)
class Note:
    """A paragraph. tone: warning, or none."""

    words: Words
    tone: str = ""
    kind = "note"


@dataclass(frozen=True)
class Bullets:
    """Several short lines under a caption."""

    caption: Words
    items: list[Words]
    kind = "bullets"


@dataclass(frozen=True)
class Figure:
    """A drawing; what it says stands in a table too."""

    caption: Words
    svg: Markup
    kind = "figure"


@dataclass(frozen=True)
class Answer:
    """What one model said. marks: cut off, malformed, safe, unsafe."""

    model: Words
    output: Words
    marks: list[Words] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """A question and each model's answer. is_changed: the models differ in more than wording."""

    task: str
    id: str
    prompt: Words
    gold: Words
    answers: list[Answer]
    is_changed: bool
    groups: Words = ""


@dataclass(frozen=True)
class Questions:
    """Questions to choose from. tasks: name and title of each."""

    tasks: list[tuple[str, Words]]
    questions: list[Question]
    kind = "questions"


Block = Table | Note | Bullets | Figure | Questions


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    key: str
    title: Text
    blocks: list[Block]


def text_cell(words: Words) -> Cell:
    """Return a cell of words, which stand on the left as numbers do not."""
    return Cell(words, is_number=False)


def exact_cell(words: Words) -> Cell:
    """Return a cell of signs that one compares one by one and that no line break may part."""
    return Cell(words, tone="exact", is_number=False)
