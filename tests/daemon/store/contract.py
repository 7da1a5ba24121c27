"""What every storage promises, whatever database lies under it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from daemon.store.inbox_contract import InboxContract, arrival, source
from daemon.store.world import LEASE, NOW, SECOND, Told, batch_of, connect, decode, delete, identity, occur, on_day, signed_in, upsert
from daemon.virtual import Stopped

from oo_daemon.store import (
    budgets,
    connections,
    credentials,
    erasures,
    flows,
    inbox,
    jobs,
    outbox,
    overview,
    registrations,
    retention,
    schedule,
    sources,
    subscriptions,
    uploads,
    vault_keys,
)
from oo_daemon.store.accept import Accepted, Batch, Day, Draft, Sweep
from oo_daemon.store.budgets import Bucket, Level
from oo_daemon.store.connections import Connection, StateChanged
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore, Erased, LeaseLost
from oo_daemon.store.flows import SignIn
from oo_daemon.store.leases import taking
from oo_daemon.store.outbox import Filter
from oo_daemon.store.registrations import Registration
from oo_daemon.store.runs import Tally
from oo_daemon.store.schedule import CursorMoved, Held, Listed, ListingBegun, Run, RunEnded, Schedule, Trailed
from oo_daemon.store.storage import Storage
from oo_daemon.store.subscriptions import SubscriptionRow
from oo_vault import CredentialGone, Intent, Sealed, VersionMoved
from oo_vault import LeaseLost as CredentialLeaseLost

TODOIST = Registration(id="r1", provider="acme", client_id="client", key_id="k1", secrets=b"\x00sealed", secret_count=1, created_at=NOW)
SIGN_IN = SignIn(
    id="f1",
    registration="r1",
    provider="acme",
    user="ada",
    account="default",
    sealed=None,
    redirect_uri="https://oo.example/oauth/r1/callback",
    scopes=("notes.read", "notes.write"),
    asked=(),
    return_to="https://app.example/back",
    found=None,
    status="open",
    reason="",
    connection=None,
    browser_hash=None,
    created_at=NOW,
    expires_at=NOW + 900 * SECOND,
)
FIRST, SECOND_GRANT = Sealed(key_id="k1", blob=b"\x00first"), Sealed(key_id="k2", blob=b"\xffsecond")
#: What may be in hand when another process erases a connection, and what would be written of it.
OF_WHAT_IS_GONE: Mapping[str, Callable[[Connection, Run], Batch | Callable[[Database], object]]] = {
    "a webhook": lambda _, __: lambda database: inbox.put(database, arrival(to="bell")),
    "a sender's first secret": lambda of, _: (
        lambda database: sources.put(database, source("bell", registration=None, connection=of.number, scheme=""))
    ),
    "a sign-in": lambda of, _: lambda database: credentials.put(database, of.number, 1, FIRST, None),
    "a timetable": lambda of, _: lambda database: schedule.create(database, of.number, NOW),
    "an action": lambda of, _: lambda database: jobs.put(database, id_="j1", kind="act", connection=of.number, key="k", body={}, now=NOW),
    "a subscription": lambda of, _: (
        lambda database: subscriptions.put(
            database, SubscriptionRow(id="s1", connection=of.number, topic="all", state="making", changed_at=NOW)
        )
    ),
    "a ticket": lambda of, _: (
        lambda database: uploads.add(
            database, id_="u1", connection=of.number, ticket_hash=b"t", expires_at=NOW, name="", size=None, now=NOW
        )
    ),
    "the beginning of a run": lambda _, run: lambda database: schedule.place_of(database, run, 1),
    "a page of a run": lambda of, _: batch_of(of, upsert("n1")),
    "a checkpoint": lambda of, run: batch_of(of, marks=(CursorMoved(run=run, cursor={}, now=NOW),)),
    "days of an import": lambda of, _: batch_of(of, on_day(of, 1, "a")),
}


class StoreContract(InboxContract):
    """Subclass it with a `storage` fixture: an empty one for each test."""

    # --- the port ----------------------------------------------------------------------------------------------------

    async def test_a_write_is_kept_or_leaves_no_trace(self, storage: Storage) -> None:
        """A query that fails takes back all that it wrote, and its error reaches the caller as it is."""

        def fail(database: Database) -> None:
            connect(database)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await storage.write(fail)
        assert await storage.read(connections.listed) == []

    async def test_a_read_cannot_write(self, storage: Storage) -> None:
        """A query given to `read` is refused when it writes."""
        connection = await storage.write(connect)
        with pytest.raises(Exception, match=r"(?i)read-?only"):
            await storage.read(schedule.due_now, connection.number, NOW + 1)
        assert (await _schedule(storage, connection)).next_run_at == NOW
        assert await storage.write(schedule.due_now, connection.number, NOW + 1) == 0, "and writing goes on"

    async def test_those_who_wait_for_events_are_told(self, storage: Storage) -> None:
        """Listeners are called when events were committed, and only then."""
        rung: list[int] = []
        storage.on_accept(lambda: rung.append(1))
        connection = await storage.write(connect)
        await storage.accept(batch_of(connection, upsert("n1")))
        await storage.accept(batch_of(connection, upsert("n1")))
        with pytest.raises(LeaseLost):
            await storage.accept(batch_of(connection, upsert("n2"), marks=(Held(run=_run(connection, 7)),)))
        await storage.read(outbox.end)
        assert len(rung) == 1

    @pytest.mark.rows("B6")
    @pytest.mark.parametrize("many", [1, 2, 8, 9, 64, 65, 500, 501])
    async def test_what_is_known_is_known_however_many_come_at_once(self, storage: Storage, many: int) -> None:
        """Of a batch that came before, with one more at its end, just that one is news; of objects and of what merely occurred."""
        connection = await storage.write(connect)
        for make in (upsert, occur):
            told = [make(f"n{number}") for number in range(many + 1)]
            assert (await storage.accept(batch_of(connection, *told[:many]))).events == many
            assert (await storage.accept(batch_of(connection, *told))).events == 1

    async def test_a_batch_may_be_made_inside_the_transaction(self, storage: Storage) -> None:
        """A connection and the event that tells of it are written together, or not at all."""

        def prepare(database: Database) -> Batch:
            return batch_of(connect(database), occur("connected"))

        def fail(database: Database) -> Batch:
            connect(database, "c2")
            raise ZeroDivisionError

        assert await storage.accept(prepare) == Accepted(events=1, last_position=1)
        with pytest.raises(ZeroDivisionError):
            await storage.accept(fail)
        assert [known.id for known in await storage.read(connections.listed)] == ["c1"]

    # --- what was erased meanwhile -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("what", [*OF_WHAT_IS_GONE])
    async def test_what_was_erased_meanwhile_gets_nothing_more(self, storage: Storage, what: str) -> None:
        """Whoever still holds a connection, its run or its source in hand hears that it was erased, and writes nothing."""

        def furnished(database: Database) -> tuple[Connection, Run]:
            known = connect(database)
            sources.give(database, source("bell", registration=None, connection=known.number, scheme=""))
            (run,) = schedule.claim(database, "w", NOW, NOW + LEASE, 1)
            return known, run

        connection, run = await storage.write(furnished)
        await storage.write(erasures.end_connection, connection.number)
        work = OF_WHAT_IS_GONE[what](connection, run)
        with pytest.raises(Erased):
            await (storage.accept(work) if isinstance(work, Batch) else storage.write(work))

    # --- connections -------------------------------------------------------------------------------------------------

    async def test_a_connection_is_what_the_sign_in_said(self, storage: Storage) -> None:
        """A new connection is active, at version 1, and found by each of its names."""
        made = await storage.write(connections.put, signed_in(), NOW)
        assert made == Connection(
            number=made.number,
            id="c1",
            user="ada",
            provider="acme",
            account="c1",
            registration=None,
            state="active",
            reason="",
            provider_account="a-1",
            label="ada@example.org",
            scopes=("notes.read", "notes.write"),
            meta={"zone": "Europe/Berlin"},
            created_at=NOW,
            changed_at=NOW,
            version=1,
        )
        assert await storage.read(connections.by_id, "c1") == made
        assert await storage.read(connections.by_number, made.number) == made
        assert await storage.read(connections.of, "ada", "acme", "c1") == made
        assert await storage.read(connections.by_id, "c2") is None
        assert await storage.read(connections.by_number, made.number + 1) is None
        assert await storage.read(connections.of, "ada", "acme", "default") is None

    async def test_a_second_sign_in_keeps_the_connection(self, storage: Storage) -> None:
        """Connecting again makes the same row active again: its ids stay, what the sign-in says is new."""
        made = await storage.write(connections.put, signed_in(), NOW)
        batch = Batch(
            connection=made,
            observed_at=NOW,
            marks=(StateChanged(number=made.number, state="needs_sign_in", reason="the grant is gone", now=NOW + 1),),
        )
        await storage.accept(batch)
        paused = await storage.read(connections.by_number, made.number)
        assert paused == msgspec.structs.replace(made, state="needs_sign_in", reason="the grant is gone", changed_at=NOW + 1, version=2)
        again = await storage.write(connections.put, signed_in(id="unused", label="new", scopes=(), meta={}), NOW + 2)
        assert again == msgspec.structs.replace(made, label="new", scopes=(), meta={}, changed_at=NOW + 2, version=3)

    async def test_connections_are_listed_oldest_first(self, storage: Storage) -> None:
        """A listing is of all, of a user, of a provider, or of both."""
        for name, user, provider in [("c3", "ada", "acme"), ("c1", "bob", "acme"), ("c2", "ada", "other")]:
            await storage.write(connections.put, signed_in(name, user=user, provider=provider), NOW)

        async def listed(**which: str) -> list[str]:
            return [known.id for known in await storage.read(connections.listed, **which)]

        assert await listed() == ["c3", "c1", "c2"]
        assert await listed(user="ada") == ["c3", "c2"]
        assert await listed(provider="acme") == ["c3", "c1"]
        assert await listed(user="ada", provider="acme") == ["c3"]
        assert await listed(user="' OR 1=1 --") == []

    async def test_connections_are_counted_by_state(self, storage: Storage) -> None:
        """Each state that occurs has its count."""
        assert await storage.read(connections.counted) == {}
        for name in ("c1", "c2", "c3"):
            made = await storage.write(connections.put, signed_in(name), NOW)
        await storage.accept(
            Batch(connection=made, observed_at=NOW, marks=(StateChanged(number=made.number, state="paused", reason="", now=NOW),))
        )
        assert await storage.read(connections.counted) == {"active": 2, "paused": 1}

    # --- schedule ----------------------------------------------------------------------------------------------------

    async def test_what_is_due_is_claimed_longest_due_first(self, storage: Storage) -> None:
        """A claim takes as many as it may of those that are due, and leaves what is not due, not active, or nobody's."""
        for name, due in [("c1", NOW - 1), ("c2", NOW + 1), ("c3", NOW - 3), ("c4", NOW), ("c5", None), ("c6", NOW - 9)]:
            connection = await storage.write(connections.put, signed_in(name), NOW)
            await storage.write(schedule.create, connection.number, due)
        await storage.accept(batch_of(connection, marks=(StateChanged(number=connection.number, state="paused", reason="", now=NOW),)))
        names = {known.number: known.id for known in await storage.read(connections.listed)}

        async def claimed(now: int, limit: int) -> list[str]:
            return [names[run.connection] for run in await storage.write(schedule.claim, "me", now, now + LEASE, limit)]

        assert await claimed(NOW, 2) == ["c3", "c1"]
        assert await claimed(NOW, 9) == ["c4"]
        assert await claimed(NOW, 9) == []
        assert await claimed(NOW + 1, 9) == ["c2"]

    async def test_a_claim_is_shown(self, storage: Storage) -> None:
        """While a run holds its lease it is shown as running; its try is counted from the claim on."""
        connection = await storage.write(connect)
        run = await _claim(storage)
        assert run == Run(connection=connection.number, fence=1, tries=1, cursor=None, of=connection)
        planned = Schedule(
            connection=connection.number,
            next_run_at=NOW,
            cursor=None,
            tries=1,
            running=True,
            fence=1,
            started_at=NOW,
            finished_at=None,
            finished_fence=0,
            outcome=None,
            detail=None,
            events=0,
        )
        assert await _schedule(storage, connection) == planned
        assert await _schedule(storage, connection, NOW + LEASE) == msgspec.structs.replace(planned, running=False)
        assert await storage.read(schedule.of, connection.number + 1, NOW) is None

    @pytest.mark.rows("E2")
    async def test_an_expired_lease_is_claimed_again_under_a_higher_fence(self, storage: Storage) -> None:
        """Who did not hold on is replaced when its time is up, not before; then its writes are refused, and its tries go on."""
        connection = await storage.write(connect)
        old = await _claim(storage)
        assert await storage.write(schedule.heartbeat, [old], NOW + LEASE + 5) == {old.place}
        assert await storage.write(schedule.claim, "you", NOW + LEASE + 4, NOW + 2 * LEASE, 1) == []
        (new,) = await storage.write(schedule.claim, "you", NOW + LEASE + 5, NOW + 2 * LEASE + 5, 1)
        assert (new.fence, new.tries) == (old.fence + 1, 2)
        for mark in (Held(run=old), CursorMoved(run=old, cursor={"a": 1}), ListingBegun(run=old, now=NOW), _ended(old)):
            with pytest.raises(LeaseLost):
                await storage.accept(batch_of(connection, upsert("n1"), marks=(mark,)))
        assert await storage.write(schedule.heartbeat, [old, new], NOW + 2 * LEASE + 5) == {new.place}
        assert await _told(storage) == []
        await storage.accept(batch_of(connection, upsert("n1"), marks=(Held(run=new),)))
        assert len(await _told(storage)) == 1
        assert (await storage.write(schedule.holding, [old, new])).keys() == {new.place}
        await storage.write(schedule.end, [_ended(old, next_run_at=1), _ended(new)])
        assert (await _schedule(storage, connection)).next_run_at == NOW

    @pytest.mark.rows("E10")
    async def test_a_lease_from_a_clock_that_was_set_back_does_not_stand(self, storage: Storage) -> None:
        """A lease that ends later than any could is from before the clock was set back: it keeps nobody out for hours."""
        await storage.write(connect)
        ahead = NOW + 3600 * SECOND
        await storage.write(schedule.claim, "me", ahead, ahead + LEASE, 1)
        assert len(await storage.write(schedule.claim, "you", NOW, NOW + LEASE, 1)) == 1
        assert await storage.write(schedule.claim, "me", NOW, NOW + LEASE, 1) == []

    @pytest.mark.rows("E2")
    async def test_whoever_was_stopped_in_a_claim_takes_nothing(self, storage: Storage) -> None:
        """The clock is looked at again when the rows are locked: had it gone on by a lease, others may have claimed."""
        await storage.write(connect)
        times = [NOW, NOW + LEASE]

        def take(database: Database) -> list[Run]:
            with taking(lambda: times.pop(0), LEASE) as (now, until):
                return schedule.claim(database, "me", now, until, 1)

        with pytest.raises(CannotStore, match="stopped in the middle"):
            await storage.write(take)
        times += [NOW, NOW + LEASE - 1]
        (run,) = await storage.write(take)
        assert run.tries == 1

    async def test_a_cursor_moves_with_its_events(self, storage: Storage) -> None:
        """The next run begins where the last checkpoint was; None is the beginning."""
        connection = await storage.write(connect)
        run = await _claim(storage)
        cursor = {"token": "t\N{SNOWMAN}", "pages": [1, 2, {"deep": None}], "share": 0.5}
        await storage.accept(batch_of(connection, upsert("n1"), marks=(CursorMoved(run=run, cursor=cursor),)))
        await storage.accept(batch_of(connection, marks=(_ended(run, next_run_at=NOW),)))
        run = await _claim(storage)
        assert run.cursor == cursor
        await storage.accept(batch_of(connection, marks=(CursorMoved(run=run, cursor=None), _ended(run, next_run_at=NOW))))
        assert (await _claim(storage)).cursor is None

    async def test_the_places_of_the_last_while_are_remembered(self, storage: Storage) -> None:
        """A run may begin at the newest place that is so much older than the cursor, else at the oldest that is known."""
        await storage.write(connect)
        run = await _claim(storage)
        for minute in range(4):
            now, cursor = NOW + minute * 60 * SECOND, {"at": minute}
            moved = CursorMoved(run=run, cursor=cursor, now=now)
            trailed = Trailed(run=run, cursor=cursor, shape=1, now=now, overlap=2 * 60 * SECOND)
            await storage.write(moved.apply)
            await storage.write(trailed.apply)
        assert await storage.read(schedule.place_of, run, 2 * 60 * SECOND) == {"at": 1}
        assert await storage.read(schedule.place_of, run, 0) == {"at": 3}
        assert await storage.read(schedule.place_of, run, 60 * 60 * SECOND) == {"at": 1}, "what was before it is forgotten"
        forgotten = CursorMoved(run=run, cursor=None, now=NOW)
        await storage.write(forgotten.apply)
        assert await storage.read(schedule.place_of, msgspec.structs.replace(run, cursor={"at": 9}), 60 * SECOND) == {"at": 9}

    async def test_a_timetable_is_kept_and_plans(self, storage: Storage) -> None:
        """It plans what waits, not before the provider would have it, and nothing that runs."""
        number = (await storage.write(connect)).number
        await storage.write(schedule.set_timetable, number, "x", NOW + 5 * 60 * SECOND)
        planned = await storage.read(schedule.of, number, NOW)
        assert planned is not None
        assert (planned.timetable, planned.next_run_at) == ("x", NOW + 5 * 60 * SECOND)
        await storage.write(schedule.set_timetable, number, None, NOW)
        run = await _claim(storage)
        await storage.write(schedule.set_timetable, number, "y", NOW + 9 * 60 * SECOND)
        planned = await storage.read(schedule.of, number, NOW)
        assert planned is not None
        assert (planned.timetable, planned.next_run_at) == ("y", NOW)
        assert (await storage.write(schedule.holding, [run]))[run.place].timetable == "y"

    async def test_what_a_bucket_holds(self, storage: Storage) -> None:
        """Full before the first draw; then what is left and fills in; nothing while it is closed."""
        size = Bucket(burst=10, rate=1.0)
        assert await storage.read(budgets.level, "b", size, NOW) == Level(tokens=10, closed_until=None)
        drawn = await storage.write(budgets.draw, "b", size, want=4, reserve=0.0, now=lambda: NOW)
        assert (drawn.tokens, drawn.left) == (4, 0.6)
        assert (await storage.read(budgets.level, "b", size, NOW + 2 * SECOND)).tokens == 8
        await storage.write(budgets.close, "b", NOW + 60 * SECOND, NOW)
        assert await storage.read(budgets.level, "b", size, NOW) == Level(tokens=0, closed_until=NOW + 60 * SECOND)

    @pytest.mark.rows("E7")
    async def test_a_bucket_is_filled_once_whatever_clocks_say(self, storage: Storage) -> None:
        """A host whose clock is behind fills nothing that another has filled before; once a clock was set back the bucket goes on by it."""
        size = Bucket(burst=10, rate=1.0)

        async def drawn(at: int) -> int:
            return (await storage.write(budgets.draw, "b", size, want=10, reserve=0.0, now=lambda: at)).tokens

        assert await drawn(NOW) == 10
        assert await drawn(NOW + 4 * SECOND) == 4
        assert [await drawn(NOW + each * SECOND) for each in (1, 0, 3)] == [0, 0, 0]
        assert await drawn(NOW + 6 * SECOND) == 2, "and not once more what has come since its own last look"
        assert await drawn(NOW - 3600 * SECOND) == 0
        assert await drawn(NOW - 3595 * SECOND) == 5

    async def test_the_end_of_a_run_is_told(self, storage: Storage) -> None:
        """An ended run frees its lease, plans the next one, says how it went, and can write no more."""
        connection = await storage.write(connect)
        run = await _claim(storage)
        end = RunEnded(run=run, now=NOW + 5, next_run_at=NOW + 300, outcome="done", detail="fine", tally=Tally(events=7), keep_tries=False)
        await storage.accept(batch_of(connection, marks=(end,)))
        assert await _schedule(storage, connection, NOW + 5) == Schedule(
            connection=connection.number,
            next_run_at=NOW + 300,
            cursor=None,
            tries=0,
            running=False,
            fence=1,
            started_at=NOW,
            finished_at=NOW + 5,
            finished_fence=1,
            outcome="done",
            detail="fine",
            events=7,
        )
        for mark in (end, Held(run=run)):
            with pytest.raises(LeaseLost):
                await storage.accept(batch_of(connection, marks=(mark,)))
        assert await storage.write(schedule.heartbeat, [run], NOW + LEASE) == set()

    @pytest.mark.rows("H10")
    async def test_tries_count_up_until_a_run_ends_well(self, storage: Storage) -> None:
        """Each claim counts, also one that nobody ended; only a good end starts the count again."""
        connection = await storage.write(connect)
        tries = []
        for n, end in enumerate(["died", "badly", "badly", "well", "badly", "died"]):
            now = NOW + n * LEASE
            (run,) = await storage.write(schedule.claim, "me", now, now + LEASE, 1)
            tries.append(run.tries)
            if end != "died":
                await storage.accept(batch_of(connection, marks=(_ended(run, next_run_at=now, keep_tries=end == "badly"),)))
        assert tries == [1, 2, 3, 4, 1, 2]

    @pytest.mark.parametrize("end", ["died", "badly", "its process died"])
    async def test_three_tries_in_a_row_are_told(self, storage: Storage, end: str) -> None:
        """Who looks over everything is told of a connection whose last three runs came to no good end, or to none."""
        connection = await storage.write(connect)

        async def told() -> bool:
            return bool((await storage.read(overview.looked_at, NOW)).failing)

        async def run(n: int) -> Run:
            now = NOW + n * LEASE
            (run,) = await storage.write(schedule.claim, "me", now, now + LEASE, 1)
            return run

        found = []
        for n in range(3):
            found.append(await told())
            claimed = await run(n)
            if end == "badly":
                await storage.accept(batch_of(connection, marks=(_ended(claimed, next_run_at=NOW + n * LEASE, keep_tries=True),)))
        assert not any(found)
        if end == "its process died":
            await storage.write(schedule.rescue, NOW + 3 * LEASE)
        again = await run(3)
        assert await told()
        await storage.accept(batch_of(connection, marks=(_ended(again),)))
        assert not await told()

    @pytest.mark.parametrize("after", [0, 1, 30 * SECOND])
    async def test_a_nudge_during_a_run_is_not_lost(self, storage: Storage, after: int) -> None:
        """Who asks for a sync while one runs gets another one after it, even when asking at the instant of its start."""
        connection = await storage.write(connect)
        run = await _claim(storage)
        assert await storage.write(schedule.due_now, connection.number, NOW + after) == run.fence
        assert await storage.write(schedule.claim, "you", NOW + after, NOW + LEASE, 1) == [], "not beside it"
        await storage.accept(batch_of(connection, marks=(_ended(run, next_run_at=NOW + 300 * SECOND),)))
        (again,) = await storage.write(schedule.claim, "me", NOW + after + 1, NOW + 9 * LEASE, 1)
        await storage.accept(batch_of(connection, marks=(_ended(again, next_run_at=NOW + 300 * SECOND),)))
        assert (await _schedule(storage, connection)).next_run_at == NOW + 300 * SECOND, "and not a third one"

    @pytest.mark.parametrize("after", [0, 1])
    async def test_a_sign_in_during_a_run_is_not_lost(self, storage: Storage, after: int) -> None:
        """A connection that is connected again while a run ends for want of a grant runs again."""
        connection = await storage.write(connect)
        run = await _claim(storage)
        await storage.write(schedule.create, connection.number, NOW + after)
        await storage.accept(batch_of(connection, marks=(_ended(run, next_run_at=None),)))
        assert len(await storage.write(schedule.claim, "me", NOW + after + 1, NOW + LEASE, 1)) == 1

    async def test_who_waits_keeps_its_place(self, storage: Storage) -> None:
        """A connection that is asked for again while it waits comes no later for that."""
        first, second = await storage.write(connect, "c1"), await storage.write(connect, "c2")
        for connection, after in ((first, 1), (second, 2), (first, 3)):
            await storage.write(schedule.due_now, connection.number, NOW + after)
        (run,) = await storage.write(schedule.claim, "me", NOW + 3, NOW + LEASE, 1)
        assert run.connection == first.number

    async def test_a_nudge_makes_due_at_once(self, storage: Storage) -> None:
        """Without a run in progress a nudge means now, though the clock was set back since the last run began."""
        connection = await storage.write(connect)
        run = await _claim(storage)
        await storage.accept(batch_of(connection, marks=(_ended(run, next_run_at=NOW + 300 * SECOND),)))
        earlier = NOW - 3600 * SECOND
        assert await storage.write(schedule.due_now, connection.number, earlier) == 1
        assert (await _schedule(storage, connection)).next_run_at == earlier
        assert await storage.write(schedule.due_now, connection.number + 1, NOW) == 0

    async def test_a_stop_gives_back_what_it_held(self, storage: Storage) -> None:
        """A process that stops gives its own leases back: those runs are due, were no try, and can write no more."""
        for name in ("c1", "c2"):
            await storage.write(connect, name)
        (mine,) = await storage.write(schedule.claim, "me", NOW, NOW + LEASE, 1)
        (yours,) = await storage.write(schedule.claim, "you", NOW, NOW + LEASE, 1)
        assert await storage.write(schedule.release, "me", NOW + 7, (), {}) == 1
        assert await storage.write(schedule.release, "me", NOW + 7, (), {}) == 0
        assert await storage.write(schedule.heartbeat, [mine, yours], NOW + LEASE) == {yours.place}
        (again,) = await storage.write(schedule.claim, "you", NOW + 7, NOW + LEASE, 9)
        assert (again.connection, again.tries, again.fence) == (mine.connection, 1, mine.fence + 1)

    async def test_what_is_left_is_given_back(self, storage: Storage) -> None:
        """Besides what is in work: what was tried stays counted, and is due when it is to be tried again."""
        for name in ("c1", "c2", "c3"):
            await storage.write(connect, name, user=name)
        working, tried, untried = await storage.write(schedule.claim, "me", NOW, NOW + LEASE, 3)
        assert await storage.write(schedule.release, "me", NOW + 7, [working.connection], {tried.connection: NOW + 9}) == 2
        assert await storage.write(schedule.heartbeat, [working, tried, untried], NOW + LEASE) == {working.place}
        (again,) = await storage.write(schedule.claim, "you", NOW + 8, NOW + LEASE, 9)
        assert (again.connection, again.tries) == (untried.connection, 1)
        (again,) = await storage.write(schedule.claim, "you", NOW + 9, NOW + LEASE, 9)
        assert (again.connection, again.tries) == (tried.connection, 2)

    async def test_a_connection_is_put_on_the_schedule_once(self, storage: Storage) -> None:
        """A second sign-in makes it due again, forgives its tries, and keeps cursor and fence."""
        connection = await storage.write(connect)
        run = await _claim(storage)
        marks = (CursorMoved(run=run, cursor={"a": 1}), _ended(run, next_run_at=None, keep_tries=True))
        await storage.accept(batch_of(connection, marks=marks))
        await storage.write(schedule.create, connection.number, NOW + 3)
        planned = await _schedule(storage, connection)
        assert (planned.next_run_at, planned.tries, planned.cursor, planned.fence) == (NOW + 3, 0, {"a": 1}, 1)

    # --- credentials: the vault's port -------------------------------------------------------------------------------

    async def test_a_credential_is_what_was_put(self, storage: Storage) -> None:
        """A row carries the names it is sealed for; a connection without one says so."""
        rows, connection = CredentialRows(storage), await storage.write(connect)
        with pytest.raises(CredentialGone):
            await rows.read("c1")
        assert await storage.read(credentials.token_version, connection.number) == 0
        await storage.write(credentials.put, connection.number, 1, FIRST, NOW + 1)
        row = await rows.read("c1")
        assert (row.connection, row.user, row.provider, row.account) == ("c1", "ada", "acme", "c1")
        assert (row.sealed, row.token_version, row.expires_at, row.state, row.intent) == (FIRST, 1, NOW + 1, "good", None)
        assert (row.lease_owner, row.lease_until) == (None, None)
        assert await storage.read(credentials.token_version, connection.number) == 1
        await storage.write(credentials.delete, connection.number)
        with pytest.raises(CredentialGone):
            await rows.read("c1")

    @pytest.mark.rows("C10")
    async def test_one_owner_refreshes_at_a_time(self, storage: Storage) -> None:
        """A lease keeps others out while it stands; its owner may take it again; a new one has a higher fence."""
        rows = await _credential(storage)
        assert await rows.lease("c1", "me", lambda: NOW, LEASE) == 1
        assert await rows.lease("c1", "you", lambda: NOW + 1, LEASE) is None
        assert await rows.lease("c1", "me", lambda: NOW + 2, LEASE) == 2
        assert await rows.lease("c1", "you", lambda: NOW + 1 + LEASE, LEASE) is None
        assert await rows.lease("c1", "you", lambda: NOW + 2 + LEASE, LEASE) == 3
        row = await rows.read("c1")
        assert (row.lease_owner, row.lease_until, row.fence) == ("you", NOW + 2 + 2 * LEASE, 3)

    @pytest.mark.rows("C10")
    async def test_who_was_stopped_before_its_lease_takes_nobody_elses(self, storage: Storage) -> None:
        """A daemon that is stopped on its way to the lease finds taken what another has taken meanwhile."""
        rows, clock = await _credential(storage), [NOW]

        async def meanwhile() -> None:
            clock[0] += 2 * LEASE
            assert await rows.lease("c1", "you", lambda: clock[0], LEASE) == 1

        assert await CredentialRows(Stopped(storage, meanwhile)).lease("c1", "me", lambda: clock[0], LEASE) is None

    async def test_a_refresh_lease_from_before_the_clock_was_set_back_does_not_stand(self, storage: Storage) -> None:
        """One that ends more than a lease's length after a new one would is taken over."""
        rows = await _credential(storage)
        await rows.lease("c1", "me", lambda: NOW, LEASE)
        assert await rows.lease("c1", "you", lambda: NOW - LEASE, LEASE) is None
        assert await rows.lease("c1", "you", lambda: NOW - LEASE - 1, LEASE) == 2

    @pytest.mark.rows("C10")
    async def test_many_lease_at_once_and_one_gets_it(self, storage: Storage) -> None:
        """Of many owners at one instant, one has the lease."""
        rows = await _credential(storage)
        fences = await asyncio.gather(*(rows.lease("c1", f"owner {n}", lambda: NOW, LEASE) for n in range(20)))
        assert sorted(fence for fence in fences if fence is not None) == [1]

    async def test_a_refresh_that_succeeds_replaces_the_tokens(self, storage: Storage) -> None:
        """A commit raises the version, clears the intent and ends the lease."""
        rows = await _credential(storage)
        fence = await rows.lease("c1", "me", lambda: NOW, LEASE)
        assert fence is not None
        intent = Intent(digest="d", at=NOW, tries=1)
        await rows.intend("c1", fence, intent)
        assert (await rows.read("c1")).intent == intent
        await rows.probe("c1", fence, 4096)
        await rows.commit("c1", fence, 1, SECOND_GRANT, None, "consent_soon")
        row = await rows.read("c1")
        assert (row.sealed, row.token_version, row.expires_at, row.state) == (SECOND_GRANT, 2, None, "consent_soon")
        assert (row.intent, row.lease_owner, row.lease_until, row.fence) == (None, None, None, fence)

    @pytest.mark.rows("C11")
    async def test_a_commit_compares_the_version_alone(self, storage: Storage) -> None:
        """New tokens exist once: they are kept though the lease has passed on, which is left to its new owner."""
        rows = await _credential(storage)
        old = await rows.lease("c1", "me", lambda: NOW, LEASE)
        new = await rows.lease("c1", "you", lambda: NOW + LEASE, LEASE)
        assert old is not None
        await rows.commit("c1", old, 1, SECOND_GRANT, NOW, "good")
        row = await rows.read("c1")
        assert (row.sealed, row.lease_owner, row.fence) == (SECOND_GRANT, "you", new)
        with pytest.raises(VersionMoved):
            await rows.commit("c1", old, 1, FIRST, NOW, "good")
        assert await rows.read("c1") == row

    @pytest.mark.rows("C10")
    @pytest.mark.parametrize("passed", ["taken over", "ended", "signed in again"])
    async def test_a_refresh_without_its_lease_is_refused(self, storage: Storage, passed: str) -> None:
        """Intent, probe and settle insist on the lease."""
        rows = await _credential(storage)
        fence = await rows.lease("c1", "me", lambda: NOW, LEASE)
        assert fence is not None
        match passed:
            case "taken over":
                await rows.lease("c1", "you", lambda: NOW + LEASE, LEASE)
            case "ended":
                await rows.settle("c1", fence, intent=None)
            case _:
                connection = await storage.read(connections.by_id, "c1")
                assert connection is not None
                await storage.write(credentials.put, connection.number, 2, SECOND_GRANT, None)
        before = await rows.read("c1")
        with pytest.raises(CredentialLeaseLost):
            await rows.intend("c1", fence, Intent(digest="d", at=NOW, tries=1))
        with pytest.raises(CredentialLeaseLost):
            await rows.probe("c1", fence, 1)
        with pytest.raises(CredentialLeaseLost):
            await rows.settle("c1", fence, intent=None, state="dead")
        assert await rows.read("c1") == before

    async def test_a_refresh_can_end_without_tokens(self, storage: Storage) -> None:
        """Settling leaves the intent it is given, changes the state only when told to, and ends the lease."""
        rows = await _credential(storage)
        intent = Intent(digest="d", at=NOW, tries=2)
        for left, state, stands in [(intent, None, "good"), (None, "dead", "dead"), (intent, None, "dead")]:
            fence = await rows.lease("c1", "me", lambda: NOW, LEASE)
            assert fence is not None
            await rows.probe("c1", fence, 4096)
            await rows.settle("c1", fence, intent=left, state=state)  # type: ignore[arg-type]  # a list's strings are no literals
            row = await rows.read("c1")
            assert (row.intent, row.state, row.lease_owner, row.token_version, row.sealed) == (left, stands, None, 1, FIRST)

    async def test_a_sign_in_replaces_whatever_was_there(self, storage: Storage) -> None:
        """After a new sign-in nothing of the old credential is left, and no refresh of the old one goes on."""
        rows = await _credential(storage)
        fence = await rows.lease("c1", "me", lambda: NOW, LEASE)
        assert fence is not None
        await rows.intend("c1", fence, Intent(digest="d", at=NOW, tries=1))
        row = await rows.read("c1")
        connection = await storage.read(connections.by_id, "c1")
        assert connection is not None
        await storage.write(credentials.put, connection.number, 2, SECOND_GRANT, None)
        replaced = msgspec.structs.replace(
            row, sealed=SECOND_GRANT, token_version=2, expires_at=None, intent=None, lease_owner=None, lease_until=None, fence=fence + 1
        )
        assert await rows.read("c1") == replaced

    # --- flows -------------------------------------------------------------------------------------------------------

    async def test_a_sign_in_goes_its_way(self, storage: Storage) -> None:
        """From a link to a state to a connection; the verifier goes in the end."""
        await storage.write(registrations.put, TODOIST)
        await storage.write(flows.open_, SIGN_IN, b"link")
        assert await storage.read(flows.by_id, "f1") == SIGN_IN
        assert await storage.read(flows.by_link, b"link", NOW) == SIGN_IN
        assert await storage.write(flows.begin, b"link", NOW + 1, **_begun())
        begun = replace(
            SIGN_IN, status="begun", sealed=FIRST, asked=("notes.read",), browser_hash=b"browser", expires_at=NOW + 600 * SECOND
        )
        assert await storage.read(flows.by_id, "f1") == begun
        assert await storage.write(flows.use_state, b"state", NOW + 2) == replace(begun, status="exchanging")
        await storage.write(flows.end, "f1", "connected", "", "c1")
        assert await storage.read(flows.by_id, "f1") == replace(begun, status="connected", sealed=None, connection="c1")

    @pytest.mark.rows("D3")
    async def test_a_link_is_one_browsers(self, storage: Storage) -> None:
        """Of many browsers, one gets the link; it may begin again with a new state, until the state is used."""
        await storage.write(registrations.put, TODOIST)
        await storage.write(flows.open_, SIGN_IN, b"link")
        pressed = (_begun(state=f"state {n}".encode(), browser=f"browser {n}".encode()) for n in range(20))
        begun = await asyncio.gather(*(storage.write(flows.begin, b"link", NOW, **each) for each in pressed))
        assert sum(begun) == 1
        mine = f"browser {begun.index(True)}".encode()
        assert await storage.write(flows.begin, b"link", NOW, **_begun(state=b"again", browser=mine))
        assert await storage.write(flows.use_state, f"state {begun.index(True)}".encode(), NOW) is None
        assert await storage.write(flows.use_state, b"again", NOW) is not None
        assert await storage.read(flows.by_link, b"link", NOW) is None
        assert not await storage.write(flows.begin, b"link", NOW, **_begun(state=b"once more", browser=mine))

    async def test_a_state_is_used_once(self, storage: Storage) -> None:
        """Of 100 callbacks with one state, one gets the sign-in."""
        await storage.write(registrations.put, TODOIST)
        await storage.write(flows.open_, SIGN_IN, b"link")
        await storage.write(flows.begin, b"link", NOW, **_begun())
        used = await asyncio.gather(*(storage.write(flows.use_state, b"state", NOW) for _ in range(100)))
        assert [found.id for found in used if found is not None] == ["f1"]

    async def test_what_is_too_old_or_forged_is_nothing(self, storage: Storage) -> None:
        """Links and states end at their time; a state cannot be used in a link's place, nor the other way round."""
        await storage.write(registrations.put, TODOIST)
        await storage.write(flows.open_, SIGN_IN, b"link")
        assert await storage.write(flows.use_state, b"link", NOW) is None
        for link, now in [(b"forged", NOW), (b"", NOW), (b"link", SIGN_IN.expires_at)]:
            assert await storage.read(flows.by_link, link, now) is None
            assert not await storage.write(flows.begin, link, now, **_begun())
        await storage.write(flows.begin, b"link", NOW, **_begun())
        assert not await storage.write(flows.begin, b"state", NOW, **_begun(state=b"other"))
        for state, now in [(b"forged", NOW), (b"", NOW), (b"state", NOW + 600 * SECOND)]:
            assert await storage.write(flows.use_state, state, now) is None
        assert await storage.write(flows.use_state, b"state", NOW + 600 * SECOND - 1) is not None

    async def test_a_sign_in_that_ended_cannot_be_used(self, storage: Storage) -> None:
        """Its state dies with it."""
        await storage.write(registrations.put, TODOIST)
        await storage.write(flows.open_, SIGN_IN, b"link")
        await storage.write(flows.begin, b"link", NOW, **_begun())
        await storage.write(flows.end, "f1", "denied", "not allowed")
        assert await storage.write(flows.use_state, b"state", NOW) is None
        ended = await storage.read(flows.by_id, "f1")
        assert ended is not None
        assert (ended.status, ended.reason, ended.connection) == ("denied", "not allowed", None)

    async def test_old_sign_ins_are_forgotten(self, storage: Storage) -> None:
        """Those that ran out before a time go; the others stay."""
        await storage.write(registrations.put, TODOIST)
        for n in range(3):
            await storage.write(flows.open_, replace(SIGN_IN, id=f"f{n}", expires_at=NOW + n), f"link {n}".encode())
        assert await storage.write(flows.drop_older, NOW + 2) == 2
        assert await storage.read(flows.by_id, "f1") is None
        assert await storage.read(flows.by_id, "f2") is not None

    # --- registrations and keys --------------------------------------------------------------------------------------

    async def test_a_registration_is_kept_and_renewed(self, storage: Storage) -> None:
        """One with the same id gets the new client and secrets; its age stays."""
        await storage.write(registrations.put, TODOIST)
        assert await storage.read(registrations.by_id, "r1") == TODOIST
        renewed = replace(TODOIST, client_id="new", secrets=b"new", secret_count=2, key_id="k2", created_at=NOW + 5)
        await storage.write(registrations.put, renewed)
        assert await storage.read(registrations.by_id, "r1") == replace(renewed, created_at=NOW)
        assert await storage.read(registrations.by_id, "r2") is None

    async def test_registrations_are_listed_oldest_first(self, storage: Storage) -> None:
        """All, or those at a provider."""
        for id_, provider, at in [("b", "acme", 2), ("a", "acme", 2), ("c", "other", 1)]:
            await storage.write(registrations.put, replace(TODOIST, id=id_, provider=provider, created_at=at))
        assert [known.id for known in await storage.read(registrations.listed)] == ["c", "a", "b"]
        assert [known.id for known in await storage.read(registrations.listed, provider="acme")] == ["a", "b"]

    async def test_known_answers_are_listed_oldest_first(self, storage: Storage) -> None:
        """Every key that ever sealed this database is remembered."""
        assert await storage.read(vault_keys.listed) == []
        await storage.write(vault_keys.add, SECOND_GRANT, NOW + 1)
        await storage.write(vault_keys.add, FIRST, NOW)
        assert await storage.read(vault_keys.listed) == [
            vault_keys.Known(answer=FIRST, created_at=NOW),
            vault_keys.Known(answer=SECOND_GRANT, created_at=NOW + 1),
        ]

    # --- accept and outbox -------------------------------------------------------------------------------------------

    async def test_the_waist_lets_changes_through(self, storage: Storage) -> None:
        """First sight, no change, there and back, a deletion, a return, an occurrence: each is told as it should be."""
        connection = await storage.write(connect)
        steps: list[tuple[tuple[Draft | Day, ...], int]] = [
            ((upsert("n1", "A"),), 1),
            ((upsert("n1", "A"), delete("n2")), 0),
            ((upsert("n1", "B", version="v1"), upsert("n1", "A")), 2),
            ((upsert("n1", "A", version="v2"), upsert("n1", "C", version="v2")), 0),
            ((delete("n1"), delete("n1")), 1),
            ((upsert("n1", "A", order=5), upsert("n1", "old", order=4)), 1),
            ((occur("s1"), occur("s1"), occur("s2")), 2),
            ((occur("s2"),), 0),
            ((on_day(connection, 7, "s3", "s4", "s3"),), 2),
            ((on_day(connection, 7, "s4"),), 0),
        ]
        for drafts, events in steps:
            assert (await storage.accept(batch_of(connection, *drafts))).events == events
        told = await _told(storage)
        said = [(event.subject, event.revision, event.payload) for event in told]
        assert said == [
            ("n1", 1, "A"),
            ("n1", 2, "B"),
            ("n1", 3, "A"),
            ("n1", 4, ""),
            ("n1", 5, "A"),
            *((f"s{n}", 1, "A") for n in (1, 2, 3, 4)),
        ]
        assert [event.position for event in told] == list(range(1, 10))
        assert [event.id for event in told] == [identity("c1", event.type, event.subject, event.revision) for event in told]

    async def test_a_listing_sweeps_what_it_did_not_show(self, storage: Storage) -> None:
        """Objects of the listed types that were not shown become tombstones."""
        connection = await storage.write(connect)
        run = await _claim(storage)
        await storage.accept(batch_of(connection, upsert("n1"), upsert("n2"), upsert("l1", type_="acme.list")))
        await storage.accept(batch_of(connection, marks=(ListingBegun(run=run, now=NOW),)))
        await storage.accept(batch_of(connection, upsert("n2")))
        sweep = Batch(connection=connection, observed_at=NOW, marks=(Held(run=run),), sweep=Sweep(types=("acme.note", "acme.task")))
        assert await storage.accept(sweep) == Accepted(events=1, last_position=4, swept=1)
        assert [(event.subject, event.revision) for event in (await _told(storage))[3:]] == [("n1", 2)]

    async def test_a_late_push_says_nothing_that_a_listing_did_not(self, storage: Storage) -> None:
        """What changed before the last whole listing of its type began is known from that, and what came of it since."""
        connection = await storage.write(connect)
        run = await _claim(storage)
        await storage.accept(batch_of(connection, marks=(ListingBegun(run=run, now=NOW),)))
        await storage.accept(batch_of(connection, upsert("n1"), marks=(Held(run=run), Listed(run=run, types=("acme.note", "acme.list")))))
        late = (
            upsert("n1", "old", at=NOW - 1),
            delete("n1", at=NOW - 1),
            upsert("gone", at=NOW - 1),
            upsert("t1", type_="acme.task", at=1),
        )
        pushed = Batch(connection=connection, observed_at=NOW, drafts=(*late, upsert("n2", at=NOW), upsert("n3")), pushed=True)
        assert (await storage.accept(pushed)).events == 3
        assert [event.subject for event in await _told(storage)] == ["n1", "t1", "n2", "n3"]
        await storage.accept(batch_of(connection, marks=(ListingBegun(run=run, now=NOW + 1), Listed(run=run, types=("acme.list",)))))
        listed = schedule.Listings(begun_at=NOW + 1, of={"acme.note": NOW, "acme.list": NOW + 1})
        assert await storage.read(schedule.listings, connection.number) == listed

    async def test_a_sweep_within_a_part(self, storage: Storage) -> None:
        """Only objects whose key begins as the sweep says become tombstones; % and _ stand for themselves, and case counts."""
        connection = await storage.write(connect)
        run = await _claim(storage)
        await storage.accept(batch_of(connection, *map(upsert, ("a_%/1", "a_%/2", "A_%/3", "ab%/4", "é/5", "c/6"))))
        await storage.accept(batch_of(connection, marks=(ListingBegun(run=run, now=NOW),)))
        await storage.accept(batch_of(connection, upsert("a_%/2")))
        sweep = Sweep(types=("acme.note",), within=("a_%/", "é/"))
        assert (await storage.accept(Batch(connection=connection, observed_at=NOW, marks=(Held(run=run),), sweep=sweep))).swept == 2
        assert [event.subject for event in (await _told(storage))[6:]] == ["a_%/1", "é/5"]

    async def test_the_outbox_is_read_in_pages(self, storage: Storage) -> None:
        """A page holds what comes after a position, in order, says whether there is more, and where the log ends."""
        connection = await storage.write(connect)
        assert str(await storage.read(outbox.end)) == "1-0"
        await storage.accept(batch_of(connection, *(upsert(f"n{n}") for n in range(5))))
        seen: list[int] = []
        after, more = 0, True
        while more:
            page = await storage.read(outbox.page, after, 2)
            seen += [event[0] for event in page.events]
            after, more = seen[-1], page.more
            assert page.end.number == 5
        assert seen == [1, 2, 3, 4, 5]
        assert (await storage.read(outbox.page, 5, 2)).events == []
        assert (await storage.read(outbox.page, 0, 5)).more is False
        assert (await storage.read(outbox.page, 10**18 - 1, 5)).events == []

    async def test_several_pages_of_one_look(self, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
        """They follow each other and say what they would say alone; past some positions the look takes up no further one."""
        connection = await storage.write(connect)
        await storage.accept(batch_of(connection, *(upsert(f"n{n}", type_=f"acme.{'note' if n % 2 else 'list'}") for n in range(9))))
        await storage.write(retention.drop, [3, 4])
        for wanted in (Filter(), Filter(type="acme.list")):
            found = await storage.read(outbox.pages, 0, 2, wanted)
            alone, after = list[outbox.Page](), 0
            while not alone or alone[-1].more:
                alone.append(await storage.read(outbox.page, after, 2, wanted))
                after = alone[-1].reached
            assert found == alone
        monkeypatch.setattr(outbox, "AHEAD", 4)
        assert [[event[0] for event in page.events] for page in await storage.read(outbox.pages, 0, 2)] == [[1, 2], [5, 6]]
        assert [page.reached for page in await storage.read(outbox.pages, 9, 2)] == [9]

    async def test_what_is_read_at_once_is_bounded_by_bytes(self, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where events are large on average a page has fewer; where large ones lie together among small ones, a look has fewer pages."""
        monkeypatch.setattr(outbox, "AT_ONCE", 50_000)
        connection = await storage.write(connect)
        large = [msgspec.structs.replace(upsert(f"n{n}"), payload=b"x" * 10_000) for n in range(20)]
        await storage.accept(batch_of(connection, *large))
        assert [len(page.events) for page in await storage.read(outbox.pages, 0, 500)] == [4]
        assert len((await storage.read(outbox.page, 0, 500)).events) == 4
        await storage.accept(batch_of(connection, *(upsert(f"s{n}") for n in range(500))))
        assert [len(page.events) for page in await storage.read(outbox.pages, 0, 10)] == [10]
        assert [len(page.events) for page in await storage.read(outbox.pages, 400, 10)] == [10] * 12

    async def test_the_outbox_is_filtered(self, storage: Storage) -> None:
        """By user, by provider, by type, and by all of them; `more` and the limit are about what fits."""
        for name, user, provider in [("c1", "ada", "acme"), ("c2", "bob", "acme"), ("c3", "ada", "other")]:
            connection = await storage.write(connect, name, user=user, provider=provider)
            await storage.accept(batch_of(connection, upsert("n1", type_=f"{provider}.note"), upsert("l1", type_=f"{provider}.list")))

        async def found(limit: int = 9, **which: str) -> list[int]:
            return [event[0] for event in (await storage.read(outbox.page, 0, limit, Filter(**which))).events]

        assert await found() == [1, 2, 3, 4, 5, 6]
        assert await found(user="ada") == [1, 2, 5, 6]
        assert await found(provider="acme") == [1, 2, 3, 4]
        assert await found(type="acme.note") == [1, 3]
        assert await found(user="ada", provider="acme", type="acme.list") == [2]
        assert await found(user="nobody") == []
        page = await storage.read(outbox.page, 1, 2, Filter(user="ada"))
        assert ([event[0] for event in page.events], page.more, page.end.number) == ([2, 5], True, 6)


def _begun(state: bytes = b"state", browser: bytes = b"browser") -> dict[str, Any]:
    return {"state_hash": state, "browser_hash": browser, "verifier": FIRST, "asked": ("notes.read",), "expires_at": NOW + 600 * SECOND}


def _run(connection: Connection, fence: int) -> Run:
    return Run(connection=connection.number, fence=fence, tries=1, cursor=None, of=connection)


def _ended(run: Run, *, next_run_at: int | None = NOW, keep_tries: bool = False) -> RunEnded:
    return RunEnded(run=run, now=NOW, next_run_at=next_run_at, outcome="done", detail="", tally=Tally(), keep_tries=keep_tries)


async def _claim(storage: Storage) -> Run:
    (run,) = await storage.write(schedule.claim, "me", NOW, NOW + LEASE, 1)
    return run


async def _schedule(storage: Storage, connection: Connection, now: int = NOW) -> Schedule:
    planned = await storage.read(schedule.of, connection.number, now)
    assert planned is not None
    return planned


async def _credential(storage: Storage) -> CredentialRows:
    connection = await storage.write(connect)
    await storage.write(credentials.put, connection.number, 1, FIRST, NOW)
    return CredentialRows(storage)


async def _told(storage: Storage) -> list[Told]:
    return decode((await storage.read(outbox.page, 0, 1000)).events)
