"""The audit log: what administrators did, and whether anybody changed, cut or shortened it since.

An entry can be changed by whoever writes the database, but not its link: that takes the root key. That the end was cut off shows against
the head, the last link, which is kept in a file beside the database and written to the daemon's log.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from oo_daemon.ports import Chance, Clock
from oo_daemon.store import audit
from oo_daemon.store.audit import Act, Entry
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import Storage
from oo_sdk import Log
from oo_vault import Keyring

#: Entries that are read at once.
SOME = 500


class Head(Protocol):
    """Where the last link is kept, outside of the database."""

    def read(self) -> tuple[int, str] | None:
        """Number and link of the last entry; None: there was none yet."""

    def write(self, number: int, link: str) -> None:
        """Replace it, through to the disk. Raises `OSError`."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a look over the whole chain found."""

    entries: int
    whole: bool
    says: str  #: what is wrong, and where; empty where nothing is
    head: str  #: the last link, to be kept elsewhere


@dataclass(slots=True, kw_only=True, eq=False)
class Audit:
    """Adds entries and looks over them. Belongs to the main loop."""

    storage: Storage
    keyring: Keyring
    head: Head
    clock: Clock
    chance: Chance
    log: Log
    shared: bool = False  #: other daemons add entries, too: what comes after our own last one need not be known to us
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def note(self, who: str, act: str, about: str, status: int) -> None:
        """Add what was done. `about` is "user NAME" or "connection ID", or nothing; a user who did it is known by a random id, too.

        What cannot be written is said in the daemon's log: it has been done already.
        """
        new, other = self.chance.token_bytes(8).hex(), self.chance.token_bytes(8).hex()

        def add(database: Database) -> Entry:
            subject = audit.subject(database, about, new) if about else ""
            did = f"user {audit.subject(database, who, other)}" if who.startswith("user ") else who
            return audit.add(database, Act(at=self.clock.now(), who=did, act=act, subject=subject, status=status), self._vouch)

        try:
            async with self._turn:
                entry = await self.storage.write(add)
                await asyncio.get_running_loop().run_in_executor(None, self.head.write, entry.number, entry.link.hex())
        except (CannotStore, OSError) as fault:
            self.log.warning("audit_not_written", act=act, status=status, reason=type(fault).__name__)
            return
        self.log.info("audit", number=entry.number, act=act, status=status, link=_spaced(entry.link))

    def _vouch(self, chain: bytes) -> tuple[str, bytes]:
        key = self.keyring.newest
        return key.key_id, key.link(chain)

    async def listed(self, limit: int) -> list[Entry]:
        """The latest entries, newest first."""
        return await self.storage.read(audit.listed, limit)

    async def verify(self, head: str = "") -> Verdict:
        """Look over the whole chain; `head` is a last link that somebody kept, in place of the one that we keep."""
        async with self._turn:
            kept = self.head.read()
            chain, link, number, count, wrong = b"", b"", 0, 0, ""
            unvouched = 0  #: the first of those since the last that a known key vouches for
            seen = kept_seen = False
            while some := await self.storage.read(audit.after, number, SOME):
                for entry in some:
                    chain, link, number, count = entry.done.after(chain), entry.link, entry.number, count + 1
                    key = self.keyring.key(entry.key_id)
                    if key is None:
                        unvouched = unvouched or number
                    elif key.link(chain) == link:
                        unvouched = 0
                    else:
                        wrong = wrong or f"entry {number}, or one before it, was changed, left out or put in"
                    seen = seen or (head != "" and link.hex() == head)
                    kept_seen = kept_seen or kept == (number, link.hex())
            if unvouched:
                wrong = wrong or f"nothing vouches for the entries from {unvouched} on: their key is not among the keys given"
            if head and not seen:
                wrong = wrong or "the head that was given is in no entry: the end was cut off, or it is another database's"
            if not head and kept is not None and not (kept_seen and (self.shared or kept[0] == number)):
                wrong = (
                    wrong or f"the last entry should be {kept[0]} and is {number}: the end was cut off, or an older database was restored"
                )
            return Verdict(entries=count, whole=not wrong, says=wrong, head=link.hex())


def _spaced(link: bytes) -> str:
    """In groups, since the log blots out what looks like a key."""
    text = link.hex()
    return " ".join(text[place : place + 8] for place in range(0, len(text), 8))
