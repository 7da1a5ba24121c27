"""`oo try`: run a connector that is one file, against its provider, and look at what it tells. Nothing is kept but a tape."""  # noqa: N999 - the verb's name

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import msgspec

import oo_daemon
from oo_daemon import registry
from oo_daemon.cli import terminal
from oo_daemon.cli.call import Call, json_option
from oo_daemon.connections.guest import GuestClock
from oo_daemon.connections.session import Client, SignedSession
from oo_daemon.connections.transport import AiohttpTransport, Request, Transport
from oo_daemon.host import HostClock
from oo_daemon.outbox import wire
from oo_sdk import Checkpoint, Connector, ConnectorError, Context, Event, Listing, Placeholder, Response, Signal, SignInAgain
from oo_sdk.testing.record import Eraser
from oo_sdk.testing.session import CANARIES
from oo_vault import Grant, Secret

#: Seconds to connect and to read, and bytes of one answer.
CONNECT: Final = 10.0
READ: Final = 30.0
LARGEST: Final = 32 * 1024 * 1024


@dataclass(kw_only=True)
class Held:
    """An access token that somebody pasted: it cannot be renewed."""

    token: Secret

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """Give it, unless the provider refused it."""
        if force_after is not None:
            raise SignInAgain("the provider refuses this access token: paste a newer one")
        return Grant(access_token=self.token, obtained_at=0)


@dataclass(kw_only=True)
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
@click.option("--cursor", default="", metavar="JSON", help="Begin at this cursor instead of at the beginning.")
@click.option(
    "--record", type=click.Path(path_type=Path, dir_okay=False), metavar="TAPE", help="Write the answers to this file, for tests."
)
@json_option
@click.pass_obj
def attempt(call: Call, file: Path, token_file: Any, cursor: str, record: Path | None, as_json: bool) -> None:
    """Run the connector in FILE once, and show events and cursors as they come.

    It reads from the provider, or from a sandbox that the settings name, with an access token of your own. Nothing goes into the
    outbox. On a tape, secrets and text by people have stand-ins; look through it before you give it away.
    """
    connector = _connector(call, file)
    token = Secret(token_file.read().strip()) if token_file else Secret("")
    since = msgspec.json.decode(cursor) if cursor else None
    try:
        asyncio.run(_run(connector, token, since, record, as_json=as_json))
    except ConnectorError as error:
        raise terminal.NotDone(f"{type(error).__name__}: {error}", "mend the connector, or try again") from None


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


async def _run(connector: Connector, token: Secret, since: Any, record: Path | None, *, as_json: bool) -> None:
    clock = HostClock()
    async with _transport(token, record) as transport:
        client = Client(id="", secrets=())
        session = SignedSession(connector=connector, client=client, authority=Held(token=token), transport=transport, clock=clock)
        scopes = frozenset(scope.id for scope in connector.scopes)
        ctx = Context(http=session, meta={}, scopes=scopes, first_fetch_from=None, clock=GuestClock(clock), log=Notes())
        async for signal in connector.fetch_signals(ctx, since):
            told = _told(connector, signal)
            if as_json:
                terminal.show_json_lines([told])
            else:
                terminal.show("  ".join(str(part) for part in told.values() if part))


@asynccontextmanager
async def _transport(token: Secret, record: Path | None) -> AsyncIterator[Transport]:
    real = AiohttpTransport(
        connect_timeout=CONNECT, read_timeout=READ, response_limit=LARGEST, user_agent=f"oo-integrations/{oo_daemon.__version__}"
    )
    try:
        if record is None:
            yield real
            return
        secrets = {token.reveal(): CANARIES[Placeholder.ACCESS_TOKEN]} if token.reveal() else {}
        with record.open("wb") as tape:
            yield Recorded(transport=real, eraser=Eraser(secrets=secrets), tape=tape)
    finally:
        await real.close()


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
