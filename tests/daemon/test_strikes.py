"""Strikes: counted for who was at work when the process ended, kept, and enough of them set a plugin aside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from daemon.virtual import VirtualClock

from oo_daemon import strikes as module
from oo_daemon.strikes import AT_WORK, AtWork, Strikes

ACME, OTHER = "acme-oo/acme", "other-oo/other"
HOUR = 3600.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def died(folder: Path, clock: VirtualClock, *work: tuple[int, str, str]) -> Strikes:
    """The strikes after a process that ended while somebody was at work."""
    page = AtWork(folder / AT_WORK)
    for place, plugin, item in work:
        page.mark(place, page.label(plugin, item))
    strikes = Strikes(folder, clock)
    with strikes.watching():
        pass
    return strikes


@pytest.mark.rows("H10")
def test_a_process_that_ends_tells_whose_code_it_was(tmp_path: Path, clock: VirtualClock) -> None:
    """Whoever is at work when the process ends without a farewell is known to the next; who has ended its work is not."""
    code = (
        "import os, sys, pathlib; from oo_daemon.strikes import AtWork\n"
        "page = AtWork(pathlib.Path(sys.argv[1]))\n"
        "page.mark(0, page.label('other-oo/other')); page.clear(0)\n"
        "page.mark(1, page.label('acme-oo/acme', 'delivery 7')); os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / AT_WORK)], check=False)
    assert AtWork(tmp_path / AT_WORK).left == [(ACME, "delivery 7")]
    assert AtWork(tmp_path / AT_WORK).left == [], "once"


def test_an_end_in_order_is_no_strike(tmp_path: Path, clock: VirtualClock) -> None:
    """A daemon that stops while a plugin does not is stopped all the same."""
    strikes = Strikes(tmp_path, clock)
    with strikes.watching() as page:
        page.mark(page.LOOP, page.label(ACME))
    assert AtWork(tmp_path / AT_WORK).left == []


def test_after_a_power_cut_nobody_is_blamed(tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before the host started anew says nothing."""
    (tmp_path / "boot").write_text("one")
    monkeypatch.setattr(module, "BOOT", tmp_path / "boot")
    page = AtWork(tmp_path / AT_WORK)
    page.mark(page.LOOP, page.label(ACME))
    (tmp_path / "boot").write_text("two")
    assert AtWork(tmp_path / AT_WORK).left == []


@pytest.mark.rows("E12", "H10")
def test_three_within_a_day(tmp_path: Path, clock: VirtualClock) -> None:
    """With the third strike within a day a plugin is set aside, with a reason that says what to do, until it is released."""
    for _ in range(2):
        assert died(tmp_path, clock, (1, ACME, "")).aside == {}
    strikes = died(tmp_path, clock, (1, OTHER, ""))
    assert strikes.counted() == {ACME: 2, OTHER: 1}
    strikes = died(tmp_path, clock, (0, ACME, ""))
    assert strikes.aside == {
        ACME: "it ended the daemon, 3 times until 2023-11-14 22:13 UTC: update or uninstall it, then `oo plugins release acme`"
    }
    assert strikes.counted() == {OTHER: 1}
    assert not strikes.release("nobody")
    assert strikes.release("acme")
    assert Strikes(tmp_path, clock).aside == {}


def test_more_than_a_day_apart(tmp_path: Path, clock: VirtualClock) -> None:
    """What was long ago does not count; what was set aside stays so."""
    for hours in (0, 13, 13, 13):
        clock.shift(hours * HOUR)
        assert died(tmp_path, clock, (1, ACME, "")).aside == {}
    died(tmp_path, clock, (1, ACME, ""))
    clock.shift(100 * HOUR)
    assert list(Strikes(tmp_path, clock).aside) == [ACME]


@pytest.mark.rows("H10")
def test_the_same_thing_each_time(tmp_path: Path, clock: VirtualClock) -> None:
    """Three times with the same delivery: that is set aside, and the plugin goes on; if others do the same, it is the plugin."""
    for _ in range(3):
        strikes = died(tmp_path, clock, (1, ACME, "delivery 7"))
    assert strikes.poisoned("delivery 7")
    assert not strikes.poisoned("delivery 8")
    assert (strikes.aside, strikes.counted()) == ({}, {ACME: 1})
    for _ in range(2):
        assert not strikes.aside
        strikes = died(tmp_path, clock, (1, ACME, "delivery 8"))
    assert list(strikes.aside) == [ACME]


@pytest.mark.rows("H10")
def test_something_else_each_time(tmp_path: Path, clock: VirtualClock) -> None:
    """Who kills the process finds the plugin at something else each time: that says nothing, until something ends it twice."""
    for number in range(6):
        strikes = died(tmp_path, clock, (1, ACME, f"connection {number}"))
    assert (strikes.aside, strikes.counted()) == ({}, {ACME: 6})
    assert list(died(tmp_path, clock, (1, ACME, "connection 3")).aside) == [ACME]


@pytest.mark.rows("H10")
def test_what_went_well_meanwhile_is_acquitted(tmp_path: Path, clock: VirtualClock) -> None:
    """What ended the process, was worked on again and did not, has no strike left; what held it up, or is set aside, stays so."""
    for _ in range(6):
        strikes = died(tmp_path, clock, (1, ACME, "sink crm 7"))
        assert strikes.suspected("sink crm 7")
        assert not strikes.suspected("sink crm 8")
        strikes.acquit("sink crm 7")
        assert not Strikes(tmp_path, clock).suspected("sink crm 7")
    assert (strikes.aside, strikes.counted()) == ({}, {})
    for _ in range(3):
        strikes = died(tmp_path, clock, (1, ACME, "sink crm 7"))
    strikes.give(ACME, "blocked", "sink crm 8")
    for item in ("sink crm 7", "sink crm 8"):
        strikes.acquit(item)
    assert strikes.poisoned("sink crm 7")
    assert strikes.suspected("sink crm 8")
    clock.shift(25 * HOUR)
    assert not strikes.suspected("sink crm 8")


@pytest.mark.rows("H10")
def test_a_connection_is_set_aside_before_its_connector(tmp_path: Path, clock: VirtualClock) -> None:
    """Three times with one connection: for a day, or until the plugin is released, that is left alone; with another, it is the plugin."""
    for _ in range(3):
        strikes = died(tmp_path, clock, (1, ACME, "connection 1"))
    assert (strikes.poisoned("connection 1"), strikes.aside) == (True, {})
    assert not strikes.release("other")
    assert strikes.release("acme")
    assert not Strikes(tmp_path, clock).poisoned("connection 1")
    for _ in range(3):
        strikes = died(tmp_path, clock, (1, ACME, "connection 1"))
    clock.shift(24 * HOUR)
    assert not strikes.poisoned("connection 1")
    clock.shift(-24 * HOUR)
    for _ in range(2):
        assert not strikes.aside
        strikes = died(tmp_path, clock, (1, ACME, "connection 2"))
    assert list(strikes.aside) == [ACME]


def test_a_full_disk(tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written the daemon starts all the same, and knows until its end."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    died(tmp_path, clock, (1, ACME, ""))
    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    strikes = Strikes(tmp_path, clock)
    with strikes.watching() as page:
        page.mark(page.LOOP, page.label(ACME))
        strikes.give(ACME, "blocked")
        assert strikes.counted() == {ACME: 2}


def test_a_file_that_makes_no_sense(tmp_path: Path, clock: VirtualClock) -> None:
    """It is as if there were none."""
    (tmp_path / "strikes.json").write_text("{")
    (tmp_path / AT_WORK).write_text("x")
    assert died(tmp_path, clock).counted() == {}
