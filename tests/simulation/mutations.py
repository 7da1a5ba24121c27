"""The daemon with one safeguard switched off: the simulation must notice each of these, or it proves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from oo_daemon.connections.connect import Connect
from oo_daemon.connections.disconnect import Disconnect
from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.webhooks import Webhooks
from oo_daemon.ports import SECOND
from oo_daemon.store import accept, credentials, erasures, inbox, jobs, schedule
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import StillActive
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.sync import act
from oo_daemon.sync.intake import Intake
from oo_daemon.sync.taken import Taken
from oo_sdk import Action

Patch = pytest.MonkeyPatch


def cursor_apart_from_events(patch: Patch) -> None:
    """The cursor moves in a transaction of its own, before the events that lie before it."""
    whole = Taken._commit

    async def apart(self: Taken, mark: Any, *more: Any, sweep: Any = None) -> Any:
        if isinstance(mark, schedule.CursorMoved) and self.drafts:
            await self.means.storage.accept(Batch(connection=self.connection, observed_at=self.means.clock.now(), marks=[mark]))
            mark = schedule.Held(run=self.run)
        return await whole(self, mark, *more, sweep=sweep)

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

    def claim(database: Any, owner: str, now: int, until: int, *more: Any) -> Any:
        return honest(database, owner, now + 120 * SECOND, until, *more)

    patch.setattr(schedule, "claim", claim)


def acknowledged_before_stored(patch: Patch) -> None:
    """A webhook is answered first and stored afterwards."""
    begin = Webhooks._begin_to_keep

    def hasty(self: Webhooks, source: Any, arrival: Any) -> asyncio.Future[bool]:
        self._later = begin(self, source, arrival)  # type: ignore[attr-defined]
        self.patience.end(self._later)  # type: ignore[attr-defined]
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        answered.set_result(True)
        return answered

    patch.setattr(Webhooks, "_begin_to_keep", hasty)


def acknowledged_although_the_disk_refused(patch: Patch) -> None:
    """A webhook that cannot be stored is answered as if it were."""
    honest = Webhooks._kept

    def bold(self: Webhooks, source: Any, kept: Any) -> None:
        with suppress(Refused):
            honest(self, source, kept)

    patch.setattr(Webhooks, "_kept", bold)


def forgotten_after_its_answer(patch: Patch) -> None:
    """A webhook that was stored and answered is lost before it was told."""
    honest = inbox.claim

    def claim(database: Any, *given: Any) -> Any:
        claimed = honest(database, *given)
        for delivery in claimed[-1:]:
            database.rows("DELETE FROM delivery WHERE number = ?", (delivery.number,))
        return claimed

    patch.setattr(inbox, "claim", claim)


def done_without_being_told(patch: Patch) -> None:
    """A webhook is marked as done, and nothing came of it."""

    async def nothing(self: Intake, delivery: Any, *given: Any) -> Any:
        return await self._done(delivery)

    patch.setattr(Intake, "_tell", nothing)


def told_after_the_disconnect(patch: Patch) -> None:
    """A run and a webhook that are under way go on when their connection is disconnected."""
    patch.setattr(schedule, "stop", lambda database, connection, now: None)
    patch.setattr(StillActive, "apply", lambda self, database: None)


def told_after_the_erasure(patch: Patch) -> None:
    """They go on when their connection is being erased."""
    told_after_the_disconnect(patch)
    patch.setattr(accept, "_hold", lambda database, batch: None)


def erased_in_part(patch: Patch) -> None:
    """An erasure leaves the events."""
    patch.setattr(erasures, "OF_A_CONNECTION", {name: key for name, key in erasures.OF_A_CONNECTION.items() if name != "outbox"})


def leases_kept_by_a_stop(patch: Patch) -> None:
    """A daemon that is stopped in order gives nothing back."""
    patch.setattr(schedule, "release", lambda *given: 0)
    patch.setattr(jobs, "release", lambda *given: 0)


def known_objects_forgotten(patch: Patch) -> None:
    """The object index is not asked."""
    patch.setattr(accept, "_look_up", lambda database, number, drafts: {})


def position_used_twice(patch: Patch) -> None:
    """Positions are taken from the stream without moving it."""

    def take(database: Any, count: int, size: int) -> range:
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


#: Each with what it must be noticed by: whatever else goes wrong without it does not count.
MUTATIONS: dict[Callable[[Patch], None], str] = {
    cursor_apart_from_events: "the outbox says",
    fence_ignored: "had been taken over",
    intent_not_written: "without a durable intent",
    refresh_lease_ignored: "the credential lease of",
    run_lease_ignored: "the schedule lease of",
    acknowledged_before_stored: "a delivery was acknowledged and is not stored",
    acknowledged_although_the_disk_refused: "a delivery was acknowledged and is not stored",
    forgotten_after_its_answer: "a row of delivery vanished",
    done_without_being_told: "a webhook is done, and",
    told_after_the_disconnect: "an event was emitted after the disconnect",
    told_after_the_erasure: "an event was emitted after the erasure",
    erased_in_part: "what came before an erasure is still there",
    leases_kept_by_a_stop: "a daemon that was stopped in order still holds",
    known_objects_forgotten: "events are in the outbox twice",
    position_used_twice: "position",
    action_key_not_kept: "an action done",
    grant_left_alive: "its grant lives on",
    token_in_the_clear: "a token is readable in the database",
}
