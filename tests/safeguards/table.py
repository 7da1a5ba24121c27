"""The safeguards: where each stands, how it is switched off, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Safeguard:
    """One safeguard. `off` is the text in the file that holds it, `on` what stands there when it is switched off."""

    name: str
    row: str  #: the requirement it serves
    file: str
    off: str
    on: str
    tests: tuple[str, ...]


STORE = "daemon/oo_daemon/store"
CONNECTIONS = "daemon/oo_daemon/connections"
VAULT = "vault/oo_vault"

SAFEGUARDS: tuple[Safeguard, ...] = (
    Safeguard(
        "a commit reaches the disk (synchronous=FULL)",
        "A3",
        f"{STORE}/database.py",
        '"synchronous": 2,',
        '"synchronous": 1,',
        ("tests/faults/test_crash.py::test_power_cuts_lose_nothing",),
    ),
)
