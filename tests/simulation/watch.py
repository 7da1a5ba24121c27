"""What must hold, whatever happens: looked at after each commit, at each call that leaves and each answer that is promised.

Adding an invariant: a method here that appends a sentence to `broken`, and a call from where it can be seen. A seed ends at the step at
which the first sentence is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import apsw
from simulation.loop import Process, SeededLoop
from simulation.provider import CANARY, Grant, Provider

from oo_daemon.ports import SECOND
from oo_daemon.store import credentials
from oo_daemon.store.database import Database, SqliteDatabase
from oo_daemon.store.inbox import Claimed
from oo_daemon.store.jobs import Job
from oo_daemon.store.schedule import Run
from oo_vault import Keyring, Secret, digest

#: Tables with leases: the column that names a row, and the longest lease in seconds.
LEASES = {"schedule": ("connection", 60), "credential": ("connection", 40), "job": ("number", 150), "delivery": ("number", 60)}
#: Nothing of these may vanish in a life that is shorter than their retention, but by an erasure.
KEPT = {"outbox", "delivery", "job", "connection"}
ERASING = {"erase_some", "end_connection"}
#: Sealed anew with other bytes each time: only their length is the same in a replay.
SEALED = {"sealed", "secrets", "verifier", "known_answer"}


#: A row as it was written.
Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Touched:
    """What a transaction did to a row."""

    new: bool
    after: Values | None  #: None: it is gone


class Watch:
    """Watches one database."""

    def __init__(self, database: SqliteDatabase, loop: SeededLoop, now: Callable[[], int], keyring: Keyring) -> None:
        self.broken: list[str] = []
        self.history = blake2b(digest_size=16)  #: of everything that was committed, in order
        self.commits = 0
        self.providers: dict[str, Provider] = {}
        self._database = database
        self._loop = loop
        self._now = now
        self._keyring = keyring
        self._touched: dict[tuple[str, int], _Touched] = {}
        self._written: list[Values | None] = []
        self._end = 0
        self._cursors: dict[int, tuple[int, str | None]] = {}
        self._leases: dict[tuple[str, int], tuple[str | None, int, int]] = {}
        self._grants: dict[int, Grant | None] = {}  #: connection → what is kept of it
        self._tokens: dict[int, str] = {}  #: connection → the refresh token that is kept
        self._sealed: dict[int, bytes] = {}  #: connection → what was opened last
        self._done: set[int] = set()  #: deliveries whose events have been looked for
        self.ordered: set[str] = set()  #: providers whose webhooks say all
        self._columns = {table: _columns(database, table) for table in (*LEASES, "outbox")}
        self._compact = {name for name, compact in database.rows("SELECT name, wr FROM pragma_table_list") if compact}
        self._connection = database.handle()  # the same for the whole life
        self._connection.preupdate_hook(self._note)

    def close(self) -> None:
        """Look no more."""
        self._connection.preupdate_hook(None)

    def _note(self, change: apsw.PreUpdate) -> None:
        """Keep what a row becomes, until it is committed."""
        key, after = (change.table_name, change.rowid_new), change.new
        self._written.append(after)
        if change.table_name in self._compact:
            return  # its rows have no numbers
        before = self._touched.get(key)
        new = change.op == "INSERT" or (before is not None and before.new)
        self._touched[key] = _Touched(new and after is not None, after)

    # --- after each commit --------------------------------------------------------------------------------------------

    def refused(self) -> None:
        """A transaction was rolled back."""
        self._touched.clear()
        self._written.clear()

    def committed(self, process: Process, what: str) -> None:
        """A transaction was committed."""
        touched, self._touched = self._touched, {}
        written, self._written = self._written, []
        self.commits += 1
        self.history.update(f"{self._loop.time():.6f} {process.owner} {what} {[*touched]}\n".encode())
        if CANARY in repr(written):
            self.broken.append("a token is readable in the database")
        emitted = []
        for (table, row), touch in touched.items():
            after = touch.after
            if after is None and table in KEPT and what not in ERASING:
                self.broken.append(f"a row of {table} vanished")
            if table == "outbox" and touch.new:
                emitted.append(row)
            elif table in LEASES:
                self._lease(table, row, after)
            if table == "schedule":
                self._cursor(row, after)
            elif table == "credential":
                self._credential(row, after)
            elif table == "delivery" and after is not None and row not in self._done:
                self._delivery(row, after)
        if emitted:
            self._emitted(sorted(emitted))

    def _of(self, table: str, values: Values, *names: str) -> Values:
        """Some of what is in a row."""
        places = self._columns[table]
        return tuple([values[places[name]] for name in names])

    def _emitted(self, positions: list[int]) -> None:
        """Positions only grow; and whoever has disconnected gets nothing more from a provider."""
        if positions[0] <= self._end:
            self.broken.append(f"position {positions[0]} was used twice")
        before, self._end = self._end, positions[-1]
        ((counted,),) = self._database.rows("SELECT position FROM stream")
        if counted != self._end:
            self.broken.append(f"the last position is {self._end}, and the stream counts {counted}")
        sql = (
            "SELECT c.state, o.type FROM outbox o LEFT JOIN connection c ON c.number = o.connection "
            "WHERE o.position > ? AND (c.state IS NULL OR c.state IN ('revoking', 'disconnected', 'erasing'))"
        )
        for state, type_ in self._database.rows(sql, (before,)):
            if state in {"revoking", "disconnected"} and type_.endswith(".thing"):
                self.broken.append("an event was emitted after the disconnect")
            elif state not in {"revoking", "disconnected"} and not type_.endswith(".erased"):
                self.broken.append("an event was emitted after the erasure")

    def _delivery(self, row: int, after: Values) -> None:
        """A delivery that is done has been told: its events are in the index, or the schedule knows of it, in the same commit."""
        state, body, done_at, source = self._of("delivery", after, "state", "body", "done_at", "source")
        if state != "done" or body is None:
            return
        self._done.add(row)
        ((provider,),) = self._database.rows("SELECT provider FROM source WHERE id = ?", (source,))
        told = json.loads(body)
        sql = (
            "SELECT s.tries, coalesce(s.lease_until, 0), s.nudged_at, o.ordinal, s.listed "
            "FROM connection c JOIN schedule s ON s.connection = c.number "
            'LEFT JOIN object o ON o.connection = c.number AND o."key" = ? '
            "WHERE c.provider = ? AND c.provider_account = ? AND c.state = 'active'"
        )
        for tries, until, nudged_at, order, listed in self._database.rows(sql, (told["thing"]["id"], provider, told["account"])):
            if provider in self.ordered:
                listed_since = told["thing"]["at"] < max(json.loads(listed or "{}").values(), default=0)
                if not listed_since and (order is None or order < told["thing"]["seq"]):
                    self.broken.append("a webhook is done, and what it said is not in the index")
            elif (until > done_at or tries == 0) and (nudged_at or 0) < done_at:  # else it is due by itself
                self.broken.append("a webhook is done, and nobody will look what it was about")

    def _lease(self, table: str, row: int, values: Values | None) -> None:
        """At most one live lease: nobody takes what another still holds."""
        if values is None:
            self._leases.pop((table, row), None)
            return
        owner, until, fence = self._of(table, values, "lease_owner", "lease_until", "fence")
        before, self._leases[table, row] = self._leases.get((table, row)), (owner, until or 0, fence)
        if before is None or before[0] is None or owner is None or before[2] == fence:
            return
        now, longest = self._now(), LEASES[table][1]
        held = now < before[1] <= now + longest * SECOND  # one that ends later is of a time before the clock was set back
        if held and not (table == "credential" and owner == before[0]):
            self.broken.append(f"the {table} lease of {before[0]} was taken by {owner} before it had ended")

    def _cursor(self, row: int, after: Values | None) -> None:
        """Cursors run forwards, until a listing begins anew."""
        if after is None:
            self._cursors.pop(row, None)
            return
        generation, cursor = self._of("schedule", after, "generation", "cursor")
        known, before = self._cursors.get(row, (generation, None))
        if before is not None and cursor is not None and known == generation and _place(cursor) < _place(before):
            self.broken.append(f"a cursor ran backwards: {before} to {cursor}")
        self._cursors[row] = (generation, cursor)

    def _credential(self, row: int, after: Values | None) -> None:
        """Know what is kept; what is erased must be over at the provider, too."""
        if after is None:
            self._sealed.pop(row, None)
            self._tokens.pop(row, None)
            gone = self._grants.pop(row, None)
            if gone is not None and not gone.dead and not gone.unsaved:
                self.broken.append(f"the credential of {gone.account} was erased, and its grant lives on")
            return
        (sealed,) = self._of("credential", after, "sealed")
        if self._sealed.get(row) == sealed:
            return  # its lease or its intent
        self._sealed[row] = sealed
        ((provider, id_),) = self._database.rows("SELECT provider, id FROM connection WHERE number = ?", (row,))
        kept = credentials.read(self._database, id_).open(self._keyring)
        shown = kept.refresh_token or kept.access_token
        self._tokens[row] = shown.reveal()
        grant = self._grants[row] = self.providers[provider].by_token.get(shown.reveal())
        if grant is not None and grant.refresh == shown.reveal():
            grant.unsaved = False

    # --- what leaves, and what is promised ----------------------------------------------------------------------------

    def refreshing(self, process: Process, token: str) -> None:
        """A refresh token leaves: its intent is durable, and its sender holds the lease.

        Not so where it was replaced since by a new sign-in; and what was frozen between its last look and its call cannot know better.
        """
        if token not in self._tokens.values() or self._just_thawed(process):
            return
        sql = "SELECT lease_owner FROM credential WHERE intent_digest = ?"
        rows = self._database.rows(sql, (digest(Secret(token)),))
        if not rows:
            self.broken.append("a refresh token was used without a durable intent")
        elif rows[0][0] != process.owner:
            self.broken.append("a refresh token was used by one who does not hold the lease")

    def _just_thawed(self, process: Process) -> bool:
        return 0.0 <= self._loop.time() - process.frozen_until <= 1.0

    def answered(self, process: Process, provider: Provider) -> None:
        """A provider was asked something."""
        if provider.reused and not self._just_thawed(process):
            self.broken.append(f"a spent refresh token of {provider.reused[0]} was used again, although its successor was kept")
        provider.reused.clear()

    def promised(self, table: str, **columns: str) -> None:
        """Somebody was told that this is taken: it is there. It cannot vanish, as every deletion is looked at."""
        where = " AND ".join(f"{name} = ?" for name in columns)
        if not self._database.rows(f"SELECT 1 FROM {table} WHERE {where}", (*columns.values(),)):
            self.broken.append(f"a {table} was acknowledged and is not stored")

    def stopped(self, process: Process, *, refused: bool) -> None:
        """A daemon has ended in order and holds nothing any more; a refresh may, whose end the disk has `refused` earlier."""
        for table, (name, _) in LEASES.items():
            if table == "credential" and refused:
                continue
            if self._database.rows(f"SELECT {name} FROM {table} WHERE lease_owner = ?", (process.owner,)):
                self.broken.append(f"a daemon that was stopped in order still holds a {table} lease")

    def fenced(self, database: Database, given: Iterable[Any]) -> list[str]:
        """Which of these things its holder has lost, before the write that may or may not go through with it."""
        lost = []
        for table, row, fence in _held(given):
            name = LEASES[table][0]
            if database.rows(f"SELECT fence FROM {table} WHERE {name} = ?", (row,)) != [(fence,)]:
                lost.append(table)
        return lost

    def went_through(self, lost: list[str]) -> None:
        """A write of one that had lost its lease was committed."""
        if lost:
            self.broken.append(f"a write was committed although its {lost[0]} had been taken over")

    # --- the end ------------------------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """Of all that was committed, in order, and of all that is there."""
        whole = self.history.copy()
        tables = self._database.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name")
        for (table,) in tables:
            names = [name for _, name, *_ in self._database.rows(f"PRAGMA table_info({table})")]
            columns = ", ".join(f'length("{name}")' if name in SEALED else f'"{name}"' for name in names)
            order = ", ".join(str(number + 1) for number in range(len(names)))
            whole.update(repr(self._database.rows(f"SELECT {columns} FROM {table} ORDER BY {order}")).encode())
        return whole.hexdigest()


def _columns(database: Database, table: str) -> dict[str, int]:
    """Where in a row each of its columns is."""
    return {name: place for place, name, *_ in database.rows(f"PRAGMA table_info({table})")}


#: What is held by a fence: the table with it, and what names its row.
HELD: dict[type[Any], tuple[str, str]] = {Run: ("schedule", "connection"), Claimed: ("delivery", "number"), Job: ("job", "number")}


def _held(given: Iterable[Any]) -> Iterator[tuple[str, int, int]]:
    """What is held by a fence, in the arguments of a write and in the marks of a batch."""
    thing: Any
    for each in given:
        for thing in (each, getattr(each, "run", None), getattr(each, "delivery", None), getattr(each, "job", None)):
            if type(thing) in HELD:
                table, name = HELD[type(thing)]
                yield table, getattr(thing, name), thing.fence


def _place(cursor: str) -> int:
    return int(cursor.partition('"at":"')[2].partition('"')[0] or 0)
