"""Backups: how far the one is that is being made."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon.store.world import NOW, connect
from daemon.virtual import Notes, VirtualClock
from msgspec.structs import replace

from oo_daemon.ops import backup
from oo_daemon.ops.backup import Backups, Making
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.store import backup as files
from oo_daemon.store import credentials, vault_keys
from oo_daemon.store.errors import Corrupt
from oo_daemon.store.storage import open_database
from oo_vault import Context, Keyring, Sealed, Tampered, WrongKey


class Seen(Backups):
    """Remembers all that it said."""

    said: list[Making]

    def _say(self, making: Making) -> None:
        super()._say(making)
        self.said.append(making)


@pytest.fixture
def backups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Backups of a database of 8 MB, more than what SQLite holds back before it writes."""
    monkeypatch.setattr(files, "STEPS", 100)
    monkeypatch.setattr(backup, "PART", 64 * 1024)
    database = open_database(tmp_path / "oo.db")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)"
    database.rows(f"CREATE TABLE filler AS {numbers} SELECT randomblob(4000) AS bytes FROM n")
    database.close()
    made = Seen(
        database=tmp_path / "oo.db",
        folder=tmp_path / "backups",
        keep=3,
        keyring=Keyring([bytes(range(32))]),
        clock=VirtualClock(),
        metrics=MemoryMetrics(),
        log=Notes(),
    )
    made.said = []
    return made


@pytest.mark.rows("B16")
async def test_how_far_it_is(backups: Seen) -> None:
    """It is told in each of the steps, never runs backwards, ends with all of it, and is nothing afterwards."""
    await backups.make()
    done, total = [each.done for each in backups.said], {each.total for each in backups.said}
    assert total == {5 * backups.database.stat().st_size}
    assert done == sorted(done)
    size = backups.database.stat().st_size
    for step in range(5):
        assert len({each for each in done if step * size < each < (step + 1) * size}) >= 2, f"in step {step}"
    assert done[-1] > 0.9 * max(total)
    assert backups.making is None


async def test_one_that_fails_is_not_under_way(backups: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be made is not shown as being made."""

    def damaged(*_: object, **__: object) -> None:
        raise Corrupt("the file is damaged")

    monkeypatch.setattr(files, "content", damaged)
    with pytest.raises(Corrupt):
        await backups.make()
    assert backups.said
    assert backups.making is None


@pytest.mark.rows("B16")
async def test_what_the_keys_do_not_open_is_no_backup(backups: Seen) -> None:
    """Neither with another key's known answer nor with a credential that was sealed for another place: it is said, and nothing is kept."""
    database = open_database(backups.database)
    connection = connect(database, "c1")
    credentials.put(database, connection.number, 1, backups.keyring.seal(Context(purpose="elsewhere"), b"grant"), None)
    with pytest.raises(Tampered):
        await backups.make()
    credentials.delete(database, connection.number)
    await backups.make()
    other = Keyring([bytes(32)]).known_answer()
    vault_keys.add(database, Sealed(key_id=backups.keyring.newest.key_id, blob=other.blob), NOW)
    with pytest.raises(WrongKey):
        await backups.make()
    database.close()
    assert len(backups.listed()) == 1
    assert len([*backups.folder.iterdir()]) == 1, "nothing plain stays behind"


@pytest.mark.rows("B16")
async def test_what_does_not_hold_the_same_is_no_backup(backups: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the restored copy has other rows, or ends elsewhere, than what was copied, it is said, and nothing is kept."""
    real = files.content
    for change in ({"rows": 1}, {"position": 99}, {"epoch": 2}):

        def content(path: Path, told: files.Told, *, bare: bool, change: dict[str, int] = change) -> files.Content:
            found = real(path, told, bare=bare)
            return replace(found, **change) if path.name.startswith("again") else found

        monkeypatch.setattr(files, "content", content)
        with pytest.raises(Corrupt, match="does not hold what the database held"):
            await backups.make()
        assert backups.listed() == []
