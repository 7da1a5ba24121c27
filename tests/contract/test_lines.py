"""How long our connectors are and what proves them, printed: what an author may expect to write."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from contract import test_guests
from contract.lines import code

PLUGINS = Path(__file__).parents[2] / "plugins"
#: A connector, the class of its contract test, and what else that test needs to answer in the provider's place.
GUESTS: Sequence[tuple[str, type, Sequence[Any]]] = (
    ("oo_google_calendar", test_guests.TestGoogleCalendar, (test_guests.Google, test_guests.google)),
    ("oo_todoist", test_guests.TestTodoist, (test_guests.TodoistTasks, test_guests.task)),
    ("oo_apple_health", test_guests.TestAppleHealth, ()),
    ("oo_webhook", test_guests.TestWebhook, ()),
)


def test_a_line_of_code() -> None:
    """Blanks, comments and docstrings are none; a text over several lines is as many."""
    assert code('"""Docstring\n\nof a file."""\n\n# comment\ndef a():\n    """One."""\n    return """x\ny"""  # more\n') == 3


@pytest.mark.parametrize(("guest", "contract", "provider"), GUESTS, ids=[guest for guest, *_ in GUESTS])
def test_how_long_they_are(guest: str, contract: type, provider: Sequence[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The connector, file by file without its sandbox, and the contract test; whoever lets them grow sees it here."""
    files = {path.name: code(path.read_text()) for path in sorted((PLUGINS / guest).glob("*.py")) if path.name != "__init__.py"}
    test, beside = code(inspect.getsource(contract)), sum(code(inspect.getsource(each)) for each in provider)
    parts = ", ".join(f"{name} {lines}" for name, lines in files.items())
    with capsys.disabled():
        print(f"\n{guest}: {sum(files.values())} lines of code ({parts}); contract test {test}, its provider {beside}")
    assert sum(files.values()) < 1200
    assert test <= 25
