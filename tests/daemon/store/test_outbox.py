"""Places in the log, as callers see them; and what reading costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from daemon.store.world import LEASE, NOW, Book

from oo_daemon.store import schedule
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.outbox import Filter, Position, page


@pytest.mark.parametrize("position", [Position(epoch=1, number=0), Position(epoch=12, number=10**18 - 1)])
def test_a_position_reads_as_it_is_written(position: Position) -> None:
    """Text and back."""
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text", ["", "-", "1", "1-", "-1", "1--1", "1-1-1", "1-x", "1- 1", "1-+1", "1-1\n", "\N{SUPERSCRIPT ONE}-1", "1-\u0661", f"1-{10**18}"]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    """Including numbers that no column could hold."""
    with pytest.raises(ValueError, match="looks like"):
        Position.parse(text)


def _plan(book: Book, query: Callable[[SqliteDatabase], object], begins: str = "") -> str:
    """How SQLite finds the rows of a query's last statement, or of the last that begins so."""
    seen: list[tuple[str, Sequence[Any]]] = []

    def note(_: object, sql: str, bindings: Any) -> bool:
        seen.append((sql, bindings))
        return True  # go on

    book.sqlite.handle().set_exec_trace(note)
    query(book.sqlite)
    book.sqlite.handle().set_exec_trace(None)
    sql, bindings = next(each for each in reversed(seen) if each[0].startswith(begins))
    return " | ".join(row[3] for row in book.database.rows(f"EXPLAIN QUERY PLAN {sql}", bindings))


@pytest.mark.parametrize(
    "wanted", [Filter(), Filter(user="u"), Filter(type="t"), Filter(provider="p"), Filter(user="u", type="t", provider="p")], ids=str
)
def test_a_page_is_read_along_the_log(book: Book, wanted: Filter) -> None:
    """However it is filtered, a page begins at its position and sorts nothing, or it would cost as much as the log is long."""
    plan = _plan(book, lambda database: page(database, 5, 10, wanted))
    assert "SEARCH outbox USING INTEGER PRIMARY KEY (rowid>?" in plan  # or up to where what is missing is counted
    assert "TEMP B-TREE" not in plan


def test_a_claim_finds_what_is_due_by_its_index(book: Book) -> None:
    """A tick costs what is due and what runs, not what there is; where nothing is due, one look."""
    idle = _plan(book, lambda database: schedule.claim(database, "me", 0, 60, 10))
    assert idle == "SEARCH s USING INDEX schedule_due (next_run_at<?) | SEARCH c USING INTEGER PRIMARY KEY (rowid=?)"
    book.connect()
    plan, plain = (
        _plan(book, lambda database, most=most: schedule.claim(database, "me", NOW, NOW + LEASE, 10, most), "SELECT s.next_run_at")  # type: ignore[misc]
        for most in (0, 9)
    )
    for each in (plain, plan):
        assert "SEARCH s USING INDEX schedule_due (next_run_at<?)" in each
    assert "SCAN" not in plain
    assert "SCAN r USING" in plan
    assert {step for step in plan.split(" | ") if step.startswith("SCAN")} <= {
        "SCAN r USING INDEX run_live",
        "SCAN turns",
        "SCAN d",
        "SCAN live",
        "SCAN (subquery-7)",
    }
