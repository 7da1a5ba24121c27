"""`oo try`: a connector in one file, its provider, a tape, and the tape in the contract's tests."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from daemon.cli.conftest import Oo

from oo_sdk.testing import ConnectorContract

TOKEN = "a-real-access-token"
SOURCE = """
from __future__ import annotations
from oo_sdk import Change, Checkpoint, Connector, Event, OAuth2, Scope, Stored, Struct, hookimpl
from oo_sdk.vocabulary import Document

class Note(Struct):
    id: str
    title: str

class Page(Struct):
    notes: list[Note]
    cursor: int

class Notes(Connector):
    id = "notes"
    title = "Notes"
    auth = OAuth2(authorize="https://a.example/a", token="https://a.example/t", revoke="https://a.example/r")
    scopes = (Scope("read", "See all of your notes."),)
    stores = (Stored("note", "the titles of your notes", "show them", ("title",)),)
    hosts = ("127.0.0.1:PORT",)

    async def fetch_signals(self, ctx, since):
        page = await ctx.http.get("http://127.0.0.1:PORT/notes", params={"after": since and since["after"]}, into=Page)
        for note in page.notes:
            yield Event("note", note.id, Change.UPSERTED, payload=Document(title=note.title))
        yield Checkpoint({"after": page.cursor})

@hookimpl
def oo_connectors():
    return [Notes()]
"""


@pytest.fixture
def port() -> Iterator[int]:
    """A provider on this machine, in a thread of its own."""

    async def notes(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({}, status=401)
        found = [{"id": "n1", "title": "Ring ada@lovelace.example"}] if "after" not in request.query else []
        return web.json_response({"notes": found, "cursor": 1, "owner": "ada@lovelace.example", "seen": TOKEN})

    app = web.Application()
    app.add_routes([web.get("/notes", notes)])
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), []

    async def serve() -> None:
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        stop = loop.create_future()
        loop_stop.append(lambda: stop.set_result(None))
        ready.set()
        await stop
        await runner.cleanup()

    loop_stop: list[object] = []
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield ports[0]
    loop.call_soon_threadsafe(loop_stop[0])  # type: ignore[arg-type]
    thread.join(10)
    loop.close()


def test_events_a_tape_and_its_replay(oo: Oo, port: int, tmp_path: Path) -> None:
    """Events and cursors are shown as they come; the tape has no secret and nothing personal, and the contract's tests play it."""
    file, secret, tape = tmp_path / "notes.py", tmp_path / "token", tmp_path / "tape.jsonl"
    file.write_text(SOURCE.replace("PORT", str(port)))
    secret.write_text(TOKEN)
    before = {path.name for path in tmp_path.iterdir()}
    run = oo("try", str(file), "--token-file", str(secret), "--json")
    assert [json.loads(line) for line in run.stdout.splitlines()] == [
        {"type": "notes.note", "subject": "n1", "change": "upserted", "payload": {"title": "Ring ada@lovelace.example"}},
        {"type": "checkpoint", "cursor": {"after": 1}},
    ], run.output
    assert {path.name for path in tmp_path.iterdir()} == before  # nothing was written: no outbox, no tape
    assert oo("try", str(file), "--token-file", str(secret), "--record", str(tape)).exit_code == 0
    first = tape.read_text()
    assert oo("try", str(file), "--token-file", str(secret), "--cursor", '{"after": 1}', "--record", str(tape)).exit_code == 0
    tape.write_text(first + tape.read_text())
    assert not any(word in tape.read_text() for word in (TOKEN, "ada", "lovelace", "Ring"))

    contract = type("Contract", (ConnectorContract,), {"connector": sys.modules["oo_tried"].Notes, "tape": str(tape)})()
    contract.test_the_same_data_twice_tells_nothing_new()
    contract.test_survives_being_killed_at_every_event()


def test_a_token_that_is_refused(oo: Oo, port: int, tmp_path: Path) -> None:
    """The error of the connector is what is shown."""
    file = tmp_path / "notes.py"
    file.write_text(SOURCE.replace("PORT", str(port)))
    run = oo("try", str(file), "--token-file", "-", input="another")
    assert (run.exit_code, "SignInAgain" in run.output, "another" in run.output) == (1, True, False)
