"""Presidio's recognizers of patients' data: a pattern or two for each kind, and its own check.

They are called one by one, without Presidio's engine and without a language model. Its recognizer
of e-mail addresses is not used: it asks the network for a list of domains at first, and it takes
the Chinese letters before and after an address for parts of it.
"""

import logging
import re
from collections.abc import Callable

from presidio_analyzer import LocalRecognizer, Pattern, PatternRecognizer, RecognizerResult

from medtune.data.privacy import patterns
from medtune.data.privacy.check_digits import is_identity_number, is_luhn

SURE = 1.0  # the score: a pattern counts or does not, there is no degree
LANGUAGE = "zh"
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


class AddressRecognizer(LocalRecognizer):
    """Addresses, read backwards from the number of a house: numbers are rare, places are not."""

    def __init__(self, kind: str) -> None:
        """Name the kind that is found."""
        super().__init__(supported_entities=[kind], supported_language=LANGUAGE, name=kind)

    def load(self) -> None:
        """Load nothing: there is no model."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: object = None
    ) -> list[RecognizerResult]:
        """Return the addresses of a text."""
        places = map(find_address, patterns.ADDRESS_END.finditer(text))
        kind = self.supported_entities[0]
        return [RecognizerResult(kind, *place, SURE) for place in places if place]


def find_address(match: re.Match[str]) -> tuple[int, int] | None:
    """Return the place of the address that ends with the number of a house, if it is one.

    Specific enough is: an administrative unit and a street, village or estate; such a one with two
    numbers (building and flat); two administrative units down to a town.
    """
    text, end = match.string, match.start()
    window_start = max(0, end - patterns.MAX_ADDRESS_START)
    window = text[window_start:end]
    province = re.search(patterns.PROVINCES, window)
    start = patterns.ADDRESS_START.match(window, province.start()) if province else None
    if not start or not start["province"]:  # no province, or its name in that of a street
        start = patterns.ADDRESS_START.search(window)
    if not start or not is_specific(start, match[0]):
        return None
    begin = window_start + min(place for place, _ in start.regs[1:] if place >= 0)
    reach = max(0, begin - patterns.INSTITUTION_REACH)
    is_public = patterns.INSTITUTION_BEFORE.search(text, reach, begin)
    is_public = is_public or patterns.INSTITUTION_AFTER.match(text, match.end())
    return None if is_public else (begin, match.end())


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
    """True for an identity number, whatever stands between its digits."""
    return is_identity_number(bare(text))


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
    return has_digits and not patterns.NO_RECORD.match(text)


def build_recognizers() -> list[KindRecognizer | AddressRecognizer]:
    """Return one recognizer for each kind, named like it."""
    return [
        KindRecognizer(
            "identity_number",
            [patterns.IDENTITY_NUMBER],
            is_spaced_identity_number,
            patterns.DIGITS_OF_IDENTITY_NUMBER,
        ),
        KindRecognizer("email", [patterns.EMAIL], must_hold=re.compile("@")),
        KindRecognizer(
            "record_number",
            [patterns.RECORD_NUMBER],
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
            "messenger", patterns.MESSENGERS, is_messenger_name, patterns.LETTERS_OF_MESSENGER
        ),
        KindRecognizer("name", patterns.NAMES),
        AddressRecognizer("address"),
    ]
