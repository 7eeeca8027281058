"""Decision trees (Text2DT): how one is read, and how far the predicted one is from the gold one.

A tree is the preorder of its nodes. A condition C has two children, a decision D none; each node
holds triples. The official scorer also meets lists of nodes that are no tree, and what it does
then is part of its numbers: see `Tree` and `count_paths`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from medtune.evaluation.results.statistics import Metric
from medtune.evaluation.scorers.promptcblue.measure import Counts, Measure, ratio
from medtune.evaluation.scorers.promptcblue.reading import Malformed, Reading, literal

TITLE = "根据给定的指南文本抽取的诊疗决策树"
ROLE, LOGICAL, TRIPLES = "：role=", "；logical_rel=", "；triples="
CONDITION, DECISION, TAKEN = "C", "D", "X"
NO_RELATION = "null"
MAX_JOINS = 101  # the official scorer gives up here; a tree of more conditions stays in pieces
SMOOTHING = 1e-6  # what the official scorer starts each of its counts of nodes and paths with

NODES = ("node_correct", "node_predicted", "node_gold")
PATHS = ("path_correct", "path_predicted", "path_gold")
EDITS = ("edits", "max_edits")

Triple = tuple[str, str, str]


class Node(NamedTuple):
    """A node as it is compared: triples in lower case, their order and repetition ignored."""

    role: str
    logical_rel: str
    triples: frozenset[Triple]


def read_tree(text: str, reading: Reading) -> list[dict[str, Any]]:
    """Return role, logical_rel and triples of each line but the title.

    Raises Malformed at a line without a role, or with a triple that is not three texts.
    """
    lines = [line for line in text.split("\n") if line and TITLE not in line]
    nodes = [read_node(line, reading) for line in lines]
    return nodes or [{"role": DECISION, "logical_rel": NO_RELATION, "triples": []}]


def read_node(line: str, reading: Reading) -> dict[str, Any]:
    """Return the node of a line; what cannot be read of its triples is left out."""
    if ROLE not in line:
        raise Malformed(f"no {ROLE!r} in the line {line[:40]!r}")
    role = line.split(ROLE)[1].split(LOGICAL)[0]
    relation = line.split(LOGICAL)[1].split(TRIPLES)[0] if LOGICAL in line else NO_RELATION
    triples = read_triples(line, reading)
    for triple in triples:
        if not is_triple(triple):
            raise Malformed(f"a triple is not three texts: {str(triple)[:40]}")
    if LOGICAL not in line:
        reading.unread.append(f"no logical_rel in the line {line[:40]!r}")
    return {"role": role, "logical_rel": relation, "triples": triples}


def read_triples(line: str, reading: Reading) -> list[Any]:
    """Return the members of three parts of a line's list; a list that cannot be read is empty."""
    try:
        value = literal(line.split(TRIPLES)[1]) if TRIPLES in line else None
    except Malformed:
        value = None
    if not isinstance(value, list) or not all(hasattr(member, "__len__") for member in value):
        reading.unread.append(f"no list of triples in the line {line[:40]!r}")
        return []
    triples = [member for member in value if len(member) == 3]
    if len(triples) < len(value):
        reading.unread.append(f"a triple without three parts in the line {line[:40]!r}")
    return [list(member) if isinstance(member, tuple) else member for member in triples]


def is_triple(value: Any) -> bool:
    """True for three texts; a text of three characters is such a triple too."""
    return (
        isinstance(value, list | str)
        and len(value) == 3
        and all(isinstance(part, str) for part in value)
    )


class Tree:
    """The nodes of a tree and how they hang together.

    Again and again the first condition whose next two open nodes are decisions takes them as its
    children and is from then on an open decision itself. Nodes of a list that is no tree stay
    without a parent.
    """

    def __init__(self, answer: Sequence[Mapping[str, Any]]) -> None:
        """Join the nodes of an answer, which holds one at least."""
        self.nodes = [
            Node(
                node["role"],
                node["logical_rel"],
                frozenset((a.lower(), b.lower(), c.lower()) for a, b, c in node["triples"]),
            )
            for node in answer
        ]
        self.parent: dict[int, int] = {}
        self.children: dict[int, tuple[int, int]] = {}
        states = [node.role for node in self.nodes]
        for _ in range(MAX_JOINS):
            found = None if states[0] == DECISION else first_ready(states)
            if found is None:
                break
            place, *children = found
            self.children[place] = (children[0], children[1])
            self.parent |= dict.fromkeys(children, place)
            end = children[1] + 1
            states[place:end] = [DECISION, *[TAKEN] * (end - place - 1)]

    @property
    def triples(self) -> set[Triple]:
        """All triples of the tree, each once."""
        return {triple for node in self.nodes for triple in node.triples}

    @property
    def told(self) -> list[Node]:
        """The nodes that hold a triple: those that count as nodes."""
        return [node for node in self.nodes if node.triples]

    @property
    def size(self) -> int:
        """What the edit distance is measured against: triples, and two for each told node."""
        return len(self.triples) + 2 * len(self.told)

    def below(self, place: int) -> Iterator[int]:
        """Yield the places of all nodes under a node."""
        for child in self.children.get(place, ()):
            yield child
            yield from self.below(child)

    def paths(self) -> tuple[list[tuple[Any, ...]], bool]:
        """Return the paths from leaves to the root, and whether each leaf has one.

        The leaves are taken in order up to the first that does not hang under the root.
        """
        paths: list[tuple[Any, ...]] = []
        for leaf in range(len(self.nodes)):
            if leaf in self.children:
                continue
            path: list[Any] = [self.nodes[leaf]]
            place = leaf
            while place in self.parent:
                above = self.parent[place]
                path += [self.children[above].index(place), self.nodes[above]]
                place = above
            if place != 0:
                return paths, False
            paths.append(tuple(path))
        return paths, True


def first_ready(states: Sequence[str]) -> tuple[int, int, int] | None:
    """Return the first condition that can take its children, with their places; None if none."""
    condition = None
    open_decisions: list[int] = []
    for place, state in enumerate(states):
        if state == CONDITION:
            condition, open_decisions = place, []
        elif state == DECISION and condition is not None:
            open_decisions.append(place)
            if len(open_decisions) == 2:
                return condition, open_decisions[0], open_decisions[1]
    return None


def node_distance(first: Node, second: Node) -> int:
    """Return the edits between two nodes: role, relation, and each triple of only one of them."""
    return (
        (first.role != second.role)
        + (first.logical_rel != second.logical_rel)
        + len(first.triples ^ second.triples)
    )


NO_NODE = Node("", NO_RELATION, frozenset())


def tree_distance(predicted: Tree, gold: Tree) -> int:
    """Return the edits between two trees laid over each other from the root.

    Where one goes on and the other ends, all that is below counts as added.
    """
    distance = 0
    pairs = [(0, 0)]
    while pairs:
        one, other = pairs.pop()
        distance += node_distance(predicted.nodes[one], gold.nodes[other])
        if one in predicted.children and other in gold.children:
            pairs += zip(predicted.children[one], gold.children[other], strict=True)
            continue
        for tree, place in ((predicted, one), (gold, other)):
            distance += sum(node_distance(tree.nodes[i], NO_NODE) for i in tree.below(place))
    return distance


def count_paths(predicted: Tree, gold: Tree) -> tuple[int, int, int]:
    """Return the numbers of correct, predicted and gold paths.

    If a leaf hangs nowhere none is correct, and the paths after it are not counted, those of the
    gold tree neither where it is the predicted one that is broken.
    """
    found, is_whole = predicted.paths()
    wanted, is_gold_whole = gold.paths() if is_whole else ([], False)
    known = set(wanted) if is_gold_whole else set()
    return sum(path in known for path in found), len(found), len(wanted)


def count(
    gold: list[dict[str, Any]], predicted: list[dict[str, Any]] | None, is_strict: bool
) -> Counts:
    """Return edits, nodes and paths of one tree; None is as far away as the gold tree is large."""
    wanted = Tree(gold)
    told = Counter(wanted.told)
    if predicted is None:
        edits = (wanted.size, wanted.size)
        nodes, paths = (0, 0, told.total()), (0, 0, len(wanted.paths()[0]))
    else:
        found = Tree(predicted)
        edits = (tree_distance(found, wanted), found.size + wanted.size)
        # A pair is counted for each equal node on the other side, as the official scorer does.
        correct = sum(told[node] for node in found.told)
        nodes = (correct, len(found.told), told.total())
        paths = count_paths(found, wanted)
    numbers = map(float, (*edits, *nodes, *paths))
    return dict(zip((*EDITS, *NODES, *PATHS), numbers, strict=True))


def similarity(sums: np.ndarray) -> np.ndarray:
    """Return 1 - edits / most possible edits, over all trees."""
    return np.where(sums[..., 1] > 0, 1 - ratio(sums[..., 0], sums[..., 1]), 0.0)


def smoothed_f1(sums: np.ndarray) -> np.ndarray:
    """Return F1 of (correct, predicted, gold), each with the official smoothing."""
    correct, predicted, gold = np.moveaxis(sums + SMOOTHING, -1, 0)
    precision, recall = correct / predicted, correct / gold
    return 2 * precision * recall / (precision + recall)


def metrics(items: Sequence[Mapping[str, float]]) -> dict[str, Metric]:
    """Return the similarity of trees, and F1 over nodes and over paths."""
    return {
        "tree_lenv_ratio": Metric("tree_lenv_ratio", EDITS, similarity),
        "node_f1": Metric("node_f1", NODES, smoothed_f1),
        "path_f1": Metric("path_f1", PATHS, smoothed_f1),
    }


def is_tree(answer: Any) -> bool:
    """True for a list of one node at least, each with role, logical_rel and triples."""
    return isinstance(answer, list) and bool(answer) and all(map(is_node, answer))


def is_node(value: Any) -> bool:
    """True for an object with role, logical_rel and triples."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        and isinstance(value.get("logical_rel"), str)
        and isinstance(value.get("triples"), list)
        and all(map(is_triple, value["triples"]))
    )


TREE_RATIO = Measure(count, metrics, is_tree, "tree_lenv_ratio", "TreeLenvRatio")
