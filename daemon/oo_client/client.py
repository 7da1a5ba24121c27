"""The client: one method for each route of the private API."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from oo_client.answers import (
    Action,
    Answer,
    AuditEntry,
    AuditVerdict,
    AwaitedUpload,
    Backup,
    BackupMaking,
    Batch,
    Code,
    Connection,
    ConnectProgress,
    ConnectSession,
    Consumer,
    CreatedToken,
    DeadLetter,
    Delivery,
    Details,
    Erasure,
    Event,
    EventPage,
    GivenSource,
    Health,
    Plugin,
    Registration,
    Run,
    Sample,
    Sink,
    Source,
    Status,
    Sync,
    Token,
    TokenScope,
    Upload,
    Use,
    Vault,
    Visit,
    WholeDelivery,
)
from oo_client.errors import ClientError, DaemonNotRunning, Refused, TryLater, Unexpected
from oo_sdk.events import Entry, NormalizedEvent

T = TypeVar("T")

#: Hosts to which a token may go without TLS.
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
#: Seconds that one question waits at the daemon before it is asked again; the API allows 30.
WAIT: Final = 25.0
#: Seconds between two looks at a sync that takes longer than that.
LOOK: Final = 1.0
#: Seconds for which a reader that follows the outbox waits for a daemon that went away, as in a restart.
PATIENCE: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxied:
    """What a provider answered to a request of one's own."""

    status: int
    headers: Mapping[str, str]  #: names in lower case
    body: bytes = field(repr=False)


@dataclass(slots=True, kw_only=True, eq=False)
class _Hand:
    """What a reader was given of a consumer, until it was said what became of it."""

    consumer: str
    batch: Batch
    lease: float
    at: Event | None = None  #: the event that the reader has now
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Client:
    """Asks the daemon behind a Unix socket, `async with Client(socket) as client: …`, or over TCP, `Client(url=…, token=…)`.

    A `url` is an origin such as http://127.0.0.1:8711; without TLS it must be one of loopback, since the token could be read on the way.
    `timeout` is how long an answer may take, in seconds, on top of what a question asks the daemon to wait. Every method raises
    `DaemonNotRunning`, `Refused` (of which `TryLater` is one) or `Unexpected`.
    """

    def __init__(
        self,
        socket: Path | None = None,
        *,
        url: str | None = None,
        token: str = "",
        timeout: float = 10.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if (socket is None) == (url is None):
            raise ValueError("a Client asks either behind a socket or at a url")
        if url is not None and not (URL(url).scheme == "https" or (URL(url).scheme == "http" and URL(url).host in LOOPBACK)):
            raise ValueError("a token may go to an https:// address, or to one of loopback")
        self._socket = socket
        self._origin = (url or "http://oo").rstrip("/")
        self._where = url or socket  # for people
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None
        self._hands: set[_Hand] = set()

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(str(self._socket)) if self._socket else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            try:
                # Python ends an iterator that was left some time later, when nothing could be said any more.
                for hand in [*self._hands]:
                    await self._leave(hand)
            finally:
                await self._session.close()
                self._session = None

    async def status(self) -> Status:
        """Say what runs and how much it has."""
        return await self._ask("GET", "/v1/status", into=Status)

    async def health(self) -> Health:
        """Say how every part is."""
        return await self._ask("GET", "/healthz", into=Health)

    async def metrics(self) -> str:
        """Fetch the numbers, in the text format of Prometheus."""
        return (await self._send("GET", "/metrics")).decode()

    async def erase_user(self, user: str) -> Erasure:
        """Erase everything of a user; from the answer on not one new event of theirs is emitted. Asking again changes nothing."""
        return await self._ask("DELETE", f"/v1/users/{_segment(user)}", into=Erasure)

    async def erase_connection(self, connection: str) -> Erasure:
        """Erase a connection and everything of it."""
        return await self._ask("POST", f"/v1/connections/{_segment(connection)}/erase", into=Erasure)

    async def erasures(self) -> tuple[Erasure, ...]:
        """List the latest erasures, newest first."""
        return (await self._ask("GET", "/v1/erasures", into=_Erasures)).erasures

    async def erasure(self, erasure: str, *, wait: float = 0) -> Erasure:
        """Say how far an erasure is; waits at most `wait` seconds until it is done."""
        return await self._ask("GET", f"/v1/erasures/{_segment(erasure)}", into=Erasure, wait=wait)

    async def export(self, user: str, *, patience: float = 3600) -> bytes:
        """Fetch everything of a user, as a zip file."""
        return await self._send("GET", f"/v1/users/{_segment(user)}/export", patience=patience)

    async def visit(self, user: str) -> Visit:
        """Make a link by which a user opens their own page: what is connected, connect, disconnect, hand in, download, erase."""
        return await self._ask("POST", f"/v1/users/{_segment(user)}/visits", into=Visit)

    async def audit(self, *, limit: int = 100) -> tuple[AuditEntry, ...]:
        """List the latest acts of administrators, newest first."""
        return (await self._ask("GET", "/v1/audit", into=_Audit, query={"limit": str(limit)})).entries

    async def audit_verdict(self, *, head: str = "") -> AuditVerdict:
        """Say whether any act was changed, left out or cut off; `head` is a last link that was kept elsewhere."""
        return await self._ask("GET", "/v1/audit/verdict", into=AuditVerdict, query={"head": head or None})

    async def await_upload(
        self, *, provider: str, user: str, account: str = "default", name: str | None = None, size: int | None = None
    ) -> AwaitedUpload:
        """Await a file of a user. Refused with code `no_imports`, `not_active`, `too_large` or `disk`."""
        body = {"provider": provider, "user": user, "account": account, "name": name, "size": size}
        return await self._ask("POST", "/v1/uploads", into=AwaitedUpload, body=body)

    async def send_upload(self, upload: str, part: bytes, *, offset: int, patience: float = 300) -> Upload:
        """Send a part of the file, which belongs at `offset`. Refused with code `offset` where something else is to come there."""
        query = {"offset": str(offset)}
        return await self._ask("PUT", f"/v1/uploads/{_segment(upload)}/file", into=Upload, query=query, data=part, patience=patience)

    async def uploads(self, *, user: str | None = None) -> tuple[Upload, ...]:
        """List the latest uploads, newest first."""
        return (await self._ask("GET", "/v1/uploads", into=_Uploads, query={"user": user})).uploads

    async def upload(self, upload: str, *, wait: float = 0) -> Upload:
        """Say how far an upload is; waits at most `wait` seconds until its import has ended."""
        return await self._ask("GET", f"/v1/uploads/{_segment(upload)}", into=Upload, wait=wait)

    async def cancel_upload(self, upload: str) -> Upload:
        """Cancel an upload or its import; what came in before stays."""
        return await self._ask("DELETE", f"/v1/uploads/{_segment(upload)}", into=Upload)

    async def backups(self) -> tuple[Backup, ...]:
        """List the backups there are, newest first."""
        return (await self._ask("GET", "/v1/backups", into=_Backups)).backups

    async def backup_making(self) -> BackupMaking | None:
        """Say how far the backup is that is being made; None: none is."""
        return (await self._ask("GET", "/v1/backups", into=_Backups)).making

    async def make_backup(self, *, patience: float = 3600) -> Backup:
        """Make a backup; the answer comes once it was restored beside and checked, within `patience` seconds."""
        return await self._ask("POST", "/v1/backups", into=Backup, patience=patience)

    async def plugins(self) -> tuple[Plugin, ...]:
        """List the plugins that were found, also those that could not be loaded."""
        return (await self._ask("GET", "/v1/plugins", into=_Plugins)).plugins

    async def release_plugin(self, name: str) -> tuple[Plugin, ...]:
        """Forget the strikes of a plugin; one that was set aside for them is loaded at the daemon's next start."""
        return (await self._ask("POST", f"/v1/plugins/{_segment(name)}/release", into=_Plugins)).plugins

    async def registrations(self) -> tuple[Registration, ...]:
        """List the registrations, without their secrets."""
        return (await self._ask("GET", "/v1/registrations", into=_Registrations)).registrations

    async def register(
        self,
        *,
        provider: str,
        client_id: str,
        client_secrets: Sequence[str],
        id: str | None = None,  # noqa: A002 - the API's word
        webhook_secrets: Sequence[str] | None = None,
    ) -> Registration:
        """Add a registration, or give one a new client; secrets newest first. Without `webhook_secrets` those that are kept stay.

        Refused with code `registration_exists` when the id belongs to another provider, `no_webhooks` when there are none to verify.
        """
        hooks = None if webhook_secrets is None else list(webhook_secrets)
        body = {
            "provider": provider,
            "client_id": client_id,
            "client_secrets": list(client_secrets),
            "id": id,
            "webhook_secrets": hooks,
        }
        return await self._ask("POST", "/v1/registrations", into=Registration, body=body)

    async def connect(
        self,
        *,
        provider: str,
        user: str,
        account: str = "default",
        registration: str | None = None,
        write: bool = False,
        scopes: Sequence[str] = (),
        return_to: str = "",
        device: bool = False,
    ) -> ConnectSession:
        """Make a link by which the user connects an account; with `write` the person is asked to allow all changes, too.

        `scopes` are asked for besides what the connector needs and what the person has allowed before.

        The last page leads to `return_to`, which must be on the daemon's list. With `device` the person enters a code at the provider.
        """
        wish = {"write": write or None, "scopes": list(scopes) or None, "return_to": return_to or None, "device": device or None}
        body = {"provider": provider, "user": user, "account": account, "registration": registration, **wish}
        return await self._ask("POST", "/v1/connect-sessions", into=ConnectSession, body=body)

    async def connect_progress(self, session: str, *, wait: float = 0) -> ConnectProgress:
        """Say how far the person has come; waits at most `wait` seconds for the end."""
        return await self._ask("GET", f"/v1/connect-sessions/{_segment(session)}", into=ConnectProgress, wait=wait)

    async def connect_code(self, session: str) -> Code:
        """Get a code for the person to enter at the provider, in place of the link; the session was opened with `device`."""
        return await self._ask("POST", f"/v1/connect-sessions/{_segment(session)}/code", into=Code)

    async def answer(self, session: str, *, right: bool) -> ConnectProgress:
        """Say whether it is the right account, once a session with a code is pending."""
        return await self._ask("POST", f"/v1/connect-sessions/{_segment(session)}/answer", into=ConnectProgress, body={"right": right})

    async def connections(self, *, user: str | None = None, provider: str | None = None) -> tuple[Connection, ...]:
        """List connections."""
        query = {"user": user, "provider": provider}
        return (await self._ask("GET", "/v1/connections", into=_Connections, query=query)).connections

    async def connection(self, connection: str) -> Connection:
        """Show one connection."""
        return await self._ask("GET", f"/v1/connections/{_segment(connection)}", into=Connection)

    async def details(self, connection: str) -> Details:
        """Say how a connection does: its last syncs, what is left of limits, its subscriptions and scopes."""
        return await self._ask("GET", f"/v1/connections/{_segment(connection)}/details", into=Details)

    async def uses(self, connection: str, *, days: float = 7) -> tuple[Use, ...]:
        """Say where and how often a connection's credential was used in the last days, newest hour first."""
        path = f"/v1/connections/{_segment(connection)}/uses"
        return (await self._ask("GET", path, into=_Uses, query={"days": f"{days:g}"})).uses

    async def disconnect(self, connection: str, *, wait: float = 0) -> Connection:
        """Disconnect; waits at most `wait` seconds until the provider has been told. Doing it again changes nothing."""
        return await self._ask("DELETE", f"/v1/connections/{_segment(connection)}", into=Connection, wait=wait)

    async def act(
        self, connection: str, name: str, arguments: Mapping[str, Any] | None = None, *, key: str | None = None, wait: float = 0
    ) -> Action:
        """Change something at the provider; waits at most `wait` seconds until it is done. The same key is never done twice.

        Refused with code `unknown_action`, `arguments`, `missing_scope`, `not_active` or `key_reused`. With `missing_scope` the error has
        a `connect_url`, by which the person can allow just what is missing.
        """
        body = {"connection": connection, "name": name, "arguments": arguments or {}, "key": key}
        return await self._ask("POST", "/v1/actions", into=Action, body=body, wait=wait)

    async def action(self, action: str, *, wait: float = 0) -> Action:
        """Say how an action stands; waits at most `wait` seconds until it is done."""
        return await self._ask("GET", f"/v1/actions/{_segment(action)}", into=Action, wait=wait)

    async def proxy(
        self, connection: str, method: str, url: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None, patience: float = 60
    ) -> Answer:
        """Ask the provider as the user, at one of the connector's hosts; the token stays where it is. Gives whatever it answers."""
        if self._session is None:
            raise RuntimeError("a Client is used inside `async with`")
        parts = URL(url, encoded=True)
        where = f"{self._origin}/v1/connections/{_segment(connection)}/proxy/{parts.raw_authority}{parts.raw_path_qs}"
        limit = aiohttp.ClientTimeout(total=self._timeout + patience)
        said = {**(headers or {}), **self._headers}
        try:
            async with self._session.request(
                method, URL(where, encoded=True), headers=said, data=body or None, timeout=limit, allow_redirects=False
            ) as response:
                answer = await response.read()
        except TimeoutError:
            raise Unexpected(f"the provider did not answer within {self._timeout + patience:g} s", "ask again later") from None
        except aiohttp.ClientConnectorError as failed:
            raise self._no_way_in(failed.os_error) from None
        except aiohttp.ClientError:
            raise Unexpected("the answer did not arrive whole", "ask again") from None
        if "OO-Answer" not in response.headers:
            raise _refusal(response.status, response.headers.get("Retry-After", ""), answer)
        return Answer(status=response.status, headers={name.lower(): value for name, value in response.headers.items()}, body=answer)

    async def sync(self, connection: str, *, wait: float = 0) -> Sync:
        """Sync a connection now, in a run that starts after this call; waits at most `wait` seconds for its end.

        Refused with code `not_active` when it cannot be synced.
        """
        return await self._ask("POST", f"/v1/connections/{_segment(connection)}/sync", into=Sync, wait=wait)

    async def pause(self, connection: str) -> Connection:
        """Pause a connection: no syncs and no actions until it is resumed. Refused with code `not_active` where it is being left."""
        return await self._ask("POST", f"/v1/connections/{_segment(connection)}/pause", into=Connection)

    async def resume(self, connection: str) -> Connection:
        """Let a paused connection go on. Refused with code `not_active` where it is not paused, nor active."""
        return await self._ask("POST", f"/v1/connections/{_segment(connection)}/resume", into=Connection)

    async def give_timetable(
        self, connection: str, *, every: float | None = None, cron: str | None = None, zone: str | None = None
    ) -> Connection:
        """Say when a connection is synced: every so many seconds, or by a cron expression in a zone. Refused with code `timetable`."""
        body = {name: value for name, value in {"every": every, "cron": cron, "zone": zone}.items() if value is not None}
        return await self._ask("PUT", f"/v1/connections/{_segment(connection)}/timetable", into=Connection, body=body)

    async def take_timetable(self, connection: str) -> Connection:
        """Have a connection synced as often as all."""
        return await self._ask("DELETE", f"/v1/connections/{_segment(connection)}/timetable", into=Connection)

    async def runs(self, connection: str | None = None, *, limit: int = 100) -> tuple[Run, ...]:
        """List the newest syncs, of one connection or of all, newest first."""
        return (await self._ask("GET", "/v1/runs", into=_Runs, query={"connection": connection, "limit": str(limit)})).runs

    async def sync_and_wait(self, connection: str, *, patience: float = 3600) -> Sync:
        """Sync a connection now and wait for the end; after `patience` seconds the answer is that it still runs."""
        before = (await self.connection(connection)).last_sync
        run = await self.sync(connection, wait=WAIT)
        waited = WAIT
        while run.outcome == "running" and waited < patience:
            # Looking, not asking for a sync again: that would be one more.
            await self._sleep(LOOK)
            waited += LOOK
            last = (await self.connection(connection)).last_sync
            if last is None or last.outcome == "running":
                continue
            if last.started_at >= run.started_at if run.started_at else before is None or last.started_at > before.started_at:
                run = last
        return run

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        wait: float = 0,
        user: str | None = None,
        provider: str | None = None,
        type: str | None = None,  # noqa: A002 - the API's word
    ) -> EventPage:
        """Read a stretch of the outbox after a position (None: from the beginning).

        Refused with code `position` when malformed, `position_ahead` when ahead of the log.
        """
        query = {"after": after, "limit": str(limit), "user": user, "provider": provider, "type": type}
        return await self._ask("GET", "/v1/events", into=EventPage, query=query, wait=wait)

    async def pages(
        self,
        *,
        after: str | None = None,
        follow: bool = True,
        size: int = 500,
        user: str | None = None,
        provider: str | None = None,
        type: str | None = None,  # noqa: A002 - the API's word
    ) -> AsyncGenerator[EventPage, None]:
        """Read the outbox page by page, without end when it follows; pages without events are not shown.

        A follower outlives a restart of the daemon: it goes on from its position once the daemon is back, and gives up after
        `PATIENCE` seconds. The first question is never repeated, so that a daemon that does not run is noticed at once.
        """
        position = after
        met, pause, waited = False, 0.5, 0.0
        while True:
            try:
                page = await self.page(after=position, limit=size, wait=WAIT if follow else 0, user=user, provider=provider, type=type)
            except (DaemonNotRunning, TryLater) as away:
                if not (met and follow) or waited >= PATIENCE:
                    raise
                nap = max(pause, getattr(away, "after", None) or 0)
                await self._sleep(nap)
                pause, waited = min(2 * pause, 10), waited + nap
                continue
            if page.more and page.position == position:
                raise Unexpected("the daemon says that there are more events but does not move on", _LOG)
            met, pause, waited, position = True, 0.5, 0.0, page.position
            if page.events:
                yield page
            if not (follow or page.more):
                return

    async def events(
        self,
        *,
        after: str | None = None,
        follow: bool = True,
        user: str | None = None,
        provider: str | None = None,
        type: str | None = None,  # noqa: A002 - the API's word
    ) -> AsyncGenerator[Event, None]:
        """Read the outbox event by event, as `pages` does. Keep `event.position` once you are done with an event."""
        async for page in self.pages(after=after, follow=follow, user=user, provider=provider, type=type):
            for event in page.events:
                yield event

    async def stream(
        self,
        *,
        after: str | None = None,
        user: str | None = None,
        provider: str | None = None,
        type: str | None = None,  # noqa: A002 - the API's word
    ) -> AsyncGenerator[tuple[str, NormalizedEvent], None]:
        """Read events as they come, as protobuf, each with its position; without end, over restarts of the daemon as `pages` does.

        The quickest way to read, for those who keep their position themselves.
        """
        position, met, pause, waited = after, False, 0.5, 0.0
        while True:
            try:
                async with aclosing(self._stream(position, {"user": user, "provider": provider, "type": type})) as entries:
                    async for entry in entries:
                        met, pause, waited, position = True, 0.5, 0.0, entry.position
                        if entry.HasField("event"):
                            yield entry.position, entry.event
            except (DaemonNotRunning, TryLater):
                if not met or waited >= PATIENCE:
                    raise
            await self._sleep(pause)
            pause, waited = min(2 * pause, 10), waited + pause

    async def _stream(self, after: str | None, query: Mapping[str, str | None]) -> AsyncGenerator[Entry, None]:
        if self._session is None:
            raise RuntimeError("a Client is used inside `async with`")
        said = {name: value for name, value in {"after": after, **query}.items() if value is not None}
        try:
            async with self._session.get(
                URL(f"{self._origin}/v1/events", encoded=True).with_query(said),
                headers={**self._headers, "Accept": "application/x-protobuf"},
                # Silence for longer than two beats of a stream means that nobody is there.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=self._timeout + 30),
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise _refusal(response.status, response.headers.get("Retry-After", ""), await response.read())
                held = bytearray()
                async for part in response.content.iter_any():
                    held += part
                    for entry in _entries(held):
                        yield entry
        except aiohttp.ClientConnectorError as failed:
            raise self._no_way_in(failed.os_error) from None
        except (aiohttp.ClientError, TimeoutError):
            raise DaemonNotRunning(f"the daemon at {self._where} went away", "start it with `oo run`, then ask again") from None

    async def consumers(self) -> tuple[Consumer, ...]:
        """List the consumers; sinks are among them, as `sink:{id}`."""
        return (await self._ask("GET", "/v1/consumers", into=_Consumers)).consumers

    async def consumer(self, name: str) -> Consumer:
        """Show a consumer."""
        return await self._ask("GET", f"/v1/consumers/{_segment(name)}", into=Consumer)

    async def add_consumer(
        self,
        name: str,
        *,
        start: str = "beginning",
        user: str | None = None,
        provider: str | None = None,
        type: str | None = None,  # noqa: A002 - the API's word
        most_tries: int = 10,
    ) -> Consumer:
        """Register a consumer, whose position the daemon keeps.

        It starts at the `beginning`, `now`, at what is `present`, at a position or a time.

        Refused with code `consumer_exists` when the name is taken.
        """
        body = {"name": name, "start": start, "user": user, "provider": provider, "type": type, "most_tries": most_tries}
        return await self._ask("POST", "/v1/consumers", into=Consumer, body=body)

    async def remove_consumer(self, name: str) -> Consumer:
        """Forget a consumer and its dead letters, and say what it was."""
        return await self._ask("DELETE", f"/v1/consumers/{_segment(name)}", into=Consumer)

    async def reset_consumer(self, name: str, to: str) -> Consumer:
        """Put a consumer somewhere else: as the start of a new one, or `here` to go on in a log that was restored from a backup."""
        return await self._ask("POST", f"/v1/consumers/{_segment(name)}/reset", into=Consumer, body={"to": to})

    async def take(self, name: str, *, limit: int = 100, lease: float = 60, wait: float = 0) -> Batch:
        """Take the next batch of a consumer, leased for so many seconds; waits at most `wait` seconds for one that has events.

        Refused with code `log_restored` when the log was restored from a backup: `reset_consumer` first.
        """
        body = {"limit": limit, "lease": lease}
        return await self._ask("POST", f"/v1/consumers/{_segment(name)}/batches", into=Batch, body=body, wait=wait)

    async def ack(self, name: str, token: str, position: str) -> Consumer:
        """Say that everything up to a position is done. Refused with code `lease_lost` when the batch is no longer this reader's."""
        body = {"token": token, "position": position}
        return await self._ask("POST", f"/v1/consumers/{_segment(name)}/ack", into=Consumer, body=body)

    async def nack(self, name: str, token: str, position: str, *, delay: float = 0, reason: str = "") -> Consumer:
        """Say that the event at a position could not be taken: it is given again after `delay` seconds, and in the end passed over."""
        body = {"token": token, "position": position, "delay": delay, "reason": reason}
        return await self._ask("POST", f"/v1/consumers/{_segment(name)}/nack", into=Consumer, body=body)

    async def dead_letters(self, name: str, *, limit: int = 100) -> tuple[DeadLetter, ...]:
        """List the events that a consumer was given too often, newest first."""
        path = f"/v1/consumers/{_segment(name)}/dead-letters"
        return (await self._ask("GET", path, into=_DeadLetters, query={"limit": str(limit)})).dead_letters

    async def drop_dead_letters(self, name: str) -> int:
        """Forget the dead letters of a consumer; gives how many there were."""
        return (await self._ask("DELETE", f"/v1/consumers/{_segment(name)}/dead-letters", into=_Dropped)).dropped

    async def sinks(self) -> tuple[Sink, ...]:
        """List the sinks, also those that do not run. Their dead letters are those of the consumer `sink:{name}`."""
        return (await self._ask("GET", "/v1/sinks", into=_Sinks)).sinks

    async def pause_sink(self, name: str) -> Sink:
        """Have a sink wait until it is resumed. Refused with code `unknown_sink`, or `sink_off` where it never ran."""
        return await self._ask("POST", f"/v1/sinks/{_segment(name)}/pause", into=Sink)

    async def resume_sink(self, name: str) -> Sink:
        """Let a sink go on."""
        return await self._ask("POST", f"/v1/sinks/{_segment(name)}/resume", into=Sink)

    async def replay_dead_letters(self, name: str, positions: Sequence[str] | None = None) -> int:
        """Have dead letters given to a sink again, those at these positions or all; gives how many are going to be."""
        body = {"positions": None if positions is None else list(positions)}
        return (await self._ask("POST", f"/v1/sinks/{_segment(name)}/replay", into=_Replayed, body=body)).replayed

    async def consume(self, name: str, *, size: int = 100, lease: float = 60) -> AsyncGenerator[Event, None]:
        """Read as a consumer, without end: `async for event in client.consume("backend"): …`.

        Asking for the next event says that the one before is done. Leaving the loop keeps what was done and gives the rest back, at the
        latest when the client closes; the event at hand comes again after a second, the next time after two, and so on, as one that could
        not be taken. What was not done in time comes again, too, perhaps to another reader. It outlives a restart of the daemon as `pages`
        does. `contextlib.aclosing` around it waits until everything is given back.
        """
        met, pause, waited = False, 0.5, 0.0
        owed: tuple[str, str] | None = None  #: what is done, and could not be said
        while True:
            try:
                if owed is not None:
                    await self._answer_for(name, *owed)
                    owed = None
                batch = await self.take(name, limit=size, lease=lease, wait=WAIT)
            except (DaemonNotRunning, TryLater) as away:
                if not met or waited >= PATIENCE:
                    raise
                nap = max(pause, getattr(away, "after", None) or 0)
                await self._sleep(nap)
                pause, waited = min(2 * pause, 10), waited + nap
                continue
            met, pause, waited = True, 0.5, 0.0
            if batch.token is None:
                continue
            hand = _Hand(consumer=name, batch=batch, lease=lease)
            self._hands.add(hand)
            try:
                for hand.at in batch.events:
                    yield hand.at
                self._hands.discard(hand)
            finally:
                await self._leave(hand)
            owed = batch.token, batch.events[-1].position
            # Where it cannot be said now, it is once the daemon is back.
            with suppress(DaemonNotRunning, TryLater, Unexpected):
                await self._answer_for(name, *owed)
                owed = None

    async def _answer_for(self, name: str, token: str, position: str) -> None:
        try:
            await self.ack(name, token, position)
        except Refused as refused:
            if refused.code != "lease_lost":
                raise

    async def _leave(self, hand: _Hand) -> None:
        """What lies before the event at hand is done; from it on all comes again, soon, and later each time that a reader stops at it.

        Said once, whoever comes first, the reader's end or the client's; the other waits for it. Where it cannot be said, the events come
        again when the lease ends: at least once is the promise.
        """
        async with hand.lock:
            if hand not in self._hands:
                return
            at, batch = hand.at or hand.batch.events[0], hand.batch
            tries = batch.tries if at is batch.events[0] else 1
            delay = min(hand.lease, 2.0 ** (tries - 1))
            try:
                with suppress(ClientError):
                    await self.nack(hand.consumer, batch.token or "", at.position, delay=delay, reason="its reader stopped at it")
            finally:
                self._hands.discard(hand)

    async def tokens(self) -> tuple[Token, ...]:
        """List the tokens for calls over TCP, without what they are."""
        return (await self._ask("GET", "/v1/tokens", into=_Tokens)).tokens

    async def create_token(self, name: str, *, scopes: Sequence[TokenScope], life: float | None = None) -> CreatedToken:
        """Make a token, which is told in this answer only; `life` in seconds, None: until it is revoked.

        Refused with code `token_exists` when the name is taken.
        """
        body = {"name": name, "scopes": list(scopes), "life": life}
        return await self._ask("POST", "/v1/tokens", into=CreatedToken, body=body)

    async def revoke_token(self, name: str) -> Token:
        """Revoke a token, and say what it was."""
        return await self._ask("DELETE", f"/v1/tokens/{_segment(name)}", into=Token)

    async def deliveries(self, *, state: str | None = None, source: str | None = None, limit: int = 100) -> tuple[Delivery, ...]:
        """List deliveries, newest first."""
        query = {"state": state, "source": source, "limit": str(limit)}
        return (await self._ask("GET", "/v1/deliveries", into=_Deliveries, query=query)).deliveries

    async def vault(self, *, wait: float = 0) -> Vault:
        """Show the keys and how far the rotation has come; waits at most `wait` seconds for its end."""
        return await self._ask("GET", "/v1/vault", into=Vault, wait=wait)

    async def reload_keys(self) -> Vault:
        """Load the keys again. Refused with code `key_file_refused`, `wrong_key` or `keys_unreachable`; nothing has changed then."""
        return await self._ask("POST", "/v1/vault/reload", into=Vault)

    async def rotate_keys(self, *, wait: float = 0) -> Vault:
        """Load the keys again and seal everything with the newest; waits at most `wait` seconds for the end. Refused as `reload_keys`."""
        return await self._ask("POST", "/v1/vault/rotate", into=Vault, wait=wait)

    async def drop_key(self, key: str) -> Vault:
        """Need an older key no more. Refused with code `key_newest` or `key_in_use`."""
        return await self._ask("DELETE", f"/v1/vault/keys/{_segment(key)}", into=Vault)

    async def delivery(self, delivery: str) -> WholeDelivery:
        """Show one delivery, with its body."""
        return await self._ask("GET", f"/v1/deliveries/{_segment(delivery)}", into=WholeDelivery)

    async def replay(
        self, *, first: str | None = None, last: str | None = None, source: str | None = None, state: str | None = None
    ) -> tuple[str, ...]:
        """Have some deliveries worked on once more, under their ids; what was told is not told again.

        Gives those it was done to: a delivery whose body was dropped, or that is still to become events, is left alone.
        """
        body = {"first": first, "last": last, "source": source, "state": state}
        return (await self._ask("POST", "/v1/deliveries/replay", into=_Numbers, body=body)).deliveries

    async def drop(
        self, *, first: str | None = None, last: str | None = None, source: str | None = None, state: str | None = None
    ) -> tuple[str, ...]:
        """Forget the bodies of some deliveries for good; what was still to become events does not."""
        body = {"first": first, "last": last, "source": source, "state": state}
        return (await self._ask("POST", "/v1/deliveries/drop", into=_Numbers, body=body)).deliveries

    async def sources(self) -> tuple[Source, ...]:
        """List the addresses that webhooks are posted to."""
        return (await self._ask("GET", "/v1/sources", into=_Sources)).sources

    async def source(self, source: str) -> GivenSource:
        """Show one address, with the secret that its sender made, if it did."""
        return await self._ask("GET", f"/v1/sources/{_segment(source)}", into=GivenSource)

    async def add_source(
        self,
        source: str,
        *,
        user: str,
        scheme: str = "",
        provider: str = "webhook",
        changes: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        secret: str | None = None,
    ) -> GivenSource:
        """Make an address of a user's own, and tell its secret, in this answer only. `changes` set fields of the scheme, `options` say
        what the connector makes of what arrives.

        Refused with code `unknown_scheme`, `scheme`, `options`, `source_id` or `source_exists`.
        """
        body = {
            "id": source,
            "user": user,
            "scheme": scheme,
            "provider": provider,
            "changes": changes or {},
            "options": options or {},
            "secret": secret,
        }
        return await self._ask("POST", "/v1/sources", into=GivenSource, body=body)

    async def rotate_source(self, source: str, *, secret: str | None = None, keep: float = 86_400, staged: bool = False) -> GivenSource:
        """Give an address a new secret, and take the one before for `keep` seconds more; `staged`: take the new one beside it for now.

        Without a secret the one that was staged becomes the current one, else one is made.
        """
        body = {"secret": secret, "keep": keep, "staged": staged}
        return await self._ask("POST", f"/v1/sources/{_segment(source)}/rotate", into=GivenSource, body=body)

    async def switch_source(self, source: str, enabled: bool) -> Source:
        """Open or close an address; one that is closed looks like one that does not exist."""
        return await self._ask("POST", f"/v1/sources/{_segment(source)}/{'enable' if enabled else 'disable'}", into=Source)

    async def try_source(self, source: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[Event, ...]:
        """Say what a delivery would become; nothing is kept, and its signature is not looked at."""
        asked = {"body": b64encode(body).decode(), "headers": dict(headers or {})}
        return (await self._ask("POST", f"/v1/sources/{_segment(source)}/try", into=_Tried, body=asked)).events

    async def test_source(self, source: str, body: bytes = b'{"test":true}') -> int:
        """Post a delivery to an address from here, signed as its sender would sign it; gives the status of the answer.

        Refused with code `cannot_sign` where only the sender can, `source_closed`.
        """
        asked = {"body": b64encode(body).decode()}
        sample = await self._ask("POST", f"/v1/sources/{_segment(source)}/sample", into=Sample, body=asked)
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        try:
            async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as outside:
                async with outside.post(URL(sample.url, encoded=True), data=body, headers=sample.headers, allow_redirects=False) as answer:
                    return answer.status
        except (aiohttp.ClientError, TimeoutError):
            raise Unexpected("the address cannot be reached from here", "check `public.url` and the proxy in front") from None

    async def proxied(
        self, connection: str, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", patience: float = 60
    ) -> Proxied:
        """Ask a provider as a connection's user, at one of the connector's hosts; whatever it answers is given back.

        Refused with code `host`, `not_active`, `needs_sign_in` or `provider`.
        """
        if self._session is None:
            raise RuntimeError("a Client is used inside `async with`")
        path = f"/v1/connections/{_segment(connection)}/proxy/{url.partition('://')[2]}"
        try:
            async with self._session.request(
                method,
                URL(f"{self._origin}{path}", encoded=True),
                headers=dict(headers or {}) | self._headers,
                data=body or None,
                timeout=aiohttp.ClientTimeout(total=self._timeout + patience),
                allow_redirects=False,
            ) as response:
                answer = await response.read()
        except TimeoutError:
            raise Unexpected(f"the daemon at {self._where} did not answer in time", _LOG) from None
        except aiohttp.ClientConnectorError as failed:
            raise self._no_way_in(failed.os_error) from None
        except aiohttp.ClientError:
            raise DaemonNotRunning(f"the daemon at {self._where} went away before it answered", "start it with `oo run`") from None
        refusal = _refusal(response.status, response.headers.get("Retry-After", ""), answer) if response.status >= 400 else None
        if isinstance(refusal, Refused) and refusal.code in _PROXYS_OWN:
            raise refusal
        return Proxied(status=response.status, headers={name.lower(): value for name, value in response.headers.items()}, body=answer)

    async def openapi(self, listener: Literal["private", "public", "console"] = "private") -> str:
        """Fetch the contract of a listener, in YAML: the API, what strangers reach, or the console's pages."""
        return (await self._send("GET", "/v1/openapi.yaml", query={"listener": listener})).decode()

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        into: type[T],
        query: Mapping[str, str | None] | None = None,
        body: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        wait: float = 0,
        patience: float = 0,
    ) -> T:
        answer = await self._send(method, path, query=query, body=body, data=data, wait=wait, patience=patience)
        try:
            return msgspec.json.decode(answer, type=into)
        except msgspec.DecodeError as wrong:
            raise Unexpected(f"the daemon's answer to {path} is not as described ({wrong})", _VERSIONS) from None

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        body: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        wait: float = 0,
        patience: float = 0,
    ) -> bytes:
        if self._session is None:
            raise RuntimeError("a Client is used inside `async with`")
        said = {name: value for name, value in (query or {}).items() if value is not None}
        if wait:
            said["wait"] = f"{wait:g}"
        limit = self._timeout + wait + patience
        try:
            async with self._session.request(
                method,
                URL(f"{self._origin}{path}", encoded=True).with_query(said),
                headers=self._headers,
                json=None if body is None else {name: value for name, value in body.items() if value is not None},
                data=data,
                timeout=aiohttp.ClientTimeout(total=limit, sock_connect=min(limit, 5)),
                allow_redirects=False,
            ) as response:
                answer = await response.read()
        except TimeoutError:
            raise Unexpected(f"the daemon at {self._where} did not answer within {limit:g} s", _LOG) from None
        except aiohttp.ClientConnectorError as failed:
            raise self._no_way_in(failed.os_error) from None
        except aiohttp.ClientError:
            raise DaemonNotRunning(
                f"the daemon at {self._where} went away before it answered", "start it with `oo run`, then ask again"
            ) from None
        if response.status not in (200, 201, 202):
            raise _refusal(response.status, response.headers.get("Retry-After", ""), answer)
        return answer

    def _no_way_in(self, error: OSError) -> DaemonNotRunning | Refused | Unexpected:
        match error:
            case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
                return DaemonNotRunning(f"no daemon answers at {self._where}", "start it with `oo run`")
            case PermissionError():
                return Refused("forbidden", f"this user may not open {self._where}", "ask as the user that the daemon runs as, or as root")
            case _:
                return Unexpected(f"{self._where} cannot be opened ({error.strerror or error})", "check `places.socket`")


#: What the daemon itself says where it passes nothing on.
_PROXYS_OWN: Final = {
    "host",
    "needs_sign_in",
    "not_active",
    "not_found",
    "not_loaded",
    "no_sign_in",
    "provider",
    "forbidden",
    "unauthorized",
}
_LOG: Final = "look at the daemon's log, then ask again"
_VERSIONS: Final = "use the version of `oo` that the daemon has"


class _Uploads(msgspec.Struct, frozen=True):
    uploads: tuple[Upload, ...]


class _Erasures(msgspec.Struct, frozen=True):
    erasures: tuple[Erasure, ...]


class _Audit(msgspec.Struct, frozen=True):
    entries: tuple[AuditEntry, ...]


class _Backups(msgspec.Struct, frozen=True):
    backups: tuple[Backup, ...]
    making: BackupMaking | None = None


class _Consumers(msgspec.Struct, frozen=True):
    consumers: tuple[Consumer, ...]


class _DeadLetters(msgspec.Struct, frozen=True):
    dead_letters: tuple[DeadLetter, ...]


class _Dropped(msgspec.Struct, frozen=True):
    dropped: int


class _Sinks(msgspec.Struct, frozen=True):
    sinks: tuple[Sink, ...]


class _Replayed(msgspec.Struct, frozen=True):
    replayed: int


class _Plugins(msgspec.Struct, frozen=True):
    plugins: tuple[Plugin, ...]


class _Runs(msgspec.Struct, frozen=True):
    runs: tuple[Run, ...]


class _Uses(msgspec.Struct, frozen=True):
    uses: tuple[Use, ...]


class _Deliveries(msgspec.Struct, frozen=True):
    deliveries: tuple[Delivery, ...]


class _Sources(msgspec.Struct, frozen=True):
    sources: tuple[Source, ...]


class _Numbers(msgspec.Struct, frozen=True):
    deliveries: tuple[str, ...]


class _Tried(msgspec.Struct, frozen=True):
    events: tuple[Event, ...]


class _Registrations(msgspec.Struct, frozen=True):
    registrations: tuple[Registration, ...]


class _Tokens(msgspec.Struct, frozen=True):
    tokens: tuple[Token, ...]


class _Connections(msgspec.Struct, frozen=True):
    connections: tuple[Connection, ...]


class _Said(msgspec.Struct, frozen=True):
    code: str
    message: str
    remedy: str = ""
    connect_url: str = ""


class _Error(msgspec.Struct, frozen=True):
    error: _Said


def _segment(name: str) -> str:
    """Write an id as one segment of a path, whatever is in it."""
    return quote(name, safe="")


def _entries(held: bytearray) -> Iterator[Entry]:
    """Take the whole entries off the front of what has come."""
    start = 0
    while (found := _length(held, start)) is not None and found[0] + found[1] <= len(held):
        at, length = found
        start = at + length
        yield Entry.FromString(bytes(held[at:start]))
    del held[:start]


def _length(held: bytearray, at: int) -> tuple[int, int] | None:
    """Where the entry at a place begins, and how long it is; None: not all of that has come."""
    length = shift = 0
    for index in range(at, len(held)):
        length |= (held[index] & 0x7F) << shift
        shift += 7
        if held[index] < 0x80:
            return index + 1, length
    return None


def _refusal(status: int, retry_after: str, body: bytes) -> Refused | Unexpected:
    """Turn an answer that is not a success into an error."""
    try:
        said = msgspec.json.decode(body, type=_Error).error
    except msgspec.DecodeError:
        return Unexpected(f"the daemon answered {status} without saying why", _LOG)
    if status == 503:
        after = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
        return TryLater(said.code, said.message, said.remedy, after=after)
    return Refused(said.code, said.message, said.remedy, connect_url=said.connect_url)
