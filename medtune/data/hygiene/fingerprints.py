"""What is remembered of each record while data are checked: hashes and numbers, never a text."""

from array import array

import numpy as np

from medtune.data.hygiene.content import Texts, Turn
from medtune.data.hygiene.duplicates import hash_text
from medtune.data.records import PreferencePair, Record, Source


class Fingerprints:
    """Hashes, lengths and places of records, in the order of reading: 54 bytes each.

    record, question, answer: hashes of what `Texts` calls so; of several answers, the first.
    swapped: the hash of the pair whose answers are exchanged.   0 for what a record does not have.
    findings: one bit for each rule that names the record for itself.
    """

    def __init__(self) -> None:
        """Start without records."""
        self._file_numbers: dict[str, int] = {}
        self._files: list[str] = []
        self._file, self._line = array("I"), array("Q")
        self._record, self._question, self._answer, self._swapped = (array("Q") for _ in range(4))
        self._chosen_characters, self._rejected_characters = array("I"), array("I")
        self._findings = array("H")

    def add(self, record: Record, texts: Texts, findings: int) -> None:
        """Remember a record."""
        path, line = record.source
        if path not in self._file_numbers:
            self._file_numbers[path] = len(self._files)
            self._files.append(path)
        self._file.append(self._file_numbers[path])
        self._line.append(line)
        self._findings.append(findings)
        self._record.append(hash_turns(texts.said))
        self._question.append(hash_turns(texts.question) if texts.question else 0)
        self._answer.append(hash_text(texts.answers[0]) if texts.answers else 0)
        swapped, num_chosen, num_rejected = 0, 0, 0
        if isinstance(record, PreferencePair):
            (_, chosen), (_, rejected) = texts.said[-2:]
            swapped = hash_turns([*texts.question, ("chosen", rejected), ("rejected", chosen)])
            num_chosen, num_rejected = len(record.chosen), len(record.rejected)
        self._swapped.append(swapped)
        self._chosen_characters.append(num_chosen)
        self._rejected_characters.append(num_rejected)

    def source(self, place: int) -> Source:
        """Return where the record at a place was read."""
        return Source(self._files[self._file[place]], self._line[place])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return each column by its name, without the places."""
        return {
            "record": np.array(self._record),
            "question": np.array(self._question),
            "answer": np.array(self._answer),
            "swapped": np.array(self._swapped),
            "chosen_characters": np.array(self._chosen_characters),
            "rejected_characters": np.array(self._rejected_characters),
            "findings": np.array(self._findings),
        }


def hash_turns(turns: list[Turn]) -> int:
    """Return 64 bits that stand for turns: who says what."""
    return hash_text("\0".join(part for turn in turns for part in turn))
