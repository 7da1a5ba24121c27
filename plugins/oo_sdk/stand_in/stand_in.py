"""A whole stand-in: an author adds what the provider has, and what its addresses answer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, TypeAlias

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from oo_sdk.stand_in.authorization import Authorization
from oo_sdk.stand_in.control import Control
from oo_sdk.stand_in.limits import Window
from oo_sdk.stand_in.pages import front
from oo_sdk.stand_in.switches import Switch, Switches

#: What any stand-in can do wrong.
SWITCHES: Final[Mapping[str, Switch]] = {
    "status_500": Switch(what="answers 500", when="before"),
    "status_429": Switch(what="answers 429 with Retry-After", when="before", args={"seconds": 30}),
    "unauthorized": Switch(what="answers 401 to a good token", when="before"),
    "html_answer": Switch(what="answers 200 with a web page", when="before"),
    "truncated_json": Switch(what="ends the JSON in the middle", when="after"),
    "unknown_fields": Switch(what="adds a member that nobody documented", when="after"),
    "empty_pages": Switch(what="puts an empty page before each other one", when="within"),
    "drop_pushes": Switch(what="does not push what happened", when="within", where=frozenset({"push"})),
    "duplicate_pushes": Switch(what="pushes everything twice", when="within", where=frozenset({"push"})),
    "forge_pushes": Switch(what="signs what it pushes with a wrong secret", when="within", where=frozenset({"push"})),
    "expire_tokens": Switch(what="lets every access token end now", when="at once"),
    "kill_grant": Switch(what="revokes every token, as a person who removes the app", when="at once"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to the provider's API, by somebody who may make it."""

    user: str
    query: Mapping[str, str]
    path: Mapping[str, str]  #: what the braces in its route stand for
    body: Any = None  #: its JSON


class Refusal(Exception):
    """A request that the provider refuses."""

    def __init__(self, status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status: int = status
        self.body: Any = body
        self.headers: dict[str, str] = dict(headers or {})


Answers: TypeAlias = Callable[[Call], Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a list, and the name of what follows; an empty name: nothing does."""

    items: Sequence[Any]
    following: str


@dataclass(kw_only=True)
class StandIn:
    """A provider that lives on this machine. A sub-class says what it is, and gives `api` and `settings`."""

    id: ClassVar[str]
    title: ClassVar[str]
    people: ClassVar[Mapping[str, str]] = {"ada": "Ada Lovelace", "grace": "Grace Hopper"}
    scopes: ClassVar[Mapping[str, str]]
    limit: ClassVar[tuple[int, timedelta]] = (600, timedelta(minutes=1))  #: requests of one person
    client_id: ClassVar[str] = "oo"
    client_secret: ClassVar[str] = "of-the-sandbox"  # noqa: S105 - nobody's
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    token: Callable[[], str] = secrets.token_urlsafe
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    webhook: tuple[str, str] | None = None  #: where changes are pushed to, and the secret that signs them
    requests: Counter[str] = field(default_factory=Counter)
    authorization: Authorization = field(init=False)
    misbehaviour: Switches = field(init=False)

    def __post_init__(self) -> None:
        self.authorization = Authorization(
            client_id=self.client_id,
            client_secret=self.client_secret,
            people=self.people,
            scopes=self.scopes,
            now=self.now,
            token=self.token,
        )
        at_once = {"expire_tokens": lambda _: self.authorization.expire(), "kill_grant": lambda _: self.authorization.end()}
        self.misbehaviour = Switches(SWITCHES, at_once)
        self._window = Window(self.limit[1])
        self._empty = False

    def api(self) -> Mapping[str, Answers]:
        """What answers: "GET /v1/notes" → a function of a `Call` that gives JSON, or raises `Refusal`."""
        raise NotImplementedError

    def settings(self, address: str) -> Mapping[str, str]:
        """The connector's settings that point it here."""
        raise NotImplementedError

    @property
    def switches(self) -> Mapping[str, str]:
        """What can go wrong."""
        return self.misbehaviour.sentences

    def app(self, address: str) -> web.Application:
        """Give the application that answers under an address."""

        async def home(request: web.Request) -> web.Response:
            shown = {**self.settings(address), "client id": self.client_id, "client secret": self.client_secret}
            return front(self.title, settings=shown, people=self.people.values(), control={}, switches=self.switches)

        app = web.Application()
        app.add_routes([web.get("/", home), *Control(self.misbehaviour).routes(), *self.authorization.routes()])
        for route, answers in self.api().items():
            method, _, path = route.partition(" ")
            app.add_routes([web.route(method, path, self._answering(route, answers))])
        return app

    def page(self, items: Sequence[Any], name: str, size: int) -> Page:
        """Cut one page out of a list. `name` is what the page before it called this one; empty: the first."""
        start = int(name) if name.isdecimal() else 0
        self._empty = not self._empty and self.misbehaviour.take("empty_pages") is not None
        if self._empty:
            return Page((), str(start))
        end = start + size
        return Page(items[start:end], str(end) if end < len(items) else "")

    async def push(self, body: Any, id_: str) -> list[int | str]:
        """Push something to where changes are pushed to, signed in X-Signature (sha256=…); gives what each attempt was answered with."""
        if self.webhook is None or self.misbehaviour.take("drop_pushes") is not None:
            return []
        url, secret = self.webhook
        secret = self.token() if self.misbehaviour.take("forge_pushes") is not None else secret
        data = json.dumps(body).encode()
        signature = f"sha256={hmac.digest(secret.encode(), data, hashlib.sha256).hex()}"
        headers = {"X-Signature": signature, "X-Delivery": id_, "Content-Type": "application/json"}
        attempts: list[int | str] = []
        async with ClientSession(timeout=ClientTimeout(total=10)) as http:
            for _ in range(2 if self.misbehaviour.take("duplicate_pushes") is not None else 1):
                for wait in (0.0, 1.0, 4.0, 16.0):
                    await self.sleep(wait)
                    try:
                        async with http.post(url, data=data, headers=headers, allow_redirects=False) as answer:
                            attempts.append(answer.status)
                    except (ClientError, TimeoutError) as wrong:
                        attempts.append(type(wrong).__name__)
                    if isinstance(attempts[-1], int) and attempts[-1] < 500:
                        break
        return attempts

    def _answering(self, route: str, answers: Answers) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            self.requests[route] += 1
            if (wrong := self._instead()) is not None:
                return wrong
            try:
                body = json.dumps(answers(await self._call(request)))
            except Refusal as refusal:
                return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)
            for name, _ in self.misbehaviour.taken("after", "api"):
                known = json.loads(body) if name == "unknown_fields" else None
                body = json.dumps({**known, "of_the_future": [1]}) if isinstance(known, dict) else body
                body = body[: len(body) // 2] if name == "truncated_json" else body
            return web.Response(text=body, content_type="application/json")

        return answer

    def _instead(self) -> web.Response | None:
        for name, args in self.misbehaviour.taken("before", "api")[:1]:
            if name == "html_answer":
                return web.Response(text="<h1>Back soon</h1>", content_type="text/html")
            status = {"status_429": 429, "unauthorized": 401}.get(name, 500)
            headers = {"Retry-After": str(args["seconds"])} if "seconds" in args else {}
            return web.json_response({"error": name}, status=status, headers=headers)
        return None

    async def _call(self, request: web.Request) -> Call:
        grant = self.authorization.who(request.headers.get("Authorization", ""))
        if grant is None:
            raise Refusal(401, {"error": "unauthorized"}, {"WWW-Authenticate": "Bearer"})
        wait = self._window.spend(grant.user, self.limit[0], self.now())
        if wait is not None:
            raise Refusal(429, {"error": "too many requests"}, {"Retry-After": str(max(1, int(wait.total_seconds())))})
        text = await request.text()
        try:
            body = json.loads(text) if text else None
        except ValueError:
            raise Refusal(400, {"error": "this is no JSON"}) from None
        return Call(user=grant.user, query=request.query, path=request.match_info, body=body)
