"""What administrators did: entries that are only ever added, each chained to all that came before it and vouched for by a root key.

The chain needs no key and so outlives those that are dropped: whichever later entry is vouched for vouches for all before it.

Whom an entry is about is said by a random id; what that stands for lies in a table of its own, and an erasure deletes it there.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import msgspec

from oo_daemon.store.database import Database, Row

#: Vouches for a chain; gives the id of the key that did, and the link.
Vouch = Callable[[bytes], tuple[str, bytes]]


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done, or asked for and refused."""

    at: int
    who: str  #: "uid 1000", "token prometheus"
    act: str  #: method and route
    subject: str  #: a random id; empty where it is about nobody
    status: int  #: what was answered

    def after(self, chain: bytes) -> bytes:
        """The chain with this act at its end: a digest over the chain before it and each field, after its length."""
        hasher = blake2b(chain, digest_size=32)
        for field in (str(self.at), self.who, self.act, self.subject, str(self.status)):
            data = field.encode("utf-8", "surrogatepass")
            hasher.update(len(data).to_bytes(4) + data)
        return hasher.digest()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An act in its place."""

    number: int
    done: Act
    key_id: str
    link: bytes
    stands_for: str = ""  #: whom the subject stands for, unless that was erased


_COLUMNS = "a.number, a.\"at\", a.who, a.act, a.subject, a.status, a.key_id, a.link, COALESCE(s.name, '')"
_FROM = "audit a LEFT JOIN audit_subject s ON s.id = a.subject"


def _value(row: Row) -> Entry:
    number, at, who, act, subject, status, key_id, link, name = row
    done = Act(at=at, who=who, act=act, subject=subject, status=status)
    return Entry(number=number, done=done, key_id=key_id, link=bytes(link), stands_for=name)


def subject(database: Database, name: str, new: str) -> str:
    """The random id that stands for a name; `new` becomes it where there is none yet."""
    # In one statement: what another daemon forgets between two would be there for neither.
    sql = "INSERT INTO audit_subject (name, id) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id"
    ((id_,),) = database.rows(sql, (name, new))
    return str(id_)


def forget(database: Database, name: str) -> None:
    """Whom a random id stood for is known no more; the entries stay, and so do their links."""
    database.rows("DELETE FROM audit_subject WHERE name = ?", (name,))


def add(database: Database, done: Act, vouch: Vouch) -> Entry:
    """Add an entry at the end."""
    database.alone("audit")
    last = database.rows("SELECT chain FROM audit ORDER BY number DESC LIMIT 1")
    chain = done.after(bytes(last[0][0]) if last else b"")
    key_id, link = vouch(chain)
    ((number,),) = database.rows(
        'INSERT INTO audit ("at", who, act, subject, status, chain, key_id, link) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING number',
        (done.at, done.who, done.act, done.subject, done.status, chain, key_id, link),
    )
    return Entry(number=number, done=done, key_id=key_id, link=link)


def listed(database: Database, limit: int) -> list[Entry]:
    """The latest entries, newest first."""
    return [_value(row) for row in database.rows(f"SELECT {_COLUMNS} FROM {_FROM} ORDER BY a.number DESC LIMIT ?", (limit,))]


def after(database: Database, number: int, limit: int) -> list[Entry]:
    """Entries after one, oldest first."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM {_FROM} WHERE a.number > ? ORDER BY a.number LIMIT ?", (number, limit))
    return [_value(row) for row in rows]
