"""Opening a file so that each of its pages carries a checksum: whatever flips on the disk is an error when it is read, and never an answer.

SQLite's own shim does it, `cksumvfs`, which apsw's wheels contain: eight bytes at the end of each page, made when a page is written into
the log or the file, looked at when it is read. A file says by itself that its pages have them, since the bytes are set aside in its header;
programs without the shim can read such a file, and must not write it.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Final

import apsw
from apsw import sqlite_extra

from oo_daemon.store.errors import CannotOpen

#: The shim's name among SQLite's file systems.
CHECKED: Final = "cksmvfs"
#: SQLite's own, which knows of none.
BARE: Final = "unix"
#: Bytes of a page that are set aside for it.
RESERVED: Final = 8

_once = threading.Lock()


def connect(path: str, *, vfs: str | None = None, **more: Any) -> apsw.Connection:
    """Open a file; a new one gets checksums. `vfs` is another file system in place of the checked one, for tests. Raises `CannotOpen`."""
    if vfs is not None:
        return apsw.Connection(path, vfs=vfs, **more)
    _load()
    connection = apsw.Connection(path, vfs=CHECKED, **more)
    wanted = ctypes.c_int(RESERVED)
    connection.file_control("main", apsw.SQLITE_FCNTL_RESERVE_BYTES, ctypes.addressof(wanted))  # of a file with pages: when it is packed
    return connection


def is_flipped(error: apsw.IOError) -> bool:
    """Whether it was raised because a page is not what its checksum says."""
    return getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA


def _load() -> None:
    with _once:  # loaded a second time it would call itself for ever
        if CHECKED in apsw.vfs_names():
            return
        try:
            for_the_process = apsw.Connection(":memory:")
            sqlite_extra.load(for_the_process, "cksumvfs")
            for_the_process.close()
        except (sqlite_extra.NotAvailable, LookupError, apsw.Error) as error:
            raise CannotOpen(f"this apsw has no checksums of pages ({error}): install it from its wheel, `pip install apsw`.") from None
