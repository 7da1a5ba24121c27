"""Requests and answers as values, so that the same code answers over HTTP and in a simulation without it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from oo_google_calendar.sandbox.refusals import Refusal, invalid

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request."""

    method: str
    path: tuple[str, ...]  #: its parts, decoded
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)  #: names in lower case
    body: bytes = b""

    def json(self) -> Json:
        """Read the body as a JSON object; an empty one has no members."""
        if not self.body:
            return {}
        try:
            members = json.loads(self.body)
        except (ValueError, RecursionError):
            members = None
        if not isinstance(members, dict):
            raise Refusal(400, "parseError", "Parse Error")
        return members

    def form(self) -> dict[str, str]:
        """Read the body as a form."""
        return dict(parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True))

    def flag(self, name: str) -> bool | None:
        """Read a parameter that is true or false; None where it is not given."""
        text = self.query.get(name)
        if text is not None and text.lower() not in {"true", "false"}:
            raise invalid(name)
        return None if text is None else text.lower() == "true"

    def number(self, name: str, default: int, most: int) -> int:
        """Read a parameter that is a number from 1; a larger one than may be counts as the largest."""
        text = self.query.get(name, str(default))
        if not text.isdecimal() or int(text) < 1:
            raise invalid(name)
        return min(int(text), most)


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer; without a body it is 204."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """Give the body's bytes."""
        return b"" if self.body is None else json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()
