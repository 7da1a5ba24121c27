"""Strikes: which plugins ended the daemon or held it up, kept in files, since a process that dies takes its memory along.

A plugin's code runs in our process: one that ends it ends everything, again after each start. So whose code is at work stands in a page of
memory that is also a file: it outlives the process, however that ends. The next start reads there who it was, and counts a strike; a plugin
with three within a day is set aside until the operator releases it. Where it was the same delivery, action, connection or event for a sink
each time, that is set aside, and the plugin goes on. Who is killed from outside is at something else each time: that alone says nothing
against a plugin.

This is of the process and not of the data, so it lies beside the database and not in it: plugins are asked before that is opened.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from oo_daemon.ports import SECOND, Clock, moment

#: Strikes within a day (microseconds) after which a plugin is set aside.
MOST: Final = 3
DAY: Final = 24 * 3600 * SECOND
#: Bytes of a place in the page: the length, then who is at work and on what.
PLACE: Final = 512
BOOT: Final = Path("/proc/sys/kernel/random/boot_id")

#: The two files.
AT_WORK: Final = "at_work"
STRIKES: Final = "strikes.json"

What = Literal["ended", "blocked"]


class Strike(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a plugin ended the process or held it up for too long."""

    plugin: str  #: `Plugin.key`
    at: int
    what: What
    item: str = ""  #: what it was at work on, where that is one thing of many


class PluginBlocks(Exception):
    """A plugin holds up all others: the process must end to be rid of it."""


class Poison(msgspec.Struct, frozen=True, kw_only=True):
    """What ended the process each time it was worked on."""

    plugin: str
    at: int  #: since when that is known


class Kept(msgspec.Struct, kw_only=True):
    """The file."""

    strikes: list[Strike] = []
    aside: dict[str, str] = {}  #: plugins that were set aside, with the reason
    items: dict[str, Poison] = {}


class AtWork:
    """Says whose code is at work, so that it is known after the end of the process. From any thread; each has a place of its own."""

    LOADING: Final = 0
    LOOP: Final = 1

    def __init__(self, path: Path) -> None:
        self.left = left(path)  #: who was at work when the process before this one ended
        try:
            self._page = _page(path)
        except OSError:  # the disk is full: nobody will know, but the daemon runs
            self._page = mmap.mmap(-1, mmap.PAGESIZE)

    @staticmethod
    def label(plugin: str, item: str = "") -> bytes:
        """What `mark` is given."""
        text = f"{plugin}\n{item}".encode(errors="replace")[: PLACE - 2]
        return len(text).to_bytes(2, "little") + text

    def mark(self, place: int, label: bytes) -> None:
        """Somebody begins."""
        self._page[place * PLACE : place * PLACE + len(label)] = label

    def clear(self, place: int) -> None:
        """Nobody is at work there."""
        self._page[place * PLACE : place * PLACE + 2] = b"\0\0"

    @contextmanager
    def loading(self, plugin: str) -> Iterator[None]:
        """Hold it while a plugin is loaded and asked what it brings."""
        self.mark(self.LOADING, self.label(plugin))
        try:
            yield
        finally:
            self.clear(self.LOADING)

    def close(self) -> None:
        """The process ends in order."""
        self.clear(self.LOADING)
        self.clear(self.LOOP)


def _page(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Written and not only stretched: a page without blocks would end the process at the first mark on a full disk.
        os.pwrite(descriptor, bytes(mmap.PAGESIZE), 0)
        os.pwrite(descriptor, _boot(), mmap.PAGESIZE - PLACE)
        return mmap.mmap(descriptor, mmap.PAGESIZE)
    finally:
        os.close(descriptor)


def _boot() -> bytes:
    """Which start of the host this is: after a power cut nobody knows who was at work."""
    try:
        return BOOT.read_bytes().strip()
    except OSError:
        return b""


def left(path: Path) -> list[tuple[str, str]]:
    """Who was at work, and on what, in a page that another process left behind."""
    try:
        page = path.read_bytes()
    except OSError:
        return []
    if len(page) != mmap.PAGESIZE or page[-PLACE:].rstrip(b"\0") != _boot():
        return []
    found = []
    for place in (AtWork.LOADING, AtWork.LOOP):
        size = int.from_bytes(page[place * PLACE : place * PLACE + 2], "little")
        plugin, _, item = page[place * PLACE + 2 : place * PLACE + 2 + size].decode(errors="replace").partition("\n")
        if plugin:
            found.append((plugin, item))
    return found


class Strikes:
    """What is kept of strikes in the folder of the state. Belongs to the daemon; others may look."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path = folder / STRIKES
        self._clock = clock
        self._kept = _read(self._path)

    @contextmanager
    def watching(self) -> Iterator[AtWork]:
        """Count strikes for whoever was at work when the process before this one ended, and say from now on who is."""
        at_work = AtWork(self._path.with_name(AT_WORK))
        for plugin, item in at_work.left:
            self.give(plugin, "ended", item)
        try:
            yield at_work
        finally:
            at_work.close()

    @property
    def aside(self) -> Mapping[str, str]:
        """Plugins that are set aside, by their keys, each with the reason."""
        return self._kept.aside

    def counted(self) -> Mapping[str, int]:
        """How many strikes each plugin has that has some."""
        return Counter(strike.plugin for strike in self._recent())

    def poisoned(self, item: str) -> bool:
        """Say whether this ended the process each time it was worked on, within a day."""
        known = self._kept.items.get(item)
        return known is not None and abs(self._clock.now() - known.at) < DAY

    def suspected(self, item: str) -> bool:
        """Say whether the process ended within a day while this was worked on, and nobody knows yet whose fault that was."""
        return any(strike.item == item for strike in self._kept.strikes) and any(strike.item == item for strike in self._recent())

    def acquit(self, item: str) -> None:
        """It was worked on again, and the process lived: whoever ended that, this did not."""
        left = [strike for strike in self._kept.strikes if strike.item != item or strike.what != "ended"]
        if len(left) < len(self._kept.strikes):
            with suppress(OSError):  # as below
                self._keep(Kept(strikes=left, aside=self._kept.aside, items=self._kept.items))

    def give(self, plugin: str, what: What, item: str = "") -> None:
        """Count one, and set aside what has too many."""
        now = self._clock.now()
        strikes = [*self._recent(), Strike(plugin=plugin, at=now, what=what, item=item)]
        items = {known: poison for known, poison in self._kept.items.items() if abs(now - poison.at) < DAY}
        aside = dict(self._kept.aside)
        own = [strike for strike in strikes if strike.plugin == plugin]
        same = [strike for strike in own if item and strike.item == item]
        if len(same) >= MOST:
            items[item] = Poison(plugin=plugin, at=now)
            # One stays, so that a plugin for which everything is poison is set aside, too.
            strikes = [strike for strike in strikes if strike not in same]
            strikes.append(Strike(plugin=plugin, at=now, what=what))
        elif len(own) >= MOST and _says_something(own):
            aside[plugin] = _reason(own)
            strikes = [strike for strike in strikes if strike.plugin != plugin]
        with suppress(OSError):  # on a full disk it is known until the end of this process
            self._keep(Kept(strikes=strikes, aside=aside, items=items))

    def release(self, name: str) -> bool:
        """Forget the strikes of the plugins of this name, and what of theirs was set aside; False where there is nothing."""

        def other(key: str) -> bool:
            return name not in {key, key.rpartition("/")[2]}

        items = {item: poison for item, poison in self._kept.items.items() if other(poison.plugin)}
        strikes = [strike for strike in self._kept.strikes if other(strike.plugin)]
        aside = {key: reason for key, reason in self._kept.aside.items() if other(key)}
        left = Kept(strikes=strikes, aside=aside, items=items)
        found = left != self._kept
        if found:
            self._keep(left)
        return found

    def _recent(self) -> list[Strike]:
        now = self._clock.now()
        return [strike for strike in self._kept.strikes if abs(now - strike.at) < DAY]

    def _keep(self, kept: Kept) -> None:
        self._kept = kept
        beside = self._path.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(kept))
        beside.replace(self._path)


def _says_something(strikes: list[Strike]) -> bool:
    """Whether it is the plugin: it held the loop up, or the process ended more than once over the same."""
    return any(strike.what == "blocked" for strike in strikes) or len({strike.item for strike in strikes}) < len(strikes)


def _reason(strikes: list[Strike]) -> str:
    did = {"ended": "ended the daemon", "blocked": "held up all plugins for a minute"}
    words = " and ".join(dict.fromkeys(did[strike.what] for strike in strikes))
    last = moment(strikes[-1].at)
    plugin = strikes[-1].plugin.rpartition("/")[2]
    return f"it {words}, {len(strikes)} times until {last:%Y-%m-%d %H:%M} UTC: update or uninstall it, then `oo plugins release {plugin}`"


def _read(path: Path) -> Kept:
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    return Kept()
