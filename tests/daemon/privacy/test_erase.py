"""Erasing: whatever happens, it comes to its end; and nothing is emitted after it was promised."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from daemon.ingress.wire import Notebook
from daemon.store.world import NOW, signed_in
from daemon.virtual import SeededChance, VirtualClock

from oo_daemon.connections.errors import Declined
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND
from oo_daemon.privacy.deletions import DeletionLog
from oo_daemon.privacy.erase import Erasures
from oo_daemon.privacy.offline import Offline
from oo_daemon.store import backup, connections, consumers, credentials, erasures, export, flows, inbox, jobs, outbox, schedule
from oo_daemon.store.accept import Batch, accept
from oo_daemon.store.connections import Connection
from oo_daemon.store.consumers import ALL, Start
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.errors import CannotStore, LeaseLost
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Task
from oo_vault import Sealed


class Died(BaseException):
    """The process is gone."""


class Mortal(InlineStorage):
    """Dies at the n-th write, before or after it; or another daemon does its work just before the n-th."""

    beaten_at = 0
    other: Erasures
    dies_at = 0
    after = False
    writes = 0

    async def write(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        self.writes += 1
        if self.writes == self.beaten_at:
            await self.other.tick()
        if self.writes == self.dies_at and not self.after:
            raise Died
        result = await super().write(query, *args, **kwargs)
        if self.writes == self.dies_at:
            raise Died
        return result


@dataclass
class Disk:
    """The file: packing is counted."""

    database: SqliteDatabase
    packed: int = 0
    bytes: int = 1000
    left: int = 10**9

    async def pack(self) -> None:
        self.packed += 1
        self.database.rows("VACUUM")

    def size(self) -> int:
        return self.bytes

    def free(self) -> int:
        return self.left


@dataclass
class World:
    """A database with two users, and what erases in it."""

    path: Path
    database: SqliteDatabase
    storage: Mortal
    clock: VirtualClock
    disk: Disk
    metrics: MemoryMetrics = field(default_factory=MemoryMetrics)
    notebook: Notebook = field(default_factory=Notebook)
    closed: int = 0
    purged: list[str] = field(default_factory=list)

    def erasing(self) -> Erasures:
        """As after a start."""
        self.storage = Mortal(self.database, wire.encode)
        return Erasures(
            storage=self.storage,
            deletions=DeletionLog(self.path.with_name("deletions.log")),
            file=self.disk,
            clock=self.clock,
            chance=SeededChance(),
            metrics=self.metrics,
            log=self.notebook,
            erased_event=own.erased_event,
            wake_jobs=lambda: None,
            closed=self.close_sources,
        )

    def offline(self) -> Offline:
        """As without the daemon."""
        return Offline(
            place=self.path,
            beside=self.path.parent,
            clock=self.clock,
            chance=SeededChance(),
            purge=lambda connection: self.purged.append(connection.id),
            erased_event=own.erased_event,
            encode=wire.encode,
        )

    def reopened(self) -> erasures.Erasure:
        """The erasure, in the file that was closed."""
        self.database.connect()
        (found,) = erasures.listed(self.database)
        return found

    async def close_sources(self) -> None:
        """Addresses are looked at anew."""
        self.closed += 1

    def connect(self, name: str, *, user: str, provider: str = "acme", credential: bool = True, events: int = 120) -> Connection:
        """A connection with events, an index and a credential."""
        connection = connections.put(self.database, signed_in(f"{name:c>32}", user=user, provider=provider), NOW)
        schedule.create(self.database, connection.number, NOW)
        if credential:
            credentials.put(self.database, connection.number, 1, Sealed(key_id="k", blob=b"sealed"), None)
        drafts = [
            wire.draft(provider, Event("task", f"canary-{name}-{number}", Change.UPSERTED, payload=Task(title=f"canary {user}")))
            for number in range(events)
        ]
        accept(self.database, Batch(connection=connection, observed_at=NOW, drafts=drafts), wire.encode)
        return connection

    def tell_providers(self) -> None:
        """Their revocations come to an end."""
        for erasure in erasures.listed(self.database, unfinished=True):
            for part in erasure.parts:
                job = jobs.latest(self.database, "revoke", part.number)
                if job is not None and job.state == "queued":
                    self.database.rows("UPDATE job SET state = 'done', next_try_at = NULL WHERE number = ?", (job.number,))
                    erasures.told(self.database, part.number, {"revoked": "fully", "reason": ""}, NOW)

    def counts(self) -> dict[str, int]:
        """Rows of each table."""
        tables = [name for (name,) in self.database.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")]
        return {name: self.database.rows(f'SELECT count(*) FROM "{name}"')[0][0] for name in tables}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = open_database(tmp_path / "oo.sqlite3")
    clock = VirtualClock(start=NOW + SECOND)
    database.rows(
        "INSERT INTO registration (id, provider, client_id, key_id, secrets, secret_count, created_at) "
        "VALUES ('acme', 'acme', '', '', '', 0, 0)"
    )
    made = World(tmp_path / "oo.sqlite3", database, Mortal(database, wire.encode), clock, Disk(database))
    made.connect("c1", user="ada")
    made.connect("c2", user="ada", provider="other")
    made.connect("c3", user="grace")
    yield made
    database.close()


def test_every_table_is_accounted_for(world: World) -> None:
    """A new table that holds something of a person cannot be forgotten: each is erased, goes with its connection, or says why it stays."""
    assert set(world.counts()) == set(erasures.OF_A_CONNECTION) | erasures.WITH_THE_ROW | set(erasures.KEPT)
    for table in erasures.WITH_THE_ROW:
        ((sql,),) = world.database.rows("SELECT sql FROM sqlite_schema WHERE name = ?", (table,))
        assert re.search(r"REFERENCES (connection|source) \(\w+\) ON DELETE CASCADE", sql), table


@pytest.mark.rows("F13")
def test_every_table_is_handed_out_or_says_why_not(world: World) -> None:
    """A new table that holds something of a person cannot be left out of what is handed out without a word."""
    of_persons = set(erasures.OF_A_CONNECTION) | erasures.WITH_THE_ROW | {"connection", "flow", "visit"}
    assert of_persons <= export.HANDED_OUT.keys() | export.LEFT_OUT.keys()
    assert not export.HANDED_OUT.keys() & export.LEFT_OUT.keys()
    assert export.HANDED_OUT.keys() | export.LEFT_OUT.keys() <= world.counts().keys()


@pytest.mark.rows("F3")
async def test_nothing_is_left_of_any_column(world: World) -> None:
    """Every text and every blob of every row that is hers, filled with words of its own: none is left in the file, its log or beside it."""
    canaries: list[str] = []
    numbers = [each.number for each in connections.listed(world.database, user="ada")]
    world.database.rows(
        "INSERT INTO source (id, provider, connection, token_hash, key_id, sealed, secret_count, scheme, enabled, created_at) "
        "VALUES ('hers', 'webhook', ?, 'canary-token', 'k', 'canary-sealed', 0, 'canary-scheme', 1, 0)",
        (numbers[0],),
    )
    canaries += ["canary-token", "canary-sealed", "canary-scheme"]
    for table in sorted((erasures.WITH_THE_ROW | erasures.OF_A_CONNECTION.keys()) - {"source"}):
        columns = world.database.rows(f"PRAGMA table_info({table})")
        names, values = [], []
        for _, name, kind, _, _, _ in columns:
            canary = f"canary-{table}-{name}-4711"
            if name in {"connection", "source"}:
                value: object = numbers[0] if name == "connection" else "hers"
            elif name == "number":
                continue
            elif kind == "INTEGER":
                value = NOW
            elif name in {"kind", "state"}:
                value = "done"
            else:
                canaries.append(canary)
                value = f'{{"canary": "{canary}"}}' if name in {"meta", "cursor", "body", "result", "summary", "headers"} else canary
                value = str(value).encode() if kind == "BLOB" else value
            names.append(f'"{name}"')
            values.append(value)
        places = ", ".join("?" * len(names))
        world.database.rows(f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({places})", tuple(values))
    world.database.rows(
        "UPDATE connection SET label = 'canary-label', meta = '{\"canary\": \"canary-meta\"}', provider_account = 'canary-account', "
        "scopes = 'canary-scope' WHERE number = ?",
        (numbers[0],),
    )
    canaries += ["canary-label", "canary-meta", "canary-account", "canary-scope"]
    world.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    before = world.path.read_bytes()
    assert len(canaries) > 40
    assert not [canary for canary in canaries if canary.encode() not in before]
    erasing = world.erasing()
    begun = await erasing.of_user("ada")
    for _ in range(3):
        await erasing.tick()
        world.tell_providers()
    assert (await erasing.status(begun.id)).state == "done"
    world.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    left = b"".join(path.read_bytes() for path in sorted(world.path.parent.iterdir()) if path.is_file())
    assert [canary for canary in canaries if canary.encode() in left] == []


@pytest.mark.rows("F1", "F13")
async def test_pushes_that_name_a_subscription(world: World) -> None:
    """A push that says only by its header whose it is, is handed out, and goes with the connection; another one stays."""
    connection = connections.listed(world.database, user="ada", provider="acme")[0]
    world.database.rows(
        "INSERT INTO source (id, provider, token_hash, key_id, sealed, secret_count, scheme, enabled, created_at) "
        "VALUES ('acme', 'acme', 'h', 'k', 's', 0, '', 1, 0)"
    )
    world.database.rows(
        "INSERT INTO subscription (id, connection, topic, handle, state, changed_at) "
        "VALUES ('channel-of-ada', ?, 'notes', 'x', 'standing', 0)",
        (connection.number,),
    )
    for name, channel in (("d1", "channel-of-ada"), ("d2", "channel-of-grace")):
        inbox.put(
            world.database,
            inbox.Arrival(source="acme", delivery_id=name, weak=False, headers={"x-channel": channel}, body=b"{}", received_at=NOW),
        )
    world.database.rows("UPDATE delivery SET state = 'done', done_at = ?", (NOW,))
    held = export.of_user(world.database, "ada")
    assert [each["delivery_id"] for each in held.deliveries] == ["d1"]
    assert held.connections[0]["pushes"] == ["notes"]
    erasing = world.erasing()
    await erasing.of_user("ada")
    await erasing.tick()
    assert world.database.rows("SELECT delivery_id, headers FROM delivery ORDER BY delivery_id") == [
        ("d1", "{}"),
        ("d2", '{"x-channel":"channel-of-grace"}'),
    ]


@pytest.mark.rows("F1", "F6", "F7")
async def test_everything_of_a_user_goes(world: World) -> None:
    """Events, index, credentials and rows of hers are gone, those of others stay, and one event tells consumers."""
    consumers.add(world.database, "reader", Start(), ALL, 10, NOW)
    erasing = world.erasing()
    begun = await erasing.of_user("ada")
    assert (begun.state, len(begun.parts), world.closed) == ("running", 2, 1)
    await erasing.tick()
    waiting = await erasing.status(begun.id)
    assert (waiting.state, waiting.counts) == ("waiting", {"outbox": 240, "object": 240})
    assert world.counts()["credential"] == 3, "they are needed to tell the providers"
    world.tell_providers()
    await erasing.tick()
    done = await erasing.status(begun.id)
    assert (done.state, done.user, [part.revocation["revoked"] for part in done.parts]) == ("done", None, ["fully", "fully"])
    counts = world.counts()
    assert (counts["connection"], counts["credential"], counts["object"], counts["outbox"]) == (1, 1, 120, 121)
    (tombstone,) = [wire.decode(each[1]) for each in outbox.page(world.database, done.tombstone - 1 if done.tombstone else 0, 10).events]
    assert (tombstone.type, tombstone.subject) == ("user.erased", "ada")
    assert world.disk.packed == 1
    assert consumers.advance(world.database, "reader", 0, done.tombstone or 0, NOW)
    await erasing.tick()
    assert list((await erasing.status(begun.id)).acks) == ["reader"]
    await world.clock.advance(1)
    consumers.add(world.database, "later", Start(), ALL, 10, world.clock.now())
    assert consumers.advance(world.database, "later", 0, done.tombstone or 0, world.clock.now())
    await erasing.tick()
    assert list((await erasing.status(begun.id)).acks) == ["reader"], "who came later has no copies, and is not asked"


@pytest.mark.rows("F1")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_every_step_it_comes_to_its_end(world: World, after: bool) -> None:
    """Wherever the process dies, the next one finishes, and what was of others is untouched."""
    erasing = world.erasing()
    begun = await erasing.of_user("ada")
    died, at = 0, 0
    while True:
        at += 1
        erasing = world.erasing()
        world.storage.dies_at, world.storage.after = 1 + at % 11, after  # far enough for the longest step
        try:
            await erasing.tick()
            world.tell_providers()
        except Died:
            died += 1
        if (await world.erasing().status(begun.id)).state == "done":
            break
        assert at < 500
    assert died >= 3
    counts = world.counts()
    assert (counts["connection"], counts["object"], counts["outbox"]) == (1, 120, 121)


@pytest.mark.rows("F1", "F6")
async def test_two_daemons_erase_at_once(world: World) -> None:
    """Wherever another daemon is quicker, the erasure comes to its end, and consumers are told once."""
    asking = world.erasing()
    for at in range(1, 12):
        user = f"user{at}"
        world.connect(f"x{at}", user=user)
        world.connect(f"y{at}", user=user, provider="other", credential=False)  # whose row goes at once: nobody is to be told
        begun = await asking.of_user(user)
        other, one = world.erasing(), world.erasing()
        world.storage.beaten_at, world.storage.other = at, other
        await one.tick()
        world.tell_providers()
        await one.tick()
        told = [(each[0], wire.decode(each[1])) for each in outbox.page(world.database, 0, 100_000).events]
        done = await one.status(begun.id)
        assert [place for place, event in told if (event.type, event.subject) == ("user.erased", user)] == [done.tombstone], at
        assert done.state == "done"


@pytest.mark.rows("F1", "F10")
async def test_a_grant_that_waits_to_be_given_back(world: World) -> None:
    """A sign-in that left a grant is kept until the provider was told; a later one of hers is not touched."""
    found = flows.Found(account_id="1", label="", scopes=(), meta={})
    for name, created in (("with", NOW), ("without", NOW), ("later", NOW + 3600 * SECOND)):
        flows.open_(world.database, sign_in(name, created), name.encode())
    flows.hold(world.database, "with", Sealed(key_id="k", blob=b"grant"), found, NOW + 600 * SECOND)
    erasing = world.erasing()
    begun = await erasing.of_user("ada")
    assert [each.id for each in flows.left(world.database, world.clock.now())] == ["with"]
    assert flows.by_id(world.database, "without") is None
    for _ in range(2):
        await erasing.tick()
        world.tell_providers()
    await erasing.tick()
    assert (await erasing.status(begun.id)).state == "waiting"
    flows.let_go(world.database, "with")
    await erasing.tick()
    assert (await erasing.status(begun.id)).state == "done"
    assert [flows.by_id(world.database, name) is not None for name in ("with", "later")] == [False, True]


@pytest.mark.rows("F1")
async def test_a_sign_in_that_is_just_getting_its_grant(world: World) -> None:
    """It is not forgotten before the grant is known, since nobody could give that back; unless it will never come."""
    for name in ("comes", "never"):
        flows.open_(world.database, sign_in(name, NOW), name.encode())
        world.database.rows("UPDATE flow SET status = 'exchanging' WHERE id = ?", (name,))
    erasing = world.erasing()
    begun = await erasing.of_user("ada")
    for _ in range(3):
        await erasing.tick()
        world.tell_providers()
    assert (await erasing.status(begun.id)).state == "waiting"
    found = flows.Found(account_id="1", label="", scopes=(), meta={})
    flows.hold(world.database, "comes", Sealed(key_id="k", blob=b"grant"), found, NOW + 600 * SECOND)
    await erasing.tick()
    assert [each.id for each in flows.left(world.database, world.clock.now())] == ["comes"]
    flows.let_go(world.database, "comes")
    await world.clock.advance(1000)
    await erasing.tick()
    assert (await erasing.status(begun.id)).state == "done"
    assert flows.by_id(world.database, "never") is None


def sign_in(name: str, created_at: int) -> flows.SignIn:
    return flows.SignIn(
        id=name,
        registration="acme",
        provider="acme",
        user="ada",
        account="default",
        sealed=None,
        redirect_uri="",
        scopes=(),
        asked=(),
        return_to="",
        found=None,
        status="open",
        reason="",
        connection=None,
        browser_hash=None,
        created_at=created_at,
        expires_at=created_at + 900 * SECOND,
    )


@pytest.mark.rows("F2")
async def test_nothing_comes_after_the_promise(world: World) -> None:
    """A sync and a delivery that were under way are refused, whatever their place; her actions have failed."""
    connection = connections.listed(world.database, user="ada", provider="acme")[0]
    (run,) = [each for each in schedule.claim(world.database, "me", NOW, NOW + 60 * SECOND, 10) if each.connection == connection.number]
    jobs.put(world.database, id_="a1", kind="act", connection=connection.number, key="k", body={"name": "x"}, now=NOW)
    erasing = world.erasing()
    await erasing.of_user("ada")
    draft = wire.draft("acme", Event("task", "late", Change.UPSERTED, payload=Task(title="late")))
    for marks in ((), (schedule.Held(run=run),)):
        with pytest.raises(LeaseLost):
            await world.storage.accept(Batch(connection=connection, observed_at=NOW, drafts=[draft], marks=marks))
    action = jobs.by_id(world.database, "a1")
    assert action is not None
    assert action.state == "failed"
    assert await erasing.of_user("ada") == (await erasing.listed())[0], "asking again changes nothing"
    assert await erasing.of_connection(connection) == (await erasing.listed())[0], "nor does asking for one of them"


@pytest.mark.rows("F1")
async def test_a_user_who_has_nothing(world: World) -> None:
    """Is erased, too; nobody has to be told, and nobody is watched for having read it."""
    consumers.add(world.database, "reader", Start(), ALL, 10, NOW)
    erasing = world.erasing()
    begun = await erasing.of_user("nobody")
    await erasing.tick()
    done = await erasing.status(begun.id)
    assert (done.state, done.erased_at, done.tombstone, done.acks) == ("done", world.clock.now(), None, {})
    with pytest.raises(Declined, match="no such erasure"):
        await erasing.status("0" * 32)


@pytest.mark.rows("F3")
async def test_what_lies_outside_of_the_database_goes(world: World) -> None:
    """Whoever keeps files of a connection removes them, for each connection that is erased."""
    purged: list[str] = []

    async def purge(connection: Connection) -> int:
        purged.append(connection.id)
        return 1

    erasing = replace(world.erasing(), purges={"uploads": purge})
    begun = await erasing.of_user("ada")
    await erasing.tick()
    assert purged == [part.id for part in begun.parts]


@pytest.mark.rows("F4", "F5")
async def test_nothing_is_promised_that_is_not_noted(world: World) -> None:
    """Where the log outside of the database cannot be written, an erasure is refused, and nothing of it has begun."""
    erasing = world.erasing()
    erasing.deletions.path.mkdir()
    with pytest.raises(CannotStore, match="the deletion log cannot be written"):
        await erasing.of_user("ada")
    assert await erasing.listed() == []
    assert {each.state for each in connections.listed(world.database, user="ada")} == {"active"}


@pytest.mark.rows("F4", "F5")
async def test_an_older_database_is_erased_again(world: World, tmp_path: Path) -> None:
    """The log outside the database knows ids and times and nothing else; a connection made after it survives."""
    backup.snapshot(world.path, tmp_path / "bare")
    backup.with_checksums(tmp_path / "bare", tmp_path / "older")
    erasing = world.erasing()
    begun = await erasing.of_user("ada")
    lines = (tmp_path / "deletions.log").read_text().splitlines()
    assert lines == [f"{world.clock.now()} {part.id}" for part in begun.parts]
    assert all(re.fullmatch("[0-9a-f]{32}", part.id) for part in begun.parts)
    world.database.close()
    backup.put_in_place(tmp_path / "older", world.path)
    world.database.connect()
    assert world.counts()["connection"] == 3
    erasing = world.erasing()
    assert await erasing.again() == 2
    assert world.counts()["outbox"] == 120 + 2
    world.tell_providers()
    await erasing.tick()
    assert world.counts()["connection"] == 1
    assert await world.erasing().again() == 0
    reconnected = connections.put(world.database, signed_in("9" * 32, user="ada"), world.clock.now() + 1)
    assert await world.erasing().again() == 0
    assert connections.by_id(world.database, reconnected.id) is not None


@pytest.mark.rows("F4")
@pytest.mark.parametrize("torn", ["", "17", "1700000000000000 0123456789abcdef", f"1700000000000000 {'0' * 32}"])
def test_a_line_that_a_power_cut_tore_spoils_no_other(tmp_path: Path, torn: str) -> None:
    """What is noted after a power cut begins on a line of its own."""
    log = DeletionLog(tmp_path / "deletions.log")
    log.add(["1" * 32], 7)
    log.path.write_text(log.path.read_text() + torn)
    log.add(["2" * 32, "3" * 32], 8)
    log.add(["4" * 32], 9)
    known = {**dict.fromkeys(["1" * 32], 7), **dict.fromkeys(["2" * 32, "3" * 32], 8), "4" * 32: 9}
    assert {id_: at for id_, at in log.read().items() if id_ in known} == known


@pytest.mark.rows("F3", "F7")
async def test_a_large_file_is_packed_later(world: World) -> None:
    """Its status says so until then; and a full disk is waited for."""
    world.disk.bytes = 2 * 1024**3
    world.disk.left = 10 * 1024**3
    erasing = world.erasing()
    begun = await erasing.of_user("ada")
    await erasing.tick()
    world.tell_providers()
    await erasing.tick()
    waiting = await erasing.status(begun.id)
    assert (waiting.state, waiting.physical_at, all(part.ended for part in waiting.parts)) == ("waiting", None, True)
    await world.clock.advance(21 * 3600)
    world.disk.left = 0
    await erasing.tick()
    assert world.disk.packed == 0
    world.disk.left = 10 * 1024**3
    await erasing.tick()
    assert (await erasing.status(begun.id)).state == "done"


@pytest.mark.rows("F8")
async def test_a_disk_that_refuses_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written now is tried with the next tick."""
    erasing = world.erasing()
    begun = await erasing.of_user("ada")

    async def refuse(*_: Any, **__: Any) -> Any:
        raise CannotStore("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(world.storage, "write", refuse)
        await erasing.tick()
    assert "erasure_waits" in str(world.notebook.lines)
    await erasing.tick()
    world.tell_providers()
    await erasing.tick()
    assert (await erasing.status(begun.id)).state == "done"


@pytest.mark.rows("F8")
def test_lost_keys(world: World) -> None:
    """On the file alone, without a key: everything goes, and the receipt says that no provider was told."""
    world.database.close()
    assert world.offline().of_user("ada") == 2
    erasure = world.reopened()
    assert world.purged == [part.id for part in erasure.parts]
    assert (erasure.state, {part.revocation["reason"] for part in erasure.parts}) == ("done", {"key lost"})
    assert (world.counts()["connection"], world.counts()["outbox"]) == (1, 121)


@pytest.mark.rows("F8")
def test_lost_keys_of_one_connection(world: World) -> None:
    """The others of its user stay; one that is not there is told; and a user who has nothing leaves a receipt."""
    first, second = connections.listed(world.database, user="ada")
    world.database.close()
    offline = world.offline()
    assert offline.of_connection(first.id) == 1
    with pytest.raises(Declined, match="no such connection"):
        offline.of_connection(first.id)
    assert offline.of_user("nobody") == 0
    world.database.connect()
    assert connections.listed(world.database, user="ada") == [second]
    assert {(each.kind, each.state) for each in erasures.listed(world.database)} == {("user", "done"), ("connection", "done")}


@pytest.mark.rows("F3")
def test_nothing_is_left_in_the_file(world: World) -> None:
    """Neither in a page nor in a gap between them, nor in the log."""
    world.database.close()
    assert b"canary ada" in world.path.read_bytes()
    world.offline().of_user("ada")
    whole = b"".join(path.read_bytes() for path in sorted(world.path.parent.iterdir()) if path.is_file())
    assert b"canary ada" not in whole
    assert b"canary-c1" not in whole
    assert b"canary grace" in whole
