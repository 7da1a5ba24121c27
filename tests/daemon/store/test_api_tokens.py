"""Tokens of callers: found by their hash, listed by age, gone when revoked."""

from __future__ import annotations

from dataclasses import replace

from daemon.store.world import NOW, Book

from oo_daemon.store import api_tokens
from oo_daemon.store.api_tokens import ApiToken

FIRST = ApiToken(name="reader", hash=b"\x00one", scopes=("events", "status"), created_at=NOW, expires_at=None)
SECOND = ApiToken(name="backup", hash=b"\xfftwo", scopes=("admin",), created_at=NOW + 1, expires_at=NOW + 9)


def test_a_token_is_found_by_its_hash(book: Book) -> None:
    """A name is given once; who asks by another hash finds nothing."""
    with book.transaction() as database:
        assert api_tokens.add(database, FIRST)
        assert not api_tokens.add(database, replace(SECOND, name="reader"))
        assert api_tokens.add(database, SECOND)
        assert api_tokens.by_hash(database, b"\x00one") == FIRST
        assert api_tokens.by_hash(database, b"\x00on") is None
        assert api_tokens.listed(database) == [FIRST, SECOND]


def test_a_use_is_noted_and_a_revocation_is_at_once(book: Book) -> None:
    """What was revoked is given back once, and opens nothing any more."""
    with book.transaction() as database:
        api_tokens.add(database, FIRST)
        api_tokens.used(database, "reader", NOW + 5)
        used = replace(FIRST, last_used_at=NOW + 5)
        assert api_tokens.by_hash(database, FIRST.hash) == used
        assert api_tokens.revoke(database, "reader") == used
        assert api_tokens.revoke(database, "reader") is None
        assert api_tokens.by_hash(database, FIRST.hash) is None
