"""A secret that does not know how to print.

Tokens exist as `Secret` from the vault to the header that carries them. It cannot be pickled, hashed or encoded, so that
each place where the text comes out is a visible call of `reveal()`.
"""

import hmac
from collections.abc import Callable
from typing import Never, NoReturn

_told: Callable[[str], None] | None = None


def watch_secrets(told: Callable[[str], None] | None) -> None:
    """Have each secret told to this from now on, so that a log can blot it out wherever it turns up. One for the process, as its log is."""
    global _told  # the alternative is to hand it to every place that makes a secret, and to forget one
    _told = told


class Secret:
    """A text that shows itself only to who asks for it by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError("A secret is a text.")  # never the value: it would end up in a log
        self._text = text
        if _told is not None:
            _told(text)

    def reveal(self) -> str:
        """Give the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self), _bytes(other))

    # A hash would be a fingerprint of the text in every crash dump, and sets compare in variable time.
    __hash__ = None  # type: ignore[assignment]  # the documented way to say "not hashable"

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, _memo: object) -> "Secret":
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("A secret cannot be pickled.")

    def __getstate__(self) -> Never:
        raise TypeError("A secret cannot be pickled.")


def _bytes(secret: Secret) -> bytes:
    # surrogatepass: a UnicodeEncodeError would carry the whole text with it.
    return secret.reveal().encode("utf-8", "surrogatepass")
