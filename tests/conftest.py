"""What all tests share: the ledger of seconds for each requirement.

A test names the requirements it proves with `@pytest.mark.rows("A1", "A3")`; the run ends with what each of them cost.
"""

from collections import defaultdict
from collections.abc import Iterator

import pytest

_SECONDS: pytest.StashKey[dict[str, float]] = pytest.StashKey()
_TESTS: pytest.StashKey[dict[str, int]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "rows(*ids): the requirements that a test proves")
    config.stash[_SECONDS] = defaultdict(float)
    config.stash[_TESTS] = defaultdict(int)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Book a test's seconds, set-up and clean-up included, under its requirements in equal parts."""
    for marker in item.iter_markers("rows"):
        for row in marker.args:
            item.config.stash[_SECONDS][row] += call.duration / len(marker.args)
            item.config.stash[_TESTS][row] += call.when == "call"
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the ledger."""
    seconds, tests = config.stash[_SECONDS], config.stash[_TESTS]
    if not seconds:
        return
    terminalreporter.section("seconds for each requirement")
    for row in sorted(seconds, key=lambda row: (row[0], int(row[1:]))):
        terminalreporter.write_line(f"{row:>4}  {seconds[row]:7.1f} s  {tests[row]:4} tests")
