"""The waist: what is an event, what is none, and under which id."""

from __future__ import annotations

import itertools
import math
import os
import random
from dataclasses import dataclass, replace

import msgspec
import pytest
from daemon.store.world import LEASE, NOW, Book, connect, delete, identity, occur, on_day, upsert
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from oo_daemon.store import outbox, schedule
from oo_daemon.store.accept import DELETED, UPSERTED, Accepted, Draft, Mark, Sweep, event_id, known_days, tombstone_digest
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database
from oo_daemon.store.errors import LeaseLost
from oo_daemon.store.runs import Tally
from oo_daemon.store.schedule import CursorMoved, Held, Listed, ListingBegun, Run, RunEnded

#: States of one thing that come in all orders: 8 in 40,320.
STATES = int(os.environ.get("OO_TEST_ORDERED", "5"))


def test_an_id_is_a_hash_of_length_prefixed_parts() -> None:
    """An event's id can be computed again from its parts, and parts that only run together differently give another."""
    assert event_id("c1", "acme.note", "n1", 3) == identity("c1", "acme.note", "n1", 3)
    assert event_id("c1", "acme.note", "n1", 3) == "6d840ebe1186f648d1d77b1d131940aa", "as b2sum -l 128 has it"
    assert event_id("c1a", "cme.note", "n1", 3) != event_id("c1", "acme.note", "n1", 3)
    assert event_id("c1", "acme.note", "n11", 3) != event_id("c1", "acme.note", "n1", 13)
    assert len(event_id("é", "日本", "\N{MUSICAL SYMBOL G CLEF}", 1)) == 32


def test_first_sight_is_an_event(book: Book) -> None:
    """What was never seen becomes an event of revision 1."""
    connection = book.connect()
    assert book.take(connection, upsert("n1")) == Accepted(events=1, last_position=1)
    (event,) = book.told()
    assert (event.position, event.revision, event.change, event.payload) == (1, 1, UPSERTED, "A")
    assert event.id == identity("c1", "acme.note", "n1", 1)


@pytest.mark.rows("B6")
def test_the_same_again_is_nothing(book: Book) -> None:
    """An object that did not change makes no event and takes no position."""
    connection = book.connect()
    book.take(connection, upsert("n1"))
    assert book.take(connection, upsert("n1"), upsert("n1")) == Accepted(events=0, last_position=None)
    assert len(book.told()) == 1
    assert outbox.end(book.database).number == 1


@pytest.mark.rows("B6")
def test_there_and_back_is_three_events(book: Book) -> None:
    """A → B → A gives three events, under three ids."""
    connection = book.connect()
    for text in "ABA":
        book.take(connection, upsert("n1", text))
    assert book.said() == [("n1", 1, "A"), ("n1", 2, "B"), ("n1", 3, "A")]
    assert len({event.id for event in book.told()}) == 3


def test_there_and_back_within_one_batch_is_three_events(book: Book) -> None:
    """A later draft of a batch sees what an earlier one of the same object did."""
    connection = book.connect()
    assert book.take(connection, *(upsert("n1", text) for text in "ABBA")).events == 3
    assert book.said() == [("n1", 1, "A"), ("n1", 2, "B"), ("n1", 3, "A")]
    assert book.database.rows("SELECT position, revision FROM object") == [(3, 3)]
    assert book.take(connection, upsert("n1", "A")).events == 0


def test_an_equal_version_restamps_silently(book: Book) -> None:
    """Other bytes under the version that we know are no change, and the new bytes are known from then on."""
    connection = book.connect()
    book.take(connection, upsert("n1", "old format", version="v1"))
    assert book.take(connection, upsert("n1", "new format", version="v1")).events == 0
    assert book.take(connection, upsert("n1", "new format")).events == 0
    assert book.take(connection, upsert("n1", "old format")).events == 1


def test_a_new_version_with_equal_content_is_no_event_but_is_known(book: Book) -> None:
    """An etag that changes alone says nothing new; the next comparison is with the new one."""
    connection = book.connect()
    book.take(connection, upsert("n1", "A", version="v1"))
    assert book.take(connection, upsert("n1", "A", version="v2")).events == 0
    assert book.take(connection, upsert("n1", "B", version="v2")).events == 0
    assert book.take(connection, upsert("n1", "C", version="v1")).events == 1


def test_an_empty_version_equals_none(book: Book) -> None:
    """Without versions, content decides."""
    connection = book.connect()
    book.take(connection, upsert("n1", "A"))
    assert book.take(connection, upsert("n1", "B")).events == 1


@pytest.mark.rows("A21")
def test_a_lower_order_is_dropped(book: Book) -> None:
    """An older state never follows a newer one; the same order may."""
    connection = book.connect()
    book.take(connection, upsert("n1", "new", order=7))
    assert book.take(connection, upsert("n1", "old", order=6)).events == 0
    assert book.take(connection, delete("n1", order=6)).events == 0
    assert book.take(connection, upsert("n1", "corrected", order=7)).events == 1
    assert book.take(connection, upsert("n1", "by hand")).events == 1, "without an order, it is its arrival that counts"
    assert book.take(connection, upsert("n1", "old", order=6)).events == 0, "and the order known before still stands"


@pytest.mark.rows("A21")
@pytest.mark.timeout(1800)
def test_all_orders_of_arrival_end_alike(book: Book) -> None:
    """However some states of one thing come: the newest stands in the end, each event is newer than the last, and none is told twice.

    The orders are walked as a tree: what has come stays, within a savepoint, for all orders that begin with it.
    """
    connection, ends = book.connect(), 0
    states = STATES if book.database.dialect == "sqlite" else min(STATES, 4)
    drafts = [upsert("n1", f"state {order}", order=order) for order in range(states)]

    def walk(database: Database, told: tuple[int, ...], left: frozenset[int]) -> None:
        nonlocal ends
        if not left:
            ends += 1
            assert told[-1] == states - 1
            assert told == tuple(sorted(set(told)))
            assert [event.payload for event in book.told()] == [f"state {order}" for order in told]
        for order in left:
            database.rows(f"SAVEPOINT depth_{len(left)}")
            events = book.take_within(database, connection, drafts[order]).events
            walk(database, (*told, order) if events else told, left - {order})
            database.rows(f"ROLLBACK TO depth_{len(left)}")
            database.rows(f"RELEASE depth_{len(left)}")

    with book.draft() as database:
        walk(database, (), frozenset(range(states)))
    assert ends == math.factorial(states)


def test_an_equal_state_raises_the_order(book: Book) -> None:
    """The same content at a higher order is no event, and shuts out what lies between."""
    connection = book.connect()
    book.take(connection, upsert("n1", "A", order=1))
    assert book.take(connection, upsert("n1", "A", order=9)).events == 0
    assert book.take(connection, upsert("n1", "B", order=5)).events == 0


@pytest.mark.rows("A21")
def test_a_lower_order_is_dropped_after_a_tombstone_too(book: Book) -> None:
    """What is gone does not come back by an old message."""
    connection = book.connect()
    book.take(connection, upsert("n1", order=1), delete("n1", order=5))
    assert book.take(connection, upsert("n1", "B", order=4)).events == 0
    assert book.said() == [("n1", 1, "A"), ("n1", 2, "")]


def test_the_deletion_of_the_unknown_is_nothing(book: Book) -> None:
    """Nobody was told of it, so nobody is told that it is gone; its revision 1 is still to come."""
    connection = book.connect()
    assert book.take(connection, delete("n1")).events == 0
    assert book.take(connection, upsert("n1")).events == 1
    assert book.said() == [("n1", 1, "A")]


def test_a_tombstone_ahead_of_its_object_keeps_the_object_out(book: Book) -> None:
    """Where a provider gives an order, a deletion that overtook its object is remembered, silently."""
    connection = book.connect()
    assert book.take(connection, delete("n1", order=5)).events == 0
    assert book.take(connection, upsert("n1", order=4)).events == 0
    assert book.take(connection, delete("n1", order=6)).events == 0
    assert book.take(connection, upsert("n1", order=5)).events == 0
    assert book.take(connection, upsert("n1", order=7)).events == 1
    assert book.said() == [("n1", 1, "A")]


def test_one_deletion_after_another_is_no_change(book: Book) -> None:
    """An object goes once, whatever else a second tombstone says."""
    connection = book.connect()
    book.take(connection, upsert("n1", version="v1"))
    assert book.take(connection, delete("n1", version="v1")).events == 1, "its version is that of the state that went"
    assert book.take(connection, delete("n1", version="v2")).events == 0
    assert book.take(connection, msgspec.structs.replace(delete("n1"), digest=b"another kind of nothing")).events == 0


def test_a_resurrection_is_an_event(book: Book) -> None:
    """An object that comes back as it was is told of again, with the next revision."""
    connection = book.connect()
    book.take(connection, upsert("n1", version="v1"))
    book.take(connection, delete("n1"))
    book.take(connection, upsert("n1", version="v1"))
    assert [(event.change, event.revision) for event in book.told()] == [(UPSERTED, 1), (DELETED, 2), (UPSERTED, 3)]


def test_the_same_key_is_another_object_elsewhere(book: Book) -> None:
    """Connection and type are part of what an object is."""
    first, second = book.connect("c1"), book.connect("c2")
    for connection in (first, second):
        for type_ in ("acme.note", "acme.list"):
            assert book.take(connection, upsert("n1", type_=type_)).events == 1
    assert len({event.id for event in book.told()}) == 4


@pytest.mark.rows("B6")
def test_what_occurred_is_told_once(book: Book) -> None:
    """An occurrence is known by its key, in one batch and over all, whatever its content says later."""
    connection = book.connect()
    assert book.take(connection, occur("s1"), occur("s2"), occur("s1")).events == 2
    assert book.take(connection, occur("s1", "B"), occur("s3")).events == 1
    assert [event.id for event in book.told()] == [identity("c1", "acme.sample", key, 1) for key in ("s1", "s2", "s3")]


def test_keys_of_occurrences_outlive_events(book: Book) -> None:
    """An occurrence whose event is gone from the outbox stays known; its key says how long."""
    connection = book.connect()
    book.take(connection, occur("s1", keep_key_until=NOW + 35), occur("s2"))
    book.database.rows("DELETE FROM outbox")
    assert book.take(connection, occur("s1"), occur("s2")).events == 0
    assert sorted(book.database.rows("SELECT keep_until FROM occurrence"), key=str) == [(NOW + 35,), (None,)]


@pytest.mark.rows("B6")
def test_what_occurred_on_a_day_is_told_once(book: Book) -> None:
    """Occurrences with a day are known by type, day and key, in one batch and over all, and one row holds a day's keys."""
    connection = book.connect()
    assert (
        book.take(connection, on_day(connection, 7, "s1", "s2", "s1"), on_day(connection, 8, "s1"), on_day(connection, 7, "s2")).events == 3
    )
    assert [event.subject for event in book.told()] == ["s1", "s2", "s1"]
    other = on_day(connection, 7, "s1", type_="acme.other")
    assert book.take(connection, on_day(connection, 7, "s3", "s2"), other, upsert("n1")).events == 3
    assert [(event.subject, event.type) for event in book.told(3)] == [("s3", "acme.sample"), ("s1", "acme.other"), ("n1", "acme.note")]
    book.database.rows("DELETE FROM outbox")
    assert book.take(connection, on_day(connection, 7, "s3"), on_day(connection, 8, "s1")).events == 0
    rows = book.database.rows('SELECT type, day, length("keys") FROM occurrence_day ORDER BY type, day')
    assert rows == [("acme.other", 7, 8), ("acme.sample", 7, 24), ("acme.sample", 8, 8)]


def test_what_is_known_of_days_is_told_in_portions(book: Book) -> None:
    """From a day on, about as much as is asked for and at least that day, with where it stopped."""
    connection = book.connect()
    days = [on_day(connection, day, *(f"{day}-{n}" for n in range(10))) for day in range(5, 9)]
    book.take(connection, *days, on_day(connection, 6, "s1", type_="acme.other"))

    def known(first: int, most: int) -> tuple[dict[int, bytes], int | None]:
        return known_days(book.database, connection.number, "acme.sample", first, most)

    assert known(0, 1_000) == ({day.day: day.keys for day in days}, None)
    assert known(6, 170) == ({day.day: day.keys for day in days[1:3]}, 8)
    assert known(6, 1) == ({6: days[1].keys}, 7)
    assert known(9, 1) == ({}, None)


def test_an_occurrence_and_an_object_do_not_meet(book: Book) -> None:
    """An occurrence leaves the object index alone, though type and key be equal."""
    connection = book.connect()
    book.take(connection, upsert("n1"), occur("n1", type_="acme.note"))
    assert book.database.rows('SELECT "key", position FROM object') == [("n1", 1)]


def test_a_batch_may_be_larger_than_one_look_up(book: Book) -> None:
    """More keys than one statement takes are all found again."""
    connection = book.connect()
    drafts = [upsert(f"n{n}") for n in range(1001)] + [occur(f"s{n}") for n in range(1001)]
    assert book.take(connection, *drafts).events == 2002
    assert book.take(connection, *drafts).events == 0
    assert [event.subject for event in book.told()] == [draft.subject for draft in drafts], "in the order in which they came"


@pytest.mark.rows("B5")
def test_positions_are_never_used_twice(book: Book) -> None:
    """Erasing the newest events frees no position."""
    connection = book.connect()
    book.take(connection, upsert("n1"), upsert("n2"))
    book.database.rows("DELETE FROM outbox")
    assert book.take(connection, upsert("n3"), upsert("n4")) == Accepted(events=2, last_position=4)
    assert [event.position for event in book.told()] == [3, 4]


@pytest.mark.rows("B5")
def test_positions_only_grow(book: Book) -> None:
    """However many of the newest are erased between batches, each position is higher than every one there was."""
    connection = book.connect()
    keys, met = itertools.count(), [0]

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), max_size=8))
    def live(steps: list[tuple[int, int]]) -> None:
        for many, erased in steps:
            accepted = book.take(connection, *(occur(f"s{next(keys)}") for _ in range(many)))
            assert accepted.last_position is not None
            taken = range(accepted.last_position - many + 1, accepted.last_position + 1)
            assert taken[0] > met[-1]
            met.extend(taken)
            book.database.rows(
                "DELETE FROM outbox WHERE position IN (SELECT position FROM outbox ORDER BY position DESC LIMIT ?)", (erased,)
            )

    live()


@pytest.mark.rows("B6")
def test_retention_forgets_no_identity(book: Book) -> None:
    """An object whose events are gone from the outbox goes on counting its revisions."""
    connection = book.connect()
    book.take(connection, upsert("n1", "A"))
    book.database.rows("DELETE FROM outbox")
    assert book.take(connection, upsert("n1", "A")).events == 0
    book.take(connection, upsert("n1", "B"))
    assert book.told()[0].id == identity("c1", "acme.note", "n1", 2)


@pytest.mark.rows("B6")
def test_a_new_connection_after_an_erasure_starts_afresh(book: Book) -> None:
    """With the connection go its index and its keys; the next one has new ids for the same objects."""
    connection = book.connect()
    book.take(connection, upsert("n1"), occur("s1"), on_day(connection, 7, "s1"))
    book.database.rows("DELETE FROM connection")
    for table in ("object", "occurrence", "occurrence_day", "schedule"):
        assert book.database.rows(f"SELECT 1 FROM {table}") == []
    again = book.connect("c2")
    assert again.number != connection.number
    book.take(again, upsert("n1"), occur("s1"))
    assert len({event.id for event in book.told()}) == 4


def test_a_connection_that_is_gone_takes_no_events(book: Book) -> None:
    """A batch that comes too late writes nothing, and its sender is told to stop."""
    connection = book.connect()
    book.database.rows("DELETE FROM connection")
    with pytest.raises(LeaseLost, match="gone"):
        book.take(connection, upsert("n1"))


# --- marks -----------------------------------------------------------------------------------------------------------


@pytest.mark.rows("B4")
def test_events_and_cursor_go_together(book: Book) -> None:
    """A batch moves the cursor in the transaction that holds its events."""
    connection = book.connect()
    run = book.claim()
    book.take(connection, upsert("n1"), marks=[CursorMoved(run=run, cursor={"token": "t1"})])
    planned = schedule.of(book.database, connection.number, NOW)
    assert planned is not None
    assert planned.cursor == {"token": "t1"}
    assert len(book.told()) == 1


@pytest.mark.rows("E2")
@pytest.mark.parametrize("kind", ["held", "cursor", "listing", "end"])
def test_a_lost_lease_writes_nothing(book: Book, kind: str) -> None:
    """When another has taken over, each mark refuses the whole: no event, no index row, no position, no earlier mark."""
    connection = book.connect()
    old = book.claim()
    with book.transaction() as database:
        (new,) = schedule.claim(database, "you", NOW + LEASE, NOW + 2 * LEASE, 1)
    before = _everything(book)
    marks: dict[str, Mark] = {
        "held": Held(run=old),
        "cursor": CursorMoved(run=old, cursor=None),
        "listing": ListingBegun(run=old, now=NOW),
        "end": _end(old),
    }
    with pytest.raises(LeaseLost):
        book.take(connection, upsert("n1"), occur("s1"), marks=[CursorMoved(run=new, cursor={"a": 1}), marks[kind]])
    assert _everything(book) == before


def _end(run: Run) -> RunEnded:
    return RunEnded(run=run, now=NOW, next_run_at=NOW, outcome="done", detail="", tally=Tally(), keep_tries=False)


def _everything(book: Book) -> list[object]:
    tables = ("connection", "schedule", "object", "occurrence", "occurrence_day", "outbox", "stream")
    return [book.database.rows(f"SELECT * FROM {table}") for table in tables]


# --- sweeps ----------------------------------------------------------------------------------------------------------


def _listing(book: Book, connection: Connection, run: Run, *drafts: Draft) -> None:
    book.take(connection, marks=[ListingBegun(run=run, now=NOW)])
    book.take(connection, *drafts)


def _sweep(book: Book, connection: Connection, *types: str, limit: int = 500) -> Accepted:
    return book.take(connection, sweep=Sweep(types=types or ("acme.note",), limit=limit))


def test_what_a_listing_does_not_show_is_gone(book: Book) -> None:
    """At the end of a listing, objects of its types that it did not show become tombstones, once."""
    connection = book.connect()
    run = book.claim()
    book.take(connection, upsert("n1"), upsert("n2"), upsert("l1", type_="acme.list"))
    _listing(book, connection, run, upsert("n2"))
    assert _sweep(book, connection) == Accepted(events=1, last_position=4, swept=1)
    assert book.said(3) == [("n1", 2, "")]
    assert _sweep(book, connection) == Accepted(events=0, last_position=None)


def test_a_sweep_goes_on_where_its_limit_stopped_it(book: Book) -> None:
    """With more gone than one transaction takes, each sweep takes the next ones."""
    connection = book.connect()
    run = book.claim()
    book.take(connection, *(upsert(f"n{n}") for n in range(5)))
    _listing(book, connection, run)
    assert [_sweep(book, connection, limit=2).swept for _ in range(4)] == [2, 2, 1, 0]
    assert [event.subject for event in book.told(5)] == ["n0", "n1", "n2", "n3", "n4"]


def test_a_listing_may_take_several_runs(book: Book) -> None:
    """What an earlier run of the same listing showed, and what was pushed meanwhile, stays."""
    connection = book.connect()
    book.take(connection, upsert("n1"), upsert("n2"), upsert("n3"), upsert("n4"))
    first = book.claim()
    _listing(book, connection, first, upsert("n1"))
    book.take(connection, marks=[_end(first)])
    book.take(connection, upsert("n4", "pushed"))
    book.take(connection, upsert("n2"), marks=[Held(run=book.claim())])
    _sweep(book, connection)
    assert book.said(5) == [("n3", 2, "")]


def test_an_object_that_a_listing_shows_in_an_older_state_is_there(book: Book) -> None:
    """A page fetched before a push came in is out of date, but no reason to think the object gone."""
    connection = book.connect()
    run = book.claim()
    book.take(connection, upsert("n1", "pushed", order=9), upsert("n2", order=1))
    _listing(book, connection, run, upsert("n1", "as listed", order=5))
    _sweep(book, connection)
    assert book.said(2) == [("n2", 2, "")]


@pytest.mark.rows("A21")
def test_a_late_push_does_not_bring_back_what_a_listing_did_not_show(book: Book) -> None:
    """Nor undo what it showed; what occurred is told, however old, and what a sync says is believed."""
    connection = book.connect()
    run = book.claim()
    book.take(connection, upsert("swept"))
    _listing(book, connection, run, upsert("n1"))
    _sweep(book, connection)
    book.take(connection, marks=[Listed(run=run, types=("acme.note",))])
    before = _everything(book)
    for drafts in (
        (upsert("gone", at=NOW - 1), upsert("swept", at=NOW - 1)),
        (upsert("n1", "old", at=NOW - 1),),
        (delete("n1", at=NOW - 1),),
    ):
        assert book.push(connection, *drafts) == Accepted(events=0, last_position=None)
    assert _everything(book) == before
    assert book.push(connection, occur("o1", at=NOW - 1), upsert("l1", type_="acme.list", at=NOW - 1)).events == 2
    assert book.take(connection, upsert("gone", at=NOW - 1)).events == 1


def test_a_push_may_tell_what_a_listing_could_not_show(book: Book) -> None:
    """What changed when it had begun, and of what nobody says when it changed."""
    connection = book.connect()
    run = book.claim()
    _listing(book, connection, run)
    book.take(connection, marks=[Listed(run=run, types=("acme.note",))])
    assert book.push(connection, upsert("n1", at=NOW), upsert("n2")).events == 2


def test_a_late_push_is_not_shown_by_the_listing_under_way(book: Book) -> None:
    """What changed before the listing began has to come there, too, or it is gone; what changed since need not."""
    connection = book.connect()
    run = book.claim()
    book.take(connection, upsert("n1"), upsert("n2", order=5), upsert("n3"), upsert("n4"))
    _listing(book, connection, run, upsert("n3"))
    late = (
        upsert("n1", "B", at=NOW - 1),
        upsert("n2", "old", order=4, at=NOW - 1),
        upsert("n3", "B", at=NOW - 1),
        upsert("n5", at=NOW - 1),
    )
    book.push(connection, *late, upsert("n4", at=NOW), upsert("n6", at=NOW))
    _sweep(book, connection)
    assert book.said(4) == [("n1", 2, "B"), ("n3", 2, "B"), ("n5", 1, "A"), ("n6", 1, "A"), ("n1", 3, ""), ("n2", 2, ""), ("n5", 2, "")]


def test_a_batch_that_shows_objects_and_sweeps_keeps_what_it_shows(book: Book) -> None:
    """The last page of a listing may come with its sweep."""
    connection = book.connect()
    run = book.claim()
    book.take(connection, upsert("n1"), upsert("n2"))
    accepted = book.take(connection, upsert("n1"), upsert("n3"), marks=[ListingBegun(run=run, now=NOW)], sweep=Sweep(types=("acme.note",)))
    assert accepted == Accepted(events=2, last_position=4, swept=1)
    assert book.said(2) == [("n3", 1, "A"), ("n2", 2, "")]


def test_a_swept_object_comes_back_at_the_order_it_had(book: Book) -> None:
    """A tombstone of ours has no order of the provider's: the object returns with its own."""
    connection = book.connect()
    run = book.claim()
    book.take(connection, upsert("n1", order=5))
    _listing(book, connection, run)
    _sweep(book, connection)
    assert book.take(connection, upsert("n1", order=4)).events == 0
    assert book.take(connection, upsert("n1", order=5)).events == 1


# --- order of arrival ------------------------------------------------------------------------------------------------


def _final(database: Database, connection: Connection) -> tuple[object, ...]:
    ((change, digest, order, revision),) = database.rows(
        "SELECT change, digest, ordinal, revision FROM object WHERE connection = ?", (connection.number,)
    )
    rows = database.rows("SELECT body FROM outbox WHERE connection = ? ORDER BY position", (connection.number,))
    assert len(rows) == revision
    return change, bytes(digest), order


@pytest.mark.rows("A21")
@pytest.mark.parametrize("last", [upsert("n1", "last", order=8), delete("n1", order=8)], ids=["upserted", "deleted"])
def test_eight_deliveries_end_in_one_state_whatever_their_order(book: Book, last: Draft) -> None:
    """Of 8 deliveries of one object, the one with the highest order is the final state, in each order of arrival that was drawn."""
    middle = [delete("n1", order=n) if n == 4 else upsert("n1", f"state {n}", order=n) for n in range(1, 8)]
    orders = list(itertools.permutations([*middle, last]))
    drawn = [orders[0], orders[-1], *random.Random(8).sample(orders, 150)]
    with book.draft() as database:
        for number, order in enumerate(drawn):
            connection = connect(database, f"c{number}")
            for draft in order:
                book.take_within(database, connection, draft)
            assert _final(database, connection) == (last.change, last.digest, 8)


# --- against a model -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """The model of one object."""

    gone: bool
    text: str
    version: str
    order: int | None
    revision: int
    shown: int  #: in which listing


KEYS = st.sampled_from(["n1", "n2", "n3"])
UPSERTS = st.builds(upsert, KEYS, st.sampled_from("ABC"), version=st.sampled_from(["", "v1", "v2"]), order=st.none() | st.integers(1, 5))
DELETES = st.builds(delete, KEYS, version=st.sampled_from(["", "v1"]), order=st.none() | st.integers(1, 5))
SAMPLES = st.builds(occur, st.sampled_from(["s1", "s2", "s3", "s4"]))


class Waist(RuleBasedStateMachine):
    """Drafts in any order, in any batches, with listings between: the outbox says what a dict of objects says."""

    def __init__(self, book: Book, connection: Connection, run: Run) -> None:
        super().__init__()
        self.book, self.connection, self.claimed = book, connection, run
        self.book.begin()  # never committed: each walk begins with an empty outbox
        self.things: dict[str, Thing] = {}
        self.samples: set[str] = set()
        self.listing = 0
        self.expected: list[tuple[str, int, str]] = []

    def teardown(self) -> None:
        self.book.database.rows("ROLLBACK")

    @rule(drafts=st.lists(UPSERTS | DELETES | SAMPLES, min_size=1, max_size=6))
    def batch(self, drafts: list[Draft]) -> None:
        before = len(self.expected)
        for draft in drafts:
            if draft.change in (UPSERTED, DELETED):
                self._expect(draft)
            elif draft.key not in self.samples:
                self.samples.add(draft.key)
                self.expected.append((draft.key, 1, "A"))
        accepted = self._take(*drafts)
        assert accepted.events == len(self.expected) - before
        assert accepted.last_position == (len(self.expected) if accepted.events else None)

    @rule()
    def begin_listing(self) -> None:
        self.listing += 1
        self.book.take_within(self.book.database, self.connection, marks=[ListingBegun(run=self.claimed, now=NOW)])

    @precondition(lambda self: self.listing)
    @rule(limit=st.integers(1, 3))
    def sweep(self, limit: int) -> None:
        missing = [key for key, thing in sorted(self.things.items()) if not thing.gone and thing.shown < self.listing][:limit]
        for key in missing:
            self._expect(delete(key))
        accepted = self.book.take_within(self.book.database, self.connection, sweep=Sweep(types=("acme.note", "acme.unheard"), limit=limit))
        assert (accepted.events, accepted.swept) == (len(missing), len(missing))

    def _expect(self, draft: Draft) -> None:
        known, gone, text = self.things.get(draft.key), draft.change == DELETED, draft.payload.decode()
        fresh = Thing(gone=gone, text=text, version=draft.version, order=draft.order, revision=1, shown=self.listing)
        if known is None:
            if not gone:
                self.things[draft.key] = fresh
                self.expected.append((draft.key, 1, text))
            elif draft.order is not None:
                self.things[draft.key] = replace(fresh, revision=0)
            return
        if draft.order is not None and known.order is not None and draft.order < known.order:
            if not gone:
                self.things[draft.key] = replace(known, shown=self.listing)
            return
        order = draft.order if draft.order is not None else known.order
        equal = gone == known.gone and (gone or text == known.text or bool(draft.version and draft.version == known.version))
        if equal:
            self.things[draft.key] = replace(known, text=text, version=draft.version or known.version, order=order, shown=self.listing)
            return
        self.things[draft.key] = replace(fresh, order=order, revision=known.revision + 1)
        self.expected.append((draft.key, known.revision + 1, text))

    def _take(self, *drafts: Draft) -> Accepted:
        return self.book.take_within(self.book.database, self.connection, *drafts, marks=[Held(run=self.claimed)])

    @invariant()
    def the_outbox_says_it_all(self) -> None:
        told = self.book.told()
        assert [(event.subject, event.revision, event.payload) for event in told] == self.expected
        assert [event.position for event in told] == list(range(1, len(told) + 1))
        assert [event.id for event in told] == [identity("c1", event.type, event.subject, event.revision) for event in told]
        assert len({event.id for event in told}) == len(told)

    @invariant()
    def the_index_knows_each_object(self) -> None:
        last = {subject: position for position, (subject, _, _) in enumerate(self.expected, 1)}
        rows = self.book.database.rows('SELECT "key", revision, change, version, ordinal, position FROM object ORDER BY "key"')
        assert rows == [
            (key, thing.revision, DELETED if thing.gone else UPSERTED, thing.version, thing.order, last.get(key, 0))
            for key, thing in sorted(self.things.items())
        ]


@pytest.mark.rows("B4", "B6")
def test_the_waist_agrees_with_a_model(book: Book) -> None:
    """On random walks of batches, listings and sweeps, events, ids, positions and index are those of a small model."""
    connection = book.connect()
    run = book.claim()
    walks = settings(max_examples=40, stateful_step_count=20, deadline=None, database=None)
    run_state_machine_as_test(lambda: Waist(book, connection, run), settings=walks)  # type: ignore[arg-type]  # a factory will do


def test_a_tombstones_digest_is_one_for_all() -> None:
    """Deletions are equal to each other, and to no content."""
    assert tombstone_digest() == delete("n1").digest != upsert("n1", "").digest
