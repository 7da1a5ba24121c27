"""Real processes: how a daemon starts, refuses to start, and what it leaves behind."""

import asyncio
import base64
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from journeys.house import served

from oo_client import Client
from oo_daemon.cli.stage import Browser, Stage, stage
from oo_todoist.sandbox import TodoistSandbox


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Stage]:
    """A folder with a key and settings, and a sandbox."""
    async with stage(tmp_path) as here:
        await here.start_sandbox("todoist")
        here.settings["log"] = {"level": "debug"}
        here.write_settings()
        await here.oo("vault", "init")
        yield here


async def refused(here: Stage, *arguments: str) -> tuple[int, str]:
    """Exit code and words of a verb that does not get going."""
    code, _, words = await here.ended(*arguments)
    assert "Traceback" not in words
    return code, words


async def test_settings_that_make_no_sense(here: Stage) -> None:
    """An unknown key and broken TOML are configuration errors, told in a sentence each."""
    here.config.write_text("[public]\nprot = 1\n")
    code, words = await refused(here, "run")
    assert code == 78
    assert "public.port" in words
    here.config.write_text("[public\n")
    code, words = await refused(here, "run")
    assert code == 78
    assert "line 1" in words


async def test_a_port_that_is_taken(here: Stage) -> None:
    """A taken port is told by its number."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        here.port = door.getsockname()[1]
        here.write_settings()
        code, words = await refused(here, "run")
    assert code == 78
    assert str(here.port) in words


async def test_a_folder_that_cannot_be_written(here: Stage) -> None:
    """A place for the database that is none is told with its path."""
    here.settings["places"] = {"database": "/proc/oo/oo.sqlite3"}
    here.settings["vault"] = {"key_file": str(here.folder / "root.key")}
    here.write_settings()
    code, words = await refused(here, "run")
    assert code == 74
    assert "/proc/oo" in words


@pytest.mark.rows("C6")
async def test_keys_that_do_not_fit(here: Stage) -> None:
    """A missing, an exposed and another database's key refuse the start; nothing is made anew."""
    await here.start_daemon()
    await here.processes["daemon"].stop()
    key = here.folder / "root.key"
    kept = key.read_text()
    key.chmod(0o644)
    assert (await refused(here, "run"))[0] == 77
    key.unlink()
    assert (await refused(here, "run"))[0] == 77
    assert not key.exists()
    await here.oo("vault", "init")
    code, words = await refused(here, "run")
    assert code == 77
    assert "another" in words or "sealed with key" in words
    key.unlink()
    key.write_text(kept)
    key.chmod(0o400)
    await here.start_daemon()


@pytest.mark.rows("B2")
async def test_a_second_daemon(here: Stage) -> None:
    """A second daemon on the same file is refused, and the first one goes on."""
    await here.start_daemon()
    code, words = await refused(here, "run")
    assert code == 75
    assert "already runs" in words
    async with Client(here.socket) as client:
        assert (await client.status()).version


async def test_verbs_without_a_daemon(here: Stage) -> None:
    """A verb that needs the daemon says that it does not run, and how to start it."""
    code, words = await refused(here, "connections")
    assert code == 69
    assert "oo run" in words


async def test_an_unknown_provider(here: Stage) -> None:
    """A provider that nobody brings is told, with where to look."""
    await here.start_daemon()
    code, words = await refused(here, "connect", "notodo", "--user", "ada", "--no-wait")
    assert code == 1
    assert "oo plugins" in words


@pytest.mark.rows("C7")
async def test_no_secret_anywhere(tmp_path: Path) -> None:
    """Of a whole run with sign-in, syncs, refreshes, refusals and a kill, no token, code, state or client secret is readable anywhere."""
    sandbox = TodoistSandbox()
    async with served(sandbox) as address, stage(tmp_path) as here:
        here.settings = {"connectors.todoist": sandbox.settings(address), "log": {"level": "debug"}}
        here.write_settings()
        await here.oo("vault", "init")
        secrets, shown = await whole_run(here, sandbox)
        places = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "root.key"}
    assert len(secrets) >= 10
    assert b"sync_ended" in places["oo.log"]
    assert b"expired or revoked" not in places["oo.log"]
    key = (tmp_path / "root.key").read_text().strip()
    hits = await asyncio.to_thread(found, places | shown, secrets | {key, key.replace("-", ""), key.removeprefix("oo1-")})
    assert hits == set()


async def whole_run(here: Stage, sandbox: TodoistSandbox) -> tuple[set[str], dict[str, bytes]]:
    """Live through everything; gives the secrets there were, and what was shown on the way."""
    shown: dict[str, bytes] = {}
    await here.start_daemon()
    secret = sandbox.client_secret
    said = [await here.oo("registration", "add", "todoist", "--client-id", sandbox.client_id, "--secret-file", "-", given=secret)]
    async with Client(here.socket) as client, Browser() as browser:
        session = await client.connect(provider="todoist", user="ada")
        secrets = {secret, session.url.rpartition("/")[2]}
        await browser.open(session.url)
        said.append(browser.page)
        await browser.press()
        secrets.add(browser.url.query["state"])
        await browser.press("decision", "allow")
        await browser.press("answer", "yes")
        said.append(browser.page)
        connection = (await client.connect_progress(session.id)).connection
        assert connection
        for switch in ("", "expire_tokens", "html_answer", "truncated_json", "status_500", "expire_tokens", "kill_grant"):
            if switch:
                sandbox.misbehaviour.on(switch, times=None if switch in {"expire_tokens", "kill_grant"} else 1)
            await client.sync(connection, wait=20)
        secrets |= set(browser.cookies()) | set(sandbox.world.grants.tokens)
        said += [await client.openapi(), await here.oo("config", "show"), await here.oo("connections"), await here.oo("events", "--json")]
        said += [repr(await client.status()), repr(await client.connections()), repr(await client.registrations())]
    process = Path(f"/proc/{here.processes['daemon'].child.pid}")
    shown |= {"environ": (process / "environ").read_bytes(), "arguments": (process / "cmdline").read_bytes()}
    await here.processes["daemon"].kill()
    await here.start_daemon()
    await here.processes["daemon"].stop()
    return secrets, shown | {"said": "".join(said).encode()}


def found(places: dict[str, bytes], secrets: set[str]) -> set[tuple[str, str]]:
    """Where any form of a secret can be read: place, and the secret's first characters."""
    hits = set()
    for secret in secrets:
        raw = secret.encode()
        forms = {
            raw,
            quote(secret, safe="").encode(),
            base64.b64encode(raw),
            base64.b64encode(raw).rstrip(b"="),
            raw.hex().encode(),
            raw[::-1],
        }
        hits |= {(place, secret[:4]) for place, content in places.items() if any(form in content for form in forms)}
    return hits


def test_the_search_finds() -> None:
    """The search sees plain and encoded forms."""
    secret = "s3cret-s3cret/s3cret"
    places = {
        "plain": json.dumps({"a": secret}).encode(),
        "base64": base64.b64encode(secret.encode()),
        "url": quote(secret, safe="").encode(),
        "none": re.sub("s3", "", secret).encode(),
    }
    assert {place for place, _ in found(places, {secret})} == {"plain", "base64", "url"}


@pytest.mark.rows("B12", "H9")
async def test_a_database_that_is_damaged_under_us(tmp_path: Path) -> None:
    """The daemon does not live on: it ends with an exit code of its own, which systemd does not restart."""
    async with stage(tmp_path) as here:
        here.write_settings()
        await here.oo("vault", "init")
        await here.start_daemon()
        await here.processes["daemon"].stop()
        path = tmp_path / "oo.sqlite3"
        whole = bytearray(path.read_bytes())
        for page in range(2, len(whole) // 4096):
            whole[page * 4096 : page * 4096 + 64] = b"\xff" * 64
        path.write_bytes(bytes(whole))
        code, _, said = await here.ended("run")
        assert code == 70, said
        assert "restore a backup" in said
