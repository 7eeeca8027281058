"""Presidio's recognizers of patients' data: a pattern or two for each kind, and its own check.

They are called one by one, without Presidio's engine and without a language model. Its recognizer
of e-mail addresses is not used: it asks the network for a list of domains at first, and it takes
the Chinese letters before and after an address for parts of it.
"""

import logging
import re
from collections.abc import Callable, Iterator

from presidio_analyzer import LocalRecognizer, Pattern, PatternRecognizer, RecognizerResult

from medtune.data.privacy import patterns
from medtune.data.privacy.check_digits import is_identity_number, is_luhn
from medtune.data.privacy.dictionary import dictionary
from medtune.data.privacy.names import find_names

LEADS = frozenset("vprtdcf")  # parts of speech that begin no address: verb, preposition, ...
SURE = 1.0  # the score: a pattern counts or does not, there is no degree
LANGUAGE = "zh"
OLD_LENGTH = 15  # of an identity number of before 1999
IsValid = Callable[[str], bool]

logging.getLogger("presidio-analyzer").setLevel(logging.WARNING)  # it logs a line for each pattern


class KindRecognizer(PatternRecognizer):
    """The patterns of one kind.

    is_valid: sees what one of them matched and may refuse it.   must_hold: what a text without any
    match lacks; it is sought first, because Presidio's way to a pattern costs more than the search.
    """

    def __init__(
        self,
        kind: str,
        expressions: list[str],
        is_valid: IsValid | None = None,
        must_hold: re.Pattern[str] | None = None,
    ) -> None:
        """Take the expressions as they are: no flags are added to them."""
        # One pattern each: joined by | they are three times as slow, and hide one another.
        found = [Pattern(f"{kind} {place}", text, SURE) for place, text in enumerate(expressions)]
        super().__init__(
            supported_entity=kind,
            supported_language=LANGUAGE,
            name=kind,
            patterns=found,
            global_regex_flags=0,
        )
        self.is_valid = is_valid
        self.must_hold = must_hold

    def analyze(
        self,
        text: str,
        entities: list[str],
        nlp_artifacts: object = None,
        regex_flags: int | None = None,
    ) -> list[RecognizerResult]:
        """Return the matches of a text that are valid."""
        if self.must_hold and not self.must_hold.search(text):
            return []
        return super().analyze(text, entities, nlp_artifacts, regex_flags)

    def validate_result(self, pattern_text: str) -> bool | None:
        """Return whether a match counts, None if every match does."""
        return self.is_valid(pattern_text) if self.is_valid else None


class PlaceRecognizer(LocalRecognizer):
    """What a function finds that weighs more than a pattern can."""

    def __init__(self, kind: str, find: Callable[[str], Iterator[tuple[int, int]]]) -> None:
        """Take the kind and the function, which yields start and end of each place in a text."""
        self.find = find
        super().__init__(supported_entities=[kind], supported_language=LANGUAGE, name=kind)

    def load(self) -> None:
        """Load nothing: there is no model."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: object = None
    ) -> list[RecognizerResult]:
        """Return the places that the function finds."""
        kind = self.supported_entities[0]
        return [RecognizerResult(kind, *place, SURE) for place in self.find(text)]


def find_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Yield addresses, read backwards from the number of a house: numbers are rare, places not."""
    yield from filter(None, map(find_address, patterns.ADDRESS_END.finditer(text)))


def find_address(match: re.Match[str]) -> tuple[int, int] | None:
    """Return the place of the address that ends with the number of a house, if it is one.

    Specific enough is: an administrative unit and a street, village or estate; such a one with two
    numbers (building and flat); two administrative units down to a town.
    """
    text, end = match.string, match.start()
    window_start = max(0, end - patterns.MAX_ADDRESS_START)
    window = text[window_start:end]
    start = find_address_start(window, match[0])
    if not start:
        return None
    begin = window_start + trim_address(start, match[0])
    reach = max(0, begin - patterns.INSTITUTION_REACH)
    is_public = patterns.INSTITUTION_BEFORE.search(text, reach, begin)
    is_public = is_public or patterns.INSTITUTION_AFTER.match(text, match.end())
    return None if is_public else (begin, match.end())


def find_address_start(window: str, house: str) -> re.Match[str] | None:
    """Return the parts of the address before the number of a house, without the words before it."""
    province = re.search(patterns.PROVINCES, window)
    start = patterns.ADDRESS_START.match(window, province.start()) if province else None
    if start and start["province"] and is_specific(start, house):  # no part of a street's name
        return start
    # From the last word that leads to an address back to the first: names of places hold some.
    leads = [lead.end() for lead in patterns.ADDRESS_LEAD.finditer(window)]
    for begin in [*reversed(leads), 0]:
        start = patterns.ADDRESS_START.search(window, begin)
        if start and is_specific(start, house):
            return start
    return None


def trim_address(start: re.Match[str], house: str) -> int:
    """Return where the address begins in its window, after the verbs and the like before it."""
    begin = min(place for place, _ in start.regs[1:] if place >= 0)
    if start["province"]:
        return begin
    # Estates and streets have verbs in their names, as 团结小区: there only the short ones go.
    longest = 4 if start["city"] or start["district"] else 1
    for word in dictionary().words_of(start.string[begin:]).values():
        is_lead = dictionary().part_of_speech(word) in LEADS and len(word) <= longest
        shorter = patterns.ADDRESS_START.match(start.string, begin + len(word))
        if not is_lead or not shorter or not is_specific(shorter, house):
            break
        begin += len(word)
    return begin


def is_specific(start: re.Match[str], house: str) -> bool:
    """True if the parts of an address single out a house."""
    num_units = sum(bool(start[level]) for level in ("province", "city", "district", "town"))
    if start["street"]:
        return num_units > 0 or len(patterns.NUMBERED_UNIT.findall(house)) > 1
    return num_units > 1 and bool(start["town"])


# -- what is valid of what matched


def bare(number: str) -> str:
    """Return a number without what stands between its digits."""
    return re.sub(r"[\s-]", "", number)


def is_spaced_identity_number(text: str) -> bool:
    """True for an identity number with any gaps, and for an old one without a check digit."""
    number = bare(text)
    return len(number) == OLD_LENGTH or is_identity_number(number)


def is_bank_card(text: str) -> bool:
    """True for the number of a known issuer with the right check digit."""
    digits = bare(text)
    return bool(patterns.CARD_ISSUER.fullmatch(digits)) and is_luhn(digits)


def is_messenger_name(text: str) -> bool:
    """True unless it is the messenger's own name, as in 微信(WeChat)."""
    return text.lower() not in ("wechat", "weixin")


def is_record_number(text: str) -> bool:
    """True for enough digits that are no date and no number of a register of trials."""
    has_digits = sum(map(str.isdigit, text)) >= patterns.MIN_RECORD_DIGITS
    return has_digits and not patterns.NO_RECORD.match(text) and not is_bank_card(text)


def build_recognizers() -> list[KindRecognizer | PlaceRecognizer]:
    """Return one recognizer for each kind, named like it."""
    return [
        KindRecognizer(
            "identity_number",
            [patterns.IDENTITY_NUMBER, patterns.OLD_IDENTITY_NUMBER],
            is_spaced_identity_number,
            patterns.DIGITS_OF_IDENTITY_NUMBER,
        ),
        KindRecognizer("email", [patterns.EMAIL], must_hold=re.compile("@")),
        KindRecognizer(
            "record_number",
            patterns.RECORD_NUMBERS,
            is_record_number,
            patterns.DIGITS_OF_RECORD,
        ),
        KindRecognizer(
            "bank_card", patterns.BANK_CARDS, is_bank_card, patterns.DIGITS_OF_BANK_CARD
        ),
        KindRecognizer(
            "mobile_number", patterns.MOBILE_NUMBERS, must_hold=patterns.DIGITS_OF_MOBILE_NUMBER
        ),
        KindRecognizer(
            "landline_number",
            patterns.LANDLINE_NUMBERS,
            must_hold=patterns.DIGITS_OF_LANDLINE,
        ),
        KindRecognizer(
            "messenger", patterns.MESSENGERS, is_messenger_name, patterns.LETTERS_OF_MESSENGER
        ),
        PlaceRecognizer("name", find_names),
        PlaceRecognizer("address", find_addresses),
    ]
