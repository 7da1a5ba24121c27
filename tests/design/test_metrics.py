"""Every measurement is declared, and every declaration is measured (H5)."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from oo_daemon.ops import metrics

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations"
ROOT = Path(__file__).parents[2] / "daemon" / "oo_daemon"
DECLARED = {"count": metrics.COUNTERS, "gauge": metrics.GAUGES, "observe": metrics.HISTOGRAMS}
#: Closed sets: what may stand in a label. Never a user, a connection or a text that came from outside.
LABELS = {"provider", "outcome", "state", "kind", "revoked", "sink", "consumer", "plugin"}


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """(verb, name, labels) of each call of the port."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=owner, attr=verb), args=[ast.Constant(value=str(name)), *_], keywords=keywords):
                    if verb in DECLARED and ast.unparse(owner).split(".")[-1] in {"metrics", "_metrics"}:
                        yield verb, name, {keyword.arg or "**" for keyword in keywords} - {"by"}
                case ast.Call(func=ast.Name(id="gauge"), args=[ast.Constant(value=str(name)), *_], keywords=keywords):
                    yield "gauge", name, {keyword.arg or "**" for keyword in keywords}


def test_what_is_measured_is_declared() -> None:
    """A name that nobody declared would not be shown, and one that nobody measures would show nothing."""
    assert {(verb, name) for verb, name, _ in calls()} == {(verb, name) for verb, names in DECLARED.items() for name in names}


@pytest.mark.rows("H5", "F15")
def test_labels_come_from_closed_sets() -> None:
    """Users add no series, and no number says anything of a person."""
    assert {label for _, _, labels in calls() for label in labels} <= LABELS


@pytest.mark.parametrize("name", [*metrics.COUNTERS, *metrics.GAUGES, *metrics.HISTOGRAMS])
def test_names_are_in_base_units(name: str) -> None:
    """Seconds and bytes, not milliseconds or megabytes; `_total` is added by itself."""
    assert not name.endswith(("_ms", "_millis", "_mb", "_mib", "_kb", "_minutes", "_total"))


def exported() -> set[str]:
    """Every name that Prometheus can read."""
    counters = {f"{name}_total" for name in metrics.COUNTERS}
    histograms = {f"{name}_{part}" for name in metrics.HISTOGRAMS for part in ("bucket", "sum", "count")}
    return {metrics.PREFIX + name for name in counters | set(metrics.GAUGES) | histograms}


@pytest.mark.rows("H6")
def test_alerts_and_dashboard_name_what_is_exported() -> None:
    """A rule or a panel over a name that does not exist would never say anything."""
    rules = [rule for group in yaml.safe_load((OPERATIONS / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    panels = json.loads((OPERATIONS / "dashboard.json").read_text())["panels"]
    asked = [rule["expr"] for rule in rules] + [target["expr"] for panel in panels for target in panel["targets"]]
    for expression in asked:
        assert set(re.findall(rf"{metrics.PREFIX}\w+", expression)) <= exported(), expression
    assert all({"summary", "action"} <= rule["annotations"].keys() for rule in rules)
