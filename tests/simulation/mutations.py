"""The daemon with one safeguard switched off: the simulation must notice each of these, or it proves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from oo_daemon.connections.connect import Connect
from oo_daemon.connections.disconnect import Disconnect
from oo_daemon.ingress.webhooks import Webhooks
from oo_daemon.store import accept, credentials, schedule
from oo_daemon.store.accept import Batch
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.sync import act
from oo_daemon.sync.taken import Taken
from oo_sdk import Action

Patch = pytest.MonkeyPatch


def cursor_apart_from_events(patch: Patch) -> None:
    """The cursor moves in a transaction of its own, before the events that lie before it."""
    whole = Taken._commit

    async def apart(self: Taken, mark: Any, sweep: Any = None) -> Any:
        if isinstance(mark, schedule.CursorMoved) and self.drafts:
            await self.storage.accept(Batch(connection=self.connection, observed_at=self.clock.now(), marks=[mark]))
            mark = schedule.Held(run=self.run)
        return await whole(self, mark, sweep)

    patch.setattr(Taken, "_commit", apart)


def fence_ignored(patch: Patch) -> None:
    """A run that has lost its lease writes on."""
    patch.setattr(schedule.Held, "apply", lambda self, database: None)
    patch.setattr(
        schedule,
        "_fenced",
        lambda database, sql, run, *values: database.rows(f"{sql.partition(' AND fence')[0]}", (*values, run.connection)),
    )


def intent_not_written(patch: Patch) -> None:
    """A refresh token is used without a durable word of it."""

    async def intend(self: CredentialRows, *args: Any) -> None: ...

    patch.setattr(CredentialRows, "intend", intend)


def refresh_lease_ignored(patch: Patch) -> None:
    """Whoever wants to refresh does so."""
    sql = f"UPDATE credential SET lease_owner = ?, lease_until = ?, fence = fence + 1 WHERE {credentials._OF} RETURNING fence"
    patch.setattr(credentials, "lease", lambda database, id_, owner, now, until: database.rows(sql, (owner, until, id_))[0][0])


def run_lease_ignored(patch: Patch) -> None:
    """A connection that somebody is syncing is claimed again."""
    honest = schedule.claim

    def claim(database: Any, owner: str, now: int, until: int, limit: int) -> Any:
        return honest(database, owner, now + 120_000_000, until + 120_000_000, limit)

    patch.setattr(schedule, "claim", claim)


def acknowledged_before_stored(patch: Patch) -> None:
    """A webhook is answered first and stored afterwards."""
    keep = Webhooks._keep

    async def hasty(self: Webhooks, source: Any, arrival: Any) -> bool:
        self._later = asyncio.ensure_future(keep(self, source, arrival))  # type: ignore[attr-defined]
        return True

    patch.setattr(Webhooks, "_keep", hasty)


def known_objects_forgotten(patch: Patch) -> None:
    """The object index is not asked."""
    patch.setattr(accept, "_look_up", lambda database, number, drafts: {})


def position_used_twice(patch: Patch) -> None:
    """Positions are taken from the stream without moving it."""

    def take(database: Any, count: int) -> range:
        ((last,),) = database.rows("SELECT coalesce(max(position), 0) - 1 FROM outbox")
        return range(max(1, last + 1), max(1, last + 1) + count)

    patch.setattr(accept, "_take_positions", take)


def action_key_not_kept(patch: Patch) -> None:
    """Each try of an action has another key."""
    tries = count()
    patch.setattr(act, "Action", lambda name, arguments, key: Action(name=name, arguments=arguments, key=f"{key} {next(tries)}"))


def grant_left_alive(patch: Patch) -> None:
    """A disconnect erases the credential and tells nobody."""

    async def attempt(self: Disconnect, job: Any, connection: Any) -> Any:
        return self.give_up(job, connection, "why ask")

    patch.setattr(Disconnect, "attempt", attempt)


def token_in_the_clear(patch: Patch) -> None:
    """An access token ends up beside what a person reads."""
    put = Connect._put_credential

    def careless(self: Connect, database: Any, connection: Any, grant: Any) -> None:
        put(self, database, connection, grant)
        database.rows("UPDATE connection SET label = ? WHERE number = ?", (grant.access_token.reveal(), connection.number))

    patch.setattr(Connect, "_put_credential", careless)


MUTATIONS: tuple[Callable[[Patch], None], ...] = (
    cursor_apart_from_events,
    fence_ignored,
    intent_not_written,
    refresh_lease_ignored,
    run_lease_ignored,
    acknowledged_before_stored,
    known_objects_forgotten,
    position_used_twice,
    action_key_not_kept,
    grant_left_alive,
    token_in_the_clear,
)
