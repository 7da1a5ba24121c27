"""One daemon for one database file: a lock that ends with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oo_daemon.store.errors import AlreadyRunning, CannotOpen


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Hold the lock beside the database file. Raises `AlreadyRunning`."""
    path = database.with_name(database.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as wrong:
        raise CannotOpen(
            f"{path.parent} cannot be written to ({wrong.strerror}): make it ours, or set places.state to another folder."
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"Another daemon already runs on {database}: stop it first, or set places.state to another folder."
            ) from None
        except OSError as wrong:
            raise CannotOpen(f"{path} cannot be locked ({wrong.strerror}): set places.state to a folder on a local disk.") from None
        yield
    finally:
        os.close(descriptor)
