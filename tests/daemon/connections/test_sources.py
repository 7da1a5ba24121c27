"""Sources: made with registrations, found by their address, closed where there is nothing to verify with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from daemon.connections.world import SECRET, Acme, Chance, Clock

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.sources import OpenSource, Sources
from oo_daemon.outbox import wire
from oo_daemon.registry import Registry
from oo_daemon.store import sources as rows
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import Connector, Delivery, HmacScheme, News
from oo_vault import Keyring, Secret, Tampered


class Hearing(Acme):
    """Signs with a secret of its own."""

    webhooks: Any = HmacScheme(header="X-Sign", id_header="X-Id")

    async def route(self, delivery: Delivery) -> Sequence[str]:
        return ["a-1"]

    async def read(self, delivery: Delivery) -> Sequence[News]:
        return []


class Sharing(Hearing):
    """Signs with the client secret."""

    id = "sharing"
    webhooks = HmacScheme(header="X-Sign", key="client_secret")


class Odd(Hearing):
    """Declares what it likes."""

    id = "odd"


class Broken(Hearing):
    """Cannot even say what it declares."""

    id = "broken"

    @property
    def webhooks(self) -> HmacScheme:
        raise ZeroDivisionError(SECRET)


class Deaf(Acme):
    """Takes no webhooks."""

    id = "deaf"


CONNECTORS: dict[str, Connector] = {each.id: each for each in (Hearing(), Sharing(), Odd(), Broken(), Deaf())}


class World:
    """A store, and what is built on it anew with each start."""

    def __init__(self, storage: InlineStorage) -> None:
        self.storage = storage
        self.chance = Chance()
        self.reads = 0

    async def start(self, connectors: dict[str, Connector] = CONNECTORS) -> Sources:
        registry = Registry(plugins=(), connectors=connectors)
        keyring = Keyring([bytes(range(32))])
        self.registrations = Registrations(
            storage=self.storage, keyring=keyring, registry=registry, clock=Clock(), public_url="https://oo.example"
        )
        self.sources = Sources(
            storage=self.storage,
            keyring=keyring,
            registry=registry,
            registrations=self.registrations,
            clock=Clock(),
            chance=self.chance,
            public_url="https://oo.example",
        )
        await self.sources.prepare()
        return self.sources

    async def add(self, provider: str, *secrets: str, hooks: Sequence[str] | None = None) -> OpenSource | None:
        added = await self.registrations.add(provider, "our-client", [Secret(text) for text in secrets])
        await self.sources.keep(added, None if hooks is None else [Secret(text) for text in hooks])
        return self.sources.of(added.id)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = open_database(tmp_path / "oo.sqlite3")
    made = World(InlineStorage(database, wire.encode))
    await made.start()
    yield made
    database.close()


def token(source: OpenSource | None) -> str:
    assert source is not None
    return source.url.rpartition("/")[2]


async def test_a_registration_gets_an_address(world: World) -> None:
    """It is unguessable, leads to the source, and is the same after a restart; neither it nor a secret lies open in the database."""
    made = await world.add("acme", "client", hooks=[SECRET])
    assert made is not None
    assert made.url.startswith("https://oo.example/webhooks/")
    assert len(token(made)) == 43, "256 bits in base64"
    assert world.sources.at(token(made)) is made
    assert (made.id, made.provider, made.held(0), made.secret_count, made.closed) == ("acme", "acme", [SECRET.encode()], 1, "")
    assert SECRET not in repr(made)
    assert token(made) not in repr(made)
    (row,) = await world.storage.read(rows.listed)
    assert token(made).encode() not in row.sealed.blob + row.token_hash
    assert SECRET.encode() not in row.sealed.blob
    again = await world.start()
    assert again.at(token(made)) == made


async def test_sources_are_made_for_what_was_there_before(world: World) -> None:
    """A registration from before its connector could hear has its address after the next start, and keeps it after the one after."""
    await world.start({"acme": Deaf()})
    assert await world.add("acme", "client") is None
    first = token((await world.start()).of("acme"))
    assert token((await world.start()).of("acme")) == first


async def test_addresses_differ(world: World) -> None:
    """Two sources have two addresses, and an address that is none leads to a source that is closed and has a secret all the same."""
    assert token(await world.add("acme")) != token(await world.add("sharing", SECRET))
    for wrong in ("", "x", "x" * 43, "\udcff", token(world.sources.of("acme")).swapcase()):
        nobody = world.sources.at(wrong)
        assert (nobody.id, nobody.provider) == ("", "")
        assert nobody.closed
        assert len(nobody.held(0)[0]) >= 32


async def test_secrets_stay_unless_others_are_given(world: World) -> None:
    """A new client secret leaves webhook secrets as they are, new ones replace them, and none at all closes the source."""
    address = token(await world.add("acme", "client", hooks=["new", "old"]))
    for hooks, kept in ((None, ["new", "old"]), (["newest"], ["newest"]), ([], [])):
        source = await world.add("acme", "another", hooks=hooks)
        assert token(source) == address
        assert source is not None
        assert source.secret_count == len(kept)
        if kept:
            assert source.held(0) == [text.encode() for text in kept]
    assert source is not None
    assert "--webhook-secret-file" in source.closed


async def test_client_secrets_verify_where_the_scheme_says_so(world: World) -> None:
    """A provider that signs with the client secret needs no other; a new one counts from the answer on."""
    source = await world.add("sharing", "first")
    assert source is not None
    assert (source.held(0), source.closed) == ([b"first"], "")
    await world.add("sharing", "second", "first")
    assert world.sources.at(token(source)).held(0) == [b"second", b"first"]
    public = await world.add("sharing")
    assert public is not None
    assert "no client secret" in public.closed


async def test_a_delivery_reads_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an address is right or wrong is known without asking the database."""
    address = token(await world.add("acme", hooks=[SECRET]))
    monkeypatch.setattr(world.storage, "read", None)
    monkeypatch.setattr(world.storage, "write", None)
    assert world.sources.at(address).id == "acme"
    assert world.sources.at("wrong").closed


@pytest.mark.parametrize(
    "scheme",
    [
        "sha256",
        HmacScheme(header=""),
        HmacScheme(header="X", algorithm="md5"),  # type: ignore[arg-type]  # what a newer SDK might have
        HmacScheme(header="X", encoding="hex2"),  # type: ignore[arg-type]  # the same
        HmacScheme(header="X", key="other"),  # type: ignore[arg-type]  # the same
    ],
)
async def test_an_unknown_scheme_closes(world: World, monkeypatch: pytest.MonkeyPatch, scheme: Any) -> None:
    """What a connector declares in words that we do not know is not guessed at."""
    monkeypatch.setattr(Odd, "webhooks", scheme)
    source = await world.add("odd", SECRET, hooks=[SECRET])
    assert source is not None
    assert "does not know" in source.closed


async def test_a_connector_that_breaks_or_goes_closes_its_source_only(world: World) -> None:
    """The others stay open, and its own address is as it was when it is back."""
    good = await world.add("acme", hooks=[SECRET])
    lost = await world.add("odd", hooks=[SECRET])
    await world.start({"acme": CONNECTORS["acme"]})
    gone = world.sources.at(token(lost))
    assert "not loaded" in gone.closed
    assert gone.absent
    assert not world.sources.at(token(good)).absent
    assert [each.id for each in world.sources.closed()] == ["odd"]
    assert world.sources.at(token(good)).closed == ""
    assert (await world.start()).at(token(lost)) == lost
    broken = await world.add("broken", SECRET)
    assert broken is not None
    assert "does not know" in broken.closed
    assert SECRET not in broken.closed


async def test_a_source_is_switched_off(world: World) -> None:
    """It refuses everything until it is switched on again."""
    address = token(await world.add("acme", hooks=[SECRET]))
    await world.sources.enable("acme", False)
    assert world.sources.at(address).closed == "it is switched off"
    await world.add("acme", hooks=[SECRET])
    assert world.sources.at(address).closed == "it is switched off"
    await world.sources.enable("acme", True)
    assert world.sources.at(address).closed == ""


@pytest.mark.parametrize("text", ["", " ", " a", "a\n", "a\0b"])
async def test_secrets_that_can_be_of_no_use_are_declined(world: World, text: str) -> None:
    """One with blanks around it, an empty one, and any for a connector that takes no webhooks."""
    with pytest.raises(Declined) as declined:
        world.sources.check("acme", [Secret(text)])
    assert declined.value.code == "webhook_secret"
    with pytest.raises(Declined) as declined:
        world.sources.check("deaf", [Secret(SECRET)])
    assert declined.value.code == "no_webhooks"
    world.sources.check("deaf", [])
    world.sources.check("acme", [Secret(SECRET)])


async def test_a_row_that_was_moved_is_not_opened(world: World) -> None:
    """What is sealed for one source opens for no other."""
    await world.add("acme", hooks=[SECRET])
    world.storage.database.rows("UPDATE source SET id = 'odd'")
    with pytest.raises(Tampered):
        await world.sources.load()


@pytest.mark.rows("A10")
async def test_an_old_secret_ends(world: World) -> None:
    """It is taken until its time is over and not a moment longer, without anything being loaded again; the new one has no end."""
    address = token(await world.add("acme", hooks=["first"]))
    now = Clock().now()
    given = await world.sources.rotate("acme", Secret("second"), keep=60)
    assert given.secret is None, "whoever gave it knows it"
    source = world.sources.at(address)
    assert source.held(now) == source.held(now + 59_999_999) == [b"second", b"first"]
    assert source.held(now + 60_000_000) == source.held(now + 10**15) == [b"second"]
    staged = (await world.sources.rotate("acme", Secret("third"), staged=True)).source
    assert [(each.role, each.until) for each in staged.roles] == [("current", None), ("previous", now + 60_000_000), ("next", None)]
    assert staged.held(now) == [b"second", b"third", b"first"], "the sender still signs with the current one"
    promoted = await world.sources.rotate("acme", None, keep=30)
    assert promoted.secret is None
    assert promoted.source.held(now) == [b"third", b"second", b"first"]
    assert promoted.source.held(now + 30_000_000) == [b"third"]


async def test_a_rotation_needs_a_secret_that_makes_sense(world: World) -> None:
    """Where the sender makes it, it must be given; one of the registration's own is changed there; an unknown source has none."""
    await world.add("acme", hooks=["first"])
    await world.add("sharing", SECRET)
    for id_, secret, code in (
        ("acme", None, "secret_needed"),
        ("acme", Secret(" "), "webhook_secret"),
        ("sharing", Secret("x"), "no_secret"),
        ("nobody", None, "unknown_source"),
    ):
        with pytest.raises(Declined) as declined:
            await world.sources.rotate(id_, secret)
        assert declined.value.code == code
