"""Many simulated lives, replayed and mutated (G2, G3, G5, E2, C10, C11)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from simulation.mutations import MUTATIONS
from simulation.provider import CATALOGUE
from simulation.regressions import REGRESSIONS
from simulation.run import BEHAVIOURS, Result, Tally, live, main, run_all, run_for, seeds_of

TESTS = Path(__file__).parents[1]
#: Small lives; a fiftieth as many full ones come with them.
SEEDS = int(os.environ.get("OO_TEST_SIMULATION_SEEDS", "500"))
#: Lives in which a mutation has to be noticed, at the latest: some show in one of twenty.
LIVES = 150


@pytest.mark.rows("G2", "G3", "G5", "E2", "C10", "C11")
@pytest.mark.timeout(900)
def test_nothing_is_lost_nothing_doubled() -> None:
    """Every life ends as the providers say, no invariant ever breaks, and every behaviour of the catalogue is met."""
    tally = run_all(seeds_of(SEEDS))
    print(tally.told())
    assert [(result.seed, result.fault) for result in tally.failed] == []
    assert tally.never_met == []
    assert all(tally.happened[word] > SEEDS / 10 for word in ("crashes", "freezes", "disconnects", "wishes", "pushes acknowledged"))


@pytest.mark.rows("G2")
@pytest.mark.timeout(300)
def test_what_was_found_stays_found() -> None:
    """Seeds that once failed do not fail again."""
    assert [(result.seed, result.fault) for result in run_all(REGRESSIONS).failed] == []


@pytest.mark.rows("G2")
@pytest.mark.parametrize("seed", ["small-4", "small-5"])
def test_a_seed_replays(seed: str) -> None:
    """The same seed is the same life again, to the last byte: here, and in other processes that hash in another order."""
    command = [sys.executable, "-c", f"from simulation.run import live; print(live({seed!r}).fingerprint)"]
    elsewhere = [
        subprocess.run(
            command,
            cwd=TESTS,
            env={**os.environ, "PYTHONPATH": str(TESTS), "PYTHONHASHSEED": order},
            capture_output=True,
            text=True,
            check=True,
        )
        for order in ("1", "2")
    ]
    assert {live(seed).fingerprint, live(seed).fingerprint, *(each.stdout.strip() for each in elsewhere)} == {live(seed).fingerprint}


@pytest.mark.rows("G4")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_simulation_can_fail(mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a safeguard switched off, some life goes wrong, and in the way that is expected."""
    mutation(monkeypatch)
    assert any(MUTATIONS[mutation] in live(f"rough-{number}").fault for number in range(LIVES))


@pytest.mark.rows("G5")
def test_the_catalogue() -> None:
    """There are at least forty ways to be difficult, each with a name of its own."""
    assert len(BEHAVIOURS) >= 40
    assert len({name for names in CATALOGUE.values() for name in names}) == len(BEHAVIOURS)


@pytest.mark.rows("G2")
def test_a_failing_seed_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A run with a failing seed names it, ends with its figures, and fails."""
    monkeypatch.setattr("simulation.run.run_all", lambda seeds: _tally(seeds))
    assert main(["small-1"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "seed small-1: at once"
    assert told[-1].startswith("simulation: 1 seeds, 1 failed")


@pytest.mark.rows("G2")
def test_the_long_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time-boxed run begins where the one before ended."""
    seen: list[str] = []

    def none(count: int, first: int) -> list[str]:
        seen.append(str(first))
        return []

    monkeypatch.setattr("simulation.run.seeds_of", none)
    seconds = count(0.0, 40.0)
    for _ in range(2):
        run_for(2.5, tmp_path / "state.json", lambda: next(seconds))
    assert seen == sorted(set(seen), key=int)
    assert len(seen) > 3


def _tally(seeds: list[str]) -> Tally:
    tally = Tally()
    for seed in seeds:
        tally.add(Result(seed, "at once", 1, 1, 0.0, Counter(), Counter(), ""))
    return tally
