"""A daemon's parts, signed in at the sandbox, over one database on a virtual clock: whole syncs with nothing of the network."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

from daemon.virtual import FixedChance, Notes, SeededChance, VirtualClock, settle
from multidict import CIMultiDict
from oo_google_calendar import GoogleCalendar
from oo_google_calendar.meaning import calendar, entry
from oo_google_calendar.sandbox import GoogleCalendarSandbox
from oo_google_calendar.sandbox.channels import Channel, Push
from oo_google_calendar.sandbox.grants import Ask
from oo_google_calendar.sandbox.wire import Asked
from oo_google_calendar.shapes import Entry, Listed

from oo_daemon.connections.budgets import Budgets
from oo_daemon.connections.connect import Connect
from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.disconnect import Disconnect
from oo_daemon.connections.guest import Contexts
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.sources import Sources
from oo_daemon.connections.subscriptions import Subscriptions
from oo_daemon.connections.transport import NoAnswer, Request
from oo_daemon.host import SameLoop
from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.webhooks import Webhooks
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, inbox, outbox, schedule
from oo_daemon.store.connections import Connection
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.store.schedule import Schedule
from oo_daemon.store.storage import InlineStorage
from oo_daemon.sync.intake import Intake
from oo_daemon.sync.jobs import Worker
from oo_daemon.sync.run import Limits, Sync
from oo_daemon.sync.schedule import Dispatcher
from oo_sdk import Action, ActionResult, Change, Context, Response, decode
from oo_sdk.events import NormalizedEvent
from oo_sdk.vocabulary import CalendarEntry
from oo_vault import Keyring, Refresher, Secret

Json = dict[str, Any]

ADDRESS = "https://google.example"
ADA, GRACE = "ada@example.com", "grace@example.com"
BROWSER = "a browser"


@dataclass
class Line:
    """The daemon's transport, leading straight into the sandbox."""

    sandbox: GoogleCalendarSandbox
    asked: list[Asked] = field(default_factory=list)
    lose: int = 0  #: how many answers to writes get lost
    statuses: Counter[int] = field(default_factory=Counter)  #: of what was answered

    async def send(self, request: Request) -> Response:
        """Carry a request there and an answer back."""
        parts = urlsplit(request.url)
        asked = Asked(
            method=request.method,
            path=tuple(unquote(part) for part in parts.path.strip("/").split("/")),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=request.body or b"",
        )
        self.asked.append(asked)
        del self.asked[:-200]
        answer = self.sandbox.provider.answer(asked)
        self.statuses[answer.status] += 1
        if self.lose and request.method != "GET" and asked.path[0] == "calendar":
            self.lose -= 1
            raise NoAnswer("the answer was lost")
        headers = {"content-type": "application/json"} | {name.lower(): value for name, value in answer.headers.items()}
        body = answer.body.encode() if isinstance(answer.body, str) else answer.encoded()
        return Response(status=answer.status, headers=headers, body=body)


@dataclass
class House:
    """One daemon and one sandbox on one clock."""

    storage: InlineStorage
    clock: VirtualClock = field(default_factory=VirtualClock)
    metrics: MemoryMetrics = field(default_factory=MemoryMetrics)
    log: Notes = field(default_factory=Notes)
    limits: Limits = field(default_factory=Limits)
    first_days: int = 0
    testing: bool = False
    public_url: str = "http://127.0.0.1:1"

    def __post_init__(self) -> None:
        numbers = Counter[str]()

        def token() -> str:
            numbers["token"] += 1
            return f"token-{numbers['token']}"

        self.sandbox = GoogleCalendarSandbox(now=lambda: moment(self.clock.now()), token=token, testing=self.testing)
        self.world, self.misbehaviour = self.sandbox.world, self.sandbox.misbehaviour
        self.line = Line(self.sandbox)
        self.connector = GoogleCalendar()
        settings = json.dumps(self.sandbox.settings(ADDRESS)).encode()
        self.connector.settings = decode(settings, GoogleCalendar.Settings)
        registry = Registry(plugins=(), connectors=MappingProxyType({"google_calendar": self.connector}))
        keyring, chance = Keyring([bytes(range(32))]), SeededChance()
        self.registrations = Registrations(
            storage=self.storage, keyring=keyring, registry=registry, clock=self.clock, public_url=self.public_url
        )
        self.sources = Sources(
            storage=self.storage,
            keyring=keyring,
            registry=registry,
            registrations=self.registrations,
            clock=self.clock,
            chance=chance,
            public_url=self.public_url,
            connection_event=own.connection_event,
        )
        self.connecting = Connect(
            storage=self.storage,
            keyring=keyring,
            registry=registry,
            registrations=self.registrations,
            guests=SameLoop(),
            transport=self.line,
            clock=self.clock,
            chance=chance,
            public_url=self.public_url,
            link_life=900,
            flow_life=600,
            connection_event=own.connection_event,
        )
        refresher = Refresher(rows=CredentialRows(self.storage), keyring=keyring, clock=self.clock, chance=chance, owner="me")
        self.credentials = Credentials(
            refresher=refresher,
            registrations=self.registrations,
            transport=self.line,
            clock=self.clock,
            metrics=self.metrics,
            budgets=Budgets(storage=self.storage, clock=self.clock, metrics=self.metrics),
        )
        contexts = Contexts(credentials=self.credentials, clock=self.clock, log_for=lambda connection, provider: self.log)
        self.sync = Sync(
            storage=self.storage,
            registry=registry,
            credentials=self.credentials,
            guests=SameLoop(),
            clock=self.clock,
            chance=FixedChance(),
            metrics=self.metrics,
            log_for=lambda connection, provider: self.log,
            limits=self.limits,
            make_draft=wire.declared_draft,
            connection_event=own.connection_event,
        )
        self.dispatcher = Dispatcher(
            storage=self.storage,
            clock=self.clock,
            metrics=self.metrics,
            log=self.log,
            owner="me",
            run=lambda run, told: self.sync.run(run, told),  # tests give it other limits
            workers=4,
            lease=self.limits.lease,
            chance=chance,
        )

        async def nothing_withdrawn(_: Connection) -> None:
            """Google tells nobody that access was taken back."""

        self.intake = Intake(
            storage=self.storage,
            registry=registry,
            guests=SameLoop(),
            clock=self.clock,
            chance=chance,
            metrics=self.metrics,
            log=self.log,
            owner="me",
            lease=60.0,
            make_draft=wire.declared_draft,
            withdrawn=nothing_withdrawn,
            nudged=self.dispatcher.tick,
        )
        self.webhooks = Webhooks(
            keep=lambda arrival: self.storage.begin(inbox.put, arrival),
            sources=self.sources,
            clock=self.clock,
            chance=chance,
            metrics=self.metrics,
            log=self.log,
            arrived=lambda: None,
            short=lambda: False,
            limit=65536,
            rate=50,
        )
        self.subscribing = Subscriptions(
            storage=self.storage,
            registry=registry,
            sources=self.sources,
            contexts=contexts,
            guests=SameLoop(),
            clock=self.clock,
            chance=chance,
            metrics=self.metrics,
            log=self.log,
            public_url=self.public_url,
            interval=self.limits.interval,
        )
        self.disconnect = Disconnect(
            storage=self.storage,
            registry=registry,
            contexts=contexts,
            refresher=refresher,
            guests=SameLoop(),
            clock=self.clock,
            chance=chance,
            metrics=self.metrics,
            connection_event=own.connection_event,
            action_event=own.action_event,
            unsubscribed=self.subscribing.end,
            closed=self.sources.load,
        )
        self.worker = Worker(
            storage=self.storage,
            clock=self.clock,
            chance=chance,
            metrics=self.metrics,
            log=self.log,
            log_for=lambda connection, provider: self.log,
            owner="me",
            handlers={"revoke": self.disconnect},
            workers=4,
        )

    # --- the person ---------------------------------------------------------------------------------------------------

    async def sign_in(self, *, write: bool = False, untick: tuple[str, ...] = (), email: str = ADA, user: str = "ada") -> str:
        """Sign in, unticking some scopes; gives how it ended."""
        if not await self.storage.read(lambda database: database.rows("SELECT 1 FROM registration")):
            added = await self.registrations.add("google_calendar", self.sandbox.client_id, [Secret(self.sandbox.client_secret)])
            await self.sources.keep(added)
        opened = await self.connecting.open("google_calendar", user, write=write)
        address = await self.connecting.begin(opened.link, BROWSER)
        query = dict(parse_qsl(urlsplit(address).query))
        ask = Ask(
            client=self.world.grants.clients[query["client_id"]],
            scopes=tuple(query["scope"].split()),
            redirect_uri=query["redirect_uri"],
            state=query["state"],
            challenge=query["code_challenge"],
            offline=query["access_type"] == "offline",
            again=query["prompt"] == "consent",
            incremental=query["include_granted_scopes"] == "true",
        )
        ticked = tuple(scope for scope in ask.scopes if not scope.endswith(untick or ("\0",)))
        code = self.world.grants.code(ask, email, ticked)
        await self.connecting.finish(registration="google_calendar", state=ask.state, browser=BROWSER, code=code, error=None, iss=None)
        if (await self.connecting.outcome(opened.id, BROWSER)).status == "pending":
            await self.connecting.confirm(opened.id, BROWSER)
        outcome = await self.connecting.outcome(opened.id, BROWSER)
        return outcome.status if outcome.status == "connected" else outcome.reason

    def api(self, method: str, path: str, body: Any = None, email: str = ADA, **query: str) -> Json:
        """Do something as the person would in the app; it works."""
        from oo_google_calendar.sandbox.control import Control

        control = Control(self.world, self.misbehaviour, self.sandbox.provider, self.sandbox.channels)
        answer = control.as_person(email, method, path, query, b"" if body is None else json.dumps(body).encode())
        assert answer.status < 300, answer.body
        return answer.body or {}

    def add(
        self, title: str = "Lunch", calendar: str = "primary", start: str = "2026-11-26T12:00:00Z", email: str = ADA, **more: Any
    ) -> Json:
        """Add an entry of an hour."""
        times = {"start": {"dateTime": start, "timeZone": "Europe/London"}, "end": {"dateTime": start.replace(":00:00", ":30:00")}}
        return self.api("POST", f"calendars/{calendar}/events", {"summary": title, **times, **more}, email)

    # --- the daemon ---------------------------------------------------------------------------------------------------

    async def run(self) -> Schedule:
        """Sync now; gives how it went."""
        await self.storage.write(schedule.due_now, 1, self.clock.now())
        now = self.clock.now()
        (run,) = await self.storage.write(schedule.claim, "me", now, now + int(self.limits.lease * SECOND), 10)
        await self.clock.until(self.sync.run(run))
        return await self.schedule()

    async def tick(self) -> None:
        """Do once all that the daemon does by the clock: subscribe, take what is pushed, sync what is due."""
        await self.clock.until(self.subscribing.tick())
        await self.deliver()
        await self.clock.until(self.intake.tick())
        await self.clock.until(self.dispatcher.tick())
        await settle()
        while self.dispatcher._running:
            await self.clock.until(asyncio.wait(set(self.dispatcher._running)))

    async def deliver(self) -> list[Push]:
        """Bring what waits to be pushed to the daemon's door."""
        taken = self.sandbox.channels.take()
        for push in taken:
            push.attempts.append(await self.post(push.address, push.headers))
            push.state = "delivered" if push.attempts[-1] == 200 else "failed"
        return taken

    async def post(self, address: str, headers: Mapping[str, str]) -> int:
        """Post what has no body; gives the status."""
        request = Post(CIMultiDict(headers), urlsplit(address).path)
        try:
            return (await self.webhooks.hear(cast(Any, request))).status
        except Refused as refusal:
            return refusal.status

    def channels(self, email: str = ADA) -> list[Channel]:
        """The channels that stand at the provider."""
        return self.sandbox.channels.open_ones(email)

    async def schedule(self) -> Schedule:
        """How its schedule stands."""
        found = await self.storage.read(schedule.of, 1, self.clock.now())
        assert found is not None
        return found

    async def connection(self) -> Connection:
        """The one connection."""
        found = await self.storage.read(connections.by_number, 1)
        assert found is not None
        return found

    async def context(self) -> Context:
        """What the connector is given."""
        from oo_daemon.connections.guest import GuestClock

        connection = await self.connection()
        return Context(
            http=await self.credentials.session(self.connector, connection),
            meta=connection.meta,
            scopes=frozenset(connection.scopes),
            first_fetch_from=None,
            clock=GuestClock(self.clock),
            log=self.log,
        )

    async def act(self, name: str, key: str, **arguments: Any) -> ActionResult:
        """Do an action."""
        kind = next(each for each in self.connector.actions if each.name == name)
        action = Action(name=name, arguments=decode(json.dumps(arguments).encode(), kind.arguments), key=str(uuid5(NAMESPACE_URL, key)))
        return await self.connector.act(await self.context(), action)

    # --- what was told ------------------------------------------------------------------------------------------------

    def events(self, after: int = 0) -> list[NormalizedEvent]:
        """Everything in the outbox of calendars and entries."""
        stored = outbox.page(self.storage.database, after, 1_000_000).events
        return [event for event in map(wire.decode, (each[1] for each in stored)) if event.provider == event.type.partition(".")[0]]

    def told(self, begin: int = 0) -> list[tuple[str, int, str]]:
        """Entries in short: the last part of the subject, the change, the title."""
        return [
            (event.subject.rpartition("/")[2], int(event.change), payload(event).title)
            for event in self.events()[begin:]
            if event.type == "google_calendar.entry"
        ]

    def present(self) -> dict[tuple[str, str], bytes]:
        """What a reader of the whole outbox has of Ada in the end: (type, subject) → payload."""
        there: dict[tuple[str, str], bytes] = {}
        for event in self.events():
            if event.user != "ada":
                continue
            if int(event.change) == Change.DELETED:
                there.pop((event.type, event.subject), None)
            else:
                there[event.type, event.subject] = event.payload.value
        return there

    def truth(self, email: str = ADA) -> dict[tuple[str, str], bytes]:
        """What the provider has: every calendar in the person's list, and every entry in it that was not deleted."""
        there: dict[tuple[str, str], bytes] = {}
        for id_, listed in self.world.lists[email].bodies.items():
            if listed.get("deleted"):
                continue
            there["google_calendar.calendar", id_] = _bytes(calendar(decode(json.dumps(listed).encode(), Listed)))
            found = self.world.calendars[id_]
            for body in found.entries.bodies.values():
                if found.is_gone(body):
                    continue
                shown = found.shown(body, email, None, found.roles[email])
                subject = "/".join(filter(None, (id_, body.get("recurringEventId"), body["id"])))
                there["google_calendar.entry", subject] = _bytes(entry(decode(json.dumps(shown).encode(), Entry), id_))
        return there

    def difference(self) -> list[tuple[str, str]]:
        """Where the two are not the same."""
        present, truth = self.present(), self.truth()
        return sorted(key for key in present.keys() | truth.keys() if present.get(key) != truth.get(key))


@dataclass(frozen=True)
class Post:
    """As much of a request without a body as the door looks at."""

    headers: CIMultiDict[str]
    path: str
    method: str = "POST"
    content_length: int = 0

    @property
    def content(self) -> Post:
        """Its body."""
        return self

    def is_eof(self) -> bool:
        """All of it is here."""
        return True

    def read_nowait(self) -> bytes:
        """Nothing."""
        return b""


def payload(event: NormalizedEvent) -> CalendarEntry:
    """Open an entry."""
    opened = CalendarEntry()
    event.payload.Unpack(opened)
    return opened


def _bytes(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded
