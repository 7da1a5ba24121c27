"""What must hold before anything is promised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from daemon.store.world import NOW, signed_in

from oo_daemon.store import connections, database, inbox, levels, subscriptions
from oo_daemon.store.database import SqliteDatabase, refuse_affected, refuse_network
from oo_daemon.store.errors import CannotOpen, CannotStore, Corrupt
from oo_daemon.store.storage import open_database, sqlite_version

MOUNTS = r"""
/dev/vda1 / ext4 rw 0 0
proc /proc proc rw 0 0
server:/export /srv/nfs nfs4 rw 0 0
/dev/vdb1 /srv/nfs/local xfs rw 0 0
//server/share /srv/my\040share cifs rw 0 0
me@host: /home/me/far fuse.sshfs rw 0 0
host /srv/back\134slash 9p rw 0 0
overlay /var/lib/box overlay rw 0 0
tmpfs /srv/over tmpfs rw 0 0
server:/over /srv/over nfs rw 0 0
""".lstrip()


@pytest.mark.parametrize("version", ["3.51.3", "3.51.10", "3.54.1", "4.0.0", "3.50.7", "3.50.8", "3.44.6", "3.44.10"])
def test_a_repaired_sqlite_is_taken(version: str) -> None:
    """From 3.51.3 on, and in the repaired older lines."""
    refuse_affected(version)


@pytest.mark.rows("B1")
@pytest.mark.parametrize("version", ["3.51.2", "3.51.0", "3.50.6", "3.45.9", "3.46.1", "3.44.5", "3.40.1", "3.7.0", "3.6.23"])
def test_a_sqlite_that_can_lose_its_log_is_refused(version: str) -> None:
    """Versions with the WAL-reset bug, and those too old for a write-ahead log, are named together with the remedy."""
    with pytest.raises(CannotOpen, match=rf"{version}.*install apsw"):
        refuse_affected(version)


def test_the_sqlite_here_is_taken() -> None:
    """The installed one is good, and it is apsw's."""
    refuse_affected(sqlite_version())
    assert sqlite_version() == apsw.sqlite_lib_version()


@pytest.mark.rows("B1")
def test_the_start_is_refused_with_an_affected_sqlite(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is opened by a SQLite that could damage it."""
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(CannotOpen, match=r"3\.51\.2"):
        open_database(path)


@pytest.mark.rows("B2")
@pytest.mark.parametrize(
    "folder", ["/srv/nfs", "/srv/nfs/oo", "/srv/my share/oo", "/home/me/far", r"/srv/back\slash/oo", "/srv/over", "/srv/over/deep/er"]
)
def test_a_network_file_system_is_refused(folder: str) -> None:
    """Locks do not hold there; what is mounted last, or deepest, counts."""
    with pytest.raises(CannotOpen, match="choose a local folder"):
        refuse_network(Path(folder), MOUNTS)


@pytest.mark.parametrize("folder", ["/", "/srv", "/srv/nfs2", "/srv/nfs/local", "/srv/nfs/local/oo", "/var/lib/box/oo", "/home/me/farther"])
def test_a_local_file_system_is_taken(folder: str) -> None:
    """Also beside and below a network one."""
    refuse_network(Path(folder), MOUNTS)


def test_the_start_is_refused_where_a_link_leads_to_a_network_file_system(tmp_path: Path) -> None:
    """It is the file itself that counts, not the link to it."""
    (tmp_path / "far").mkdir()
    (tmp_path / "oo.db").symlink_to(tmp_path / "far" / "oo.db")
    mounts = f"/dev/vda1 / ext4 rw 0 0\nserver:/x {tmp_path}/far nfs rw 0 0\n"
    with pytest.raises(CannotOpen, match="network"):
        open_database(tmp_path / "oo.db", mounts=mounts)
    assert list((tmp_path / "far").iterdir()) == []


def test_a_setting_that_sqlite_does_not_take_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile is read back: a database that cannot have a write-ahead log, or has other settings, is not used."""
    with pytest.raises(CannotOpen, match="journal_mode"):
        SqliteDatabase(Path(":memory:")).connect()
    monkeypatch.setitem(database.PROFILE, "synchronous", 9)
    with pytest.raises(CannotOpen, match="synchronous = 9"):
        open_database(path)


def test_a_new_database_is_made_with_its_folder(tmp_path: Path) -> None:
    """A first start makes the folder, for its owner alone."""
    path = tmp_path / "new" / "folder" / "oo.db"
    opened = open_database(path)
    assert connections.put(opened, signed_in(), NOW).number == 1
    opened.close()
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 100, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_damaged(tmp_path: Path, content: bytes) -> None:
    """What is there is not written over; the message names the file and the remedy."""
    path = tmp_path / "oo.db"
    path.write_bytes(content)
    with pytest.raises(Corrupt, match=r"oo\.db.*restore a backup"):
        open_database(path)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A file where the folder should be, a folder where the file should be."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "oo.db").mkdir()
    for path in (tmp_path / "file" / "oo.db", tmp_path / "oo.db"):
        with pytest.raises(CannotOpen, match="cannot be opened"):
            open_database(path)


def test_damage_is_a_way_of_not_storing() -> None:
    """Who handles `CannotStore` handles `Corrupt`."""
    assert issubclass(Corrupt, CannotStore)


def test_a_statement_is_planned_once(path: Path) -> None:
    """Whatever values it is given: planning a claim anew each time costs more than the claim."""
    opened = open_database(path)
    planned: list[str | None] = []

    def note(action: int, first: str | None, *more: str | None) -> int:
        planned.append(first)  # SQLite asks while it plans
        return apsw.SQLITE_OK

    opened.handle().authorizer = note
    inbox.claim(opened, "me", 0, 60, 9)
    assert "delivery" in planned
    planned.clear()
    for now in range(1, 5):
        inbox.claim(opened, "me", now, now + 60, now)
    opened.close()
    assert planned == []


@pytest.mark.parametrize(
    "look", [levels.looked_at, lambda opened: subscriptions.due(opened, ["acme"], NOW, 9)], ids=["levels", "subscriptions"]
)
def test_looking_over_all_connections_again_and_again_is_cheap(path: Path, look: Callable[[SqliteDatabase], object]) -> None:
    """By the index alone, in its order: to sort a hundred thousand, or to read each, takes a tenth of a second."""
    opened = open_database(path)
    connections.put(opened, signed_in(), NOW)
    asked: list[tuple[str, Any]] = []

    def note(cursor: apsw.Cursor, sql: str, values: Any) -> bool:
        asked.append((sql, values))
        return True

    opened.handle().exec_trace = note
    look(opened)
    opened.handle().exec_trace = None
    plans = [row[3] for sql, values in asked for row in opened.handle().execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    opened.close()
    plans = [step for step in plans if " c USING" in step or "connection USING" in step or "GROUP BY" in step]
    assert plans
    assert [step for step in plans if "COVERING INDEX connection_by_provider" not in step] == []
