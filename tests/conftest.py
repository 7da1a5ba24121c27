"""What all tests share: the ledger of seconds for each requirement.

A test names the requirements it proves with `@pytest.mark.rows("A1", "A3")`; the run ends with what each of them cost.
"""

import os
import signal
from collections import defaultdict

import pytest
from hypothesis import settings

# How long one example takes says nothing on a busy machine, or while branches are counted; pytest's own time-out ends what hangs.
settings.register_profile("oo", deadline=None)
settings.load_profile("oo")

#: How many times as long as it says each test may take: counting branches makes them slow.
PATIENCE = float(os.environ.get("OO_TEST_PATIENCE", "1"))


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and open the ledger."""
    os.environ.pop("COLUMNS", None)  # how wide somebody's terminal is changes no test
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it runs in the background; children would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "rows(*ids): the requirements that a test proves")
    config.pluginmanager.register(Ledger(), "ledger")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Send the requirements along with each test's report, which may come from another process; and give each test its time."""
    for item in items:
        item.user_properties += [("row", row) for marker in item.iter_markers("rows") for row in marker.args]
        if PATIENCE != 1:
            marker = item.get_closest_marker("timeout")
            limit = float(item.config.getini("timeout") if marker is None else marker.args[0])
            item.add_marker(pytest.mark.timeout(limit * PATIENCE), append=False)


class Ledger:
    """Books a test's seconds, set-up and clean-up included, under its requirements in equal parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.tests: dict[str, int] = defaultdict(int)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        rows = [str(value) for name, value in report.user_properties if name == "row"]
        for row in rows:
            self.seconds[row] += report.duration / len(rows)
            self.tests[row] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the ledger."""
        if not self.seconds:
            return
        terminalreporter.section("seconds for each requirement")
        for row in sorted(self.seconds, key=lambda row: (row[0], int(row[1:]))):
            terminalreporter.write_line(f"{row:>4}  {self.seconds[row]:7.1f} s  {self.tests[row]:4} tests")
