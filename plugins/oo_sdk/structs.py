"""Typed decoding of what a provider answers: msgspec, under the name that connectors use."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Raw

from oo_sdk.errors import ConnectorBug

__all__ = ["Raw", "Struct", "decode"]

T = TypeVar("T")


class Struct(msgspec.Struct):
    """A shape in a provider's answer. Members that are not declared are dropped when it is decoded; wrong types are errors."""


def decode(body: bytes | Raw, into: type[T]) -> T:
    """Decode JSON into a type.

    A field may be declared `Raw` to keep one item undecoded: decode the items one by one and yield `Unreadable` for one that fails.

    Raises `ConnectorBug` naming the member that does not fit (never its value).
    """
    try:
        return msgspec.json.decode(body, type=into)
    except msgspec.ValidationError as wrong:
        raise ConnectorBug(f"the provider's answer does not have the declared shape: {wrong}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConnectorBug("the provider's answer is not JSON") from None
    except RecursionError:
        raise ConnectorBug("the provider's answer is nested too deeply to be read") from None
