"""`oo token`."""

from __future__ import annotations

import json

from client.fake_daemon import FakeDaemon, token
from daemon.cli.conftest import Oo


def test_create(daemon: FakeDaemon, oo: Oo) -> None:
    """The token alone goes to standard output; what there is to say about it goes beside."""
    result = oo("token", "create", "backend", "--scope", "read", "--scope", "connect", "--days", "30")
    assert result.stdout == "oot_s3cret\n"
    assert "not shown again" in result.stderr
    assert "set private.port" in result.stderr
    (asked,) = daemon.asked("POST /v1/tokens")
    assert asked.body == {"name": "backend", "scopes": ["read", "connect"], "life": 30 * 86_400}
    assert "set private.port" not in oo("token", "create", "other", "--scope", "read", OO_PRIVATE_PORT="8711").stderr
    assert oo("token", "create", "third", "--scope", "act", "--quiet").output == "oot_s3cret\n"
    assert json.loads(oo("token", "create", "fourth", "--scope", "admin", "--json").stdout)["token"] == "oot_s3cret"


def test_a_token_allows_something(oo: Oo) -> None:
    """A token without a scope, with an unknown one, or for no time, is a usage error."""
    for arguments in ([], ["--scope", "write"], ["--scope", "read", "--days", "0"]):
        assert oo("token", "create", "backend", *arguments).exit_code == 2


def test_a_name_that_is_taken(daemon: FakeDaemon, oo: Oo) -> None:
    """A refusal is a sentence, a remedy and an exit code."""
    daemon.tokens = [token()]
    result = oo("token", "create", "backend", "--scope", "read")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Revoke it first." in result.stderr


def test_list_and_revoke(daemon: FakeDaemon, oo: Oo) -> None:
    """Tokens are listed with scopes and last use, and one can be revoked by name."""
    daemon.tokens = [token(), token(name="phone", scopes=["read", "act"], last_used_at="2026-11-22T09:31:00Z")]
    lines = oo("token", "list").output.splitlines()
    assert lines[1].split() == ["backend", "read", "2026-11-22", "09:30:00", "never", "never"]
    assert lines[2].split()[-2:] == ["2026-11-22", "09:31:00"]
    assert oo("token", "revoke", "phone").output == "Revoked: phone\n"
    assert json.loads(oo("token", "list", "--json").stdout) == {"tokens": [token()]}
    assert oo("token", "revoke", "phone").exit_code == 1
    oo("token", "revoke", "backend")
    assert "oo token create" in oo("token", "list").output
