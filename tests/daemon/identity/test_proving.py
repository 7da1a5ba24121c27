"""Proving who one is behind a connect link: tickets of the product's, and what an attacker can do with links and tickets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from daemon.connections.test_connect import ME, World, a_world
from daemon.identity.world import FIRST, SECOND_KEY, a_key, by_hand, token

from oo_config import ConfigError
from oo_daemon.connections.connect import FlowRefused, LinkGone, NotTheirs, ProofNeeded
from oo_daemon.identity import files
from oo_daemon.identity.jose import PublicKeys
from oo_daemon.identity.person import NotVouched
from oo_daemon.identity.tickets import Tickets
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.store import connections
from oo_daemon.store.storage import InlineStorage, open_database
from oo_vault import Secret

PUBLIC = "https://oo.example"
KEY = a_key("product", "OKP")


@dataclass
class Scene:
    """A daemon that wants tickets."""

    world: World
    tickets: Tickets

    def ticket(self, session: str, user: str = "ada", **claims: Any) -> str:
        """As the product makes it."""
        now = self.world.clock.now() // SECOND
        said = {"iss": None, "aud": PUBLIC, "sub": user, "sid": session, "exp": now + 60, "scope": None, "iat": now, **claims}
        return token(self.world.clock, key=said.pop("key", KEY), **said)

    async def show(self, link: str, ticket: str, browser: str = ME) -> None:
        """What the page does with a ticket."""
        read = self.tickets.read(ticket)
        await self.world.connect.prove(link, browser, "ticket", read.user, read.session)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    database = open_database(tmp_path / "oo.sqlite3")
    world = a_world(InlineStorage(database, wire.encode))
    await world.registrations.add("acme", "our-client", [Secret("our-secret")])
    world = replace(world, connect=replace(world.connect, proofs=frozenset({"ticket"})))
    keys = PublicKeys.of({"keys": [KEY.as_dict(private=False)]})
    yield Scene(world, Tickets(keys=keys, audience=PUBLIC, clock=world.clock))
    database.close()


@pytest.mark.rows("D3")
async def test_a_ticket_opens_the_link(scene: Scene) -> None:
    """Before it nothing can be begun; with it the way is as ever, and the account is still asked about."""
    opened = await scene.world.connect.open("acme", "ada")
    assert (await scene.world.connect.offer(opened.link, ME)).proof_needed
    with pytest.raises(ProofNeeded):
        await scene.world.connect.begin(opened.link, ME)
    await scene.show(opened.link, scene.ticket(opened.id))
    assert not (await scene.world.connect.offer(opened.link, ME)).proof_needed
    address = await scene.world.connect.begin(opened.link, ME)
    id_ = await scene.world.finish(address.split("state=")[1].split("&")[0])
    assert (await scene.world.connect.outcome(id_, ME)).status == "pending"
    assert (await scene.world.confirmed(id_)).status == "connected"


@pytest.mark.rows("D3")
@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1_000_000_000},
        {"exp": None},
        {"exp": 1_795_000_000 + 3600},
        {"aud": "https://other.example"},
        {"aud": None},
        {"sub": None},
        {"sub": 7},
        {"sid": None},
        {"key": FIRST},
        {"key": a_key("product", "OKP")},
    ],
    ids=lambda it: "-".join(f"{name}={value}"[:20] for name, value in it.items()),
)
async def test_a_ticket_that_does_not_hold(scene: Scene, claims: dict[str, Any]) -> None:
    """Stale, without an end, too long-lived, for another host, of nobody, for no session, or signed by somebody else: it proves nothing."""
    opened = await scene.world.connect.open("acme", "ada")
    with pytest.raises(NotVouched):
        await scene.show(opened.link, scene.ticket(opened.id, **claims))
    with pytest.raises(ProofNeeded):
        await scene.world.connect.begin(opened.link, ME)


async def test_a_ticket_that_nobody_signed(scene: Scene) -> None:
    """No signature, and none made of what everybody may know."""
    opened = await scene.world.connect.open("acme", "ada")
    said = {"aud": PUBLIC, "sub": "ada", "sid": opened.id, "exp": scene.world.clock.now() // SECOND + 60}
    for header in ({"alg": "none"}, {"alg": "none", "kid": "product"}, {"alg": "EdDSA", "kid": "product"}):
        with pytest.raises(NotVouched):
            scene.tickets.read(by_hand(header, said, b"x" * 64))


@pytest.mark.rows("D3")
async def test_anothers_ticket(scene: Scene) -> None:
    """A ticket of another user, and one for another session of the same user, open nothing, and leave the link as it was."""
    mine, other = await scene.world.connect.open("acme", "ada"), await scene.world.connect.open("acme", "ada")
    for ticket in (scene.ticket(mine.id, "mallory"), scene.ticket(other.id), scene.ticket("")):
        with pytest.raises(NotTheirs):
            await scene.show(mine.link, ticket)
    await scene.show(mine.link, scene.ticket(mine.id))


@pytest.mark.rows("D3")
async def test_a_ticket_that_is_used_again(scene: Scene) -> None:
    """In another browser it is worth nothing once it was used, nor is a newer one; in its own a reload changes nothing."""
    opened = await scene.world.connect.open("acme", "ada")
    ticket = scene.ticket(opened.id)
    await scene.show(opened.link, ticket)
    await scene.show(opened.link, ticket)
    for again in (ticket, scene.ticket(opened.id)):
        with pytest.raises(LinkGone):
            await scene.show(opened.link, again, "mallorys-browser")
    for browser in ("mallorys-browser", ""):
        with pytest.raises(LinkGone):
            await scene.world.connect.offer(opened.link, browser)
        with pytest.raises((LinkGone, ProofNeeded)):
            await scene.world.connect.begin(opened.link, browser)
    await scene.world.connect.begin(opened.link, ME)
    with pytest.raises(LinkGone):
        await scene.show(opened.link, ticket, "mallorys-browser")


@pytest.mark.rows("D3", "D4")
async def test_a_link_with_its_ticket_that_was_sent_on(scene: Scene) -> None:
    """Mallory sends her own link and ticket to the victim: without the victim's yes, on a page that names both, nothing is bound."""
    opened = await scene.world.connect.open("acme", "mallory")
    await scene.show(opened.link, scene.ticket(opened.id, "mallory"), "the-victims-browser")
    address = await scene.world.connect.begin(opened.link, "the-victims-browser")
    state = address.split("state=")[1].split("&")[0]
    with pytest.raises(FlowRefused):
        await scene.world.finish(state, browser="mallorys-browser")
    assert await scene.world.storage.read(connections.of, "mallory", "acme", "default") is None


async def test_a_way_that_is_not_set_up(scene: Scene) -> None:
    """Only the ways that the operator named count."""
    opened = await scene.world.connect.open("acme", "ada")
    with pytest.raises(LinkGone):
        await scene.world.connect.prove(opened.link, ME, "sign_in", "ada")


# ---- files


def test_a_secret_in_a_file(tmp_path: Path) -> None:
    """None where there is no file; refused where others can read it, or it holds none."""
    path = tmp_path / "identity.secret"
    assert files.secret(path) is None
    path.write_text("s3cret\n")
    path.chmod(0o400)
    found = files.secret(path)
    assert found is not None
    assert found.reveal() == "s3cret"
    for text, mode in (("s3cret", 0o444), ("", 0o400), ("a\x07b", 0o400)):
        path.chmod(0o600)
        path.write_text(text)
        path.chmod(mode)
        with pytest.raises(ConfigError):
            files.secret(path)


def test_keys_of_tickets_in_a_file(tmp_path: Path) -> None:
    """A key set with at least one key for signatures; anything else is refused with what to do."""
    path = tmp_path / "ticket-keys.json"
    for text in (None, "x", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "eA"}]}', '{"keys": 7}'):
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigError):
            files.public_keys(path)
    path.write_text(json.dumps({"keys": [SECOND_KEY.as_dict(private=False)]}))
    assert files.public_keys(path).by_id.keys() == {"second"}
