"""The daemon's keys: loaded again, rotated beside everything else, and dropped when nothing needs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from daemon.connections.vaulted import NEW, NOW, OLD, fill, fill_others, grant, opened, opened_others
from daemon.connections.world import Chance, Clock
from daemon.virtual import Notes

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.keys import Keys, Vault, check
from oo_daemon.outbox import wire
from oo_daemon.store import credentials, sealed, vault_keys
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.store.database import Database
from oo_daemon.store.storage import Storage, ThreadedStorage, open_database
from oo_vault import Answer, KeyFileRefused, Keyring, Refresher, Renewed, Rotation, Secret, VaultError, WrongKey

T = TypeVar("T")

ROWS = 300
OTHERS = 3
OLD_ID, NEW_ID = Keyring([OLD]).newest.key_id, Keyring([NEW]).newest.key_id


async def each(work: Callable[[Any], T], of: Sequence[Any]) -> list[T]:
    """Beside the loop, in a thread."""
    return await asyncio.to_thread(lambda: [work(one) for one in of])


@dataclass
class World:
    """A daemon's keys over a filled database; `kept` is what stands where they are kept."""

    storage: Storage
    keyring: Keyring
    kept: list[bytes] = field(default_factory=lambda: [OLD])
    fault: Exception | None = None
    settled: int = 0
    log: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        self.keys = self.process(self.keyring)

    def process(self, keyring: Keyring) -> Keys:
        """One more daemon."""

        async def load() -> Keyring:
            if self.fault is not None:
                raise self.fault
            return Keyring(self.kept)

        async def settle() -> None:
            self.settled += 1

        return Keys(
            storage=self.storage, keyring=keyring, source="/root.key", load=load, settle=settle, clock=Clock(), log=self.log, beside=each
        )

    async def rotate(self) -> Vault:
        await self.keys.begin()
        await self.keys.ended(60)
        return await self.keys.status()

    async def counts(self) -> dict[str, int]:
        return await self.storage.read(sealed.counted)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    storage = ThreadedStorage(open_database(tmp_path / "oo.sqlite3"), wire.encode)
    keyring = Keyring([OLD])
    await check(storage, keyring, Clock())
    await storage.write(fill, keyring, range(ROWS))
    await storage.write(fill_others, keyring)
    yield World(storage, keyring)
    await storage.close()


@pytest.mark.rows("C3")
async def test_a_rotation_seals_everything_with_the_newest_key(world: World) -> None:
    """A new key above the old one seals from then on; the rotation reports all, every value is what it was, and the old key can go."""
    assert await world.counts() == {OLD_ID: ROWS + OTHERS}
    world.kept = [NEW, OLD]
    found = await world.rotate()
    assert (found.rotation.done, found.rotation.total, found.rotation.running) == (ROWS + OTHERS, ROWS + OTHERS, False)
    assert [(key.id, key.state, key.sealed) for key in found.keys] == [(NEW_ID, "seals", ROWS + OTHERS), (OLD_ID, "opens", 0)]
    alone = Keyring([NEW])
    assert await world.storage.read(opened, alone) == [grant(number) for number in range(ROWS)]
    assert b"canary-verifier" in await world.storage.read(opened_others, alone)
    await world.keys.drop(OLD_ID)
    assert world.settled == 1
    assert world.keyring.ids == (NEW_ID,)
    await check(world.storage, alone, Clock())
    world.kept = [NEW]
    await world.keys.reload()


@pytest.mark.rows("C3")
async def test_a_key_in_use_is_not_dropped(world: World) -> None:
    """Before the rotation, an old key, the newest and an unknown one are all refused; a restart without the old key is refused too."""
    with pytest.raises(Declined) as newest:
        await world.keys.drop(OLD_ID)
    assert newest.value.code == "key_newest"
    world.kept = [NEW, OLD]
    await world.keys.reload()
    with pytest.raises(Declined) as used:
        await world.keys.drop(OLD_ID)
    assert used.value.code == "key_in_use"
    with pytest.raises(Declined) as unknown:
        await world.keys.drop("00000000")
    assert unknown.value.code == "not_found"
    with pytest.raises(WrongKey):
        await check(world.storage, Keyring([NEW]), Clock())


@pytest.mark.rows("C3", "C5", "C6")
@pytest.mark.parametrize("fault", [KeyFileRefused("It is gone.", "Put it back."), None], ids=["unreadable", "another key"])
async def test_keys_that_cannot_be_used_change_nothing(world: World, fault: Exception | None) -> None:
    """A reload that fails says why, and the daemon goes on with the keys it has."""
    world.fault, world.kept = fault, [NEW]
    with pytest.raises(type(fault) if fault else WrongKey):
        await world.keys.begin()
    assert world.keyring.ids == (OLD_ID,)
    assert world.log.said("keys_not_loaded")
    assert len(await world.storage.read(opened, world.keyring)) == ROWS
    assert [each.answer.key_id for each in await world.storage.read(vault_keys.listed)] == [OLD_ID]


@pytest.mark.rows("C3")
async def test_it_goes_on_where_it_was_stopped(world: World) -> None:
    """A stopped rotation leaves some sealed with each key, all open, and is known to be under way; the next daemon does the rest by itself,
    and only that; once more changes nothing.
    """
    world.kept = [NEW, OLD]
    batches = 0

    async def twice(work: Callable[[Any], T], of: Sequence[Any]) -> list[T]:
        nonlocal batches
        batches += 1
        if batches > 1:
            await asyncio.Event().wait()
        return [work(one) for one in of]

    world.keys._beside = twice
    await world.keys.begin()
    while batches < 2 or (await world.counts())[OLD_ID] >= ROWS:  # the first batch is written while the second is worked on
        await asyncio.sleep(0)
    await world.keys.stop()
    half = await world.counts()
    assert 0 < half[OLD_ID] < ROWS
    both = Keyring([NEW, OLD])
    assert await world.storage.read(opened, both) == [grant(number) for number in range(ROWS)]
    world.keys = world.process(both)
    status = (await world.keys.status()).rotation
    assert (status.running, status.since) == (False, NOW)
    await world.keys.go_on()
    assert (await world.keys.status()).rotation.running
    await world.keys.ended(60)
    status = (await world.keys.status()).rotation
    assert (status.running, status.since, status.done) == (False, None, ROWS + OTHERS)
    run = world.keys._run
    assert run is not None
    assert run.done == half[OLD_ID]
    await world.keys.go_on()
    assert world.keys._run is run
    before = await world.storage.read(lambda database: database.rows("SELECT sealed FROM credential ORDER BY connection"))
    await world.rotate()
    assert await world.storage.read(lambda database: database.rows("SELECT sealed FROM credential ORDER BY connection")) == before


@pytest.mark.rows("C1", "C3")
async def test_what_does_not_open_stays_and_keeps_its_key(world: World) -> None:
    """A forged row stops nothing: the others are sealed anew, it is counted and told, and its key cannot be dropped."""
    await world.storage.write(lambda database: database.rows("UPDATE credential SET sealed = x'01' WHERE connection = 7"))
    await world.storage.write(lambda database: database.rows("UPDATE source SET sealed = x'01'"))
    world.kept = [NEW, OLD]
    found = await world.rotate()
    assert (found.rotation.done, found.rotation.refused) == (ROWS + OTHERS - 2, 2)
    assert len(world.log.said("credential_not_opened")) == 1
    with pytest.raises(Declined):
        await world.keys.drop(OLD_ID)


@pytest.mark.rows("C3")
async def test_a_renewal_wins_over_the_rotation(world: World) -> None:
    """A credential that is renewed or dropped between the look and the write is left as it is then."""
    world.kept = [NEW, OLD]

    async def meanwhile(work: Callable[[Any], T], of: Sequence[Any]) -> list[T]:
        found = [work(one) for one in of]
        row = await world.storage.read(credentials.read, "c000001")
        if row.token_version == 1:
            renewed = world.keyring.seal(row.context(2), grant(999).pack())
            rows = CredentialRows(world.storage)
            fence = await rows.lease("c000001", "other", lambda: NOW, 1)
            assert fence is not None
            await rows.commit("c000001", fence, 1, renewed, NOW, "good")
            await world.storage.write(lambda database: database.rows("DELETE FROM credential WHERE connection = 3"))
        return found

    world.keys._beside = meanwhile
    await world.rotate()
    assert (await world.storage.read(credentials.read, "c000001")).open(world.keyring).access_token == grant(999).access_token
    assert await world.counts() == {NEW_ID: ROWS + OTHERS - 1}


@pytest.mark.rows("C3")
async def test_the_service_goes_on(world: World) -> None:
    """While everything is sealed anew, credentials are renewed and used without a fault, and none of the renewals is lost."""
    world.kept = [NEW, OLD]
    refresher = Refresher(rows=CredentialRows(world.storage), keyring=world.keyring, clock=Clock(), chance=Chance(), owner="me")
    renewals: dict[str, int] = {}

    async def renew(name: str) -> None:
        async def exchange(_: Secret) -> Answer:
            renewals[name] = renewals.get(name, 0) + 1
            return Renewed(access_token=Secret(f"{name}-{renewals[name]}"), refresh_token=Secret("next"), expires_in=3600)

        version = (await world.storage.read(credentials.read, name)).token_version
        await refresher.grant(name, exchange, Rotation(rotates=True), force_after=version)

    await world.keys.begin()
    number = 0
    while not world.keys.idle:
        await asyncio.gather(*(renew(f"c{(number + step) % ROWS:06}") for step in range(8)))
        number += 8
    assert renewals
    assert await world.counts() == {NEW_ID: ROWS + OTHERS}
    for name, times in renewals.items():
        kept = (await world.storage.read(credentials.read, name)).open(Keyring([NEW]))
        assert kept.access_token == Secret(f"{name}-{times}")


@pytest.mark.rows("C1", "C2")
async def test_what_was_moved_in_the_database_does_not_open(world: World) -> None:
    """Who can write the table moves sealed values between rows, versions, keys and tables of a vault of fifty: none opens."""
    rows = await world.storage.read(lambda database: database.rows("SELECT connection, key_id, sealed FROM credential LIMIT 50"))
    wrapped = await world.storage.read(lambda database: database.rows("SELECT sealed FROM source"))
    names = [f"c{number:06}" for number in range(50)]
    forged = [world.keyring.newest._sealing.encrypt(grant(1).pack())]  # all that takes is the public key

    def tried(database: Database, change: str, *values: object) -> int:
        database.rows("SAVEPOINT trial")
        database.rows(f"UPDATE credential SET {change} WHERE connection = ?", values)
        count = 0
        name = names[int(str(values[-1])) - 1]
        try:
            credentials.read(database, name).open(world.keyring)
            count = 1
        except VaultError:
            pass
        database.rows("ROLLBACK TO trial")
        database.rows("RELEASE trial")
        return count

    def attack(database: Database) -> int:
        found = 0
        for number, _, own in rows:
            for _, _, blob in rows:
                found += tried(database, "sealed = ?", blob, number) if blob != own else 0
            for blob in (*(each for (each,) in wrapped), *forged, b"\x01" + bytes(32) + forged[0]):
                found += tried(database, "sealed = ?", blob, number)
            found += tried(database, "token_version = 2", number) + tried(database, "key_id = '00000000'", number)
        return found

    assert await world.storage.write(attack) == 0
    assert len(await world.storage.read(opened, world.keyring)) == ROWS
