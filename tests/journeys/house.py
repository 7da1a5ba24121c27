"""A house to live in: a daemon over a real database and real sockets, a sandbox beside it, a client and a browser."""

import io
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from oo_client import Client, Connection, Event
from oo_config import load
from oo_daemon.app import App, build
from oo_daemon.app.ground import Role
from oo_daemon.cli.stage import Browser
from oo_daemon.ops import log
from oo_sdk import Sandbox
from oo_todoist.sandbox import TodoistSandbox


@dataclass
class House:
    """Everything runs in this process, over real HTTP and a real file."""

    folder: Path
    sandbox: TodoistSandbox
    address: str
    settings: dict[str, Mapping[str, object]] = field(default_factory=dict)
    role: Role = "all"
    app: App | None = None
    log: io.StringIO = field(default_factory=io.StringIO)
    pages: list[str] = field(default_factory=list)  #: every page that a browser was shown
    _daemon: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def client(self) -> Client:
        """A client; use it with `async with`."""
        return Client(self.folder / "oo.sock")

    async def start(self) -> None:
        """Start the daemon."""
        tables: dict[str, Mapping[str, object]] = {
            "places": {"state": str(self.folder)},
            "public": {"port": 0},
            "http": {"connect_timeout": 2, "read_timeout": 0.5},
            f"connectors.{self.sandbox.id}": self.sandbox.settings(self.address),
            **self.settings,
        }
        lines = [line for name, table in tables.items() for line in (f"[{name}]", *(f"{key} = {value!r}" for key, value in table.items()))]
        (self.folder / "oo.toml").write_text("\n".join(lines))
        log.configure(level="debug", style="json", stream=self.log)
        self._daemon = AsyncExitStack()
        self.app = await self._daemon.enter_async_context(build(load(self.folder / "oo.toml", {}), role=self.role))

    async def stop(self) -> None:
        """Stop the daemon in order."""
        self.app = None
        await self._daemon.aclose()

    async def connect(
        self, *, decision: str = "allow", user: str = "ada", account: str = "default", write: bool = False
    ) -> Connection | None:
        """Sign in as a person would; None if that did not succeed."""
        async with self.client as client:
            provider = self.sandbox.id
            await client.register(provider=provider, client_id=self.sandbox.client_id, client_secrets=[self.sandbox.client_secret])
            session = await client.connect(provider=provider, user=user, account=account, write=write)
            await self.follow(session.url, decision=decision)
            reached = await client.connect_progress(session.id)
            return await client.connection(reached.connection) if reached.connection else None

    async def follow(self, link: str, *, decision: str = "allow") -> None:
        """Do what a person does with a link."""
        async with Browser() as browser:
            await browser.open(link)
            self.pages.append(browser.page)
            await browser.press()
            await browser.press("decision", decision)
            if decision == "allow":
                self.pages.append(browser.page)
                await browser.press("answer", "yes")
            self.pages.append(browser.page)

    async def events(self, **wanted: Any) -> list[Event]:
        """Everything in the outbox."""
        async with self.client as client:
            return [event async for event in client.events(follow=False, **wanted)]

    def change(self, *commands: dict[str, Any], user: str = "ada") -> dict[str, Any]:
        """Change something at the provider, as the person would in its app; gives what became of temporary ids."""
        account = self.sandbox.world.account(user)
        assert account is not None
        done = self.sandbox.world.execute(account, [{"uuid": self.sandbox.world.token(), **command} for command in commands])
        assert set(done.sync_status.values()) == {"ok"}
        return dict(done.temp_id_mapping)

    def tasks(self, user: str = "ada") -> dict[str, str]:
        """Open tasks at the provider: id → content."""
        account = self.sandbox.world.account(user)
        assert account is not None
        return {item["id"]: item["content"] for item in account.every("items") if not item["checked"]}


@asynccontextmanager
async def served(sandbox: Sandbox) -> AsyncIterator[str]:
    """Serve a sandbox on a free port of loopback."""
    door = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{door.getsockname()[1]}"
    runner = web.AppRunner(sandbox.app(address), shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, door).start()
    try:
        yield address
    finally:
        await runner.cleanup()
