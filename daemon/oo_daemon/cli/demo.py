"""`oo demo`: the main job with real processes on this machine; each step says what it has proved, and a failed one ends it."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import click

from oo_client import Client, Event
from oo_daemon.cli import terminal
from oo_daemon.cli.events import show_events
from oo_daemon.cli.stage import Browser, Stage, stage

USER: Final = "ada"
#: Small, so that a sync takes many commits and there is a middle to kill the daemon in.
BATCH: Final = 20
#: Tasks that appear before the kill; Todoist takes 100 commands at a time.
MANY: Final = 1500
TRIES: Final = 5


@click.command()
@click.option("--stay", is_flag=True, help="Start the daemon and the sandbox, and leave both up.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Keep key, settings and database here.")
def demo(stay: bool, folder: Path | None) -> None:
    """Show the main job with real processes; no account needed."""
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _run(_remain(folder.resolve()) if stay else _show(folder.resolve()))
        return
    # Short, since the kernel takes at most 107 bytes as the path of a socket.
    with tempfile.TemporaryDirectory(prefix="oo-") as made:
        _run(_remain(Path(made)) if stay else _show(Path(made)))


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end. Whoever ends it ends what it has started, too: by SIGTERM as by Ctrl-C."""

    async def told() -> None:
        task = asyncio.ensure_future(work)
        # Not an exception out of a signal's handler: between two steps of the loop it would cost somebody the wake-up.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await task

    try:
        asyncio.run(told())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _show(folder: Path) -> None:
    async with stage(folder) as here:
        await _prepare(here)
        async with Client(here.socket) as client:
            connection = await _sign_in(here, client)
            seen = await _first_sync(here, client, connection)
            await _delta(here, client, connection, seen)
            await _pushed(here, client)
            await _acted(here, client, connection)
        await _killed(here, connection)
        await _read(here)
        await _disconnected(here, connection)
        await _clean_stop(here)
    terminal.show("")
    terminal.show("Done. To go on by hand: `make run`.")


async def _prepare(here: Stage) -> None:
    _step("A host of its own")
    here.settings["sync"] = {"interval": "10 min", "batch": BATCH}
    await here.start_sandbox("todoist")
    here.write_settings()
    recovery = await here.oo("vault", "init")
    _prove("oo1-" in recovery, "The vault has a key of its own, readable by nobody else; its recovery key was shown once.")
    await here.start_daemon()
    _prove(True, f"The daemon runs as process {here.processes['daemon'].child.pid}, Todoist's sandbox at {here.sandbox['address']}.")


async def _sign_in(here: Stage, client: Client) -> str:
    _step("Sign in")
    await here.oo(
        "registration",
        "add",
        "todoist",
        "--client-id",
        here.sandbox["client_id"],
        "--secret-file",
        "-",
        given=here.sandbox["client_secret"],
    )
    session = await client.connect(provider="todoist", user=USER, write=True)
    async with Browser() as browser:
        await browser.open(session.url)
        _prove("Todoist" in browser.page, "The connect page says in plain words what oO will see.")
        await browser.press()
        _prove(str(browser.url).startswith(here.sandbox["address"]), "Its button leads to the provider, and nowhere else.")
        await browser.press("decision", "allow")
        _prove("/connect/outcome/" in str(browser.url), "The provider sends the browser back, and the page there asks whose account it is.")
        await browser.press("answer", "yes")
    reached = await client.connect_progress(session.id)
    _prove(reached.status == "connected" and bool(reached.connection), "The credential is sealed in the vault. Nobody was shown a token.")
    return str(reached.connection)


async def _first_sync(here: Stage, client: Client, connection: str) -> list[Event]:
    _step("First sync")
    done = await client.sync_and_wait(connection)
    _prove(done.outcome == "done", "The first sync went through the provider's API, page by page.")
    events = await _events(client)
    tasks = {event.subject for event in events if event.type == "todoist.task"}
    _prove(tasks >= await _tasks(here), f"Each of the {len(tasks)} tasks at the provider is an event in the outbox.")
    again = await client.sync_and_wait(connection)
    _prove(again.events == 0, "Syncing again gives no event: nothing is new.")
    return events


async def _delta(here: Stage, client: Client, connection: str, seen: Sequence[Event]) -> None:
    _step("What changes at the provider")
    bought, renamed, *_ = sorted(await _tasks(here))
    await _change(
        here,
        {"type": "item_add", "temp_id": "new", "args": {"content": "Water the plants"}},
        {"type": "item_update", "args": {"id": renamed, "content": "Call Grace back"}},
        {"type": "item_complete", "args": {"id": bought}},
    )
    done = await client.sync_and_wait(connection)
    delta = await _events(client, after=seen[-1].position)
    show_events(delta)
    _prove(done.events == len(delta) == 3, "Three changes there, three events here: one new, one changed, one completed.")


async def _pushed(here: Stage, client: Client) -> None:
    _step("Pushed by the provider")
    (registration,) = await client.registrations()
    await here.control("webhook", {"url": registration.webhook_url})
    before = await _end(client)
    began = time.monotonic()
    await _change(here, {"type": "item_add", "args": {"content": "Answer Babbage"}})
    pushed = await client.page(after=before, wait=20)
    took = time.monotonic() - began
    show_events(pushed.events)
    _prove(
        len(pushed.events) == 1,
        f"A change there is an event here after {took * 1000:.0f} ms: its webhook was signed, and nobody had to ask.",
    )
    (delivery,) = (await here.control("deliveries"))["deliveries"]
    again = await here.control("redeliver", {"id": delivery["id"]})
    kept = await client.deliveries()
    same = again["attempts"][-1]["status"] == 200 and len(kept) == 1 and not await _events(client, after=pushed.position)
    _prove(same, "The same webhook once more is answered 200, is kept once, and gives no second event.")
    await here.control("webhook", {"url": None})


async def _acted(here: Stage, client: Client, connection: str) -> None:
    _step("Changed from our side")
    task = sorted(await _tasks(here))[0]
    done = [await client.act(connection, "complete_task", {"id": task}, key="demo", wait=20) for _ in range(2)]
    _prove(done[0].state == "done" and task not in await _tasks(here), "A task completed through oO is completed at the provider.")
    _prove(done[0].id == done[1].id, "Asked for twice under one key, it was done once.")
    await client.sync_and_wait(connection)


async def _killed(here: Stage, connection: str) -> None:
    _step("Killed in the middle of a sync")
    for attempt in range(1, TRIES + 1):
        for start in range(0, MANY, 100):
            names = [f"Task {attempt}.{number:04}" for number in range(start, start + 100)]
            await _change(here, *({"type": "item_add", "temp_id": name, "args": {"content": name}} for name in names))
        async with Client(here.socket) as client:
            before = await _end(client)
            await client.sync(connection)
            while not (await client.page(after=before, limit=1, wait=20)).events:
                pass
            await here.processes["daemon"].kill()
        await here.start_daemon()
        async with Client(here.socket) as client:
            kept = len(await _events(client, after=before, type="todoist.task"))
            if kept < MANY:
                _prove(True, f"SIGKILL when {kept} of {MANY} new tasks were written; the daemon is up again.")
                await _nothing_lost(here, client, connection, before)
                return
            await client.sync_and_wait(connection)
    _prove(False, "The daemon was too fast to be killed in the middle of a sync.")


async def _nothing_lost(here: Stage, client: Client, connection: str, before: str) -> None:
    # The killed run holds its lease until it ends; then the connection is claimed again by itself.
    await client.sync_and_wait(connection)
    new = await _events(client, after=before, type="todoist.task")
    everything = await _events(client)
    there = await _tasks(here)
    here_now = {event.subject for event in everything if event.type == "todoist.task" and event.change == "upserted"}
    _prove(there <= here_now, f"Nothing is lost: all {len(there)} open tasks of the provider are in the outbox.")
    twice = [count for count in Counter(event.id for event in everything).values() if count > 1]
    _prove(len(new) == MANY and not twice, f"Nothing is doubled: {len(new)} new tasks, {len(new)} new events, no id twice.")


async def _read(here: Stage) -> None:
    _step("What a consumer reads")
    async with Client(here.socket) as client:
        events = await _events(client)
        show_events(events[:14])
        positions = [event.position for event in events]
        _prove(len(set(positions)) == len(positions), f"{len(events)} events in one order; these are the first.")


async def _disconnected(here: Stage, connection: str) -> None:
    _step("Disconnect")
    async with Client(here.socket) as client:
        gone = await client.disconnect(connection, wait=20)
        (last,) = (await _events(client))[-1:]
    alive = [token for token in (await here.control("state"))["tokens"] if token["kind"] == "access" and token["state"] == "alive"]
    _prove(gone.state == "disconnected" and not alive, "The access token is dead at the provider, and the credential is erased here.")
    _prove(last.type == "connection.disconnected", "The outbox says so, too.")
    if gone.revocation is not None and gone.revocation.remains:
        terminal.note(f"    What remains: {gone.revocation.remains}")


async def _clean_stop(here: Stage) -> None:
    _step("Stop")
    await here.processes["daemon"].stop()
    _prove(here.processes["daemon"].child.returncode == 0, "The daemon stopped in order.")
    shown = await asyncio.to_thread(_bytes_in, here.folder)
    secret = here.sandbox["client_secret"].encode()
    _prove(secret not in shown, "The client secret is in no file of the daemon in readable form, nor in its log.")


async def _remain(folder: Path) -> None:
    async with stage(folder, port=8710) as here:
        await here.start_sandbox("todoist", 8800)
        here.write_settings()
        if not (folder / "root.key").exists():
            await here.oo("vault", "init")
        await here.start_daemon()
        secret = here.sandbox["client_secret"]
        await here.oo("registration", "add", "todoist", "--client-id", here.sandbox["client_id"], "--secret-file", "-", given=secret)
        async with Client(here.socket) as client:
            public = (await client.status()).public_url
        oo = f"oo --config {here.config}"
        terminal.show_fields([("Daemon", public), ("Private API", str(here.socket)), ("Todoist's sandbox", here.sandbox["address"])])
        terminal.show("")
        terminal.show(f"Connect an account:  {oo} connect todoist --user ada")
        terminal.show(f"Read its events:     {oo} events --follow")
        terminal.show("Ctrl-C stops both.")
        ends = [asyncio.ensure_future(process.child.wait()) for process in here.processes.values()]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        raise terminal.NotDone("one of the two has ended", f"see {folder / 'oo.log'}")


async def _events(client: Client, *, after: str | None = None, type: str | None = None) -> list[Event]:  # noqa: A002 - the API's word
    return [event async for event in client.events(after=after, type=type, follow=False)]


async def _end(client: Client) -> str:
    """The position of the last event."""
    return (await _events(client))[-1].position


async def _tasks(here: Stage) -> set[str]:
    """Ids of the open tasks at the provider."""
    state = await here.control("state")
    return {task["id"] for user in state["users"] if user["name"] == USER for task in user["tasks"] if not task["checked"]}


async def _change(here: Stage, *commands: dict[str, Any]) -> None:
    """Change something as the person would, in the provider's app."""
    done = await here.control("change", {"user": USER, "commands": list(commands)})
    if any(status != "ok" for status in done["sync_status"].values()):
        raise terminal.NotDone("the provider refused a change", "see its answer in the sandbox")


def _bytes_in(folder: Path) -> bytes:
    # The settings name the sandbox, whose credentials are good for nothing else.
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "oo.toml")


def _step(title: str) -> None:
    terminal.show("")
    terminal.show_title(title)


def _prove(holds: bool, sentence: str) -> None:
    if not holds:
        raise terminal.NotDone(f"not so: {sentence}", "see the lines above")
    terminal.show_proof(sentence)
