"""The private API over TCP: a real daemon, a token, and what is left of it."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from journeys.house import House
from ports import free_port

from oo_client import Client, DaemonNotRunning, Refused
from oo_daemon.cli.stage import Stage, stage
from oo_daemon.ingress import events


async def started(folder: Stage, port: int) -> str:
    """Start a daemon with that door; gives its address."""
    folder.settings = {"private": {"port": port}, "log": {"level": "debug"}}
    folder.write_settings()
    await folder.oo("vault", "init")
    await folder.start_daemon()
    return f"http://127.0.0.1:{port}"


async def refused(client: Client) -> str:
    with pytest.raises(Refused) as caught:
        await client.status()
    return caught.value.code


async def test_a_token_from_its_making_to_its_end(tmp_path: Path) -> None:
    """A token that `oo token` made opens what its scope names, until it is revoked; of it nothing is left in any file."""
    async with stage(tmp_path) as here:
        url = await started(here, free_port())
        token = (await here.oo("token", "create", "backend", "--scope", "read", "--days", "1")).strip()
        async with Client(url=url, token=token) as reader, Client(url=url) as nobody, Client(url=url, token="oot_no") as liar:
            assert (await reader.status()).version
            assert [page async for page in reader.pages(follow=False)] == []
            with pytest.raises(Refused) as caught:
                await reader.register(provider="todoist", client_id="a", client_secrets=[])
            assert caught.value.code == "scope"
            assert (await refused(nobody), await refused(liar)) == ("token_needed", "token_needed")
            listed = await here.oo("token", "list")
            assert "backend" in listed
            assert token not in listed
            await here.oo("token", "revoke", "backend")
            assert await refused(reader) == "token_needed"
        await here.processes["daemon"].stop()
        left = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        assert {"oo.log", "oo.sqlite3"} <= left.keys()
        assert [name for name, content in left.items() if token.encode() in content or token[4:].encode() in content] == []


@pytest.mark.rows("D3")
async def test_a_stream_ends_with_its_token(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is open when its token is revoked ends with the next beat; that of another token goes on."""
    monkeypatch.setattr(events, "BEAT", 0.05)
    await house.stop()
    port = free_port()
    house.settings |= {"private": {"port": port}}
    await house.start()
    async with house.client as client, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        shown = [(await client.create_token(name, scopes=["read"])).token for name in ("one", "other")]
        one, other = [
            await http.get("/v1/events", headers={"Authorization": f"Bearer {token}", "Accept": "application/jsonl"}) for token in shown
        ]
        async with asyncio.timeout(20):
            for _ in range(5):
                assert await one.content.readline() != b""
            await client.revoke_token("one")
            while await one.content.readline():
                pass
            for _ in range(5):
                assert await other.content.readline() != b""
        other.close()


async def test_without_the_setting_there_is_no_such_door(tmp_path: Path) -> None:
    """Nothing listens where no port is set, and the socket asks for no token."""
    async with stage(tmp_path) as here:
        await started(here, 0)
        assert "listening_with_tokens" not in (tmp_path / "oo.log").read_text()
        async with Client(here.socket) as client:
            assert (await client.status()).version
        async with Client(url=f"http://127.0.0.1:{free_port()}", token="oot_x") as client:
            with pytest.raises(DaemonNotRunning):
                await client.status()


@pytest.mark.parametrize("url", ["http://oo.example", "http://192.168.1.7:8711", "http://localhost.evil.example", "ftp://localhost"])
def test_a_token_does_not_travel_in_the_open(url: str) -> None:
    """A client takes no address at which its token could be read on the way."""
    with pytest.raises(ValueError):
        Client(url=url, token="oot_x")


def test_a_client_has_one_way_in(tmp_path: Path) -> None:
    """A client is told a socket or an address, and not both."""
    Client(url="https://oo.example", token="oot_x")
    for how in ({}, {"socket": tmp_path / "oo.sock", "url": "http://localhost:8711"}):
        with pytest.raises(ValueError):
            Client(**how)  # type: ignore[arg-type]  # the point of the test
