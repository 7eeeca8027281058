"""Turns each field of each entity into a fact: its questions, follow-ups and answers."""

from __future__ import annotations

from dataclasses import dataclass

from .tables import Entity, Tables, load_wording, rng_for

MIN_ANSWER, MAX_ANSWER = 25, 110
TAILS = ("具体请咨询医生。", "如果不放心，请及时到医院就诊，听医生的安排。")


@dataclass(frozen=True)
class Fact:
    """One attribute of one entity with everything needed to ask for it."""

    entity: Entity
    attribute: str
    eval_question: str
    questions: list[str]
    followups: list[str]
    eval_followup: str
    answers: list[str]

    @property
    def key(self) -> str:
        """Return entity/attribute."""
        return f"{self.entity.name}/{self.attribute}"


def _value(entity: Entity, attribute: str) -> str:
    if entity.kind == "aid" and attribute == "steps":
        return "；".join(entity.row["steps"])
    if entity.kind == "aid" and attribute == "dont":
        return f"{entity.row['dont']}，因为{entity.row['reason']}"
    return entity.text(attribute)


def _templates(entity: Entity, attribute: str, value: str) -> list[str]:
    wording = load_wording("wording")
    if attribute == "pregnancy":
        return list(wording["pregnancy_answers"][entity.row["pregnancy_level"]])
    if entity.kind == "lab" and attribute in ("high", "low") and value.startswith("一般"):
        word = "偏高" if attribute == "high" else "偏低"
        return [f"{{n}}{word}{{v}}，有疑问可以带着报告咨询医生。"]
    return list(wording["answers"][entity.kind][attribute])


def _fit(answer: str) -> str:
    for tail in TAILS:
        if len(answer) >= MIN_ANSWER:
            return answer
        answer += tail
    return answer


def _answers(entity: Entity, attribute: str) -> list[str]:
    value = _value(entity, attribute)
    made = [_fit(t.format(n=entity.name, v=value)) for t in _templates(entity, attribute, value)]
    good = [a for a in made if MIN_ANSWER <= len(a) <= MAX_ANSWER]
    if not good:
        raise ValueError(f"no answer of a fitting length for {entity.name}/{attribute}: {made}")
    return good


def value_of(fact: Fact) -> str:
    """Return what a fact says, as its answers put it."""
    return _value(fact.entity, fact.attribute)


def key_values(fact: Fact) -> list[str]:
    """Return what a full answer names: the items of a list, or the one value."""
    value = fact.entity.row[fact.attribute]
    return list(value) if isinstance(value, list) else [value]


def statements(fact: Fact) -> list[str]:
    """Return the sentences that state a fact, with slots {n} for its entity and {v} for the value.

    They are its answers without the advice that follows and without the full stop.
    """
    templates = _templates(fact.entity, fact.attribute, value_of(fact))
    sentences = [template.split("。")[0] for template in templates]
    return [s for s in sentences if "{n}" in s and "{v}" in s]


def build_facts(tables: Tables) -> list[Fact]:
    """Return every fact in a fixed order; one question of each is kept back for evaluation."""
    wording = load_wording("wording")
    facts = []
    for entity in tables.medical():
        for attribute, phrasings in wording["questions"][entity.kind].items():
            asked = [p.format(n=entity.name) for p in phrasings]
            rng_for("questions", entity.name, attribute).shuffle(asked)
            facts.append(
                Fact(
                    entity=entity,
                    attribute=attribute,
                    eval_question=asked[0],
                    questions=asked[1:],
                    followups=wording["followups"][entity.kind][attribute],
                    eval_followup=wording["eval_followups"][entity.kind][attribute],
                    answers=_answers(entity, attribute),
                )
            )
    return facts


def held_out(facts: list[Fact], share: float = 0.12) -> set[str]:
    """Return the keys of the facts that are never asked for in the finetune data."""
    rng = rng_for("held_out")
    keys = [fact.key for fact in facts]
    return set(rng.sample(keys, int(len(keys) * share)))
