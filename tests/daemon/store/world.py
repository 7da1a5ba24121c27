"""What the tests of the store speak in: connections, drafts, and what the outbox tells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from oo_daemon.store import connections, outbox, schedule
from oo_daemon.store.accept import (
    DAY_KEY,
    DELETED,
    OCCURRED,
    UPSERTED,
    Accepted,
    Batch,
    Day,
    Draft,
    Encoded,
    Mark,
    Sweep,
    accept,
    tombstone_digest,
)
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.database import Database, SqliteDatabase
from oo_daemon.store.outbox import Stored
from oo_daemon.store.schedule import Run

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND
LEASE = 60 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event, as the outbox tells it."""

    position: int
    id: str
    type: str
    subject: str
    change: int
    revision: int
    payload: str


def encode(connection: Connection, observed_at: int) -> Encoded:
    """Makes events as the tests can read them."""

    def encoded(draft: Draft, identity: str, revision: int) -> bytes:
        event = {
            "id": identity,
            "type": draft.type,
            "subject": draft.subject,
            "change": draft.change,
            "revision": revision,
            "payload": draft.payload.decode(),
        }
        return json.dumps(event).encode()

    return encoded


def decode(events: Sequence[Stored]) -> list[Told]:
    """Read what `encode` wrote."""
    return [Told(position=stored[0], **json.loads(stored[1])) for stored in events]


def signed_in(name: str = "c1", **changes: Any) -> SignedIn:
    """What a sign-in says; the connection's id is its name."""
    usual: dict[str, Any] = {
        "id": name,
        "user": "ada",
        "provider": "acme",
        "account": name,
        "registration": None,
        "provider_account": "a-1",
        "label": "ada@example.org",
        "scopes": ("notes.read", "notes.write"),
        "meta": {"zone": "Europe/Berlin"},
    }
    return SignedIn(**{**usual, **changes})


def connect(database: Database, /, name: str = "c1", *, user: str = "ada", provider: str = "acme") -> Connection:
    """A connection that is due now."""
    connection = connections.put(database, signed_in(name, user=user, provider=provider), NOW)
    schedule.create(database, connection.number, NOW)
    return connection


def upsert(
    key: str, text: str = "A", *, type_: str = "acme.note", version: str = "", order: int | None = None, at: int | None = None
) -> Draft:
    """An object has this text now."""
    digest = hashlib.sha256(text.encode()).digest()[:16]
    return Draft(
        type=type_,
        key=key,
        subject=key,
        change=UPSERTED,
        digest=digest,
        at=at,
        version=version,
        order=order,
        payload=text.encode(),
        payload_type="T",
    )


def delete(key: str, *, type_: str = "acme.note", version: str = "", order: int | None = None, at: int | None = None) -> Draft:
    """An object is gone."""
    return Draft(type=type_, key=key, subject=key, change=DELETED, digest=tombstone_digest(), at=at, version=version, order=order)


def occur(key: str, text: str = "A", *, type_: str = "acme.sample", keep_key_until: int | None = None, at: int | None = None) -> Draft:
    """Something took place."""
    return Draft(
        type=type_,
        key=key,
        subject=key,
        change=OCCURRED,
        at=at,
        digest=hashlib.sha256(text.encode()).digest()[:16],
        payload=text.encode(),
        payload_type="T",
        keep_key_until=keep_key_until,
    )


def batch_of(connection: Connection, *told: Draft | Day, marks: Sequence[Mark] = (), sweep: Sweep | None = None) -> Batch:
    """What one transaction accepts."""
    drafts = [each for each in told if isinstance(each, Draft)]
    days = [each for each in told if isinstance(each, Day)]
    return Batch(connection=connection, observed_at=NOW, drafts=drafts, days=days, marks=marks, sweep=sweep)


def identity(connection: str, type_: str, key: str, revision: int) -> str:
    """The id of an event, computed by the words of the design alone: BLAKE2b-128 over length-prefixed parts."""
    parts = [part.encode() for part in (connection, type_, key, str(revision))]
    return hashlib.blake2b(b"".join(len(part).to_bytes(4, "big") + part for part in parts), digest_size=16).hexdigest()


def on_day(connection: Connection, day: int, *keys: str, type_: str = "acme.sample") -> Day:
    """What took place on a day, as an import tells it."""
    ids = [identity(connection.id, type_, key, 1) for key in keys]
    events = [encode(connection, NOW)(occur(key, type_=type_), id_, 1) for key, id_ in zip(keys, ids, strict=True)]
    return Day(type_, day, b"".join(bytes.fromhex(id_)[:DAY_KEY] for id_ in ids), events)


@dataclass(frozen=True, slots=True)
class Book:
    """The waist on the test's own thread."""

    database: Database

    @property
    def sqlite(self) -> SqliteDatabase:
        """The database, for what only SQLite has."""
        assert isinstance(self.database, SqliteDatabase)
        return self.database

    def begin(self) -> None:
        """Begin a transaction that writes."""
        self.database.rows("BEGIN IMMEDIATE" if self.database.dialect == "sqlite" else "BEGIN")

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """All or nothing."""
        self.begin()
        try:
            yield self.database
        except BaseException:
            self.database.rows("ROLLBACK")
            raise
        self.database.rows("COMMIT")

    @contextmanager
    def draft(self) -> Iterator[Database]:
        """Nothing of this is kept: quick, since it is never synced."""
        self.begin()
        try:
            yield self.database
        finally:
            self.database.rows("ROLLBACK")

    def connect(self, name: str = "c1") -> Connection:
        """A connection that is due now."""
        with self.transaction() as database:
            return connect(database, name)

    def claim(self) -> Run:
        """Claim the one connection that is due."""
        with self.transaction() as database:
            (run,) = schedule.claim(database, "me", NOW, NOW + LEASE, 1)
        return run

    def push(self, connection: Connection, *drafts: Draft) -> Accepted:
        """Accept what a push brought."""
        with self.transaction() as database:
            return accept(database, Batch(connection=connection, observed_at=NOW, drafts=drafts, pushed=True), encode)

    def take(self, connection: Connection, *drafts: Draft | Day, marks: Sequence[Mark] = (), sweep: Sweep | None = None) -> Accepted:
        """Accept in a transaction of its own."""
        with self.transaction() as database:
            return self.take_within(database, connection, *drafts, marks=marks, sweep=sweep)

    @staticmethod
    def take_within(
        database: Database, connection: Connection, *drafts: Draft | Day, marks: Sequence[Mark] = (), sweep: Sweep | None = None
    ) -> Accepted:
        """Accept in the transaction that is open."""
        return accept(database, batch_of(connection, *drafts, marks=marks, sweep=sweep), encode)

    def told(self, after: int = 0) -> list[Told]:
        """All events after a position."""
        return decode(outbox.page(self.database, after, 100_000).events)

    def said(self, after: int = 0) -> list[tuple[str, int, str]]:
        """All events after a position, in short: subject, revision, text (empty: gone)."""
        return [(event.subject, event.revision, event.payload) for event in self.told(after)]
