"""What happens to a connection after one sync: decided here, purely; carried out elsewhere."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from oo_daemon.ports import SECOND

DAY = 24 * 3600.0
#: Back-off: full jitter over a window that doubles from the base to the cap (seconds).
BASE, CAP = 30.0, 3600.0
#: The base where it was our own storage: most often that is away for a moment.
SOON = 1.0
#: What a provider asks for is kept, up to a day; so that not all come back at the same moment, up to this part of it is added.
LATE = 0.05


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The provider had no more."""


class CutShort(msgspec.Struct, frozen=True, kw_only=True):
    """It ran as long as one run may; what was fetched is kept, the rest waits its turn."""


class Later(msgspec.Struct, frozen=True, kw_only=True):
    """Something passing stood in the way."""

    reason: str
    after: float | None = None  #: seconds that the provider asks for
    ours: bool = False  #: our own storage could not be written to; the provider has nothing to do with it


class QuotaUsed(msgspec.Struct, frozen=True, kw_only=True):
    """All that may be asked for now was asked; counts as success."""

    reason: str
    until: int


class SignedOut(msgspec.Struct, frozen=True, kw_only=True):
    """The grant is gone."""

    reason: str


class LostPlace(msgspec.Struct, frozen=True, kw_only=True):
    """The provider no longer knows the cursor."""

    reason: str


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """The provider has shut the interface down."""

    reason: str


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """The connector does not understand its provider, or has a fault."""

    reason: str


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """It asks the provider again and again and gets no further: quota is burnt for nothing."""

    runs: int


Outcome: TypeAlias = Done | CutShort | Later | QuotaUsed | SignedOut | LostPlace | Retired | Broken | Stalled
Word = Literal["done", "later", "signed_out", "failed", "stalled"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now."""

    outcome: Word
    detail: str
    run_at: int | None  #: None: not before a person has done something
    keep_tries: bool = False  #: it did not end well: the count goes on
    sign_in: bool = False  #: the connection waits for its owner
    forget_cursor: bool = False
    not_before: int = 0  #: the provider asks for that, whoever else would have it sooner


def word(outcome: Outcome) -> Word:
    """An outcome in short."""
    match outcome:
        case Done() | CutShort() | QuotaUsed():
            return "done"
        case Later() | LostPlace():
            return "later"
        case SignedOut():
            return "signed_out"
        case Stalled():
            return "stalled"
        case Retired() | Broken():
            return "failed"


def next_step(outcome: Outcome, *, tries: int, now: int, interval: float, spread: float, due: int | None = None) -> Step:
    """Say what happens to a connection after one sync. Touches nothing.

    `tries` counts the runs since one ended well, this one included; `interval` is in seconds; `spread` is a random number between 0 and 1;
    `due` is when its own timetable has it next, in place of the interval.
    """

    def at(seconds: float) -> int:
        return now + math.ceil(seconds * SECOND)

    def asked(seconds: float) -> float:
        return min(seconds, DAY) * (1.0 + LATE * spread)

    match outcome:
        case Done():
            return Step(outcome=word(outcome), detail="", run_at=at(interval * (0.95 + 0.1 * spread)) if due is None else due)
        case CutShort():
            return Step(outcome=word(outcome), detail="there is more: the sync goes on soon", run_at=now)
        case QuotaUsed(reason=reason, until=until):
            wait = min(max((until - now) / SECOND, 1.0), DAY)
            return Step(outcome=word(outcome), detail=reason, run_at=at(asked(wait)), not_before=at(wait))
        case Later(reason=reason, after=after, ours=ours):
            run_at = at(max(backoff(tries, spread, SOON if ours else BASE), asked(after or 0.0)))
            floor = at(min(after, DAY)) if after else 0
            return Step(outcome=word(outcome), detail=reason, run_at=run_at, keep_tries=True, not_before=floor)
        case SignedOut(reason=reason):
            return Step(outcome=word(outcome), detail=reason, run_at=None, sign_in=True)
        case LostPlace(reason=reason):
            # The first time at once, from the beginning; a provider that forgets again and again is not asked at once again.
            wait = 0.0 if tries <= 1 else backoff(tries, spread)
            return Step(outcome=word(outcome), detail=reason, run_at=at(wait), keep_tries=True, forget_cursor=True)
        case Retired(reason=reason):
            return Step(outcome=word(outcome), detail=reason, run_at=at(DAY), keep_tries=True)
        case Stalled(runs=runs):
            detail = f"the last {runs} syncs asked the provider and got no further: tell the connector's author, or start it again"
            return Step(outcome=word(outcome), detail=detail, run_at=max(due or at(interval), at(backoff(runs, spread))))
        case Broken(reason=reason):
            return Step(outcome=word(outcome), detail=reason, run_at=at(max(backoff(tries, spread), BASE)), keep_tries=True)


#: Where pushes work a poll only looks whether they left something out: each that finds nothing doubles the next wait, up to this (seconds).
RECONCILE = 6 * 3600.0


def stretched(before: int, *, heard: bool, announced: bool, news: bool, interval: float) -> int:
    """By how much the interval of a connection is longer, now that a sync went well.

    It is short again as soon as a poll finds what no push has told: then they do not work, or not all of them.
    """
    if not heard or (news and not announced):
        return 1
    if announced:
        return before
    return max(1, min(before * 2, int(RECONCILE / interval)))


#: Runs in a row after which a cursor that does not move is no accident.
STALLED = 5


class Motion(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did, and whether it got anywhere."""

    asked: bool  #: it called the provider, or was told something
    moved: bool  #: its cursor
    news: bool  #: it found something new, or did not come to a checkpoint after what it found
    listed: bool  #: everything that exists: then the cursor may well stay


def unmoved(before: int, outcome: Outcome, motion: Motion) -> int:
    """How many runs in a row have now asked the provider for nothing.

    Quiet is no standstill. Trouble is none either: that is counted as tries.
    """
    match outcome:
        case _ if motion.moved:
            return 0
        case CutShort() | QuotaUsed() if motion.asked:
            return before + 1
        case Done() if motion.asked and motion.news and not motion.listed:
            return before + 1
        case Done() | LostPlace():
            return 0
        case _:
            return before


def backoff(tries: int, spread: float, base: float = BASE) -> float:
    """Seconds to wait after so many tries: somewhere in a window that doubles."""
    return spread * min(CAP, base * 2.0 ** min(tries - 1, 16))
