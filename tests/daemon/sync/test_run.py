"""One run of one connection, on a real database file and a virtual clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from daemon.sync.world import PROVIDER, Feed, Hub, Observed, Scripted, gate, gone, nap, note, numbered
from daemon.virtual import NOW, settle
from msgspec.structs import replace

from oo_daemon.host import GuestLoop, SameLoop
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.store import runs, schedule
from oo_daemon.store.errors import CannotStore
from oo_daemon.sync import taken as taken_module
from oo_sdk import (
    ApiRetired,
    Change,
    Checkpoint,
    ConnectorBug,
    ConnectorError,
    Context,
    Cursor,
    CursorExpired,
    Event,
    Listing,
    QuotaSpent,
    RetryLater,
    Signal,
    SignInAgain,
    Unreadable,
)
from oo_sdk.vocabulary import Document
from oo_vault import KeyUnknown

PRIVATE = "ada's diary, token hunter2"


async def test_a_sync(hub: Hub) -> None:
    """What a connector yields is in the outbox with its cursor, and the next sync is planned."""
    await hub.connect()
    await hub.once(hub.sync(Scripted([note("n1"), note("n2"), Checkpoint({"at": 1})])))
    planned = await hub.schedule()
    assert hub.told() == [("n1", "A", 1), ("n2", "A", 1)]
    assert (planned.cursor, planned.outcome, planned.detail, planned.events) == ({"at": 1}, "done", "", 2)
    assert planned.next_run_at == NOW + 300 * SECOND
    assert not planned.running
    assert hub.log.said("sync_ended") == [{"outcome": "done", "events": 2, "detail": ""}]
    assert hub.metrics.values()["syncs_total", (("outcome", "done"), ("provider", PROVIDER))] == 1
    assert hub.metrics.values()["events_accepted_total", (("provider", PROVIDER),)] == 2


async def test_what_a_connector_is_given(hub: Hub) -> None:
    """A connector is given the connection's meta and scopes, the virtual time, and the cursor where it left off."""
    hub.limits = replace(hub.limits, first_fetch_days=30)
    await hub.connect()
    connector = Scripted([Checkpoint({"at": 1})], [Checkpoint({"at": 2})])
    sync = hub.sync(connector)
    await hub.once(sync)
    await hub.when_due(sync)
    first, second = connector.contexts
    connected = datetime.fromtimestamp(NOW / SECOND, UTC)
    assert first.meta == {"zone": "Europe/Berlin"}
    assert first.scopes == frozenset({"notes.read"})
    assert first.first_fetch_from == second.first_fetch_from == connected - timedelta(days=30)
    assert connector.asked == [None, {"at": 1}]
    assert second.clock.now() == connected + timedelta(seconds=300)
    assert second.clock.monotonic() == 300


async def test_everything_there_is(hub: Hub) -> None:
    """Where no limit is set, a first fetch goes back as far as there is anything."""
    await hub.connect()
    connector = Scripted([])
    await hub.once(hub.sync(connector))
    assert connector.contexts[0].first_fetch_from is None


async def test_batches(hub: Hub) -> None:
    """Events are committed 500 at a time with the cursor unmoved; the last batch before a checkpoint carries it."""
    await hub.connect()
    storage = Observed(hub.storage)
    await hub.once(hub.sync(Scripted([*numbered(1200), Checkpoint({"at": 1200})]), storage=storage))
    assert storage.batches == [(500, ("Held",)), (500, ("Held",)), (200, ("CursorMoved",))]
    assert len(hub.events()) == 1200


async def test_an_exact_batch(hub: Hub) -> None:
    """A checkpoint right after a full batch has a commit of its own."""
    await hub.connect()
    storage = Observed(hub.storage)
    await hub.once(hub.sync(Scripted([*numbered(500), Checkpoint({"at": 500})]), storage=storage))
    assert storage.batches == [(500, ("Held",)), (0, ("CursorMoved",))]


async def test_heavy_batches(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose payloads are large is committed before it has 500 events."""
    monkeypatch.setattr(taken_module, "HEAVY", 1000)
    await hub.connect()
    storage = Observed(hub.storage)
    large = [note(f"n{number}", "x" * 300) for number in range(6)]
    await hub.once(hub.sync(Scripted([*large, Checkpoint({})]), storage=storage))
    assert storage.batches == [(4, ("Held",)), (2, ("CursorMoved",))]


async def test_events_without_a_checkpoint(hub: Hub) -> None:
    """Events after the last checkpoint are kept, the cursor is not moved, and telling them again changes nothing."""
    await hub.connect()
    sync = hub.sync(Scripted([note("n1"), Checkpoint({"at": 1}), note("n2")], [note("n2"), note("n3"), Checkpoint({"at": 3})]))
    await hub.once(sync)
    assert (await hub.schedule()).cursor == {"at": 1}
    assert hub.told() == [("n1", "A", 1), ("n2", "A", 1)]
    await hub.when_due(sync)
    assert hub.told() == [("n1", "A", 1), ("n2", "A", 1), ("n3", "A", 1)]


# --- crashes ---------------------------------------------------------------------------------------------------------


def changes() -> list[Event]:
    """Notes that come, change back and forth, and go."""
    return [
        *(note(f"n{number % 5}", title) for title in "ABA" for number in range(5)),
        gone("n0"),
        note("n0", "C"),
        Event("opened", "n1 12:00", Change.OCCURRED, payload=Document(title="o")),
        gone("n4"),
    ]


def ids(hub: Hub) -> list[str]:
    return [event.id for event in hub.events()]


@pytest.fixture
async def reference(hub: Hub, tmp_path_factory: pytest.TempPathFactory, empty: Any) -> list[str]:
    """The ids of a run that nothing disturbed."""
    await hub.connect()
    hub.limits = replace(hub.limits, batch=3)
    await hub.once(hub.sync(Feed(changes(), every=4)))
    told = ids(hub)
    assert len(told) == len(set(told)) == len(changes())
    hub.database.rows("DELETE FROM outbox")
    return told


def begin_again(hub: Hub) -> None:
    """As if nothing had been read: but positions go on, since they are never used twice."""
    for table in ("outbox", "object", "occurrence"):
        hub.database.rows(f"DELETE FROM {table}")
    hub.database.rows(
        "UPDATE schedule SET cursor = NULL, lease_owner = NULL, lease_until = NULL, tries = 0, next_run_at = ?", (hub.clock.now(),)
    )


async def finish(hub: Hub, feed: Feed) -> None:
    """Let runs go on until one ends well."""
    feed.fail_at = None
    for _ in range(3):
        await hub.when_due(hub.sync(feed))
        if (await hub.schedule()).outcome == "done":
            return
    raise AssertionError("the sync never ended well")


@pytest.mark.rows("B4")
async def test_a_failure_at_every_event(hub: Hub, reference: list[str]) -> None:
    """Whichever event a connector fails at, the next run goes on: nothing is lost or doubled, and ids are the same."""
    feed = Feed(changes(), every=4)
    for number in range(1, len(changes()) + 1):
        begin_again(hub)
        feed.fail_at = number
        await hub.once(hub.sync(feed))
        assert ids(hub) == reference[: number - 1]
        assert (await hub.schedule()).outcome == "failed"
        await finish(hub, feed)
        assert ids(hub) == reference, number


class PowerCut(BaseException):
    """The process is gone."""


@pytest.mark.rows("B4", "E9")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_every_write(hub: Hub, reference: list[str], when: str) -> None:
    """Whether the process dies before or after any commit, the run is claimed again once its lease is over, and nothing is lost or
    doubled; what was written is a beginning of the undisturbed run, and the cursor never ahead of it."""
    feed = Feed(changes(), every=4)
    for number in range(1, 100):
        begin_again(hub)
        left = number

        def cut(what: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:  # nothing comes after it
                raise PowerCut

        storage = Observed(hub.storage, before=cut) if when == "before" else Observed(hub.storage, after=cut)
        with suppress(PowerCut):
            await hub.once(hub.sync(feed, storage=storage))
        if left > 0:
            assert number > 8
            return
        told = ids(hub)
        assert told == reference[: len(told)]
        cursor = (await hub.schedule()).cursor
        assert len(told) - 4 <= (cursor["read"] if cursor else 0) <= len(told), "at most a page is fetched again"
        await hub.clock.advance(hub.limits.lease)
        await finish(hub, feed)
        assert ids(hub) == reference, number
    raise AssertionError("the run has no end")


# --- what errors mean ------------------------------------------------------------------------------------------------

UNTIL = datetime.fromtimestamp(NOW / SECOND + 1000, UTC)


@pytest.mark.rows("C9")
@pytest.mark.parametrize(
    ("error", "outcome", "detail", "wait"),
    [
        (RetryLater("busy"), "later", "busy", 15),
        (RetryLater("busy", after=timedelta(seconds=100)), "later", "busy", 102.5),
        (RetryLater("busy", after=100), "later", "busy", 15),  # type: ignore[arg-type]  # a guest that takes seconds
        (QuotaSpent("spent", until=UNTIL), "done", "spent", 1025),
        (QuotaSpent("spent", until=UNTIL.replace(tzinfo=None)), "done", "spent", 1025),
        (CursorExpired(), "later", "the provider no longer knows where we left off", 0),
        (CursorExpired("lost"), "later", "lost", 0),
        (ApiRetired("v1 is gone"), "failed", "v1 is gone: a newer version of the connector is needed", 24 * 3600),
        (ConnectorBug("odd answer"), "failed", "odd answer", 30),
        (ConnectorError("odd"), "failed", "odd", 30),
        (KeyUnknown("No key.", "Add it."), "failed", "No key. Add it.", 30),
        (CannotStore("the disk is full"), "later", "the disk is full", 0.5),
        (ValueError(PRIVATE), "failed", "the connector failed with ValueError: update it, or tell its author", 30),
        (PowerCut(PRIVATE), "failed", "the connector failed with PowerCut: update it, or tell its author", 30),
        (SystemExit(PRIVATE), "failed", "the connector failed with RuntimeError: update it, or tell its author", 30),
        (asyncio.CancelledError(PRIVATE), "later", "the sync was cancelled", 15),
        (TimeoutError(PRIVATE), "failed", "the connector failed with TimeoutError: update it, or tell its author", 30),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_what_an_error_means(hub: Hub, error: BaseException, outcome: str, detail: str, wait: float) -> None:
    """Each error says what happens next; what was yielded before it is kept, and the connection stays active."""
    await hub.connect()
    connector = Scripted([note("n1"), Checkpoint({"at": 1}), note("n2"), error])
    await hub.once(hub.sync(connector))
    planned = await hub.schedule()
    assert (planned.outcome, planned.detail) == (outcome, detail)
    assert planned.next_run_at == NOW + round(wait * SECOND)
    assert planned.tries == (0 if outcome == "done" else 1)
    assert planned.cursor == (None if isinstance(error, CursorExpired) else {"at": 1})
    assert not planned.running
    assert hub.told() == [("n1", "A", 1), ("n2", "A", 1)]
    assert (await hub.connection()).state == "active"
    assert connector.closed == 1
    assert PRIVATE not in repr(hub.log.lines)


async def test_unreadable_but_raised(hub: Hub) -> None:
    """`Unreadable` is for yielding: raised, it ends the run as a fault of the connector."""

    async def fail(_: Context) -> None:
        raise Unreadable("raised, not yielded")

    await hub.connect()
    await hub.once(hub.sync(Scripted([fail])))
    planned = await hub.schedule()
    assert (planned.outcome, planned.detail) == ("failed", "raised, not yielded")


async def test_a_text_that_no_database_can_hold(hub: Hub) -> None:
    """What an error says is cut and cleaned before it is kept."""
    await hub.connect()
    await hub.once(hub.sync(Scripted([ConnectorBug("\ud800\0" + "x" * 9999)])))
    assert (await hub.schedule()).detail == "?" + "x" * 499


async def test_tries_are_counted(hub: Hub) -> None:
    """Tries are counted until a run ends well, and the waits grow with them."""
    await hub.connect()
    sync = hub.sync(Scripted(*[[RetryLater()]] * 3, [Checkpoint({})]))
    waits = []
    await hub.once(sync)
    for _ in range(3):
        planned = await hub.schedule()
        assert planned.next_run_at is not None
        waits.append((planned.next_run_at - hub.clock.now()) / SECOND)
        await hub.when_due(sync)
    assert waits == [15, 30, 60]
    assert (await hub.schedule()).tries == 0


async def test_signed_out(hub: Hub) -> None:
    """When the grant is gone, the connection waits for its owner, an event says so, and nothing is planned."""
    await hub.connect()
    sync = hub.sync(Scripted([note("n1"), SignInAgain("Acme says the grant was revoked")]))
    await hub.once(sync)
    connection, planned = await hub.connection(), await hub.schedule()
    assert (connection.state, connection.reason) == ("needs_sign_in", "Acme says the grant was revoked")
    assert (planned.outcome, planned.next_run_at) == ("signed_out", None)
    told = hub.events()[-1]
    assert (told.type, told.connection, told.subject) == ("connection.needs_sign_in", "c1", "c1")
    assert Change(told.change) is Change.OCCURRED
    assert wire.as_json(told.SerializeToString())["payload"]["fields"] == {"reason": "Acme says the grant was revoked"}


async def test_signed_out_twice(hub: Hub) -> None:
    """Each time that the grant goes is told once."""
    sync = hub.sync(Scripted([SignInAgain("gone")]))
    for _ in range(2):
        await hub.connect()
        await hub.once(sync)
    told = hub.events()
    assert [event.type for event in told] == ["connection.needs_sign_in"] * 2
    assert told[0].id != told[1].id


async def test_signed_in_again_meanwhile(hub: Hub) -> None:
    """A run that still had the old grant does not send its owner, who has signed in again, to do so once more."""
    connection = await hub.connect()
    opened, wait = gate()
    working = asyncio.ensure_future(hub.sync(Scripted([wait, SignInAgain("gone")])).run(await hub.claim()))
    await settle()
    again = await hub.connect()
    opened.set()
    await hub.clock.until(working)
    planned = await hub.schedule()
    assert again.id == connection.id
    assert (await hub.connection()).state == "active"
    assert (planned.outcome, planned.detail) == ("later", "the connection was changed during the sync")
    assert planned.next_run_at is not None
    assert hub.events() == []


async def test_leaving_meanwhile(hub: Hub) -> None:
    """A connection that is being disconnected stays so, though a run finds that its grant is gone."""
    connection = await hub.connect()
    opened, wait = gate()
    working = asyncio.ensure_future(hub.sync(Scripted([wait, SignInAgain("gone")])).run(await hub.claim()))
    await settle()
    await hub.change_state(connection, "revoking")
    opened.set()
    await hub.clock.until(working)
    assert (await hub.connection()).state == "revoking"
    assert hub.events() == []


async def test_not_loaded(hub: Hub) -> None:
    """A connection whose connector is not there is kept, and says where to look."""
    await hub.connect()
    await hub.once(hub.sync())
    planned = await hub.schedule()
    assert (planned.outcome, planned.detail) == ("failed", "the connector acme is not loaded: see `oo plugins`")
    assert planned.next_run_at is not None


async def test_erased_since_the_claim(hub: Hub) -> None:
    """Of a connection that was erased after the claim nothing is kept, and its run ends without a word of trouble."""
    connector = Scripted([note("n1")])
    await hub.connect()
    claimed = await hub.claim()
    hub.database.rows("DELETE FROM schedule")
    hub.database.rows("DELETE FROM connection")
    await hub.clock.until(hub.sync(connector).run(claimed))
    assert hub.told() == []
    assert hub.log.said("sync_lost_lease") == [{}]


async def test_erased_meanwhile(hub: Hub) -> None:
    """Of a connection that is erased during a run nothing more is written."""
    await hub.connect()
    opened, wait = gate()
    working = asyncio.ensure_future(hub.sync(Scripted([wait, note("n1"), Checkpoint({})])).run(await hub.claim()))
    await settle()
    hub.database.rows("DELETE FROM schedule")
    hub.database.rows("DELETE FROM connection")
    opened.set()
    await hub.clock.until(working)
    assert hub.events() == []
    assert hub.log.said("sync_lost_lease")


# --- guests that break the contract -----------------------------------------------------------------------------------


WITHIN = "a checkpoint's `within` must be a tuple of at most 100 texts, none of them empty"


@pytest.mark.parametrize(
    ("signal", "detail"),
    [
        ("n1", "acme yielded a str, which is no signal"),
        (None, "acme yielded a NoneType, which is no signal"),
        (Checkpoint("abc"), "a cursor must be a JSON object, not a str"),  # type: ignore[arg-type]  # a guest's error
        (Checkpoint({"at": object()}), "a cursor must be a JSON object: it holds something that JSON does not know"),
        (Checkpoint({"at": "\ud800"}), "a cursor must be a JSON object: it holds something that JSON does not know"),
        (Checkpoint({"at": "x" * 70_000}), "a cursor may have 64 KiB, and this one has 68"),
        (Checkpoint({}, listed="note"), "a checkpoint's `listed` must be a tuple of names"),  # type: ignore[arg-type]  # a guest's error
        (Checkpoint({}, listed=("note",), within="a/"), WITHIN),  # type: ignore[arg-type]  # likewise
        (Checkpoint({}, listed=("note",), within=("",)), WITHIN),
        (Checkpoint({}, listed=("note",), within=("a",) * 101), WITHIN),
        (Checkpoint({}, listed=("note",)), "a checkpoint says what was listed, but no Listing() came before it"),
        (note(""), "the subject and the version of a note must be text, and the subject not empty"),
    ],
)
async def test_a_broken_contract(hub: Hub, signal: Any, detail: str) -> None:
    """A signal that breaks the contract ends the run with a sentence for its author; what came before it is kept."""
    await hub.connect()
    connector = Scripted([note("n1"), signal, note("n2")])
    await hub.once(hub.sync(connector))
    planned = await hub.schedule()
    assert (planned.outcome, planned.detail, planned.cursor) == ("failed", detail, None)
    assert hub.told() == [("n1", "A", 1)]
    assert connector.closed == 1


async def test_no_signals(hub: Hub) -> None:
    """A connector that has nothing to iterate over is told to be broken, with no word of its own."""

    class Odd(Scripted):
        def fetch_signals(self, ctx: Context, since: Cursor | None) -> Any:
            return 3

    await hub.connect()
    await hub.once(hub.sync(Odd()))
    assert (await hub.schedule()).detail == "the connector failed with TypeError: update it, or tell its author"


async def test_a_guest_that_makes_a_fuss_when_it_is_closed(hub: Hub) -> None:
    """What a connector does wrong while it is closed does not hide what the run came to."""

    class Fussy(Scripted):
        async def _play(self, ctx: Context, script: Any) -> AsyncIterator[Signal]:
            try:
                yield note("n1")
                yield Checkpoint([])  # type: ignore[arg-type]  # a guest's error
            finally:
                raise OSError(PRIVATE)

    await hub.connect()
    await hub.once(hub.sync(Fussy([])))
    assert (await hub.schedule()).detail == "a cursor must be a JSON object, not a list"
    assert hub.told() == [("n1", "A", 1)]


async def test_a_cursor_is_taken_as_it_is_now(hub: Hub) -> None:
    """A connector that goes on writing to its cursor does not change the one that was kept."""
    cursor: dict[str, Any] = {"pages": [1]}

    async def meddle(_: Context) -> None:
        cursor["pages"].append(2)

    await hub.connect()
    storage = Observed(hub.storage, before=lambda what: cursor["pages"].append(9))
    await hub.once(hub.sync(Scripted([Checkpoint(cursor), meddle]), storage=storage))
    assert (await hub.schedule()).cursor == {"pages": [1]}


# --- what cannot be read ---------------------------------------------------------------------------------------------


async def test_unreadable(hub: Hub) -> None:
    """An unreadable item is set aside, counted and shown; the sync goes on."""
    await hub.connect()
    await hub.once(hub.sync(Scripted([Unreadable("no date"), note("n1"), *[Unreadable("no title")] * 9, Checkpoint({})])))
    planned = await hub.schedule()
    assert (planned.outcome, planned.detail) == ("done", "10 items could not be read and were set aside: no date; no title")
    assert hub.told() == [("n1", "A", 1)]
    assert [line["reason"] for line in hub.log.said("item_unreadable")] == ["no date", *["no title"] * 4]
    assert hub.metrics.values()["items_unreadable_total", (("provider", PROVIDER),)] == 10


async def test_unreadable_and_late(hub: Hub) -> None:
    """What was set aside is told beside what else there is to say."""
    await hub.connect()
    await hub.once(hub.sync(Scripted([Unreadable("no date"), RetryLater("busy")])))
    assert (await hub.schedule()).detail == "busy; 1 items could not be read and were set aside: no date"


async def test_too_large(hub: Hub) -> None:
    """An event larger than can be carried is set aside; the others of its batch are kept."""
    await hub.connect()
    await hub.once(hub.sync(Scripted([note("n1"), note("n2", "x" * wire.LARGEST), note("n3"), Checkpoint({"at": 3})])))
    planned = await hub.schedule()
    assert [subject for subject, _, _ in hub.told()] == ["n1", "n3"]
    assert (planned.outcome, planned.cursor) == ("done", {"at": 3})
    assert (planned.detail or "").startswith("1 items could not be read and were set aside: a note is too large for an event")


# --- listings --------------------------------------------------------------------------------------------------------


async def test_a_listing(hub: Hub) -> None:
    """What a listing does not show is gone: tombstones, in batches, before the cursor is kept."""
    hub.limits = replace(hub.limits, batch=2)
    await hub.connect()
    sync = hub.sync(
        Scripted(
            [Listing(), *numbered(6), Checkpoint({"at": 1}, listed=("note",))],
            [Listing(), note("n3"), Checkpoint({"at": 2}, listed=("note",))],
        )
    )
    await hub.once(sync)
    await hub.when_due(sync)
    planned = await hub.schedule()
    assert hub.told()[6:] == [(f"n{number}", "", 2) for number in (0, 1, 2, 4, 5)]
    assert (planned.cursor, planned.events) == ({"at": 2}, 5)


async def test_only_what_was_listed(hub: Hub) -> None:
    """A listing says nothing of types that it does not name, nor of what came right before it."""
    task = Event("task", "t1", Change.UPSERTED, payload=Document(title="T"))
    await hub.connect()
    sync = hub.sync(
        Scripted([note("n1"), task, Checkpoint({})], [note("n2"), Listing(), Checkpoint({"at": 2}, listed=("note",))]),
    )
    await hub.once(sync)
    await hub.when_due(sync)
    assert hub.told() == [("n1", "A", 1), ("t1", "T", 1), ("n2", "A", 1), ("n1", "", 2), ("n2", "", 2)]


async def test_only_within_what_was_listed(hub: Hub) -> None:
    """A listing of a part says nothing of what is elsewhere; what a part begins with is taken as it is written."""
    await hub.connect()
    sync = hub.sync(
        Scripted(
            [note("a%/1"), note("a%/2"), note("ab/3"), note("c/4"), note("é/5"), Checkpoint({"at": 0})],
            [Listing(), note("a%/2"), Checkpoint({"at": 1}, listed=("note",), within=("a%/", "é/"))],
        )
    )
    await hub.once(sync)
    await hub.when_due(sync)
    assert hub.told()[5:] == [("a%/1", "", 2), ("é/5", "", 2)]


async def test_a_listing_over_two_runs(hub: Hub) -> None:
    """A listing that was cut goes on in the next run: what the first part showed is not gone."""
    await hub.connect()
    sync = hub.sync(
        Scripted(
            [note("n1"), note("n2"), note("n3"), Checkpoint({"at": 0})],
            [Listing(), note("n1"), Checkpoint({"page": 2}), RetryLater()],
            [note("n2"), Checkpoint({"at": 1}, listed=("note",))],
        )
    )
    await hub.once(sync)
    await hub.when_due(sync)
    await hub.when_due(sync)
    assert hub.told()[3:] == [("n3", "", 2)]


async def test_a_listing_that_failed(hub: Hub) -> None:
    """A listing that did not come to its end says nothing of what it did not show."""
    await hub.connect()
    sync = hub.sync(Scripted([note("n1"), Checkpoint({"at": 0})], [Listing(), note("n2"), RetryLater()], [Checkpoint({"at": 1})]))
    for run in (hub.once, hub.when_due, hub.when_due):
        await run(sync)
    assert hub.told() == [("n1", "A", 1), ("n2", "A", 1)]


async def test_a_listing_with_items_that_cannot_be_read(hub: Hub) -> None:
    """What was shown and could not be read is there; the rest that was not shown is gone. Where nobody knows which it was, nothing is."""
    await hub.connect()
    sync = hub.sync(
        Scripted(
            [note("n1"), note("n2"), note("n3"), Checkpoint({"at": 0})],
            [Listing(), Unreadable("no id"), note("n1"), Checkpoint({"at": 1}, listed=("note",))],
            [Listing(), Unreadable("no title", subject="n2"), note("n1"), Checkpoint({"at": 2}, listed=("note",))],
        )
    )
    await hub.once(sync)
    await hub.when_due(sync)
    assert hub.told()[3:] == []
    await hub.when_due(sync)
    assert hub.told()[3:] == [("n3", "", 2)]


async def test_which_listings_are_whole(hub: Hub) -> None:
    """What was listed whole is remembered, with the moment at which the listing began; not a part, nor where something is unclear."""
    connection = await hub.connect()
    sync = hub.sync(
        Scripted(
            [Listing(), note("a/1"), Checkpoint({"at": 1}, listed=("note",), within=("a/",))],
            [Listing(), Unreadable("no id"), Checkpoint({"at": 2}, listed=("note",))],
            [Listing(), Checkpoint({"page": 2}), RetryLater()],
            [note("n1"), Checkpoint({"at": 3}, listed=("note", "task"))],
        )
    )
    for run in (hub.once, hub.when_due, hub.when_due):
        await run(sync)
        begun = await hub.storage.read(schedule.listings, connection.number)
        assert begun == schedule.Listings(begun_at=hub.clock.now())
    await hub.when_due(sync)
    assert begun.begun_at is not None
    listings = schedule.Listings(begun_at=begun.begun_at, of={"acme.note": begun.begun_at, "acme.task": begun.begun_at})
    assert await hub.storage.read(schedule.listings, connection.number) == listings
    assert begun.begun_at < hub.clock.now()


async def test_a_listing_with_an_event_too_large(hub: Hub) -> None:
    """A listing shows an event that cannot be kept: nothing of its type is taken for gone."""
    task = Event("task", "t1", Change.UPSERTED, payload=Document(title="T"))
    await hub.connect()
    sync = hub.sync(
        Scripted(
            [note("n1"), task, Checkpoint({"at": 0})],
            [Listing(), note("n1", "x" * wire.LARGEST), Checkpoint({"at": 1}, listed=("note", "task"))],
            [Listing(), Checkpoint({"at": 2}, listed=("note", "task"))],
        )
    )
    await hub.once(sync)
    await hub.when_due(sync)
    assert hub.told()[2:] == [("t1", "", 2)]
    await hub.when_due(sync)
    assert hub.told()[3:] == [("n1", "", 2)]


async def test_a_lost_place(hub: Hub) -> None:
    """After the provider forgot our cursor the next run begins without one, at once, and its listing finds what is gone."""
    await hub.connect()
    connector = Scripted(
        [note("n1"), note("n2"), Checkpoint({"at": 1})],
        [CursorExpired()],
        [Listing(), note("n2"), note("n3"), Checkpoint({"at": 9}, listed=("note",))],
    )
    sync = hub.sync(connector)
    for run in (hub.once, hub.when_due, hub.when_due):
        await run(sync)
    assert connector.asked == [None, {"at": 1}, None]
    assert hub.told() == [("n1", "A", 1), ("n2", "A", 1), ("n3", "A", 1), ("n1", "", 2)]
    assert (await hub.schedule()).cursor == {"at": 9}


# --- leases and limits -----------------------------------------------------------------------------------------------


async def test_the_lease_is_held(hub: Hub) -> None:
    """A run that takes longer than its lease keeps it by its heartbeat: nobody else can claim the connection."""
    await hub.connect()
    working = asyncio.ensure_future(hub.sync(Scripted([nap(300), note("n1"), Checkpoint({})])).run(await hub.claim()))
    for _ in range(29):
        await hub.clock.advance(10)
        now = hub.clock.now()
        assert await hub.storage.write(schedule.claim, "another", now, now + int(hub.limits.lease * SECOND), 10) == []
    await hub.clock.until(working)
    assert (await hub.schedule()).outcome == "done"


@pytest.mark.rows("E2")
async def test_an_end_whose_lease_is_lost(hub: Hub) -> None:
    """A run that was taken over before it could say how it ended says nothing: the one that took over does."""
    await hub.connect()
    opened, wait = gate()
    first = asyncio.ensure_future(hub.sync(Scripted([wait])).run(await hub.claim()))
    await settle()
    hub.clock.shift(hub.limits.lease)
    await hub.claim("another")
    opened.set()
    await hub.clock.until(first)
    planned = await hub.schedule()
    assert (planned.running, planned.outcome) == (True, None)
    assert hub.log.said("sync_lost_lease")


@pytest.mark.rows("E2")
@pytest.mark.parametrize("end", [SignInAgain("gone"), CursorExpired("forgotten")])
async def test_an_end_that_says_more_and_whose_lease_is_lost(hub: Hub, end: ConnectorError) -> None:
    """Nobody is asked to sign in and no place is forgotten because of a run that another has taken over."""
    await hub.connect()
    await hub.once(hub.sync(Scripted([Checkpoint({"at": 1})])))
    hub.clock.shift(hub.limits.interval)
    opened, wait = gate()
    first = asyncio.ensure_future(hub.sync(Scripted([wait, end])).run(await hub.claim()))
    await settle()
    hub.clock.shift(hub.limits.lease)
    await hub.claim("another")
    opened.set()
    await hub.clock.until(first)
    assert hub.log.said("sync_lost_lease") == [{}]
    assert ((await hub.connection()).state, (await hub.schedule()).cursor, hub.events()) == ("active", {"at": 1}, [])


async def test_an_end_that_nobody_begins_to_write(hub: Hub) -> None:
    """Where all is brought down just then, whoever waits for the run does not wait for ever; its lease runs out."""
    await hub.connect()
    sync = hub.sync(Scripted([Checkpoint({"at": 1})]))
    run = sync.run(await hub.claim())
    while not sync._writing:
        await asyncio.sleep(0)
    for task in sync._writing:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(run, 5)
    assert (await hub.schedule()).running


async def test_the_watch_does_not_spin(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a clock wakes it a rounding too early, it waits again, and does not go round and round until the time has come."""
    await hub.connect()
    beat = hub.limits.heartbeat
    early = next(at for at in range(1, 1_000_000) if at / SECOND + beat > (at + beat * SECOND) / SECOND)
    await hub.clock.advance(early / SECOND)
    sleep, waits = hub.clock.sleep, 0

    async def counted(seconds: float) -> None:
        nonlocal waits
        waits += 1
        assert waits < 100
        await sleep(seconds)

    monkeypatch.setattr(hub.clock, "sleep", counted)
    await hub.clock.until(hub.sync(Scripted([nap(4 * beat), Checkpoint({})])).run(await hub.claim()))
    assert (await hub.schedule()).outcome == "done"
    assert waits < 20


@pytest.mark.rows("E2")
async def test_a_lost_lease(hub: Hub) -> None:
    """A run that stood still past its lease writes nothing more; the run that took over is not disturbed."""
    await hub.connect()
    opened, wait = gate()
    slow = Scripted([note("n1"), Checkpoint({"at": 1}), wait, note("late"), Checkpoint({"at": 99})])
    storage = Observed(hub.storage)
    first = asyncio.ensure_future(hub.sync(slow, storage=storage).run(await hub.claim()))
    await settle()
    # The process was stopped: time has passed, and its heartbeat has not beaten.
    hub.clock.shift(hub.limits.lease)
    second = asyncio.ensure_future(hub.sync(Scripted([note("n2"), nap(1), Checkpoint({"at": 2})])).run(await hub.claim("another")))
    await settle()
    opened.set()
    await hub.clock.until(first)
    await hub.clock.until(second)
    planned = await hub.schedule()
    assert hub.told() == [("n1", "A", 1), ("n2", "A", 1)]
    assert (planned.cursor, planned.outcome, planned.events) == ({"at": 2}, "done", 1)
    assert slow.closed == 1
    assert hub.log.said("sync_lost_lease")


@pytest.mark.rows("E2")
async def test_a_lost_lease_is_noticed_by_the_heartbeat(hub: Hub) -> None:
    """A run that has lost its lease is ended by its next heartbeat, even if its connector waits for ever."""
    await hub.connect()
    _, wait = gate()
    slow = Scripted([wait])
    first = asyncio.ensure_future(hub.sync(slow).run(await hub.claim()))
    await settle()
    hub.clock.shift(hub.limits.lease)
    await hub.claim("another")
    await hub.clock.advance(hub.limits.heartbeat)
    assert first.done()
    assert slow.closed == 1
    assert (await hub.schedule()).running


@pytest.mark.rows("E9")
async def test_a_run_too_long(hub: Hub) -> None:
    """A run is cut when it has run as long as one may: what it has is kept, and it goes on from there behind those that wait."""
    await hub.connect()
    connector = Scripted([note("n1"), Checkpoint({"at": 1}), note("n2"), nap(10_000)], [note("n3"), Checkpoint({"at": 3})])
    sync = hub.sync(connector)
    await hub.once(sync)
    planned = await hub.schedule()
    assert hub.clock.monotonic() == 600
    assert (planned.outcome, planned.detail, planned.tries) == ("done", "there is more: the sync goes on soon", 0)
    assert planned.next_run_at == hub.clock.now()
    assert (planned.cursor, planned.events) == ({"at": 1}, 2)
    assert connector.closed == 1
    await hub.when_due(sync)
    assert connector.asked == [None, {"at": 1}]
    assert [subject for subject, _, _ in hub.told()] == ["n1", "n2", "n3"]


async def test_a_run_too_long_that_got_nowhere(hub: Hub) -> None:
    """A run that was cut before any checkpoint would end in the same place: it waits longer each time, and says why."""
    await hub.connect()
    sync = hub.sync(Scripted([note("n1"), nap(10_000)]))
    await hub.once(sync)
    planned = await hub.schedule()
    assert (planned.outcome, planned.tries) == ("later", 1)
    assert planned.detail == "the sync was cut after 600 s without a checkpoint: tell the connector's author if that goes on"
    assert hub.told() == [("n1", "A", 1)]


async def test_a_cancelled_run(hub: Hub) -> None:
    """A run that is cancelled keeps what it has; it has no outcome, and its lease can be given back."""
    await hub.connect()
    _, wait = gate()
    connector = Scripted([note("n1"), wait])
    working = asyncio.ensure_future(hub.sync(connector).run(await hub.claim()))
    await settle()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert hub.told() == [("n1", "A", 1)]
    assert connector.closed == 1
    assert (await hub.schedule()).running
    assert await hub.storage.write(schedule.release, "me", hub.clock.now(), (), {}) == 1
    planned = await hub.schedule()
    assert (planned.running, planned.tries, planned.next_run_at) == (False, 0, hub.clock.now())


async def test_asked_for_meanwhile(hub: Hub) -> None:
    """A sync that is asked for during a run comes after it."""
    connection = await hub.connect()
    opened, wait = gate()
    working = asyncio.ensure_future(hub.sync(Scripted([wait, Checkpoint({})])).run(await hub.claim()))
    await hub.clock.advance(5)
    await hub.storage.write(schedule.due_now, connection.number, hub.clock.now())
    opened.set()
    await hub.clock.until(working)
    assert (await hub.schedule()).next_run_at == hub.clock.now()


# --- the disk --------------------------------------------------------------------------------------------------------


async def test_a_full_disk(hub: Hub) -> None:
    """When the disk is full nothing is half done, the run is tried again later, and then everything is there."""
    await hub.connect()
    refusals = 2  # the checkpoint's batch, and the attempt to keep at least its events

    def refuse(what: str) -> None:
        nonlocal refusals
        if what == "accept" and refusals:
            refusals -= 1
            raise CannotStore("the disk is full: free some space and try again")

    sync = hub.sync(Scripted([note("n1"), Checkpoint({"at": 1})]), storage=Observed(hub.storage, before=refuse))
    await hub.once(sync)
    planned = await hub.schedule()
    assert (planned.outcome, planned.detail) == ("later", "the disk is full: free some space and try again")
    assert planned.next_run_at is not None
    assert planned.next_run_at - hub.clock.now() <= SECOND, "it may be away for a moment only"
    assert (planned.cursor, hub.told()) == (None, [])
    await hub.when_due(sync)
    assert (await hub.schedule()).cursor == {"at": 1}
    assert hub.told() == [("n1", "A", 1)]


async def test_a_disk_that_stays_full(hub: Hub) -> None:
    """When not even the run's end can be stored, nothing is there of it, and whoever has claimed it hears so."""
    await hub.connect()

    def refuse(what: str) -> None:
        raise CannotStore("the disk is full")

    with pytest.raises(CannotStore):
        await hub.once(hub.sync(Scripted([note("n1"), Checkpoint({"at": 1})]), storage=Observed(hub.storage, before=refuse)))
    assert hub.log.said("sync_end_not_stored") == [{"reason": "the disk is full"}]
    assert (hub.told(), (await hub.schedule()).cursor) == ([], None)
    await hub.clock.advance(hub.limits.lease)
    await hub.once(hub.sync(Scripted([note("n1"), Checkpoint({"at": 1})])))
    assert hub.told() == [("n1", "A", 1)]


async def test_an_end_that_the_store_does_not_take(hub: Hub) -> None:
    """Ends that come together are written together; what cannot be written of one does not keep it from the others."""
    for name in ("c1", "c2", "c3"):
        await hub.connect(name, user=name)
    writes = 0

    def refuse(what: str) -> None:
        nonlocal writes
        writes += what == "write"
        if what == "write" and writes in (1, 3):  # all three together, and the second by itself
            raise ValueError("ada's diary")

    now = hub.clock.now()
    sync = hub.sync(Scripted([Checkpoint({"at": 1})]), storage=Observed(hub.storage, before=refuse))
    claimed = await hub.storage.write(schedule.claim, "me", now, now + int(hub.limits.lease * SECOND), 10)
    ends = await asyncio.gather(*map(sync.run, claimed), return_exceptions=True)
    assert [type(end) for end in ends] == [type(None), ValueError, type(None)]
    assert [(await hub.schedule(number)).outcome for number in (1, 2, 3)] == ["done", None, "done"]


@pytest.mark.rows("H10")
async def test_a_connection_that_ended_the_process_each_time(hub: Hub) -> None:
    """It is not given to its connector again, and says why; others are."""
    for name in ("c1", "c2"):
        await hub.connect(name, user=name)
    connector = Scripted([Checkpoint({"at": 1})])
    sync = hub.sync(connector, poisoned=lambda item: item == "connection 1")
    now = hub.clock.now()
    claimed = await hub.storage.write(schedule.claim, "me", now, now + int(hub.limits.lease * SECOND), 10)
    await asyncio.gather(*map(sync.run, claimed))
    assert len(connector.asked) == 1
    planned = await hub.schedule()
    assert (planned.outcome, (await hub.schedule(2)).outcome) == ("failed", "done")
    assert planned.detail is not None
    assert planned.detail.startswith("the daemon ended each time that it was synced")


async def test_a_heartbeat_that_cannot_be_stored(hub: Hub) -> None:
    """A run whose lease cannot be held longer ends, and is tried again later."""
    await hub.connect()

    refused = iter([True, False])

    def refuse(what: str) -> None:
        if next(refused):
            raise CannotStore("another program holds the database: try again")

    await hub.once(hub.sync(Scripted([nap(100)]), storage=Observed(hub.storage, before=refuse)))
    planned = await hub.schedule()
    assert (planned.outcome, planned.detail) == ("later", "another program holds the database: try again")
    assert hub.clock.monotonic() == hub.limits.heartbeat


# --- two loops -------------------------------------------------------------------------------------------------------


async def test_on_the_guests_loop(hub: Hub) -> None:
    """A connector runs on the guests' thread; the run's end is written after the connector has ended."""
    threads: list[int] = []

    async def where(_: Context) -> None:
        threads.append(threading.get_ident())

    await hub.connect()
    guests = GuestLoop()
    guests.start()
    try:
        sync = hub.sync(Scripted([where]), guests=guests)
        async with asyncio.timeout(10):
            await sync.run(await hub.claim())
    finally:
        await guests.stop()
    assert threads != [threading.get_ident()]
    assert (await hub.schedule()).outcome == "done"


# --- cursors ---------------------------------------------------------------------------------------------------------


class Numbered(Scripted):
    """Its cursors have an order, and once looked otherwise."""

    cursor_shape = 2

    def migrate_cursor(self, cursor: Cursor, shape: int) -> Cursor | None:
        return {"at": cursor["seq"]} if shape == 1 else None

    def cursor_order(self, cursor: Cursor) -> int | None:
        at: int = cursor["at"]
        return at


async def test_a_cursor_of_an_older_release(hub: Hub) -> None:
    """A cursor in an older shape is handed to the connector in today's, and kept in today's from its next checkpoint on."""
    await hub.connect()
    await hub.once(hub.sync(Scripted([Checkpoint({"seq": 7})])))
    connector = Numbered([Checkpoint({"at": 8})])
    await hub.when_due(hub.sync(connector))
    await hub.when_due(hub.sync(connector))
    assert connector.asked == [{"at": 7}, {"at": 8}]


async def test_a_cursor_that_nobody_can_read_any_more(hub: Hub) -> None:
    """Where the connector does not say what an older cursor means, the sync begins anew, and tells nothing twice."""
    await hub.connect()
    await hub.once(hub.sync(Scripted([note("n1"), Checkpoint({"seq": 7})])))
    connector = Scripted([note("n1"), note("n2"), Checkpoint({"at": 8})])
    connector.cursor_shape = 3
    await hub.when_due(hub.sync(connector))
    assert connector.asked == [None]
    assert hub.told() == [("n1", "A", 1), ("n2", "A", 1)]


async def test_a_cursor_that_goes_backwards(hub: Hub) -> None:
    """Where cursors have an order, one that is behind the last is refused, and the place is kept."""
    await hub.connect()
    connector = Numbered([Checkpoint({"at": 8}), Checkpoint({"at": 8}), note("n1"), Checkpoint({"at": 7})])
    await hub.once(hub.sync(connector))
    planned = await hub.schedule()
    assert (planned.outcome, planned.cursor) == ("failed", {"at": 8})
    assert planned.detail == "the cursor went backwards: the provider's answer, or the connector, is wrong"


async def test_a_cursor_that_does_not_move(hub: Hub) -> None:
    """A connection that finds things again and again and never gets further is called stalled, asked less often, and counted."""
    await hub.connect()
    scripts = [[note("n", f"title {number}"), Checkpoint({"at": 1})] for number in range(9)]
    sync = hub.sync(Scripted(*scripts))
    outcomes = []
    for _ in range(7):
        await hub.when_due(sync)
        outcomes.append((await hub.schedule()).outcome)
    assert outcomes == [*["done"] * 5, "stalled", "stalled"]
    planned = await hub.schedule()
    assert planned.detail is not None
    assert planned.detail.startswith("the last 6 syncs asked the provider and got no further")
    assert hub.metrics.values()["syncs_total", (("outcome", "stalled"), ("provider", PROVIDER))] == 2


async def test_quiet_is_no_standstill(hub: Hub) -> None:
    """Where nothing happens the cursor may stay for ever; and where everything is listed each time, too."""
    await hub.connect()
    scripts = [[Listing(), note("n", f"title {number}"), Checkpoint({"at": 1}, listed=("note",))] for number in range(10)]
    quiet = [[Checkpoint({"at": 1})]] * 10
    sync = hub.sync(Scripted(*scripts, *quiet))
    for _ in range(19):
        await hub.when_due(sync)
        assert (await hub.schedule()).outcome == "done"


# --- the run log -----------------------------------------------------------------------------------------------------


async def test_the_log_of_runs(hub: Hub) -> None:
    """Each run is noted with what it came to, newest first; what died is noted as lost, and only so many are kept."""
    await hub.connect()
    await hub.claim("dead")
    hub.clock.shift(hub.limits.lease)
    sync = hub.sync(Scripted([note("n1"), Unreadable("no date"), Checkpoint({"at": 1}), RetryLater("busy")]))
    await hub.once(sync)
    newest, lost = await hub.storage.read(runs.listed, connection=1)
    assert (newest.connection, newest.outcome, newest.tally) == ("c1", "later", runs.Tally(pages=1, events=1, unreadable=1))
    assert newest.next_run_at == (await hub.schedule()).next_run_at
    assert (lost.outcome, lost.finished_at) == ("lost", newest.started_at)
    for _ in range(runs.KEPT + 5):
        await hub.when_due(sync)
    assert len(await hub.storage.read(runs.listed, limit=1000)) == runs.KEPT
    assert await hub.storage.write(runs.trim, 10) == runs.KEPT - 10
    assert len(await hub.storage.read(runs.listed, limit=1000)) == 10


@pytest.mark.rows("E4")
async def test_the_database_allows_one_live_run(hub: Hub) -> None:
    """Whatever a program believes, a second run of a connection that has not ended cannot be written."""
    await hub.connect()
    await hub.claim()
    sql = (
        "INSERT INTO run (connection, slot, fence, started_at, outcome, detail, calls, bytes, pages, events, unreadable) "
        "VALUES (1, 9, 9, 0, 'running', '', 0, 0, 0, 0, 0)"
    )
    with pytest.raises(Exception, match="UNIQUE constraint failed"):
        hub.database.rows(sql)


@pytest.mark.rows("E2")
async def test_a_lease_is_held_only_while_guests_move(hub: Hub) -> None:
    """Where the guests' loop stands still the lease is not renewed: another daemon may take the connection."""
    stuck = asyncio.Event()

    class Stuck(SameLoop):
        async def run(self, work: Any, **whose: Any) -> Any:
            if work.__name__ == "_turn":
                work.close()
                await stuck.wait()
                return None
            return await super().run(work)

    await hub.connect()
    working = asyncio.ensure_future(hub.sync(Scripted([nap(500)]), guests=Stuck()).run(await hub.claim()))
    await hub.clock.advance(hub.limits.lease)
    assert (await hub.claim("another")).fence == 2
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
