"""What every storage promises of sources and the inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from daemon.store.world import LEASE, NOW, SECOND, connect, decode, signed_in, upsert

from oo_daemon.store import connections, erasures, inbox, outbox, registrations, schedule, sources
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import State, StateChanged, StillActive
from oo_daemon.store.database import Database
from oo_daemon.store.errors import LeaseLost
from oo_daemon.store.inbox import DAY, KEEP_BODIES, KEEP_IDS, Arrival, Claimed, DeliveryDone, Entry, Nudged, Replay, Which
from oo_daemon.store.registrations import Registration
from oo_daemon.store.runs import Tally
from oo_daemon.store.schedule import RunEnded
from oo_daemon.store.sources import Source
from oo_daemon.store.storage import Storage
from oo_vault import Sealed


def source(name: str = "acme", **changes: Any) -> Source:
    """An address of a registration that has the same name."""
    usual: dict[str, Any] = {
        "id": name,
        "provider": name,
        "registration": name,
        "connection": None,
        "token_hash": f"hash of {name}".encode(),
        "sealed": Sealed(key_id="k1", blob=b"\x00token"),
        "secret_count": 0,
        "enabled": True,
        "created_at": NOW,
    }
    return Source(**{**usual, **changes})


def furnish(database: Database, *names: str) -> None:
    """Registrations of these names, each with its source."""
    for name in names or ("acme",):
        registration = Registration(
            id=name, provider=name, client_id="client", key_id="k1", secrets=b"\x00", secret_count=1, created_at=NOW
        )
        registrations.put(database, registration)
        sources.put(database, source(name))


def arrival(id_: str = "d1", *, to: str = "acme", body: bytes = b"{}", received_at: int = NOW, headers: Mapping[str, str] = {}) -> Arrival:
    """A delivery that just came."""
    return Arrival(source=to, delivery_id=id_, weak=False, headers=headers, body=body, received_at=received_at)


class InboxContract:
    """Part of `StoreContract`."""

    # --- sources -----------------------------------------------------------------------------------------------------

    async def test_a_source_keeps_its_address(self, storage: Storage) -> None:
        """What is sealed can change; whoever comes second with another address for the same source changes nothing."""
        await storage.write(furnish)
        assert await storage.read(sources.by_id, "acme") == source()
        again = source(sealed=Sealed(key_id="k2", blob=b"\xffanew"), secret_count=2, created_at=NOW + 1)
        await storage.write(sources.put, again)
        kept = source(sealed=again.sealed, secret_count=2)
        assert await storage.read(sources.by_id, "acme") == kept
        await storage.write(sources.put, source(token_hash=b"another", secret_count=7))
        assert await storage.read(sources.listed) == [kept]
        assert await storage.read(sources.by_id, "nobody") is None

    async def test_a_source_is_switched(self, storage: Storage) -> None:
        """A source that is switched off stays so until it is switched on, whatever is sealed meanwhile."""
        await storage.write(furnish, "acme", "other")
        await storage.write(sources.enable, "acme", False)
        await storage.write(sources.put, source(secret_count=1))
        assert {each.id: each.enabled for each in await storage.read(sources.listed)} == {"acme": False, "other": True}
        await storage.write(sources.enable, "acme", True)
        assert all(each.enabled for each in await storage.read(sources.listed))

    async def test_a_source_of_a_connection(self, storage: Storage) -> None:
        """It can be given another address and keeps its deliveries; it belongs to its connection, and works as long as that does."""
        connection = await storage.write(connect)
        own = source("hooks", registration=None, connection=connection.number, scheme="{}")
        assert await storage.write(sources.give, own)
        await storage.write(inbox.put, arrival(to="hooks"))
        again = source("hooks", registration=None, connection=connection.number, scheme="[]", token_hash=b"another", secret_count=3)
        assert await storage.write(sources.give, again)
        (kept,) = await storage.read(sources.listed)
        assert (kept.token_hash, kept.scheme, kept.secret_count, kept.works, kept.connection_id) == (
            b"another",
            "[]",
            3,
            True,
            connection.id,
        )
        assert [each.connection for each in await _claim(storage)] == [connection.number]
        await storage.write(furnish)
        assert await storage.write(sources.give, source("acme", registration=None, connection=connection.number, token_hash=b"x")) is False
        gone = StateChanged(number=connection.number, state="disconnected", reason="", now=NOW)
        await storage.accept(Batch(connection=connection, observed_at=NOW, marks=(gone,)))
        assert [each.works for each in await storage.read(sources.listed) if each.id == "hooks"] == [False]

    # --- the inbox ---------------------------------------------------------------------------------------------------

    @pytest.mark.rows("A4")
    async def test_a_delivery_is_kept_once(self, storage: Storage) -> None:
        """The second of the same id and source is known for what it is, also when both come at once; the first one's body stays."""
        await storage.write(furnish, "acme", "other")
        news = await asyncio.gather(*(storage.write(inbox.put, arrival(body=b"%d" % n)) for n in range(20)))
        assert sum(news) == 1
        assert await storage.write(inbox.put, arrival(to="other")), "the id is the sender's own"
        first, second = await _claim(storage)
        assert (first.body, first.source, second.source) == (b"%d" % news.index(True), "acme", "other")

    async def test_a_delivery_comes_back_as_it_went_in(self, storage: Storage) -> None:
        """Bytes and headers are untouched, and the provider is that of the source."""
        await storage.write(furnish)
        await storage.write(inbox.put, arrival(body=bytes(range(256)), headers={"content-type": "text/ö", "x": ""}))
        (claimed,) = await _claim(storage)
        assert claimed == Claimed(
            number=claimed.number,
            fence=1,
            tries=1,
            source="acme",
            provider="acme",
            connection=None,
            delivery_id="d1",
            headers={"content-type": "text/ö", "x": ""},
            body=bytes(range(256)),
            received_at=NOW,
        )
        assert "x00" not in repr(claimed), "a body is not for logs"

    async def test_claims_are_in_order_and_exclusive(self, storage: Storage) -> None:
        """The oldest come first, as many as asked for, and nobody else gets them while the lease holds."""
        await _filled(storage, "d1", "d2", "d3")
        assert [each.delivery_id for each in await _claim(storage, limit=2)] == ["d1", "d2"]
        assert [each.delivery_id for each in await _claim(storage)] == ["d3"]
        assert await _claim(storage) == []
        assert await _claim_again(storage, NOW + LEASE - 1) == []

    async def test_what_was_tried_before_is_claimed_alone(self, storage: Storage) -> None:
        """After a lease ran out its deliveries are suspects: they come one by one, each with its tries counted, and never with new ones."""
        await _filled(storage, "d1", "d2")
        await _claim(storage)
        await storage.write(inbox.put, arrival("d3"))
        later = NOW + LEASE
        assert [each.delivery_id for each in await _claim(storage, later)] == ["d3"]
        (suspect,) = await _claim_again(storage, later)
        assert (suspect.delivery_id, suspect.tries, suspect.fence) == ("d1", 2, 2)

    @pytest.mark.rows("E10")
    async def test_a_clock_that_was_set_back_does_not_stop_the_inbox(self, storage: Storage) -> None:
        """A lease from the future does not stand, and what is new is due at any time."""
        await _filled(storage, "d1", "d2")
        await _claim(storage, limit=1)
        past = NOW - 2 * LEASE
        assert [each.delivery_id for each in await _claim(storage, past)] == ["d2"]
        assert [each.delivery_id for each in await _claim_again(storage, past - LEASE)] == ["d1"]

    @pytest.mark.rows("E10")
    async def test_a_clock_that_was_set_back_keeps_nothing_waiting(self, storage: Storage) -> None:
        """What waits for its next try waits no longer because the clock was ahead; what is due or done stays as it is."""
        await _filled(storage, "d1", "d2", "d3")
        ahead = NOW + DAY
        first, second, third = await _claim(storage, ahead)
        await storage.write(inbox.put_back, first, ahead + LEASE, "the disk is full", counted=True)
        await storage.write(inbox.put_back, second, LEASE, "", counted=True)
        await storage.write(_apply, DeliveryDone(delivery=third, now=ahead))
        assert await storage.write(inbox.set_back, NOW, DAY) == 1
        waiting = {each.delivery_id: each.next_try_at for each in await storage.read(inbox.listed)}
        assert waiting == {"d1": NOW + LEASE, "d2": LEASE, "d3": None}

    @pytest.mark.rows("E2")
    async def test_whoever_lost_the_claim_changes_nothing(self, storage: Storage) -> None:
        """The fence is insisted on by every end of a claim; and after the first end there is no second."""
        (old,) = await _filled_and_claimed(storage)
        (new,) = await _claim_again(storage, NOW + LEASE)
        for end in (
            storage.write(inbox.put_back, old, NOW, "", counted=True),
            storage.write(inbox.give_up, old, NOW, "", forget=True),
            storage.write(_apply, DeliveryDone(delivery=old, now=NOW)),
        ):
            with pytest.raises(LeaseLost):
                await end
        await storage.write(inbox.give_up, new, NOW, "bad", forget=False)
        with pytest.raises(LeaseLost):
            await storage.write(inbox.put_back, new, NOW, "", counted=True)
        assert (await _entry(storage)).state == "dead"

    async def test_a_delivery_is_done_with_its_events(self, storage: Storage) -> None:
        """Events and mark are committed together, or neither is."""
        (claimed,) = await _filled_and_claimed(storage)
        connection = await storage.write(connect)
        done = DeliveryDone(delivery=claimed, now=NOW + 1)
        await storage.accept(Batch(connection=connection, observed_at=NOW, drafts=(upsert("n1"),), marks=(done,)))
        entry = await _entry(storage)
        assert (entry.state, entry.done_at, entry.next_try_at, entry.tries) == ("done", NOW + 1, None, 1)
        with pytest.raises(LeaseLost):
            await storage.accept(Batch(connection=connection, observed_at=NOW, drafts=(upsert("n2"),), marks=(done,)))
        assert [event.subject for event in decode((await storage.read(outbox.page, 0, 9)).events)] == ["n1"]

    async def test_a_failed_delivery_waits_for_its_time(self, storage: Storage) -> None:
        """What failed is due when it was put off to, with its reason, and its tries go on counting."""
        (claimed,) = await _filled_and_claimed(storage)
        await storage.write(inbox.put_back, claimed, NOW + 30 * SECOND, "later", counted=True)
        entry = await _entry(storage)
        assert (entry.state, entry.reason, entry.tries, entry.next_try_at) == ("received", "later", 1, NOW + 30 * SECOND)
        assert await _claim_again(storage, NOW + 30 * SECOND - 1) == []
        (again,) = await _claim_again(storage, NOW + 30 * SECOND)
        assert again.tries == 2

    async def test_a_waiting_delivery_is_called_up(self, storage: Storage) -> None:
        """One that waits for a connection is no suspect; a sign-in at its provider makes it due, one elsewhere does not."""
        await storage.write(furnish, "acme", "other")
        for name in ("acme", "other"):
            await storage.write(inbox.put, arrival(to=name))
        for claimed in await _claim(storage):
            await storage.write(inbox.put_back, claimed, NOW + 600 * SECOND, "no connection", counted=False, waiting=True)
        assert await _claim(storage) == []
        await storage.write(inbox.call_up, "other")
        (called,) = await _claim(storage)
        assert (called.source, called.tries) == ("other", 1)
        await storage.write(inbox.put_back, called, NOW + 600 * SECOND, "broken", counted=True)
        await storage.write(inbox.call_up, "other")
        assert await _claim_again(storage) == [], "what failed keeps its time"

    async def test_an_erased_delivery_is_held_by_nobody(self, storage: Storage) -> None:
        """Who was at work on one that named the person erased has lost it, and the row holds no lease any more."""
        await storage.write(furnish)
        connection = await storage.write(connect)
        await storage.write(inbox.put, arrival(body=b'{"account": "a-1"}'))
        (claimed,) = await _claim(storage)
        await storage.write(inbox.put_back, claimed, NOW + 600 * SECOND, "no connection", counted=False, waiting=True)
        await storage.write(inbox.call_up, "acme")
        (claimed,) = await _claim(storage)
        await storage.write(
            lambda database: erasures.begin(database, id_="e1", kind="user", user="ada", of=[connection], job_ids=["j1"], now=NOW)
        )
        assert await storage.write(erasures.erase_deliveries, "e1", connection) == 1
        with pytest.raises(LeaseLost):
            await storage.write(inbox.put_back, claimed, NOW, "", counted=False)
        assert await storage.read(lambda database: database.rows("SELECT state, lease_owner, lease_until FROM delivery")) == [
            ("dead", None, None)
        ]

    async def test_a_dead_delivery_keeps_its_body_or_not(self, storage: Storage) -> None:
        """A body that somebody may want to replay stays; one that is nobody's business any more goes, with its headers."""
        await storage.write(furnish)
        for name in ("d1", "d2"):
            await storage.write(inbox.put, arrival(name, headers={"x": "y"}))
        kept, forgotten = await _claim(storage)
        await storage.write(inbox.give_up, kept, NOW, "bad", forget=False)
        await storage.write(inbox.give_up, forgotten, NOW, "no connection", forget=True)
        assert await storage.read(_bodies) == [("d1", b"{}", '{"x":"y"}'), ("d2", None, "{}")]
        assert [each.reason for each in await storage.read(inbox.listed)] == ["no connection", "bad"]

    async def test_a_nudge_makes_due(self, storage: Storage) -> None:
        """A connection at rest is due now; one in the middle of a sync is due after it; many nudges are one."""
        connection = await storage.write(connect)
        (run,) = await storage.write(schedule.claim, "me", NOW, NOW + LEASE, 1)
        await _nudge(storage, connection.number, NOW + 1)
        await _nudge(storage, connection.number, NOW + 2)
        await storage.accept(Batch(connection=connection, observed_at=NOW, marks=(_ended(run, keep_tries=False),)))
        assert len(await storage.write(schedule.claim, "me", NOW + 3, NOW + LEASE, 9)) == 1

    @pytest.mark.rows("H7")
    async def test_what_a_delivery_began_is_told_apart_later(self, storage: Storage) -> None:
        """The trace of its receipt is kept with a delivery, and with the schedule of a connection that it nudged, for one run."""
        connection = await storage.write(connect)
        await storage.write(furnish)
        await storage.write(inbox.put, replace(arrival("d1"), traceparent="00-a-b-01"))
        (delivery,) = await _claim(storage)
        assert delivery.traceparent == "00-a-b-01"
        (first,) = await storage.write(schedule.claim, "me", NOW, NOW + LEASE, 9)
        assert first.traceparent == ""
        mark = Nudged(connection=first.connection, now=NOW + 1, traceparent=delivery.traceparent)
        await storage.accept(Batch(connection=connection, observed_at=NOW, marks=(mark, _ended(first, keep_tries=False))))
        (second,) = await storage.write(schedule.claim, "me", NOW + 2, NOW + 2 + LEASE, 9)
        assert second.traceparent == "00-a-b-01"
        await storage.accept(Batch(connection=connection, observed_at=NOW, marks=(_ended(second, keep_tries=False),)))
        (third,) = await storage.write(schedule.claim, "me", NOW + DAY, NOW + DAY + LEASE, 9)
        assert third.traceparent == ""

    async def test_a_nudge_does_not_hurry_what_went_wrong(self, storage: Storage) -> None:
        """A connection that backs off keeps its time: its provider may have asked for it."""
        connection = await storage.write(connect)
        (run,) = await storage.write(schedule.claim, "me", NOW, NOW + LEASE, 1)
        await storage.accept(Batch(connection=connection, observed_at=NOW, marks=(_ended(run, keep_tries=True),)))
        await _nudge(storage, connection.number, NOW + 1)
        assert await storage.write(schedule.claim, "me", NOW + 2, NOW + LEASE, 9) == []

    async def test_a_connection_that_ended_meanwhile_gets_nothing(self, storage: Storage) -> None:
        """The mark refuses events for a connection that is not active any more when they are written."""
        connection = await storage.write(connect)
        mark = StillActive(number=connection.number)
        await storage.accept(Batch(connection=connection, observed_at=NOW, drafts=(upsert("n1"),), marks=(mark,)))
        gone = StateChanged(number=connection.number, state="revoking", reason="", now=NOW)
        await storage.accept(Batch(connection=connection, observed_at=NOW, marks=(gone,)))
        with pytest.raises(LeaseLost):
            await storage.accept(Batch(connection=connection, observed_at=NOW, drafts=(upsert("n2"),), marks=(mark,)))

    async def test_connections_are_found_by_account(self, storage: Storage) -> None:
        """By the provider's ids, those that work and those that may again, whoever's they are; a disconnected one is nobody's."""
        for name, account in (("c1", "a-1"), ("c2", "a-1"), ("c3", "a-2"), ("c4", "a-1")):
            await storage.write(connections.put, signed_in(name, provider_account=account), NOW)
        await storage.write(connections.put, signed_in("c5", provider="other", provider_account="a-1"), NOW)
        there = {each.id: each for each in await storage.read(connections.listed)}
        states: dict[str, State] = {"c2": "needs_sign_in", "c4": "disconnected"}
        for name, state in states.items():
            await storage.write(_apply, StateChanged(number=there[name].number, state=state, reason="", now=NOW))
        found = await storage.read(connections.at_accounts, "acme", ["a-1", "a-9"])
        assert [each.id for each in found] == ["c1", "c2"]
        assert await storage.read(connections.at_accounts, "acme", []) == []

    async def test_a_stop_gives_back_what_a_death_does_not(self, storage: Storage) -> None:
        """What was in work at a stop was no try; what was in work at a death was one, and is free at the next start."""
        await _filled_and_claimed(storage)
        assert await storage.write(inbox.release, "somebody else") == 0
        assert await storage.write(inbox.release, "me") == 1
        (again,) = await _claim(storage)
        assert again.tries == 1
        assert await storage.write(inbox.rescue) == 1
        (suspect,) = await _claim_again(storage)
        assert suspect.tries == 2
        assert await storage.write(inbox.release, "me") == 1

    async def test_deliveries_are_listed(self, storage: Storage) -> None:
        """Newest first, by state and source, and counted as long as they are to become events."""
        await storage.write(furnish, "acme", "other")
        for name, to in (("d1", "acme"), ("d2", "other"), ("d3", "acme")):
            await storage.write(inbox.put, arrival(name, to=to))
        first, *_ = await _claim(storage)
        await storage.write(inbox.give_up, first, NOW, "bad", forget=False)

        async def ids(**which: Any) -> list[str]:
            return [each.delivery_id for each in await storage.read(inbox.listed, **which)]

        assert await ids() == ["d3", "d2", "d1"]
        assert await ids(state="received") == ["d3", "d2"]
        assert await ids(source="acme") == ["d3", "d1"]
        assert await ids(source="acme", state="dead") == ["d1"]
        assert await ids(limit=1) == ["d3"]
        assert await storage.read(inbox.depth) == 2

    async def test_deliveries_are_worked_on_once_more(self, storage: Storage) -> None:
        """Those that are done or dead and still have their bodies, as if they had just come: by number, source or state, oldest first."""
        await storage.write(furnish, "acme", "other")
        for name, to in (("done", "acme"), ("dead", "acme"), ("open", "acme"), ("else", "other"), ("gone", "other")):
            await storage.write(inbox.put, arrival(name, to=to))
        done, dead, _, other, gone = await _claim(storage)
        for each in (done, other):
            await storage.write(_apply, DeliveryDone(delivery=each, now=NOW))
        await storage.write(inbox.give_up, dead, NOW, "bad", forget=False)
        await storage.write(inbox.give_up, gone, NOW, "nobody", forget=True)
        assert await storage.write(inbox.replay, Which(state="dead"), 9, NOW) == [dead.number]
        assert await storage.write(inbox.replay, Which(source="acme"), 9, NOW) == [done.number], "what still will be is left alone"
        assert await storage.write(inbox.replay, Which(first=other.number, last=gone.number), 9, NOW) == [other.number]
        again = await _claim(storage)
        assert [(each.delivery_id, each.tries, each.body) for each in again] == [("done", 1, b"{}"), ("dead", 1, b"{}"), ("else", 1, b"{}")]
        with pytest.raises(LeaseLost):
            await storage.write(_apply, DeliveryDone(delivery=done, now=NOW))

    async def test_a_replay_is_followed_and_called_off(self, storage: Storage) -> None:
        """How far it is counts those that were replayed then; what nobody works on yet goes back to what it was."""
        await storage.write(furnish, "acme", "other")
        for name in ("done", "dead", "again"):
            await storage.write(inbox.put, arrival(name))
        done, dead, again = await _claim(storage)
        await storage.write(_apply, DeliveryDone(delivery=done, now=NOW))
        for each in (dead, again):
            await storage.write(inbox.give_up, each, NOW, "bad", forget=False)
        assert await storage.read(inbox.replayed, NOW + 1) == Replay(total=0, left=0, dead=0)
        assert len(await storage.write(inbox.replay, Which(), 9, NOW + 1)) == 3
        assert await storage.read(inbox.replayed, NOW + 1) == Replay(total=3, left=3, dead=0)
        (first,) = await storage.write(inbox.claim, "me", NOW, NOW + LEASE, 1)
        assert (first.delivery_id, first.replayed) == ("done", True)
        await storage.write(_apply, DeliveryDone(delivery=first, now=NOW + 2))
        (second,) = await storage.write(inbox.claim, "me", NOW, NOW + LEASE, 1)
        assert await storage.write(inbox.call_off, NOW + 1, NOW + 3, 9) == 1, "what is in work is left alone"
        await storage.write(inbox.give_up, second, NOW + 3, "bad", forget=False)
        found = await storage.read(inbox.replayed, NOW + 1)
        assert (found, found.done) == (Replay(total=2, left=0, dead=1), 2)
        entries = {each.delivery_id: (each.state, each.reason, each.done_at) for each in await storage.read(inbox.listed)}
        assert entries["again"] == ("dead", "its replay was called off", NOW + 3)
        assert entries["done"] == ("done", "", NOW + 2)
        await storage.write(inbox.replay, Which(state="done"), 9, NOW + 4)
        assert await storage.write(inbox.call_off, NOW + 4, NOW + 5, 9) == 1
        entries = {each.delivery_id: (each.state, each.reason, each.done_at) for each in await storage.read(inbox.listed)}
        assert entries["done"] == ("done", "", NOW + 2), "it is again what it was"

    async def test_pages_and_words(self, storage: Storage) -> None:
        """Newest first, page by page; words are looked for in id, source and reason; a seldom match is found window by window."""
        await storage.write(furnish, "acme", "other")
        for number in range(1, 8):
            await storage.write(inbox.put, arrival(f"Msg_{number}", to="other" if number == 2 else "acme"))
        first, *_ = await _claim(storage)
        await storage.write(inbox.give_up, first, NOW, "it is no JSON", forget=False)

        async def ids(**how: Any) -> tuple[list[str], int]:
            found, reached = await storage.read(inbox.page, **how)
            return [each.delivery_id for each in found], reached

        newest, reached = await ids(limit=4)
        assert newest == ["Msg_7", "Msg_6", "Msg_5", "Msg_4"]
        assert (await ids(limit=4, before=reached))[0] == ["Msg_3", "Msg_2", "Msg_1"]
        assert (await ids(limit=9, words="NO json"))[0] == ["Msg_1"]
        assert (await ids(limit=9, words="g_7"))[0] == ["Msg_7"]
        assert (await ids(limit=9, words="gx7"))[0] == []
        assert (await ids(limit=9, words="other"))[0] == ["Msg_2"]
        assert (await ids(limit=9, state="dead", source="acme"))[0] == ["Msg_1"]
        assert await ids(limit=9, words="Msg_1", window=4) == ([], reached)
        assert (await ids(limit=9, words="Msg_1", before=reached, window=4))[0] == ["Msg_1"]

    async def test_bodies_are_dropped(self, storage: Storage) -> None:
        """For good and whatever state they are in; what was in work is taken away, what was done stays done, and ids stay known."""
        await _filled(storage, "done", "open", "new")
        done, open_, _ = await _claim(storage)
        await storage.write(_apply, DeliveryDone(delivery=done, now=NOW))
        assert await storage.write(inbox.drop, Which(source="acme", last=open_.number), NOW, 9) == [done.number, open_.number]
        with pytest.raises(LeaseLost):
            await storage.write(_apply, DeliveryDone(delivery=open_, now=NOW))
        entries = {each.delivery_id: (each.state, each.reason) for each in await storage.read(inbox.listed)}
        assert entries == {"done": ("done", ""), "open": ("dead", "it was dropped"), "new": ("received", "")}
        assert await storage.write(inbox.drop, Which(first=done.number), NOW, 1) == [open_.number + 1], "what has no body is passed over"
        assert await storage.write(inbox.put, arrival("open")) is False
        entry, headers, body = await storage.read(inbox.shown, done.number) or (None, None, None)
        assert (entry and entry.delivery_id, headers, body) == ("done", {}, None)
        assert await storage.read(inbox.shown, 99) is None

    @pytest.mark.rows("A5", "F11")
    async def test_bodies_go_after_a_week_and_ids_after_five(self, storage: Storage) -> None:
        """A redelivery is known for 35 days, a body is kept for 7 after the delivery was done; what is not done is never forgotten."""
        await storage.write(furnish)
        for name in ("done", "dead", "open"):
            await storage.write(inbox.put, arrival(name, headers={"x": "y"}))
        done, dead, _ = await _claim(storage)
        await storage.write(_apply, DeliveryDone(delivery=done, now=NOW + DAY))
        await storage.write(inbox.give_up, dead, NOW + DAY, "bad", forget=False)
        week = NOW + DAY + KEEP_BODIES
        assert await storage.write(inbox.forget_bodies, week - 1, 9) == 0
        assert await storage.write(inbox.forget_bodies, week, 9) == 1
        assert await storage.write(inbox.forget_bodies, week, 9) == 0
        assert await storage.read(_bodies) == [("dead", b"{}", '{"x":"y"}'), ("done", None, "{}"), ("open", b"{}", '{"x":"y"}')]
        assert (KEEP_BODIES, KEEP_IDS) == (7 * DAY, 35 * DAY)
        assert await storage.write(inbox.forget_ids, NOW + KEEP_IDS - 1, 9) == 0
        assert await storage.write(inbox.put, arrival("done", received_at=NOW + KEEP_IDS - 1)) is False
        assert await storage.write(inbox.forget_ids, NOW + KEEP_IDS, 1) == 1
        assert await storage.write(inbox.forget_ids, NOW + KEEP_IDS, 9) == 1
        assert await storage.write(inbox.put, arrival("done", received_at=NOW + KEEP_IDS)) is True
        assert [each.delivery_id for each in await storage.read(inbox.listed)] == ["done", "open"]


def _apply(database: Database, mark: DeliveryDone | StateChanged | Nudged) -> None:
    mark.apply(database)


def _bodies(database: Database) -> list[tuple[Any, ...]]:
    rows = database.rows("SELECT delivery_id, body, headers FROM delivery ORDER BY delivery_id")
    return [(name, None if body is None else bytes(body), headers) for name, body, headers in rows]


def _ended(run: schedule.Run, *, keep_tries: bool) -> RunEnded:
    return RunEnded(run=run, now=NOW, next_run_at=NOW + 3600 * SECOND, outcome="done", detail="", tally=Tally(), keep_tries=keep_tries)


async def _nudge(storage: Storage, connection: int, now: int) -> None:
    await storage.write(_apply, Nudged(connection=connection, now=now))


async def _filled(storage: Storage, *names: str) -> None:
    await storage.write(furnish)
    for name in names:
        await storage.write(inbox.put, arrival(name))


async def _claim(storage: Storage, now: int = NOW, *, limit: int = 9) -> list[Claimed]:
    return await storage.write(inbox.claim, "me", now, now + LEASE, limit)


async def _claim_again(storage: Storage, now: int = NOW) -> list[Claimed]:
    return await storage.write(inbox.claim_again, "me", now, now + LEASE)


async def _filled_and_claimed(storage: Storage) -> list[Claimed]:
    await _filled(storage, "d1")
    return await _claim(storage)


async def _entry(storage: Storage) -> Entry:
    (entry,) = await storage.read(inbox.listed)
    return entry
