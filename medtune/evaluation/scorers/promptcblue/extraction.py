"""Parsers of the tasks that extract: entities, relations, terms, events, findings.

Each takes the whole generated text and returns a list of dicts. The grammar is PromptCBLUE's; the
patterns are the words that its prompts ask for.
"""

from typing import Any

from medtune.evaluation.scorers.promptcblue.reading import HEAD, MAY_2023, Malformed, Reading

Record = dict[str, Any]

CAUSAL, CONDITIONAL, HYPERNYM = "因果关系", "条件关系", "上下位关系"
HEADERS = {"因果关系三元组如下": CAUSAL, "条件关系三元组": CONDITIONAL, "上下位关系": HYPERNYM}
NO_TRIPLES = "给定的文本没有指定关系的三元组"
HEAD_ENTITY, TAIL_ENTITY, RELATION = "头实体：", "；尾实体：", "；关系："

EVENT_FIELDS = ("主体词", "发生状态", "描述词", "解剖部位")
LIST_FIELDS = ("描述词", "解剖部位")

UNKNOWN_FINDING = {
    # The first of them is never a gold label, the second one may be.
    HEAD: "不标注",
    MAY_2023: "无实际意义的不标注或者和病人当前的状态独立不标注",
}
UNKNOWN_SYMPTOM = "无法根据上下文确定病人是否患有该症状"


def read_entities(text: str, reading: Reading) -> list[Record]:
    """Return entity and type of each line that starts with a choice; by choice, then by line."""
    lines = text.split("\n")
    return [
        {"entity": mention, "type": choice}
        for choice in reading.listed_choices()
        for line in lines
        if line.startswith(f"{choice}实体")
        for mention in listed(line.replace(f"{choice}实体：", ""))
    ]


def read_relations(text: str, reading: Reading) -> list[Record]:
    """Return predicate, subject and object of each pair of entities of each line."""
    reading.listed_choices()
    triples = []
    for line in text.split("\n"):
        predicate = line.split("关系的头尾实体对")[0][2:].strip()
        rest = line.replace(f"具有{predicate}关系的头尾实体对如下：", "")
        for sentence in rest.split("。"):
            parts = sentence.split("，尾实体为")
            if len(parts) < 2:
                continue
            subject, target = (
                part.replace(name, "").strip()
                for part, name in zip(parts, ("头实体为", "尾实体为"), strict=False)
            )
            triples.append({"predicate": predicate, "subject": subject, "object": target})
    return triples


def read_causal(text: str, reading: Reading) -> list[Record]:
    """Return the triples under each header; a conditional one has a triple as its object.

    Raises Malformed at a line that is neither a header nor a triple.
    """
    triples = []
    relation = None
    for line in map(str.strip, text.split("\n")):
        header = next((name for name in HEADERS if name in line), None)
        if header:
            relation = HEADERS[header]
        elif NO_TRIPLES in line:
            break
        elif line:
            target = conditional_tail if relation == CONDITIONAL else plain_tail
            triples.append(
                {"predicate": relation, "subject": head_of(line), "object": target(line)}
            )
    return triples


def head_of(text: str) -> str:
    """Return what stands after the first mark of a head, up to that of its tail or the next head.

    In a conditional line it therefore ends in the mark of the tail triple, gold or not.
    """
    return part_after(text, HEAD_ENTITY).split(TAIL_ENTITY)[0]


def plain_tail(text: str) -> str:
    """Return the tail of a line."""
    return part_after(text, TAIL_ENTITY)


def conditional_tail(text: str) -> Record:
    """Return the triple that a condition applies to."""
    triple = part_after(text, "；尾三元组：")
    relation = part_after(triple, RELATION)
    if relation != CAUSAL:
        raise Malformed(f"the relation of a tail triple is {relation[:40]!r}, expected {CAUSAL!r}")
    return {
        "predicate": relation,
        "subject": head_of(triple),
        "object": plain_tail(triple).split(RELATION)[0],
    }


def part_after(text: str, mark: str) -> str:
    """Return what stands between the first and the second occurrence of a mark.

    Raises Malformed if there is none.
    """
    parts = text.split(mark)
    if len(parts) < 2:
        raise Malformed(f"no {mark!r} in the line {text[:40]!r}")
    return parts[1]


def read_terms(text: str, reading: Reading) -> list[Record]:
    """Return the terms of the last line, each once, in order of their characters.

    Terms that are not offered are dropped; strict keeps them.
    """
    terms = listed(text.split("\n")[-1])
    offered = {term for term in terms if reading.is_choice(term)}
    if unknown := sorted(set(terms) - offered):
        reading.unread.append(f"not among the choices: {'，'.join(unknown)[:80]}")
    kept = set(terms) if reading.is_strict else offered
    return [{"entity": term, "type": "normalization"} for term in sorted(kept)]


def read_events(text: str, reading: Reading) -> list[Record]:
    """Return an event of each line but the first; a blank line is an event of empty fields."""
    return [event_of(line) for line in text.split("\n")[1:]]


def event_of(line: str) -> Record:
    """Return the four fields of a line; those that it lacks are empty."""
    event: Record = {}
    for part in line.split("；"):
        value = part
        for name in EVENT_FIELDS:
            if value.startswith(f"{name}："):
                # What is left is looked at again: a value that starts like a field fills both.
                value = value.replace(f"{name}：", "").strip()
                event[name] = listed(value) if name in LIST_FIELDS else value
    return {name: [] if name in LIST_FIELDS else "" for name in EVENT_FIELDS} | event


def read_findings(text: str, reading: Reading) -> list[Record]:
    """Return finding and state of each line but the first."""
    return pairs_of(text, reading, UNKNOWN_FINDING[reading.generation])


def read_symptoms(text: str, reading: Reading) -> list[Record]:
    """Return symptom and state of each line but the first."""
    return pairs_of(text, reading, UNKNOWN_SYMPTOM)


def pairs_of(text: str, reading: Reading, unknown: str) -> list[Record]:
    """Return the pairs of each line but the first; a state not among the choices is `unknown`."""
    pairs = []
    for line in text.split("\n")[1:]:
        if line.count("：") != 1:
            continue
        name, state = line.split("：")
        if not reading.is_choice(state):
            reading.unread.append(f"not among the choices: {state[:80]}")
            state = state if reading.is_strict else unknown
        pairs.append({"entity": name.strip(), "attr": state})
    return pairs


def listed(text: str) -> list[str]:
    """Return the parts between commas that are not blank."""
    return [part.strip() for part in text.split("，") if part.strip()]
