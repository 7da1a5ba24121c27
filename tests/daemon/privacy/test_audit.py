"""The audit log: any change, any cut and a cut tail are found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from daemon.ingress.wire import Notebook
from daemon.virtual import SeededChance, VirtualClock

from oo_daemon.ops.files import HeadFile
from oo_daemon.outbox import wire
from oo_daemon.privacy.audit import Audit
from oo_daemon.store import audit
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.storage import InlineStorage, open_database
from oo_vault import Keyring

OLD, NEW = bytes(range(32)), bytes(range(1, 33))


@dataclass
class World:
    """A log with seven entries, over two keys."""

    database: SqliteDatabase
    notes: Audit
    notebook: Notebook
    head: HeadFile


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = open_database(tmp_path / "oo.sqlite3")
    notebook, head, keyring = Notebook(), HeadFile(tmp_path / "audit.head"), Keyring([OLD])
    notes = Audit(
        storage=InlineStorage(database, wire.encode), keyring=keyring, head=head, clock=VirtualClock(), chance=SeededChance(), log=notebook
    )
    for number in range(7):
        if number == 4:
            keyring.take(Keyring([NEW, OLD]))
        await notes.note("uid 0", "DELETE /v1/users/{user}", f"user person{number % 3}", 202)
    yield World(database, notes, notebook, head)
    database.close()


@pytest.mark.rows("F12")
async def test_a_user_who_did_something_is_no_name(world: World) -> None:
    """What a user did is told of a random id, the same each time and the same as where it was done to them."""
    await world.notes.note("user person1", "POST /v1/connections/{id}/sync", "", 200)
    await world.notes.note("user person1", "DELETE /v1/users/{user}", "user person1", 202)
    second, first = await world.notes.listed(2)
    assert first.done.who == second.done.who == f"user {second.done.subject}"
    assert "person1" not in first.done.who
    assert (await world.notes.verify()).whole


@pytest.mark.rows("F12")
async def test_an_untouched_log_is_whole(world: World) -> None:
    """Also across a new key; and each head ever told is found."""
    verdict = await world.notes.verify()
    assert (verdict.entries, verdict.whole, verdict.says) == (7, True, "")
    assert world.head.read() == (7, verdict.head)
    for entry in await world.notes.listed(10):
        assert (await world.notes.verify(entry.link.hex())).whole
    assert not (await world.notes.verify("00" * 32)).whole


@pytest.mark.rows("F12")
@pytest.mark.parametrize("column", ["at", "who", "act", "subject", "status", "link"])
@pytest.mark.parametrize("number", [1, 4, 7])
async def test_a_changed_entry_is_found(world: World, column: str, number: int) -> None:
    """Whichever field of whichever entry."""
    changed: object = {"at": 5, "status": 200, "link": b"x" * 32}.get(column, "another")
    world.database.rows(f'UPDATE audit SET "{column}" = ? WHERE number = ?', (changed, number))
    verdict = await world.notes.verify()
    assert not verdict.whole
    assert "changed" in verdict.says or "cut off" in verdict.says


@pytest.mark.rows("F12", "C3")
async def test_a_key_that_was_dropped(world: World) -> None:
    """What it vouched for is vouched for by what came after it; and a change there is still found."""
    world.notes.keyring.drop(Keyring([OLD]).newest.key_id)
    assert (await world.notes.verify()).whole
    world.database.rows("UPDATE audit SET who = 'another' WHERE number = 2")
    assert not (await world.notes.verify()).whole
    world.database.rows("UPDATE audit SET who = 'uid 0' WHERE number = 2")
    world.database.rows("UPDATE audit SET key_id = 'ffffffff', who = 'another' WHERE number >= 6")
    assert "nothing vouches" in (await world.notes.verify()).says


@pytest.mark.rows("F12")
@pytest.mark.parametrize("change", ["DELETE FROM audit WHERE number = 3", "DELETE FROM audit WHERE number >= 6", "DELETE FROM audit"])
async def test_a_cut_is_found(world: World, change: str) -> None:
    """In the middle, at the end, and all of it."""
    world.database.rows(change)
    assert not (await world.notes.verify()).whole


@pytest.mark.rows("F12")
async def test_swapped_and_forged_entries_are_found(world: World) -> None:
    """Who can write the table cannot make a link."""
    world.database.rows("UPDATE audit SET number = 100 WHERE number = 2")
    assert not (await world.notes.verify()).whole
    world.database.rows("UPDATE audit SET number = 2 WHERE number = 100")
    assert (await world.notes.verify()).whole
    world.database.rows(
        'INSERT INTO audit ("at", who, act, subject, status, chain, key_id, link) '
        'SELECT "at", who, act, subject, status, chain, key_id, link FROM audit '
        "WHERE number = 7"
    )
    assert not (await world.notes.verify()).whole


@pytest.mark.rows("F12")
async def test_an_erasure_keeps_the_chain(world: World) -> None:
    """Whom an entry was about is forgotten, that there was one is not."""
    assert {entry.stands_for for entry in await world.notes.listed(10)} == {"user person0", "user person1", "user person2"}
    audit.forget(world.database, "user person1")
    assert (await world.notes.verify()).whole
    entries = await world.notes.listed(10)
    assert {entry.stands_for for entry in entries} == {"user person0", "", "user person2"}
    assert all(entry.done.subject and "person" not in entry.done.subject for entry in entries)
    assert "person" not in str(world.notebook.lines)
    assert len([line for line in world.notebook.lines if line[1] == "audit"]) == 7
