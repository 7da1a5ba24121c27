"""The main journeys once more, on a daemon whose database is a PostgreSQL, which also goes away for a while."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import time
import zipfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from random import Random
from signal import SIGKILL

import postgresql
import pytest
from click.testing import CliRunner
from daemon.store.inbox_contract import arrival, furnish
from daemon.store.world import NOW, connect, encode, occur, upsert
from journeys.house import House, served
from journeys.test_erase import connected
from journeys.test_webhooks import address, post, push, sender, signed

from oo_client import Refused
from oo_daemon.cli import oo
from oo_daemon.store import accept, inbox, migrations
from oo_daemon.store.copy import is_half, tables
from oo_daemon.store.database import Database
from oo_daemon.store.postgresql import PostgresqlDatabase
from oo_daemon.store.storage import open_database
from oo_todoist.sandbox import TodoistSandbox
from oo_vault import create_key_file

#: Of a copy, in the ordinary run and in the long one.
COPY_KILLS = int(os.environ.get("OO_TEST_COPY_KILLS", "3"))


@pytest.fixture
async def house(tmp_path: Path, lasting: postgresql.Server) -> AsyncIterator[House]:
    """A running daemon on a PostgreSQL database of its own."""
    create_key_file(tmp_path / "root.key")
    sandbox = TodoistSandbox()
    with lasting.database() as database:
        async with served(sandbox) as provider:
            settings: dict[str, Mapping[str, object]] = {
                "sync": {"interval": 3600},
                "places": {"state": str(tmp_path), "database": database},
            }
            house = House(tmp_path, sandbox, provider, settings=settings)
            await house.start()
            try:
                yield house
            finally:
                await house.stop()


async def test_the_main_job(house: House) -> None:
    """Signed in, synced, pushed, renewed, handed out, forgotten; and no file beside it holds anything."""
    connection = await connected(house)
    house.change({"type": "item_add", "args": {"content": "canary-of-ada"}})
    async with house.client as client:
        assert (await client.status()).engine.startswith("PostgreSQL ")
        assert (await client.health()).status == "ok"
        house.sandbox.misbehaviour.on("expire_tokens")
        assert await post(await address(house), push(house), signed(house, push(house), "d-1")) == 200
        async for event in client.events(follow=True):
            if "canary-of-ada" in str(event.payload):
                break
        assert await post(await address(house), push(house), signed(house, push(house), "d-1")) == 200, "it comes again"
        assert len(await client.deliveries()) == 1
        whole = zipfile.ZipFile(io.BytesIO(await client.export("ada")))
        assert b"canary-of-ada" in whole.read("events.jsonl")
        begun = await client.erase_user("ada")
        while (found := await client.erasure(begun.id, wait=20)).state != "done":
            pass
        assert (found.physical, found.erased["delivery"]) == ("server", 1)
        with pytest.raises(Refused):
            await client.connection(connection.id)
        with pytest.raises(Refused, match="pg_dump"):
            await client.make_backup()
    assert [event.type for event in await house.events()] == ["user.erased"]
    assert not (house.folder / "oo.sqlite3").exists()


@pytest.mark.rows("H8", "H12")
async def test_an_upgrade_says_that_nobody_made_a_backup(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that changes the tables of a server says so, and that the way back is the server's own; one that does not, says nothing."""
    await house.stop()
    await house.start()
    await house.stop()
    assert "schema_" not in house.log.getvalue()
    newer = migrations.Migration(number=2, name="next", statements=("ALTER TABLE stream ADD COLUMN next {int}",))
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, newer))
    await house.start()
    said = [line for line in map(json.loads, house.log.getvalue().splitlines()) if line["event"].startswith("schema_")]
    assert [(line["event"], line["level"], line["before"]) for line in said] == [
        ("schema_not_backed_up", "warning", 1),
        ("schema_upgraded", "info", 1),
    ]


async def test_a_server_that_goes_away(house: House, lasting: postgresql.Server) -> None:
    """Webhooks are answered 503 meanwhile, and health says why; then everything goes on by itself, and nothing acknowledged is lost."""
    await connected(house)
    url = await address(house)
    assert await post(url, push(house), signed(house, push(house), "before")) == 200
    await done(house, "before")
    lasting.kill()
    assert house.app is not None
    assert await post(url, push(house), signed(house, push(house), "meanwhile")) == 503
    async with sender() as person, person.get(f"{house.app.public_url}/connect/somebodys") as page:
        assert page.status == 503, "a page says so, too"
    async with house.client as client:
        health = await client.health()
        assert health.status == "not_ready"
        assert "PostgreSQL cannot be used now" in health.parts["database"].says
        lasting.start()
        async with asyncio.timeout(20):
            while (await client.health()).status != "ok":
                pass
        assert await post(url, push(house), signed(house, push(house), "meanwhile")) == 200
    await done(house, "before", "meanwhile")


@pytest.mark.rows("F8")
async def test_erasing_with_lost_keys(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while a daemon runs; then on the server alone, and whoever reads is told when a daemon runs again."""
    for name in [name for name in os.environ if name.startswith("OO_")]:  # whatever is set where the tests run
        monkeypatch.delenv(name)
    await connected(house)
    house.change({"type": "item_add", "args": {"content": "canary-of-ada"}})
    erase = ["--config", str(house.folder / "oo.toml"), "erase", "--user", "ada", "--yes", "--without-keys"]
    refused = await asyncio.to_thread(CliRunner().invoke, oo, erase)
    assert refused.exit_code != 0
    assert "Daemons run on" in refused.output
    await house.stop()
    erased = await asyncio.to_thread(CliRunner().invoke, oo, erase)
    assert (erased.exit_code, "Erased: 1 connection" in erased.output) == (0, True), erased.output
    await house.start()
    assert [event.type for event in await house.events()] == ["user.erased"]
    async with house.client as client:
        assert await client.connections() == ()
        (receipt,) = await client.erasures()
        assert (receipt.state, receipt.connections[0].reason) == ("done", "key lost")


async def test_moving_over(tmp_path: Path, lasting: postgresql.Server) -> None:
    """From a file to a server: positions stay, a consumer reads on, nothing is told twice, and the grant works as before."""
    create_key_file(tmp_path / "root.key")
    sandbox = TodoistSandbox()
    with lasting.database() as database:
        async with served(sandbox) as provider:
            house = House(tmp_path, sandbox, provider, settings={"sync": {"interval": 3600}})
            await house.start()
            connection = await connected(house)
            before = await house.events()
            await house.stop()
            moved = ["--config", str(tmp_path / "oo.toml"), "store", "copy", f"sqlite://{tmp_path / 'oo.sqlite3'}", database]
            told = await asyncio.to_thread(CliRunner().invoke, oo, [*moved, "--json"])
            assert told.exit_code == 0, told.output
            assert json.loads(told.output)["rows"]["outbox"] == len(before)
            refused = await asyncio.to_thread(CliRunner().invoke, oo, moved)
            assert (refused.exit_code, "give an empty one" in refused.output) == (74, True)
            house.settings["places"] = {"state": str(tmp_path), "database": database}
            await house.start()
            try:
                assert await house.events() == before
                house.change({"type": "item_add", "args": {"content": "canary-of-ada"}})
                async with house.client as client:
                    assert (await client.sync(connection.id, wait=20)).outcome == "done"
                after = await house.events()
                assert (after[: len(before)], len(after)) == (before, len(before) + 1)
            finally:
                await house.stop()


async def test_a_copy_that_is_killed_at_any_moment(tmp_path: Path, lasting: postgresql.Server) -> None:
    """The same command goes on with it, however often it was killed: positions stay, nothing is missing, nothing is there twice."""
    path = tmp_path / "oo.sqlite3"
    original = open_database(path)
    _fill(original)
    whole = _everything(original)
    original.close()
    random, killed, longest = Random(7), 0, 0.0
    while killed < COPY_KILLS:
        with lasting.database() as address:
            copy = PostgresqlDatabase(address)
            command = [sys.executable, "-m", "oo_daemon", "store", "copy", f"sqlite://{path}", address]
            finished = False
            while not finished:
                began = time.monotonic()
                copying = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
                # The first is left to its end, so that the others are killed on their way.
                moment = random.uniform(0.3, 1.0) * longest if longest and killed < COPY_KILLS else None
                ended = asyncio.create_task(copying.communicate())
                await asyncio.wait({ended}, timeout=moment)
                if copying.returncode is None:
                    copying.kill()
                    killed += 1
                said, _ = await ended
                if copying.returncode != -SIGKILL:
                    assert (copying.returncode, b"Copied and compared" in said) == (0, True), said.decode()
                longest = longest or time.monotonic() - began
                with copy.connection_context():
                    finished = bool(copy.get_tables()) and not is_half(copy) and len(copy.rows("SELECT 1 FROM outbox")) > 0
            with copy.connection_context():
                assert _everything(copy) == whole
    print(f"copy: {killed} kills, {sum(map(len, whole.values()))} rows", end=" ")


def _fill(database: Database) -> None:
    """A few thousand rows, most of them events and what is known of their objects; some have been forgotten since."""
    database.rows("BEGIN IMMEDIATE")
    furnish(database)
    for number in range(3):
        connection = connect(database, f"c{number}")
        for start in range(0, 1500, 500):
            drafts = [upsert(f"n{each}", "ä" * 20) for each in range(start, start + 500)] + [occur(f"o{start}")]
            accept.accept(database, accept.Batch(connection=connection, observed_at=NOW, drafts=drafts), encode)
        inbox.put(database, arrival(f"d{number}", body=b"\x00\x01'"))
    database.rows("DELETE FROM outbox WHERE position <= 700")
    database.rows("COMMIT")


def _everything(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables; columns by their names, as dialects keep them in their own orders."""
    found = {}
    for table in tables():
        names = sorted(column.name for column in database.get_columns(table))
        shown = ", ".join(f'"{name}"' for name in names)
        found[table] = sorted(database.rows(f'SELECT {shown} FROM "{table}"'), key=repr)
    return found


async def done(house: House, *deliveries: str) -> None:
    """Wait until these have become what they say."""
    async with house.client as client, asyncio.timeout(20):
        while {each.delivery_id for each in await client.deliveries() if each.state == "done"} != {*deliveries}:
            pass
