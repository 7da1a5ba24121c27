"""`make bench`: run benchmarks, or hold a run against an earlier one.

python -m benchmarks.run [NAME…] [--size full|gate|tiny] [--out FOLDER] [--charts FOLDER]
python -m benchmarks.run --compare OLD.json
python -m benchmarks.run --gate
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks import chart, dispatch, imports, ingress, machine, outbox, report, scale, start, sync, vault
from benchmarks.harness import ROOT, Results
from benchmarks.report import Ran

#: How far a stable ratio may go over its ceiling in `gate.json`: wide enough for a noisy machine.
GATE = Path(__file__).with_name("gate.json")


class Benchmark(Protocol):
    """A module of this folder that measures something."""

    SIZES: Mapping[str, Any]
    bench: Callable[[Any, Callable[[str], None]], Results]


BENCHMARKS: Mapping[str, Any] = {
    "ingress": ingress,
    "sync": sync,
    "import": imports,
    "dispatch": dispatch,
    "vault": vault,
    "outbox": outbox,
    "scale": scale,
    "start": start,
}


def run(name: str, size: str, out: Path, charts: Path | None = None, tell: Callable[[str], None] = lambda text: None) -> Results:
    """Run one, and keep what it found."""
    facts = machine.described()
    module: Benchmark = BENCHMARKS[name]
    results: Results = module.bench(module.SIZES[size], tell)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(report.as_json(results, facts), indent=2, ensure_ascii=False) + "\n")
    if results.figures:
        for folder in filter(None, (out, charts)):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.svg").write_text(chart.drawn(results))
    return results


def every(names: Sequence[str], size: str, out: Path, charts: Path | None, tell: Callable[[str], None]) -> int:
    """Run some, one after the other; one that fails is said at the end, and the others are run all the same."""
    report.show_machine(machine.described())
    ran: list[Ran] = []
    for name in names:
        began, results, failed = time.monotonic(), None, ""
        try:
            results = run(name, size, out, charts, partial(_tell, tell, f"{len(ran) + 1} of {len(names)}, {name}"))
            report.show(results)
        except Exception as error:
            traceback.print_exc()
            failed = f"{type(error).__name__}: {error}"
        ran.append(Ran(name, results, time.monotonic() - began, failed))
    report.show_all(ran)
    return 1 if any(each.failed for each in ran) else 0


def _tell(tell: Callable[[str], None], where: str, text: str) -> None:
    tell(f"{where}: {text}")


def gate(out: Path, tell: Callable[[str], None]) -> int:
    """Run the small sizes and hold what depends on CPU alone against ceilings well above what was measured; a regression is an error."""
    ceilings: Mapping[str, Mapping[str, float]] = json.loads(GATE.read_text())
    worse = []
    for name, limits in ceilings.items():
        results = run(name, "gate", out, tell=tell)
        report.show(results)
        found = {aim.name: aim.measured for aim in results.aims}
        worse += [
            f"{name}: {aim} is {found[aim]:.2f}, and may be {limit}" if aim in found else f"{name}: {aim} was not measured"
            for aim, limit in limits.items()
            if aim not in found or found[aim] > limit
        ]
    for line in worse:
        print(line)
    print(f"{sum(map(len, ceilings.values())) - len(worse)} of {sum(map(len, ceilings.values()))} ratios within their ceilings")
    return 1 if worse else 0


def main() -> int:
    """As the command line says."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--size", default="full", choices=["full", "gate", "tiny"])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--charts", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--gate", action="store_true")
    given = parser.parse_args()

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if given.compare:
        old = report.read(given.compare)
        report.compare(old, report.read(given.out / f"{old['benchmark']}.json"))
        return 0
    if given.gate:
        return gate(ROOT / "build" / "bench-gate", tell)
    unknown = sorted(set(given.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}: choose from {', '.join(BENCHMARKS)}")
    return every(given.names or [*BENCHMARKS], given.size, given.out, given.charts, tell)


if __name__ == "__main__":
    sys.exit(main())
