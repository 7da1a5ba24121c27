"""Disconnecting: everything ends at once, the provider is told, and what became of the grant is kept and shown."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from journeys.house import House

from oo_client import Client, Connection, Refused
from oo_daemon.cli.stage import Browser, Stage, stage


async def connected(house: House, **how: Any) -> Connection:
    connection = await house.connect(**how)
    assert connection is not None
    async with house.client as client:
        assert (await client.sync(connection.id, wait=20)).outcome == "done"
        return await client.connection(connection.id)


async def disconnect(house: House, connection: Connection, wait: float = 20) -> Connection:
    async with house.client as client:
        return await client.disconnect(connection.id, wait=wait)


def access_tokens(house: House) -> list[str]:
    """States of the access tokens that the provider gave."""
    now = house.sandbox.world.now()
    return [token.state(now) for token in house.sandbox.world.grants.tokens.values() if token.kind == "access"]


def credentials(house: House) -> int:
    """How many credentials the database holds."""
    database = apsw.Connection(str(house.folder / "oo.sqlite3"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return len(database.execute("SELECT connection FROM credential").fetchall())
    finally:
        database.close()


async def test_the_whole_way(house: House) -> None:
    """The token is dead at the provider, the credential is gone here, what cannot be revoked is said, and the events stay."""
    connection = await connected(house)
    told = await house.events()
    assert access_tokens(house) == ["alive"]
    assert credentials(house) == 1
    gone = await disconnect(house, connection)
    assert (gone.state, gone.next_sync_at) == ("disconnected", None)
    assert gone.revocation is not None
    assert gone.revocation.revoked == "partly"
    assert "remove oO" in gone.revocation.remains
    assert gone.revocation.manual_url.startswith("https://app.todoist.com/")
    assert gone.revocation.at is not None
    assert access_tokens(house) == ["revoked"]
    assert credentials(house) == 0
    *before, last = await house.events()
    assert before == told
    assert (last.type, last.subject) == ("connection.disconnected", connection.id)
    assert last.payload is not None
    assert last.payload["fields"]["revoked"] == "partly"
    async with house.client as client:
        with pytest.raises(Refused) as why:
            await client.sync(connection.id)
        assert why.value.code == "not_active"
        assert await client.connection(connection.id) == gone
    await house.stop()
    await house.start()
    async with house.client as client:
        assert await client.connection(connection.id) == gone, "also after a restart"


async def test_disconnecting_again(house: House) -> None:
    """A second time changes nothing and asks nobody."""
    connection = await connected(house)
    gone = await disconnect(house, connection)
    assert await disconnect(house, connection) == gone
    assert house.sandbox.requests["POST /api/v1/revoke"] == 1
    assert [event.type for event in await house.events()].count("connection.disconnected") == 1


async def test_connecting_again(house: House) -> None:
    """Whoever connects again has the same connection with a new credential, and reads on from where it was."""
    connection = await connected(house)
    await disconnect(house, connection)
    before = (await house.events())[-1].position
    house.change({"type": "item_add", "args": {"content": "Meanwhile"}})
    again = await connected(house)
    assert (again.id, again.state, again.revocation) == (connection.id, "active", None)
    assert [event.type for event in await house.events(after=before)] == ["connection.recovered", "todoist.task"]
    house.sandbox.misbehaviour.on("expire_tokens")
    assert (await connected(house)).last_sync is not None
    assert (await disconnect(house, connection)).state == "disconnected"


async def test_an_expired_token(house: House) -> None:
    """A token that has run out is renewed for its own revocation."""
    connection = await connected(house)
    house.sandbox.misbehaviour.on("expire_tokens")
    gone = await disconnect(house, connection)
    assert gone.revocation is not None
    assert gone.revocation.revoked == "partly"
    assert "alive" not in access_tokens(house)


async def test_a_grant_that_is_gone(house: House) -> None:
    """Where the person has taken the grant back already, there is nothing left to revoke."""
    connection = await connected(house)
    house.sandbox.misbehaviour.on("kill_grant")
    async with house.client as client:
        await client.sync(connection.id, wait=20)
        assert (await client.connection(connection.id)).state == "needs_sign_in"
    gone = await disconnect(house, connection)
    assert gone.state == "disconnected"
    assert gone.revocation is not None
    assert gone.revocation.revoked == "fully"


async def test_a_provider_that_is_down(house: House) -> None:
    """The provider is asked until it answers, and meanwhile nothing is synced; what waited to be done has failed."""
    connection = await connected(house)
    house.sandbox.misbehaviour.on("status_500", endpoint="revoke")
    waiting = await disconnect(house, connection, wait=0)
    assert (waiting.state, waiting.next_sync_at) == ("revoking", None)
    async with house.client as client:
        async with asyncio.timeout(20):
            while not (waiting.revocation and waiting.revocation.reason):
                waiting = await client.connection(connection.id)
        assert (waiting.revocation.revoked, waiting.revocation.at) == ("pending", None)
        assert "500" in waiting.revocation.reason
        assert credentials(house) == 1, "it is needed for the next try"
    house.sandbox.misbehaviour.off()
    assert (await disconnect(house, connection)).state == "disconnected"
    assert access_tokens(house) == ["revoked"]
    assert credentials(house) == 0


async def test_signing_in_again_ends_it(house: House) -> None:
    """Whoever signs in again while the provider cannot be told keeps the connection, and its new credential stays alive."""
    connection = await connected(house)
    house.sandbox.misbehaviour.on("status_503", endpoint="revoke", seconds=3600)
    async with house.client as client:
        async with asyncio.timeout(20):
            while not (await client.disconnect(connection.id)).revocation.reason:  # type: ignore[union-attr]  # it has one from the start
                pass
    again = await connected(house)
    assert (again.id, again.state, again.revocation) == (connection.id, "active", None)
    house.sandbox.misbehaviour.off()
    async with house.client as client:
        assert (await client.sync(connection.id, wait=20)).outcome == "done"
    assert house.sandbox.requests["POST /api/v1/revoke"] == 1


async def test_a_grant_that_others_use(house: House) -> None:
    """A grant is given back with the last connection that uses it, not before."""
    first, second = await connected(house), await connected(house, user="family")
    gone = await disconnect(house, first)
    assert gone.state == "disconnected"
    assert gone.revocation is not None
    assert (gone.revocation.revoked, "another connection" in gone.revocation.remains) == ("partly", True)
    assert house.sandbox.requests["POST /api/v1/revoke"] == 0
    async with house.client as client:
        assert (await client.sync(second.id, wait=20)).outcome == "done"
    await disconnect(house, second)
    assert house.sandbox.requests["POST /api/v1/revoke"] == 1
    assert credentials(house) == 0


async def test_disconnected_in_the_middle_of_a_sync(house: House) -> None:
    """A sync that is under way ends without a trace, and writes nothing after the connection was disconnected."""
    connection = await connected(house)
    house.change({"type": "item_add", "args": {"content": "Too late"}})
    house.sandbox.misbehaviour.on("slow_answer", times=1, endpoint="sync", seconds=1)
    asked = house.sandbox.requests["POST /api/v1/sync"]
    async with house.client as client:
        await client.sync(connection.id)
        async with asyncio.timeout(20):
            while house.sandbox.requests["POST /api/v1/sync"] == asked:
                await client.connection(connection.id)
        await client.disconnect(connection.id, wait=20)
        async with asyncio.timeout(20):
            while (await client.status()).connections != {"disconnected": 1} or house.log.getvalue().count("sync_lost_lease") < 1:
                pass
    assert (await house.events())[-1].type == "connection.disconnected"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Stage]:
    """Real processes: a daemon and a sandbox."""
    async with stage(tmp_path) as here:
        here.settings["sync"] = {"interval": 3600}
        await here.start_sandbox("todoist")
        here.write_settings()
        await here.oo("vault", "init")
        await here.start_daemon()
        yield here


async def signed_in(here: Stage) -> str:
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
        return reached.connection


async def tokens(here: Stage) -> list[Any]:
    return [token["state"] for token in (await here.control("state"))["tokens"] if token["kind"] == "access"]


async def test_killed_in_the_middle(here: Stage) -> None:
    """A daemon killed while it tells the provider goes on after its start, and comes to the same end, told once."""
    connection = await signed_in(here)
    await here.control("misbehave", {"name": "slow_answer", "times": 1, "args": {"seconds": 60, "endpoint": "revoke"}})
    async with Client(here.socket) as client:
        await client.disconnect(connection)
        async with asyncio.timeout(20):
            while await tokens(here) != ["revoked"]:
                pass
        assert (await client.connection(connection)).state == "revoking"
    await here.processes["daemon"].kill()
    await here.start_daemon()
    async with Client(here.socket) as client:
        gone = await client.disconnect(connection, wait=20)
        assert gone.state == "disconnected"
        assert gone.revocation is not None
        assert gone.revocation.revoked == "partly"
        told = [event.type async for event in client.events(follow=False)]
    assert told.count("connection.disconnected") == 1


async def test_the_verb(here: Stage) -> None:
    """`oo disconnect` does not do it unasked, then waits and says what became of it; `oo connections show` still says so later."""
    connection = await signed_in(here)
    code, _, words = await here.ended("disconnect", connection)
    assert code == 2
    assert "--yes" in words
    said = await here.oo("disconnect", connection, "--yes")
    assert said.startswith("Disconnected.")
    assert "partly" in said
    assert await tokens(here) == ["revoked"]
    shown = await here.oo("connections", "show", connection)
    assert "partly" in shown
    assert "https://app.todoist.com/" in shown
