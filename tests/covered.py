"""Holds the branches that the tests took against what was promised: `make coverage`.

The argument is the JSON that coverage.py writes. A branch that no test takes is a decision that nobody has seen being made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

#: Where a mistake loses or doubles something, or gives a credential away → the least part of branches in percent.
ROOMS = {
    "the vault": ("vault/oo_vault/",),
    "the store: inbox, outbox, leases": ("daemon/oo_daemon/store/",),
    "reading the outbox": ("daemon/oo_daemon/outbox/",),
    "runs, intake and jobs": ("daemon/oo_daemon/sync/",),
    "erasures": ("daemon/oo_daemon/privacy/",),
}
LEAST, LEAST_OF_ALL = 95.0, 85.0


def share(files: dict[str, Any], *prefixes: str) -> tuple[int, int]:
    """Branches taken, and branches there are, in files that begin so."""
    found = [file["summary"] for name, file in files.items() if name.startswith(prefixes)]
    return sum(file["covered_branches"] for file in found), sum(file["num_branches"] for file in found)


def main(path: str) -> int:
    """Print the table; 1 when a room falls short."""
    files = json.loads(Path(path).read_text())["files"]
    short = 0
    for name, prefixes, least in [*((name, prefixes, LEAST) for name, prefixes in ROOMS.items()), ("everything", ("",), LEAST_OF_ALL)]:
        taken, there = share(files, *prefixes)
        percent = 100 * taken / there if there else 0.0
        short += percent < least
        print(
            f"{name:<34}  {taken:>5} of {there:>5} branches  {percent:5.1f} %  at least {least:.0f} %{'  SHORT' if percent < least else ''}"
        )
    taken, there = share(files, "")
    print(f"coverage: {taken} of {there} branches, {short} of {len(ROOMS) + 1} rooms fall short")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
