"""Registrations: added, found, opened, and sealed where they are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon.connections.world import SECRET, Acme, Clock

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.registration import Registrations
from oo_daemon.outbox import wire
from oo_daemon.registry import Registry
from oo_daemon.store import registrations as rows
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import Connector
from oo_vault import Keyring, Secret, Tampered


class Files(Connector):
    id = "health"


class Other(Acme):
    id = "other"


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[InlineStorage]:
    database = open_database(tmp_path / "oo.sqlite3")
    yield InlineStorage(database, wire.encode)
    database.close()


@pytest.fixture
def registrations(storage: InlineStorage) -> Registrations:
    registry = Registry(plugins=(), connectors={"acme": Acme(), "other": Other(), "health": Files()})
    return Registrations(
        storage=storage, keyring=Keyring([bytes(range(32))]), registry=registry, clock=Clock(), public_url="https://oo.example"
    )


async def test_added_and_opened(registrations: Registrations, storage: InlineStorage) -> None:
    """A registration is kept sealed, listed without its secrets, and opened with them in their order."""
    added = await registrations.add("acme", "our-client", [Secret(SECRET), Secret("older")])
    assert (added.id, added.secret_count) == ("acme", 2)
    assert await registrations.listed() == [added]
    assert SECRET.encode() not in added.secrets
    assert SECRET not in repr(added)
    client = await registrations.client("acme")
    assert (client.id, client.secrets) == ("our-client", [Secret(SECRET), Secret("older")])
    assert SECRET not in repr(client)
    assert registrations.redirect_uri("acme") == "https://oo.example/oauth/acme/callback"


async def test_new_secrets_for_a_known_one(registrations: Registrations) -> None:
    """Adding one that is there replaces its client and secrets."""
    await registrations.add("acme", "our-client", [Secret("older")])
    await registrations.add("acme", "new-client", [Secret(SECRET)])
    assert len(await registrations.listed()) == 1
    assert (await registrations.client("acme")).id == "new-client"


async def test_a_client_without_secrets(registrations: Registrations) -> None:
    """A public client has none."""
    await registrations.add("acme", "our-client", [])
    assert (await registrations.client("acme")).secrets == []


@pytest.mark.parametrize(
    ("provider", "client_id", "secret", "id_", "code"),
    [
        ("nobody", "c", "s", None, "unknown_provider"),
        ("health", "c", "s", None, "no_sign_in"),
        ("acme", "c", "s", "Not An Id", "registration_id"),
        ("acme", "c", "s", "../x", "registration_id"),
        ("acme", "", "s", None, "client"),
        ("acme", "c", "", None, "client"),
        ("acme", "c", "s\n", None, "client"),
        ("acme", "c", " s", None, "client"),
        ("acme", "c", "s\udcff", None, "client"),
        ("acme", " c", "s", None, "client"),
        ("other", "c", "s", "taken", "registration_exists"),
    ],
)
async def test_what_is_declined(
    registrations: Registrations, provider: str, client_id: str, secret: str, id_: str | None, code: str
) -> None:
    """What cannot be added is declined with a code, and a sentence that does not hold the secret."""
    await registrations.add("acme", "first", [], "taken")
    with pytest.raises(Declined) as declined:
        await registrations.add(provider, client_id, [Secret(secret)], id_)
    assert declined.value.code == code
    assert len(await registrations.listed()) == 1


async def test_which_one_is_found(registrations: Registrations) -> None:
    """The one that is named is found, else the only one, else the one named like its provider; else the remedy is told."""
    with pytest.raises(Declined, match="oo registration add acme"):
        await registrations.find("acme", None)
    await registrations.add("acme", "b", [], "b")
    assert (await registrations.find("acme", None)).id == "b"
    await registrations.add("acme", "a", [], "acme")
    assert (await registrations.find("acme", None)).id == "acme"
    assert (await registrations.find("acme", "b")).id == "b"
    for provider, id_ in (("other", None), ("other", "b"), ("acme", "c")):
        with pytest.raises(Declined):
            await registrations.find(provider, id_)
    with pytest.raises(Declined, match="is gone"):
        await registrations.client("c")


async def test_secrets_open_in_their_own_row_only(registrations: Registrations, storage: InlineStorage) -> None:
    """Secrets moved to another registration do not open there."""
    await registrations.add("acme", "a", [Secret(SECRET)])
    await registrations.add("acme", "b", [Secret("mine")], "b")

    await storage.write(
        lambda database: database.rows("UPDATE registration SET secrets = (SELECT secrets FROM registration WHERE id = 'acme')")
    )
    with pytest.raises(Tampered):
        await registrations.client("b")
    assert (await storage.read(rows.by_id, "acme")) is not None
