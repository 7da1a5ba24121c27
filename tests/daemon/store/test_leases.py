"""One run of a connection at a time, whatever happens in whatever order (E4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from daemon.store.world import LEASE, NOW, SECOND, Book, connect
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from oo_daemon.store import schedule
from oo_daemon.store.errors import LeaseLost
from oo_daemon.store.runs import Tally
from oo_daemon.store.schedule import CursorMoved, Place, Run, RunEnded

OWNERS = st.sampled_from(["a", "b"])
CONNECTIONS = st.integers(0, 2)


@dataclass(slots=True)
class Line:
    """What the schedule is to know of one connection."""

    due: int | None = NOW
    fence: int = 0
    holder: tuple[str, int] | None = None  #: whose lease it is, and until when


class Leases(RuleBasedStateMachine):
    """Claims, ends, deaths, stops and new beginnings in any order: who holds a connection is who a small model says."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self.book, self.now = book, NOW
        self.book.begin()  # never committed: each walk begins with an empty database
        self.numbers = [connect(book.database, name, user=user).number for name, user in (("c1", "ada"), ("c2", "ada"), ("c3", "bob"))]
        self.lines = {number: Line() for number in self.numbers}
        self.runs: list[Run] = []

    def teardown(self) -> None:
        self.book.database.rows("ROLLBACK")

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule(owner=OWNERS, limit=st.integers(1, 3))
    def claim(self, owner: str, limit: int) -> None:
        free = {
            number
            for number, line in self.lines.items()
            if line.due is not None and line.due <= self.now and (line.holder is None or line.holder[1] <= self.now)
        }
        claimed = schedule.claim(self.book.database, owner, self.now, self.now + LEASE, limit)
        assert len(claimed) == min(limit, len(free))
        assert {run.connection for run in claimed} <= free
        for run in claimed:
            line = self.lines[run.connection]
            line.fence, line.holder = line.fence + 1, (owner, self.now + LEASE)
            assert run.fence == line.fence
        self.runs += claimed

    def _holds(self, run: Run) -> bool:
        line = self.lines[run.connection]
        return line.holder is not None and line.fence == run.fence

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.runs), min_size=1, max_size=3, unique_by=lambda run: run.place))
        held = {run.place for run in chosen if self._holds(run)}
        assert schedule.heartbeat(self.book.database, chosen, self.now + LEASE) == held
        for run in chosen:
            if run.place in held and (holder := self.lines[run.connection].holder):
                self.lines[run.connection].holder = (holder[0], self.now + LEASE)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def checkpoint(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        self._fenced(run, CursorMoved(run=run, cursor={"at": self.now}))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), later=st.integers(0, 120))
    def end(self, data: st.DataObject, later: int) -> None:
        run, line = (chosen := data.draw(st.sampled_from(self.runs))), self.lines[chosen.connection]
        plan = self.now + later * SECOND
        if self._fenced(run, RunEnded(run=run, now=self.now, next_run_at=plan, outcome="done", detail="", tally=Tally(), keep_tries=False)):
            line.holder = None
            line.due = self._planned(run.connection)

    def _fenced(self, run: Run, mark: CursorMoved | RunEnded) -> bool:
        """Have a run write something; says whether it was let, as the model would have it."""
        if self._holds(run):
            mark.apply(self.book.database)
            return True
        with pytest.raises(LeaseLost):
            mark.apply(self.book.database)
        return False

    @rule(which=CONNECTIONS)
    def ask_for_it(self, which: int) -> None:
        schedule.due_now(self.book.database, self.numbers[which], self.now)
        self.lines[self.numbers[which]].due = self._planned(self.numbers[which])

    @rule(which=CONNECTIONS)
    def stop(self, which: int) -> None:
        schedule.stop(self.book.database, self.numbers[which], self.now)
        self._lost(self.numbers[which])
        self.lines[self.numbers[which]].due = None

    @rule(which=CONNECTIONS)
    def put_back(self, which: int) -> None:
        schedule.create(self.book.database, self.numbers[which], self.now)
        self.lines[self.numbers[which]].due = self._planned(self.numbers[which])

    @rule(which=CONNECTIONS)
    def begin_anew(self, which: int) -> None:
        schedule.begin_anew(self.book.database, self.numbers[which], self.now)
        self._lost(self.numbers[which])

    def _lost(self, number: int) -> None:
        line = self.lines[number]
        line.fence, line.holder = line.fence + 1, None

    @rule(owner=OWNERS)
    def one_process_stops(self, owner: str) -> None:
        held = [number for number, line in self.lines.items() if line.holder and line.holder[0] == owner]
        assert schedule.release(self.book.database, owner, self.now, (), {}) == len(held)
        self._freed(held)

    @rule()
    def all_are_dead(self) -> None:
        held = [number for number, line in self.lines.items() if line.holder]
        assert schedule.rescue(self.book.database, self.now) == len(held)
        self._freed(held)

    def _freed(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.lines[number].holder = None
            self.lines[number].due = self._planned(number)

    def _planned(self, number: int) -> int | None:
        """When it is due is others' to test."""
        planned = schedule.of(self.book.database, number, self.now)
        assert planned is not None
        return planned.next_run_at

    @invariant()
    def the_log_has_those_who_hold_and_no_others(self) -> None:
        rows = self.book.database.rows("SELECT connection, fence FROM run WHERE finished_at IS NULL ORDER BY connection, fence")
        live: list[Place] = [(number, line.fence) for number, line in sorted(self.lines.items()) if line.holder is not None]
        assert [tuple(row) for row in rows] == live


@pytest.mark.rows("E4")
def test_one_run_at_a_time(book: Book) -> None:
    """On random walks only who holds the lease writes, who is free is claimed, and the log never has two that live."""
    walks = settings(max_examples=25, stateful_step_count=30, deadline=None, database=None)
    run_state_machine_as_test(lambda: Leases(book), settings=walks)  # type: ignore[arg-type]  # a factory will do
