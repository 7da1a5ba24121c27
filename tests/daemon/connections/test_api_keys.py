"""Keys that people enter: accepted by the provider first, sealed, sent as declared, and never seen again."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon.connections.test_connect import ME, World, a_world
from daemon.connections.world import Acme, Clock, Script, says, seen

from oo_daemon.connections.connect import KeyNotTaken, LinkGone
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.exchange import Held
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.session import SignedSession
from oo_daemon.connections.signing import key_grant, signature
from oo_daemon.connections.transport import NoAnswer
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import PluginRefused, Registry, check
from oo_daemon.store import connections, flows
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import (
    ApiKey,
    AsBasic,
    Connector,
    ConnectorBug,
    InHeader,
    InQuery,
    KeyField,
    KeyFlow,
    Placeholder,
    Scope,
    StoredCredential,
    Struct,
)
from oo_vault import Secret

KEY = "canary-key/0123456789+x"
TWO = (KeyField("site", "Your name there", secret=False), KeyField("key", "API key", "Under Settings."))


class Me(Struct):
    id: str


class Keyed(Connector):
    """An imagined provider with keys."""

    id = "keyed"
    title = "Keyed Notes"
    auth: ApiKey = ApiKey(fields=TWO, sent=InHeader("X-Api-Key", "{key}"), ends="Keys end after a year.")
    scopes = (Scope("read", "See your notes."), Scope("more", "See your lists.", required=False))
    hosts = ("api.keyed.example",)
    manual_revocation = "https://keyed.example/keys"

    async def accept_key(self, flow: KeyFlow) -> StoredCredential:
        me = await flow.http.get("https://api.keyed.example/me", into=Me)
        return flow.stored().of(me.id, label=f"{flow.told['site']} at Keyed")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = open_database(tmp_path / "oo.sqlite3")
    made = a_world(InlineStorage(database, wire.encode))
    registry = Registry(plugins=(), connectors={"keyed": Keyed()})
    registrations = Registrations(
        storage=made.storage, keyring=made.keyring, registry=registry, clock=made.clock, public_url="https://oo.example"
    )
    made.script.answers = [says(id="k-1")]
    connect = replace(made.connect, registry=registry, registrations=registrations)
    yield replace(
        made,
        connect=connect,
        registrations=registrations,
        give_back=msgspec.structs.replace(made.give_back, registry=registry, registrations=registrations),
    )
    database.close()


async def entered(world: World, *, browser: str = ME, ticked: list[str] | None = None, **values: str) -> str:
    opened = await world.connect.open("keyed", "ada")
    return await world.connect.enter(opened.link, browser, {"site": "ada", "key": KEY, **values}, ticked)


@pytest.mark.rows("D4", "C1")
async def test_the_whole_way(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Shown on our page, checked, confirmed, sealed: the provider is asked with the key, and nothing else ever shows it."""
    caplog.set_level(logging.DEBUG)
    opened = await world.connect.open("keyed", "ada")
    offer = await world.connect.offer(opened.link)
    assert (offer.provider_origin, offer.fields, offer.manual_revocation) == ("", TWO, "https://keyed.example/keys")
    id_ = await world.connect.enter(opened.link, ME, {"site": " ada ", "key": f" {KEY}\n"}, ["more"])
    (sent,) = world.script.sent
    assert (sent.url, sent.headers["X-Api-Key"], "Authorization" in sent.headers) == ("https://api.keyed.example/me", KEY, False)
    asked = await world.connect.outcome(id_, ME)
    assert (asked.status, asked.label, asked.by_key) == ("pending", "ada at Keyed", True)
    assert await world.storage.read(connections.of, "ada", "keyed", "default") is None
    assert (await world.confirmed(id_)).status == "connected"
    connection = await world.storage.read(connections.of, "ada", "keyed", "default")
    assert connection is not None
    assert (connection.registration, connection.provider_account, connection.scopes) == (None, "k-1", ("more", "read"))
    grant = await world.grant(connection)
    assert (grant.refresh_token, grant.expires_at) == (None, None)
    tables = await world.storage.read(lambda it: [*it.rows("SELECT * FROM flow"), *it.rows("SELECT * FROM credential")])
    assert KEY not in f"{tables}{caplog.text}{world.notes.lines}"
    with pytest.raises(LinkGone):
        await world.connect.offer(opened.link)


async def test_what_is_not_accepted_can_be_corrected(world: World) -> None:
    """A refused key, one that could not be checked and one that is not whole: each is told in its place, and the link lives on here."""
    opened = await world.connect.open("keyed", "ada")

    async def told(answer: Any, browser: str = ME, **values: str) -> dict[str, str]:
        world.script.answers = [answer]
        with pytest.raises(KeyNotTaken) as caught:
            await world.connect.enter(opened.link, browser, {"site": "ada", "key": KEY, **values})
        assert caught.value.__cause__ is None
        assert KEY not in f"{caught.value} {caught.value.told}"
        return dict(caught.value.told)

    assert "does not accept this key" in (await told(says(401)))[""]
    assert "Try again in a while" in (await told(says(503)))[""]
    assert "Try again in a while" in (await told(NoAnswer("nothing came back")))[""]
    assert "fault on our side" in (await told(says(404)))[""]
    assert "fault on our side" in (await told(says(200, nonsense=1)))[""]
    before = len(world.script.sent)
    for key in ("", "  ", "two\nlines", "ä", "x" * 3000, "nul\0"):
        assert (await told(says(id="k-1"), key=key)).keys() == {"key"}
    assert (await told(says(id="k-1"), key="", site="")).keys() == {"key", "site"}
    assert len(world.script.sent) == before
    world.script.answers = [says(id="k-1")]
    with pytest.raises(LinkGone):
        await world.connect.enter(opened.link, "another-browser", {"site": "ada", "key": KEY})
    id_ = await world.connect.enter(opened.link, ME, {"site": "ada", "key": KEY})
    assert (await world.connect.outcome(id_, ME)).status == "pending"


@pytest.mark.rows("D14")
async def test_a_key_that_is_sent_many_times(world: World) -> None:
    """Of a hundred presses at once one makes the question, and a late one does not take an answer back."""
    opened = await world.connect.open("keyed", "ada")
    values = {"site": "ada", "key": KEY}
    ids = await asyncio.gather(*(world.connect.enter(opened.link, ME, values) for _ in range(100)), return_exceptions=True)
    (id_,) = {each for each in ids if isinstance(each, str)}
    assert {type(each) for each in ids} <= {str, LinkGone}
    assert (await world.confirmed(id_)).status == "connected"
    with pytest.raises(LinkGone):
        await world.connect.enter(opened.link, ME, values)
    assert (await world.connect.outcome(id_, ME)).status == "connected"


@pytest.mark.rows("D3")
async def test_links_grow_old(world: World) -> None:
    """A key comes too late once its link, or the time to enter it, has run out."""
    opened = await world.connect.open("keyed", "ada")
    world.script.answers = [says(401)]
    with pytest.raises(KeyNotTaken):
        await world.connect.enter(opened.link, ME, {"site": "ada", "key": KEY})
    world.script.answers = [says(id="k-1")]
    world.clock.time += 601 * SECOND
    with pytest.raises(LinkGone):
        await world.connect.enter(opened.link, ME, {"site": "ada", "key": KEY})


@pytest.mark.rows("D13")
async def test_a_key_that_nobody_confirmed(world: World) -> None:
    """The wrong account's key is forgotten; there is nobody to give it back to, and the provider is not asked."""
    id_ = await entered(world)
    await world.connect.decline(id_, ME)
    assert len(await world.storage.read(flows.left, world.clock.now())) == 1
    asked = len(world.script.sent)
    await world.give_back.tick()
    assert (await world.storage.read(flows.left, world.clock.now()), len(world.script.sent)) == ([], asked)


async def test_no_registration_and_no_redirect(world: World) -> None:
    """A key needs no client of ours, and its link leads nowhere but to our page."""
    with pytest.raises(Declined, match="enter a key of their own"):
        await world.registrations.add("keyed", "id", [Secret("s")])
    opened = await world.connect.open("keyed", "ada")
    with pytest.raises(LinkGone):
        await world.connect.begin(opened.link, ME)


# ---- how it is sent


class Sends(Acme):
    """The imagined provider, with a key."""

    auth: ApiKey = ApiKey()  # type: ignore[assignment]  # the base class's is of another kind


def session(script: Script, auth: ApiKey, values: dict[str, str]) -> SignedSession:
    connector = Sends()
    connector.auth = auth
    return SignedSession(connector=connector, client=None, authority=Held(key_grant(values, (), 0)), transport=script, clock=Clock())


BASIC = "Basic " + base64.b64encode(f"ada:{KEY}".encode()).decode()


@pytest.mark.rows("C4")
@pytest.mark.parametrize(
    ("sent", "header", "url"),
    [
        (InHeader(), ("Authorization", f"Bearer {KEY}"), "?a=1"),
        (InHeader("X-Key", "k={key};s={site}"), ("X-Key", f"k={KEY};s=ada"), "?a=1"),
        (AsBasic("{site}", "{key}"), ("Authorization", BASIC), "?a=1"),
        (InQuery("api_key"), ("Accept", "application/json"), "?a=1&api_key=canary-key%2F0123456789%2Bx"),
    ],
    ids=lambda it: type(it).__name__,
)
async def test_how_it_is_sent(sent: InHeader | InQuery | AsBasic, header: tuple[str, str], url: str) -> None:
    """In a header, as name and password, or in the address; what a provider echoes of it, in any spelling, is blotted out."""
    spelled = (KEY, "canary-key%2F0123456789%2Bx", BASIC.removeprefix("Basic "))
    script = Script([says(200, {"x-echo": " ".join(spelled)}, echo=" ".join(spelled))])
    http = session(script, ApiKey(fields=TWO, sent=sent), {"site": "ada", "key": KEY})
    answer = await http.request("GET", "https://api.acme.example/x", params={"a": 1}, headers={"x-key": "mine"})
    (request,) = script.sent
    assert request.headers[header[0]] == header[1]
    assert request.url == f"https://api.acme.example/x{url}"
    assert len([name for name in request.headers if name.lower() == "x-key"]) == 1
    left = f"{answer.headers} {answer.body!r}"
    assert KEY not in left
    assert spelled[1] not in left
    assert (spelled[2] in left) is not isinstance(sent, AsBasic)
    assert KEY not in seen(http) + repr(request)


async def test_a_key_stands_in_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a provider wants the key in a body the placeholder is filled in; a parameter of the session's own name is refused."""
    script = Script([says()])
    http = session(script, ApiKey(sent=InQuery("token")), {"key": KEY})
    await http.post("https://api.acme.example/x", json={"key": Placeholder.ACCESS_TOKEN})
    assert KEY.encode() in (script.sent[0].body or b"")
    with pytest.raises(ConnectorBug):
        await http.get("https://api.acme.example/x", params={"token": "mine"})


def test_a_value_fills_nothing_else() -> None:
    """What was entered is put in as it is, also where it looks like a field's place."""
    made = signature(ApiKey(fields=TWO, sent=InHeader("X-Key", "{site}:{key}")), key_grant({"site": "{key}", "key": KEY}, (), 0))
    assert made.headers["X-Key"] == f"{{key}}:{KEY}"
    assert KEY not in repr(made)
    with pytest.raises(ConnectorBug):
        signature(ApiKey(fields=TWO), key_grant({"key": KEY}, (), 0))


# ---- what is declared


@pytest.mark.rows("D13")
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"auth": ApiKey(fields=())}, "no field that is secret"),
        ({"auth": ApiKey(fields=[KeyField("key", "Key", secret=False)])}, "no field that is secret"),
        ({"auth": ApiKey(fields=[KeyField("The Key", "Key")])}, "different words"),
        ({"auth": ApiKey(fields=[KeyField("key", "A"), KeyField("key", "B")])}, "different words"),
        ({"auth": ApiKey(fields=[KeyField("key", " ")])}, "label"),
        ({"auth": ApiKey(sent=InHeader("X-Key", "{token}"))}, "a field that there is not"),
        ({"auth": ApiKey(fields=TWO, sent=AsBasic("{site}", "x"))}, "holds no field that is secret"),
        ({"auth": ApiKey(sent=InHeader("X Key: x", "{key}"))}, "under which it is sent"),
        ({"manual_revocation": ""}, "where a person deletes the key"),
    ],
)
def test_what_is_declared_wrong(changes: dict[str, Any], sentence: str) -> None:
    """A connector whose key cannot be entered, sent, or deleted by anybody is refused at the start, with the reason."""
    check(Keyed())
    connector = Keyed()
    for name, value in changes.items():
        setattr(connector, name, value)
    with pytest.raises(PluginRefused, match=sentence):
        check(connector)


def test_a_key_that_nobody_checks() -> None:
    """Without an address and without `accept_key` it is refused; with an address the default asks it."""

    class Unchecked(Keyed):
        accept_key = Connector.accept_key

    with pytest.raises(PluginRefused, match="no way to check"):
        check(Unchecked())
    connector = Unchecked()
    connector.auth = replace(Keyed.auth, check="https://api.keyed.example/ping")
    check(connector)
