"""Root keys that are kept wrapped: what wraps them, a KMS, has a key that never leaves it.

A line of the key file is then a key's id and the wrapped key. Lines with plain keys may stand beside them, so that a host can go from one
to the other by a rotation.
"""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from oo_vault.box import ROOT_SIZE
from oo_vault.errors import KeyFileRefused
from oo_vault.keyring import Keyring
from oo_vault.recovery import key_text
from oo_vault.sources import add_line, create_lines, parse_line, read_lines

_LINE = re.compile(r"(?P<id>[0-9a-f]{8}) (?P<wrapped>[!-~]+)")


class Wraps(Protocol):
    """Wraps root keys and unwraps them. Raises a `VaultError` where it cannot."""

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> str:
        """Give the key wrapped, as one word of visible ASCII."""

    async def unwrap(self, wrapped: str, context: Mapping[str, str]) -> bytes:
        """Give the key; only in the context in which it was wrapped."""


def key_context(key_id: str) -> Mapping[str, str]:
    """Give what a wrapped root key is bound to: its purpose and its id, and nothing about a user."""
    return {"purpose": "oo root key", "key_id": key_id}


async def create_wrapped_key(path: Path, wraps: Wraps, *, add: bool = False, random: Callable[[int], bytes] = os.urandom) -> str:
    """Make a root key, keep it wrapped in a new file, or above the lines of one that is there, and give its recovery text."""
    root = random(ROOT_SIZE)
    key_id = Keyring([root]).newest.key_id
    line = f"{key_id} {await wraps.wrap(root, key_context(key_id))}"
    if not _LINE.fullmatch(line):
        raise KeyFileRefused("What wraps the keys gave no word of visible ASCII, which a line could hold.", "Tell its author.")
    await asyncio.to_thread(add_line if add else create_lines, path, line)
    return key_text(root)


async def read_wrapped_keys(path: Path, wraps: Wraps) -> Keyring:
    """Read the keyring from a key file with wrapped keys. What was wrapped for another id is refused."""
    roots = []
    for number, line in await asyncio.to_thread(read_lines, path):
        where = f"Line {number} of {path}"
        if (found := _LINE.fullmatch(line)) is None:
            roots.append(parse_line(line, where))
            continue
        root = await wraps.unwrap(found["wrapped"], key_context(found["id"]))
        if len(root) != ROOT_SIZE or Keyring([root]).newest.key_id != found["id"]:
            raise KeyFileRefused(f"{where} does not unwrap to the key {found['id']}.", "Restore the line as `oo vault init` wrote it.")
        roots.append(root)
    return Keyring(roots)
