"""Names of patients: what can be a name by its characters, and is one by the words around it.

A name is sought at each surname. What stands before it and what stands after it weigh 0 to 3 each;
characters that stand in names only weigh 1 more. Together they must reach ENOUGH. Unless one side
settles it, jieba's dictionary must agree: no word reaches over an end of the name, and the name is
no other word.
"""

import re
from collections.abc import Iterator

from medtune.data.privacy import name_words as words
from medtune.data.privacy import patterns
from medtune.data.privacy.dictionary import COMMON, dictionary

ENOUGH = 3
SETTLED = 3  # one side that vouches for any character of a given name
REACH = 10  # characters on each side of the surname in which words are looked for
MAX_LABEL = 16  # characters before a name that are looked at
FOLLOWS = frozenset("vdtprc")  # parts of speech that may follow a name: verb, adverb, time, ...

SURNAME = re.compile(
    rf"(?:{words.COMPOUND_SURNAMES}|(?<!\u00b7)[{words.SURNAMES}])(?!{words.TITLE})(?=[{patterns.HAN}])"
)
NO_NAME = re.compile(f"{words.NO_NAME}|{words.HERBS_AND_DRUGS}|{words.FAMOUS}")
GIVEN_NAME = re.compile(rf"[^\W{words.NOT_IN_GIVEN_NAMES}]+")
GIVEN = frozenset(words.GIVEN_CHARACTERS)
HAN = re.compile(f"[{patterns.HAN}]")
NAMED = (*words.PERSON, *words.FORM, *words.FORM_ENDS)
LINKS = "是为叫系写填"
COLONS = frozenset(":： \u3000\t")
ENUMERATION = "、"


def find_names(text: str) -> Iterator[tuple[int, int]]:
    """Yield the places of names, in order and without overlap."""
    last = -1
    for match in SURNAME.finditer(text):
        if match.start() < last or NO_NAME.match(text, match.start()):
            continue
        end = find_end(text, match.start(), match.end(), last)
        if end:
            last = end
            yield match.start(), end


def find_end(text: str, start: int, given: int, last: int) -> int:
    """Return where the name ends that starts with the surname text[start:given], or 0.

    last: the end of the name before it, of which it may be the companion (联系人王芳、李明).
    """
    ends = [end for end in (given + 1, given + 2) if is_given(text[given:end], end - given)]
    if not ends:
        return 0
    before = weigh_before(text, start, last)
    after = {end: weigh_after(text, end) for end in ends}
    # What follows a name ends it; where nothing does, two characters are likelier than one.
    for end in sorted(ends, key=lambda end: (-after[end], end if after[end] else -end)):
        total = before + after[end]
        if after[end] and SETTLED in (before, after[end]) and total > ENOUGH:
            return end
        total += weigh_name(text[start], text[given:end], before)
        if total >= ENOUGH - (not after[end]) and is_name(text, start, end, before, ENOUGH - total):
            return end
    return 0


def is_given(name: str, length: int) -> bool:
    """True if the characters could be a given name of that length."""
    return len(name) == length and bool(GIVEN_NAME.fullmatch(name)) and all(map(HAN.match, name))


def weigh_before(text: str, start: int, last: int) -> int:
    """Return how much what precedes says for a name: 3 a field, 2 a person, 1 that one begins."""
    if last >= 0 and words.CHAIN.match(text, last, start):
        return 2
    window = text[max(0, start - MAX_LABEL) : start]
    bare = words.ASIDE.sub("", window.rstrip(words.SEPARATORS))
    gap = window[len(bare) :]
    if not bare or bare[-1] == "\n":
        return 1
    if not COLONS.isdisjoint(gap):
        label = bare.replace(" ", "")
        if label.endswith(words.FORM):
            return 3
        if label.endswith(words.FORM_ENDS):
            return 2
    if bare[-1] in LINKS and bare.rstrip(LINKS).endswith(words.FORM):
        return 3
    if "@" in gap or bare.endswith(NAMED) or words.BED.search(bare):
        return 2
    if ENUMERATION in gap or bare.endswith(words.NO_LABEL):
        return 0
    return int(bool(gap) or not HAN.match(bare[-1]) or bare.endswith(words.ACTION))


def weigh_after(text: str, end: int) -> int:
    """Return how much what follows says for a name: 3 the head of a case, 1 no more than an end."""
    if words.CASE_HEAD.match(text, end):
        return 3
    if words.STRONG_AFTER.match(text, end):
        return 2
    return int(bool(words.WEAK_AFTER.match(text, end)))


def weigh_name(surname: str, given: str, before: int) -> int:
    """Return how much the name says for itself: 1 or 2 if it is hardly anything else, -3 if none.

    A word of the dictionary, as in 周发生, speaks against it where nothing before it does for it.
    """
    if not GIVEN.issuperset(given):
        return -ENOUGH
    is_only_surname = surname in words.ONLY_SURNAMES
    if not words.ONLY_GIVEN.isdisjoint(given):
        return 1 + (is_only_surname and len(given) > 1)
    if len(given) > 1 and dictionary().is_common(given):
        return 0 if before > 1 or is_only_surname else -1
    return int(is_only_surname or (len(given) > 1 and before > 0))


def is_name(text: str, start: int, end: int, before: int, num_lacking: int) -> bool:
    """True if the dictionary agrees that a name stands there.

    before: of 2 or more, the word before the name is known, and is not looked up.   num_lacking:
    if positive, the word after the name must be of a part of speech that speaks for it.
    """
    jieba = dictionary()
    if jieba.is_common(text[start:end], COMMON if before > 1 else COMMON // 10):
        return False
    if before < 2 and jieba.is_common(text[start : end - 1]):
        return False
    begin = start if before > 1 else max(0, start - REACH)
    window = text[begin : end + REACH]
    word_at = jieba.words_of(window)
    start, end = start - begin, end - begin
    if start not in word_at or (end not in word_at and end != len(window)):
        return False
    return num_lacking <= 0 or jieba.part_of_speech(word_at.get(end, "")) in FOLLOWS
