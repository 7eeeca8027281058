"""The rules of a row, and how one that breaks them is named.

A row that breaks a rule raises RowError with a short reason (the key that is counted) and a
sentence with what was expected and found. File and line are added by the loader.
"""

from typing import Any

from medtune.data.records import Message, Role


class RowError(Exception):
    """A row that cannot be used; `reason` is the key it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside the sentence."""
        super().__init__(message)
        self.reason = reason


class MalformedRow(RowError):
    """A row that is no record at all, which speaks of a broken file or another format."""


def check_order(messages: tuple[Message, ...], last: Role) -> None:
    """Raise RowError unless the roles are [system,] user, assistant, user, … up to `last`."""
    turns = messages[1:] if messages[0].role == "system" else messages
    for number, message in enumerate(turns):
        expected = "assistant" if number % 2 else "user"
        if message.role != expected:
            raise RowError(
                "role_order",
                f"expected turn {number + 1} from the {expected}, found the {message.role}; "
                "user and assistant take turns, the user first.",
            )
    if not turns or turns[-1].role != last:
        found = turns[-1].role if turns else "nobody"
        raise RowError(
            "ends_with_user" if found == "user" else "role_order",
            f"expected the {last} to speak last, found the {found}; "
            "remove the dangling turn or add its answer.",
        )


def filled_text(row: dict[str, Any], name: str) -> str:
    """Return a text field that is there and not blank; a list of one stands for its text.

    Raises RowError.
    """
    if name not in row:
        raise MalformedRow(
            "missing_field", f"expected a field '{name}', found {sorted(map(str, row))}; add it."
        )
    value = only_one(row[name])
    check_text(value, f"'{name}'")
    return value


def optional_text(row: dict[str, Any], name: str) -> str:
    """Return a text field, "" where it is absent, null or blank. Raises RowError for no text."""
    value = only_one(row.get(name))
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        return ""
    check_text(value, f"'{name}'")
    return value


def only_one(value: Any) -> Any:
    """Return what a list of one holds, however deep; anything else as it is."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def check_text(value: Any, place: str) -> None:
    """Raise RowError unless the value is text, not blank, and can be written as UTF-8."""
    if not isinstance(value, str) or not value.strip():
        raise RowError(
            "empty_content",
            f"expected text in {place}, found {describe(value)}; fill it or remove the row.",
        )
    if not is_sound(value):
        raise RowError(
            "invalid_unicode",
            f"expected Unicode text in {place}, found half of a surrogate pair (a cut emoji?); "
            "mend the row.",
        )


def is_sound(value: Any) -> bool:
    """True for text that is not blank and can be written as UTF-8."""
    try:
        return isinstance(value, str) and bool(value.strip()) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def describe(value: Any) -> str:
    """Name what stands in a field without repeating its content."""
    if value is None:
        return "null"
    return f"an empty {type(value).__name__}" if not value else f"a {type(value).__name__}"
