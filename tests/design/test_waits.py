"""Every wait has an end (E11)."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
from design.waits import Wait, sources, waits

ROOT = Path(__file__).parents[2]
#: A guest waits at most as long as we wait for it, and a verb is ended by the person before whom it runs.
FOLDERS = ("daemon", "vault")
VERBS = "oo_daemon.cli."

#: Who holds the bound of what is not bounded where it stands: "place: what is awaited".
BOUNDS: dict[str, tuple[str, ...]] = {
    "the listeners' clocks end a body that comes too slowly, and an answer that nobody reads": (
        "oo_daemon.ingress.*: request.*(*",
        "oo_daemon.ingress.*: response.*(*",
        "oo_daemon.ingress.imports._parts: reader.next()",
        "oo_daemon.ingress.imports._pieces: part.read_chunk(*",
        "oo_daemon.ingress.proxy._across: *_next(request)*",
        "oo_daemon.connections.transport.AiohttpTransport._kept_going: body",
        "oo_daemon.connections.forward._joined: more",
        "oo_daemon.connections.uploads._gathered: pieces",
    ),
    "the store's port: 5 s for a lock and for a read; a writer that is stuck ends the process by the watchdog": (
        "oo_daemon.store.storage.in_pool: waiting",
        "oo_daemon.store.*: self._submit(*",
        "oo_daemon.connections.keys.Keys.rotate: more",
    ),
    "the outbox's tail: as long as its reader has said": ("oo_daemon.ingress.events.EventRoutes._stream: pages",),
    "each look at what health is has its own 5 s": ("oo_daemon.ops.health.Health.alive: self.looks*",),
    "a delivery is kept within 5 s, or is answered with 503": ("oo_daemon.ingress.webhooks.Webhooks._heard: asyncio.wait([[]kept[]])",),
    "aiohttp's own: 30 s between two parts of an answer": (
        "oo_daemon.connections.transport.AiohttpTransport.open.chunk: answer.content.readany()",
    ),
    "the transport: 40 s for each part of an answer and 120 s for all of it": (
        "oo_daemon.connections.transport.AiohttpTransport._connected: self._connector.connect(*",
        "oo_daemon.connections.connect.Connect._get_code: device.begin(*",
        "oo_daemon.connections.credential._Unopened.*",
        "oo_daemon.ingress.proxy.ProxyRoutes.pass_on: self.forward(*",
    ),
    "a run is cut by the watch after 10 minutes": ("oo_daemon.sync.run.Sync._page: signals",),
    "a try of a job is cut by the worker after 2 minutes": (
        "oo_daemon.connections.disconnect.Disconnect._revoke: connector.revoke(*",
        "oo_daemon.sync.act.Actions._act: connector.act(*",
    ),
    "a connection's subscriptions have 2 minutes at once": (
        "oo_daemon.connections.subscriptions.Subscriptions._made: connector.*",
        "oo_daemon.connections.subscriptions.Subscriptions._reconciled: connector.topics(ctx)",
        "oo_daemon.connections.subscriptions.Subscriptions._ended: connector.unsubscribe(*",
    ),
    "the intake asks a connector for 30 s": (
        "oo_daemon.sync.intake.Intake._read: connector.read(told)",
        "oo_daemon.sync.intake._routed: connector.route(told)",
    ),
    "a key source has 30 s": (
        "oo_daemon.connections.keys.Keys.reload: self._load()",
        "oo_vault.wrapped.create_wrapped_key: wraps.wrap(*",
        "oo_vault.wrapped.read_wrapped_keys: wraps.unwrap(*",
    ),
    "whoever has a guest's code run bounds it where that is called": (
        "oo_daemon.host.GuestLoop.run: visit.ended",
        "oo_daemon.host._contained: work",
    ),
    "tasks of ours, which wait for what is looked at here": (
        "oo_client.client.Client.stream: entries",
        "oo_daemon.connections.connect.Connect.finish: work",
        "oo_daemon.connections.connect.Connect.settle: self._under_way",
        "oo_daemon.outbox.relay.Relay._news: asyncio.wait({reading, called})",
        "oo_daemon.sync.imports.Imports.*: asyncio.wait(*",
        "oo_daemon.sync.intake.Intake.tick: asyncio.wait({self._working})",
        "oo_daemon.sync.schedule._all: tasks",
        "oo_daemon.sync.schedule.SchedulerTicker.stop: self._under_way.values()",
        "oo_vault.refresh.Refresher._fly: flight",
        "oo_vault.refresh.Refresher.finish: self._flights.values()",
    ),
    "cancelled the line before; a guest that does not end with that is left behind after 10 s": (
        "oo_daemon.connections.keys.Keys.stop: asyncio.wait({self._task})",
        "oo_daemon.outbox.relay.Relay.stop: self._tasks",
        "oo_daemon.outbox.relay._cancelled: tasks",
        "oo_daemon.sync.imports.Imports._read: import_.flight",
        "oo_daemon.sync.intake._cancelled: tasks",
        "oo_daemon.sync.jobs._all: tasks",
        "oo_daemon.sync.jobs._within: *",
        "oo_daemon.sync.schedule.Dispatcher.stop: *",
    ),
    "the disk or the processor, in a thread: what hangs there hangs in the kernel": (
        "oo_daemon.connections.keys.Keys.rotate: self._beside(*",
        "oo_daemon.host.Background.each: *",
        "oo_daemon.connections.uploads._on_disk: *",
        "oo_daemon.ingress.console.house.HousePages.reference: asyncio.to_thread(*",
        "oo_daemon.ops.backup.Backups.make: *",
        "oo_daemon.ops.integrity.Integrity._look: *",
        "oo_daemon.privacy.audit.Audit.note: *",
        "oo_daemon.privacy.erase.Erasures._begin: *",
        "oo_daemon.privacy.export.Export.of_user: asyncio.to_thread(*",
        "oo_vault.wrapped.*: asyncio.to_thread(*",
    ),
    "the kernel begins and ends a process of its own": (
        "oo_daemon.reader_process.Process.open: asyncio.create_subprocess_exec(*",
        "oo_daemon.reader_process.Process.kill: self.process.wait()",
    ),
    "a start or a stop: systemd ends one that takes too long": (
        "oo_client.client.Client.__aexit__: self._session.close()",
        "oo_daemon.connections.transport._Judged.close: self._resolver.close()",
        "oo_daemon.host.GuestLoop.stop*",
        "oo_daemon.ingress.server.*",
        "oo_daemon.ops.traces.Traces.close: *",
        "oo_daemon.store.*.close: *",
    ),
    "waits by design: for the end of the daemon": ("oo_daemon.ops.fatal.Fatal.happened: self._told",),
    "gives the loop one turn": ("oo_daemon.sync.schedule.Dispatcher.tick: _Turn()",),
}


def holds(pattern: str, wait: Wait) -> bool:
    return fnmatchcase(f"{wait.place}: {wait.what}", pattern)


@cache
def ours() -> list[Wait]:
    return waits({module: text for module, text in sources(ROOT, FOLDERS).items() if not module.startswith(VERBS)})


def patterns() -> Iterator[str]:
    for held in BOUNDS.values():
        yield from held


@pytest.mark.rows("E11")
def test_every_wait_has_an_end() -> None:
    """Whatever is awaited of the outside is bounded where it stands, or somebody is named who holds the bound."""
    unbounded = [wait for wait in ours() if not any(holds(pattern, wait) for pattern in patterns())]
    assert not unbounded, "\n".join(f"{wait.place}:{wait.line} waits without an end for {wait.what}" for wait in unbounded)


def test_nobody_is_named_for_nothing() -> None:
    """Each of those who hold a bound still has something to hold."""
    waiting = ours()
    assert [pattern for pattern in patterns() if not any(holds(pattern, wait) for wait in waiting)] == []


UNBOUNDED = {
    "a future": "await self.ended",
    "an event": "await self.called.wait()",
    "an event beside another": "await asyncio.wait({asyncio.ensure_future(self.a.wait()), self.b})",
    "a time of none": "await asyncio.wait({self.task}, timeout=None)",
    "a queue": "await self.queue.get()",
    "a body": "await request.read()",
    "an answer": "await (await session.post(url)).json()",
    "a request": "async with session.get(url) as answer: pass",
    "a guest": "await self.guests.run(connector.act(ctx), of=connector)",
    "a guest, directly": "await connector.revoke(ctx)",
    "a guest, with others": "await asyncio.gather(*(connector.route(each) for each in given))",
    "a guest's signals": "async for signal in connector.fetch_signals(ctx, None): pass",
    "a child": "await process.wait()",
    "a child's words": "await process.stdout.readexactly(4)",
    "a pipe": "await process.stdin.drain()",
    "a thread": "await loop.run_in_executor(None, work)",
    "another thread": "await asyncio.to_thread(work)",
    "one of two": "await (self.own() if given else self.ended)",
    "after a bounded one": "async with asyncio.timeout(5): pass\n        await self.called.wait()",
}
BOUNDED = {
    "what is ours": "await self.own()",
    "what is handed in": "await given()",
    "what is ours, by a guest's loop": "await self.guests.run(self.own())",
    "what is ours, many times": "await asyncio.gather(*map(self.own, given))",
    "a sleep": "await self.clock.sleep(5)",
    "a time": "async with asyncio.timeout(5): await self.called.wait()",
    "patience": "with self._part: await answer.content.read(1)",
    "a wait with a time": "await asyncio.wait({self.task}, timeout=5)",
    "a request with a time": "async with session.get(url, timeout=limit) as answer: await answer.read()",
    "beside a sleep": "patience = asyncio.ensure_future(clock.sleep(5))\n        await asyncio.wait({patience, self.task})",
    "a lock": "async with self.lock: pass",
    "the store": "await self.storage.read(query)",
}


AROUND = """
class It:
    async def own(self): pass
    async def read(self): pass
    async def look(self, given, request):
        {body}
"""


def found(body: str) -> list[Wait]:
    return waits({"made.up": AROUND.format(body=body)})


@pytest.mark.parametrize("body", UNBOUNDED.values(), ids=UNBOUNDED)
def test_what_has_no_end_is_seen(body: str) -> None:
    """Each kind of wait for the outside is found where nothing bounds it."""
    assert [wait.place for wait in found(body)] == ["made.up.It.look"] * (2 if "(await" in body else 1)


@pytest.mark.parametrize("body", BOUNDED.values(), ids=BOUNDED)
def test_what_has_an_end_is_left_alone(body: str) -> None:
    """What is ours, and what is bounded where it stands, needs nobody who is named."""
    assert found(body) == []
