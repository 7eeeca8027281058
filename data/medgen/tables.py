"""Loads the hand-written tables in data/source and gives them types."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DATA_DIR = Path(__file__).resolve().parent.parent
SOURCE_DIR = DATA_DIR / "source"
SEED = "medtune-sample-data-1"


@dataclass(frozen=True)
class Entity:
    """One row of a table: its kind (disease, drug, aid, lab or general), name and fields."""

    kind: str
    name: str
    row: dict[str, Any]

    def text(self, key: str) -> str:
        """Return a field as text; lists are joined with the enumeration comma."""
        value = self.row[key]
        return "、".join(value) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Tables:
    """All source tables."""

    diseases: list[Entity]
    drugs: list[Entity]
    aids: list[Entity]
    labs: list[Entity]
    general: list[Entity]

    def medical(self) -> list[Entity]:
        """Return every medical entity in a fixed order."""
        return [*self.diseases, *self.drugs, *self.aids, *self.labs]


def _load(kind: str, file_name: str) -> list[Entity]:
    rows = json.loads((SOURCE_DIR / file_name).read_text(encoding="utf-8"))
    return [Entity(kind, row["name"], row) for row in rows]


def load_tables() -> Tables:
    """Read the five source tables."""
    return Tables(
        diseases=_load("disease", "diseases.json"),
        drugs=_load("drug", "drugs.json"),
        aids=_load("aid", "first_aid.json"),
        labs=_load("lab", "lab_tests.json"),
        general=_load("general", "general.json"),
    )


@cache
def load_wording(name: str) -> dict[str, Any]:
    """Read one table of phrasings, data/source/<name>.json."""
    loaded: dict[str, Any] = json.loads((SOURCE_DIR / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def rng_for(*parts: object) -> random.Random:
    """Return a random source that depends on the seed and the given parts only."""
    return random.Random(":".join([SEED, *map(str, parts)]))
