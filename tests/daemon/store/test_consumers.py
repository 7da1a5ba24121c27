"""Consumers keep their place, and it only moves forward."""

from __future__ import annotations

import pytest
from daemon.store.world import NOW, Book

from oo_daemon.store import consumers
from oo_daemon.store.consumers import Consumer


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
