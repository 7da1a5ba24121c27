"""What happens to a connection after one sync: decided here, purely; carried out elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from oo_daemon.ports import SECOND

DAY = 24 * 3600.0
#: Back-off: full jitter over a window that doubles from the base to the cap (seconds).
BASE, CAP = 30.0, 3600.0
#: What a provider asks for is kept, up to a day; so that not all come back at the same moment, up to this part of it is added.
LATE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The provider had no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutShort:
    """It ran as long as one run may; what was fetched is kept, the rest waits its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """Something passing stood in the way."""

    reason: str
    after: float | None = None  #: seconds that the provider asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaUsed:
    """All that may be asked for now was asked; counts as success."""

    reason: str
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOut:
    """The grant is gone."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LostPlace:
    """The provider no longer knows the cursor."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """The provider has shut the interface down."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The connector does not understand its provider, or has a fault."""

    reason: str


Outcome: TypeAlias = Done | CutShort | Later | QuotaUsed | SignedOut | LostPlace | Retired | Broken
Word = Literal["done", "later", "signed_out", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do now."""

    outcome: Word
    detail: str
    run_at: int | None  #: None: not before a person has done something
    keep_tries: bool = False  #: it did not end well: the count goes on
    sign_in: bool = False  #: the connection waits for its owner
    forget_cursor: bool = False


def next_step(outcome: Outcome, *, tries: int, now: int, interval: float, spread: float) -> Step:
    """Say what happens to a connection after one sync. Touches nothing.

    `tries` counts the runs since one ended well, this one included; `interval` is in seconds; `spread` is a random number between 0 and 1.
    """

    def at(seconds: float) -> int:
        return now + math.ceil(seconds * SECOND)

    def asked(seconds: float) -> float:
        return min(seconds, DAY) * (1.0 + LATE * spread)

    match outcome:
        case Done():
            return Step(outcome="done", detail="", run_at=at(interval * (0.95 + 0.1 * spread)))
        case CutShort():
            return Step(outcome="done", detail="there is more: the sync goes on soon", run_at=now)
        case QuotaUsed(reason=reason, until=until):
            return Step(outcome="done", detail=reason, run_at=at(asked(max((until - now) / SECOND, 1.0))))
        case Later(reason=reason, after=after):
            return Step(outcome="later", detail=reason, run_at=at(max(backoff(tries, spread), asked(after or 0.0))), keep_tries=True)
        case SignedOut(reason=reason):
            return Step(outcome="signed_out", detail=reason, run_at=None, sign_in=True)
        case LostPlace(reason=reason):
            # The first time at once, from the beginning; a provider that forgets again and again is not asked at once again.
            wait = 0.0 if tries <= 1 else backoff(tries, spread)
            return Step(outcome="later", detail=reason, run_at=at(wait), keep_tries=True, forget_cursor=True)
        case Retired(reason=reason):
            return Step(outcome="failed", detail=reason, run_at=at(DAY), keep_tries=True)
        case Broken(reason=reason):
            return Step(outcome="failed", detail=reason, run_at=at(max(backoff(tries, spread), BASE)), keep_tries=True)


def backoff(tries: int, spread: float) -> float:
    """Seconds to wait after so many tries: somewhere in a window that doubles."""
    return spread * min(CAP, BASE * 2.0 ** min(tries - 1, 16))
