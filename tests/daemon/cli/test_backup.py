"""`oo backup`: shows how far it is while it is made, and what there is."""

from __future__ import annotations

import json

import pytest
from client.fake_daemon import BACKUP, FakeDaemon
from daemon.cli.conftest import Oo

from oo_daemon.cli import terminal


@pytest.mark.rows("B16")
def test_how_far_it_is(daemon: FakeDaemon, oo: Oo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar has the bytes that the daemon tells, grows with them, never runs backwards, and ends full."""
    daemon.making = [(0, 500), (120, 500), (90, 500), (310, 500)]
    shown: list[int] = []
    totals: list[int] = []

    class Bar:
        def __init__(self, text: str, total: int, *, of_bytes: bool, quiet: bool) -> None:
            assert (of_bytes, quiet) == (True, False)
            totals.append(total)

        def __enter__(self) -> object:
            return lambda parts: shown.append(sum(shown[-1:]) + parts)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(terminal, "progress", Bar)
    said = oo("backup")
    assert (said.exit_code, said.output) == (0, f"Made and checked: {BACKUP['name']}.\n")
    assert (totals, shown) == ([500], [120, 310, 500])


def test_what_is_said(daemon: FakeDaemon, oo: Oo) -> None:
    """For programs it is JSON; quiet says nothing; the list has a row for each."""
    assert json.loads(oo("backup", "--json").output) == BACKUP
    assert oo("backup", "--quiet").output == ""
    assert BACKUP["name"] in oo("backup", "--list").output
