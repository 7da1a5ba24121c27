"""The private API: start connections, watch syncs, read events. openapi.yaml beside this file is its contract."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol, get_args

import msgspec
from aiohttp import web
from msgspec.structs import replace

from oo_daemon.connections import pause as pausing
from oo_daemon.connections.budgets import Budgets
from oo_daemon.connections.connect import Connect
from oo_daemon.connections.disconnect import Disconnect
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.guest import sentence
from oo_daemon.connections.keys import Keys
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.sources import KEEP_PREVIOUS, Given, Sources, Wanted, sent_id
from oo_daemon.connections.uses import Uses
from oo_daemon.ingress import contract, view
from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.asking import answer, body_of, number_of, wait_of
from oo_daemon.ingress.tokens import Scope, Tokens, held_to, insist_on_own, needs
from oo_daemon.ports import SECOND, Clock
from oo_daemon.registry import Plugin, Registry
from oo_daemon.store import connections, inbox, jobs, runs, schedule, subscriptions
from oo_daemon.store.connections import Connection
from oo_daemon.store.errors import CannotStore, Erased
from oo_daemon.store.inbox import Which
from oo_daemon.store.jobs import Job
from oo_daemon.store.registrations import Registration
from oo_daemon.store.storage import Storage
from oo_daemon.strikes import Strikes
from oo_sdk import ConnectorError
from oo_vault import Secret, VaultError

#: How often a waiting request looks again, in seconds.
LOOK = 0.1
#: Syncs among the details of a connection.
LATEST = 5
#: In seconds.
DAY = 86_400
#: Deliveries that one transaction changes.
SOME = 100
STATUS_OF = {
    "unknown_provider": 404,
    "no_registration": 409,
    "registration_exists": 409,
    "no_sign_in": 409,
    "not_active": 409,
    "erasing": 409,
    "no_write": 409,
    "no_device": 409,
    "provider": 503,
    "not_loaded": 409,
    "unknown_action": 404,
    "unknown_scope": 400,
    "missing_scope": 409,
    "key_reused": 409,
    "token_exists": 409,
    "unknown_source": 404,
    "source_exists": 409,
    "source_closed": 409,
    "cannot_sign": 409,
    "no_secret": 409,
    "key_newest": 409,
    "key_in_use": 409,
    "not_found": 404,
    "unknown_sink": 404,
    "sink_off": 409,
    "backed_up_elsewhere": 409,
    "no_imports": 404,
    "busy": 409,
    "offset": 409,
    "not_awaited": 409,
    "too_large": 413,
    "disk": 503,
    "too_many": 429,
    "unknown_consumer": 404,
    "consumer_exists": 409,
    "position_ahead": 409,
    "log_restored": 409,
    "lease_lost": 409,
}


class NewRegistration(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a new registration."""

    provider: str
    client_id: str
    client_secrets: list[str]
    id: str | None = None
    webhook_secrets: list[str] | None = None  #: None: those that are there stay


class NewConnectSession(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a new connect session."""

    provider: str
    user: str
    account: str = "default"
    registration: str | None = None
    write: bool = False
    scopes: list[str] = msgspec.field(default_factory=list)
    return_to: str = ""
    device: bool = False


class Answered(msgspec.Struct, forbid_unknown_fields=True):
    """Body of an answer to the question whether it is the right account."""

    right: bool


class NewAction(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a new action."""

    connection: str
    name: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    key: str | None = None


class NewSource(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a new source."""

    id: str
    user: str
    scheme: str = ""
    provider: str = "webhook"
    changes: dict[str, Any] = msgspec.field(default_factory=dict)
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    secret: str | None = None


class NewSecret(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a rotation."""

    secret: str | None = None
    keep: Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400)] = KEEP_PREVIOUS  #: seconds
    staged: bool = False


class Tried(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a rehearsal or a sample."""

    body: bytes  #: in base64
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """Which deliveries. At least one of them is said."""

    first: str | None = None
    last: str | None = None
    source: str | None = None
    state: inbox.State | None = None


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a new token."""

    name: str
    scopes: list[Scope]
    life: Annotated[float, msgspec.Meta(gt=0, le=366 * 86_400)] | None = None  #: seconds


class NewTimetable(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a timetable: one of the first two."""

    every: float | None = None  #: seconds
    cron: str | None = None
    zone: str | None = None


class Timetables(Protocol):
    """Gives connections their timetables."""

    async def give(self, connection: Connection, *, every: float | None, cron: str | None, zone: str | None) -> None:
        """Have it synced so from now on. Raises `Declined`."""

    async def take(self, connection: Connection) -> None:
        """Have it synced as often as all."""


class Acting(Protocol):
    """Takes actions and knows what became of them."""

    async def ask(self, connection: Connection, name: str, arguments: Mapping[str, Any], key: str | None) -> Job:
        """Take an action, or give the one that was taken under this key. Raises `Declined`."""

    async def look(self, id_: str) -> Job | None:
        """The action with this id."""


class Rehearse(Protocol):
    """Says what a delivery to a connection's own address would become."""

    async def __call__(self, connection: Connection, headers: Mapping[str, str], body: bytes, id_: str) -> list[bytes]:
        """Events as they would lie in the outbox. Raises `ConnectorError`."""


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """What the API needs of the hub."""

    storage: Storage
    registry: Registry
    registrations: Registrations
    sources: Sources
    connect: Connect
    disconnect: Disconnect
    actions: Acting
    wake: Callable[[], None]  #: has the jobs that were just queued done at once
    tokens: Tokens
    keys: Keys
    uses: Uses
    strikes: Strikes
    budgets: Budgets
    timetables: Timetables
    as_json: Callable[[bytes], dict[str, Any]]
    rehearse: Rehearse
    arrived: Callable[[], None]  #: has deliveries worked on at once
    clock: Clock
    status: Mapping[str, Any]  #: what stays the same while the daemon runs

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes of the private listener."""
        return [
            web.get("/v1/status", self.show_status),
            web.get("/v1/plugins", self.list_plugins),
            web.post("/v1/plugins/{name}/release", self.release_plugin),
            web.get("/v1/registrations", self.list_registrations),
            web.post("/v1/registrations", self.register),
            web.post("/v1/connect-sessions", self.open_connect_session),
            web.get("/v1/connect-sessions/{id}", self.show_connect_session),
            web.post("/v1/connect-sessions/{id}/code", self.get_code),
            web.post("/v1/connect-sessions/{id}/answer", self.answer_connect_session),
            web.get("/v1/connections", self.list_connections),
            web.get("/v1/connections/{id}", self.show_connection),
            web.get("/v1/connections/{id}/details", self.show_details),
            web.get("/v1/connections/{id}/uses", self.list_uses),
            web.delete("/v1/connections/{id}", self.end_connection),
            web.post("/v1/connections/{id}/sync", self.sync),
            web.post("/v1/connections/{id}/pause", self.pause),
            web.post("/v1/connections/{id}/resume", self.resume),
            web.put("/v1/connections/{id}/timetable", self.give_timetable),
            web.delete("/v1/connections/{id}/timetable", self.take_timetable),
            web.get("/v1/runs", self.list_runs),
            web.post("/v1/actions", self.act),
            web.get("/v1/actions/{id}", self.show_action),
            web.get("/v1/sources", self.list_sources),
            web.post("/v1/sources", self.add_source),
            web.get("/v1/sources/{id}", self.show_source),
            web.post("/v1/sources/{id}/rotate", self.rotate_source),
            web.post("/v1/sources/{id}/enable", self.enable_source),
            web.post("/v1/sources/{id}/disable", self.disable_source),
            web.post("/v1/sources/{id}/try", self.try_source),
            web.post("/v1/sources/{id}/sample", self.sample_source),
            web.get("/v1/deliveries", self.list_deliveries),
            web.post("/v1/deliveries/replay", self.replay_deliveries),
            web.post("/v1/deliveries/drop", self.drop_deliveries),
            web.get("/v1/deliveries/{id}", self.show_delivery),
            web.get("/v1/tokens", self.list_tokens),
            web.post("/v1/tokens", self.create_token),
            web.delete("/v1/tokens/{name}", self.revoke_token),
            web.get("/v1/vault", self.show_vault),
            web.post("/v1/vault/reload", self.reload_keys),
            web.post("/v1/vault/rotate", self.rotate_keys),
            web.delete("/v1/vault/keys/{id}", self.drop_key),
            web.get("/v1/openapi.yaml", self.document),
        ]

    @needs("read", of_user="read")
    async def document(self, request: web.Request) -> web.Response:
        """The contract of a listener."""
        asked = request.query.get("listener", "private")
        listener = next((each for each in contract.FILES if each == asked), None)
        if listener is None:
            raise Refused(400, "listener", "There is no such listener.", f"Say one of: {', '.join(contract.FILES)}.")
        return web.Response(body=contract.document(listener), content_type="application/yaml")

    @needs("read")
    async def show_status(self, request: web.Request) -> web.Response:
        """What runs, and how much it has."""
        return answer(
            {
                **self.status,
                "connections": await self.storage.read(connections.counted),
                "unverified_sources": self.sources.unverified(),
            }
        )

    @needs("read")
    async def list_plugins(self, request: web.Request) -> web.Response:
        """All plugins, also those set aside."""

        def sinks(plugin: Plugin) -> list[dict[str, Any]]:
            running = self.registry.sinks.values()
            return [{"id": sink.id, "runs": [it.name for it in running if it.sink.id == sink.id]} for sink in plugin.sinks]

        counted, aside = self.strikes.counted(), self.strikes.aside
        return answer(
            {
                "plugins": [
                    entry
                    for plugin in self.registry.plugins
                    for entry in view.plugin(
                        plugin,
                        sinks(plugin),
                        strikes=counted.get(plugin.key, 0),
                        released=plugin.struck and plugin.key not in aside,
                    )
                ]
            }
        )

    @needs("admin")
    async def release_plugin(self, request: web.Request) -> web.Response:
        """Forget the strikes of a plugin: the next start loads it."""
        if not self.strikes.release(request.match_info["name"]):
            raise Refused(404, "not_found", "No plugin of this name has a strike.", "See `oo plugins`.")
        return await self.list_plugins(request)

    @needs("read")
    async def list_registrations(self, request: web.Request) -> web.Response:
        """Our clients at providers."""
        known = await self.registrations.listed()
        return answer({"registrations": [self._registration(each) for each in known]})

    @needs("admin")
    async def register(self, request: web.Request) -> web.Response:
        """Add a client."""
        body = await body_of(request, NewRegistration)
        secrets = [Secret(text) for text in body.client_secrets]
        hooks = None if body.webhook_secrets is None else [Secret(text) for text in body.webhook_secrets]
        self.sources.check(body.provider, hooks or (), body.id)
        known = await self.registrations.add(body.provider, body.client_id, secrets, body.id)
        await self.sources.keep(known, hooks)
        return answer(self._registration(known), status=201)

    def _registration(self, known: Registration) -> dict[str, Any]:
        return view.registration(known, self.registrations.redirect_uri(known.id), self.sources.of(known.id))

    @needs("connect", of_user="connect")
    async def open_connect_session(self, request: web.Request) -> web.Response:
        """Give a one-use link."""
        body = await body_of(request, NewConnectSession)
        insist_on_own(request, body.user, Refused(403, "user", "You can connect accounts for yourself only.", "Leave it to them."))
        session = await self.connect.open(
            body.provider,
            body.user,
            body.account,
            body.registration,
            write=body.write,
            also=body.scopes,
            return_to=body.return_to,
            by_code=body.device,
        )
        return answer({"id": session.id, "url": session.url, "expires_at": view.time(session.expires_at)}, status=201)

    @needs("connect", of_user="connect")
    async def show_connect_session(self, request: web.Request) -> web.Response:
        """How a sign-in stands."""
        missing = Refused(404, "not_found", "There is no such connect session.", "Start one with POST /v1/connect-sessions.")
        sign_in = await self.connect.status(request.match_info["id"], 0)
        if sign_in is None:
            raise missing
        insist_on_own(request, sign_in.user, missing)
        sign_in = await self.connect.status(sign_in.id, wait_of(request)) or sign_in
        return answer(view.sign_in(sign_in, self.clock.now()))

    # Not for users: who shows somebody a code of theirs, and answers for the account, must be trusted by both.
    @needs("connect")
    async def get_code(self, request: web.Request) -> web.Response:
        """Get a code for a person to enter at the provider."""
        code = await self.connect.code(request.match_info["id"])
        told = {"user_code": code.user_code, "verification_uri": code.address, "verification_uri_complete": code.complete}
        return answer({**told, "expires_at": view.time(code.expires_at)}, status=201)

    @needs("connect")
    async def answer_connect_session(self, request: web.Request) -> web.Response:
        """Say whether it is the right account, where a code was shown by the caller."""
        said = await body_of(request, Answered)
        await self.connect.answer(request.match_info["id"], said.right)
        return await self.show_connect_session(request)

    @needs("read", of_user="read")
    async def list_connections(self, request: web.Request) -> web.Response:
        """Connections, oldest first."""
        query = request.query
        shown = await self.storage.read(
            _shown, self.clock.now(), user=held_to(request) or query.get("user"), provider=query.get("provider")
        )
        return answer({"connections": shown})

    @needs("read", of_user="read")
    async def show_connection(self, request: web.Request) -> web.Response:
        """One connection."""
        known = await self._connection(request)
        return answer(await self.storage.read(_show, known, self.clock.now()))

    @needs("read", of_user="read")
    async def show_details(self, request: web.Request) -> web.Response:
        """What there is to know of how one connection does."""
        known = await self._connection(request)
        connector = self.registry.connectors.get(known.provider)
        left = await self.budgets.left(connector, known) if connector else []
        scopes = connector.scopes if connector else ()
        planned = await self.storage.read(schedule.of, known.number, self.clock.now())
        return answer(
            {
                "cursor_at": view.time(planned.moved_at if planned else None),
                "tries": planned.tries if planned else 0,
                "scopes": [view.scope(each) | {"granted": each.id in known.scopes} for each in scopes],
                "budgets": [view.budget(each) for each in left],
                "subscriptions": [view.subscription(each) for each in await self.storage.read(subscriptions.of, known.number)],
                "runs": [view.run(each) for each in await self.storage.read(runs.listed, connection=known.number, limit=LATEST)],
            }
        )

    @needs("read")
    async def list_uses(self, request: web.Request) -> web.Response:
        """Where and how often a connection's credential was used."""
        days = number_of(request, "days", default=7, lowest=0, highest=90)
        known = await self._connection(request)
        found = await self.uses.of(known.number, self.clock.now() - int(days * DAY) * SECOND)
        return answer({"uses": [view.use(each) for each in found]})

    @needs("admin", of_user="connect")
    async def end_connection(self, request: web.Request) -> web.Response:
        """Disconnect: give the grant back and erase the credential."""
        known = await self._connection(request)
        await self.disconnect.begin(known)
        self.wake()
        deadline = self.clock.monotonic() + wait_of(request)
        while True:
            known = await self._connection(request)
            left = deadline - self.clock.monotonic()
            if known.state != "revoking" or left <= 0:
                shown = await self.storage.read(_show, known, self.clock.now())
                return answer(shown, status=202 if known.state == "revoking" else 200)
            await self.clock.sleep(min(LOOK, left))

    @needs("connect", of_user="connect")
    async def sync(self, request: web.Request) -> web.Response:
        """Sync now: a run that starts after this call, so that it sees what was there before it."""
        known = await self._connection(request)
        if known.state != "active":
            raise Declined("not_active", f"The connection is {known.state.replace('_', ' ')}.", known.reason or "Connect it again first.")
        wait = wait_of(request)
        fence = await self.storage.write(schedule.due_now, known.number, self.clock.now())
        deadline = self.clock.monotonic() + wait
        while True:
            planned = await self.storage.read(schedule.of, known.number, self.clock.now())
            if planned is None:
                raise Refused(404, "not_found", "The connection is gone.")
            left = deadline - self.clock.monotonic()
            if planned.finished_fence > fence:
                return answer(view.sync(planned))
            if left <= 0:
                started = view.time(planned.started_at) if planned.fence > fence else None
                return answer({"outcome": "running", "detail": "", "events": 0, "started_at": started, "finished_at": None})
            await self.clock.sleep(min(LOOK, left))

    @needs("connect", of_user="connect")
    async def pause(self, request: web.Request) -> web.Response:
        """Pause a connection."""
        known = await self._connection(request)
        await self.storage.write(pausing.pause, known.number, self.clock.now())
        return await self.show_connection(request)

    @needs("connect", of_user="connect")
    async def resume(self, request: web.Request) -> web.Response:
        """Let a paused connection go on."""
        known = await self._connection(request)
        await self.storage.write(pausing.resume, known.number, self.clock.now())
        return await self.show_connection(request)

    @needs("connect", of_user="connect")
    async def give_timetable(self, request: web.Request) -> web.Response:
        """Say when a connection is synced."""
        known, body = await self._connection(request), await body_of(request, NewTimetable)
        await self.timetables.give(known, every=body.every, cron=body.cron, zone=body.zone)
        return await self.show_connection(request)

    @needs("connect", of_user="connect")
    async def take_timetable(self, request: web.Request) -> web.Response:
        """Have a connection synced as often as all."""
        await self.timetables.take(await self._connection(request))
        return await self.show_connection(request)

    @needs("read", of_user="read")
    async def list_runs(self, request: web.Request) -> web.Response:
        """The newest syncs, newest first."""
        of = request.query.get("connection")
        if of is None and held_to(request) is not None:
            raise Refused(400, "connection", "It is not said which connection's syncs.", "Name one in the query: connection=…")
        number = None if of is None else (await self._known(request, of)).number
        limit = number_of(request, "limit", default=100, lowest=1, highest=1000)
        found = await self.storage.read(runs.listed, connection=number, limit=int(limit))
        return answer({"runs": [view.run(each) for each in found]})

    @needs("act", of_user="act")
    async def act(self, request: web.Request) -> web.Response:
        """Take an action."""
        body = await body_of(request, NewAction)
        wait = wait_of(request)
        known = await self._known(request, body.connection)
        try:
            job = await self.actions.ask(known, body.name, body.arguments, body.key)
        except Declined as declined:
            raise await self._with_a_link(known, declined) from None
        self.wake()
        job = await self._done(request, job.id, wait)
        return answer(view.action(job), status=202 if job.state == "queued" else 200)

    async def _with_a_link(self, known: Connection, declined: Declined) -> Exception:
        """What was declined; where only a scope is missing, with a link by which the person can allow just that."""
        if not declined.scope:
            return declined
        try:
            session = await self.connect.open(known.provider, known.user, known.account, known.registration, also=[declined.scope])
        except Declined:  # too many links were made, most of all
            return declined
        remedy = f"Have {known.user} open {session.url} and allow it, then ask again."
        return Refused(STATUS_OF[declined.code], declined.code, declined.message, remedy, connect_url=session.url)

    @needs("act", of_user="act")
    async def show_action(self, request: web.Request) -> web.Response:
        """How an action stands."""
        return answer(view.action(await self._done(request, request.match_info["id"], wait_of(request))))

    async def _done(self, request: web.Request, id_: str, wait: float) -> Job:
        """The action once it has ended, or as it stands when the time is up."""
        deadline = self.clock.monotonic() + wait
        while True:
            job, missing = (
                await self.actions.look(id_),
                Refused(404, "not_found", "There is no such action.", "What became of one is kept for a week."),
            )
            if job is None:
                raise missing
            if held_to(request) is not None:
                known = await self.storage.read(connections.by_number, job.connection)
                insist_on_own(request, known.user if known else "", missing)
            left = deadline - self.clock.monotonic()
            if job.state != "queued" or left <= 0:
                return job
            await self.clock.sleep(min(LOOK, left))

    @needs("read")
    async def list_deliveries(self, request: web.Request) -> web.Response:
        """Deliveries, newest first, without their bodies."""
        state, source = request.query.get("state"), request.query.get("source")
        limit = number_of(request, "limit", default=100, lowest=1, highest=1000)
        if state is not None and state not in get_args(inbox.State):
            raise Refused(400, "state", "That is no state of a delivery.", f"Use one of {', '.join(get_args(inbox.State))}.")
        found = await self.storage.read(inbox.listed, state=state, source=source, limit=int(limit))
        now = self.clock.now()
        return answer({"deliveries": [view.delivery(entry, now) for entry in found]})

    @needs("admin")
    async def show_delivery(self, request: web.Request) -> web.Response:
        """One delivery, with its body."""
        found = await self.storage.read(inbox.shown, _delivery(request.match_info["id"]))
        if found is None:
            raise Refused(404, "not_found", "There is no such delivery.", "See `oo inbox list`.")
        return answer(view.whole_delivery(*found, self.clock.now()))

    @needs("admin")
    async def replay_deliveries(self, request: web.Request) -> web.Response:
        """Have some worked on once more."""
        which = _which(await body_of(request, Chosen))
        now = self.clock.now()
        numbers = await in_short_steps(self.storage, lambda database, rest: inbox.replay(database, rest, SOME, now), which)
        self.arrived()
        return answer({"deliveries": [str(number) for number in numbers]})

    @needs("admin")
    async def drop_deliveries(self, request: web.Request) -> web.Response:
        """Forget the bodies of some."""
        which, now = _which(await body_of(request, Chosen)), self.clock.now()
        numbers = await in_short_steps(self.storage, lambda database, rest: inbox.drop(database, rest, now, SOME), which)
        return answer({"deliveries": [str(number) for number in numbers]})

    @needs("read")
    async def list_sources(self, request: web.Request) -> web.Response:
        """Addresses that webhooks are posted to, oldest first."""
        return answer({"sources": [view.source(each) for each in self.sources.listed()]})

    @needs("admin")
    async def show_source(self, request: web.Request) -> web.Response:
        """One address, with the secret that its sender made."""
        known = self.sources.named(request.match_info["id"])
        return answer(view.given_source(Given(source=known, secret=known.shown_secret)))

    @needs("admin")
    async def add_source(self, request: web.Request) -> web.Response:
        """Make an address; the answer is the only place where its secret is told."""
        body = await body_of(request, NewSource)
        wanted = Wanted(
            name=body.id,
            user=body.user,
            provider=body.provider,
            scheme=body.scheme,
            changes=body.changes,
            options=body.options,
            secret=None if body.secret is None else Secret(body.secret),
        )
        return answer(view.given_source(await self.sources.add(wanted)), status=201)

    @needs("admin")
    async def rotate_source(self, request: web.Request) -> web.Response:
        """Give an address a new secret."""
        body = await body_of(request, NewSecret)
        secret = None if body.secret is None else Secret(body.secret)
        given = await self.sources.rotate(request.match_info["id"], secret, keep=body.keep, staged=body.staged)
        return answer(view.given_source(given))

    @needs("admin")
    async def enable_source(self, request: web.Request) -> web.Response:
        """Open an address."""
        return await self._switch(request, True)

    @needs("admin")
    async def disable_source(self, request: web.Request) -> web.Response:
        """Close an address; it looks like one that does not exist."""
        return await self._switch(request, False)

    async def _switch(self, request: web.Request, enabled: bool) -> web.Response:
        known = self.sources.named(request.match_info["id"])
        await self.sources.enable(known.id, enabled)
        return answer(view.source(self.sources.named(known.id)))

    @needs("admin")
    async def try_source(self, request: web.Request) -> web.Response:
        """Say what a delivery would become, without keeping anything."""
        body = await body_of(request, Tried)
        known = self.sources.named(request.match_info["id"])
        if known.connection is None:
            raise Declined("no_connection", "This address serves all users of a registration.", "Try one of a connection's own.")
        headers = {name.lower(): text for name, text in body.headers.items()}
        connection = await self._known(request, known.connection)
        try:
            events = await self.rehearse(connection, headers, body.body, sent_id(known.scheme, headers, body.body) or "try")
        except ConnectorError as refused:
            raise Refused(400, "unreadable", f"It becomes no event: {sentence(refused)}.", "Correct the body or the mapping.") from None
        return answer({"events": [{"position": "-", **self.as_json(event)} for event in events]})

    @needs("admin")
    async def sample_source(self, request: web.Request) -> web.Response:
        """A delivery as its sender would send it, to be posted to the address."""
        body = await body_of(request, Tried)
        known = self.sources.named(request.match_info["id"])
        headers = await self.sources.sample(known.id, body.body)
        return answer({"url": known.url, "headers": {**body.headers, **headers}})

    @needs("admin")
    async def list_tokens(self, request: web.Request) -> web.Response:
        """Tokens, oldest first; what they are is told by nobody any more."""
        return answer({"tokens": [view.token(each) for each in await self.tokens.listed()]})

    @needs("admin")
    async def create_token(self, request: web.Request) -> web.Response:
        """Make a token; the answer is the only place where it is told."""
        body = await body_of(request, NewToken)
        made = await self.tokens.create(body.name, body.scopes, body.life)
        return answer({**view.token(made.known), "token": made.token}, status=201)

    @needs("admin")
    async def revoke_token(self, request: web.Request) -> web.Response:
        """Forget a token."""
        return answer(view.token(await self.tokens.revoke(request.match_info["name"])))

    @needs("admin")
    async def show_vault(self, request: web.Request) -> web.Response:
        """The keys by their ids, and how far the rotation has come."""
        await self.keys.ended(wait_of(request))
        return answer(view.vault(await self.keys.status()))

    @needs("admin")
    async def reload_keys(self, request: web.Request) -> web.Response:
        """Load the keys again."""
        await self.keys.reload()
        return answer(view.vault(await self.keys.status()))

    @needs("admin")
    async def rotate_keys(self, request: web.Request) -> web.Response:
        """Load the keys again and seal everything with the newest."""
        wait = wait_of(request)
        await self.keys.begin()
        await self.keys.ended(wait)
        return answer(view.vault(await self.keys.status()))

    @needs("admin")
    async def drop_key(self, request: web.Request) -> web.Response:
        """Need a key no more."""
        await self.keys.drop(request.match_info["id"])
        return answer(view.vault(await self.keys.status()))

    async def _connection(self, request: web.Request) -> Connection:
        return await self._known(request, request.match_info["id"])

    async def _known(self, request: web.Request, id_: str) -> Connection:
        known, missing = (
            await self.storage.read(connections.by_id, id_),
            Refused(404, "not_found", "There is no such connection.", "See `oo connections`."),
        )
        if known is None:
            raise missing
        insist_on_own(request, known.user, missing)
        return known


async def in_short_steps(storage: Storage, change: Callable[[Any, Which], list[int]], which: Which) -> list[int]:
    """Change deliveries in short transactions, each from where the last one ended."""
    numbers: list[int] = []
    while True:
        done = await storage.write(change, which)
        numbers += done
        if len(done) < SOME:
            return numbers
        which = replace(which, first=done[-1] + 1)


def _which(chosen: Chosen) -> Which:
    if chosen == Chosen():
        raise Refused(400, "which", "It is not said which deliveries.", "Name the first and the last, a source or a state.")
    first = None if chosen.first is None else _delivery(chosen.first)
    last = None if chosen.last is None else _delivery(chosen.last)
    return Which(first=first, last=last, source=chosen.source, state=chosen.state)


def _delivery(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused(404, "not_found", "There is no such delivery.", "See `oo inbox list`.")
    return int(text)


def _shown(database: Any, now: int, *, user: str | None, provider: str | None) -> list[dict[str, Any]]:
    return [_show(database, each, now) for each in connections.listed(database, user=user, provider=provider)]


def _show(database: Any, known: Connection, now: int) -> dict[str, Any]:
    leaving = known.state in {"revoking", "disconnected"}
    revoking = jobs.latest(database, "revoke", known.number) if leaving else None
    return view.connection(known, schedule.of(database, known.number, now), revoking)


@web.middleware
async def in_its_words(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    """What the hub declines or cannot store, as an answer."""
    try:
        response: web.StreamResponse = await handler(request)
    except Declined as declined:
        raise Refused(STATUS_OF.get(declined.code, 400), declined.code, declined.message, declined.remedy) from None
    except VaultError as fault:
        raise Refused(409, _word(type(fault).__name__), fault.sentence, fault.remedy) from None
    except Erased:
        raise Refused(404, "not_found", "What this is about was erased meanwhile.", "See `oo erasures`.") from None
    except CannotStore as fault:
        raise Refused(503, "cannot_store", f"The database refused: {fault}.", "Try again in a while; see the daemon's log.") from None
    return response


def _word(name: str) -> str:
    """A class's name as a code: WrongKey → wrong_key."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
