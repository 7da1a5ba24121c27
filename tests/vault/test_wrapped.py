"""Root keys that are kept wrapped, by something that stands in for a KMS."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from oo_vault import KeyFileExists, KeyFileRefused, Keyring, create_wrapped_key, parse_key, read_wrapped_keys


class Mirror:
    """Wraps without a key, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, str]] = []
        self.word = ""

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> str:
        self.told.append(context)
        return self.word or base64.b64encode(json.dumps([key.hex(), dict(context)]).encode()).decode()

    async def unwrap(self, wrapped: str, context: Mapping[str, str]) -> bytes:
        key, bound = json.loads(base64.b64decode(wrapped))
        assert bound == context
        return bytes.fromhex(key)


@pytest.mark.rows("C5")
async def test_wrapped_and_read(tmp_path: Path) -> None:
    """Keys are read newest first; the context names the purpose and the key's id and nothing else."""
    path, mirror = tmp_path / "k" / "root.key", Mirror()
    first = await create_wrapped_key(path, mirror)
    second = await create_wrapped_key(path, mirror, add=True)
    ids = [Keyring([parse_key(text)]).newest.key_id for text in (second, first)]
    assert list((await read_wrapped_keys(path, mirror)).ids) == ids
    assert mirror.told == [{"purpose": "oo root key", "key_id": id_} for id_ in reversed(ids)]
    with pytest.raises(KeyFileExists):
        await create_wrapped_key(path, mirror)


@pytest.mark.rows("C5")
async def test_what_cannot_be_right_is_refused(tmp_path: Path) -> None:
    """A word that no line can hold is not kept; a line that unwraps to another key, or is neither kind, is refused with its number."""
    path, mirror = tmp_path / "root.key", Mirror()
    mirror.word = "two words"
    with pytest.raises(KeyFileRefused, match="no word"):
        await create_wrapped_key(path, mirror)
    assert not path.exists()
    mirror.word = ""
    id_ = "0b2d4f66"
    wrapped = await mirror.wrap(bytes(32), {"purpose": "oo root key", "key_id": id_})
    for line in (f"{id_} {wrapped}", "0B2D4F66 x", f"{id_} "):
        path.write_text(f"\n{line}\n")
        path.chmod(0o600)
        with pytest.raises(KeyFileRefused, match="Line 2"):
            await read_wrapped_keys(path, mirror)
