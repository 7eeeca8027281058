"""Held-out conversations and questions: phrasings, and for many also facts, not trained on."""

from __future__ import annotations

from typing import Any

from .facts import Fact, held_out, key_values
from .finetune import Record, group_by_entity, pick_system, record
from .tables import rng_for

SINGLES_SEEN, SINGLES_HIDDEN, MULTI = 36, 44, 30
QUESTIONS_SEEN, QUESTIONS_HIDDEN = 30, 26


def _split(facts: list[Fact]) -> tuple[list[Fact], list[Fact]]:
    """Return the facts asked for in training and the others, each shuffled."""
    hidden_keys = held_out(facts)
    seen = [fact for fact in facts if fact.key not in hidden_keys]
    hidden = [fact for fact in facts if fact.key in hidden_keys]
    rng_for("eval_seen").shuffle(seen)
    rng_for("eval_hidden").shuffle(hidden)
    return seen, hidden


def _multi(group: list[Fact]) -> Record:
    rng = rng_for("eval_multi", group[0].entity.name)
    chosen = rng.sample(group, rng.choice((2, 2, 3)))
    turns = [(chosen[0].eval_question, chosen[0].answers[0])]
    turns += [(fact.eval_followup, fact.answers[0]) for fact in chosen[1:]]
    return record(turns, pick_system(rng))


def build_eval_finetune(facts: list[Fact]) -> dict[str, list[Record]]:
    """Return the held-out conversations by file name."""
    seen, hidden = _split(facts)
    rng = rng_for("eval_systems")

    def single(fact: Fact) -> Record:
        return record([(fact.eval_question, rng.choice(fact.answers))], pick_system(rng))

    groups = [g for g in group_by_entity(seen).values() if len(g) >= 3]
    rng_for("eval_groups").shuffle(groups)
    return {
        "known_facts": [single(fact) for fact in seen[:SINGLES_SEEN]],
        "new_facts": [single(fact) for fact in hidden[:SINGLES_HIDDEN]],
        "multi_turn": [_multi(group) for group in groups[:MULTI]],
    }


def build_questions(facts: list[Fact]) -> list[dict[str, Any]]:
    """Return the quiz: a question, its reference answer, what that must name, and the fact."""
    seen, hidden = _split(facts)
    chosen = [(f, True) for f in seen[SINGLES_SEEN : SINGLES_SEEN + QUESTIONS_SEEN]]
    chosen += [(f, False) for f in hidden[SINGLES_HIDDEN : SINGLES_HIDDEN + QUESTIONS_HIDDEN]]
    return [
        {
            "id": f"q{number:03d}",
            "question": fact.eval_question,
            "reference": fact.answers[0],
            "key_values": key_values(fact),
            "fact": fact.key,
            "fact_in_finetune": known,
        }
        for number, (fact, known) in enumerate(chosen, start=1)
    ]
