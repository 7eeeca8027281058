"""Where letters stand in an answer, and whether they are choices or parts of words.

"CT", "B12", "IgA", a blood group and a vitamin hold letters that nobody means as a choice.
"""

import re
import unicodedata
from dataclasses import dataclass, replace

CHOICES = re.compile(r"(?<![A-Za-z0-9])(?:[A-G]+|[a-g])(?![A-Za-z0-9])")

# What stands before or behind a letter that names a substance, a type or a method.
ENDS_A_WORD = re.compile(
    r"(?:维生素|维他命|(?<!因)素|酶|蛋白|因子|抗原|抗体|补体|[甲乙丙丁戊]型|"
    r"\b(?:vitamin|type|group|class|hepatitis|factor|stage)\s|[A-Za-z0-9]-|[A-Za-z0-9]{2,}/)$",
    re.IGNORECASE,
)
BEGINS_A_WORD = re.compile(
    r"型|超|族|群|类|肽|抗原|抗体|细胞|反应蛋白|蛋白|链球菌|波|线|级|期|组|区|段|受体|环|股|膜|点|淋巴|"
    r"-?二聚体|-[A-Za-z0-9]|\s+[a-z]{2,}\s+[a-z]{2,}|/[A-Za-z]{2,}"
)
# An English letter may be followed by what is said of it.
ENGLISH_VERDICT = re.compile(
    r"\s+(?:is|are|was|and|or|because|since|as|not|can|could|may|might|would|should|seems?|looks?)\b"
)
# A run of capitals with another Chinese word behind it is an abbreviation: "ACE抑制剂".
AFTER_A_RUN = re.compile(
    r"[^\u4e00-\u9fff]|选项|项|均|都|和|与|及|以|正确|对|为|是|[三四五两]|全|符|而|即|$"
)

TIGHT = re.compile(r"\s*(?:选?项)?\s*(?:[、/&+]|,?\s*(?:和|与|及|以及|\band\b))\s*(?:选项)?\s*")
LOOSE = re.compile(r"[\s,;.。]+(?:选项)?")
ENDS_AN_ITEM = re.compile(
    r"\s*(?:$|[、,;。\n!?]|\.\s*(?:$|[A-G]\b)|\s[A-G]\b|"
    r"(?:和|与|及|以及|\band\b)\s*[A-G]\s*(?:$|[,;。.\n!?]))"
)
UNDECIDED = re.compile(r"\s*,?\s*(?:还是|或者?|也可能|也可以|\bor\b)")
ITEM_LINE = re.compile(r"\s*(?:[-•·]\s*)?([A-G])\s*[.、:]\s*[^\s]")
ITEM_INSIDE = re.compile(r"\s*[A-G]\s*[.:]\s*[^、,;。\n]{1,30}?\s*(?:[、,;]\s*|\s)(?=[A-G]\s*[.:])")
# "A (hypertension)" names A; a verdict in brackets is kept.
EXPLAINED = re.compile(r"(?<![A-Za-z0-9])([A-G])\s*\((?!正确|错|对|不)[^()\n]{1,40}\)")
NUMBERED = re.compile(r"^\s*(?:\d{1,2}\s*[.、:]|[-•·+])\s*(?=[A-G](?![A-Za-z0-9]))", re.MULTILINE)


@dataclass(frozen=True)
class Group:
    """Letters that are named together, and where they stand in the text.

    is_undecided: another letter is offered beside them ("A or B").
    """

    letters: frozenset[str]
    start: int
    end: int
    is_undecided: bool = False


def plain(text: str) -> str:
    """Return an answer without its looks: narrow signs, no Markdown, no brackets, no thinking.

    `\\boxed{B}` becomes a statement of the answer; circled numbers become separators.
    """
    text = text.rpartition("</think>")[2]
    text = re.sub("[\u2460-\u2473]", " ", text)
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"\\boxed\b", " 答案是 ", text)
    text = re.sub(r"\\(?:text|mathrm|mathbf)\b|</?[A-Za-z]+>", "", text)
    text = re.sub(r"[*_`#$\\]", "", text)
    text = "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())
    text = EXPLAINED.sub(r"\1", text)
    return NUMBERED.sub("", re.sub(r"[\[\](){}<>【】《》「」『』“”‘’\"']", " ", text))


def is_choice(text: str, start: int, end: int) -> bool:
    """True unless the letters at start:end belong to a word."""
    after = text[end : end + 40]
    if BEGINS_A_WORD.match(after) and not ENGLISH_VERDICT.match(after):
        return False
    if end - start > 1 and not AFTER_A_RUN.match(after):
        return False
    return not ENDS_A_WORD.search(text[max(0, start - 12) : start])


def choice_at(text: str, place: int) -> re.Match[str] | None:
    """Return the letters of a choice that begin at a place."""
    found = CHOICES.match(text, place)
    return found if found and is_choice(text, found.start(), found.end()) else None


def group_at(text: str, place: int) -> Group | None:
    """Return the letters named together from a place on: "A、C和E", "A,C"."""
    first = choice_at(text, place)
    if not first:
        return None
    letters, end = set(first[0].upper()), first.end()
    while following := _next_choice(text, end):
        letters |= set(following[0].upper())
        end = following.end()
    undecided = UNDECIDED.match(text, end)
    return Group(frozenset(letters), place, end, undecided is not None)


def answer_at(text: str, place: int) -> Group | None:
    """Return the letters named together, or those of options that are written out one by one."""
    group = group_at(text, place)
    listed = items_at(text, place)
    if group and len(group.letters) == 1 and len(listed) > 1:
        return replace(group, letters=frozenset(listed))
    return group


def _next_choice(text: str, place: int) -> re.Match[str] | None:
    """Return the choice that a separator joins to the one that ends at a place.

    A comma or a full stop joins only what is not the subject of a new sentence.
    """
    if (tight := TIGHT.match(text, place)) and (found := choice_at(text, tight.end())):
        return found
    if (loose := LOOSE.match(text, place)) and (found := choice_at(text, loose.end())):
        end = found.end()
        while (tight := TIGHT.match(text, end)) and (joined := choice_at(text, tight.end())):
            end = joined.end()
        return found if ENDS_AN_ITEM.match(text, end) else None
    return None


def items_at(text: str, place: int) -> set[str]:
    """Return the letters of the lines, or the items of a line, "A. ..." from a place on."""
    letters = set()
    while inside := ITEM_INSIDE.match(text, place):
        letters.add(inside[0].strip()[0])
        place = inside.end()
    for line in text[place:].split("\n"):
        if not line.strip():
            continue
        found = ITEM_LINE.match(line)
        if not found:
            break
        letters.add(found[1])
    return letters
