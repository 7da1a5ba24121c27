"""What must hold, whatever happens: looked at after each commit, at each call that leaves and each answer that is promised.

Adding an invariant: a method here that appends a sentence to `broken`, and a call from where it can be seen. A seed ends at the step at
which the first sentence is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
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

#: SQLite's numbers for what its update hook tells.
DELETE, INSERT = 9, 18
#: Tables with leases: the column that names a row, and the longest lease in seconds.
LEASES = {"schedule": ("connection", 60), "credential": ("connection", 40), "job": ("number", 150), "delivery": ("number", 60)}
#: Nothing of these may vanish in a life that is shorter than their retention, but by an erasure.
KEPT = {"outbox", "delivery", "job", "connection"}
ERASING = {"erase_some", "end_connection"}
#: Commits between two looks at what was written.
LOOKS = 32
#: Sealed anew with other bytes each time: only their length is the same in a replay.
SEALED = {"sealed", "secrets", "verifier", "known_answer"}


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
        self._touched: dict[tuple[str, int], int] = {}
        self._end = 0
        self._cursors: dict[int, tuple[int, str | None]] = {}
        self._leases: dict[tuple[str, int], tuple[str | None, int, int]] = {}
        self._grants: dict[int, Grant | None] = {}  #: connection → what is kept of it
        self._tokens: dict[int, str] = {}  #: connection → the refresh token that is kept
        self._sealed: dict[int, bytes] = {}  #: connection → what was opened last
        self._done: set[int] = set()  #: deliveries whose events have been looked for
        self.ordered: set[str] = set()  #: providers whose webhooks say all
        self._log = Path(f"{database.database}-wal").open("rb")  # noqa: SIM115  # for the whole life; `close` closes it
        # A connection beside those that come and go: else the log would be gone with the last of them.
        self._beside = apsw.Connection(str(database.database), flags=apsw.SQLITE_OPEN_READONLY)
        self._beside.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        self.hook()

    def hook(self) -> None:
        """Watch the connection to the database, which is a new one after each fault."""
        self._database.connect(reuse_if_open=True)
        self._database.handle().set_update_hook(self._note)

    def close(self) -> None:
        """Look no more."""
        self._beside.close()
        self._log.close()

    def _note(self, kind: int, database: str, table: str, row: int) -> None:
        if self._touched.get((table, row)) != INSERT or kind == DELETE:
            self._touched[table, row] = kind

    # --- after each commit --------------------------------------------------------------------------------------------

    def refused(self) -> None:
        """A transaction was rolled back."""
        self._touched.clear()
        self.hook()

    def committed(self, process: Process, what: str) -> None:
        """A transaction was committed."""
        touched, self._touched = self._touched, {}
        self.commits += 1
        self.history.update(f"{self._loop.time():.6f} {process.owner} {what} {[*touched]}\n".encode())
        emitted = []
        for (table, row), kind in touched.items():
            if kind == DELETE and table in KEPT and what not in ERASING:
                self.broken.append(f"a row of {table} vanished")
            if table == "outbox" and kind == INSERT:
                emitted.append(row)
            elif table in LEASES:
                self._lease(table, row)
            if table == "schedule":
                self._cursor(row)
            elif table == "credential":
                self._credential(row)
            elif table == "delivery" and kind != DELETE and row not in self._done:
                self._delivery(row)
        if emitted:
            self._emitted(sorted(emitted))
        if self.commits % LOOKS == 0:
            self.no_token()

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

    def _delivery(self, row: int) -> None:
        """A delivery that is done has been told: its events are in the index, or the schedule knows of it, in the same commit."""
        sql = "SELECT d.state, d.body, d.done_at, s.provider FROM delivery d JOIN source s ON s.id = d.source WHERE d.number = ?"
        ((state, body, done_at, provider),) = self._database.rows(sql, (row,))
        if state != "done" or body is None:
            return
        self._done.add(row)
        told = json.loads(body)
        sql = (
            "SELECT s.tries, coalesce(s.lease_until, 0), s.nudged_at, o.ordinal "
            "FROM connection c JOIN schedule s ON s.connection = c.number "
            'LEFT JOIN object o ON o.connection = c.number AND o."key" = ? '
            "WHERE c.provider = ? AND c.provider_account = ? AND c.state = 'active'"
        )
        for tries, until, nudged_at, order in self._database.rows(sql, (told["thing"]["id"], provider, told["account"])):
            if provider in self.ordered:
                if order is None or order < told["thing"]["seq"]:
                    self.broken.append("a webhook is done, and what it said is not in the index")
            elif (until > done_at or tries == 0) and (nudged_at or 0) < done_at:  # else it is due by itself
                self.broken.append("a webhook is done, and nobody will look what it was about")

    def _lease(self, table: str, row: int) -> None:
        """At most one live lease: nobody takes what another still holds."""
        name, longest = LEASES[table]
        rows = self._database.rows(f"SELECT lease_owner, coalesce(lease_until, 0), fence FROM {table} WHERE {name} = ?", (row,))
        if not rows:
            self._leases.pop((table, row), None)
            return
        owner, _, fence = after = rows[0]
        before, self._leases[table, row] = self._leases.get((table, row)), after
        if before is None or before[0] is None or owner is None or before[2] == fence:
            return
        now = self._now()
        held = now < before[1] <= now + longest * SECOND  # one that ends later is of a time before the clock was set back
        if held and not (table == "credential" and owner == before[0]):
            self.broken.append(f"the {table} lease of {before[0]} was taken by {owner} before it had ended")

    def _cursor(self, row: int) -> None:
        """Cursors run forwards, until a listing begins anew."""
        rows = self._database.rows("SELECT generation, cursor FROM schedule WHERE connection = ?", (row,))
        if not rows:
            self._cursors.pop(row, None)
            return
        ((generation, cursor),) = rows
        known, before = self._cursors.get(row, (generation, None))
        if before is not None and cursor is not None and known == generation and _place(cursor) < _place(before):
            self.broken.append(f"a cursor ran backwards: {before} to {cursor}")
        self._cursors[row] = (generation, cursor)

    def _credential(self, row: int) -> None:
        """Know what is kept; what is erased must be over at the provider, too."""
        sql = "SELECT c.provider, c.id, k.sealed FROM connection c JOIN credential k ON k.connection = c.number WHERE c.number = ?"
        found = self._database.rows(sql, (row,))
        if not found:
            self._sealed.pop(row, None)
            self._tokens.pop(row, None)
            gone = self._grants.pop(row, None)
            if gone is not None and not gone.dead and not gone.unsaved:
                self.broken.append(f"the credential of {gone.account} was erased, and its grant lives on")
            return
        ((provider, id_, sealed),) = found
        if self._sealed.get(row) == sealed:
            return  # its lease or its intent
        self._sealed[row] = sealed
        kept = credentials.read(self._database, id_).open(self._keyring)
        shown = kept.refresh_token or kept.access_token
        self._tokens[row] = shown.reveal()
        grant = self._grants[row] = self.providers[provider].by_token.get(shown.reveal())
        if grant is not None and grant.refresh == shown.reveal():
            grant.unsaved = False

    def no_token(self) -> None:
        """No token is readable in what was written. The log grows by what each commit writes, and is never begun anew here."""
        written = self._log.read()
        if CANARY.encode() in written:
            self.broken.append("a token is readable in the database")

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


def _held(given: Iterable[Any]) -> Iterator[tuple[str, int, int]]:
    """What is held by a fence, in the arguments of a write and in the marks of a batch."""
    for each in given:
        held = [each, *(getattr(each, name, None) for name in ("run", "delivery", "job"))]
        for thing in held:
            match thing:
                case Run(connection=row, fence=fence):
                    yield "schedule", row, fence
                case Claimed(number=row, fence=fence):
                    yield "delivery", row, fence
                case Job(number=row, fence=fence):
                    yield "job", row, fence


def _place(cursor: str) -> int:
    return int(cursor.partition('"at":"')[2].partition('"')[0] or 0)
