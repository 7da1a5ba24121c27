"""Rotates the keys of a database until it is killed or done: `rotate_and_die.py DATABASE KEY OLDER`, keys in hex."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from daemon.virtual import Notes

from oo_daemon.connections.keys import Keys
from oo_daemon.host import Background, HostClock
from oo_daemon.outbox import wire
from oo_daemon.store.storage import ThreadedStorage, open_database
from oo_vault import Keyring


async def main(path: Path, *roots: str) -> None:
    """Rotate."""
    storage = ThreadedStorage(open_database(path), wire.encode)

    async def load() -> Keyring:
        return Keyring([bytes.fromhex(root) for root in roots])

    async def settle() -> None:
        return

    background = Background()
    keys = Keys(
        storage=storage, keyring=await load(), source="", load=load, settle=settle, clock=HostClock(), log=Notes(), beside=background.each
    )
    print("rotating", flush=True)
    await keys.begin()
    await keys.ended(3600)
    background.close()
    await storage.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
