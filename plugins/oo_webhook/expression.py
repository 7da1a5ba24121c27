"""Expressions that pick something out of a delivery: JMESPath, which lives here only."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jmespath.parser import ParsedResult

#: Longest expression, in characters: they are written by people.
LONGEST = 1000


@lru_cache(maxsize=256)
def _compiled(expression: str) -> ParsedResult:
    import jmespath  # here, since most have no source with expressions

    return jmespath.compile(expression)


def check(expression: str) -> None:
    """Refuse what is no expression. Raises `ValueError` with a sentence."""
    if len(expression) > LONGEST:
        raise ValueError(f"an expression has at most {LONGEST} characters")
    try:
        _compiled(expression)
    except (ValueError, RecursionError):  # all of JMESPath's own are of the first kind
        raise ValueError(f"{expression!r} is no JMESPath expression") from None


def pick(expression: str, document: Any) -> Any:
    """What an expression finds; None where it finds nothing, or asks something of a value that it cannot have."""
    if not expression:
        return None
    try:
        return _compiled(expression).search(document)
    except (RecursionError, ArithmeticError, TypeError, ValueError):
        return None
