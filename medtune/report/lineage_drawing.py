"""The chain as a drawing: models on the left, the adapters that change them on the right."""

from dataclasses import dataclass

from markupsafe import Markup

from medtune.report.drawing import svg_text
from medtune.report.marking import name_it
from medtune.report.texts import Words

WIDTH, ROW, BOX_WIDTH, BOX_HEIGHT = 380, 62, 172, 44
COLUMNS = (4, 204)
MAX_NAME = 23


@dataclass(frozen=True)
class Node:
    """A model or an adapter. below: what it is.   made_from: positions of nodes before it."""

    name: str
    below: Words
    is_adapter: bool
    is_finished: bool
    made_from: list[int]


def draw_chain(nodes: list[Node], title: Words) -> Markup:
    """Return the nodes below each other, with an arrow from each to what is made of it."""
    height = ROW * len(nodes) + 6
    parts = [
        Markup('<svg class="chain" viewBox="0 0 {} {}" role="img"{}>').format(
            WIDTH, height, name_it(title)
        ),
        Markup(
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>'
        ),
    ]
    for row, node in enumerate(nodes):
        parts += [arrow(nodes, one, row) for one in node.made_from]
    for row, node in enumerate(nodes):
        parts += box(node, row)
    return Markup("").join([*parts, Markup("</svg>")])


def place_of(node: Node, row: int) -> tuple[int, int]:
    """Return the upper left corner of a box."""
    return COLUMNS[node.is_adapter], ROW * row + 4


def arrow(nodes: list[Node], start: int, end: int) -> Markup:
    """Return the arrow between two boxes: straight down, or from one column to the other."""
    (from_x, from_y), (to_x, to_y) = place_of(nodes[start], start), place_of(nodes[end], end)
    if from_x == to_x:
        x = from_x + 24
        path = f"M{x} {from_y + BOX_HEIGHT} V{to_y}"
    elif to_x > from_x:
        x = from_x + BOX_WIDTH - 24
        y = to_y + BOX_HEIGHT // 2
        path = f"M{x} {from_y + BOX_HEIGHT} V{y} H{to_x}"
    else:
        x = from_x + BOX_WIDTH // 2
        y = to_y + BOX_HEIGHT // 2
        path = f"M{x} {from_y + BOX_HEIGHT} V{y} H{to_x + BOX_WIDTH}"
    return Markup('<path class="arrow" d="{}" marker-end="url(#tip)"/>').format(path)


def box(node: Node, row: int) -> list[Markup]:
    """Return the box of a node, with its whole name as hover title."""
    x, y = place_of(node, row)
    kind = ("adapter" if node.is_adapter else "model") + ("" if node.is_finished else " unfinished")
    name = node.name if len(node.name) <= MAX_NAME else "…" + node.name[-MAX_NAME + 1 :]
    return [
        Markup('<g class="node {}"><title>{}</title>').format(kind, node.name),
        Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="{}"/>').format(
            x, y, BOX_WIDTH, BOX_HEIGHT, 14 if node.is_adapter else 4
        ),
        svg_text(name, x + BOX_WIDTH // 2, y + 18, "name", "middle"),
        svg_text(node.below, x + BOX_WIDTH // 2, y + 35, "tick", "middle"),
        Markup("</g>"),
    ]
