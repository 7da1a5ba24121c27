"""Several daemons on one PostgreSQL: each does what comes to it, none does what another has done, and what one knows they all know."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import postgresql
import pytest
from daemon.store.world import connect
from faults.nursery import nursery
from faults.test_processes import said
from journeys.house import House, served
from journeys.test_erase import connected
from journeys.test_webhooks import post, push, signed
from ports import free_port

from oo_client import ClientError
from oo_config import Server
from oo_daemon.connections.sources import Sources
from oo_daemon.host import HostClock
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.store import credentials, outbox, schedule
from oo_daemon.store.engines import open_storage
from oo_daemon.store.errors import CannotOpen
from oo_daemon.sync.duties import Duties
from oo_todoist.sandbox import TodoistSandbox
from oo_vault import BundleOnly, create_key_file, read_bundle_file, read_key_file, write_bundle

#: How often two daemons renew one grant, in the ordinary run and in the long one.
REFRESHES = int(os.environ.get("OO_TEST_SHARED_REFRESHES", "1"))


@pytest.fixture
async def houses(tmp_path: Path, lasting: postgresql.Server) -> AsyncIterator[list[House]]:
    """Two daemons, each with a folder of its own, on one database and with one key."""
    create_key_file(tmp_path / "root.key")
    sandbox = TodoistSandbox()
    async with AsyncExitStack() as stack:
        database = stack.enter_context(lasting.database())
        provider = await stack.enter_async_context(served(sandbox))
        houses = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            settings: dict[str, Mapping[str, object]] = {
                "sync": {"interval": 3600},
                "places": {"state": str(folder), "database": database},
                "vault": {"key_file": str(tmp_path / "root.key")},
            }
            house = House(folder, sandbox, provider, settings=settings)
            await house.start()
            stack.push_async_callback(house.stop)
            houses.append(house)
        yield houses


def at(house: House, url: str) -> str:
    """The same address at another daemon's door."""
    assert house.app is not None
    return house.app.public_url + url[url.index("/webhooks/") :]


@pytest.mark.rows("C10", "E13")
async def test_two_daemons(houses: list[House]) -> None:
    """One refresh for all, one run for all who ask at once, one row for a delivery at both doors, one erasure; and readers are woken."""
    one, two = houses
    connection = await connected(one)
    sandbox = one.sandbox
    async with one.client as here, two.client as there:
        assert [each.id for each in await there.connections()] == [connection.id], "what one made, the other knows"
        (registration,) = await there.registrations()
        assert registration.webhook_url is not None
        address = at(two, registration.webhook_url)
        async with asyncio.timeout(10):
            while await post(address, push(one), signed(one, push(one), "d-0")) != 200:  # until it has heard of the address
                pass
        for number in range(REFRESHES):
            before = sandbox.requests["POST /oauth/access_token"]
            sandbox.misbehaviour.on("expire_tokens")
            one.change({"type": "item_add", "args": {"content": f"canary-{number}-of-two"}})
            await asyncio.gather(*(client.sync(connection.id, wait=20) for client in (here, there) for _ in range(3)))
            assert sandbox.requests["POST /oauth/access_token"] == before + 1
        told = [str(event.payload) for event in await two.events()]
        assert [sum(f"canary-{number}-of-two" in each for each in told) for number in range(REFRESHES)] == [1] * REFRESHES
        doors = [at(house, registration.webhook_url) for house in houses]
        assert await asyncio.gather(*(post(door, push(one), signed(one, push(one), "d-1")) for door in doors * 3)) == [200] * 6
        assert sorted(each.delivery_id for each in await here.deliveries()) == ["d-0", "d-1"]
        begun = await there.erase_user("ada")
        async with asyncio.timeout(30):
            while (await here.erasure(begun.id, wait=5)).state != "done":
                pass
        assert [event.type for event in await one.events()] == ["user.erased"]
        assert (await here.audit_verdict()).whole
        assert (await there.audit_verdict()).whole


@pytest.mark.rows("A13", "F2")
async def test_what_another_has_just_erased(houses: list[House], monkeypatch: pytest.MonkeyPatch) -> None:
    """A door that has not heard of an erasure refuses what is posted to a source of then, as it refuses what never was."""
    one, two = houses
    first = b'{"verification_token":"secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce"}'
    proof = hmac.digest(b"secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce", first, hashlib.sha256).hex()
    async with one.client as client:
        notion = (await client.add_source("notion", user="ada", scheme="notion")).url
        bell = (await client.add_source("bell", user="ada", scheme="none")).url
        async with asyncio.timeout(10):
            while await post(at(two, bell), b"{}", {}) != 200:  # until it has heard of both addresses
                pass

        async def deaf(_: Sources) -> None:
            """Nothing is opened anew."""

        monkeypatch.setattr(Sources, "load", deaf)
        begun = await client.erase_user("ada")
        async with asyncio.timeout(20):
            while (await client.erasure(begun.id, wait=5)).state != "done":
                pass
        assert [await post(at(door, bell), b"[]", {}) for door in houses] == [404, 404]
        assert [await post(at(door, notion), first, {"X-Notion-Signature": f"sha256={proof}"}) for door in houses] == [404, 404]
        assert await client.deliveries() == ()


@pytest.mark.rows("E2")
async def test_a_process_that_was_stopped_past_its_lease(tmp_path: Path, lasting: postgresql.Server) -> None:
    """One that sleeps past its lease while another takes over is refused when it wakes: no event and no cursor comes after."""
    with lasting.database() as address:
        storage = open_storage(Server(address), wire.encode)
        try:
            connection = await storage.write(connect)
            async with nursery(tmp_path / "borne") as bears:
                first = await bears.bear("faults.worker:main", address, "first", "20", "6")
                await said(first, "stopping")
                second = await bears.bear("faults.worker:main", address, "second", "20")
                await second.end()
                first.signal(signal.SIGCONT)
                await first.end()
                assert [each.said.read_text().splitlines()[-1] for each in (first, second)] == ["lost", "ended"]
            told = (await storage.read(outbox.page, 0, 100)).events
            owners = [wire.decode(body).subject.partition("-")[0] for _, body in told]
            assert owners == ["first"] * 6 + ["second"] * 20
            planned = await storage.read(schedule.of, connection.number, 0)
            assert planned is not None
            assert (planned.cursor, planned.outcome) == ({"second": 19}, "done")
        finally:
            await storage.close()


async def test_a_clock_that_is_off(houses: list[House], monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon whose clock is more than 5 s off the server's says so and is not ready; started, it is refused."""
    one, two = houses
    there = HostClock.now
    monkeypatch.setattr(HostClock, "now", lambda self: there(self) + 7 * SECOND)
    async with one.client as client:
        health = await client.health()
        assert health.status == "not_ready"
        assert "the clock is +7 s off that of PostgreSQL" in health.parts["clocks"].says
    await two.stop()
    with pytest.raises(CannotOpen, match=r"clock is \+7 s off that of PostgreSQL.*set both by NTP"):
        await two.start()
    monkeypatch.undo()
    async with one.client as client:
        assert (await client.health()).status == "ok"
    await two.start()


async def test_a_file_is_one_daemons(tmp_path: Path) -> None:
    """Roles are for those who share a server: on a file a worker would never see what an ingress takes in."""
    create_key_file(tmp_path / "root.key")
    for role in ("ingress", "worker"):
        with pytest.raises(CannotOpen, match=f"leave out --role {role}"):
            await House(tmp_path, TodoistSandbox(), "http://127.0.0.1:1", settings={}, role=role).start()


async def test_a_duty_is_one_daemons(houses: list[House]) -> None:
    """Who has taken it keeps it; another does it once that one has left it, or is gone."""
    done: list[str] = []
    clocks = [house.app.clock for house in houses if house.app is not None]

    def duties(name: str, storage: int) -> Duties:
        app = houses[storage].app
        assert app is not None
        return Duties(storage=app.storage, clock=clocks[storage], owner=name)

    async def job(name: str) -> None:
        done.append(name)

    first, second = duties("first", 0), duties("second", 1)
    one, other = first.alone("tests", lambda: job("first")), second.alone("tests", lambda: job("second"))
    for _ in range(3):
        await one()
        await other()
    assert done == ["first"] * 3
    await first.leave()
    third = duties("third", 1)
    await third.alone("tests", lambda: job("third"))()
    assert done[-1] == "third"


@pytest.fixture
async def parted(tmp_path: Path, lasting: postgresql.Server) -> AsyncIterator[tuple[House, House]]:
    """An ingress process, which has the bundle and nothing else of the keys, and a worker."""
    create_key_file(tmp_path / "root.key")
    write_bundle(tmp_path / "ingress.bundle", read_key_file(tmp_path / "root.key"))
    sandbox = TodoistSandbox()
    async with AsyncExitStack() as stack:
        database = stack.enter_context(lasting.database())
        provider = await stack.enter_async_context(served(sandbox))
        vaults = {"worker": {"key_file": str(tmp_path / "root.key")}, "ingress": {"bundle_file": str(tmp_path / "ingress.bundle")}}
        houses: dict[str, House] = {}
        port = free_port()
        for role in ("worker", "ingress"):
            folder = tmp_path / role
            folder.mkdir()
            settings: dict[str, Mapping[str, object]] = {
                "sync": {"interval": 3600},
                "places": {"state": str(folder), "database": database},
                "public": {"port": port},
                "vault": vaults[role],
            }
            house = houses[role] = House(folder, sandbox, provider, settings=settings, role=role)
            await house.start()
            stack.push_async_callback(house.stop)
        yield houses["ingress"], houses["worker"]


@pytest.mark.rows("C1")
async def test_an_ingress_and_a_worker(parted: tuple[House, House]) -> None:
    """What comes from outside comes in at the one, which stores the credential and cannot open it; the other syncs with it."""
    ingress, worker = parted
    assert ingress.app is not None
    assert worker.app is not None
    assert worker.app.public is None
    connection = await worker.connect()  # the link is asked for at the worker, and followed at the ingress
    assert connection is not None
    async with worker.client as client:
        assert (await client.sync(connection.id, wait=20)).outcome == "done"
        (registration,) = await client.registrations()
        assert registration.webhook_url is not None
        async with asyncio.timeout(10):
            while await post(registration.webhook_url, push(worker), signed(worker, push(worker), "d-1")) != 200:
                pass
        async with asyncio.timeout(10):
            while [each.state for each in await client.deliveries()] != ["done"]:
                pass
    row = await ingress.app.storage.read(credentials.read, connection.id)
    with pytest.raises(BundleOnly):
        row.open(read_bundle_file(ingress.folder.parent / "ingress.bundle"))
    assert row.open(read_key_file(ingress.folder.parent / "root.key"))
    async with ingress.client as client:
        assert (await client.health()).status == "ok"
        with pytest.raises(ClientError):
            await client.connections()
