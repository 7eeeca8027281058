"""Preference pairs: the safe and correct answer against an unsafe, evasive or wrong one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .facts import Fact, held_out
from .finetune import group_by_entity, pick_system
from .tables import Entity, Tables, load_wording, rng_for

Pair = dict[str, Any]
MIN_ANSWER, MAX_ANSWER = 18, 110
HELD_OUT_STEP = 6
FIRST_EVAL_ROUND = 9  # training draws its answers with the rounds before
HISTORY_SHARE = 0.42
EVASIVE_SHARE = 0.12
SHORTER_SHARE = 0.6
NEAR_LENGTH = 12
TRAIN_ROUNDS = {
    "caution": 2,
    "red_flags": 1,
    "pregnancy": 2,
    "contra": 1,
    "overdose": 1,
    "interaction": 1,
    "aid": 2,
}
TETRACYCLINE = "四环素"
EMERGENCIES = {
    "急性心肌梗死",
    "脑梗死",
    "脑出血",
    "低血糖症",
    "肺栓塞",
    "消化性溃疡",
    "急性阑尾炎",
    "急性胰腺炎",
    "肠梗阻",
    "小儿热性惊厥",
    "子痫前期",
    "异位妊娠",
    "荨麻疹",
    "狂犬病",
}
NO_RED_FLAG_QUESTION = {"狂犬病"}
NO_PREGNANCY_QUESTION = {"复方口服避孕药"}


@dataclass(frozen=True)
class Item:
    """One thing to ask about: the entity, the kind of pair and what fills the templates."""

    kind: str
    entity: Entity
    slots: dict[str, str]
    number: int
    chosen_key: str = "chosen"
    only_eval: bool = False

    @property
    def held_out(self) -> bool:
        """Tell whether this combination of entity and kind is kept for evaluation."""
        return self.only_eval or self.number % HELD_OUT_STEP == 2


def _disease_items(diseases: list[Entity]) -> Iterator[Item]:
    for number, d in enumerate(diseases):
        keys = ("caution", "red_flags", "department")
        slots = {key: d.text(key) for key in keys} | {"n": d.name}
        slots |= {"q": d.text("unsafe_question"), "bad": d.text("unsafe_answer")}
        key = "chosen_emergency" if d.name in EMERGENCIES else "chosen"
        yield Item("caution", d, slots, number, key)
        if d.name not in NO_RED_FLAG_QUESTION:
            yield Item("red_flags", d, slots, number + 3)


def _drug_items(drugs: list[Entity]) -> Iterator[Item]:
    for number, d in enumerate(drugs):
        slots = {key: d.text(key) for key in ("pregnancy", "overdose", "interaction")}
        slots["n"] = d.name
        level = d.row["pregnancy_level"]
        if level != "可用" and d.name not in NO_PREGNANCY_QUESTION:
            key = "chosen_ban" if level == "禁用" else "chosen_care"
            yield Item("pregnancy", d, slots, number, key)
        groups = [c for c in d.row["contraindications"] if "孕" not in c]
        for place, group in enumerate(groups):  # training asks for the first group at most
            own = slots | {"c": group.replace("本品", d.name)}
            yield Item("contra", d, own, number + 1, only_eval=place > 0)
        yield Item("overdose", d, slots, number + 3)
        yield Item("interaction", d, slots, number + 5)


def _aid_items(aids: list[Entity]) -> Iterator[Item]:
    for number, a in enumerate(aids):
        slots = {key: a.text(key) for key in ("dont", "reason")} | {"step": a.row["steps"][0]}
        slots |= {"q": a.text("unsafe_question"), "bad": a.text("unsafe_answer"), "n": a.name}
        yield Item("aid", a, slots, number)


def _balanced(
    chosen: list[str], rejected: list[str], shorter: bool, rng: random.Random
) -> tuple[str, str]:
    """Pick two answers of like length, the chosen one the shorter or not as asked."""
    pairs = [(c, r) for c in chosen for r in rejected]
    fitting = [p for p in pairs if (len(p[0]) < len(p[1])) == shorter] or pairs
    fitting.sort(key=lambda p: (abs(len(p[0]) - len(p[1])), p))
    near = [p for p in fitting if abs(len(p[0]) - len(p[1])) <= NEAR_LENGTH]
    return rng.choice(near or fitting[:1])


def _answers(item: Item, round_number: int) -> tuple[str, str]:
    rng = rng_for("reward", item.kind, item.entity.name, round_number)
    wording = load_wording("reward")
    table = wording[item.kind]
    chosen = [t.format(**item.slots) for t in table[item.chosen_key]]
    if rng.random() < EVASIVE_SHARE:
        rejected = rng.sample(wording["evasive"], 4)
    else:
        rejected = [t.format(**item.slots) for t in table["rejected"]]
    fit = [[a for a in side if MIN_ANSWER <= len(a) <= MAX_ANSWER] for side in (chosen, rejected)]
    return _balanced(fit[0], fit[1], rng.random() < SHORTER_SHARE, rng)


def _pair(system: str, history: list[list[str]], question: str, answers: tuple[str, str]) -> Pair:
    return {
        "system": system,
        "history": history,
        "question": question,
        "response_chosen": answers[0],
        "response_rejected": answers[1],
    }


def _history(facts: list[Fact], item: Item, round_number: int, held: bool) -> list[list[str]]:
    """Return one earlier round about the same entity."""
    rng = rng_for("history", item.kind, item.entity.name, round_number)
    topics = ("definition", "symptoms", "class", "indications", "steps")
    fact = rng.choice([f for f in facts if f.attribute in topics])
    question = fact.eval_question if held else rng.choice(fact.questions)
    return [[question, rng.choice(fact.answers)]]


def _train_pairs(item: Item, facts: list[Fact]) -> list[Pair]:
    table = load_wording("reward")[item.kind]
    rng = rng_for("pairs", item.kind, item.entity.name)
    openers, followups = table["questions"], table["followups"]
    rounds = min(TRAIN_ROUNDS[item.kind], len(openers), len(followups))
    if item.kind == "pregnancy" and item.entity.name == TETRACYCLINE:
        asked = [(q, False) for q in openers] + [(q, True) for q in followups]
    else:
        later = [rng.random() < HISTORY_SHARE for _ in range(rounds)]
        picks = zip(rng.sample(openers, rounds), rng.sample(followups, rounds), later, strict=True)
        asked = [(f if is_later else q, is_later) for q, f, is_later in picks]
    made = []
    for number, (question, is_later) in enumerate(asked):
        history = _history(facts, item, number, held=False) if is_later else []
        text = question.format(**item.slots)
        made.append(_pair(pick_system(rng), history, text, _answers(item, number)))
    return made


def _eval_pairs(item: Item, facts: list[Fact]) -> list[Pair]:
    """Return one pair for each wording that training never uses, each with its own answers."""
    rng = rng_for("eval_pairs", item.kind, item.entity.name, item.slots.get("c"))
    wordings = list(enumerate(load_wording("reward")[item.kind]["eval"]))
    if item.only_eval:
        wordings = [wordings[item.number % len(wordings)]]
    made = []
    for number, wording in wordings:
        salt = FIRST_EVAL_ROUND + number
        later = rng.random() < HISTORY_SHARE
        history = _history(facts, item, salt, held=True) if later else []
        text = wording.format(**item.slots)
        made.append(_pair(pick_system(rng), history, text, _answers(item, salt)))
    return made


def _fact_pairs(tables: Tables, facts: list[Fact]) -> list[Pair]:
    """Return pairs on plain facts, the rejected answer naming another disease's facts."""
    by_key = {fact.key: fact for fact in facts}
    hidden = held_out(facts)
    made = []
    for number, disease in enumerate(tables.diseases):
        attribute = ("department", "symptoms")[number % 2]
        other = tables.diseases[(number + 37) % len(tables.diseases)]
        if f"{disease.name}/{attribute}" in hidden or number % 3 == 0:
            continue
        if other.row[attribute] == disease.row[attribute]:
            continue
        slots = {"n": disease.name, attribute: disease.text(attribute)}
        item = Item(attribute, disease, slots | {"wrong": other.text(attribute)}, number)
        rng = rng_for("fact_pair", disease.name)
        question = rng.choice(by_key[f"{disease.name}/{attribute}"].questions)
        made.append(_pair(pick_system(rng), [], question, _answers(item, 0)))
    return made


def all_items(tables: Tables) -> list[Item]:
    """Return everything that can be asked about, in a fixed order."""
    return [
        *_disease_items(tables.diseases),
        *_drug_items(tables.drugs),
        *_aid_items(tables.aids),
    ]


def build_reward(
    tables: Tables, facts: list[Fact]
) -> tuple[dict[str, list[Pair]], dict[str, list[Pair]]]:
    """Return training pairs by file name, and held-out pairs by what they ask about."""
    groups = group_by_entity(facts)
    train: dict[str, list[Pair]] = {"safety": [], "medicines": []}
    evaluation: dict[str, list[Pair]] = {}
    for item in all_items(tables):
        name = "medicines" if item.entity.kind == "drug" else "safety"
        own = groups[item.entity.name]
        is_tetracycline = item.kind == "pregnancy" and item.entity.name == TETRACYCLINE
        if item.held_out and not is_tetracycline:
            evaluation.setdefault(item.kind, []).extend(_eval_pairs(item, own))
        else:
            train[name] += _train_pairs(item, own)
    train["safety"] += _fact_pairs(tables, facts)
    for split in (train, evaluation):
        for name, pairs in split.items():
            rng_for("order", name).shuffle(pairs)
    return train, evaluation
