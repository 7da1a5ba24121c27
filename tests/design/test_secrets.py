"""Where secrets are compared: in constant time, in few places that everybody knows (A7)."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = {
    "daemon/oo_daemon/connections/connect.py",
    "daemon/oo_daemon/connections/verify.py",
    "daemon/oo_daemon/identity/sign_in.py",
    "daemon/oo_daemon/ingress/console/door.py",
    "daemon/oo_daemon/ingress/person.py",
    "daemon/oo_daemon/ingress/tokens.py",
    "vault/oo_vault/box.py",
    "vault/oo_vault/recovery.py",
    "vault/oo_vault/secret.py",
}


@pytest.mark.rows("A7")
def test_where_secrets_are_compared() -> None:
    """`compare_digest` is met where secrets are compared, and nowhere else."""
    sources = [path for folder in ("daemon", "vault") for path in (ROOT / folder).rglob("*.py")]
    assert {path.relative_to(ROOT).as_posix() for path in sources if "compare_digest(" in path.read_text()} == PLACES
