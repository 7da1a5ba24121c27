"""Handshakes: what some senders want answered before they send. Pure: each gives the answer, or None where it was no handshake."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from oo_daemon.connections import member, verify
from oo_sdk import BodyChallenge, FirstSecret, QueryChallenge, Scheme

#: What is given back: nothing that a browser could take for a page, and nothing long.
_CHALLENGE = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}", re.ASCII)
_FIRST = re.compile(r"[!-~]{16,512}", re.ASCII)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the sender gets."""

    body: bytes
    content_type: str


def to_query(scheme: Scheme, query: Mapping[str, str], token: str) -> Answer | None:
    """Answer a GET; `token` is the last part of the address."""
    asked = scheme.handshake
    if not isinstance(asked, QueryChallenge):
        return None
    challenge = query.get(asked.parameter, "")
    if any(query.get(name) != value for name, value in asked.when) or not _CHALLENGE.fullmatch(challenge):
        return None
    if asked.token and not verify.any_same([_bytes(query.get(asked.token, ""))], [_bytes(token)]):
        return None
    return Answer(body=challenge.encode(), content_type="text/plain")


def to_body(scheme: Scheme, key: bytes, body: bytes) -> Answer | None:
    """Answer a body that was verified."""
    asked = scheme.handshake
    if not isinstance(asked, BodyChallenge) or member.of(body, asked.when[0]) != asked.when[1]:
        return None
    challenge = member.text(body, asked.member)
    if not _CHALLENGE.fullmatch(challenge):
        return None
    if not asked.hashed:
        return Answer(body=challenge.encode(), content_type="text/plain")
    said = {asked.member.rpartition(".")[2]: challenge, asked.hashed: verify.keyed_hash(scheme, key, challenge)}
    return Answer(body=msgspec.json.encode(said), content_type="application/json")


def first_secret(scheme: Scheme, body: bytes) -> str | None:
    """The secret that a sender's first body brings."""
    asked = scheme.handshake
    found = member.of(body, asked.member) if isinstance(asked, FirstSecret) else None
    return found if isinstance(found, str) and _FIRST.fullmatch(found) else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
