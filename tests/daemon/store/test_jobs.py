"""Jobs: queued once, claimed by one, in the order of their connection, and ended with what belongs to it."""

from __future__ import annotations

from typing import Any

import pytest
from daemon.store.world import LEASE, NOW, SECOND, Book, occur
from msgspec.structs import replace

from oo_daemon.store import jobs
from oo_daemon.store.connections import Connection
from oo_daemon.store.errors import LeaseLost
from oo_daemon.store.jobs import Ended, Job, JobEnded


def put(book: Book, connection: Connection, key: str = "k1", *, kind: jobs.Kind = "act", now: int = NOW, **body: Any) -> Job:
    with book.transaction() as database:
        return jobs.put(database, id_=f"{connection.id} {kind} {key}", kind=kind, connection=connection.number, key=key, body=body, now=now)


def claim(book: Book, *, owner: str = "me", now: int = NOW, limit: int = 10) -> list[Job]:
    with book.transaction() as database:
        return jobs.claim(database, owner, now, now + LEASE, limit)


def end(book: Book, connection: Connection, job: Job, ended: Ended) -> None:
    book.take(connection, *ended.drafts, marks=(JobEnded(job=job, ended=ended, now=NOW), *ended.marks))


def found(book: Book, job: Job) -> Job:
    seen = jobs.by_id(book.database, job.id)
    assert seen is not None
    return seen


def test_a_job_is_queued_once(book: Book) -> None:
    """Under one key there is one job, whatever is asked for later; kinds and connections do not share keys."""
    connection, other = book.connect(), book.connect("c2")
    first = put(book, connection, task="T1")
    assert first == Job(
        number=first.number,
        id="c1 act k1",
        kind="act",
        connection=connection.number,
        connection_id="c1",
        key="k1",
        body={"task": "T1"},
        state="queued",
        result=None,
        reason="",
        tries=0,
        next_try_at=NOW,
        fence=0,
        created_at=NOW,
        finished_at=None,
    )
    assert put(book, connection, task="T2", now=NOW + 1) == first
    assert put(book, connection, kind="revoke").number > first.number
    assert put(book, other).number > first.number
    assert jobs.by_key(book.database, "act", connection.number, "k1") == first
    assert jobs.by_key(book.database, "act", connection.number, "k2") is None
    assert jobs.by_id(book.database, "nowhere") is None


def test_one_gets_it(book: Book) -> None:
    """A claimed job is nobody else's until its lease has run out; each claim counts as a try and has a fence of its own."""
    job = put(book, book.connect())
    (mine,) = claim(book)
    assert (mine.tries, mine.fence) == (1, job.fence + 1)
    assert claim(book, owner="you", now=NOW + LEASE - 1) == []
    (yours,) = claim(book, owner="you", now=NOW + LEASE)
    assert (yours.tries, yours.fence) == (2, mine.fence + 1)


def test_a_lease_from_a_clock_that_was_set_back_does_not_stand(book: Book) -> None:
    """A lease that ends later than any could keeps nobody out for hours."""
    put(book, book.connect())
    ahead = NOW + 3600 * SECOND
    assert len(claim(book, now=ahead)) == 1
    assert len(claim(book, owner="you")) == 1


@pytest.mark.rows("E10")
def test_a_clock_that_was_set_back_keeps_no_job_waiting(book: Book) -> None:
    """A job that was asked for or put off while the clock was ahead waits as long as it would have; one put off before, as it was."""
    ahead, wait = NOW + 3600 * SECOND, 60 * SECOND
    put(book, book.connect("c1"), now=NOW - SECOND)
    (before,) = claim(book, now=NOW - SECOND)
    with book.transaction() as database:
        jobs.put_off(database, before, ahead + wait, "the provider said when")
    put(book, book.connect("c2"), now=NOW)
    (off,) = claim(book, now=ahead)
    with book.transaction() as database:
        jobs.put_off(database, off, ahead + wait, "the provider is down")
    new = put(book, book.connect("c3"), now=ahead)
    with book.transaction() as database:
        assert jobs.set_back(database, NOW, ahead - NOW) == 2
    assert found(book, before).next_try_at == ahead + wait
    assert (found(book, off).next_try_at, found(book, off).created_at) == (NOW + wait, NOW)
    assert (found(book, new).next_try_at, found(book, new).created_at) == (NOW, NOW)
    with book.transaction() as database:
        assert jobs.set_back(database, NOW, ahead - NOW) == 0


@pytest.mark.rows("A21")
def test_jobs_of_a_connection_keep_their_order(book: Book) -> None:
    """The next one is claimed when the one before it has ended, not while it runs or waits for another try; others do not wait."""
    connection, other = book.connect(), book.connect("c2")
    first, second, elsewhere = put(book, connection, "k1"), put(book, connection, "k2"), put(book, other, "k1")
    assert [job.id for job in claim(book)] == [first.id, elsewhere.id]
    with book.transaction() as database:
        jobs.put_off(database, found(book, first), NOW + 5 * SECOND, "the provider is down")
    assert claim(book) == []
    (again,) = claim(book, now=NOW + 5 * SECOND)
    assert (again.id, again.tries, again.reason) == (first.id, 2, "the provider is down")
    end(book, connection, again, Ended(state="done"))
    assert [job.id for job in claim(book)] == [second.id]


def test_the_longest_due_first(book: Book) -> None:
    """As many as there are hands for, those that wait longest first."""
    made = [put(book, book.connect(f"c{number}"), now=NOW - number) for number in range(1, 6)]
    assert [job.number for job in claim(book, limit=2)] == [made[4].number, made[3].number]


def test_an_end_comes_with_its_events(book: Book) -> None:
    """The result, the reason and the event are there together; the job is never due again."""
    connection = book.connect()
    job = put(book, connection)
    (held,) = claim(book)
    end(book, connection, held, Ended(state="done", result={"subject": "T1"}, drafts=[occur("did it")]))
    ended = found(book, job)
    assert (ended.state, ended.result, ended.next_try_at, ended.finished_at) == ("done", {"subject": "T1"}, None, NOW)
    assert [event.subject for event in book.told()] == ["did it"]
    assert claim(book, now=NOW + 9 * LEASE) == []


@pytest.mark.rows("E2")
def test_who_lost_the_lease_ends_nothing(book: Book) -> None:
    """Neither the end nor the event nor a delay is written by one whose job was claimed by another or ended meanwhile."""
    connection = book.connect()
    put(book, connection)
    (old,) = claim(book)
    (new,) = claim(book, owner="you", now=NOW + LEASE)
    for late in (old, replace(new, fence=new.fence + 1)):
        with pytest.raises(LeaseLost):
            end(book, connection, late, Ended(state="done", drafts=[occur("did it")]))
        with pytest.raises(LeaseLost), book.transaction() as database:
            jobs.put_off(database, late, NOW, "")
    end(book, connection, new, Ended(state="failed", reason="no"))
    with pytest.raises(LeaseLost):
        end(book, connection, new, Ended(state="done"))
    assert (found(book, new).state, found(book, new).reason) == ("failed", "no")
    assert book.told() == []


def test_failing_all_that_is_left(book: Book) -> None:
    """All that a connection still has of a kind fails, also what somebody holds; what has ended and what others have stays."""
    connection, other = book.connect(), book.connect("c2")
    done, held, waiting = (put(book, connection, key) for key in ("k1", "k2", "k3"))
    revoking, theirs = put(book, connection, kind="revoke"), put(book, other)
    (first, _) = claim(book)
    end(book, connection, first, Ended(state="done"))
    (running,) = claim(book)
    assert running.id == held.id
    with book.transaction() as database:
        failed = jobs.fail(database, "act", connection.number, "disconnected", NOW + 1)
    assert [(job.id, job.state, job.reason, job.finished_at) for job in failed] == [
        (held.id, "failed", "disconnected", NOW + 1),
        (waiting.id, "failed", "disconnected", NOW + 1),
    ]
    with pytest.raises(LeaseLost):
        end(book, connection, running, Ended(state="done"))
    assert [found(book, job).state for job in (done, revoking, theirs)] == ["done", "queued", "queued"]


def test_a_stop_gives_back(book: Book) -> None:
    """What a process held when it stopped is due at once and was no try; what others hold stays theirs."""
    job, theirs = put(book, book.connect()), put(book, book.connect("c2"))
    claim(book, limit=1)
    claim(book, owner="you")
    with book.transaction() as database:
        assert jobs.release(database, "me", NOW + SECOND, (), {}) == 1
    assert (found(book, job).tries, found(book, job).next_try_at) == (0, NOW + SECOND)
    assert [each.id for each in claim(book, now=NOW + SECOND)] == [job.id]
    assert found(book, theirs).tries == 1


def test_what_is_left_is_given_back(book: Book) -> None:
    """Besides what is in work: what was tried stays counted, and is due when it is to be tried again."""
    working, tried, untried = (put(book, book.connect(f"c{number}")) for number in range(3))
    claim(book)
    with book.transaction() as database:
        assert jobs.release(database, "me", NOW + 1, [working.number], {tried.number: NOW + 5}) == 2
    assert [(found(book, job).tries, found(book, job).next_try_at) for job in (working, tried, untried)] == [
        (1, working.next_try_at),
        (1, NOW + 5),
        (0, NOW + 1),
    ]
    assert [job.id for job in claim(book, owner="you", now=NOW + 4)] == [untried.id]


def test_a_start_rescues(book: Book) -> None:
    """What the dead held is free, and its try stays counted."""
    put(book, book.connect())
    claim(book)
    with book.transaction() as database:
        assert jobs.rescue(database) == 1
        assert jobs.rescue(database) == 0
    (again,) = claim(book, owner="you")
    assert again.tries == 2


def test_the_newest_of_a_kind(book: Book) -> None:
    """Of several the last one that was asked for; of none, none."""
    connection = book.connect()
    assert jobs.latest(book.database, "revoke", connection.number) is None
    put(book, connection, "1", kind="revoke")
    second = put(book, connection, "2", kind="revoke")
    put(book, connection)
    assert jobs.latest(book.database, "revoke", connection.number) == second
    assert jobs.newest(book.database, "revoke", connection.number, 1) == [second]


def test_old_ones_are_forgotten(book: Book) -> None:
    """Only what has ended, only of that kind, and only what is old enough."""
    connection = book.connect()
    old, waiting, revoked = put(book, connection), put(book, connection, "k2"), put(book, connection, kind="revoke")
    end(book, connection, old, Ended(state="done"))
    end(book, connection, revoked, Ended(state="done"))
    with book.transaction() as database:
        assert jobs.forget(database, "act", NOW) == 0
        assert jobs.forget(database, "act", NOW + 1) == 1
    assert jobs.by_id(book.database, old.id) is None
    assert [found(book, job).state for job in (waiting, revoked)] == ["queued", "done"]


def test_jobs_go_with_their_connection(book: Book) -> None:
    """An erased connection leaves nothing behind that could still be done."""
    job = put(book, book.connect())
    book.database.rows("DELETE FROM connection")
    assert jobs.by_id(book.database, job.id) is None
    assert claim(book) == []
