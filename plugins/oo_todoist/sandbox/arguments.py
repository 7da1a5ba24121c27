"""Reading the arguments of commands: each reader gives the value or refuses it in Todoist's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from oo_todoist.sandbox.refusals import invalid, missing

Json = dict[str, Any]
Read = Callable[[object, str], Any]


def text(longest: int, *, empty: bool = False) -> Read:
    """Read a string of at most so many characters; an empty one only where that makes sense."""

    def read(value: object, argument: str) -> str:
        if not isinstance(value, str):
            raise invalid(argument, expected="Input should be a valid string")
        if not empty and not value.strip():
            raise invalid(argument, expected="String should have at least 1 character")
        if len(value) > longest:
            raise invalid(argument, expected=f"String should have at most {longest} characters")
        return value

    return read


def integer(low: int | None = None, high: int | None = None) -> Read:
    """Read a whole number between bounds."""

    def read(value: object, argument: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise invalid(argument, expected="Input should be a valid integer")
        if low is not None and value < low:
            raise invalid(argument, expected=f"Input should be greater than or equal to {low}")
        if high is not None and value > high:
            raise invalid(argument, expected=f"Input should be less than or equal to {high}")
        return value

    return read


def flag(value: object, argument: str) -> bool:
    """Read a truth value; 0 and 1 count, since older clients send them."""
    if value not in (True, False):
        raise invalid(argument, expected="Input should be a valid boolean")
    return bool(value)


def words(value: object, argument: str) -> list[str]:
    """Read a list of strings."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise invalid(argument, expected="Input should be a valid list of strings")
    return list(dict.fromkeys(value))


def one_of(*allowed: str) -> Read:
    """Read one of a few strings."""

    def read(value: object, argument: str) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise invalid(argument, expected=f"Input should be {' or '.join(allowed)}")
        return value

    return read


def optional(read: Read) -> Read:
    """Let null through as well."""
    return lambda value, argument: None if value is None else read(value, argument)


def duration(value: object, argument: str) -> Json:
    """Read {amount > 0, unit minute or day}."""
    if not isinstance(value, dict):
        raise invalid(argument, expected="Input should be a valid dictionary")
    for member in ("amount", "unit"):
        if member not in value:
            raise missing(f"{argument}.{member}")
    return {
        "amount": integer(1)(value["amount"], f"{argument}.amount"),
        "unit": one_of("minute", "day")(value["unit"], f"{argument}.unit"),
    }


def attachment(value: object, argument: str) -> Json:
    """Read what hangs on a comment; of what kind it is has to be said, or it is a file."""
    if not isinstance(value, dict):
        raise invalid(argument, expected="Input should be a valid dictionary")
    return {"resource_type": "file", **value}


def read_all(fields: Mapping[str, Read], args: Mapping[str, object]) -> Json:
    """Read those of the fields that were given. What is not a field is passed over, as Todoist does."""
    return {name: read(args[name], name) for name, read in fields.items() if name in args}
