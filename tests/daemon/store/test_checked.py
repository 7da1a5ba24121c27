"""Files whose pages carry checksums."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import apsw
import pytest
from apsw import sqlite_extra

from oo_daemon.store import backup, check, checked
from oo_daemon.store.errors import CannotOpen, Corrupt
from oo_daemon.store.storage import open_database

#: Where a file's header says how many bytes of each page are set aside.
SET_ASIDE = 20


@pytest.mark.rows("B13")
def test_a_new_file_has_them_and_others_can_read_it(tmp_path: Path) -> None:
    """The file says so by itself; a program without the shim reads what stands there."""
    path = tmp_path / "oo.sqlite3"
    open_database(path).close()
    assert path.read_bytes()[SET_ASIDE] == checked.RESERVED
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as other:
        assert other.execute("SELECT count(*) FROM stream").fetchall() == [(1,)]


@pytest.mark.rows("B13", "B16")
def test_a_restored_file_has_them_too(tmp_path: Path) -> None:
    """A snapshot has none, and gets them when it is restored; also those of pages that SQLite writes before the first one."""
    path, bare, copy = tmp_path / "oo.sqlite3", tmp_path / "a folder?#ü" / "bare", tmp_path / "a folder?#ü" / "copy"
    copy.parent.mkdir()
    database = open_database(path)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)"
    database.rows(f"CREATE TABLE filler AS {numbers} SELECT randomblob(4000) AS bytes FROM n")
    database.close()
    backup.snapshot(path, bare)
    with pytest.raises(Corrupt):
        backup.content(bare)
    holds = backup.content(bare, bare=True)
    backup.with_checksums(bare, copy)
    assert backup.content(copy) == holds
    backup.adopt(copy)
    whole = copy.read_bytes()
    assert whole[SET_ASIDE] == checked.RESERVED
    check.whole_check(copy)
    copy.write_bytes(whole[:5_000_000] + bytes([whole[5_000_000] ^ 1]) + whole[5_000_001:])
    with pytest.raises(Corrupt, match="restore a backup"):
        check.quick_check(copy)


def test_an_apsw_without_them_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do; nothing was made."""

    def missing(*_: Any) -> None:
        raise sqlite_extra.NotAvailable("cksumvfs is not included")

    monkeypatch.setattr(apsw, "vfs_names", lambda: ["unix"])
    monkeypatch.setattr(sqlite_extra, "load", missing)
    with pytest.raises(CannotOpen, match="pip install apsw"):
        open_database(tmp_path / "oo.sqlite3")
    assert not (tmp_path / "oo.sqlite3").exists()
