"""What a benchmark found: on the terminal, as JSON, and beside what an earlier run found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Results

from oo_daemon.cli import terminal
from oo_daemon.cli.terminal import Column


def as_json(results: Results, machine: Mapping[str, str]) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "benchmark": results.benchmark,
        "title": results.title,
        "machine": dict(machine),
        "settings": dict(results.settings),
        "figures": {side: {name: asdict(figure) for name, figure in figures.items()} for side, figures in results.figures.items()},
        "missing": results.missing,
        "ratios": {
            aim.name: {"measured": aim.measured, "aim": aim.aim, "better": aim.better, "met": aim.met, "stable": aim.stable}
            for aim in results.aims
        },
    }


def show(results: Results) -> None:
    """For people."""
    terminal.show_title(f"{results.benchmark}: {results.title}")
    terminal.show_fields((name, str(value)) for name, value in results.settings.items())
    columns = [Column(title="side"), Column(title="figure"), *(Column(title=title, number=True) for title in ("median", "min", "max"))]
    rows = [
        [side if place == 0 else "", name, *map(_short, (figure.median, figure.min, figure.max))]
        for side, figures in results.figures.items()
        for place, (name, figure) in enumerate(figures.items())
    ]
    if rows:
        terminal.show("")
        terminal.show_table(columns, rows)
    for side, why in results.missing.items():
        terminal.show(f"MISSING  {side}: {why}")
    if results.aims:
        terminal.show("")
        columns = [Column(title="aim"), Column(title="measured", number=True), Column(title="wanted", number=True), Column(title="")]
        sign = {"more": "≥", "less": "≤"}
        terminal.show_table(
            columns,
            [
                [aim.name, _short(aim.measured), f"{sign[aim.better]} {_short(aim.aim)}", "met" if aim.met else "SHORT"]
                for aim in results.aims
            ],
        )
    terminal.show("")


@dataclass(frozen=True, slots=True)
class Ran:
    """How one benchmark of several ended."""

    name: str
    results: Results | None  #: None where it failed
    seconds: float
    failed: str = ""


def show_all(ran: Sequence[Ran]) -> None:
    """What all of them came to, a line each."""
    terminal.show_title("all of them")
    columns = [
        Column(title="benchmark"),
        *(Column(title=title, number=True) for title in ("minutes", "aims met", "short")),
        Column(title=""),
    ]
    rows = []
    for each in ran:
        aims = each.results.aims if each.results else []
        met = sum(aim.met for aim in aims)
        missing = f"missing: {', '.join(each.results.missing)}" if each.results and each.results.missing else ""
        rows.append([each.name, f"{each.seconds / 60:.1f}", str(met), str(len(aims) - met), each.failed or missing])
    rows.append(["", f"{sum(each.seconds for each in ran) / 60:.1f}", "", "", ""])
    terminal.show_table(columns, rows)


def show_machine(machine: Mapping[str, str]) -> None:
    """On what it was measured."""
    terminal.show_fields(machine.items())
    terminal.show("")


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Before and after, figure by figure."""
    rows = []
    for side, figures in new["figures"].items():
        for name, figure in figures.items():
            before = old["figures"].get(side, {}).get(name)
            if before is not None:
                times = figure["median"] / before["median"] if before["median"] else 0.0
                rows.append([side, name, _short(before["median"]), _short(figure["median"]), f"{times:.2f}×"])
    for name, ratio in new["ratios"].items():
        before = old["ratios"].get(name)
        if before is not None:
            word = "met" if ratio["met"] else "SHORT"
            rows.append(["aim", name, _short(before["measured"]), _short(ratio["measured"]), word])
    columns = [Column(title="side"), Column(title="figure"), *(Column(title=title, number=True) for title in ("before", "after", ""))]
    terminal.show_table(columns, rows)


def read(path: Path) -> dict[str, Any]:
    """An earlier run."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _short(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u2009")
    return f"{value:.3g}"
