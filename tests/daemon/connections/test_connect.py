"""Signing in, from the link to the sealed credential, over the real store."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from daemon.connections.astray import ASTRAY
from daemon.connections.world import CANARIES, PATIENCE, REFRESH, SECRET, TOKEN, Acme, Chance, Clock, Script, form_of, says, seen
from yarl import URL

from oo_daemon.connections.connect import Asked, Connect, FlowRefused, LinkGone, NotNow, Outcome
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.give_back import GiveBack
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.transport import NoAnswer, NotSent
from oo_daemon.host import SameLoop
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import Registry
from oo_daemon.store import connections, credentials, flows, jobs, schedule
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.schedule import CursorMoved
from oo_daemon.store.storage import InlineStorage, Storage, ThreadedStorage, open_database
from oo_sdk import ConnectorBug, Flow, Redirect, RetryLater, Sign, StoredCredential
from oo_vault import Grant, Keyring, Secret

PUBLIC = "https://oo.example"
ME = "the-browser"
BACK = "https://app.example/settings?tab=2"
LINK_LIFE, FLOW_LIFE = 900.0, 600.0
GIVEN: Mapping[str, Any] = {"access_token": TOKEN, "refresh_token": REFRESH, "token_type": "Bearer", "expires_in": 3600}

#: What the page asks for.
SEE = Asked(id="notes.read", sentence="See your notes.", access="read")
CHANGE = Asked(id="notes.write", sentence="Change your notes.", access="write", optional=True)

Finish = Callable[[Flow, str], Any]


class Provider(Acme):
    """The imagined provider, with an account behind it."""

    def __init__(self, account: str = "acc-1", finish: Finish | None = None, **auth: Any) -> None:
        self.account = account
        self.finish = finish
        self.auth = replace(Acme.auth, **auth)

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        if self.finish is not None:
            stored: StoredCredential = await self.finish(flow, code)
            return stored
        return (await flow.exchange(code)).of(self.account, label="ada@example.org", meta={"account": self.account})


@dataclass
class Notes:
    """A log that remembers."""

    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def debug(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    info = warning = debug


@dataclass
class World:
    connect: Connect
    give_back: GiveBack
    storage: Storage
    script: Script
    clock: Clock
    provider: Provider
    keyring: Keyring
    registrations: Registrations
    notes: Notes

    async def begun(self, *, user: str = "ada", account: str = "default", browser: str = ME) -> tuple[str, str]:
        """A sign-in at the provider: its state, and the id by which it is known."""
        opened = await self.connect.open("acme", user, account)
        address = await self.connect.begin(opened.link, browser)
        return parse_qs(urlsplit(address).query)["state"][0], opened.id

    async def finish(self, state: str, **how: Any) -> str:
        back = {"registration": "acme", "state": state, "browser": ME, "code": "c0de", "error": None, "iss": None, **how}
        async with asyncio.timeout(PATIENCE):
            return await self.connect.finish(**back)

    async def signed_in(self, **how: str) -> Outcome:
        """The whole way, with a yes at its end."""
        state, _ = await self.begun(**how)
        return await self.confirmed(await self.finish(state))

    async def confirmed(self, id_: str) -> Outcome:
        """Say that it is the right account, if that is asked."""
        if (await self.connect.outcome(id_, ME)).status == "pending":
            await self.connect.confirm(id_, ME)
        return await self.connect.outcome(id_, ME)

    async def connection(self, user: str = "ada", account: str = "default") -> Connection:
        found = await self.storage.read(connections.of, user, "acme", account)
        assert found is not None
        return found

    async def grant(self, connection: Connection) -> Grant:
        return (await self.storage.read(credentials.read, connection.id)).open(self.keyring)

    async def events(self) -> list[str]:
        return [type_ for (type_,) in await self.storage.read(lambda database: database.rows("SELECT type FROM outbox ORDER BY position"))]

    def again(self, **changes: Any) -> World:
        """The same over the same file, as after a restart."""
        return replace(self, connect=replace(self.connect, **changes))


def a_world(storage: Storage, *, provider: Provider | None = None) -> World:
    clock, chance, keyring, notes = Clock(), Chance(), Keyring([bytes(range(32))]), Notes()
    script, provider = Script([says(**GIVEN)]), provider or Provider()
    registry = Registry(plugins=(), connectors={"acme": provider, "health": _Files()})
    registrations = Registrations(storage=storage, keyring=keyring, registry=registry, clock=clock, public_url=PUBLIC)
    connect = Connect(
        storage=storage,
        keyring=keyring,
        registry=registry,
        registrations=registrations,
        guests=SameLoop(),
        transport=script,
        clock=clock,
        chance=chance,
        public_url=PUBLIC,
        link_life=LINK_LIFE,
        flow_life=FLOW_LIFE,
        connection_event=own.connection_event,
        return_to=frozenset({BACK}),
        log=notes,
    )
    give_back = GiveBack(
        storage=storage,
        keyring=keyring,
        registry=registry,
        registrations=registrations,
        guests=SameLoop(),
        transport=script,
        clock=clock,
        log_for=lambda _, __: notes,
        log=notes,
    )
    return World(connect, give_back, storage, script, clock, provider, keyring, registrations, notes)


class _Files(Acme):
    id = "health"
    auth = None  # type: ignore[assignment]  # the base class's is not optional here


@asynccontextmanager
async def threaded(path: Path) -> AsyncIterator[ThreadedStorage]:
    storage = ThreadedStorage(open_database(path), wire.encode)
    try:
        yield storage
    finally:
        await storage.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = open_database(tmp_path / "oo.sqlite3")
    world = a_world(InlineStorage(database, wire.encode))
    await world.registrations.add("acme", "our-client", [Secret(SECRET)])
    yield world
    database.close()


# ---- the way


async def test_the_whole_way(world: World) -> None:
    """From the link to the outcome: a connection with its account, a sealed credential, a place on the schedule and one event."""
    opened = await world.connect.open("acme", "ada")
    assert opened.url == f"{PUBLIC}/connect/{opened.link}"
    assert opened.expires_at == world.clock.now() + LINK_LIFE * SECOND
    offer = await world.connect.offer(opened.link)
    assert (offer.provider_title, offer.user_label, offer.account, offer.provider_origin, offer.scopes) == (
        "Acme Notes",
        "ada",
        "default",
        "https://acme.example",
        (SEE,),
    )
    state, id_ = await world.begun()
    assert await world.confirmed(await world.finish(state)) == Outcome(
        status="connected", provider_title="Acme Notes", reason="", label="ada@example.org", user_label="ada"
    )
    connection = await world.connection()
    assert (connection.state, connection.provider_account, connection.meta, connection.scopes, connection.registration) == (
        "active",
        "acc-1",
        {"account": "acc-1"},
        ("notes.read",),
        "acme",
    )
    grant = await world.grant(connection)
    assert (grant.access_token, grant.refresh_token, grant.token_version) == (Secret(TOKEN), Secret(REFRESH), 1)
    assert grant.expires_at == world.clock.now() + 3600 * SECOND
    found = await world.storage.read(schedule.of, connection.number, world.clock.now())
    assert found is not None
    assert found.next_run_at == world.clock.now()
    assert await world.events() == ["connection.connected"]
    sign_in = await world.storage.read(flows.by_id, id_)
    assert sign_in is not None
    assert (sign_in.status, sign_in.connection, sign_in.sealed) == ("connected", connection.id, None)


@pytest.mark.rows("D6")
async def test_what_is_sent(world: World) -> None:
    """The address asks for the required scopes at our redirect address; the code is exchanged with it, the verifier and our secret."""
    opened = await world.connect.open("acme", "ada")
    address = await world.connect.begin(opened.link, ME)
    asked = {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()}
    assert address.startswith("https://acme.example/oauth/authorize?")
    assert (asked["client_id"], asked["redirect_uri"], asked["scope"], asked["response_type"]) == (
        "our-client",
        f"{PUBLIC}/oauth/acme/callback",
        "notes.read",
        "code",
    )
    assert len(base64.urlsafe_b64decode(asked["state"] + "=")) == 32
    await world.finish(asked["state"], code="c+d&e=")
    (request,) = world.script.sent
    form = form_of(request)
    verifier = form.pop("code_verifier")
    assert form == {"grant_type": "authorization_code", "code": "c+d&e=", "redirect_uri": f"{PUBLIC}/oauth/acme/callback"}
    assert base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode() == asked["code_challenge"]
    assert (asked["code_challenge_method"], len(verifier)) == ("S256", 43)
    assert SECRET not in address


async def test_the_challenge_of_the_rfc(world: World) -> None:
    """The verifier of RFC 7636 appendix B has the challenge that stands there."""
    chance = Chance()
    verifier = base64.urlsafe_b64decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk=")
    chance.token_bytes = lambda size: verifier  # type: ignore[method-assign]  # both state and verifier are the RFC's
    opened = await world.connect.open("acme", "ada")
    address = await replace(world.connect, chance=chance).begin(opened.link, ME)
    assert parse_qs(urlsplit(address).query)["code_challenge"] == ["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"]


async def test_no_pkce_where_it_is_refused(world: World) -> None:
    """A provider that refuses PKCE is sent neither challenge nor verifier."""
    world.provider.auth = replace(world.provider.auth, pkce=False)
    opened = await world.connect.open("acme", "ada")
    address = await world.connect.begin(opened.link, ME)
    assert "code_challenge" not in address
    await world.finish(parse_qs(urlsplit(address).query)["state"][0])
    assert "code_verifier" not in form_of(world.script.sent[0])


async def test_what_was_granted_is_what_counts(world: World) -> None:
    """Scopes that the provider names are what was granted; other texts of the answer are kept with the grant, and told as claims."""
    told: list[StoredCredential] = []

    async def finish(flow: Flow, code: str) -> StoredCredential:
        told.append(await flow.exchange(code))
        return told[0]

    world.provider.finish = finish
    world.script.answers = [says(**GIVEN, scope="notes.write,notes.read", email="ada@example.org", id_token="eyJ")]
    await world.signed_in()
    connection = await world.connection()
    assert connection.scopes == ("notes.read", "notes.write")
    assert (await world.grant(connection)).extra == told[0].claims == {"email": "ada@example.org"}
    assert (told[0].scopes, told[0].expires_in, told[0].refreshable) == (frozenset({"notes.read", "notes.write"}), 3600, True)


@pytest.mark.rows("D10")
async def test_a_required_scope_that_was_not_granted(world: World) -> None:
    """Who unticks what the connector needs is told what it was; nothing is stored. What is only for changing may be unticked."""
    world.script.answers = [says(**GIVEN, scope="notes.write")]
    state, _ = await world.begun()
    outcome = await world.connect.outcome(await world.finish(state), ME)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("Acme Notes did not allow oO to do all that it needs (See your notes.)")
    assert outcome.reason.endswith("leave every box ticked.")
    world.script.answers = [says(**GIVEN, scope="notes.read")]
    await world.signed_in()
    assert (await world.connection()).scopes == ("notes.read",)


async def test_a_credential_without_an_end(world: World) -> None:
    """A token without expiry or refresh token is kept as that."""
    world.script.answers = [says(access_token=TOKEN)]
    await world.signed_in()
    grant = await world.grant(await world.connection())
    assert (grant.expires_at, grant.refresh_token) == (None, None)


async def test_the_session_of_a_flow_is_signed_in_after_the_exchange(world: World) -> None:
    """A connector can ask whose account it is with the credential just given; before the exchange there is none."""
    faults: list[str] = []

    async def finish(flow: Flow, code: str) -> StoredCredential:
        try:
            await flow.http.get("https://api.acme.example/me")
        except ConnectorBug as error:
            faults.append(str(error))
        stored = await flow.exchange(code)
        await flow.http.get("https://api.acme.example/me")
        await flow.http.post("https://api.acme.example/open", sign=Sign.NOBODY)
        return stored

    world.provider.finish = finish
    assert (await world.signed_in()).status == "connected"
    assert [request.headers.get("Authorization", "")[:6] for request in world.script.sent] == ["Basic ", "Bearer", ""]
    assert len(faults) == 1


# ---- links


async def test_a_link_works_once(world: World) -> None:
    """Looking at the offer does not use a link up; beginning gives it to one of many browsers, and the callback ends it."""

    async def slowly(flow: Flow) -> Redirect:
        await asyncio.sleep(0)
        return await Acme.begin_oauth(world.provider, flow)

    world.provider.begin_oauth = slowly  # type: ignore[method-assign]  # so that all see the link before one uses it up
    link = (await world.connect.open("acme", "ada")).link
    for _ in range(3):
        await world.connect.offer(link)
    results = await asyncio.gather(*(world.connect.begin(link, f"browser-{n}") for n in range(20)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["LinkGone"] * 19 + ["str"]
    with pytest.raises(LinkGone):
        await world.connect.begin(link, ME)


async def test_who_clicks_twice_begins_once(world: World) -> None:
    """The browser that has the link may press the button again; only its newest state counts, and after the callback the link is gone."""
    link = (await world.connect.open("acme", "ada")).link
    first, second = [URL(await world.connect.begin(link, ME)).query["state"] for _ in range(2)]
    with pytest.raises(FlowRefused):
        await world.connect.finish(registration="acme", state=first, browser=ME, code="code", error=None, iss=None)
    await world.connect.finish(registration="acme", state=second, browser=ME, code=None, error="access_denied", iss=None)
    for call in (world.connect.offer, lambda link: world.connect.begin(link, ME)):
        with pytest.raises(LinkGone):
            await call(link)


@pytest.mark.parametrize("link", ["", "forged", "é", "\udcff", "x" * 10_000])
async def test_a_link_that_is_none(world: World, link: str) -> None:
    """A forged link is gone, like a used one."""
    for call in (world.connect.offer(link), world.connect.begin(link, ME)):
        with pytest.raises(LinkGone):
            await call


async def test_a_link_runs_out(world: World) -> None:
    """A link that is too old is gone."""
    link = (await world.connect.open("acme", "ada")).link
    world.clock.time += int(LINK_LIFE * SECOND)
    for call in (world.connect.offer(link), world.connect.begin(link, ME)):
        with pytest.raises(LinkGone):
            await call


@pytest.mark.parametrize(
    ("provider", "user", "account", "registration", "code"),
    [
        ("nobody", "ada", "default", None, "unknown_provider"),
        ("health", "ada", "default", None, "no_sign_in"),
        ("acme", "", "default", None, "user"),
        ("acme", "a b", "default", None, "user"),
        ("acme", "a" * 129, "default", None, "user"),
        ("acme", "ada\n", "default", None, "user"),
        ("acme", "ada", "../x", None, "account"),
        ("acme", "ada", "default", "other", "no_registration"),
    ],
)
async def test_what_cannot_be_opened(world: World, provider: str, user: str, account: str, registration: str | None, code: str) -> None:
    """A wish that cannot be done is declined with a code and a sentence, and leaves no sign-in behind."""
    with pytest.raises(Declined) as declined:
        await world.connect.open(provider, user, account, registration)
    assert declined.value.code == code
    assert declined.value.message.endswith(".")
    assert await world.storage.read(lambda database: database.rows("SELECT count(*) FROM flow")) == [(0,)]


async def test_a_connector_that_cannot_begin_leaves_the_link(world: World) -> None:
    """Where a connector fails before the browser has left, the link still works; and it cannot send the browser to another host."""

    async def astray(flow: Flow) -> Redirect:
        return Redirect(f"https://evil.example/?state={flow.state}")

    link = (await world.connect.open("acme", "ada")).link
    whole = world.provider.begin_oauth
    world.provider.begin_oauth = astray  # type: ignore[method-assign]  # on purpose
    with pytest.raises(ConnectorBug):
        await world.connect.begin(link, ME)
    world.provider.begin_oauth = whole  # type: ignore[method-assign]  # as it was
    await world.connect.begin(link, ME)


async def never(*_: object) -> Any:
    """Comes to no end."""
    await asyncio.Event().wait()


@pytest.mark.rows("E11")
async def test_a_connector_that_never_begins_leaves_the_link(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a connector is told after a minute to try again; the link works on."""
    monkeypatch.setattr("oo_daemon.connections.connect.WITHIN", 0.01)
    link = (await world.connect.open("acme", "ada")).link
    async with asyncio.timeout(PATIENCE):
        with monkeypatch.context() as hanging:
            hanging.setattr(world.provider, "begin_oauth", never)
            with pytest.raises(NotNow, match="Try again"):
                await world.connect.begin(link, ME)
    await world.connect.begin(link, ME)


@pytest.mark.rows("E11")
async def test_a_connector_that_never_finishes_fails_the_sign_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person is told to start again in a while."""
    monkeypatch.setattr("oo_daemon.connections.connect.WITHIN", 0.01)
    world.provider.finish = never
    state, id_ = await world.begun()
    await world.finish(state)
    outcome = await world.connect.outcome(id_, ME)
    assert (outcome.status, "in a while" in outcome.reason) == ("failed", True)


@pytest.mark.rows("E11")
async def test_a_connector_that_never_revokes_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was to give back is tried with the next tick; the others are not kept waiting."""
    monkeypatch.setattr("oo_daemon.connections.give_back.WITHIN", 0.01)
    state, id_ = await world.begun()
    world.script.answers = [says(**GIVEN)]
    await world.finish(state)
    await world.connect.decline(id_, ME)
    with monkeypatch.context() as hanging:
        hanging.setattr(world.provider, "revoke", never)
        async with asyncio.timeout(PATIENCE):
            await world.give_back.tick()
    assert "grant_not_given_back" in f"{world.notes.lines}"
    world.script.answers = [says()]
    sent = len(world.script.sent)
    await world.give_back.tick()
    assert len(world.script.sent) > sent


# ---- states


@pytest.mark.rows("D1")
async def test_a_hundred_callbacks_give_one_exchange(tmp_path: Path) -> None:
    """Of a hundred callbacks with one state at once, one is exchanged, over the threaded store, and the others are refused."""
    async with threaded(tmp_path / "oo.sqlite3") as storage:
        world = a_world(storage)
        await world.registrations.add("acme", "our-client", [Secret(SECRET)])
        state, id_ = await world.begun()
        results = await asyncio.gather(*(world.finish(state) for _ in range(100)), return_exceptions=True)
        assert [result for result in results if isinstance(result, str)] == [id_]
        assert sum(isinstance(result, FlowRefused) for result in results) == 99
        assert len(world.script.sent) == 1


@pytest.mark.parametrize("state", ["", "forged", "é", "\udcff", "x" * 10_000])
async def test_a_state_that_is_none(world: World, state: str) -> None:
    """A forged or empty state is refused with nothing to learn from, and a sign-in under way is untouched by it."""
    good, _ = await world.begun()
    with pytest.raises(FlowRefused) as refused:
        await world.finish(state)
    assert str(refused.value) == ""
    await world.finish(good)


@pytest.mark.rows("D1")
async def test_a_state_runs_out(world: World) -> None:
    """A state that is too old is refused, and nothing is asked of the provider."""
    state, _ = await world.begun()
    world.clock.time += int(FLOW_LIFE * SECOND)
    with pytest.raises(FlowRefused):
        await world.finish(state)
    assert world.script.sent == []


@pytest.mark.rows("D2")
@pytest.mark.parametrize("browser", ["", "another", ME + "x", ME[:-1], "é"])
async def test_another_browser_is_refused(world: World, browser: str) -> None:
    """A callback in another browser is refused without a token request, and the state is spent."""
    state, id_ = await world.begun()
    with pytest.raises(FlowRefused):
        await world.finish(state, browser=browser)
    with pytest.raises(FlowRefused):
        await world.finish(state)
    assert world.script.sent == []
    sign_in = await world.connect.status(id_, 0)
    assert sign_in is not None
    assert sign_in.status == "failed"


async def test_no_cookie_is_not_a_browser(world: World) -> None:
    """A sign-in begun without a cookie cannot be finished without one either."""
    state, id_ = await world.begun(browser="")
    with pytest.raises(FlowRefused):
        await world.finish(state, browser="")
    with pytest.raises(FlowRefused):
        await world.connect.outcome(id_, "")
    assert world.script.sent == []


async def test_another_user_s_state_finishes_another_user_s_sign_in(world: World) -> None:
    """Two sign-ins at once do not mix, whichever comes back first."""
    mine, _ = await world.begun(user="ada", browser="hers")
    yours, _ = await world.begun(user="bob", browser="his")
    with pytest.raises(FlowRefused):
        await world.finish(mine, browser="his")
    id_ = await world.finish(yours, browser="his")
    await world.connect.confirm(id_, "his")
    assert (await world.connection("bob")).state == "active"
    assert await world.storage.read(connections.of, "ada", "acme", "default") is None


@pytest.mark.rows("D5", "D6")
@pytest.mark.parametrize("how", [{"registration": "other"}, {"registration": ""}, {"iss": "https://evil.example"}, {"iss": ""}])
async def test_an_answer_from_elsewhere_is_refused(world: World, how: Mapping[str, Any]) -> None:
    """An answer at another registration's address, or of another issuer, is refused before any code leaves; also where it says error."""
    world.provider.auth = replace(world.provider.auth, issuer="https://acme.example")
    for more in ({}, {"error": "access_denied", "code": None}):
        state, id_ = await world.begun()
        with pytest.raises(FlowRefused):
            await world.finish(state, **how, **more)
        sign_in = await world.connect.status(id_, 0)
        assert sign_in is not None
        assert sign_in.status == "failed"
    assert world.script.sent == []


async def test_the_right_issuer_is_taken(world: World) -> None:
    """The declared issuer is taken, as is none, and any where the connector declares none."""
    world.provider.auth = replace(world.provider.auth, issuer="https://acme.example")
    for iss in ("https://acme.example", None):
        state, _ = await world.begun()
        await world.finish(state, iss=iss)
    world.provider.auth = replace(world.provider.auth, issuer=None)
    state, _ = await world.begun()
    await world.finish(state, iss="https://who.example")
    assert len(world.script.sent) == 3


# ---- outcomes


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ({"error": "access_denied"}, "denied", ""),
        ({"error": "access_denied", "code": None}, "denied", ""),
        (
            {"error": "server_error", "code": None},
            "failed",
            "Acme Notes could not finish the sign-in. Nothing was stored; please start again.",
        ),
        ({"error": "<b>x</b>"}, "failed", "Acme Notes could not finish the sign-in. Nothing was stored; please start again."),
        ({"error": ""}, "failed", "Acme Notes could not finish the sign-in. Nothing was stored; please start again."),
        ({"code": None}, "failed", "Acme Notes could not finish the sign-in. Nothing was stored; please start again."),
        ({"code": ""}, "failed", "Acme Notes could not finish the sign-in. Nothing was stored; please start again."),
    ],
)
async def test_a_sign_in_without_a_code(world: World, how: Mapping[str, Any], status: str, reason: str) -> None:
    """Declined or broken at the provider, the sign-in ends without a token request, and in our words only."""
    state, _ = await world.begun()
    outcome = await world.connect.outcome(await world.finish(state, **how), ME)
    assert (outcome.status, outcome.reason) == (status, reason)
    assert world.script.sent == []


async def no_exchange(flow: Flow, code: str) -> StoredCredential:
    return StoredCredential(scopes=frozenset(), expires_in=None, refreshable=False)


async def twice(flow: Flow, code: str) -> StoredCredential:
    try:
        return await flow.exchange(code)
    except RetryLater:
        return await flow.exchange(code)


async def crashes(flow: Flow, code: str) -> StoredCredential:
    raise KeyError(code)


NOT_ACCEPTED, NO_ANSWER, NOT_KNOWN, OUR_FAULT = "did not accept", "did not answer", "does not know this server", "on our side"

FAILURES: dict[str, tuple[Any, Finish | None, str, str]] = {
    "a dead code": (says(400, error="invalid_grant"), None, NOT_ACCEPTED, "SignInAgain"),
    "a refused client": (says(401, error="invalid_client"), None, NOT_KNOWN, "RegistrationRefused"),
    "a lost answer": (NoAnswer("lost"), None, NO_ANSWER, "RetryLater"),
    "no connection": (NotSent("no way"), None, NO_ANSWER, "RetryLater"),
    "500": (says(500), None, NO_ANSWER, "RetryLater"),
    "no token": (says(200), None, NO_ANSWER, "RetryLater"),
    "a second exchange": (NoAnswer("lost"), twice, OUR_FAULT, "ConnectorBug"),
    "no exchange": (says(**GIVEN), no_exchange, OUR_FAULT, "ConnectorBug"),
    "a connector that crashes": (says(**GIVEN), crashes, OUR_FAULT, "KeyError"),
}


@pytest.mark.rows("D14")
@pytest.mark.parametrize(("answer", "finish", "words", "kind"), FAILURES.values(), ids=FAILURES)
async def test_an_exchange_that_fails(world: World, answer: Any, finish: Finish | None, words: str, kind: str) -> None:
    """A failed exchange ends the sign-in with a sentence for a person and a line for the operator; nothing is stored or tried twice."""
    world.provider.finish, world.script.answers = finish, [answer]
    state, _ = await world.begun()
    outcome = await world.connect.outcome(await world.finish(state, code="canary-code"), ME)
    assert outcome.status == "failed"
    assert words in outcome.reason
    assert outcome.reason.endswith(".")
    assert not any(word in outcome.reason for word in ("token", "grant", "invalid_", "client", "RetryLater", "the provider", "None"))
    assert len(world.script.sent) <= 1
    assert await world.storage.read(connections.of, "ada", "acme", "default") is None
    ((event, fields),) = world.notes.lines
    assert (event, fields["provider"], fields["error"]) == ("sign_in_failed", "acme", kind)
    assert "canary" not in repr(world.notes.lines)
    assert await world.events() == []


async def test_the_account_that_is_refused_at_once(world: World) -> None:
    """A credential that the provider refuses as soon as it is used ends the sign-in, and is not renewed."""

    async def finish(flow: Flow, code: str) -> StoredCredential:
        stored = await flow.exchange(code)
        await flow.http.get("https://api.acme.example/me")
        return stored

    world.provider.finish, world.script.answers = finish, [says(**GIVEN), says(401)]
    outcome = await world.signed_in()
    assert (outcome.status, NOT_ACCEPTED in outcome.reason) == ("failed", True)
    assert len(world.script.sent) == 2


async def test_a_store_that_fails_fails_the_sign_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the grant cannot be kept, the person is told to start again; where the connection cannot be made, the yes can be repeated."""

    async def full(*_: object, **__: object) -> None:
        raise CannotStore("the disk is full")

    state, _ = await world.begun()
    with monkeypatch.context() as patch:
        patch.setattr(flows, "hold", lambda *_: (_ for _ in ()).throw(CannotStore("the disk is full")))
        outcome = await world.connect.outcome(await world.finish(state), ME)
    assert (outcome.status, OUR_FAULT in outcome.reason) == ("failed", True)
    state, _ = await world.begun()
    id_ = await world.finish(state)
    with monkeypatch.context() as patch:
        patch.setattr(world.storage, "accept", full)
        with pytest.raises(CannotStore):
            await world.connect.confirm(id_, ME)
    assert (await world.confirmed(id_)).status == "connected"


async def test_storage_that_is_away_for_a_moment_costs_no_sign_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code is spent and the grant exists only here: it is kept as soon as it can be."""
    hold, refusals = flows.hold, 3

    def refuse(*given: Any) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise CannotStore("the server went away")
        hold(*given)

    state, _ = await world.begun()
    monkeypatch.setattr(flows, "hold", refuse)
    assert (await world.confirmed(await world.finish(state))).status == "connected"


async def test_the_outcome_can_be_looked_at_again(world: World) -> None:
    """Loading the outcome again shows the same, in the same browser only, and asks nothing; a repeated callback is refused."""
    state, _ = await world.begun()
    id_ = await world.finish(state)
    assert await world.connect.outcome(id_, ME) == await world.connect.outcome(id_, ME)
    for who, what in [("another", id_), ("", id_), (ME, "nothing"), (ME, "")]:
        with pytest.raises(FlowRefused):
            await world.connect.outcome(what, who)
    with pytest.raises(FlowRefused):
        await world.finish(state)
    assert len(world.script.sent) == 1


async def test_there_is_no_outcome_before_the_end(world: World) -> None:
    """A sign-in under way has no outcome to show."""
    _, id_ = await world.begun()
    with pytest.raises(FlowRefused):
        await world.connect.outcome(id_, ME)


async def test_status_waits_for_the_end(world: World) -> None:
    """Whoever waits for a sign-in hears of its end, or after the time given how it stands."""
    state, id_ = await world.begun()
    before = world.clock.now()
    waited = await world.connect.status(id_, 5)
    assert waited is not None
    assert waited.status == "begun"
    assert world.clock.now() - before >= 5 * SECOND
    watching = asyncio.ensure_future(world.connect.status(id_, 300))
    await world.confirmed(await world.finish(state))
    async with asyncio.timeout(PATIENCE):
        seen_ = await watching
    assert seen_ is not None
    assert seen_.status == "connected"
    _, late = await world.begun()
    world.clock.time += int(FLOW_LIFE * SECOND)
    before = world.clock.now()
    assert await world.connect.status(late, 300) is not None
    assert world.clock.now() == before  # nothing more can come of it
    assert await world.connect.status("nothing", 5) is None


async def test_sign_ins_are_forgotten(world: World) -> None:
    """A day after a sign-in could have ended, nothing of it is left."""
    state, id_ = await world.begun()
    await world.finish(state)
    world.clock.time += int((FLOW_LIFE + 24 * 3600) * SECOND)
    await world.connect.tidy()
    assert await world.connect.status(id_, 0) is not None
    world.clock.time += 1
    await world.connect.tidy()
    assert await world.connect.status(id_, 0) is None


# ---- reconnecting


async def test_reconnecting_keeps_what_there_is(world: World) -> None:
    """Signing in again keeps the connection's id, number and cursor, makes it due, and puts new tokens over the old."""
    await world.signed_in()
    before = await world.connection()

    def move(database: Database) -> None:
        (run,) = schedule.claim(database, "me", world.clock.now(), world.clock.now() + SECOND, 1)
        CursorMoved(run=run, cursor={"at": 7}).apply(database)
        schedule.release(database, "me", world.clock.now() + 3600 * SECOND, (), {})
        connections.StateChanged(number=before.number, state="needs_sign_in", reason="gone", now=world.clock.now()).apply(database)

    await world.storage.write(move)
    world.clock.time += 60 * SECOND
    world.script.answers = [says(access_token="second-0123456789")]
    assert (await world.signed_in()).status == "connected"
    after = await world.connection()
    assert (after.id, after.number, after.state, after.reason) == (before.id, before.number, "active", "")
    found = await world.storage.read(schedule.of, after.number, world.clock.now())
    assert found is not None
    assert (found.cursor, found.tries) == ({"at": 7}, 0)
    assert found.next_run_at == world.clock.now()
    grant = await world.grant(after)
    assert (grant.access_token, grant.token_version) == (Secret("second-0123456789"), 2)
    assert await world.events() == ["connection.connected", "connection.recovered"]


@pytest.mark.rows("C14")
async def test_another_account_needs_a_yes(world: World) -> None:
    """Signing in with another account under the same name says whose place it would take, and changes nothing before the yes."""
    await world.signed_in()
    before = await world.connection()
    world.provider.account = "acc-2"
    world.script.answers = [says(access_token="second-0123456789")]
    state, _ = await world.begun()
    id_ = await world.finish(state)
    asked = await world.connect.outcome(id_, ME)
    assert (asked.status, asked.replaces) == ("pending", "ada@example.org")
    assert await world.connection() == before
    assert (await world.grant(before)).access_token == Secret(TOKEN)
    await world.connect.decline(id_, ME)
    assert (await world.connect.outcome(id_, ME)).status == "denied"
    with pytest.raises(FlowRefused):
        await world.connect.confirm(id_, "another")
    await world.connect.confirm(id_, ME)  # too late: it was answered
    assert await world.connection() == before
    assert (await world.signed_in(account="work")).status == "connected"
    assert (await world.connection(account="work")).id != before.id


@pytest.mark.rows("C14")
async def test_another_account_takes_the_place(world: World) -> None:
    """After the yes, one transaction puts the new account in place and forgets the cursor; the old account's grant is given back."""
    await world.signed_in()
    before = await world.connection()

    def move(database: Database) -> None:
        (run,) = schedule.claim(database, "me", world.clock.now(), world.clock.now() + SECOND, 1)
        CursorMoved(run=run, cursor={"at": 7}).apply(database)

    await world.storage.write(move)
    world.provider.account = "acc-2"
    world.script.answers = [says(access_token="second-0123456789")]
    assert (await world.signed_in()).status == "connected"
    after = await world.connection()
    assert (after.id, after.provider_account) == (before.id, "acc-2")
    assert (await world.grant(after)).access_token == Secret("second-0123456789")
    planned = await world.storage.read(schedule.of, after.number, world.clock.now())
    assert planned is not None
    assert (planned.cursor, planned.next_run_at) == (None, world.clock.now())
    given = [form_of(request).get("token") for request in world.script.sent]
    world.script.answers = [says()]
    await world.give_back.tick()
    assert [form_of(request)["token"] for request in world.script.sent[len(given) :]] == [REFRESH, TOKEN]
    await world.give_back.tick()
    assert len(world.script.sent) == len(given) + 2, "once is enough"
    assert (await world.grant(after)).access_token == Secret("second-0123456789")


async def test_an_account_without_a_name_is_taken(world: World) -> None:
    """Where a connector cannot name the account, signing in again is trusted."""
    await world.signed_in()
    world.provider.account = ""
    assert (await world.signed_in()).status == "connected"


# ---- going away, coming back


async def test_a_browser_that_goes_away_loses_nothing(world: World) -> None:
    """When the browser hangs up during the exchange, the credential is kept all the same, and the daemon can wait for that."""
    world.script.gate = asyncio.Event()
    state, id_ = await world.begun()
    coming_back = asyncio.ensure_future(world.connect.finish(registration="acme", state=state, browser=ME, code="c", error=None, iss=None))
    async with asyncio.timeout(PATIENCE):
        await world.script.arrived.wait()
    coming_back.cancel()
    with pytest.raises(asyncio.CancelledError):
        await coming_back
    stopping = asyncio.ensure_future(world.connect.settle())
    await asyncio.sleep(0)
    assert not stopping.done()
    world.script.gate.set()
    async with asyncio.timeout(PATIENCE):
        await stopping
    assert (await world.confirmed(id_)).status == "connected"
    assert (await world.grant(await world.connection())).access_token == Secret(TOKEN)
    assert len(world.script.sent) == 1


async def test_an_exchange_that_fails_with_nobody_watching_still_ends(world: World) -> None:
    """When the browser is gone and the exchange fails, the sign-in has an end all the same."""
    world.script.gate, world.script.answers = asyncio.Event(), [NoAnswer("lost")]
    state, id_ = await world.begun()
    coming_back = asyncio.ensure_future(world.connect.finish(registration="acme", state=state, browser=ME, code="c", error=None, iss=None))
    async with asyncio.timeout(PATIENCE):
        await world.script.arrived.wait()
    coming_back.cancel()
    await asyncio.gather(coming_back, return_exceptions=True)
    world.script.gate.set()
    await world.connect.settle()
    assert (await world.connect.outcome(id_, ME)).status == "failed"


@pytest.mark.rows("D4")
async def test_sign_ins_survive_a_restart(tmp_path: Path) -> None:
    """A link opened, a state given out and an outcome seen before a restart all work after it."""
    path = tmp_path / "oo.sqlite3"
    async with threaded(path) as storage:
        world = a_world(storage)
        await world.registrations.add("acme", "our-client", [Secret(SECRET)])
        link = (await world.connect.open("acme", "bob")).link
        state, _ = await world.begun(user="ada")
        ended, _ = await world.begun(user="eve")
        ended = await world.finish(ended)
        waiting, _ = await world.begun(user="dan")
        waiting = await world.finish(waiting)
        await world.confirmed(ended)
    async with threaded(path) as storage:
        world = a_world(storage)
        assert (await world.connect.outcome(ended, ME)).status == "connected"
        assert (await world.connect.outcome(waiting, ME)).status == "pending"
        assert (await world.confirmed(waiting)).status == "connected"
        assert (await world.confirmed(await world.finish(state))).status == "connected"
        await world.connect.begin(link, ME)


async def test_a_connector_that_is_gone(world: World) -> None:
    """Without its connector, a link is gone, a callback is refused and ended, and an old outcome can still be seen."""
    state, id_ = await world.begun()
    link = (await world.connect.open("acme", "bob")).link
    ended, _ = await world.begun(user="eve")
    ended = await world.finish(ended)
    bare = world.again(registry=Registry(plugins=()))
    with pytest.raises(LinkGone):
        await bare.connect.offer(link)
    with pytest.raises(LinkGone):
        await bare.connect.begin(link, ME)
    with pytest.raises(FlowRefused):
        await bare.finish(state)
    sign_in = await world.connect.status(id_, 0)
    assert sign_in is not None
    assert sign_in.status == "failed"
    assert (await bare.connect.outcome(ended, ME)).provider_title == "acme"


@pytest.mark.rows("C1")
@pytest.mark.parametrize("user", ["ada", "eve"])
async def test_a_verifier_moved_to_another_sign_in_is_refused(world: World, user: str) -> None:
    """A verifier that was sealed for another sign-in, be it the same person's, does not open: the exchange never begins."""
    state, id_ = await world.begun()
    _, other = await world.begun(user=user)
    await world.storage.write(
        lambda database: database.rows("UPDATE flow SET sealed = (SELECT sealed FROM flow WHERE id = ?) WHERE id = ?", (other, id_))
    )
    assert (await world.connect.outcome(await world.finish(state), ME)).status == "failed"
    assert world.script.sent == []


# ---- what never shows


async def test_nothing_a_connector_is_given_shows_a_secret(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the flow, before, during and after the exchange, nor what it gives, shows a token or our secret."""
    caplog.set_level(logging.DEBUG)
    looked: list[str] = []

    async def finish(flow: Flow, code: str) -> StoredCredential:
        looked.append(seen(flow))
        stored = await flow.exchange(code)
        looked.extend([seen(flow), seen(stored)])
        with pytest.raises(ConnectorBug) as error:
            await flow.exchange(code)
        looked.append(seen(error.value))
        return stored

    world.provider.finish = finish
    assert (await world.signed_in()).status == "connected"
    assert len(looked) == 4
    assert not any(canary in text for canary in CANARIES for text in [*looked, caplog.text])


async def test_the_file_shows_no_secret(tmp_path: Path) -> None:
    """Neither link, state, verifier, code nor any secret can be read in the database's files, before or after."""
    path = tmp_path / "oo.sqlite3"
    async with threaded(path) as storage:
        world = a_world(storage)
        await world.registrations.add("acme", "our-client", [Secret(SECRET)])
        link = (await world.connect.open("acme", "bob")).link
        state, _ = await world.begun()
        await world.finish(state, code="canary-code")
        other, _ = await world.begun(user="eve")
        verifier = form_of(world.script.sent[0])["code_verifier"]
        held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    held += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"our-client" in held
    for secret in (*CANARIES, link, state, other, verifier, "canary-code", ME):
        assert secret.encode() not in held


async def test_a_link_is_not_printed(world: World) -> None:
    """What opening a sign-in gives does not print the link."""
    opened = await world.connect.open("acme", "ada")
    assert opened.link not in repr(opened)


async def test_changing_is_asked_for_apart(world: World) -> None:
    """Only who asks to change things asks the person for that, in sentences of its own and in addition to reading."""
    reading, writing = await world.connect.open("acme", "ada"), await world.connect.open("acme", "ada", write=True)
    assert (await world.connect.offer(reading.link)).scopes == (SEE,)
    assert (await world.connect.offer(writing.link)).scopes == (SEE, CHANGE)
    address = await world.connect.begin(writing.link, ME)
    assert parse_qs(urlsplit(address).query)["scope"] == ["notes.read notes.write"]


async def test_nothing_to_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a connector can change nothing, asking to is declined."""
    monkeypatch.setattr(world.provider, "scopes", Acme.scopes[:1])
    with pytest.raises(Declined) as declined:
        await world.connect.open("acme", "ada", write=True)
    assert declined.value.code == "no_write"


async def test_signing_in_again_ends_a_revocation(world: World) -> None:
    """What was being given back stays: the job is over, and the connection has its new credential."""
    await world.signed_in()
    connection = await world.connection()
    await world.storage.write(jobs.put, id_="r1", kind="revoke", connection=connection.number, key="1", body={}, now=world.clock.now())
    await world.signed_in()
    job = await world.storage.read(jobs.by_id, "r1")
    assert job is not None
    assert (job.state, job.next_try_at) == ("failed", None)
    assert (await world.connection()).state == "active"


# ---- whose account it is


@pytest.mark.rows("D4")
async def test_nothing_is_connected_before_the_yes(world: World) -> None:
    """After the exchange the account is shown and nothing else has come about: no connection, no sync, no event, until the yes."""
    state, id_ = await world.begun()
    await world.finish(state)
    asked = await world.connect.outcome(id_, ME)
    assert (asked.status, asked.label, asked.user_label, asked.replaces) == ("pending", "ada@example.org", "ada", "")
    sign_in = await world.connect.status(id_, 0)
    assert sign_in is not None
    assert (sign_in.status, sign_in.connection) == ("pending", None)
    assert await world.storage.read(connections.listed) == []
    assert await world.events() == []
    assert TOKEN.encode() not in repr(sign_in).encode()
    await world.connect.confirm(id_, ME)
    await world.connect.confirm(id_, ME)
    assert await world.events() == ["connection.connected"]
    assert (await world.connect.outcome(id_, ME)).status == "connected"


@pytest.mark.rows("D4")
async def test_a_hundred_answers_make_one_connection(tmp_path: Path) -> None:
    """Of many answers at once, yes and no, the first counts, over the threaded store."""
    async with threaded(tmp_path / "oo.sqlite3") as storage:
        world = a_world(storage)
        await world.registrations.add("acme", "our-client", [Secret(SECRET)])
        state, id_ = await world.begun()
        await world.finish(state)
        answers = [world.connect.confirm(id_, ME) if n % 2 else world.connect.decline(id_, ME) for n in range(100)]
        await asyncio.gather(*answers, return_exceptions=True)
        status = (await world.connect.outcome(id_, ME)).status
        assert await world.events() == (["connection.connected"] if status == "connected" else [])
        assert len(await storage.read(connections.listed)) == (status == "connected")


@pytest.mark.rows("D4")
@pytest.mark.parametrize("browser", ["", "another", ME + "x"])
async def test_another_browser_answers_nothing(world: World, browser: str) -> None:
    """Who holds the id of a sign-in and not its browser can neither see the account nor answer."""
    state, id_ = await world.begun()
    await world.finish(state)
    for call in (world.connect.outcome, world.connect.confirm, world.connect.decline):
        with pytest.raises(FlowRefused):
            await call(id_, browser)
    assert (await world.connect.outcome(id_, ME)).status == "pending"


async def test_there_is_nothing_to_answer_before_the_exchange(world: World) -> None:
    """A sign-in at the provider can neither be confirmed nor declined."""
    _, id_ = await world.begun()
    for call in (world.connect.confirm, world.connect.decline):
        with pytest.raises(FlowRefused):
            await call(id_, ME)


@pytest.mark.rows("D4")
async def test_a_no_gives_the_grant_back(world: World) -> None:
    """What was declined is revoked at the provider and forgotten; a provider that is away is asked again, for a day."""
    state, id_ = await world.begun()
    await world.finish(state)
    await world.connect.decline(id_, ME)
    outcome = await world.connect.outcome(id_, ME)
    assert (outcome.status, outcome.reason) == ("denied", "You said that it is not the right account.")
    world.script.sent.clear()
    world.script.answers = [says(503)]
    await world.give_back.tick()
    assert len(world.script.sent) == 1
    assert world.notes.lines[-1][0] == "grant_not_given_back"
    world.script.answers = [says()]
    await world.give_back.tick()
    assert [form_of(request)["token"] for request in world.script.sent[1:]] == [REFRESH, TOKEN]
    sign_in = await world.connect.status(id_, 0)
    assert sign_in is not None
    assert (sign_in.sealed, sign_in.found) == (None, None)


async def test_a_grant_that_cannot_be_let_go_is_left_for_the_next_tick(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that refuses once the provider was told ends no tick by an error: the provider is told again."""
    state, id_ = await world.begun()
    await world.finish(state)
    await world.connect.decline(id_, ME)
    world.script.sent.clear()
    world.script.answers = [says()]

    async def refuse(*given: Any) -> None:
        raise CannotStore("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(world.storage, "write", refuse)
        await world.give_back.tick()
    assert len(world.script.sent) == 2
    assert world.notes.lines[-1] == ("give_back_failed", {"reason": "the disk is full"})
    await world.give_back.tick()
    assert len(world.script.sent) == 4
    sign_in = await world.connect.status(id_, 0)
    assert sign_in is not None
    assert sign_in.sealed is None


async def test_a_grant_is_kept_for_a_day_at_most(world: World) -> None:
    """Where the provider stays away, the grant is forgotten after a day."""
    state, id_ = await world.begun()
    await world.finish(state)
    await world.connect.decline(id_, ME)
    world.script.answers = [NotSent("no way")]
    world.clock.time += 24 * 3600 * SECOND
    await world.give_back.tick()
    sign_in = await world.connect.status(id_, 0)
    assert sign_in is not None
    assert sign_in.sealed is None


@pytest.mark.rows("D4")
async def test_nobody_answers(world: World) -> None:
    """A question that nobody answers in time ends the sign-in, and its grant is given back."""
    state, id_ = await world.begun()
    await world.finish(state)
    world.clock.time += int(FLOW_LIFE * SECOND)
    outcome = await world.connect.outcome(id_, ME)
    assert (outcome.status, "not confirmed in time" in outcome.reason) == ("failed", True)
    with pytest.raises(FlowRefused):
        await world.connect.confirm(id_, ME)
    world.script.sent.clear()
    world.script.answers = [says()]
    await world.give_back.tick()
    assert len(world.script.sent) == 2


async def test_what_a_connection_uses_is_not_given_back(world: World) -> None:
    """Who signs in twice at one account and declines the second time keeps the first connection: the provider is told nothing."""
    await world.signed_in()
    state, id_ = await world.begun()
    await world.finish(state)
    await world.connect.decline(id_, ME)
    world.script.sent.clear()
    await world.give_back.tick()
    assert world.script.sent == []


@pytest.mark.rows("D10")
async def test_what_lacks_a_required_scope_is_given_back(world: World) -> None:
    """A grant that does not suffice is not left at the provider."""
    world.script.answers = [says(**GIVEN, scope="notes.write")]
    await world.signed_in()
    world.script.sent.clear()
    world.script.answers = [says()]
    await world.give_back.tick()
    assert len(world.script.sent) == 2


@pytest.mark.rows("D10")
async def test_what_was_asked_and_what_was_given(world: World) -> None:
    """Only what is ticked is asked for; what was ticked and not given is said; more than was asked is told to the operator."""
    opened = await world.connect.open("acme", "ada", write=True)
    address = await world.connect.begin(opened.link, ME, [])
    assert URL(address).query["scope"] == "notes.read"
    address = await world.connect.begin(opened.link, ME, ["notes.write", "made.up"])
    assert URL(address).query["scope"] == "notes.read notes.write"
    assert (await world.connect.offer(opened.link)).scopes == (SEE, CHANGE), "going back shows everything again"
    world.script.answers = [says(**GIVEN, scope="notes.read")]
    id_ = await world.finish(URL(address).query["state"])
    assert (await world.connect.outcome(id_, ME)).withheld == ("Change your notes.",)
    assert (await world.confirmed(id_)).withheld == ("Change your notes.",)
    world.notes.lines.clear()
    world.script.answers = [says(**GIVEN, scope="notes.read notes.admin")]
    await world.signed_in()
    assert world.notes.lines == [("more_scopes_than_asked", {"provider": "acme", "more": 1})]


# ---- the way back to the product


@pytest.mark.rows("D7")
async def test_only_the_list_leads_away(world: World) -> None:
    """Of eighty and more addresses that resemble the one on the list, none is taken; the one that is leads back from the outcome."""
    assert len(set(ASTRAY)) >= 80
    for address in ASTRAY:
        with pytest.raises(Declined) as declined:
            await world.connect.open("acme", "ada", return_to=address)
        assert declined.value.code == "return_to", address
        assert address not in str(declined.value) or len(address) < 3
    opened = await world.connect.open("acme", "ada", return_to=BACK)
    state = URL(await world.connect.begin(opened.link, ME)).query["state"]
    assert (await world.confirmed(await world.finish(state))).return_to == BACK


@pytest.mark.rows("D11")
async def test_links_for_one_user_are_counted(world: World) -> None:
    """A minute takes sixty links for one user; another user's are counted apart, and the next minute takes more."""
    for _ in range(60):
        await world.connect.open("acme", "ada")
    with pytest.raises(Declined) as declined:
        await world.connect.open("acme", "ada")
    assert declined.value.code == "too_many"
    await world.connect.open("acme", "bob")
    world.clock.time += 60 * SECOND
    await world.connect.open("acme", "ada")


@pytest.mark.rows("D6")
@pytest.mark.parametrize("more", [{}, {"error": "access_denied", "code": None}])
async def test_an_issuer_that_is_promised_must_come(world: World, more: Mapping[str, Any]) -> None:
    """Where the provider's metadata says that it names itself, an answer that does not is refused before any code leaves."""
    world.provider.auth = replace(world.provider.auth, issuer="https://acme.example", issuer_sent=True)
    state, _ = await world.begun()
    with pytest.raises(FlowRefused):
        await world.finish(state, iss=None, **more)
    assert world.script.sent == []
    state, _ = await world.begun()
    await world.finish(state, iss="https://acme.example")
    assert len(world.script.sent) == 1


@pytest.mark.rows("D4")
async def test_a_yes_while_the_connection_is_erased(world: World) -> None:
    """Where the connection is being erased meanwhile, the yes ends the sign-in with a reason, and the new grant is to be given back."""
    await world.signed_in()
    state, id_ = await world.begun()
    await world.finish(state)
    before = await world.connection()
    erasing = connections.StateChanged(number=before.number, state="erasing", reason="", now=world.clock.now())
    await world.storage.write(erasing.apply)
    outcome = await world.confirmed(id_)
    assert (outcome.status, "being erased" in outcome.reason) == ("failed", True)
    assert (await world.connection()).state == "erasing"
    assert [left.id for left in await world.storage.read(flows.left, world.clock.now())] == [id_]


async def test_a_scope_is_asked_for_by_itself(world: World) -> None:
    """A link may ask for one scope more and nothing else; what the connector does not know is declined."""
    session = await world.connect.open("acme", "ada", also=["notes.write"])
    (offer,) = [await world.connect.offer(session.link)]
    assert offer is not None
    assert {each.id: each.ticked for each in offer.scopes}["notes.write"]
    with pytest.raises(Declined, match=r"no scope mail\.read"):
        await world.connect.open("acme", "ada", also=["mail.read"])
