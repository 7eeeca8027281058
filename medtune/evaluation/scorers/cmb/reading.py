"""The letters that a careful person reads in an answer to an exam question.

The most explicit of these decides: a statement of the answer ("故选B"), an answer that is letters
alone, verdicts on the options ("A错误，B正确"), an option's text, the only letter of a short
answer. What contradicts itself or names too many letters cannot be read, and that is counted.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from medtune.evaluation.scorers.cmb.letters import (
    CHOICES,
    Group,
    answer_at,
    group_at,
    is_choice,
    plain,
)
from medtune.evaluation.scorers.cmb.official import SEVERAL_ANSWERS

SHORT = 40  # characters; one letter in a longer text may be a thought on the way
LETTERS_OF_ALL = frozenset("ABCDEFG")
LONGEST_TEXT = 8_000  # characters that are looked at, from both ends of an answer

NEXT_QUESTION = re.compile(
    r"\n\s*(?:以下是中国|(?:问题|用户|Question|User|Human)\s*:)|\|user\|", re.IGNORECASE
)
STATEMENT = re.compile(
    r"(?:(?:正确|最佳|最终|参考|标准|最优|合适|符合题意)的?(?:答案|选项|选择)|答案|选择|选(?!项)|"
    r"(?:认为|觉得)?(?:应该|应当|应|而)是|(?:认为|觉得)是|应为|改为|更正为|"
    r"(?:正确|合适|恰当|符合题意)的(?:是|有|为)|"
    r"\banswers?\b|\b(?:correct|right|best) (?:option|choice)s?\b)"
    r"(?:\s|[:=,]|选项|字母|应该|应当|应|就|只|能|可以|是|为|了|的|有|包[括含]|选择|选|"
    r"\b(?:is|are|be|options?|choices?|the)\b)*",
    re.IGNORECASE,
)
NOT_STATED = re.compile(
    r"(?:不|未|误|错|漏|别|勿|非|还是|或者?|如果|若|假如|不能|不应|不可|不要|不该|干扰)(?:应该?|能|可以?|再)?$"
)
NOT_OWN = re.compile(r"有人|有的|有些|他人|同学|部分|下列|以下|如果|若")
CONCLUDES = re.compile(
    r"综上|综合|因此|所以|故|最终|总之|总而言之|更正|改为|纠正|结论|其实|实际上|重新|但|therefore|thus|hence|final|conclu",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"[。!?\n]")
ALL_OF_THEM = re.compile(
    r"(?<!不)(?:全选|以上(?:选项)?(?:全部|均|都|全)(?:正确|对|是)|(?:所有|全部)选项(?:均|都)?(?:正确|对))"
)
RANGE = re.compile(r"(?<![A-Za-z0-9])([A-G])\s*[-~—至到]\s*([A-G])(?![A-Za-z0-9])")
AFTER_BARE = re.compile(r"\s*(?:$|[\n.。:,;、!])")

WRONG = (
    r"不正确|不对|不符合题意|不符合|错误|错|有误|不恰当|不合适|不成立|不应该?选|不能选|"
    r"incorrect|wrong"
)
RIGHT = (
    r"正确|对(?![于照应比抗症])|最?符合(?:题意)?|最(?:佳|合适|恰当)|成立|应该?选|correct|right"
    r"|(?:the )?(?:correct|best|right)"
)
ON_OPTION = re.compile(
    rf"\s*(?:选项|这?[三四五两]?项|答案)?\s*(?:(?:[.、:][^\n。;]{{1,60}}?[-,;。\s]"
    rf"(?:故|因此|所以|这|该)?(?:选?项|说法)?(?:也?是|为)?)|"
    rf"[.、:]?(?:都|均|全|皆|是|为|也|显然|的|说法|描述|表述|叙述|\s|is\b|are\b)*)"
    rf"(?:(?P<wrong>{WRONG})|(?P<right>{RIGHT}))"
)
SUBJECT_BEFORE, SUBJECT_AFTER = re.compile(r"选项\s*$"), re.compile(r"\s*选?项")
DENIED = re.compile(
    r"(?:不是|不考虑|并非|排除|不(?:应该?|该|能|要|可|宜)?选|而非|不属于|没有|无|除了?|\bnot)\s*(?:选项)?\s*$"
)


class Statement(NamedTuple):
    """Letters that an answer states; None where the choice is left open."""

    letters: frozenset[str] | None
    is_conclusion: bool


class Question(NamedTuple):
    """What an answer can choose from."""

    letters: frozenset[str]
    takes_several: bool
    options: Mapping[str, str]

    def accepts(self, chosen: frozenset[str] | None) -> str | None:
        """Return the letters in order if they can be an answer to this question."""
        if not chosen or not chosen <= self.letters:
            return None
        return "".join(sorted(chosen)) if self.takes_several or len(chosen) == 1 else None


def read_choice(
    text: str,
    letters: str,
    question_type: str,
    options: Mapping[str, str] | None = None,
) -> str | None:
    """Return the letters that an answer means, in alphabetical order; None if nobody could say.

    letters: those that the question offers, such as "ABCDE".   options: letter to text, if known;
    then an answer that quotes exactly one of them is read as its letter.
    Two letters where one is asked for are not read.
    Example: "根据DNA检测及CT结果，应选B" -> "B"; "不是A" -> None.
    """
    question = Question(frozenset(letters), question_type == SEVERAL_ANSWERS, options or {})
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT // 2] + "\n" + text[-LONGEST_TEXT // 2 :]
    text = plain(text).strip()
    # A model that does not stop goes on with a question and an answer of its own.
    return _read(NEXT_QUESTION.split(text, maxsplit=1)[0].strip(), question)


def read_samples(
    texts: Sequence[str],
    letters: str,
    question_type: str,
    options: Mapping[str, str] | None = None,
) -> str | None:
    """Return the commonest choice among the samples that can be read; ties go to the first."""
    choices = [read_choice(text, letters, question_type, options) for text in texts]
    counted = Counter(choice for choice in choices if choice)
    return counted.most_common(1)[0][0] if counted else None


def _read(text: str, question: Question) -> str | None:
    """Ask the readers one after the other; the first that finds something decides."""
    if question.takes_several:
        text = RANGE.sub(lambda found: _letters_between(found[1], found[2]), text)
    statements = list(_statements(text))
    if statements:
        return question.accepts(_settle(statements))
    readers: tuple[Callable[[str, Question], frozenset[str]], ...] = (
        _all_of_them, _bare_letters, _verdicts, _quoted_option, _only_letter,
    )  # fmt: skip
    for reader in readers:
        if chosen := reader(text, question):
            return question.accepts(chosen)
    return None


def _letters_between(first: str, last: str) -> str:
    """Return "ABC" for A and C."""
    return "".join(chr(code) for code in range(ord(first), ord(last) + 1))


def _statements(text: str) -> Iterator[Statement]:
    """Yield what the text states as its answer, in order."""
    for found in STATEMENT.finditer(text):
        group = answer_at(text, found.end())
        sentence = SENTENCE_END.split(text[: found.start()])[-1]
        if group and not NOT_STATED.search(sentence) and not NOT_OWN.search(sentence):
            is_conclusion = bool(CONCLUDES.search(sentence + found[0]))
            yield Statement(None if group.is_undecided else group.letters, is_conclusion)


def _settle(statements: list[Statement]) -> frozenset[str] | None:
    """Return what all statements say, or else the last conclusion, or None."""
    if len({statement.letters for statement in statements}) == 1:
        return statements[0].letters
    conclusions = [statement for statement in statements if statement.is_conclusion]
    return conclusions[-1].letters if conclusions else None


def _all_of_them(text: str, question: Question) -> frozenset[str]:
    """Return every letter where all options are said to be right."""
    return question.letters if question.takes_several and ALL_OF_THEM.search(text) else frozenset()


def _bare_letters(text: str, question: Question) -> frozenset[str]:
    """Return the letters that an answer begins with, alone or before an option's text."""
    if set(text.upper()) <= {*LETTERS_OF_ALL, *" \n,、;"}:
        return frozenset(text.upper()) & LETTERS_OF_ALL  # "abd": small letters make no words here
    start = len(text) - len(text.removeprefix("选项").lstrip(" \n.,:;-•·"))
    group = answer_at(text, start)
    if not group or group.is_undecided or not AFTER_BARE.match(text, group.end):
        return frozenset()
    judged = [judgement_group.start for judgement_group, _ in _judgements(text)]
    if len(judged) > 1 and judged[0] == start:
        return frozenset()  # an analysis of each option, not a list of the right ones
    return group.letters


def _judgements(text: str) -> Iterator[tuple[Group, bool]]:
    """Yield (letters, are they right) for each verdict on options."""
    place = 0
    while found := CHOICES.search(text, place):
        group = group_at(text, found.start()) if found[0].isupper() else None
        place = group.end if group else found.end()
        verdict = ON_OPTION.match(text, place) if group else None
        if group and verdict:
            yield group, verdict["right"] is not None


def _verdicts(text: str, question: Question) -> frozenset[str]:
    """Return the options judged right; of a question with one answer also the one odd out."""
    right: set[str] = set()
    wrong: set[str] = set()
    for group, is_right in _judgements(text):
        (right if is_right else wrong).update(group.letters)
    if right & wrong:
        return frozenset()
    # All right but one: the question asks for the wrong one.
    if not question.takes_several and len(right) > 1 and len(wrong) == 1:
        return frozenset(wrong)
    return frozenset(right)


def _quoted_option(text: str, question: Question) -> frozenset[str]:
    """Return the letter of the only option whose text is quoted, first in what is stated last."""
    quotes = {key: plain(option).strip() for key, option in question.options.items()}
    stated = [found.end() for found in STATEMENT.finditer(text)]
    scopes = [SENTENCE_END.split(text[stated[-1] :])[0]] if stated else []
    for scope in [*scopes, text]:
        quoted = set()
        rest = scope
        # The longest first: a shorter option may be part of it.
        for key, quote in sorted(quotes.items(), key=lambda item: -len(item[1])):
            if quote and (len(quote) > 1 or rest.strip(" 。.") == quote) and quote in rest:
                before, _, after = rest.partition(quote)
                rest = f"{before}\0{after}".replace(quote, "\0")
                if not DENIED.search(before):
                    quoted.add(key)
        if len(quoted) == 1:
            return frozenset(quoted)
    return frozenset()


def _only_letter(text: str, question: Question) -> frozenset[str]:
    """Return the only letter of a short answer that it does not deny.

    "选项A是……" speaks of an option, and may be the beginning of a thought.
    """
    if len(text) > SHORT:
        return frozenset()
    named = set()
    for found in CHOICES.finditer(text):
        before, after = text[: found.start()], text[found.end() :]
        is_letter = len(found[0]) == 1 and found[0].isupper() and is_choice(text, *found.span())
        is_subject = SUBJECT_BEFORE.search(before) or SUBJECT_AFTER.match(after)
        if is_letter and not is_subject and not DENIED.search(before):
            named.add(found[0])
    return frozenset(named) if len(named) == 1 else frozenset()
