"""What the demo plays on: the sandbox and the daemon as processes of their own, and a browser that presses the buttons."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from oo_client import Client, DaemonNotRunning
from oo_daemon.cli.terminal import NotDone

#: Seconds that a process gets to start or to end: a small machine that does other things, too, needs most of them.
PATIENCE: Final = 60.0


@dataclass(slots=True, eq=False)
class Process:
    """One of ours, as a child process; its log is a file in the folder."""

    name: str
    child: asyncio.subprocess.Process

    async def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.child.send_signal(signal.SIGKILL)
        await self.child.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heeded."""
        if self.child.returncode is not None:
            return
        self.child.terminate()
        try:
            await asyncio.wait_for(self.child.wait(), PATIENCE)
        except TimeoutError:
            await self.kill()


@dataclass(slots=True, eq=False)
class Stage:
    """A folder with a key, settings and a database, and the processes that run on it."""

    folder: Path
    port: int = 0  #: of the public listener; 0: any free one
    python: Path = Path(sys.executable)  #: of the environment whose `oo` runs
    sandbox: dict[str, Any] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    settings: dict[str, Mapping[str, object]] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict, repr=False)  #: variables that the processes get besides ours

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.folder / "oo.toml"

    @property
    def socket(self) -> Path:
        """The private listener."""
        return self.folder / "oo.sock"

    async def oo(self, *arguments: str, given: str = "") -> str:
        """Run a verb to its end and give what it wrote."""
        code, said, _ = await self.ended(*arguments, given=given)
        if code:
            raise NotDone(f"`oo {' '.join(arguments)}` ended with {code}", f"see {self.folder / 'oo.log'}")
        return said

    async def ended(self, *arguments: str, given: str = "") -> tuple[int, str, str]:
        """Run a verb to its end; gives its exit code, what it wrote and what it said on the side."""
        pipe = asyncio.subprocess.PIPE
        child = await self._spawn(*arguments, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            async with self._in_time(f"`oo {arguments[0]}`"):
                said, aside = await child.communicate(given.encode())
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        with (self.folder / "oo.log").open("ab") as log:
            log.write(aside)
        return child.returncode or 0, said.decode(), aside.decode()

    async def start_sandbox(self, provider: str, port: int = 0) -> None:
        """Start the stand-in for a provider and learn where it is."""
        child = await self._spawn("sandbox", provider, "--port", str(port), "--json", stdout=asyncio.subprocess.PIPE)
        self.processes["sandbox"] = Process("sandbox", child)
        if child.stdout is None:
            raise AssertionError("it was started with a pipe")
        async with self._in_time("the sandbox"):
            line = await child.stdout.readline()
        if not line:
            raise NotDone("the sandbox did not start", f"see {self.folder / 'oo.log'}")
        self.sandbox = json.loads(line)
        self.settings[f"connectors.{provider}"] = dict(self.sandbox["settings"])

    def write_settings(self) -> None:
        """Write oo.toml: everything in the folder, and the connectors pointed at the sandbox."""
        tables: dict[str, Mapping[str, object]] = {"places": {"state": str(self.folder)}, "public": {"port": self.port}, **self.settings}
        lines = []
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()), ""]
        self.config.write_text("\n".join(lines))

    async def start_daemon(self) -> None:
        """Start the daemon and wait until it answers."""
        child = await self._spawn("run")
        self.processes["daemon"] = Process("daemon", child)
        async with self._in_time("the daemon"), Client(self.socket) as client:
            while True:
                try:
                    await client.status()
                except DaemonNotRunning:
                    if child.returncode is not None:
                        raise NotDone(f"the daemon ended with {child.returncode}", f"see {self.folder / 'oo.log'}") from None
                    await asyncio.sleep(0.02)
                else:
                    return

    @asynccontextmanager
    async def _in_time(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        except TimeoutError:
            said = f"{what} was not done within {PATIENCE:.0f} s"
            raise NotDone(said, f"try again when this machine has less to do, or see {self.folder / 'oo.log'}") from None

    async def control(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the sandbox's own side: its state, or a change as a person would make it in the provider's app."""
        async with aiohttp.ClientSession() as session:
            url = f"{self.sandbox['address']}/sandbox/{what}"
            async with session.request("GET" if body is None else "POST", url, json=body) as answer:
                if answer.status >= 300:
                    raise NotDone(f"the sandbox answered {answer.status} to {what}", f"see {self.folder / 'oo.log'}")
                found: dict[str, Any] = await answer.json()
                return found

    async def _spawn(
        self, *arguments: str, stdin: int | None = None, stdout: int | None = None, stderr: int | None = None
    ) -> asyncio.subprocess.Process:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("OO_")}
        environ |= {"PYTHONUNBUFFERED": "1", **self.environ}
        with (self.folder / "oo.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                self.python,
                "-m",
                "oo_daemon",
                *(["--config", str(self.config)] if self.config.exists() else []),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
                stdout=log if stdout is None else stdout,
                stderr=log if stderr is None else stderr,
                env=environ,
            )


@asynccontextmanager
async def stage(folder: Path, *, port: int = 0, python: Path = Path(sys.executable)) -> AsyncIterator[Stage]:
    """A stage whose processes end with the block."""
    here = Stage(folder, port, python)
    try:
        yield here
    finally:
        for process in reversed(here.processes.values()):
            await process.stop()


class Browser:
    """Follows links and redirects, keeps cookies, and presses buttons in forms: what signing in needs of a browser."""

    def __init__(self) -> None:
        # Unsafe only in that it keeps cookies for addresses without a name, as on loopback.
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.url = URL()
        self.page = ""

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def cookies(self) -> list[str]:
        """Values of all cookies."""
        return [cookie.value for cookie in self._session.cookie_jar]

    async def open(self, url: str, *, query: Mapping[str, str] | None = None, expect: int = 200) -> None:
        """Open an address."""
        await self._load("GET", URL(url).update_query(query or {}), expect=expect)

    async def press(self, name: str = "", value: str = "", **filled: str) -> None:
        """Send the page's form, by the button with this name and value if it has several, with these fields filled in."""
        form = _Form()
        form.feed(self.page)
        if not form.found:
            raise NotDone("the page has no button to press", "see the page in a browser")
        fields = form.fields | filled | ({name: value} if name else {})
        await self._load("POST", self.url.join(URL(form.action)) if form.action else self.url, [*fields.items(), *form.ticked])

    async def _load(self, method: str, url: URL, fields: list[tuple[str, str]] | None = None, *, expect: int = 200) -> None:
        async with self._session.request(method, url, data=fields) as answer:
            self.url, self.page = answer.url, await answer.text()
            if answer.status != expect:
                raise NotDone(f"the page at {answer.url.origin()} answered {answer.status}", "see the daemon's log")


class _Form(HTMLParser):
    """The first form of a page: where it goes, and what is filled in."""

    def __init__(self) -> None:
        super().__init__()
        self.found = False
        self.action = ""
        self.fields: dict[str, str] = {}
        self.ticked: list[tuple[str, str]] = []
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        match tag:
            case "form":
                self.found, self.action = True, given.get("action", "")
            case "input" if given.get("type") == "checkbox":
                self.ticked += [(given.get("name", ""), given.get("value", ""))] if "checked" in given else []
            case "input" if given.get("name"):
                self.fields[given["name"]] = given.get("value", "")
            case "select":
                self._select = given.get("name", "")
            case "option" if self._select:
                self.fields.setdefault(self._select, given.get("value", ""))
