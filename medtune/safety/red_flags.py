"""Signs of an emergency in a user's question, and the fixed advice that comes before the answer.

    advice_for("心口窝像压了块石头，出冷汗")   advice to call 120, in Chinese and one English line
    advice_for("没有胸痛，只是打嗝")           ""

No model takes part: red_flags.yaml holds the signs and the advice, context.py reads whether a sign
is negated, past or merely talked about. Errors are to fall on the side of advice: where it is not
clear that a sign is no present sign of a person, it counts, so that a chest pain of years, an exam
question told as a case, or "我疼得想死" get advice that they may not need. What is not seen: signs
in words that the table lacks, in other languages, and what earlier messages say, for each question
is read alone.
"""

import re

from medtune.common.text import nfkc
from medtune.safety.context import place_of, reading_of
from medtune.safety.signs import Kind, Sign, as_searched, load_table

TABLE = load_table()
ADVICE = tuple(kind.advice for kind in TABLE.kinds)
"""Each text that advice_for may return, for whoever must tell advice from an answer."""

NEAR = 150  # characters: how far "with" and "unless" of the table look
MAX_SIGNS_READ = 1_000  # of a text that takes back so many, more are not read: bounds the time

CJK = "\u3400-\u9fff"
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufe0e\ufe0f\ufeff]")
TITLE = re.compile(r"《[^《》\n]{1,40}》")
LETTER_BY_LETTER = re.compile(f"(?<![{CJK}])[{CJK}](?:[ \t][{CJK}](?![{CJK}])){{2,}}")
SPACE_BETWEEN = re.compile(f"(?<=[{CJK}])[ \t]+(?=[{CJK}])")
SPELLINGS = re.compile("|".join(map(re.escape, TABLE.spellings)))


def advice_for(question: str) -> str:
    """Return the advice for the emergency that a question tells of, or "" where it tells of none.

    Of several emergencies, the one that comes first in red_flags.yaml. Takes any text, raises
    nothing, and takes time in proportion to the text.
    """
    kind = find_kind(question)
    return kind.advice if kind else ""


def find_kind(question: str) -> Kind | None:
    """Return the kind of emergency that a question tells of: see advice_for."""
    text = "\n" + normalised(question)  # so that there is a character before each
    best, num_read = len(TABLE.kinds), 0
    for candidate in TABLE.firsts.finditer(text):
        start = candidate.start()
        if not TABLE.begins[candidate.group()].match(text, start):
            continue
        for sign in TABLE.signs_of[candidate.group()]:
            match = sign.lead.match(text, start) if sign.kind < best else None
            if match:
                num_read += 1
                best = sign.kind if stands(sign, text, match) else best
        if best == 0 or num_read > MAX_SIGNS_READ:
            break
    return TABLE.kinds[best] if best < len(TABLE.kinds) else None


def stands(sign: Sign, text: str, match: re.Match[str]) -> bool:
    """True if a sign is complete and told as a present fact."""
    counts = TABLE.kinds[sign.kind].counts_even_if
    near = text[max(0, match.start() - NEAR) : match.end() + NEAR]
    if sign.unless and sign.unless.search(near):
        return False
    if reading_of(place_of(text, *match.span()), counts):
        return False
    return all(
        any(
            not reading_of(place_of(near, *other.span()), counts)
            for other in pattern.finditer(near)
        )
        for pattern in sign.others
    )


def normalised(question: str) -> str:
    """Return a question as the table's words are written.

    One width and case, simplified characters, common slips of the pen put right, no titles of
    books, no set phrases that only look like a sign; a space between Chinese words is a comma.
    """
    text = INVISIBLE.sub("", nfkc(question)).casefold().translate(TABLE.simplified)
    text = TITLE.sub("〇", text.replace("’", "'"))
    text = LETTER_BY_LETTER.sub(lambda match: re.sub(r"[ \t]", "", match.group()), text)
    text = SPACE_BETWEEN.sub(",", text)
    text = SPELLINGS.sub(lambda match: TABLE.spellings[match.group()], text)
    return TABLE.harmless.sub("〇", as_searched(text))
