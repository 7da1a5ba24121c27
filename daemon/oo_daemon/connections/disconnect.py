"""Disconnecting: a durable job over a connection in state `revoking`, which can still refresh for that job only.

The provider is asked to revoke for a day; then, or once it has answered, the credential is erased, whatever the answer was. What
became of it is kept, shown and told as an event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from oo_daemon.connections.guest import Contexts, later, sentence
from oo_daemon.ports import Chance, Clock, Guests, Metrics
from oo_daemon.registry import Registry
from oo_daemon.store import connections, credentials, erasures, jobs, schedule
from oo_daemon.store.accept import Batch, Draft, Mark
from oo_daemon.store.connections import Connection, State, StateChanged
from oo_daemon.store.database import Database
from oo_daemon.store.errors import LeaseLost
from oo_daemon.store.jobs import Ended, Job, JobEnded, Later
from oo_daemon.store.storage import Lane, Storage
from oo_sdk import Connector, ConnectorBug, Revocation, Revoked, SignInAgain
from oo_vault import Refresher

#: How often a connector's own fault is met again before it is believed.
FAULTS = 3
#: States in which there is nothing to begin any more.
_BEGUN: frozenset[State] = frozenset({"revoking", "disconnected", "erasing"})


class ConnectionEvent(Protocol):
    """Makes an event of ours about a connection."""

    def __call__(self, connection: Connection, what: str, at: int, **fields: str) -> Draft:
        """`connection.{what}`."""


class ActionEvent(Protocol):
    """Makes an event of ours about an action."""

    def __call__(self, job: Job, what: str, at: int, *, subject: str = "", reason: str = "") -> Draft:
        """`action.{what}`."""


class Disconnect(msgspec.Struct, frozen=True, kw_only=True):
    """What disconnecting needs. It is the handler of jobs of the kind `revoke`."""

    storage: Storage
    registry: Registry
    contexts: Contexts
    refresher: Refresher
    guests: Guests
    clock: Clock
    chance: Chance
    metrics: Metrics
    connection_event: ConnectionEvent
    action_event: ActionEvent
    unsubscribed: Callable[[Connector, Connection], Awaitable[bool]]  #: ends what its provider pushes; False where that may go on
    closed: Callable[[], Awaitable[None]]  #: called when a connection has ended, so that its address takes nothing more

    async def begin(self, connection: Connection) -> None:
        """Stop everything that a connection does and queue its revocation; nothing where that has begun or is over.

        One without a credential is disconnected at once.
        """
        id_ = self.chance.token_bytes(16).hex()
        now = self.clock.now()

        def prepare(database: Database) -> Batch:
            known = connections.by_number(database, connection.number)
            if known is None or known.state in _BEGUN:
                return Batch(connection=connection, observed_at=now)
            schedule.stop(database, known.number, now)
            undone = jobs.fail(database, "act", known.number, "the connection was disconnected before it was done", now)
            drafts = [self.action_event(each, "failed", now, reason=each.reason) for each in undone]
            job = jobs.put(database, id_=id_, kind="revoke", connection=known.number, key=str(known.version), body={}, now=now)
            if credentials.token_version(database, known.number):
                return Batch(connection=known, observed_at=now, drafts=drafts, marks=[_changed(known, "revoking", now)])
            ended = self._ended(known, Revocation(revoked=Revoked.FULLY))
            marks = [JobEnded(job=job, ended=ended, now=now), *ended.marks]
            return Batch(connection=known, observed_at=now, drafts=[*drafts, *ended.drafts], marks=marks)

        try:
            await self.storage.accept(prepare, Lane.INGEST)
        except LeaseLost:
            return  # it was erased meanwhile
        await self.closed()

    async def attempt(self, job: Job, connection: Connection) -> Ended | Later:
        """Ask the provider to revoke."""
        if connection.state not in {"revoking", "erasing"}:
            return Ended(state="failed", reason="the connection is no longer being disconnected")
        connector = self.registry.connectors.get(connection.provider)
        if connector is None:
            return Later(reason=f"the connector {connection.provider} is not loaded: see `oo plugins`")
        # Before the grant is given back: without it the provider would go on pushing until they expire.
        if not await self.unsubscribed(connector, connection) and job.tries < FAULTS:
            return Later(reason="the provider did not end what it pushes")
        if await self.storage.read(connections.shares_grant, connection):
            remains = "another connection uses this access: it was left in place there, and ends with the last one that is disconnected"
            return self._ended(connection, Revocation(revoked=Revoked.PARTLY, remains=remains))
        try:
            revocation = await self.guests.run(self._revoke(connector, connection), of=connector)
        except SignInAgain:
            return self._ended(connection, Revocation(revoked=Revoked.FULLY))  # the grant is gone already
        except Exception as error:
            meant = later(error, self.clock.now())
            if meant is None and job.tries < FAULTS:
                meant = Later(reason=sentence(error))
            return meant or self.give_up(job, connection, sentence(error))
        return self._ended(connection, revocation)

    def give_up(self, job: Job, connection: Connection, reason: str) -> Ended:
        """Erase the credential although the provider was not told."""
        connector = self.registry.connectors.get(connection.provider)
        title = connector.title or connector.id if connector else connection.provider
        result = {
            "revoked": "failed",
            "remains": f"{title} could not be told, so it may still list oO among the apps that have access",
            "manual_url": connector.manual_revocation if connector else "",
        }
        return self._erased(connection, "failed", result, reason)

    async def _revoke(self, connector: Connector, connection: Connection) -> Revocation:
        """Runs on the guests' loop."""
        try:
            revocation: Any = await connector.revoke(await self.contexts.of(connector, connection))
        finally:
            self.refresher.forget(connection.id)  # the next credential of this connection begins with version 1 again
        match revocation:
            case Revocation(revoked=Revoked(), remains=str(), manual_url=str()):
                return revocation
        raise ConnectorBug(f"{connector.id} gave back a {type(revocation).__name__} where a Revocation was asked for")

    def _ended(self, connection: Connection, revocation: Revocation) -> Ended:
        result = {"revoked": revocation.revoked.value, "remains": revocation.remains, "manual_url": revocation.manual_url}
        return self._erased(connection, "done", result, "")

    def _erased(self, connection: Connection, state: jobs.Outcome, result: dict[str, str], reason: str) -> Ended:
        now = self.clock.now()
        self.metrics.count("revocations", provider=connection.provider, revoked=result["revoked"])
        if connection.state == "erasing":  # whoever erases it tells of it, and keeps what became of the grant
            told = erasures.Told(connection=connection.number, revocation={**result, "reason": reason}, now=now)
            return Ended(state=state, result=result, reason=reason, marks=[_Erased(connection=connection.number), told])
        return Ended(
            state=state,
            result=result,
            reason=reason,
            drafts=[self.connection_event(connection, "disconnected", now, reason=reason, **result)],
            marks=[_Erased(connection=connection.number), _changed(connection, "disconnected", now)],
        )


def _changed(connection: Connection, state: State, now: int) -> Mark:
    return StateChanged(number=connection.number, state=state, reason="", now=now)


class _Erased(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: a connection has no credential any more."""

    connection: int

    def apply(self, database: Database) -> None:
        """Write it."""
        credentials.delete(database, self.connection)
