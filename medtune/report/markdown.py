"""The report as Markdown, in one language: its tables and notes, without the drawings."""

import re
from collections.abc import Iterator

from medtune.report.blocks import (
    Block,
    Bullets,
    Cell,
    Figure,
    Note,
    Question,
    Questions,
    Section,
    Table,
)
from medtune.report.texts import Text, Words, in_language, say

MAX_QUESTIONS = 10  # of each task: the page has more
# What would start a tag, a link, an image, code, a table's cell or emphasis.
SIGNS = re.compile(r"([\\`*_\[\]<>|~&])")


def render_markdown(title: Text, sections: list[Section], language: str) -> str:
    """Return the report. language: zh or en."""
    lines = [f"# {escape(title, language)}", ""]
    for section in sections:
        lines += [f"## {escape(section.title, language)}", ""]
        for block in section.blocks:
            lines += [*lines_of(block, language), ""]
    return "\n".join(lines).rstrip() + "\n"


def escape(words: Words, language: str) -> str:
    """Return words on one line in which no sign means anything to Markdown."""
    return SIGNS.sub(r"\\\1", " ".join(in_language(words, language).split()))


def lines_of(block: Block, language: str) -> Iterator[str]:
    """Yield the lines of a block; none for a drawing, whose numbers stand in a table too."""
    match block:
        case Table():
            yield from lines_of_table(block, language)
        case Note():
            yield escape(block.words, language)
        case Bullets():
            yield f"**{escape(block.caption, language)}**"
            yield ""
            yield from (f"- {escape(item, language)}" for item in block.items)
        case Questions():
            for task, _ in block.tasks:
                of_task = [one for one in block.questions if one.task == task]
                for question in of_task[:MAX_QUESTIONS]:
                    yield from lines_of_question(question, language)
        case Figure():
            return


def lines_of_table(table: Table, language: str) -> Iterator[str]:
    """Yield the caption, the headings and the rows."""
    yield f"**{escape(table.caption, language)}**"
    yield ""
    is_number = [cell.is_number for cell in table.rows[-1]] if table.rows else []
    # The drawing of intervals has no words: its column is left out.
    drawn = {
        place for row in table.rows for place, cell in enumerate(row) if cell.svg and not cell.words
    }
    kept = [place for place in range(len(table.columns)) if place not in drawn]
    yield row_of([escape(table.columns[place], language) for place in kept])
    yield row_of(["---:" if is_number and is_number[place] else "---" for place in kept])
    for row in table.rows:
        if len(row) == 1:
            yield row_of([f"**{text_of(row[0], language)}**", *[""] * (len(kept) - 1)])
        else:
            yield row_of([text_of(row[place], language) for place in kept])


def row_of(cells: list[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def text_of(cell: Cell, language: str) -> str:
    """Return a cell on one line."""
    return "; ".join(escape(words, language) for words in (cell.words, *cell.below) if words)


def lines_of_question(question: Question, language: str) -> Iterator[str]:
    """Yield a question with all answers."""
    yield f"- **{escape(question.prompt, language)}**"
    if question.gold:
        yield f"  - {escape(say('answers.gold'), language)}: {escape(question.gold, language)}"
    for answer in question.answers:
        marks = ", ".join(escape(mark, language) for mark in answer.marks)
        shown = escape(answer.output, language)
        yield f"  - {escape(answer.model, language)}: {shown}{f' ({marks})' if marks else ''}"
