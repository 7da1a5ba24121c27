"""Recording a tape: what a provider answered, without secrets and without what is personal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, quote_plus

import msgspec

from oo_sdk.session import Response
from oo_sdk.testing.provider import Turn

#: Members whose text is about people or by them, whatever it looks like.
PERSONAL: Final = frozenset(
    """
    access_token address attendee avatar bio body city comment content description display_name displayname email first_name full_name
    fullname given_name key last_name location login message name nickname note notes phone refresh_token secret subject summary text
    title token user username
    """.split()  # noqa: SIM905 - a list of words is read more easily
)
#: Headers of an answer that a connector may need.
KEPT: Final = ("content-type", "etag", "link", "retry-after")
_MAIL: Final = re.compile(r"[^\s@<>\"]+@[^\s@<>\"]+\.[^\s@<>\"]+")


@dataclass(kw_only=True)
class Eraser:
    """Replaces text by stand-ins: the same text by the same one each time. `secrets` are known beforehand."""

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    known: dict[str, str] = field(default_factory=dict, repr=False)

    def turn(self, method: str, url: str, body: bytes, response: Response) -> Turn:
        """One line of the tape."""
        answer = self._body(response.body)
        headers = {name: self._text(value) for name, value in response.headers.items() if name in KEPT}
        sent = self._text(body.decode(errors="replace"))
        return Turn(method=method, url=self._text(url), body=sent, status=response.status, headers=headers, answer=self._text(answer))

    def _body(self, body: bytes) -> str:
        try:
            return msgspec.json.encode(self._value("", msgspec.json.decode(body))).decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""  # no JSON: nobody can tell what is personal in it

    def _value(self, name: str, value: Any) -> Any:
        match value:
            case dict():
                return {each: self._value(each, inner) for each, inner in value.items()}
            case list():
                return [self._value(name, inner) for inner in value]
            case str() if value and _is_personal(name, value):
                return self._stand_in(value, mail=bool(_MAIL.fullmatch(value)))
            case str():
                return _MAIL.sub(lambda found: self._stand_in(found[0], mail=True), value)
        return value

    def _stand_in(self, text: str, *, mail: bool) -> str:
        number = len(self.known) + 1
        return self.known.setdefault(text, f"person{number}@example.com" if mail else f"text {number}")

    def _text(self, text: str) -> str:
        """Replace what is known already, in an address or a form too."""
        mails = {known: stand_in for known, stand_in in self.known.items() if "@" in known}
        for known, stand_in in (dict(self.secrets) | mails).items():
            for spell in (str, quote_plus, quote):
                text = text.replace(spell(known), spell(stand_in))
        return _MAIL.sub("somebody@example.com", text) if "://" not in text else text


def _is_personal(name: str, value: str) -> bool:
    """What has a space is text; a word is personal where its name says so, unless it is a path that requests are made of."""
    return any(char.isspace() for char in value) or (name.lower() in PERSONAL and "/" not in value)
