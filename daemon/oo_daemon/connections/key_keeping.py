"""Where the daemon's root keys are kept: in a file, in the environment where that was asked for, or wrapped by a plugin's key source."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from oo_daemon.ports import Guests
from oo_sdk import ConnectorError, KeySource
from oo_vault import Keyring, KeysUnreachable, Wraps, parse_key_lines, read_bundle_file, read_key_file, read_wrapped_keys

T = TypeVar("T")

VARIABLE = "OO_ROOT_KEY"
#: Seconds for one question to a key source.
LONGEST = 30.0


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Where keys are: for people, and for loading them. `load` raises `VaultError`."""

    where: str
    load: Callable[[], Awaitable[Keyring]]


def chosen(keys_from: str, path: Path, sources: Mapping[str, KeySource], guests: Guests, environ: MutableMapping[str, str]) -> Kept:
    """Where `vault.keys_from` says that they are."""
    match keys_from:
        case "file":
            return in_file(path)
        case "environment":
            return in_environment(environ)
        case id_:
            return wrapped(path, id_, sources.get(id_), guests)


def in_file(path: Path) -> Kept:
    """One key a line."""
    return Kept(where=str(path), load=lambda: asyncio.to_thread(read_key_file, path))


def bundle(path: Path) -> Kept:
    """What an ingress process is given."""
    return Kept(where=f"{path}, a bundle", load=lambda: asyncio.to_thread(read_bundle_file, path))


def in_environment(environ: MutableMapping[str, str]) -> Kept:
    """In a variable, which is taken out at once: no child and no plugin finds it."""
    text = environ.pop(VARIABLE, "")
    left = [text.replace(",", "\n").encode(errors="replace")]

    async def load() -> Keyring:
        if not left:
            raise KeysUnreachable("The keys came in the environment, which is read once.", "Restart the daemon to change them.")
        return parse_key_lines(left.pop(), named=VARIABLE)

    return Kept(where=f"the variable {VARIABLE}", load=load)


def wrapped(path: Path, id_: str, source: KeySource | None, guests: Guests) -> Kept:
    """Wrapped in a file, by a key source."""
    wraps = wrapping(id_, source, guests)
    return Kept(where=f"{path}, wrapped by {id_}", load=lambda: read_wrapped_keys(path, wraps))


def wrapping(id_: str, source: KeySource | None, guests: Guests) -> Wraps:
    """A key source as the vault speaks to it. Raises `KeysUnreachable` where no plugin brings it."""
    if source is None:
        raise KeysUnreachable(f"No loaded plugin brings the key source {id_}.", "See `oo plugins`, and what vault.keys_from says.")
    return _Wrapping(source, guests)


class _Wrapping(msgspec.Struct, frozen=True):
    source: KeySource
    guests: Guests

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> str:
        """Give the key wrapped."""
        return await self._asked(self.source.wrap(key, context))

    async def unwrap(self, wrapped: str, context: Mapping[str, str]) -> bytes:
        """Give the key."""
        return await self._asked(self.source.unwrap(wrapped, context))

    async def _asked(self, work: Coroutine[Any, Any, T]) -> T:
        """Raises `KeysUnreachable`, with what the key source says in its own words and nothing of a stranger's exception."""
        try:
            async with asyncio.timeout(LONGEST):
                return await self.guests.run(work, of=self.source)
        except TimeoutError:
            why = f"it did not answer within {LONGEST:.0f} s"
        except ConnectorError as error:
            why = str(error)
        except Exception as error:  # a plugin's: its text, context and frames may hold what it worked on
            why = f"it failed with {type(error).__name__}"
        raise KeysUnreachable(
            f"The key source {self.source.id} gave no key: {why}.",
            "A running daemon goes on with the keys it has; a start has to wait until this is mended.",
        )
