"""What may go, as the database sees it; in both dialects."""

from __future__ import annotations

from daemon.store.world import NOW, Book, connect, delete, occur, upsert

from oo_daemon.store import consumers, retention
from oo_daemon.store.consumers import Start
from oo_daemon.store.outbox import Filter
from oo_daemon.store.retention import Held


def test_what_there_is_and_what_may_go(book: Book) -> None:
    """What is still so, what is gone and what is dead is told apart, and what there is is counted along."""
    with book.transaction() as database:
        connection = connect(database)
        book.take_within(database, connection, upsert("a", "old"), upsert("a", "new"), upsert("b"), delete("b"), occur("s"))
        consumers.add(database, "reads", Start(position=2), Filter(), 1, NOW)
        consumers.add(database, "present", Start(present_until=4), Filter(), 1, NOW)
        consumers.give_up(database, "reads", 2, 3, "odd", NOW)
        found = retention.oldest(database, 0, 5, 9)
        assert [(old.position, old.still_so, old.gone, old.dead) for old in found] == [
            (1, False, False, False),
            (2, True, False, False),
            (3, False, False, True),
            (4, False, True, False),
            (5, False, False, False),
        ]
        size = sum(old.size for old in found)
        assert retention.held(database) == Held(end=5, events=5, bytes=size, read=3)
        assert retention.unread_since(database) == {"present": NOW, "reads": NOW}
        retention.drop(database, [1, 3])
        assert retention.held(database) == Held(end=5, events=3, bytes=size - found[0].size - found[2].size, read=3)
        assert [old.position for old in retention.oldest(database, 0, 5, 9)] == [2, 4, 5]
