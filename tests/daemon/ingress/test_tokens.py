"""Tokens: who may ask what over TCP."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import msgspec
import pytest
import yaml
from aiohttp import web
from daemon.ingress.wire import Notebook, Open
from daemon.virtual import SeededChance, VirtualClock

from oo_daemon.connections.errors import Declined
from oo_daemon.identity.person import CannotTell, NotVouched, Person
from oo_daemon.ingress.answers import private_application
from oo_daemon.ingress.api import Api, in_its_words
from oo_daemon.ingress.audit import AuditRoutes
from oo_daemon.ingress.backups import BackupRoutes
from oo_daemon.ingress.events import EventRoutes
from oo_daemon.ingress.health import HealthRoutes
from oo_daemon.ingress.privacy import PrivacyRoutes
from oo_daemon.ingress.proxy import ProxyRoutes
from oo_daemon.ingress.sinks import SinkRoutes
from oo_daemon.ingress.tokens import SCOPES, Scope, Tokens, guard, needs, of_user, scope_of
from oo_daemon.ingress.uploads import UploadRoutes
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.store import api_tokens
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import InlineStorage, Query, open_database

Answer = tuple[int, dict[str, str], Any]
Ask = Callable[..., Awaitable[Answer]]


class Counting(InlineStorage):
    """Counts the writes, and refuses them while the disk is full."""

    writes = 0
    full = False

    async def write(self, query: Query[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.full:
            raise CannotStore("the disk is full")
        self.writes += 1
        return await super().write(query, *args, **kwargs)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = open_database(tmp_path / "oo.db")
    yield opened
    opened.close()


@pytest.fixture
def tokens(database: SqliteDatabase) -> Tokens:
    return Tokens(storage=Counting(database, wire.encode), clock=VirtualClock(), chance=SeededChance())


def storage_of(tokens: Tokens) -> Counting:
    assert isinstance(tokens.storage, Counting)
    return tokens.storage


def clock_of(tokens: Tokens) -> VirtualClock:
    assert isinstance(tokens.clock, VirtualClock)
    return tokens.clock


def routes() -> list[web.RouteDef]:
    """Every route of the private listener."""
    rooms: tuple[type[Any], ...] = (
        Api,
        HealthRoutes,
        BackupRoutes,
        EventRoutes,
        PrivacyRoutes,
        UploadRoutes,
        AuditRoutes,
        ProxyRoutes,
        SinkRoutes,
    )
    made = [route for room in rooms for route in room(**{each.name: Mock() for each in msgspec.structs.fields(room)}).routes()]
    return [route for route in made if isinstance(route, web.RouteDef)]


def described(scheme: str = "token") -> dict[tuple[str, str], list[str]]:
    """(method, path) → the scopes that openapi.yaml names for it."""
    document = yaml.safe_load(files("oo_daemon.ingress").joinpath("openapi.yaml").read_text())
    found = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            alternatives = operation.get("security", [])
            assert {} in alternatives, f"{method} {path}: no token is needed on the socket"
            found[method.upper(), path] = [scope for each in alternatives for scope in each.get(scheme, [])]
    return found


class Issuer:
    """Vouches for `role:name:scopes`."""

    async def person(self, token: str) -> Person:
        if token == "unreachable":
            raise CannotTell("no answer")
        role, name, scopes = token.split(":") if token.count(":") == 2 else ("", "", "")
        if role not in {"operator", "viewer", "user"}:
            raise NotVouched("it does not hold")
        return Person(name=name, role=role, scopes=frozenset(scopes.split(",")))  # type: ignore[arg-type]


@pytest.fixture
async def ask(tokens: Tokens, open_door: Open, notebook: Notebook) -> Ask:
    """Asks a guarded door that has every route; what lies behind them answers 200 and does nothing."""
    app = private_application(log=notebook)
    app.middlewares.extend([in_its_words, guard(tokens, Issuer())])

    def behind(handler: object) -> Any:
        @needs(scope_of(handler), of_user=of_user(handler))
        async def answer(request: web.Request) -> web.Response:
            return web.json_response({})

        return answer

    app.add_routes([web.route(route.method, route.path, behind(route.handler)) for route in routes()])

    async def forgotten(request: web.Request) -> web.Response:
        return web.json_response({})

    app.router.add_get("/forgotten", forgotten)
    door = await open_door(app)

    async def asked(method: str, path: str, token: str | None = None, **headers: str) -> Answer:
        said = headers if token is None else {"Authorization": f"Bearer {token}", **headers}
        async with aiohttp.ClientSession() as session:
            async with session.request(method, f"{door.address}{path}", headers=said) as answer:
                return answer.status, dict(answer.headers), await answer.json(content_type=None)

    return asked


def test_every_route_declares_its_scope() -> None:
    """A new route without a declared scope is red, and so is one whose scope openapi.yaml does not name."""
    assert {(route.method, route.path) for route in routes() if not hasattr(route.handler, "scope")} == set()
    assert {(route.method, route.path.replace(":.+", "")): [scope_of(route.handler)] for route in routes()} == described()
    to_users = {(route.method, route.path.replace(":.+", "")): of_user(route.handler) for route in routes()}
    assert {where: [scope] for where, scope in to_users.items() if scope} == {
        where: scopes for where, scopes in described("person").items() if scopes
    }


def test_what_changes_something_takes_more_than_reading() -> None:
    """Only what changes nothing is open to `read`; registrations, tokens and disconnecting take `admin`; the proxy is acting."""
    by_scope = {scope: {(route.method, route.path) for route in routes() if scope_of(route.handler) == scope} for scope in SCOPES}
    # A consumer that reads moves its own place, and nothing else.
    own_place = {("POST", f"/v1/consumers/{{name}}/{what}") for what in ("batches", "ack", "nack")}
    assert {method for method, _ in by_scope["read"] - own_place} == {"GET"}
    others = by_scope["read"] | by_scope["connect"] | by_scope["act"]
    assert not any(
        path.startswith("/v1/tokens")
        or (method == "DELETE" and not ("/proxy/" in path or path.startswith("/v1/uploads/") or path.endswith("/timetable")))
        for method, path in others
    )
    assert ("POST", "/v1/registrations") in by_scope["admin"]


@pytest.mark.rows("D3")
@pytest.mark.parametrize("scope", SCOPES)
async def test_a_token_opens_what_its_scope_names(tokens: Tokens, ask: Ask, scope: Scope) -> None:
    """Over all routes: a token with one scope is let in where that scope or less is asked for, and answered 403 elsewhere."""
    made = await tokens.create("one", [scope], None)
    for (method, path), (needed,) in described().items():
        status, headers, body = await ask(method, path.replace("{", "").replace("}", ""), made.token)
        if scope in (needed, "admin"):
            assert status == 200, (method, path)
        else:
            assert (status, body["error"]["code"]) == (403, "scope"), (method, path)
            assert f'scope="{needed}"' in headers["WWW-Authenticate"]


@pytest.mark.rows("D3")
@pytest.mark.parametrize("scope", SCOPES)
async def test_a_user_is_let_in_where_a_route_says_so(ask: Ask, scope: Scope) -> None:
    """Over all routes: a person is let in where users are, with the scope that is named for them; `admin` is no scope of theirs."""
    open_to = described("person")
    for method, path in described():
        status, _, body = await ask(method, path.replace("{", "").replace("}", ""), f"user:ada:{scope}")
        named = open_to[method, path]
        if named == [scope]:
            assert status == 200, (method, path)
        else:
            assert (status, body["error"]["code"]) == (403, "scope" if named else "role"), (method, path)


async def test_operators_and_viewers(ask: Ask) -> None:
    """An operator may do everything, a viewer look at everything, whatever scopes their tokens name."""
    for (method, path), (needed,) in described().items():
        where = path.replace("{", "").replace("}", "")
        assert (await ask(method, where, "operator:eve:read"))[0] == 200
        assert (await ask(method, where, "viewer:eve:admin,act"))[0] == (200 if needed == "read" else 403)


async def test_an_issuer_that_does_not_answer(ask: Ask) -> None:
    """Who cannot be checked is told so, and a token of ours needs no issuer; what does not hold looks like any other."""
    status, headers, body = await ask("GET", "/v1/status", "unreachable")
    assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "issuer", "60")
    answers = [await ask("GET", "/v1/status", shown) for shown in ("nobody", "oot_nobody")]
    assert {(status, str(body)) for status, _, body in answers} == {(401, str(answers[0][2]))}


async def test_a_route_that_forgot_takes_admin(tokens: Tokens, ask: Ask) -> None:
    """A route without a declaration opens to nothing less than `admin`."""
    less = await tokens.create("less", ["read", "connect", "act"], None)
    assert (await ask("GET", "/forgotten", less.token))[0] == 403
    assert (await ask("GET", "/forgotten", "user:ada:read,connect,act,admin"))[0] == 403
    assert (await ask("GET", "/forgotten", (await tokens.create("more", ["admin"], None)).token))[0] == 200


async def test_whoever_has_no_token_learns_nothing(tokens: Tokens, ask: Ask) -> None:
    """Without a token every address answers the same 401, also one where nothing is; who has a token is told 404."""
    known, unknown = await ask("GET", "/v1/status"), await ask("GET", "/v1/nothing")
    assert (known[0], known[2]) == (unknown[0], unknown[2])
    assert known[0] == 401
    assert known[1]["WWW-Authenticate"] == 'Bearer realm="oO"'
    made = await tokens.create("reader", ["read"], None)
    assert (await ask("GET", "/v1/nothing", made.token))[0] == 404
    assert (await ask("PUT", "/v1/status", made.token))[0] == 405


async def test_wrong_revoked_and_expired_look_alike(tokens: Tokens, ask: Ask) -> None:
    """A token that does not hold is refused with one and the same answer, whatever is wrong with it."""
    expired, revoked = await tokens.create("expired", ["admin"], 60), await tokens.create("revoked", ["admin"], None)
    assert [(await ask("GET", "/v1/status", each.token))[0] for each in (expired, revoked)] == [200, 200]
    await clock_of(tokens).advance(60)
    await tokens.revoke("revoked")
    good = (await tokens.create("good", ["admin"], None)).token
    answers = [
        await ask("GET", "/v1/status", token)
        for token in (
            expired.token,
            revoked.token,
            good[:-1],
            good + "A",
            good.swapcase(),
            "x",
            good.removeprefix("oot_"),
            f"{good} {good}",
        )
    ]
    answers += [
        await ask("GET", "/v1/status", Authorization=value)
        for value in ("Bearer", "Bearer ", f"Basic {base64.b64encode(good.encode()).decode()}", good, "Bearer \xe9\xe9")
    ]
    assert {status for status, _, _ in answers} == {401}
    assert {str(body) for _, _, body in answers} == {str(answers[0][2])}
    assert {headers["WWW-Authenticate"] for _, headers, _ in answers} == {'Bearer realm="oO", error="invalid_token"'}
    assert (await ask("GET", "/v1/status", Authorization=f"bearer  {good}"))[0] == 200


@pytest.mark.rows("D3")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8711", 200), ("127.0.0.1:8711", 200), ("[::1]:8711", 200), ("[::1]", 200),
        ("evil.example", 403), ("evil.example:8711", 403), ("localhost.evil.example", 403), ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403), ("192.168.1.7:8711", 403), ("0.0.0.0:8711", 403), ("localhost:", 403), ("localhost:x", 403),
    ],
)  # fmt: skip
async def test_only_names_of_this_machine(tokens: Tokens, ask: Ask, host: str, status: int) -> None:
    """A page whose host name was pointed at loopback is turned away, even with a token."""
    made = await tokens.create("reader", ["read"], None)
    answer = await ask("GET", "/v1/status", made.token, Host=host)
    assert answer[0] == status
    if status == 403:
        assert answer[2]["error"]["code"] == "host"


async def test_the_last_use_is_kept_coarsely(tokens: Tokens) -> None:
    """However often a token is used, its last use is written at most once a minute, also after a restart."""
    made = await tokens.create("busy", ["read"], None)
    clock, storage = clock_of(tokens), storage_of(tokens)
    start, before = clock.now(), storage.writes

    async def use(by: Tokens) -> None:
        assert await by.known(f"Bearer {made.token}") is not None

    for _ in range(120):
        await use(tokens)
        await clock.advance(1)
    assert storage.writes - before == 2
    (known,) = await tokens.listed()
    assert known.last_used_at == start + 60 * SECOND
    again = Tokens(storage=storage, clock=clock, chance=SeededChance(8))
    await use(again)
    await use(again)
    assert storage.writes - before == 3
    clock.shift(-3600)
    await use(again)
    await use(again)
    assert storage.writes - before == 4


async def test_a_full_disk_keeps_no_reader_out(tokens: Tokens) -> None:
    """Where the last use cannot be written, the token holds all the same."""
    made = await tokens.create("reader", ["read"], None)
    storage_of(tokens).full = True
    assert await tokens.known(f"Bearer {made.token}") is not None


@pytest.mark.rows("C7")
async def test_a_token_is_kept_as_a_hash(tokens: Tokens, database: SqliteDatabase) -> None:
    """A token has 256 random bits, of which the database holds nothing, and no repr shows it."""
    made = await tokens.create("reader", ["read"], None)
    bits = base64.urlsafe_b64decode(made.token.removeprefix("oot_") + "=")
    assert len(bits) == 32
    kept = str([[bytes(cell) if isinstance(cell, bytes) else cell for cell in row] for row in database.rows("SELECT * FROM api_token")])
    assert "reader" in kept
    assert not any(form in kept for form in (made.token, made.token[4:], str(bits)[2:-1], bits.hex()))
    assert made.token not in repr(made)
    assert (await tokens.create("other", ["read"], None)).token != made.token


@pytest.mark.parametrize(("name", "scopes", "code"), [("", ["read"], "name"), ("a b", ["read"], "name"), ("a", [], "scopes")])
async def test_what_is_no_token(tokens: Tokens, name: str, scopes: list[Scope], code: str) -> None:
    """A token has a name that fits into an address, and allows something."""
    with pytest.raises(Declined) as declined:
        await tokens.create(name, scopes, None)
    assert declined.value.code == code


async def test_a_name_is_used_once(tokens: Tokens) -> None:
    """A second token of a name is refused and changes nothing; a revoked name can be used again."""
    first = await tokens.create("a", ["read"], None)
    with pytest.raises(Declined):
        await tokens.create("a", ["admin"], None)
    assert [each.scopes for each in await tokens.listed()] == [("read",)]
    await tokens.revoke("a")
    with pytest.raises(Declined):
        await tokens.revoke("a")
    await tokens.create("a", ["act"], None)
    assert await tokens.known(f"Bearer {first.token}") is None
    assert await tokens.storage.read(api_tokens.by_hash, first.known.hash) is None
