"""Consumers keep their place, and it only moves forward."""

from __future__ import annotations

import pytest
from daemon.store.world import LEASE, NOW, SECOND, Book, encode, upsert

from oo_daemon.store import accept, consumers, retention
from oo_daemon.store.accept import Batch
from oo_daemon.store.consumers import ALL, Consumer, Start, Track
from oo_daemon.store.outbox import Filter


def test_a_sink_is_kept_by_one(book: Book) -> None:
    """Whoever has the token moves it on, until the time is up or it is let go of; what an operator changed holds from then on."""
    with book.transaction() as database:
        assert consumers.hold(database, "sink:a", ALL, 10, "one", NOW, NOW + 9) is None  # there is none
        assert consumers.add(database, "sink:a", Start(), ALL, 10, NOW)
        kept = consumers.hold(database, "sink:a", Filter(user="ada"), 3, "one", NOW, NOW + 9)
        assert kept is not None
        assert (kept.position, kept.wanted, kept.most_tries) == (0, Filter(user="ada"), 3)
        assert consumers.hold(database, "sink:a", ALL, 10, "two", NOW + 8, NOW + 20) is None
        moved = consumers.moved(database, "sink:a", "one", 0, 7, NOW + 8, NOW + 19)
        assert moved is not None
        assert moved.position == 7
        for token, before, to in [("two", 7, 8), ("one", 6, 8), ("one", 7, 6)]:
            assert consumers.moved(database, "sink:a", token, before, to, NOW, NOW + 19) is None
        assert consumers.hold(database, "sink:a", ALL, 10, "two", NOW + 18, NOW + 20) is None
        consumers.hold_on(database, "sink:a", "two", NOW + 99)
        consumers.let_go(database, "sink:a", "two")
        consumers.say(database, "sink:a", "nobody answers")
        said = consumers.of(database, "sink:a")
        assert said is not None
        assert (said.reason, said.tries) == ("nobody answers", 0)
        assert consumers.hold(database, "sink:a", ALL, 10, "two", NOW + 18, NOW + 20) is None
        assert consumers.rescue_sinks(database) == 1
        assert consumers.hold(database, "sink:a", ALL, 10, "two", NOW + 18, NOW + 20) is not None
        assert consumers.moved(database, "sink:a", "one", 7, 8, NOW, NOW + 19) is None
        consumers.hold_on(database, "sink:a", "two", NOW + 40)
        assert consumers.hold(database, "sink:a", ALL, 10, "three", NOW + 39, NOW + 60) is None
        assert consumers.hold(database, "sink:a", ALL, 10, "three", NOW + 40, NOW + 60) is not None


@pytest.mark.rows("B17")
def test_a_sink_of_a_restored_log_begins_at_its_end(book: Book) -> None:
    """Where it had read further than the log now goes, it goes on with what is new, and sleeps through nothing."""
    with book.transaction() as database:
        consumers.add(database, "sink:a", Start(position=500), ALL, 10, NOW)
        database.rows("UPDATE stream SET epoch = 2, position = 40")
        kept = consumers.hold(database, "sink:a", ALL, 10, "one", NOW, NOW + 9)
        assert kept is not None
        assert (kept.position, kept.epoch) == (40, 2)


@pytest.mark.rows("B20")
def test_tracks_of_a_sink(book: Book) -> None:
    """One a second, for a quarter of an hour; what lies behind the oldest is held, and who serves the sink can be put back there."""
    with book.transaction() as database:
        database.rows("UPDATE stream SET position = 90")
        consumers.add(database, "sink:a", Start(), ALL, 10, NOW)
        consumers.hold(database, "sink:a", ALL, 10, "one", NOW, NOW + LEASE)
        moves = [(10, NOW), (20, NOW + 1), (30, NOW + SECOND), (40, NOW + 2 * SECOND)]
        for before, (to, now) in zip([0, 10, 20, 30], moves, strict=True):
            assert consumers.moved(database, "sink:a", "one", before, to, now, now + LEASE, f"at {to}") is not None
        tracks = [Track(position=0, found_at=""), *(Track(position=at, found_at=f"at {at}") for at in (20, 30, 40))]
        assert consumers.tracks(database, "sink:a") == tracks
        assert retention.held(database).read == 0
        assert consumers.put_back(database, "sink:a", "two", 20) is None
        back = consumers.put_back(database, "sink:a", "one", 20)
        assert back is not None
        assert (back.position, consumers.tracks(database, "sink:a")) == (20, tracks[:2])
        later = NOW + consumers.TRACKED + 10
        assert consumers.moved(database, "sink:a", "one", 20, 50, later, later + LEASE, "at 50") is not None
        assert [track.position for track in consumers.tracks(database, "sink:a")] == [20, 50]
        assert retention.held(database).read == 20
        assert consumers.moved(database, "sink:a", "one", 50, 50, 2 * later, 2 * later + LEASE) is not None
        assert [track.position for track in consumers.tracks(database, "sink:a")] == [50]
        assert retention.held(database).read == 50


def test_dead_letters_are_given_again(book: Book) -> None:
    """Those that are wanted, oldest first; one given in vain stays, with what was said of it."""
    with book.transaction() as database:
        consumers.add(database, "sink:a", Start(), ALL, 3, NOW)
        for at in (1, 2, 3):
            assert consumers.give_up(database, "sink:a", at - 1, at, "odd", NOW)
        assert consumers.give_again(database, "sink:a", [2, 9]) == 1
        assert consumers.wanted_again(database, "sink:a") == (2, None)
        consumers.keep_dead(database, "sink:a", 2, "still odd")
        assert consumers.wanted_again(database, "sink:a") is None
        assert consumers.give_again(database, "sink:a", None) == 3
        consumers.drop_dead_letter(database, "sink:a", 1)
        known = consumers.of(database, "sink:a")
        assert known is not None
        assert (known.dead_letters, known.again, known.paused) == (2, 2, False)
        assert [(each.position, each.tries, each.reason) for each in consumers.dead_letters(database, "sink:a", 9)] == [
            (3, 3, "odd"),
            (2, 4, "still odd"),
        ]
        assert consumers.pause(database, "sink:a", True)
        assert not consumers.pause(database, "sink:b", True)


@pytest.mark.rows("B7")
def test_only_who_knows_the_place_moves_it(book: Book) -> None:
    """A position moves forward, and only from where the reader thinks it is."""
    with book.transaction() as database:
        consumers.add(database, "sink:a", Start(), ALL, 10, NOW)
        consumers.failed(database, "sink:a", "the file is locked")
        for before, after in [(1, 5), (0, 0), (0, -1)]:
            assert not consumers.advance(database, "sink:a", before, after, NOW)
        assert consumers.listed(database) == [Consumer(name="sink:a", position=0, tries=1, reason="the file is locked")]
        assert consumers.advance(database, "sink:a", 0, 5, NOW)
        assert consumers.listed(database) == [Consumer(name="sink:a", position=5, tries=0, reason="")]
        assert not consumers.advance(database, "sink:nobody", 0, 5, NOW)


def _three(book: Book, most_tries: int = 2) -> None:
    """Three events, and a consumer that is to read them."""
    connection = book.connect()
    with book.transaction() as database:
        accept.accept(database, Batch(connection=connection, observed_at=NOW, drafts=[upsert("a"), upsert("b"), upsert("c")]), encode)
        assert consumers.add(database, "app", Start(), consumers.ALL, most_tries, NOW)
        assert not consumers.add(database, "app", Start(), consumers.ALL, 1, NOW)


@pytest.mark.rows("B7")
def test_a_batch_is_leased_and_acknowledged(book: Book) -> None:
    """One batch at a time, for who holds its token; an acknowledgement of a part leaves the rest leased."""
    _three(book)
    with book.transaction() as database:
        assert consumers.lease(database, "app", 0, 1, 3, "t1", NOW, NOW + LEASE) == 1
        assert consumers.lease(database, "app", 0, 1, 3, "t2", NOW, NOW + LEASE) is None
        consumers.take_back(database, "app", "t2")
        consumers.take_back(database, "app", "t1")
        assert consumers.lease(database, "app", 0, 1, 3, "t1", NOW, NOW + LEASE) == 1
        assert not consumers.ack(database, "app", "t2", 3, NOW)
        assert consumers.ack(database, "app", "t1", 2, NOW)
        known = consumers.of(database, "app")
        assert known is not None
        assert (known.position, known.token) == (2, "t1")
        assert consumers.ack(database, "app", "t1", 3, NOW)
        assert not consumers.ack(database, "app", "t1", 3, NOW)
        assert consumers.listed_with_end(database)[1].number == 3
        assert consumers.known_by(database, NOW) == {"app": 3}


@pytest.mark.rows("B7")
def test_what_was_given_too_often_is_set_aside(book: Book) -> None:
    """Given back it is held, the second time it goes to the dead letters; a reset takes the batch away, a removal everything."""
    _three(book)
    with book.transaction() as database:
        consumers.lease(database, "app", 0, 1, 3, "t1", NOW, NOW + LEASE)
        assert consumers.nack(database, "app", "other", 1, "no", NOW, NOW) is None
        assert consumers.nack(database, "app", "t1", 1, "no", NOW, NOW + 1) is False
        assert consumers.lease(database, "app", 0, 1, 3, "t2", NOW, NOW + LEASE) is None
        assert consumers.lease(database, "app", 0, 1, 3, "t2", NOW + 1, NOW + LEASE) == 2
        assert consumers.nack(database, "app", "t2", 1, "again", NOW + 1, NOW + 2) is True
        assert [(dead.position, dead.reason) for dead in consumers.dead_letters(database, "app", 9)] == [(1, "again")]
        assert consumers.drop_dead_letters(database, "app") == 1
        consumers.lease(database, "app", 1, 2, 3, "t3", NOW + 9, NOW + LEASE)
        assert consumers.reset(database, "app", Start(position=0, present_until=3))
        assert not consumers.ack(database, "app", "t3", 3, NOW)
        gone = consumers.remove(database, "app")
        assert gone is not None
        assert (gone.position, gone.present_until) == (0, 3)
        assert consumers.remove(database, "app") is None
        assert not consumers.reset(database, "app", Start())
