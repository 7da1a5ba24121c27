"""`oo try`: run a connector that is one file, against its provider, and look at what it tells. Nothing goes into the outbox."""  # noqa: N999 - the verb's name

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import msgspec

import oo_client
import oo_daemon
from oo_daemon import registry
from oo_daemon.cli import terminal
from oo_daemon.cli.call import Call, json_option
from oo_daemon.connections.guest import GuestClock
from oo_daemon.connections.session import Client, SignedSession
from oo_daemon.connections.transport import AiohttpTransport, Request, Transport
from oo_daemon.host import HostClock
from oo_daemon.outbox import wire
from oo_sdk import Checkpoint, Connector, ConnectorError, Context, Cursor, Event, Listing, Placeholder, Response, Signal, SignInAgain
from oo_sdk.testing.record import Eraser
from oo_sdk.testing.session import CANARIES
from oo_vault import Grant, Secret

#: Seconds to connect and to read, and bytes of one answer.
CONNECT: Final = 10.0
READ: Final = 30.0
LARGEST: Final = 32 * 1024 * 1024


@dataclass(kw_only=True, eq=False)
class Held:
    """An access token that somebody pasted: it cannot be renewed."""

    token: Secret

    def held(self) -> Grant | None:
        """It is made with each use."""
        return None

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """Give it, unless the provider refused it."""
        if force_after is not None:
            raise SignInAgain("the provider refuses this access token: paste a newer one")
        return Grant(access_token=self.token, obtained_at=0)


@dataclass(kw_only=True, eq=False)
class Recorded:
    """A transport that writes a tape of what goes by, without secrets and what is personal."""

    transport: Transport
    eraser: Eraser
    tape: BinaryIO = field(repr=False)

    async def send(self, request: Request) -> Response:
        """Send, and write a line."""
        response = await self.transport.send(request)
        turn = self.eraser.turn(request.method, request.url, request.body or b"", response)
        self.tape.write(msgspec.json.encode(turn) + b"\n")
        return response


@dataclass(kw_only=True, eq=False)
class ThroughTheDaemon:
    """A transport by the running daemon, which signs as one of its connections: no token gets here."""

    client: oo_client.Client
    connection: str

    async def send(self, request: Request) -> Response:
        """Have it sent."""
        headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
        answer = await self.client.proxied(
            self.connection, request.method, request.url, headers=headers, body=request.body or b"", patience=READ
        )
        return Response(status=answer.status, headers=answer.headers, body=answer.body)


@dataclass(kw_only=True, eq=False)
class OnlyReading:
    """A transport by which nothing that is at the provider can be changed or taken away. Some providers are read by POST."""

    transport: Transport

    async def send(self, request: Request) -> Response:
        """Send, unless it would change something."""
        if request.method not in {"GET", "HEAD", "OPTIONS", "POST"}:
            raise terminal.NotDone(f"the connector would {request.method} something", "a sync only reads: mend the connector")
        return await self.transport.send(request)


class Notes:
    """A log on the terminal."""

    def info(self, event: str, **fields: Any) -> None:
        """Show a line."""
        terminal.note(" ".join([event, *(f"{name}={value}" for name, value in fields.items())]))

    debug = info
    warning = info


@click.command("try")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--token-file", type=click.File("r"), metavar="FILE", help="Read an access token from this file; - is the terminal's input.")
@click.option(
    "--user", metavar="USER", help="Sign as this user's connection at the running daemon, and go on where the last try as them left off."
)
@click.option("--cursor", default="", metavar="JSON", help="Begin at this cursor.")
@click.option(
    "--record", type=click.Path(path_type=Path, dir_okay=False), metavar="TAPE", help="Write the answers to this file, for tests."
)
@click.option("--dry-run", is_flag=True, help="Write nothing at all: neither where it left off, nor a tape, nor at the provider.")
@json_option
@click.pass_obj
def attempt(
    call: Call, file: Path, token_file: Any, user: str | None, cursor: str, record: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Run the connector in FILE once, and show events and cursors as they come.

    It reads from the provider, or from a sandbox that the settings name, with an access token of your own or, with --user, signed by the
    running daemon as a connection there. Nothing goes into the outbox. With --user, FILE.USER.cursor beside the file holds where it left
    off. On a tape, secrets and text by people have stand-ins; look through it before you give it away.
    """
    if dry_run and record is not None:
        raise click.UsageError("--dry-run writes no tape: leave --record out.")
    connector = _connector(call, file)
    token = Secret(token_file.read().strip()) if token_file else None
    if user is not None and not re.fullmatch(r"[^/\0]{1,100}", user):
        raise click.UsageError(f"{user!r} is no name that a file can have.")
    left_off = file.with_name(f"{file.name}.{user}.cursor") if user else None
    kept = left_off.read_text() if left_off is not None and left_off.exists() else ""
    attempt = Attempt(
        connector=connector,
        since=msgspec.json.decode(cursor or kept) if cursor or kept else None,
        token=token,
        user=user,
        socket=call.settings.places.socket,
        record=record,
        dry_run=dry_run,
        as_json=as_json,
    )
    try:
        last = asyncio.run(_run(attempt))
        if left_off is not None and last is not None and not dry_run:
            left_off.write_bytes(msgspec.json.encode(last) + b"\n")
    except ConnectorError as error:
        raise terminal.NotDone(f"{type(error).__name__}: {error}", "mend the connector, or try again") from None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried, and how."""

    connector: Connector
    since: Cursor | None
    token: Secret | None
    user: str | None
    socket: Path
    record: Path | None
    dry_run: bool
    as_json: bool

    async def opened(self, stack: AsyncExitStack) -> tuple[Transport, frozenset[str]]:
        """What leads to the provider, and what may be asked there."""
        transport, scopes = await self._signed(stack)
        if self.dry_run:
            transport = OnlyReading(transport=transport)
        if self.record is None:
            return transport, scopes
        secrets = {self.token.reveal(): CANARIES[Placeholder.ACCESS_TOKEN]} if self.token else {}
        return Recorded(transport=transport, eraser=Eraser(secrets=secrets), tape=stack.enter_context(self.record.open("wb"))), scopes

    async def _signed(self, stack: AsyncExitStack) -> tuple[Transport, frozenset[str]]:
        if self.token is None and self.user is not None and self.connector.auth is not None:
            client = await stack.enter_async_context(oo_client.Client(self.socket))
            active = [each for each in await client.connections(user=self.user, provider=self.connector.id) if each.state == "active"]
            if not active:
                remedy = f"`oo connect {self.connector.id} --user {self.user}` first, or give a token with --token-file"
                raise terminal.NotDone(f"{self.user} has no connection to {self.connector.id} that works", remedy)
            return ThroughTheDaemon(client=client, connection=active[0].id), frozenset(active[0].scopes)
        real = AiohttpTransport(
            connect_timeout=CONNECT, read_timeout=READ, response_limit=LARGEST, user_agent=f"oo-integrations/{oo_daemon.__version__}"
        )
        stack.push_async_callback(real.close)
        return real, frozenset(scope.id for scope in self.connector.scopes)


# The verb's name is a word of Python's, so that no function can have it.
globals()["try"] = attempt


def _connector(call: Call, file: Path) -> Connector:
    made = list(_loaded(file).oo_connectors())
    if len(made) != 1:
        raise terminal.NotDone(f"{file} offers {len(made)} connectors", "let oo_connectors give the one to try")
    try:
        registry.check(made[0])
        registry.configure(f"[connectors.{made[0].id}]", made[0], call.settings.connectors.get(made[0].id, {}))
    except registry.PluginRefused as refused:
        raise terminal.NotDone(f"{file} is refused", str(refused)) from None
    connector: Connector = made[0]
    return connector


def _loaded(file: Path) -> Any:
    """The file as a module among the others: its Structs look up their own names there."""
    spec = spec_from_file_location("oo_tried", file)
    if spec is None or spec.loader is None:
        raise terminal.NotDone(f"{file} is no Python", "name a file that ends with .py")
    module = sys.modules[spec.name] = module_from_spec(spec)
    wrote, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing is left beside the author's file
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = wrote
    return module


async def _run(attempt: Attempt) -> Cursor | None:
    """Fetch once, and show it; gives where it left off."""
    clock, last, connector = HostClock(), None, attempt.connector
    async with AsyncExitStack() as stack:
        transport, scopes = await attempt.opened(stack)
        held = Held(token=attempt.token or Secret("signed-by-the-daemon"))
        session = SignedSession(connector=connector, client=Client(id="", secrets=()), authority=held, transport=transport, clock=clock)
        ctx = Context(http=session, meta={}, scopes=scopes, first_fetch_from=None, clock=GuestClock(clock), log=Notes())
        async for signal in connector.fetch_signals(ctx, attempt.since):
            last = signal.cursor if isinstance(signal, Checkpoint) else last
            told = _told(connector, signal)
            if attempt.as_json:
                terminal.show_json_lines([told])
            else:
                terminal.show("  ".join(str(part) for part in told.values() if part))
        if attempt.record is not None and attempt.since is None and last is not None:
            async for _ in connector.fetch_signals(ctx, last):
                pass  # on the tape, as the contract's tests go on from there, too
    return last


def _told(connector: Connector, signal: Signal) -> dict[str, Any]:
    match signal:
        case Event():
            payload = wire.shown(signal.payload) if signal.payload is not None else {}
            return {
                "type": f"{connector.id}.{signal.name}",
                "subject": signal.subject,
                "change": signal.change.name.lower(),
                "payload": payload,
            }
        case Checkpoint():
            return {"type": "checkpoint", "cursor": dict(signal.cursor)}
        case Listing():
            return {"type": "listing"}
    return {"type": "unreadable", "reason": str(signal)}
