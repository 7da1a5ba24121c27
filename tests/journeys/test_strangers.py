"""Strangers' packages: built, installed beside ours into an environment of their own, and run end to end by its real `oo`."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from journeys.acme import CLIENT, KEY, NAME, SECRET, WEBHOOK_SECRET, Acme, served

from oo_client import Client, Connection, Event, Refused
from oo_daemon.cli.stage import Browser, Stage, stage
from oo_daemon.cli.terminal import NotDone

ROOT = Path(__file__).parents[2]
STRANGERS = ROOT / "tests" / "strangers"
DISTRIBUTIONS = {"acme": "acme-oo", "broken_import": "broken-import", "duplicate_id": "duplicate-id", "raising_hook": "raising-hook"}
#: What is broken in other ways, each in a way of its own.
WRONG = {"malformed_id": "malformed-id", "other_sdk": "other-sdk"}
UV = Path(sys.executable).with_name("uv")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where oO and the strangers are installed, and the place at which the strangers look for Acme."""

    python: Path
    door: socket.socket

    def run(self, *arguments: str) -> str:
        """Run its Python to the end."""
        return run(self.python, *arguments)


def run(*command: str | Path) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(part) for part in command], cwd=STRANGERS, env=environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment with a wheel of ours, what it locks, and a wheel of each stranger."""
    folder = tmp_path_factory.mktemp("strangers")
    with socket.create_server(("127.0.0.1", 0)) as door:
        shutil.copytree(STRANGERS, folder / "sources")
        for path in (folder / "sources").rglob("*.py"):
            path.write_text(moved_here(path.read_text(), door.getsockname()[1]))

        def built(source: Path) -> None:
            run(
                UV,
                "build",
                "--quiet",
                "--wheel",
                "--no-build-isolation",
                "--python",
                sys.executable,
                "--out-dir",
                folder / "wheels",
                source,
            )

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(built, [ROOT, *(folder / "sources" / name for name in DISTRIBUTIONS | WRONG)]))
        python = folder / "env" / "bin" / "python"
        run(UV, "venv", "--quiet", "--python", sys.executable, folder / "env")
        run(UV, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", ROOT / "requirements/runtime.lock")
        run(UV, "pip", "install", "--quiet", "--python", python, "--no-deps", *sorted((folder / "wheels").glob("*.whl")))
        yield Environment(python=python, door=door)


def moved_here(text: str, port: int) -> str:
    """The same source, with Acme's two hosts on this machine: they stay two, as a connector's hosts are told apart by name."""
    text = text.replace("https://api.acme.example", f"http://127.0.0.1:{port}").replace("api.acme.example", f"127.0.0.1:{port}")
    return text.replace("https://acme.example", f"http://localhost:{port}")


@pytest.fixture
async def acme(environment: Environment) -> AsyncIterator[Acme]:
    """The provider, with three notes."""
    provider = Acme()
    for name in ("one", "two", "three"):
        provider.note(name, f"Note {name}")
    async with served(provider, environment.door.dup()):
        yield provider


@pytest.fixture
async def here(environment: Environment, tmp_path: Path) -> AsyncIterator[Stage]:
    """A folder with a key and settings, for the `oo` of that environment."""
    async with stage(tmp_path, python=environment.python) as made:
        made.settings["sync"] = {"interval": 3600}
        made.write_settings()
        await made.oo("vault", "init")
        yield made


async def plugins(here: Stage) -> dict[str, dict[str, Any]]:
    """What `oo plugins` tells, by id."""
    return {each["id"]: each for each in json.loads(await here.oo("plugins", "--json"))["plugins"]}


def test_strangers_know_the_sdk_only() -> None:
    """Of ours a stranger imports `oo_sdk`, and nothing else."""
    imported = {
        name.partition(".")[0]
        for path in STRANGERS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [it.name for it in getattr(node, "names", [])])
    }
    assert {name for name in imported if name.startswith("oo_")} == {"oo_sdk"}


async def test_nothing_runs_unasked(environment: Environment, here: Stage) -> None:
    """Installed but not enabled, a stranger's package is shown with what would enable it, and nothing of it is imported."""
    await here.start_daemon()
    found = await plugins(here)
    assert found["todoist"]["state"] == "loaded"
    for id_, distribution in [("acme_notes", "acme-oo"), ("acme_file", "acme-oo"), ("broken_import", "broken-import")]:
        assert (found[id_]["state"], found[id_]["distribution"]) == ("disabled", distribution)
        assert found[id_]["reason"] == f'add "{distribution}" to plugins.enabled to load it'
    look = (
        "import sys; from oo_daemon.registry import discover; discover({}); print(*[each for each in sys.modules if each.endswith('_oo')])"
    )
    assert environment.run("-c", look.format("")).split() == []
    assert environment.run("-c", look.format("enabled=['Acme.OO']")).split() == ["acme_oo"]


async def test_from_end_to_end(here: Stage, acme: Acme, capsys: pytest.CaptureFixture[str]) -> None:
    """A stranger's connectors sign people in, fetch, hear and give back; its sink is given every event; broken packages disturb nobody."""
    file = here.folder / "events.jsonl"
    here.settings["plugins"] = {"enabled": list((DISTRIBUTIONS | WRONG).values())}
    here.settings["sinks.acme_file"] = {"path": str(file)}
    here.write_settings()
    await here.start_daemon()

    await _broken_ones_are_set_aside(here)
    urls = await _registered(here)
    async with Client(here.socket) as client:
        notes, chat = await _connected(client, "acme_notes"), await _connected(client, "acme_chat")
        assert chat.label == "ada@acme.example"
        await _synced(client, notes, acme)
        await _heard(client, chat, acme, urls["acme_chat"])
        await _delivered(client, file)

        await here.processes["daemon"].stop()
        await here.start_daemon()
        acme.note("one", "Note one, after a restart")
        assert (await client.sync(notes.id, wait=20)).events == 1
        await _delivered(client, file)

        await _disconnected(here, client, notes, acme)
        await _delivered(client, file)
        await _by_key(here, client, acme)
        await _delivered(client, file)
        last = (await _events(client))[-1]
        assert last.type == "connection.disconnected"
        await _removed(client, chat, acme)

    for line in ("acme_notes", "acme_chat", "acme_lists", "acme_file"):
        assert line in await here.oo("plugins")
    with capsys.disabled():
        counts = {name: lines_of(name) for name in ("notes", "chat", "lists", "file")}
        print(f"\nA stranger's lines, without blank ones: {', '.join(f'{name}.py {count}' for name, count in counts.items())}", end=" ")
    assert counts["notes"] < 65


def lines_of(module: str) -> int:
    return sum(1 for line in (STRANGERS / "acme" / "acme_oo" / f"{module}.py").read_text().splitlines() if line.strip())


async def _broken_ones_are_set_aside(here: Stage) -> None:
    found = await plugins(here)
    assert {id_ for id_, each in found.items() if each["state"] == "quarantined"} == {
        "broken_import",
        "duplicate_id",
        "malformed_id",
        "other_sdk",
        "raising_hook",
    }
    assert "no_such_module_anywhere" in found["broken_import"]["reason"]
    assert "another connector with the id todoist" in found["duplicate_id"]["reason"]
    assert "'Not-An-Id' is no id for a connector" in found["malformed_id"]["reason"]
    assert "other-sdk needs oo-integrations>=99, and 0.1.0 is installed" in found["other_sdk"]["reason"]
    assert "wrong phase" in found["raising_hook"]["reason"]
    assert found["todoist"] | {"state": "loaded", "title": "Todoist", "distribution": "oo-integrations"} == found["todoist"]
    assert {found[id_]["state"] for id_ in ("acme_notes", "acme_chat", "acme_file")} == {"loaded"}


async def _registered(here: Stage) -> dict[str, str]:
    """Register our client at both; gives the webhook addresses."""
    hooks = here.folder / "webhook.secret"
    hooks.write_text(WEBHOOK_SECRET)
    urls = {}
    for provider, more in (("acme_notes", []), ("acme_chat", ["--webhook-secret-file", str(hooks)])):
        said = await here.oo(
            "registration", "add", provider, "--client-id", CLIENT, "--secret-file", "-", "--json", *more, given=f"{SECRET}\n"
        )
        urls[provider] = json.loads(said)["webhook_url"] or ""
    return urls


async def _connected(client: Client, provider: str) -> Connection:
    async with Browser() as browser:
        session = await client.connect(provider=provider, user="ada")
        await browser.open(session.url)
        await browser.press()
        await browser.press("answer", "yes")
        assert "is connected" in browser.page
    reached = await client.connect_progress(session.id, wait=5)
    assert reached.connection is not None
    return await client.connection(reached.connection)


async def _events(client: Client, **wanted: str) -> list[Event]:
    return [event async for event in client.events(follow=False, **wanted)]


async def _synced(client: Client, notes: Connection, acme: Acme) -> None:
    """First fetch, changes, a token that is refused, and a cursor that is forgotten."""

    async def told() -> list[tuple[str, str, str]]:
        events = await _events(client, type="acme_notes.note")
        return [(event.subject, event.change, (event.payload or {}).get("title", "")) for event in events]

    assert (await client.sync(notes.id, wait=20)).outcome == "done"
    first = [(name, "upserted", f"Note {name}") for name in ("one", "two", "three")]
    assert await told() == first
    assert (await client.connection(notes.id)).meta["cursor"] == {"cursor": "1-3"}
    acme.access.clear()
    acme.note("two", "Note two, again")
    acme.note("three", "", deleted=True)
    assert (await client.sync(notes.id, wait=20)).events == 2
    assert acme.asked["token refresh_token"] == 1
    changed = [*first, ("two", "upserted", "Note two, again"), ("three", "deleted", "")]
    assert await told() == changed
    acme.epoch = 2
    assert (await client.sync(notes.id, wait=20)).outcome == "later"  # 410: from the beginning, at once
    async with asyncio.timeout(20):
        while (await client.connection(notes.id)).meta["cursor"] != {"cursor": "2-5"}:
            await client.sync(notes.id, wait=1)
    assert (await told())[-1][:2] == ("three", "deleted")


async def _heard(client: Client, chat: Connection, acme: Acme, url: str) -> None:
    """A push becomes one event, however often it comes; a forged one becomes none."""
    assert await acme.push(url, "d-0", "forged", secret="not the secret") == 404
    assert await acme.push(url, "d-1", "hello") == 200
    assert await acme.push(url, "d-1", "hello") == 200
    assert await acme.push(url, "d-2", "good bye") == 200
    heard: list[Event] = []
    async with asyncio.timeout(20):
        async for event in client.events(type="acme_chat.message"):
            heard.append(event)
            if len(heard) == 2:
                break
    assert [(event.subject, event.change, event.connection) for event in heard] == [
        ("m-hello", "occurred", chat.id),
        ("m-good bye", "occurred", chat.id),
    ]
    assert heard[0].payload == {"@type": "type.googleapis.com/acme.chat.v1.Message", "text": "hello"}
    assert len(await _events(client, type="acme_chat.message")) == 2


async def _removed(client: Client, chat: Connection, acme: Acme) -> None:
    """The person removes our app at the provider, which says so: the same happens as if they had asked to be forgotten here."""
    (url,) = [each.webhook_url for each in await client.registrations() if each.id == "acme_chat"]
    assert await acme.remove_app(url or "") == 200
    async with asyncio.timeout(20):
        while not (found := await client.erasures()) or found[0].state != "done":
            await asyncio.sleep(0.02)
    (erasure,) = found
    assert (erasure.cause, erasure.kind, [part.connection for part in erasure.connections]) == ("withdrawn", "connection", [chat.id])
    assert [event.type for event in await _events(client) if event.connection == chat.id] == ["connection.erased"]
    assert await client.connections(provider="acme_chat") == ()


async def _delivered(client: Client, file: Path) -> None:
    """The sink has been given what the outbox holds, in its order, once each."""
    async with asyncio.timeout(20):
        while (sink := await _sink(client))["lag"]:
            await asyncio.sleep(0.02)
    assert (sink["state"], sink["reason"]) == ("running", "")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    events = await _events(client)
    assert [line["id"] for line in lines] == [event.id for event in events]
    assert [line["type"] for line in lines] == [event.type for event in events]


async def _sink(client: Client) -> dict[str, Any]:
    (sink,) = await client.sinks()
    return {"id": sink.kind, "state": sink.state, "reason": sink.reason, "lag": sink.lag}


async def _disconnected(here: Stage, client: Client, notes: Connection, acme: Acme) -> None:
    """The grant is given back at the provider by what the SDK does for everyone, and the token is dead there."""
    before = len(acme.refresh)
    await here.oo("disconnect", notes.id, "--yes")
    gone = await client.connection(notes.id)
    assert (gone.state, gone.revocation and gone.revocation.revoked) == ("disconnected", "fully")
    assert sorted(acme.revoked) == ["access_token", "refresh_token"]
    assert (before, len(acme.refresh), acme.access) == (2, 1, {})


async def _by_key(here: Stage, client: Client, acme: Acme) -> None:
    """A key is entered, checked, used, refused once it is gone, and forgotten; that it still works there is said."""
    with pytest.raises(Refused, match="enter a key of their own"):
        await client.register(provider="acme_lists", client_id="x", client_secrets=[])
    async with Browser() as browser:
        session = await client.connect(provider="acme_lists", user="ada")
        await browser.open(session.url)
        with pytest.raises(NotDone):  # 400: the form again
            await browser.press(**{"key-name": NAME, "key-key": "wrong"})
        assert "does not accept this key" in browser.page
        assert "wrong" not in browser.page
        await browser.press(**{"key-key": KEY})
        assert "ada@acme.example" in browser.page
        await browser.press("answer", "yes")
        assert "is connected" in browser.page
    reached = await client.connect_progress(session.id, wait=5)
    lists = await client.connection(str(reached.connection))
    assert lists.label == "ada@acme.example"
    assert (await client.sync(lists.id, wait=20)).outcome == "done"
    acme.key = "another"
    await client.sync(lists.id, wait=20)
    gone = await client.connection(lists.id)
    assert (gone.state, "lie idle for a year" in gone.reason) == ("needs_sign_in", True)
    said = await here.oo("disconnect", lists.id, "--yes")
    ended = await client.connection(lists.id)
    assert ended.state == "disconnected"
    assert ended.revocation is not None
    assert (ended.revocation.revoked, "until you delete it at Acme Lists" in ended.revocation.remains) == ("unsupported", True)
    assert "/settings/keys" in said
    kept = (here.folder / "oo.sqlite3").read_bytes() + (here.folder / "oo.log").read_bytes()
    assert KEY.encode() not in kept
