"""`make audit`: is an advisory known for what users install? pip-audit asks PyPI; what it could not ask about is said, and is no verdict.

A host without the network, or with a mirror that has no advisories, is told so and not stopped: only what is known stops.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def judged(report: Mapping[str, Any] | None) -> tuple[int, list[str]]:
    """The exit code and what is said about a report of pip-audit; None: there is none."""
    found = report["dependencies"] if report else []
    known = [
        f"{each['name']} {each['version']}: {flaw['id']}, repaired in {' or '.join(flaw['fix_versions']) or 'no version yet'}"
        for each in found
        for flaw in each.get("vulns", [])
    ]
    asked = sum("vulns" in each for each in found)
    if asked < len(found) or not found:
        known.append(f"NOT AUDITED: {len(found) - asked or 'all'} of the packages; their advisories cannot be reached from here")
    known.append(f"{asked} packages audited")
    return int(any(each.get("vulns") for each in found)), known


def main(program: str, requirements: str) -> int:
    """Run it."""
    command = [program, "--format", "json", "--progress-spinner", "off", "--disable-pip", "--require-hashes", "--requirement", requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = None
    code, lines = judged(report)
    print("\n".join(lines), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
