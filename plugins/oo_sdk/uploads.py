"""Uploads: what a connector says about files that people hand in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, TypeAlias, runtime_checkable

from google.protobuf.message import Message

from oo_sdk.events import Checkpoint, Cursor, Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One imported file. It lies on a local disk, whole, and stays as it is until the import has ended."""

    name: str  #: as the person calls the file; says nothing for sure
    size: int  #: bytes
    open: Callable[[], BinaryIO] = field(repr=False)  #: gives it from its first byte on; can seek


@dataclass(frozen=True, slots=True)
class Occurrences:
    """Many things of one name that merely took place, told at once: for files with millions of them, where an `Event` each is dear.

    Each row is the subject, when it began in whole seconds since 1970, and what `payload` makes the payload of. The daemon asks for a
    payload only where the subject is new to it, and at once turns it into bytes: `payload` may fill and give the same message again.
    """

    name: str
    rows: Sequence[tuple[str, int, Any]]
    payload: Callable[[Any], Message]


#: What `parse` gives: things that happened, and places from which it can go on.
Told: TypeAlias = Event | Occurrences | Checkpoint


@runtime_checkable
class Takes(Protocol):
    """An ability of a connector: it reads files that people hand in."""

    @property
    def takes(self) -> Sequence[str]:
        """The endings of the files that it reads, such as ".zip"."""

    def parse(self, upload: Upload, since: Cursor | None) -> Iterator[Told]:
        """Read a file from its beginning, or from where a checkpoint of the same file left off.

        Called in a process of its own, which may be killed at any time and begins again at the newest checkpoint: yield one every few
        seconds. Use constant memory at any size. Raise `Unreadable` for a file that makes no sense, with a sentence for the person who
        handed it in: what is wrong, and what to do.
        """
