"""`oo sandbox`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import tomllib
import urllib.request
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from aiohttp import web
from daemon.cli.conftest import Oo

from oo_daemon import registry
from oo_daemon.cli import sandbox as module
from oo_daemon.registry import Registry

BOUND = 30


class Acme:
    """A stand-in for a provider that does not exist."""

    id = "acme"
    title = "Acme"
    client_id = "a1"
    client_secret = "worthless"
    switches: Mapping[str, str] = MappingProxyType({"slow": "takes its time", "odd": "answers oddly"})

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.switched: list[str] = []

    def settings(self, address: str) -> dict[str, str]:
        """Say where the connector finds it."""
        return {"api": f"{address}/api", "quoted": 'a"b\\c'}

    def app(self, address: str) -> web.Application:
        """Take switches."""

        async def misbehave(request: web.Request) -> web.Response:
            self.switched.append((await request.json())["name"])
            return web.Response(status=self.status)

        app = web.Application()
        app.add_routes([web.post("/sandbox/misbehave", misbehave)])
        return app


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> Acme:
    """Let a plugin bring the stand-in, and end the serving as soon as everything was told."""
    stand_in = Acme()
    monkeypatch.setattr(registry, "discover", lambda **settings: Registry(plugins=(), sandboxes={"acme": stand_in}))
    return stand_in


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C once everything was told."""
    tell = module._tell

    def and_stop(*arguments: Any, **named: Any) -> None:
        tell(*arguments, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_tell", and_stop)


@pytest.mark.usefixtures("stopped")
def test_what_to_paste(acme: Acme, oo: Oo) -> None:
    """The address, the client and the settings to paste are shown; the settings are TOML."""
    result = oo("sandbox", "acme", "--port", "0")
    assert result.exit_code == 130
    lines = result.stdout.splitlines()
    address = lines[2].strip()
    assert lines[0] == "A stand-in for Acme answers at this address until Ctrl-C:"
    assert lines[4:6] == ["Client id      a1", "Client secret  worthless (good for nothing but this sandbox)"]
    assert tomllib.loads("\n".join(lines[9:])) == {"connectors": {"acme": {"api": f"{address}/api", "quoted": 'a"b\\c'}}}


@pytest.mark.usefixtures("stopped")
def test_json(acme: Acme, oo: Oo) -> None:
    """--json gives the same on one line."""
    said = json.loads(oo("sandbox", "acme", "--port", "0", "--json").stdout)
    assert said.keys() == {"id", "address", "client_id", "client_secret", "settings"}
    assert said["settings"]["api"] == f"{said['address']}/api"


@pytest.mark.usefixtures("stopped")
def test_a_hyphen(acme: Acme, monkeypatch: pytest.MonkeyPatch, oo: Oo) -> None:
    """A hyphen in the name stands for the underscore that ids have."""
    monkeypatch.setattr(registry, "discover", lambda **settings: Registry(plugins=(), sandboxes={"acme_notes": acme}))
    for name in ("acme-notes", "acme_notes"):
        assert "A stand-in for Acme" in oo("sandbox", name, "--port", "0").stdout
    assert oo("sandbox", "acme notes", "--port", "0").exit_code == 1


@pytest.mark.usefixtures("stopped")
def test_misbehave(acme: Acme, oo: Oo) -> None:
    """Each switch is turned on before the address is told."""
    oo("sandbox", "acme", "--port", "0", "--misbehave", "slow", "--misbehave", "odd")
    assert acme.switched == ["slow", "odd"]
    acme.status = 400
    result = oo("sandbox", "acme", "--port", "0", "--misbehave", "slow")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "did not take the switch slow" in result.stderr


def test_unknown_names(acme: Acme, oo: Oo) -> None:
    """An unknown switch lists those there are, an unknown sandbox too."""
    result = oo("sandbox", "acme", "--misbehave", "none")
    assert result.exit_code == 2
    assert "  slow: takes its time\n  odd: answers oddly" in result.stderr
    result = oo("sandbox", "nowhere")
    assert (result.exit_code, result.stderr) == (1, "Error: no plugin brings a sandbox for nowhere: choose one of acme\n")


def test_a_taken_port(acme: Acme, oo: Oo) -> None:
    """A port that somebody has is said, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = oo("sandbox", "acme", "--port", str(port))
    assert result.exit_code == 1
    assert f"port {port} cannot be had (Address already in use): name another with --port" in result.stderr


async def test_it_answers(acme: Acme) -> None:
    """While it is served, the stand-in answers over HTTP, and its door is closed at the end."""
    door = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(module._serve(acme, door, (), as_json=True))
    address = f"http://127.0.0.1:{door.getsockname()[1]}/sandbox/misbehave"
    request = urllib.request.Request(address, data=b'{"name": "slow"}', headers={"Content-Type": "application/json"})
    async with asyncio.timeout(BOUND):
        while not acme.switched:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(urllib.request.urlopen, request, timeout=5)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


def test_ours(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """The sandbox that oO brings is served by a real process until Ctrl-C."""
    if "todoist" not in registry.discover().sandboxes:
        pytest.skip("the Todoist plugin offers no sandbox yet")
    process = start("sandbox", "todoist", "--port", "0", "--json")
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    with urllib.request.urlopen(said["address"], timeout=BOUND) as front:
        assert front.status == 200
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=BOUND) == (b"", b"")
    assert process.returncode == 130
