"""A connector at work for one connection outside of a sync: what it is given, and what its errors mean for a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from oo_daemon.connections.credential import Credentials
from oo_daemon.ports import SECOND, Clock, micros, moment
from oo_daemon.store.connections import Connection
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.jobs import Later
from oo_sdk import Connector, ConnectorError, Context, Log, QuotaSpent, RetryLater
from oo_vault import VaultError

#: Longest sentence (characters) of an error that is kept.
LONGEST = 500


class LogFor(Protocol):
    """Gives the logger for one connection: its id is in it only as a tag."""

    def __call__(self, connection: str, provider: str) -> Log:
        """The logger."""


class GuestClock(msgspec.Struct, frozen=True):
    """The clock as connectors see it."""

    clock: Clock

    def now(self) -> datetime:
        """The time, in UTC."""
        return moment(self.clock.now())

    def monotonic(self) -> float:
        """Seconds from some start."""
        return self.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self.clock.sleep(seconds)


class Contexts(msgspec.Struct, frozen=True, kw_only=True):
    """Gives connectors their context. Used on the guests' loop."""

    credentials: Credentials
    clock: Clock
    log_for: LogFor

    async def of(self, connector: Connector, connection: Connection) -> Context:
        """What a connector is given to act as this connection, whatever state that is in. Raises as `Credentials.session` does."""
        return Context(
            http=await self.credentials.session(connector, connection, waited_for=True),
            meta=connection.meta,
            scopes=frozenset(connection.scopes),
            first_fetch_from=None,
            clock=GuestClock(self.clock),
            log=self.log_for(connection.id, connection.provider),
        )


def later(error: Exception, now: int) -> Later | None:
    """When a job that met this error is to be tried again; None where trying again is not what the error asks for."""
    match error:
        case RetryLater(after=timedelta() as after):
            return Later(reason=sentence(error), after=after.total_seconds())
        case QuotaSpent(until=datetime() as until):
            ends = micros(until if until.tzinfo else until.replace(tzinfo=UTC))
            return Later(reason=sentence(error), after=max(ends - now, 0) / SECOND)
        case RetryLater() | CannotStore() | VaultError():
            return Later(reason=sentence(error))
        case _:
            return None


def sentence(error: Exception) -> str:
    """What an error may say to people, short enough to keep. A guest's own exception may quote what it worked on: only its kind is told."""
    if not isinstance(error, ConnectorError | CannotStore | VaultError):
        return f"the connector failed with {type(error).__name__}: update it, or tell its author"
    return str(error).encode(errors="replace").decode().replace("\0", "")[:LONGEST]
