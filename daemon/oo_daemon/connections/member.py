"""One member of a JSON body, looked up without believing anything of the body."""

from __future__ import annotations

from typing import Any

import msgspec

_ONE_LEVEL = msgspec.json.Decoder(dict[str, msgspec.Raw])


def of(body: bytes, path: str) -> Any:
    """What stands at a path, whose dots lead inwards; None where there is nothing, or the body is no JSON. Never raises.

    Only what lies on the path is decoded.
    """
    try:
        found: bytes | msgspec.Raw = body
        for name in path.split("."):
            found = _ONE_LEVEL.decode(found)[name]
        return msgspec.json.decode(found)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, RecursionError):
        return None


def text(body: bytes, path: str) -> str:
    """The text or whole number at a path; empty for anything else."""
    found = of(body, path)
    if isinstance(found, str):
        return found
    return str(found) if type(found) is int else ""
