"""What comes after a sync."""

import pytest
from daemon.virtual import NOW
from hypothesis import given
from hypothesis import strategies as st

from oo_daemon.ports import SECOND
from oo_daemon.sync import plan
from oo_daemon.sync.plan import (
    BASE,
    CAP,
    DAY,
    LATE,
    Broken,
    CutShort,
    Done,
    Later,
    LostPlace,
    Outcome,
    QuotaUsed,
    Retired,
    SignedOut,
    Step,
    next_step,
)

INTERVAL = 300.0


def step(outcome: Outcome, *, tries: int = 1, spread: float = 0.5, now: int = NOW) -> Step:
    return next_step(outcome, tries=tries, now=now, interval=INTERVAL, spread=spread)


def later(seconds: float) -> int:
    return NOW + round(seconds * SECOND)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Done(), Step(outcome="done", detail="", run_at=later(300))),
        (CutShort(), Step(outcome="done", detail="there is more: the sync goes on soon", run_at=NOW)),
        (QuotaUsed(reason="spent", until=later(100)), Step(outcome="done", detail="spent", run_at=later(102.5), not_before=later(100))),
        (QuotaUsed(reason="spent", until=0), Step(outcome="done", detail="spent", run_at=later(1.025), not_before=later(1))),
        (Later(reason="busy"), Step(outcome="later", detail="busy", run_at=later(15), keep_tries=True)),
        (Later(reason="full", ours=True), Step(outcome="later", detail="full", run_at=later(0.5), keep_tries=True)),
        (Later(reason="busy", after=2.0), Step(outcome="later", detail="busy", run_at=later(15), keep_tries=True, not_before=later(2))),
        (
            Later(reason="busy", after=100.0),
            Step(outcome="later", detail="busy", run_at=later(102.5), keep_tries=True, not_before=later(100)),
        ),
        (SignedOut(reason="gone"), Step(outcome="signed_out", detail="gone", run_at=None, sign_in=True)),
        (LostPlace(reason="lost"), Step(outcome="later", detail="lost", run_at=NOW, keep_tries=True, forget_cursor=True)),
        (Retired(reason="shut"), Step(outcome="failed", detail="shut", run_at=later(DAY), keep_tries=True)),
        (Broken(reason="odd"), Step(outcome="failed", detail="odd", run_at=later(BASE), keep_tries=True)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_outcome_has_its_step(outcome: Outcome, expected: Step) -> None:
    """Each outcome of a first try, drawn in the middle of its window, is followed by one step."""
    assert step(outcome) == expected


@pytest.mark.rows("E5")
@pytest.mark.parametrize(("tries", "window"), [(0, 30), (1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (9, 3600), (10_000, 3600)])
def test_back_off_doubles_up_to_a_cap(tries: int, window: float) -> None:
    """The window of the back-off is 30 s, doubles with each try, and ends at an hour."""
    if tries:
        assert plan.backoff(tries, 1.0) == window
    assert plan.backoff(tries, 0.0) == 0.0
    assert plan.backoff(tries, 0.5) <= window / 2


def test_a_place_lost_again_waits() -> None:
    """A provider that forgets our place a second time is not asked at once again."""
    assert step(LostPlace(reason="lost"), tries=2, spread=1.0).run_at == later(60)


def test_a_fault_that_stays_waits_longer() -> None:
    """A connector that stays broken is tried less and less often, and still at least once an hour."""
    waits = [step(Broken(reason="odd"), tries=tries, spread=1.0).run_at for tries in range(1, 12)]
    assert waits == [later(seconds) for seconds in (30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600)]


spreads = st.floats(0, 1)
counts = st.integers(1, 10_000)


@pytest.mark.rows("E5")
@given(after=st.floats(0, 10 * DAY), tries=counts, spread=spreads)
def test_never_earlier_than_asked(after: float, tries: int, spread: float) -> None:
    """A connection is never tried earlier than its provider asks, up to a day, and not much later than the longest wait."""
    at = step(Later(reason="busy", after=after), tries=tries, spread=spread).run_at
    assert at is not None
    assert at - NOW >= min(after, DAY) * SECOND
    assert at - NOW <= max(CAP, min(after, DAY) * (1 + LATE)) * SECOND + 1


@given(until=st.integers(-(2**62), 2**62), spread=spreads)
def test_never_before_the_quota_is_back(until: int, spread: float) -> None:
    """A spent quota is waited for, up to a day; a time that has passed means soon, not at once."""
    at = step(QuotaUsed(reason="spent", until=until), spread=spread).run_at
    assert at is not None
    assert at >= min(until, later(DAY))
    assert later(1) <= at <= later(DAY * (1 + LATE)) + 1


@pytest.mark.rows("E5")
@given(tries=counts, spread=spreads)
def test_full_jitter(tries: int, spread: float) -> None:
    """The wait is spread over the whole window: it is the drawn part of it."""
    window = plan.backoff(tries, 1.0)
    assert BASE <= window <= CAP
    assert plan.backoff(tries, spread) == pytest.approx(spread * window)


@given(spread=spreads)
def test_syncs_are_spread_around_the_interval(spread: float) -> None:
    """Connections that were made at the same moment drift apart: each interval is up to 5 % shorter or longer."""
    at = step(Done(), spread=spread).run_at
    assert at is not None
    assert later(INTERVAL * 0.95) <= at <= later(INTERVAL * 1.05) + 1


@given(
    outcome=st.sampled_from([Done(), CutShort(), Later(reason="x"), Broken(reason="x"), Retired(reason="x"), LostPlace(reason="x")]),
    tries=counts,
    spread=spreads,
    now=st.integers(0, 2**61),
)
def test_a_connection_is_never_forgotten(outcome: Outcome, tries: int, spread: float, now: int) -> None:
    """Whatever happened, unless its owner is asked, a connection is tried again within about a day."""
    at = step(outcome, tries=tries, spread=spread, now=now).run_at
    assert at is not None
    assert now <= at <= now + 1.1 * DAY * SECOND + 2**10


def test_what_ends_early_without_moving_stands_still() -> None:
    """A run that was cut, or used its quota up, and left the cursor where it was, counts; one that moved it, or asked nothing, does not."""
    still = plan.Motion(asked=True, moved=False, news=False, listed=False)
    for outcome in (plan.CutShort(), plan.QuotaUsed(reason="", until=NOW)):
        assert plan.unmoved(2, outcome, still) == 3
        assert plan.unmoved(2, outcome, plan.Motion(asked=True, moved=True, news=False, listed=False)) == 0
        assert plan.unmoved(2, outcome, plan.Motion(asked=False, moved=False, news=False, listed=False)) == 2
