"""What comes in by the door: time, chance, measuring, and where plugins' code runs.

Rooms take these as arguments; `app.build` brings the real ones, tests and simulations their own.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

SECOND = 1_000_000  #: the store counts time in microseconds since 1970, UTC


class Clock(Protocol):
    """Time. One for the whole daemon."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Seconds from some start, never backwards."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Chance(Protocol):
    """Randomness."""

    def token_bytes(self, size: int) -> bytes:
        """Bytes that nobody can guess."""

    def uniform(self, low: float, high: float) -> float:
        """A number between the two, for spreading things out."""


class Metrics(Protocol):
    """Where rooms say what happened, in numbers. Labels come from closed sets: never a user, a connection or a token."""

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        """Add to a counter."""

    def observe(self, name: str, *values: float, **labels: str) -> None:
        """Add measurements to a histogram."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a level."""


class Trace(Protocol):
    """Where rooms say what belongs together, and how long it takes. Names and notes are declared: never a user, a connection or a token."""

    def span(self, name: str, parent: str | None = None, **notes: str | int) -> AbstractContextManager[object]:
        """A stretch of work: within the one under way, or within the one that `parent` names; where that is empty, it begins a trace."""

    def note(self, **notes: str | int) -> None:
        """Say more of the stretch under way."""

    def here(self) -> str:
        """What names the stretch under way elsewhere and later (W3C `traceparent`); empty where there is none."""


_NOTHING = nullcontext()


class Untraced:
    """Nobody asks what belongs together."""

    def span(self, name: str, parent: str | None = None, **notes: str | int) -> AbstractContextManager[object]:
        """Nothing."""
        return _NOTHING

    def note(self, **notes: str | int) -> None:
        """Nothing."""

    def here(self) -> str:
        """Nothing."""
        return ""


UNTRACED = Untraced()


#: Hears the error that something ended with; None where it ended well.
Ended: TypeAlias = Callable[[BaseException | None], None]


class Guests(Protocol):
    """Where plugins' coroutines run: a loop of their own, so that one that stalls does not stop the listeners."""

    async def run(self, work: Coroutine[Any, Any, T], *, of: object = None, item: str = "") -> T:
        """Run it there and wait for it; cancelling the wait cancels it there.

        `of` is the guest whose code it is, and `item` what it works on, where that is one of many: both are told of should it hold up
        the loop, or end the process.
        """

    def begin(self, work: Coroutine[Any, Any, None], ended: Ended, *, of: object = None, item: str = "") -> Callable[[], object]:
        """Run it there and go on. `ended` hears here what it came to; what is given back cancels it, and `ended` hears of that, too.

        For what comes in great numbers and mostly has nothing to wait for: it costs no task at either side.
        """


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC) - _EPOCH, datetime.max.replace(tzinfo=UTC) - _EPOCH


def moment(micros: int) -> datetime:
    """The store's time as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def micros(when: datetime) -> int:
    """A datetime with a zone as the store's time. Raises `OverflowError` outside the years 1 to 9999."""
    elapsed = when - _EPOCH
    if not _FIRST <= elapsed <= _LAST:
        raise OverflowError("outside the years 1 to 9999")
    return (elapsed.days * 86_400 + elapsed.seconds) * SECOND + elapsed.microseconds
