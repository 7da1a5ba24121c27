"""Backup and restore: an encrypted copy that was restored before it counts, and a life that goes on from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import pytest
from journeys.house import House

from oo_client import Client, Refused
from oo_daemon.cli.stage import Browser, Stage, stage


async def synced(house: House) -> str:
    connection = await house.connect()
    assert connection is not None
    async with house.client as client:
        assert (await client.sync(connection.id, wait=20)).outcome == "done"
    return connection.id


@pytest.mark.rows("B16")
async def test_a_backup_is_made_checked_and_kept(house: House) -> None:
    """It is encrypted, listed and counted; nothing plain is left beside it."""
    await synced(house)
    async with house.client as client:
        made = await client.make_backup()
        assert await client.backups() == (made,)
        assert "oo_integrations_backup_age_seconds" in await client.metrics()
    (path,) = (house.folder / "backups").iterdir()
    assert path.name == made.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"SQLite" not in path.read_bytes()
    assert b"Bernoulli" not in path.read_bytes()


@pytest.mark.rows("B16", "B17", "F4")
async def test_a_restore(tmp_path: Path) -> None:
    """What was there at the backup is there again; positions have a new epoch, grants are tried with care, and the life goes on."""
    async with stage(tmp_path) as here:
        await here.start_sandbox("todoist")
        here.write_settings()
        await here.oo("vault", "init")
        await here.start_daemon()
        connection = await connected(here)
        await here.oo("backup")
        (made,) = (tmp_path / "backups").iterdir()
        async with Client(here.socket) as client:
            before = [event async for event in client.events(follow=False)]
        await here.control("change", {"user": "ada", "commands": [{"type": "item_add", "args": {"content": "Later"}}]})
        async with Client(here.socket) as client:
            await client.sync_and_wait(connection)
            ahead = [event async for event in client.events(follow=False)][-1].position
        code, _, said = await here.ended("restore", str(made), "--yes")
        assert code == 75, "a daemon that runs keeps its database"
        assert "stop it first" in said
        await here.processes["daemon"].stop()
        said = await here.oo("restore", made.name, "--yes")
        assert "Restored" in said
        assert (tmp_path / "oo.sqlite3").stat().st_mode & 0o777 == 0o600
        database = apsw.Connection(str(tmp_path / "oo.sqlite3"))
        assert database.execute("SELECT state FROM credential").fetchall() == [("verify",)]
        database.close()
        await here.start_daemon()
        async with Client(here.socket) as client:
            again = [event async for event in client.events(follow=False)]
            assert [event.id for event in again] == [event.id for event in before]
            assert again[-1].position.partition("-")[0] == "2"
            with pytest.raises(Refused) as refused:
                await client.page(after=ahead)
            assert refused.value.code == "position_ahead"
            done = await client.sync_and_wait(connection)
            assert (done.outcome, done.events) == ("done", 1), "what happened since comes again from the provider"


async def connected(here: Stage) -> str:
    secret = here.sandbox["client_secret"]
    await here.oo("registration", "add", "todoist", "--client-id", here.sandbox["client_id"], "--secret-file", "-", given=secret)
    async with Client(here.socket) as client, Browser() as browser:
        session = await client.connect(provider="todoist", user="ada")
        await browser.open(session.url)
        await browser.press()
        await browser.press("decision", "allow")
        await browser.press("answer", "yes")
        reached = await client.connect_progress(session.id)
        assert reached.connection is not None
        assert (await client.sync_and_wait(reached.connection)).outcome == "done"
        return reached.connection


@pytest.mark.rows("B16")
async def test_what_cannot_be_restored(tmp_path: Path) -> None:
    """A cut file and another database's key are refused, and what is there stays."""
    async with stage(tmp_path / "one") as here, stage(tmp_path / "two") as there:
        for each in (here, there):
            each.folder.mkdir(mode=0o700)
            each.write_settings()
            await each.oo("vault", "init")
            await each.start_daemon()
            await each.oo("backup")
            await each.processes["daemon"].stop()
        (theirs,), (ours,) = (there.folder / "backups").iterdir(), (here.folder / "backups").iterdir()
        shutil.copy(theirs, tmp_path / "theirs.backup")
        (tmp_path / "cut.backup").write_bytes(ours.read_bytes()[:-100])
        before = (here.folder / "oo.sqlite3").read_bytes()
        for name, code, says in (("theirs", 77, "was made with key"), ("cut", 1, "damaged, cut off or changed")):
            ended, _, said = await here.ended("restore", str(tmp_path / f"{name}.backup"), "--yes")
            assert (ended, says in said) == (code, True), said
        assert (here.folder / "oo.sqlite3").read_bytes() == before
        assert {path.name for path in here.folder.glob("oo.sqlite3*")} == {"oo.sqlite3", "oo.sqlite3.lock"}, (
            "nothing plain is left beside it"
        )
