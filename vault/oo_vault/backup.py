"""A backup as a file: encrypted under a root key, so that whoever has the file and not the key has nothing.

Format: a line that names it, the id of the key, libsodium's secretstream header, then blocks, each after its length (4 bytes, big endian).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final

from oo_vault.box import IngressKey, Refused
from oo_vault.context import Context
from oo_vault.errors import KeyUnknown, Tampered
from oo_vault.keyring import Keyring

MAGIC: Final = b"oO backup 1\n"
PART: Final = 256 * 1024  #: bytes of plain text in a block
_ID = 8
_HEADER = 24
_LONGEST = PART + 64


def write_backup(key: IngressKey, parts: Iterable[bytes], to: BinaryIO) -> None:
    """Encrypt parts, each of at most `PART` bytes, into a file."""
    to.write(MAGIC + key.key_id.encode())
    blocks = key.seal_stream(_context(key.key_id), parts)
    to.write(next(blocks))
    for block in blocks:
        to.write(len(block).to_bytes(4, "big"))
        to.write(block)


def read_backup(keyring: Keyring, source: BinaryIO, *, told: Callable[[int], None] = lambda _: None) -> Iterator[bytes]:
    """Decrypt a file, part by part; `told` hears how many bytes of the file were read.

    Raises `Tampered` for what is no whole backup of ours, `KeyUnknown` where its key is not in the ring.
    """
    if source.read(len(MAGIC)) != MAGIC:
        raise Tampered("This file is no backup of oO.", "Name one that `oo backup` has made.")
    key_id = source.read(_ID).decode("ascii", "replace")
    key = keyring.key(key_id)
    if key is None:
        raise KeyUnknown(
            f"The backup was made with key {key_id}, which is not among the keys given ({', '.join(keyring.ids)}).",
            "Put the recovery key of that time into the key file.",
        )
    header = source.read(_HEADER)
    try:
        yield from key.open_stream(_context(key_id), header, _blocks(source, told))
    except Refused:
        raise Tampered("The backup is damaged, cut off or changed.", "Take another one.") from None


def _blocks(source: BinaryIO, told: Callable[[int], None]) -> Iterator[bytes]:
    while length := source.read(4):
        size = int.from_bytes(length, "big")
        block = source.read(size) if len(length) == 4 and size <= _LONGEST else b""
        if len(block) != size:
            raise Refused
        told(4 + size)
        yield block


def _context(key_id: str) -> bytes:
    return Context(purpose="backup").encode(key_id)
