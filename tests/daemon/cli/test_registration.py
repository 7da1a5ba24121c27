"""`oo registration`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from client.fake_daemon import FakeDaemon, registration
from daemon.cli.conftest import Oo

SECRET = "s3cret-canary"
ADD = ("registration", "add", "todoist", "--client-id", "a1b2c3")


def test_a_secret_from_standard_input(daemon: FakeDaemon, oo: Oo) -> None:
    """A piped secret reaches the daemon and no output, and the redirect address is shown to copy."""
    result = oo(*ADD, "--secret-file", "-", input=f"{SECRET}\n")
    assert (
        result.output
        == """\
Registration todoist is kept. Enter this redirect address at todoist:

  http://127.0.0.1:8710/oauth/todoist/callback

Where the provider can push changes, enter this webhook address:

  http://127.0.0.1:8710/webhooks/todoist-token
"""
    )
    assert daemon.asked("POST /v1/registrations")[0].body["client_secrets"] == [SECRET]


def test_secrets_from_a_file(daemon: FakeDaemon, oo: Oo, tmp_path: Path) -> None:
    """A file may hold several secrets, newest first; blank lines are nothing."""
    (tmp_path / "secrets").write_text(f"\n{SECRET}\nold\n\n")
    assert oo(*ADD, "--secret-file", str(tmp_path / "secrets"), "--id", "mine", "--quiet").output == "mine\n"
    assert daemon.asked("POST /v1/registrations")[0].body["client_secrets"] == [SECRET, "old"]


def test_a_public_client(daemon: FakeDaemon, oo: Oo) -> None:
    """A client without a secret is not asked for one."""
    assert json.loads(oo(*ADD, "--public-client", "--json").stdout)["secrets"] == 0
    assert oo(*ADD, "--public-client", "--secret-file", "-").exit_code == 2


def test_no_terminal_to_ask_at(daemon: FakeDaemon, oo: Oo) -> None:
    """Without a terminal nothing is asked; the command says how to give the secret."""
    result = oo(*ADD, input=SECRET)
    assert result.exit_code == 2
    assert "give --secret-file FILE, or - to pipe it in" in result.stderr
    assert daemon.exchanges == []


@pytest.mark.parametrize("arguments", [("--secret-file", SECRET), ("--secret-file", "."), ("--secret", SECRET), (f"--secret={SECRET}",)])
def test_a_secret_on_the_command_line_is_neither_taken_nor_repeated(oo: Oo, arguments: tuple[str, ...]) -> None:
    """No option takes a secret, and one pasted in the wrong place is not shown again."""
    result = oo(*ADD, *arguments)
    assert result.exit_code in (1, 2)
    assert SECRET not in result.output


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_a_file_without_a_secret(oo: Oo, tmp_path: Path, content: bytes) -> None:
    """An empty file and one that is not text are refused before anything is sent."""
    (tmp_path / "secret").write_bytes(content)
    result = oo(*ADD, "--secret-file", str(tmp_path / "secret"))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the" if content.startswith(b"\xff") else "Error: there is no secret")


def test_an_id_of_another_provider(daemon: FakeDaemon, oo: Oo) -> None:
    """The daemon's refusal is shown, and not the secret."""
    daemon.registrations = [registration(provider="google_calendar")]
    result = oo(*ADD, "--id", "todoist", "--secret-file", "-", input=SECRET)
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: There is a registration todoist with another provider. Choose another id.\n",
    )
    assert SECRET not in result.output


def test_list(daemon: FakeDaemon, oo: Oo) -> None:
    """Registrations are a table with the number of their secrets, never the secrets."""
    deaf = {"webhook_url": None, "webhook_secrets": 0}
    daemon.registrations = [registration(), registration(id="gc", provider="google_calendar", client_id="x" * 40, secrets=2, **deaf)]
    assert (
        oo("registration", "list").output
        == """\
Registration  Provider         Client id     Redirect address                              Secrets  Added (UTC)
todoist       todoist          a1b2c3        http://127.0.0.1:8710/oauth/todoist/callback        1  2026-11-22 09:30:00
gc            google_calendar  xxxxxxxxxxx…  http://127.0.0.1:8710/oauth/gc/callback             2  2026-11-22 09:30:00

Webhooks of todoist  http://127.0.0.1:8710/webhooks/todoist-token
"""
    )
    assert json.loads(oo("registration", "list", "--json").stdout) == {"registrations": daemon.registrations}


def test_none_yet(daemon: FakeDaemon, oo: Oo) -> None:
    """An empty list says how to add one."""
    assert oo("registration", "list").output == ("No client is registered yet. `oo registration add PROVIDER --client-id ID` adds one.\n")


def test_webhook_secrets_from_a_file(daemon: FakeDaemon, oo: Oo, tmp_path: Path) -> None:
    """What webhooks are signed with is read like a client secret, and is not sent where no file was named."""
    (tmp_path / "hooks").write_text(f"{SECRET}\nold\n")
    assert oo(*ADD, "--public-client", "--webhook-secret-file", str(tmp_path / "hooks")).exit_code == 0
    assert oo(*ADD, "--public-client").exit_code == 0
    first, second = daemon.asked("POST /v1/registrations")
    assert first.body["webhook_secrets"] == [SECRET, "old"]
    assert "webhook_secrets" not in second.body
    assert oo(*ADD, "--secret-file", "-", "--webhook-secret-file", "-").exit_code == 2


def test_a_source_that_refuses_everything_says_why(daemon: FakeDaemon, oo: Oo) -> None:
    """Whoever lists the registrations sees which webhooks are refused, and why."""
    daemon.registrations = [registration(webhook_reason="there is no webhook secret")]
    assert "/webhooks/todoist-token (all refused: there is no webhook secret)" in oo("registration", "list").output
