"""Whether the check digit of an identity number or a bank card is right."""

import re
from datetime import date

MIN_BIRTH_YEAR = 1900
PROVINCE_CODE = re.compile("1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|91")
CHECK_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
CHECK_DIGITS = "10X98765432"


def is_identity_number(number: str) -> bool:
    """True for 18 characters as GB 11643-1999 has them: province, date of birth, check digit.

    The check digit makes the weighted sum 1 modulo 11, with X for ten.
    """
    if not PROVINCE_CODE.match(number):
        return False
    try:
        birth = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    if birth.year < MIN_BIRTH_YEAR or birth > date.today():
        return False
    total = sum(int(d) * weight for d, weight in zip(number[:17], CHECK_WEIGHTS, strict=True))
    return CHECK_DIGITS[total % 11] == number[17].upper()


def is_luhn(digits: str) -> bool:
    """True if the last digit is the Luhn check digit of those before it (ISO/IEC 7812-1)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0
