"""Consumers keep their place, and it only moves forward."""

from __future__ import annotations

import pytest
from daemon.store.world import LEASE, NOW, Book, encode, upsert

from oo_daemon.store import accept, consumers
from oo_daemon.store.accept import Batch
from oo_daemon.store.consumers import Consumer, Start


def test_joining_twice_changes_nothing(book: Book) -> None:
    """A new consumer begins before the first event; one that is there keeps its place."""
    with book.transaction() as database:
        assert consumers.join(database, "sink:a", NOW) == 0
        assert consumers.advance(database, "sink:a", 0, 7, NOW)
        assert consumers.join(database, "sink:a", NOW) == 7
        assert consumers.join(database, "sink:b", NOW) == 0


@pytest.mark.rows("B7")
def test_only_who_knows_the_place_moves_it(book: Book) -> None:
    """A position moves forward, and only from where the reader thinks it is."""
    with book.transaction() as database:
        consumers.join(database, "sink:a", NOW)
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
