"""The alert rules, judged by Prometheus' own promtool: each fires when it should, not before, and not where all is well."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "docs/operations/alerts.yaml"
PROMTOOL = ROOT / "build/promtool/promtool"
RULES = {rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}
GIB = 1024**3

pytestmark = pytest.mark.skipif(not PROMTOOL.exists(), reason="NO promtool HERE: `make setup` says why")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured (in promtool's short-hand: start+stepxtimes), each minute or hour, and what comes of it."""

    sick: Mapping[str, str]
    well: Mapping[str, str]
    quiet: int  #: minutes or hours after which it does not fire yet
    fires: int  #: those after which it does
    labels: Mapping[str, str] = field(default_factory=dict)
    every: Literal["1m", "1h"] = "1m"


def one(name: str, sick: str, well: str, quiet: int, fires: int, **labels: str) -> Case:
    """A rule about one series."""
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    series = f"oo_integrations_{name}{{{inside}}}"
    return Case(sick={series: sick}, well={series: well}, quiet=quiet, fires=fires, labels=labels)


def hourly(case: Case) -> Case:
    """The same, measured in hours."""
    return replace(case, every="1h")


def slow(name: str, bound: str, quiet: int, fires: int) -> Case:
    """A rule about a histogram: one in twenty is above `bound`, or none is."""
    bucket = f"oo_integrations_{name}_bucket"
    counted = {f'{bucket}{{le="{bound}"}}': "0+95x60", f'{bucket}{{le="60.0"}}': "0+100x60", f'{bucket}{{le="+Inf"}}': "0+100x60"}
    return Case(sick=counted, well=dict.fromkeys(counted, "0+100x60"), quiet=quiet, fires=fires)


def parts(name: str, bad: str, good: str, quiet: int, fires: int) -> Case:
    """A rule about the share of what does not end well."""

    def counted(wrong: int) -> dict[str, str]:
        ends = {bad: wrong, good: 10 - wrong}
        return {f'oo_integrations_{name}{{provider="acme",outcome="{end}"}}': f"0+{many}x180" for end, many in ends.items()}

    return Case(sick=counted(6), well=counted(1), quiet=quiet, fires=fires, labels={"provider": "acme"})


def first(name: str, quiet: int, fires: int, **labels: str) -> Case:
    """A rule about a counter that is not there before it counts for the first time."""
    return one(name, "_x30 1x100", "_x60", quiet, fires, **labels)


CASES = {
    "OODown": Case(
        sick={'up{job="oo-integrations"}': "0x10"},
        well={'up{job="oo-integrations"}': "1x10"},
        quiet=1,
        fires=2,
        labels={"job": "oo-integrations"},
    ),
    "OODatabaseDamaged": one("database_well", "1x4 0x10", "1x20", 4, 5),
    "OODiskLow": one("disk_free_bytes", f"{GIB // 2}x20", f"{20 * GIB}x20", 4, 5),
    "OOBackupOld": hourly(one("backup_age_seconds", "0+3600x30", "0 3600 0 3600 0 3600", 26, 27)),
    "OOWalLarge": one("wal_bytes", f"{GIB // 8}x20", f"{GIB // 32}x20", 4, 5),
    "OOInboxOld": one("inbox_oldest_seconds", "0+60x30", "0 10 0 20 0", 10, 11),
    "OOConsumerBehind": one("consumer_lag", "10+1x60", "600-10x60", 15, 17, consumer="billing"),
    "OOConsumerLoses": one("consumer_oldest_seconds", f"{15 * 86400 - 120}+60x20", "0x20", 2, 3, consumer="billing"),
    "OOConsumerLate": one("consumer_oldest_seconds", "0+60x30", "0x30", 5, 6, consumer="billing"),
    "OOSyncStale": hourly(one("sync_stalest_seconds", "0+3600x9", "0+3600x5", 6, 7, provider="acme")),
    "OOSignInsNeeded": Case(
        sick={'oo_integrations_connections{provider="acme",state="needs_sign_in"}': "2x30"},
        well={'oo_integrations_connections{provider="acme",state="active"}': "2x30"},
        quiet=23,
        fires=24,
        labels={"provider": "acme"},
        every="1h",
    ),
    "OOSyncsFail": parts("syncs_total", "failed", "done", 15, 17),
    "OOSubscriptionsFail": first("subscription_failures_total", 44, 45, provider="acme"),
    "OOWebhooksRefused": one("webhooks_total", "0+120x60", "0+30x60", 15, 30, provider="acme", outcome="refused"),
    "OOSlowDisk": slow("commit_seconds", "0.5", 10, 12),
    "OOLoopLate": slow("loop_lag_seconds", "0.5", 10, 12),
    "OOWebhooksSlow": slow("webhook_seconds", "2.5", 10, 12),
    "OODeliveriesDead": first("deliveries_total", 29, 30, provider="acme", outcome="dead"),
    "OODeadLetters": first("dead_letters_total", 29, 30, consumer="sink:billing"),
    "OORefreshesFail": parts("refreshes_total", "grant_dead", "renewed", 15, 17),
    "OOProviderAway": one("breaker_open", "1x60", "0x60", 29, 30, provider="acme"),
    "OOBudgetSpent": one("budget_left_ratio", "0x90", "0.1x90", 59, 60, provider="acme", kind="app"),
    "OOErasureLate": hourly(one("erasures_oldest_seconds", "0+3600x40", "0x40", 36, 37)),
    "OOPluginStrikes": one("plugin_strikes", "0 1x10", "0x10", 0, 1, plugin="acme"),
    "OODied": first("leases_rescued_total", 29, 30, kind="sync"),
}


def judged(folder: Path, *tests: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """What promtool says of tests that all have the same interval."""
    file = folder / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": tests[0]["interval"], "tests": list(tests)}))
    return subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True, check=False, timeout=60)


def look(
    alert: str, series: Mapping[str, str], looks: Mapping[int, bool], labels: Mapping[str, str], every: Literal["1m", "1h"] = "1m"
) -> dict[str, Any]:
    """In promtool's words: at these times it fires, or does not."""
    expected = {"exp_labels": dict(labels), "exp_annotations": RULES[alert]["annotations"]}
    return {
        "interval": every,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{number}{every[1]}", "alertname": alert, "exp_alerts": [expected] if fires else []}
            for number, fires in looks.items()
        ],
    }


@pytest.mark.rows("H5", "H6")
def test_the_rules_are_well_formed() -> None:
    """Prometheus reads all of them."""
    done = subprocess.run([PROMTOOL, "check", "rules", "--lint-fatal", ALERTS], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CASES)} rules found" in done.stdout


@pytest.mark.rows("H6")
def test_each_rule_fires_when_it_should(tmp_path: Path) -> None:
    """In its time and not before it, with its labels and its words; and never where all is well."""
    assert CASES.keys() == RULES.keys()
    for every in ("1m", "1h"):
        cases = {alert: case for alert, case in CASES.items() if case.every == every}
        tests = [look(alert, case.sick, {case.quiet: False, case.fires: True}, case.labels, case.every) for alert, case in cases.items()]
        tests += [look(alert, case.well, {case.fires: False}, {}, case.every) for alert, case in cases.items()]
        done = judged(tmp_path, *tests)
        assert done.returncode == 0, done.stdout + done.stderr


def test_old_news_is_none(tmp_path: Path) -> None:
    """What was counted once fires for an hour, and what is counted again fires again."""
    series = {'oo_integrations_dead_letters_total{consumer="billing"}': "_x30 1x119 2x120"}
    looks = {30: True, 89: True, 95: False, 149: False, 155: True, 250: False}
    done = judged(tmp_path, look("OODeadLetters", series, looks, {"consumer": "billing"}))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_judge_would_notice(tmp_path: Path) -> None:
    """A rule that does not fire is red."""
    done = judged(tmp_path, look("OODown", {'up{job="oo-integrations"}': "1x10"}, {5: True}, {"job": "oo-integrations"}))
    assert done.returncode == 1
    assert "OODown" in json.dumps(done.stdout + done.stderr)
