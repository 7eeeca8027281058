"""Medical documents: several wordings for each entity, one of them kept for evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from .tables import Entity, Tables, load_wording, rng_for

FIELDS = ("neike", "waike", "erke_fuchan", "wuguan_pifu", "ganran_jingshen")
FILE_OF_KIND = {"drug": "yaowu", "aid": "jijiu", "lab": "jianyan"}
EVAL_STEP = {"disease": 3, "drug": 4, "aid": 4, "lab": 4}
MIN_DOCUMENT, MAX_DOCUMENT = 100, 400
CLOSINGS = (
    "以上内容是一般的健康知识，不能代替医生的诊断。",
    "身体不适时，请及时到正规医院就诊，把病史和正在用的药告诉医生。",
    "了解这些知识，可以帮助我们更早发现问题，也能更好地配合医生。",
    "每个人的情况不同，具体的处理办法要听医生的安排，不要自己随意决定。",
)


@dataclass(frozen=True)
class Documents:
    """Documents for training, by file name, and the held-out ones."""

    train: dict[str, list[str]]
    held_out: dict[str, list[str]]


def _fields(entity: Entity) -> dict[str, str]:
    fields = {key: entity.text(key) for key in entity.row}
    if entity.kind == "aid":
        fields["steps"] = "；".join(entity.row["steps"])
    for key in ("high", "low"):
        if entity.kind == "lab" and fields[key].startswith("一般没有"):
            fields[key] = "这一项" + fields[key]
    return fields | {"n": entity.name}


def _close(document: str, *salt: object) -> str:
    """Add closing sentences until the document is long enough."""
    closings = list(CLOSINGS)
    rng_for("closing", *salt).shuffle(closings)
    while len(document) < MIN_DOCUMENT and closings:
        document += closings.pop()
    return document


def render(entity: Entity, index: int) -> str:
    """Write the document of an entity that follows template number index."""
    sentences = load_wording("documents")[entity.kind][index]
    fields = _fields(entity)
    return _close("".join(s.format(**fields) for s in sentences), entity.name, index)


def comparison(first: Entity, second: Entity, index: int) -> str:
    """Write a document that sets two diseases side by side."""
    fields: dict[str, str] = {"a": first.name, "b": second.name}
    keys = {"d": "definition", "p": "department", "t": "treatment", "w": "caution"}
    lists = {"s": "symptoms", "c": "causes", "x": "tests"}
    for suffix, entity in (("a", first), ("b", second)):
        fields |= {short + suffix: entity.text(key) for short, key in keys.items()}
        fields |= {short + suffix: "、".join(entity.row[key][:3]) for short, key in lists.items()}
    sentences = load_wording("documents")["comparison"][index]
    return _close("".join(s.format(**fields) for s in sentences), first.name, second.name)


def _file_of(entity: Entity) -> str:
    return str(entity.row["field"]) if entity.kind == "disease" else FILE_OF_KIND[entity.kind]


def _add_entities(tables: Tables, documents: Documents) -> None:
    counts: dict[str, int] = {}
    for entity in tables.medical():
        number = counts[entity.kind] = counts.get(entity.kind, -1) + 1
        templates = len(load_wording("documents")[entity.kind])
        kept = number % templates
        name = _file_of(entity)
        for index in range(templates):
            if index != kept:
                documents.train.setdefault(name, []).append(render(entity, index))
            elif number % EVAL_STEP[entity.kind] == 1:
                documents.held_out.setdefault(entity.kind, []).append(render(entity, index))


def _add_comparisons(tables: Tables, documents: Documents) -> None:
    for field in FIELDS:
        group = [d for d in tables.diseases if d.row["field"] == field]
        for number, (first, second) in enumerate(pairwise(group)):
            text = comparison(first, second, number % 3)
            documents.train[field].append(text)
        for number in range(0, len(group) - 3, 5):
            text = comparison(group[number], group[number + 3], number % 3)
            documents.held_out.setdefault("comparison", []).append(text)


def build_pretrain(tables: Tables) -> Documents:
    """Return all medical documents, shuffled within each file."""
    documents = Documents({}, {})
    _add_entities(tables, documents)
    _add_comparisons(tables, documents)
    for group in (documents.train, documents.held_out):
        for name, texts in group.items():
            rng_for("order", name).shuffle(texts)
    return documents
