"""Conversations: single questions and rounds of follow-ups about one entity."""

from __future__ import annotations

import random
from typing import Any

from .facts import Fact, held_out
from .tables import load_wording, rng_for

Record = dict[str, Any]
SYSTEM_SHARE = 0.2
REPEAT_SHARE = 0.45
FILE_OF_KIND = {
    "disease": "diseases",
    "drug": "drugs",
    "aid": "aid_and_tests",
    "lab": "aid_and_tests",
}
MULTI_PER_KIND = {"disease": 4, "drug": 4, "aid": 1, "lab": 2}


def record(turns: list[tuple[str, str]], system: str = "") -> Record:
    """Return one conversation in the data schema."""
    messages = [{"from": "system", "value": system}] if system else []
    for question, answer in turns:
        messages.append({"from": "human", "value": question})
        messages.append({"from": "gpt", "value": answer})
    return {"conversations": messages}


def pick_system(rng: random.Random) -> str:
    """Return a system message for about a fifth of the calls, else an empty text."""
    systems: list[str] = load_wording("wording")["systems"]
    return rng.choice(systems) if rng.random() < SYSTEM_SHARE else ""


def group_by_entity(facts: list[Fact]) -> dict[str, list[Fact]]:
    """Return the facts of each entity, in order."""
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.entity.name, []).append(fact)
    return groups


def _multi(facts: list[Fact], rng: random.Random) -> tuple[Record, list[Fact]]:
    """Make one conversation of two to four rounds about one entity."""
    rounds = rng.choice((2, 2, 3, 3, 4))
    chosen = rng.sample(facts, min(rounds, len(facts)))
    turns = [(rng.choice(chosen[0].questions), rng.choice(chosen[0].answers))]
    turns += [(rng.choice(f.followups), rng.choice(f.answers)) for f in chosen[1:]]
    if len(turns) < 4 and rng.random() < 0.12:
        thanks: list[list[str]] = load_wording("wording")["thanks"]
        question, answer = rng.choice(thanks)
        turns.append((question, answer))
    return record(turns, pick_system(rng)), chosen


def build_finetune(facts: list[Fact]) -> dict[str, list[Record]]:
    """Return the training conversations by file name; held-out facts are never touched."""
    hidden = held_out(facts)
    usable = [fact for fact in facts if fact.key not in hidden]
    files: dict[str, list[Record]] = {"multi_turn": []}
    covered: set[str] = set()
    for name, group in group_by_entity(usable).items():
        rng = rng_for("multi", name)
        for _ in range(MULTI_PER_KIND[group[0].entity.kind] if len(group) > 1 else 0):
            made, used = _multi(group, rng)
            files["multi_turn"].append(made)
            covered |= {fact.key for fact in used}
    for fact in usable:
        rng = rng_for("single", fact.key)
        if fact.key in covered and rng.random() > REPEAT_SHARE:
            continue
        turn = (rng.choice(fact.questions), rng.choice(fact.answers))
        name = FILE_OF_KIND[fact.entity.kind]
        files.setdefault(name, []).append(record([turn], pick_system(rng)))
    for name, records in files.items():
        rng_for("order", name).shuffle(records)
    return files
