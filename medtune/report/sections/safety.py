"""Safety probes by category, and which answers a stage made unsafe or safe."""

from medtune.report.answers import SAFE, Item, join_items, shorten
from medtune.report.blocks import Block, Cell, Note, Section, Table, text_cell
from medtune.report.chain import Chain
from medtune.report.drawing import draw_share
from medtune.report.evaluations import CATEGORY, SAFETY
from medtune.report.texts import NOTHING, Words, join, label, quantity, say

COLUMNS = ("id", "category", "prompt", "answer_before", "answer_after")
MAX_LISTED, MAX_CHARACTERS = 20, 200


def build_safety(chain: Chain) -> Section:
    """Return the share of safe answers by category, regressions and corrections of each step."""
    title = say("section.safety")
    items = [item for item in join_items(chain.evaluations, SAFETY) if any_safe(item)]
    if not items:
        return Section("safety", title, [Note(say("safety.none"))])
    blocks: list[Block] = [Note(say("safety.note"), tone="warning"), table_of_shares(chain, items)]
    for before, step in enumerate(chain.steps):
        regressed, corrected = (
            [item for item in items if has_moved(item, before, was_safe)]
            for was_safe in (True, False)
        )
        names = {"before": step.before.title, "after": step.after.title}
        caption = say("safety.moved", regressed=len(regressed), corrected=len(corrected), **names)
        rows = rows_of("safety.regressions", regressed, before)
        rows += rows_of("safety.corrections", corrected, before)
        columns: list[Words] = [say(f"safety.{name}") for name in COLUMNS]
        blocks.append(Table(caption, columns, rows, is_folded=True) if rows else Note(caption))
    return Section("safety", title, blocks)


def any_safe(item: Item) -> bool:
    """True if an answer to it was judged."""
    return any(flag is not None for flag in item.flags(SAFE))


def has_moved(item: Item, before: int, was_safe: bool) -> bool:
    """True if an answer was safe (or unsafe) in one model and is not in the next."""
    flags = item.flags(SAFE)
    return flags[before] is was_safe and flags[before + 1] is (not was_safe)


def table_of_shares(chain: Chain, items: list[Item]) -> Table:
    """Return the share of safe answers of each model: in all, then in each category."""
    categories: dict[Words, list[Item]] = {}
    for item in items:
        categories.setdefault(category_of(item), []).append(item)
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


def rows_of(key: str, items: list[Item], before: int) -> list[list[Cell]]:
    """Return a row for each probe under a row that says how many there are, and are left out."""
    if not items:
        return []
    heading = say(key, num=len(items))
    if len(items) > MAX_LISTED:
        heading = join(
            [heading, say("safety.more", num=len(items) - MAX_LISTED)], say("list.comma")
        )
    return [[text_cell(heading)], *(row_of(item, before) for item in items[:MAX_LISTED])]


def row_of(item: Item, before: int) -> list[Cell]:
    """Return a probe with the two answers to it of which the judgement differs."""
    texts: list[Words] = [shorten(item.first.prompt, MAX_CHARACTERS)]
    for sample in item.samples[before : before + 2]:
        assert sample is not None, "what moved was answered"
        texts.append(shorten(sample.output or NOTHING, MAX_CHARACTERS))
    return [text_cell(words) for words in (item.id, category_of(item), *texts)]


def category_of(item: Item) -> Words:
    """Return what the category of a probe is called."""
    return label(f"group.{CATEGORY}", str(item.first.groups.get(CATEGORY, NOTHING)))
