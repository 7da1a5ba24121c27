"""The benchmarks run: tiny sizes, a valid JSON each. What they find is not looked at here."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks import chart, report, run
from benchmarks.harness import Figure, Results, Shown, Side, interleaved, percentiles


@pytest.mark.parametrize("name", run.BENCHMARKS)
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    """Each writes its figures, aims and machine."""
    results = run.run(name, "tiny", tmp_path)
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert written["benchmark"] == name
    assert written["machine"]["python"]
    assert written["missing"] == {}
    assert all(set(ratio) >= {"measured", "aim", "met"} for ratio in written["ratios"].values())
    assert written["ratios"]
    assert all(figure["min"] <= figure["median"] <= figure["max"] for side in written["figures"].values() for figure in side.values())
    assert "<rect" in (tmp_path / f"{name}.svg").read_text()
    assert results.figures


def test_one_that_fails_does_not_keep_the_others_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said at the end, beside what the others came to and which peers were missing."""

    def broken(size: object, tell: object) -> Results:
        raise RuntimeError("the disk is full")

    def fine(size: object, tell: object) -> Results:
        results = Results(benchmark="fine", title="t", settings={}, missing={"Rival": "it failed"})
        results.aim("fast", 2.0, 3.0, "less")
        results.aim("small", 4.0, 3.0, "less")
        return results

    made = {bench.__name__: SimpleNamespace(SIZES={"tiny": None}, bench=bench) for bench in (broken, fine)}
    monkeypatch.setattr(run, "BENCHMARKS", made)
    assert run.every(["broken", "fine"], "tiny", tmp_path, None, lambda text: None) == 1
    said = capsys.readouterr().out
    assert "RuntimeError: the disk is full" in said
    assert "missing: Rival" in said
    assert run.every(["fine"], "tiny", tmp_path, None, lambda text: None) == 0


def test_rounds_are_interleaved_and_the_warm_up_does_not_count() -> None:
    """A B, then A B A B; a slow side has fewer rounds."""
    ran: list[str] = []

    def side(name: str, rounds: int = 9) -> Side:
        def go() -> dict[str, float]:
            ran.append(name)
            return {"x": float(len(ran))}

        return Side(name, go, rounds)

    results = Results(benchmark="b", title="t", settings={})
    interleaved(results, [side("a"), side("b"), side("slow", 1)], 2, warm=True, tell=lambda text: None)
    assert ran == ["a", "b", "a", "b", "slow", "a", "b"]
    assert results.figures["a"]["x"] == Figure(median=4.5, min=3, max=6, rounds=[3, 6])
    assert results.ratio("x", "a", "b") == pytest.approx((3 / 4 + 6 / 7) / 2)


def test_a_comparison_names_what_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """Before and after stand side by side."""

    def written(median: float, met: bool) -> dict[str, object]:
        return {"figures": {"oO": {"per_s": {"median": median}}}, "ratios": {"fast": {"measured": median, "aim": 3, "met": met}}}

    report.compare(written(2.0, False), written(4.0, True))
    said = capsys.readouterr().out
    assert "2.00×" in said
    assert "met" in said


def test_percentiles_are_of_everything() -> None:
    """Of a thousand waits the p99 is the ten longest's shortest."""
    found = percentiles([number / 1000 for number in range(1000)])
    assert (found["p50_ms"], found["p99_ms"], found["max_ms"]) == (500, 990, 999)


def test_a_chart_shows_every_side() -> None:
    """Each side is a bar with its figures in words, escaped."""
    figure = {"x": Figure(median=1, min=0.5, max=2, rounds=[0.5, 1, 2])}
    results = Results(benchmark="b", title="A <b>", settings={}, figures={"oO": figure, "<other>": figure}, shown=[Shown("x", "X", "s")])
    drawn = chart.drawn(results)
    assert drawn.count("<rect") == 2
    assert "&lt;other&gt;: 1 s (0.5 to 2)" in drawn
    assert "prefers-color-scheme:dark" in drawn


def test_a_chart_has_room_for_long_names() -> None:
    """Bars begin where the longest name ends."""
    figure = {"x": Figure(median=1, min=0.5, max=2, rounds=[0.5, 1, 2])}
    results = Results(benchmark="b", title="t", settings={}, figures={"oO": figure, "n" * 50: figure}, shown=[Shown("x", "X", "s")])
    assert chart.drawn(results).count(f'x="{50 * chart.LETTER + 10}"') >= 2
