"""Everyday, non-medical prose: topics from general.json and short scenes of daily life."""

from __future__ import annotations

import random
import re
from itertools import pairwise

from .tables import Entity, Tables, load_wording, rng_for

SCENE_ROUNDS = 24
MIN_DOCUMENT, MAX_DOCUMENT = 80, 300
OPENINGS = (
    "说起{n}，大家都不陌生。",
    "今天我们来写一写{n}。",
    "老师让大家介绍{n}，我是这样写的。",
    "关于{n}，可以说的事情有很多。",
    "如果有人问起{n}，我会这样告诉他。",
    "这一页讲的是{n}。",
)
ENDINGS = (
    "只要细心看，就会发现{n}很有意思。",
    "这就是我知道的{n}，你还能说出更多吗？",
    "所以每次想到{n}，心里都会有一点高兴。",
    "虽然这些都是小事，但是记下来也很好。",
    "以后有时间，我还想多了解一些。",
)
LINKS = ("", "", "", "而且，", "还有，", "人们都知道，", "听说，")


def topic_document(topic: Entity, index: int) -> str:
    """Write one document about a single topic."""
    rng = rng_for("topic", topic.name, index)
    facts = list(topic.row["facts"])
    if index:
        rng.shuffle(facts)
    text = rng.choice(OPENINGS).format(n=topic.name)
    for position, fact in enumerate(facts):
        link = rng.choice(LINKS) if index and position else ""
        text += f"{link}{fact}。"
    return text + rng.choice(ENDINGS).format(n=topic.name)


def pair_document(first: Entity, second: Entity) -> str:
    """Write one document about two topics of the same kind."""
    rng = rng_for("pair", first.name, second.name)
    parts = []
    for topic in (first, second):
        chosen = sorted(rng.sample(range(len(topic.row["facts"])), 4))
        parts.append("".join(f"{topic.row['facts'][i]}。" for i in chosen))
    opening = rng.choice(("先说{a}。", "我们先看{a}。", "{a}和{b}都值得一说，先讲{a}。"))
    middle = rng.choice(("再说{b}。", "接下来看{b}。", "然后是{b}。"))
    names = {"a": first.name, "b": second.name}
    return opening.format(**names) + parts[0] + middle.format(**names) + parts[1]


def _fill(sentence: str, rng: random.Random, used: set[str], fixed: dict[str, str]) -> str:
    """Fill the slots; a slot in fixed keeps its value, others avoid values already used."""
    slots = load_wording("daily")["slots"]

    def pick(match: re.Match[str]) -> str:
        slot = match.group(1)
        if slot in fixed:
            return fixed[slot]
        options = [value for value in slots[slot] if value not in used] or slots[slot]
        value = str(rng.choice(options))
        used.add(value)
        return value

    return re.sub(r"\{(\w+)\}", pick, sentence)


FIXED = {
    6: ("thing",),
    7: ("who", "hobby"),
    5: ("who",),
    8: ("fruit", "who"),
    1: ("who", "veg", "fruit"),
}


def scene_document(scene: int, index: int) -> str:
    """Write one short scene of daily life."""
    rng = rng_for("scene", scene, index)
    slots = load_wording("daily")["slots"]
    fixed = {slot: rng.choice(slots[slot]) for slot in FIXED.get(scene, ())}
    used: set[str] = set(fixed.values())
    sentences = load_wording("daily")["scenes"][scene]
    dropped = rng.choice(range(2, len(sentences) - 1))
    kept = [s for i, s in enumerate(sentences) if i != dropped or index % 2]
    return "".join(_fill(sentence, rng, used, fixed) for sentence in kept)


def build_general(tables: Tables) -> dict[str, list[str]]:
    """Return the everyday documents by file name."""
    topics = [topic_document(t, index) for t in tables.general for index in range(3)]
    pairs = []
    for first, second in pairwise(tables.general):
        if first.row["kind"] == second.row["kind"]:
            pairs.append(pair_document(first, second))
    scenes = [
        scene_document(scene, index)
        for scene in range(len(load_wording("daily")["scenes"]))
        for index in range(SCENE_ROUNDS)
    ]
    files = {"topics": topics + pairs, "daily_life": list(dict.fromkeys(scenes))}
    for name, texts in files.items():
        rng_for("order", name).shuffle(texts)
    return files
