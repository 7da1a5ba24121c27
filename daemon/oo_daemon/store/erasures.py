"""Erasures: what is asked to be forgotten, how far that is, and the receipt that stays.

`begin` is the suppression: from its commit on nothing of these connections enters the outbox. Everything after it may be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from oo_daemon.store import audit, connections, credentials, inbox, jobs, retention, schedule
from oo_daemon.store.accept import STREAM
from oo_daemon.store.connections import Connection, StateChanged
from oo_daemon.store.database import Database, Row
from oo_daemon.store.errors import LeaseLost

Kind = Literal["user", "connection"]
Cause = Literal["asked", "withdrawn"]
State = Literal["running", "waiting", "done"]

#: Rows of one statement: with a full disk there is room for little at a time.
SOME = 100

#: Every table that holds something of a connection, with what tells its rows apart. A test holds this against the schema.
OF_A_CONNECTION: Mapping[str, str] = {
    "outbox": "position",
    "object": 'type, "key"',
    "occurrence": '"key"',
    "occurrence_day": "type, day",
    "upload": "id",
}
#: What goes with the row of the connection, by the schema's own ON DELETE CASCADE, once its provider was told.
WITH_THE_ROW = frozenset({"schedule", "credential", "credential_use", "job", "source", "delivery", "run", "subscription", "subscriber"})
#: What holds nothing of anybody's, or is kept on purpose.
KEPT: Mapping[str, str] = {
    "vault_key": "keys are the daemon's",
    "registration": "clients are the operator's",
    "budget": "digests of users, forgotten two days after their last call",
    "audit": "what administrators did; about whom is said by random ids",
    "audit_subject": "whom those ids stand for: erased by `end_connection` and `finish`",
    "latency": "numbers of deliveries, by hour",
    "probe": "a row that means nothing",
    "stream": "a counter",
    "duty": "which daemon does what, for a minute",
    "consumer": "readers are the operator's",
    "dead_letter": "positions only; the events go from the outbox",
    "track": "positions, and ids of events, for a quarter of an hour; the events go from the outbox",
    "api_token": "callers are the operator's",
    "migration": "the schema's history",
    "connection": "erased last, by `end_connection`",
    "flow": "erased by `erase_sign_ins`",
    "visit": "likewise; one that shows the receipt has no user",
    "erasure": "the receipt: no user once it is done",
    "erasure_part": "the receipt: the random id of a connection, and its provider",
}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One connection that is being erased."""

    number: int
    id: str
    provider: str
    revocation: Mapping[str, str]  #: what the provider was told: revoked, remains, manual_url, reason; while it is to be told a reason only
    tried_at: int | None  #: when it was told, or that was last tried
    ended: bool  #: its row is gone


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """One erasure."""

    id: str
    kind: Kind
    cause: Cause  #: asked for here, or the access was taken back at the provider
    user: str | None  #: None once it is done
    parts: tuple[Part, ...]
    counts: Mapping[str, int]  #: rows erased, by table
    tombstone: int | None  #: position of the event that tells consumers
    acks: Mapping[str, int]  #: by consumer, when it was past that event
    created_at: int
    erased_at: int | None  #: nothing of it can be found any more
    physical_at: int | None  #: nothing of it is in the file any more
    finished_at: int | None

    @property
    def state(self) -> State:
        """`waiting`: only for somebody else, a provider or the time for the file to be packed."""
        if self.finished_at is not None:
            return "done"
        return "running" if self.erased_at is None else "waiting"


_COLUMNS = 'id, kind, cause, "user", counts, tombstone, acks, created_at, erased_at, physical_at, finished_at'


def _value(database: Database, row: Row) -> Erasure:
    id_, kind, cause, user, counts, tombstone, acks, created_at, erased_at, physical_at, finished_at = row
    parts = database.rows(
        "SELECT p.connection, p.id, p.provider, p.revocation, COALESCE(p.told_at, j.tried_at), j.reason, p.ended FROM erasure_part p "
        "LEFT JOIN job j ON j.connection = p.connection AND j.kind = 'revoke' AND j.state = 'queued' "
        "WHERE p.erasure = ? ORDER BY p.connection",
        (id_,),
    )
    return Erasure(
        id=id_,
        kind=kind,
        cause=cause,
        user=user,
        parts=tuple(
            Part(
                number=number,
                id=of,
                provider=provider,
                revocation=msgspec.json.decode(revocation) or ({"reason": reason} if reason else {}),
                tried_at=tried_at,
                ended=bool(ended),
            )
            for number, of, provider, revocation, tried_at, reason, ended in parts
        ),
        counts=msgspec.json.decode(counts),
        tombstone=tombstone,
        acks=msgspec.json.decode(acks),
        created_at=created_at,
        erased_at=erased_at,
        physical_at=physical_at,
        finished_at=finished_at,
    )


def by_id(database: Database, id_: str) -> Erasure | None:
    """The erasure with this id."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM erasure WHERE id = ?", (id_,))
    return _value(database, rows[0]) if rows else None


def listed(database: Database, *, unfinished: bool = False, limit: int = 100) -> list[Erasure]:
    """Erasures, newest first."""
    where = "finished_at IS NULL" if unfinished else "1 = 1"
    rows = database.rows(f"SELECT {_COLUMNS} FROM erasure WHERE {where} ORDER BY created_at DESC, id LIMIT ?", (limit,))
    return [_value(database, row) for row in rows]


def of_user(database: Database, user: str) -> Erasure | None:
    """The erasure of a user that is not done yet."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM erasure WHERE kind = 'user' AND \"user\" = ? AND finished_at IS NULL", (user,))
    return _value(database, rows[0]) if rows else None


def of_connection(database: Database, number: int) -> Erasure | None:
    """The erasure that a connection is part of."""
    rows = database.rows("SELECT erasure FROM erasure_part WHERE connection = ? AND ended = 0", (number,))
    return by_id(database, rows[0][0]) if rows else None


def begin(
    database: Database,
    *,
    id_: str,
    kind: Kind,
    user: str,
    of: Sequence[Connection],
    job_ids: Sequence[str],
    now: int,
    cause: Cause = "asked",
) -> Erasure:
    """Suppress these connections and note that they are to be erased. `job_ids` are for their revocations, one each."""
    database.alone(f"user {user}")  # a sign-in that ends at the same time sees it, or is seen
    database.rows(
        "INSERT INTO erasure (id, kind, cause, \"user\", counts, acks, created_at) VALUES (?, ?, ?, ?, '{}', '{}', ?)",
        (id_, kind, cause, user, now),
    )
    for connection, job_id in zip(of, job_ids, strict=True):
        schedule.stop(database, connection.number, now)
        StateChanged(number=connection.number, state="erasing", reason="", now=now).apply(database)
        database.rows("UPDATE connection SET label = '', meta = '{}' WHERE number = ?", (connection.number,))
        jobs.fail(database, "act", connection.number, "its connection was erased", now)
        sealed = credentials.token_version(database, connection.number)
        if sealed:
            jobs.put(database, id_=job_id, kind="revoke", connection=connection.number, key=f"erase {id_}", body={}, now=now)
        told = {} if sealed else _told_before(database, connection.number)
        database.rows(
            "INSERT INTO erasure_part (erasure, connection, id, provider, revocation, ended) VALUES (?, ?, ?, ?, ?, 0)",
            (id_, connection.number, connection.id, connection.provider, msgspec.json.encode(told).decode()),
        )
    if kind == "user":
        erase_sign_ins(database, user, now, now)
    found = by_id(database, id_)
    if found is None:
        raise AssertionError("an erasure that was just written is there")
    return found


def _told_before(database: Database, number: int) -> Mapping[str, Any]:
    """What became of a grant that was given back before; where there never was one, nothing is left either."""
    before = jobs.latest(database, "revoke", number)
    result = before.result if before is not None else None
    return {"revoked": "fully", "reason": ""} if before is None or result is None else {**result, "reason": before.reason}


def erase_sign_ins(database: Database, user: str, before: int, now: int) -> int:
    """Erase a user's sign-ins and visits that were begun by then. Gives how many sign-ins are left.

    Those hold a grant that is still to be given back, or are just getting one: forgotten now, it would stay alive at the provider.
    """
    mine = '"user" = ? AND created_at <= ?'
    getting = "status = 'exchanging' AND expires_at > ?"
    database.rows(f"DELETE FROM visit WHERE {mine}", (user, before))
    database.rows(f"DELETE FROM flow WHERE {mine} AND (sealed IS NULL OR account_found = '') AND NOT ({getting})", (user, before, now))
    database.rows(
        f"UPDATE flow SET status = 'failed', reason = '', link_hash = NULL, state_hash = NULL, browser_hash = NULL WHERE {mine} "
        f"AND status <> 'failed' AND NOT ({getting})",
        (user, before, now),
    )
    ((count,),) = database.rows(f"SELECT count(*) FROM flow WHERE {mine}", (user, before))
    return int(count)


def drop_sign_ins(database: Database, user: str, before: int) -> None:
    """Erase a user's sign-ins that were begun by then, whatever they hold. (Their visits went when the erasure began.)"""
    database.rows('DELETE FROM flow WHERE "user" = ? AND created_at <= ?', (user, before))


def erase_some(database: Database, erasure: str, number: int) -> int:
    """Erase some rows of a connection; gives how many, 0 once there are none, or once another daemon has written the tombstone."""
    if not database.rows(f"SELECT id FROM erasure WHERE id = ? AND erased_at IS NULL {database.locking('FOR SHARE')}", (erasure,)):
        return 0
    for table, key in OF_A_CONNECTION.items():
        size = "length(body)" if table == "outbox" else "0"
        rows = database.rows(
            f"DELETE FROM {table} WHERE connection = ? AND ({key}) IN (SELECT {key} FROM {table} WHERE connection = ? LIMIT ?) "
            f"RETURNING {size}",
            (number, number, SOME),
        )
        if rows:
            if table == "outbox":
                retention.let_go(database, [size for (size,) in rows])
            _count(database, erasure, table, len(rows))
            return len(rows)
    return 0


def erase_deliveries(database: Database, erasure: str, connection: Connection) -> int:
    """Erase the bodies of some deliveries that name the account at the provider, or a subscription there; gives how many.

    One that is still to become events is left until it has: others may be in it, too. One that waits for a connection has none any more.
    """
    names, last = inbox.names_account(connection), 0
    while True:
        rows = database.rows(
            f"SELECT d.number, d.body, {inbox.subscribed(database)} FROM delivery d JOIN source s ON s.id = d.source "
            "WHERE s.provider = ? AND d.body IS NOT NULL AND (d.state <> 'received' OR d.waiting = 1) "
            f"AND ({inbox.names(database)}) AND d.number > ? ORDER BY d.number LIMIT ?",
            (connection.number, connection.provider, *inbox.named(connection), last, SOME),
        )
        mine = [number for number, body, subscribed in rows if subscribed or names(bytes(body))]
        if mine or not rows:
            break
        last = rows[-1][0]  # all of these name others, whose ids hold this one
    if mine:
        database.rows(
            "UPDATE delivery SET headers = '{}', body = NULL, state = CASE WHEN state = 'received' THEN 'dead' ELSE state END, "
            "next_try_at = NULL, waiting = 0, reason = '', lease_owner = NULL, lease_until = NULL "
            f"WHERE number IN ({', '.join('?' * len(mine))})",
            mine,
        )
        _count(database, erasure, "delivery", len(mine))
    return len(mine)


def told(database: Database, number: int, revocation: Mapping[str, str], now: int) -> None:
    """Note what became of a connection's grant."""
    database.rows(
        "UPDATE erasure_part SET revocation = ?, told_at = ? WHERE connection = ? AND ended = 0",
        (msgspec.json.encode(revocation).decode(), now, number),
    )


def end_connection(database: Database, number: int) -> None:
    """Erase the row itself, and all that goes with it."""
    for (id_,) in database.rows("DELETE FROM connection WHERE number = ? RETURNING id", (number,)):
        audit.forget(database, f"connection {id_}")
    database.rows("UPDATE erasure_part SET ended = 1 WHERE connection = ?", (number,))


def note(database: Database, /, id_: str, **at: Any) -> None:
    """Note a step: `erased_at`, `physical_at`, `tombstone`, `acks` (as a mapping)."""
    for column, value in at.items():
        stored = msgspec.json.encode(value).decode() if column == "acks" else value
        database.rows(f"UPDATE erasure SET {column} = ? WHERE id = ?", (stored, id_))


def finish(database: Database, id_: str, now: int) -> None:
    """It is done: of whom it was is forgotten, too."""
    for kind, user in database.rows('SELECT kind, "user" FROM erasure WHERE id = ?', (id_,)):
        if kind == "user" and user is not None:
            audit.forget(database, f"user {user}")
    database.rows('UPDATE erasure SET finished_at = ?, "user" = NULL WHERE id = ?', (now, id_))


def _count(database: Database, id_: str, table: str, more: int) -> None:
    ((text,),) = database.rows("SELECT counts FROM erasure WHERE id = ?", (id_,))
    counts = msgspec.json.decode(text, type=dict[str, int])
    counts[table] = counts.get(table, 0) + more
    database.rows("UPDATE erasure SET counts = ? WHERE id = ?", (msgspec.json.encode(counts).decode(), id_))


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: the provider of a connection that is being erased was told, or will not be."""

    connection: int
    revocation: Mapping[str, str]
    now: int

    def apply(self, database: Database) -> None:
        """Write it."""
        told(database, self.connection, self.revocation, self.now)


class TombstoneWritten(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: everything is erased, and the one event of this batch tells consumers."""

    erasure: str
    now: int

    def apply(self, database: Database) -> None:
        """Write it, with the position that the event will have: the stream's row is held until the commit.

        Raises `LeaseLost` where another daemon was quicker.
        """
        if not database.rows("UPDATE erasure SET erased_at = ? WHERE id = ? AND erased_at IS NULL RETURNING id", (self.now, self.erasure)):
            raise LeaseLost("another daemon has erased it")
        ((position,),) = database.rows("UPDATE stream SET position = position WHERE id = ? RETURNING position", (STREAM,))
        note(database, self.erasure, tombstone=position + 1)


def reborn(database: Database, deleted: Mapping[str, int]) -> list[Connection]:
    """Connections that were erased and are there again, as an older database was restored. `deleted`: random id → when it was erased."""
    there = [connection for id_ in deleted if (connection := connections.by_id(database, id_)) is not None]
    return [connection for connection in there if connection.state != "erasing" and connection.created_at <= deleted[connection.id]]
