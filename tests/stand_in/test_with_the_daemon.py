"""The README's stand-in and a connector for it, with a running daemon: signed in to, synced while things go wrong, and disconnected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import pytest
from declared import everything
from journeys.house import House, served
from msgspec.structs import replace
from stand_in.test_stand_in import PAGE

from oo_daemon.registry import Registry
from oo_daemon.registry import discover as discovered
from oo_sdk import Change, Checkpoint, Connector, Context, Cursor, Event, OAuth2, Scope, Signal, Struct, decode
from oo_sdk.stand_in import StandIn
from oo_sdk.vocabulary import Document
from oo_vault import create_key_file


class Note(Struct):
    id: str
    title: str


class Page(Struct):
    changes: list[Note]
    cursor: str
    more: bool


class MyNotes(Connector):
    """The tutorial's, with its addresses as settings."""

    id = "my_notes"
    title = "My Notes"
    scopes = (Scope("notes.read", "See your notes and when you change them."),)
    stores = everything(Document)

    class Settings(Connector.Settings):
        authorize: str
        token: str
        revoke: str
        api: str

    def __init__(self, sandbox: StandIn, address: str) -> None:
        made = decode(msgspec.json.encode(sandbox.settings(address)), MyNotes.Settings)
        self.settings = made
        self.api = made.api
        self.auth = OAuth2(authorize=made.authorize, token=made.token, revoke=made.revoke)
        self.hosts = [urlsplit(address).netloc]

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        cursor, more = since["cursor"] if since else "", True
        while more:
            page = await ctx.http.get(f"{self.api}/changes", params={"cursor": cursor}, into=Page)
            for note in page.changes:
                yield Event("note", note.id, Change.UPSERTED, payload=Document(title=note.title))
            cursor, more = page.cursor, page.more
            yield Checkpoint({"cursor": cursor})


async def test_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost over empty pages, faults and tokens that run out, and giving back is done at the stand-in."""
    names: dict[str, Any] = {}
    exec(PAGE, names)
    sandbox: Any = names["oo_sandboxes"]()[0]
    create_key_file(tmp_path / "root.key")
    async with served(sandbox) as address:

        def discover(**how: Any) -> Registry:
            found = discovered(**how)
            return replace(found, connectors={**found.connectors, "my_notes": MyNotes(sandbox, address)})

        monkeypatch.setattr("oo_daemon.app.ground.discover", discover)
        house = House(tmp_path, cast(Any, sandbox), address, settings={"sync": {"interval": 3600}, "connectors.my_notes": {}})
        await house.start()
        try:
            connection = await house.connect()
            assert connection is not None
            async with house.client as client:
                for switch, times in {"empty_pages": None, "expire_tokens": None, "unknown_fields": 2}.items():
                    sandbox.misbehaviour.on(switch, times=times)
                assert (await client.sync(connection.id, wait=20)).outcome == "done"
                told = [event.subject for event in await house.events() if event.type == "my_notes.note"]
                assert told == ["0", "1", "2", "3", "4"]
                sandbox.notes["ada"].append({"id": "5", "title": "Another"})
                assert (await client.sync(connection.id, wait=20)).outcome == "done"
                assert [event.subject for event in await house.events() if event.type == "my_notes.note"][5:] == ["5"]
                assert (await client.disconnect(connection.id, wait=20)).state == "disconnected"
            assert all(grant.revoked for grant in sandbox.authorization.grants)
        finally:
            await house.stop()
