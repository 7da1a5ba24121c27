"""How PostgreSQL finds what the hot queries ask for: by an index, however many rows there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import postgresql as servers
import pytest
from daemon.store.world import LEASE, NOW, SECOND, encode, occur, upsert

from oo_daemon.store import accept, connections, credentials, flows, inbox, jobs, outbox, retention, schedule, uploads
from oo_daemon.store.database import Database, Row
from oo_daemon.store.outbox import Filter
from oo_daemon.store.postgresql import PostgresqlDatabase, translated

ROWS = 20_000
#: For so many PostgreSQL plans, too.
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
#: Rows as a host has them that has run for a while: little of it is due, and most of what came is done. `i` counts them.
FILLED = (
    "INSERT INTO source (id, provider, token_hash, key_id, sealed, secret_count, scheme, enabled, created_at) "
    "VALUES ('acme', 'acme', '', '', '', 0, '', 1, 0)",
    'INSERT INTO connection (number, id, "user", provider, account, state, reason, provider_account, label, scopes, meta, created_at, '
    "changed_at, version) SELECT i, 'c' || i, 'u' || i / 3, 'acme', 'a' || i, 'active', '', 'p' || i, '', '', '{}', 0, 0, 1 FROM {all}",
    "INSERT INTO schedule (connection, next_run_at, generation, tries, fence, finished_fence, events) "
    "SELECT i, {now} + (i - 50)::bigint * 1000000, 0, 0, 0, 0, 0 FROM {all}",
    "INSERT INTO run (connection, slot, fence, started_at, finished_at, outcome, detail, calls, bytes, pages, events, unreadable) "
    "SELECT i, 0, 0, 0, CASE WHEN i % 1000 = 0 THEN NULL ELSE 1 END, '', '', 0, 0, 0, 0, 0 FROM {all}",
    "INSERT INTO credential (connection, key_id, sealed, token_version, expires_at, state, intent_tries, fence) "
    "SELECT i, 'k', '', 1, {now}, 'good', 0, 0 FROM {all}",
    "INSERT INTO delivery (source, delivery_id, weak, state, reason, tries, waiting, next_try_at, fence, headers, body, received_at) "
    "SELECT 'acme', 'd' || i, 0, CASE WHEN i % 500 = 0 THEN 'received' ELSE 'done' END, '', 0, 0, "
    "CASE WHEN i % 500 = 0 THEN 0 END, 0, '{}', '', i FROM {all}",
    'INSERT INTO job (id, kind, connection, "key", body, state, reason, tries, next_try_at, fence, created_at) '
    "SELECT 'j' || i, 'act', i, 'k', '{}', 'done', '', 1, CASE WHEN i % 500 = 0 THEN 0 END, 0, 0 FROM {all}",
    'INSERT INTO outbox (position, stream, connection, "user", type, "key", body, accepted_at) '
    "SELECT i, 0, 1 + i % 500, 'u', 'acme.note', 'n' || i, '', {now} - 1000000::bigint * (20000 - i) FROM {all}",
    'INSERT INTO object (connection, type, "key", revision, change, digest, version, position, generation) '
    "SELECT 1 + i % 500, 'acme.note', 'n' || i, 1, 1, '', '', i, 0 FROM {all}",
    "INSERT INTO occurrence (connection, \"key\") SELECT 1 + i % 500, decode(lpad(to_hex(i), 32, '0'), 'hex') FROM {all}",
    'INSERT INTO flow (id, provider, "user", account, key_id, redirect_uri, scopes, asked, return_to, account_found, status, reason, '
    "link_hash, state_hash, created_at, expires_at) SELECT 'f' || i, 'acme', 'u' || i, 'a', '', '', '', '', '', '', 'connected', '', "
    "decode(lpad(to_hex(i), 32, '0'), 'hex'), decode(lpad(to_hex(i), 32, '0'), 'hex'), 0, 0 FROM {all}",
    "INSERT INTO upload (id, connection, ticket_hash, expires_at, state, reason, name, received, done, summary, events, tries, created_at) "
    "SELECT 'u' || i, i, decode(lpad(to_hex(i), 32, '0'), 'hex'), 0, 'done', '', '', 0, 0, '{}', 0, 0, i FROM {all}",
    "UPDATE stream SET position = {rows}, events = {rows}",
)


@pytest.fixture(scope="module")
def full(server: servers.Server) -> Iterator[PostgresqlDatabase]:
    """A database with some rows in every large table, of which PostgreSQL knows how many there are."""
    with server.migrated() as database:
        for sql in FILLED:
            series = f"generate_series(1, {ROWS}) i"
            database.run(sql.replace("{all}", series).replace("{now}", str(NOW)).replace("{rows}", str(ROWS)))
        database.run("ANALYZE")
        yield database


def _accept(database: Database) -> None:
    known = connections.by_number(database, 7)
    assert known is not None
    drafts = [*(upsert(f"n{each}") for each in range(20)), *(occur(f"o{each}") for each in range(20))]
    accept.accept(database, accept.Batch(connection=known, observed_at=NOW, drafts=drafts), encode)


HOT: dict[str, Callable[[Database], object]] = {
    "claiming runs": lambda database: schedule.claim(database, "me", NOW, NOW + LEASE, 8),
    "is something due": lambda database: schedule.waiting(database, NOW),
    "a heartbeat": lambda database: schedule.of(database, 7, NOW),
    "claiming deliveries": lambda database: inbox.claim(database, "me", NOW, NOW + LEASE, 64),
    "claiming a delivery again": lambda database: inbox.claim_again(database, "me", NOW, NOW + LEASE),
    "how many deliveries wait": inbox.depth,
    "claiming jobs": lambda database: jobs.claim(database, "me", NOW, NOW + LEASE, 8),
    "a credential": lambda database: credentials.read(database, "c7"),
    "a lease on it": lambda database: credentials.lease(database, "c7", "me", NOW, NOW + LEASE),
    "a connection by its id": lambda database: connections.by_id(database, "c7"),
    "connections of a user": lambda database: connections.listed(database, user="u7"),
    "connections at an account": lambda database: connections.at_accounts(database, "acme", ["p7"]),
    "accepting a batch": _accept,
    "a page of the outbox": lambda database: outbox.page(database, ROWS - 100, 50),
    "a page from far behind": lambda database: outbox.page(database, 10, 50, Filter(type="acme.note")),
    "where a moment is": lambda database: outbox.before(database, NOW - 100 * SECOND),
    "a connection's events": lambda database: outbox.of_connection(database, 7, 20),
    "what retention looks at": lambda database: retention.oldest(database, 0, ROWS, 200),
    "sign-ins to poll": lambda database: flows.to_poll(database, NOW, NOW + LEASE),
    "sign-ins to finish": lambda database: flows.confirmed(database, NOW),
    "a sign-in by its link": lambda database: flows.by_link(database, b"link", NOW),
    "an upload to begin": lambda database: uploads.claim(database, "", NOW, 2),
}


@pytest.mark.parametrize("name", HOT)
def test_a_hot_query_reads_no_table_to_its_end(full: PostgresqlDatabase, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What it costs does not grow with the rows that it does not ask for: from ten thousand connections to ten million."""
    asked: list[tuple[str, Sequence[Any]]] = []
    rows = full.rows

    def noted(sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        asked.append((sql, parameters))
        return rows(sql, parameters)

    rows("BEGIN")
    try:
        monkeypatch.setattr(full, "rows", noted)
        HOT[name](full)
        monkeypatch.undo()
        plans = {(ROWS, sql): _plan(full, sql, parameters) for sql, parameters in asked}
        for size in SIZES:
            # The planner takes so many rows to be in each page, and keeps what else it knows of them.
            rows(f"UPDATE pg_class SET reltuples = {size}::real WHERE relnamespace = 'public'::regnamespace AND reltuples >= {SIZES[0]}")
            plans |= {(size, sql): _plan(full, sql, parameters) for sql, parameters in asked}
    finally:
        rows("ROLLBACK")
    assert plans
    assert {place: read for place, plan in plans.items() if (read := [*_read_whole(plan)])} == {}


def test_the_planner_believes_what_it_is_told(full: PostgresqlDatabase) -> None:
    """That a table has ten million rows: what has no index for it costs five hundred times as much."""
    sql = "SELECT 1 FROM connection WHERE label = 'x'"
    full.rows("BEGIN")
    try:
        before = _plan(full, sql, ())
        full.rows(f"UPDATE pg_class SET reltuples = {SIZES[-1]}::real WHERE relname = 'connection'")
        after = _plan(full, sql, ())
    finally:
        full.rows("ROLLBACK")
    assert [*_read_whole(after)] == ["connection"]
    assert after["Total Cost"] > 100 * before["Total Cost"]


def test_a_claim_leaves_the_indexes_as_they_are(full: PostgresqlDatabase) -> None:
    """What it changes is in none of them, and there is room for it on the page: nothing of it is left there to be passed over."""
    full.run("VACUUM schedule")  # what other tests have rolled back
    counts = "pg_stat_get_xact_tuples_updated('schedule'::regclass), pg_stat_get_xact_tuples_hot_updated('schedule'::regclass)"
    full.rows("BEGIN")
    try:
        ((before, so_before),) = full.rows(f"SELECT {counts}")
        claimed = schedule.claim(full, "me", NOW, NOW + LEASE, 8)
        assert full.rows(f"SELECT {counts}") == [(before + len(claimed), so_before + len(claimed))]
    finally:
        full.rows("ROLLBACK")


def _plan(database: PostgresqlDatabase, sql: str, parameters: Sequence[Any]) -> dict[str, Any]:
    row = database.handle().execute(translated(f"EXPLAIN (FORMAT JSON) {sql}"), parameters).fetchone()
    assert row is not None
    found = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return dict(found[0]["Plan"])


def _read_whole(plan: dict[str, Any]) -> Iterator[str]:
    """The large tables that a plan reads from their beginning to their end."""
    if plan["Node Type"] == "Seq Scan" and plan["Relation Name"] not in {
        "source",
        "stream",
        "consumer",
        "registration",
        "subscription",
        "dead_letter",
    }:
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from _read_whole(part)
