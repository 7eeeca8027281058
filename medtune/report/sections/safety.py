"""Safety probes by category, and which answers a stage made unsafe or safe."""

from collections.abc import Iterator

from medtune.report.answers import SAFE, Item, join_items
from medtune.report.blocks import Block, Cell, Note, Section, Table, text_cell
from medtune.report.chain import Chain
from medtune.report.drawing import draw_share
from medtune.report.evaluations import Sample
from medtune.report.texts import NOTHING, Words, quantity, say

SAFETY, CATEGORY = "safety", "category"
COLUMNS = ("id", "category", "prompt", "answer_before", "answer_after")
MAX_LISTED, MAX_CHARACTERS = 40, 160


def build_safety(chain: Chain) -> Section:
    """Return the share of safe answers by category, regressions and corrections of each step."""
    title = say("section.safety")
    items = [item for item in join_items(chain.evaluations, SAFETY) if any_safe(item)]
    if not items:
        return Section("safety", title, [Note(say("safety.none"))])
    blocks: list[Block] = [Note(say("safety.note"), tone="warning"), table_of_shares(chain, items)]
    position = {one.name: place for place, one in enumerate(chain.evaluations)}
    for step in chain.steps:
        before, after = position[step.before.name], position[step.after.name]
        for was_safe, key in ((True, "regressions"), (False, "corrections")):
            moved = [item for item in items if has_moved(item, before, after, was_safe)]
            names = {"before": step.before.title, "after": step.after.title}
            caption = say(f"safety.{key}", num=len(moved), **names)
            blocks.append(table_of_moved(caption, moved, before, after) if moved else Note(caption))
    return Section("safety", title, blocks)


def any_safe(item: Item) -> bool:
    """True if an answer to it was judged."""
    return any(flag is not None for flag in item.flags(SAFE))


def has_moved(item: Item, before: int, after: int, was_safe: bool) -> bool:
    """True if an answer was safe (or unsafe) in one model and is not in the next."""
    flags = item.flags(SAFE)
    return flags[before] is was_safe and flags[after] is (not was_safe)


def table_of_shares(chain: Chain, items: list[Item]) -> Table:
    """Return the share of safe answers of each model: in all, then in each category."""
    categories: dict[str, list[Item]] = {}
    for item in items:
        categories.setdefault(str(item.first.groups.get(CATEGORY, NOTHING)), []).append(item)
    groups: list[tuple[Words, list[Item]]] = [(say("safety.all"), items), *categories.items()]
    rows = [
        [text_cell(name), *(share_of(members, n) for n in range(len(chain.evaluations)))]
        for name, members in groups
    ]
    columns = [say("safety.category"), *(one.title for one in chain.evaluations)]
    return Table(say("safety.caption"), columns, rows)


def share_of(items: list[Item], position: int) -> Cell:
    """Return how many answers of one model are safe, as a bar and in numbers."""
    flags = [flag for item in items if (flag := item.flags(SAFE)[position]) is not None]
    if not flags:
        return Cell(NOTHING, tone="faint")
    share = sum(flags) / len(flags)
    words = f"{quantity(share, 'fraction')} ({sum(flags):,}/{len(flags):,})"
    return Cell(words, svg=draw_share(share))


def table_of_moved(caption: Words, items: list[Item], before: int, after: int) -> Table:
    """Return probes with what the later model answers to them."""
    columns: list[Words] = [say(f"safety.{name}") for name in COLUMNS]
    return Table(caption, columns, list(rows_of(items, before, after)))


def rows_of(items: list[Item], before: int, after: int) -> Iterator[list[Cell]]:
    """Yield a row for each probe, and one that says how many are left out."""
    for item in items[:MAX_LISTED]:
        category = str(item.first.groups.get(CATEGORY, NOTHING))
        answers = [sample.output or NOTHING for sample in both(item, before, after)]
        texts = (item.id, category, item.first.prompt, *answers)
        yield [text_cell(cut(text)) for text in texts]
    if len(items) > MAX_LISTED:
        yield [text_cell(say("safety.more", num=len(items) - MAX_LISTED))] + [Cell()] * 4


def both(item: Item, before: int, after: int) -> Iterator[Sample]:
    """Yield the two answers to a probe of which the judgement differs."""
    for place in (before, after):
        sample = item.samples[place]
        assert sample is not None, "what moved was answered"
        yield sample


def cut(text: str) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…"
