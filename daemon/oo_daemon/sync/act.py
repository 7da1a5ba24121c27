"""Actions: what a person's product wants changed at a provider, asked for once and done once.

An action is checked before it is taken; what was taken is a job, and is done even if the daemon dies in between. Its id is made from
the connection and the caller's key, and goes to the provider with every try: one that remembers such ids does nothing twice.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from oo_daemon.connections.disconnect import ActionEvent, ConnectionEvent
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.guest import Contexts, later, sentence
from oo_daemon.ports import SECOND, Chance, Clock, Guests, Metrics
from oo_daemon.registry import Registry
from oo_daemon.store import connections, jobs, schedule
from oo_daemon.store.accept import Draft
from oo_daemon.store.connections import Connection, StateChanged
from oo_daemon.store.database import Database
from oo_daemon.store.jobs import Ended, Job, Later
from oo_daemon.store.storage import Storage
from oo_sdk import Action, ActionKind, ActionRefused, ActionResult, ApiRetired, Connector, ConnectorBug, SignInAgain, Struct

#: How often a connector's own fault is met again before it is believed.
FAULTS = 3
#: How long an action can be looked at after its end, and its key is known: seven days.
REMEMBERED = 7 * 86_400.0
#: Most bytes of a result's detail, as JSON.
LARGEST_DETAIL = 64 * 1024
LONGEST_KEY = 128


class Actions(msgspec.Struct, frozen=True, kw_only=True):
    """What actions need. It is the handler of jobs of the kind `act`."""

    storage: Storage
    registry: Registry
    contexts: Contexts
    guests: Guests
    clock: Clock
    chance: Chance
    metrics: Metrics
    connection_event: ConnectionEvent
    action_event: ActionEvent
    remembered: float = REMEMBERED  #: seconds
    poisoned: Callable[[str], bool] = lambda item: False  #: says of "action {id}" that it ended the process each time

    async def ask(self, connection: Connection, name: str, arguments: Mapping[str, Any], key: str | None) -> Job:
        """Take an action, or give the one that was taken under this key. Raises `Declined`."""
        key = self.chance.token_bytes(16).hex() if key is None else key
        if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
            raise Declined("key", "That is no key for an action.", f"Use up to {LONGEST_KEY} printable ASCII characters.")
        body = {"name": name, "arguments": arguments}
        refusal = self._refusal(connection, name, arguments)
        id_, now = str(uuid5(NAMESPACE_URL, f"oo:{connection.id}:{key}")), self.clock.now()

        def put(database: Database) -> Job:
            # What was taken before is told, even where it would be declined today.
            taken = jobs.by_key(database, "act", connection.number, key)
            if taken is None:
                if refusal is not None:
                    raise refusal
                known = connections.by_number(database, connection.number)
                if known is None or known.state != "active":
                    raise _not_active(known or connection)
                taken = jobs.put(database, id_=id_, kind="act", connection=connection.number, key=key, body=body, now=now)
            if taken.body != body:
                raise Declined("key_reused", f"The key {key} belongs to another action.", "Give each action a key of its own.")
            return taken

        return await self.storage.write(put)

    async def look(self, id_: str) -> Job | None:
        """The action with this id."""
        job = await self.storage.read(jobs.by_id, id_)
        return job if job is not None and job.kind == "act" else None

    async def tidy(self) -> None:
        """Forget what ended long ago."""
        await self.storage.write(jobs.forget, "act", self.clock.now() - int(self.remembered * SECOND))

    async def attempt(self, job: Job, connection: Connection) -> Ended | Later:
        """Ask the connector to act."""
        connector = self.registry.connectors.get(connection.provider)
        if connector is None:
            return Later(reason=f"the connector {connection.provider} is not loaded: see `oo plugins`")
        refusal = self._refusal(connection, job.body["name"], job.body["arguments"])
        if refusal is None and connection.state != "active":
            refusal = _not_active(connection)
        if refusal is not None:  # it was not so when the action was taken
            return self.give_up(job, connection, str(refusal))
        if self.poisoned(item := f"action {job.id}"):
            return self.give_up(job, connection, "the daemon ended each time that it was tried")
        try:
            result = await self.guests.run(self._act(connector, connection, job), of=connector, item=item)
        except ActionRefused as error:
            return self.give_up(job, connection, sentence(error))
        except SignInAgain as error:
            return self._signed_out(job, connection, sentence(error))
        except ApiRetired as error:
            return self.give_up(job, connection, f"{sentence(error)}: a newer version of the connector is needed")
        except Exception as error:
            meant = later(error, self.clock.now())
            if meant is None and job.tries < FAULTS:
                meant = Later(reason=sentence(error))
            return meant or self.give_up(job, connection, sentence(error))
        return self._done(job, connection, result)

    def give_up(self, job: Job, connection: Connection, reason: str) -> Ended:
        """The action failed."""
        self.metrics.count("actions", provider=connection.provider, state="failed")
        return Ended(state="failed", reason=reason, drafts=[self._event(job, "failed", reason=reason)])

    async def _act(self, connector: Connector, connection: Connection, job: Job) -> ActionResult:
        """Runs on the guests' loop."""
        kind = _kind(connector, job.body["name"])
        action = Action(name=kind.name, arguments=_checked(kind, job.body["arguments"]), key=job.id)
        result: Any = await connector.act(await self.contexts.of(connector, connection), action)
        if not isinstance(result, ActionResult):
            raise ConnectorBug(f"{connector.id} gave back a {type(result).__name__} where an ActionResult was asked for")
        return result

    def _done(self, job: Job, connection: Connection, result: ActionResult) -> Ended:
        self.metrics.count("actions", provider=connection.provider, state="done")
        # It is done, so whatever cannot be kept of the answer is left out rather than asked for again.
        subject = result.subject.encode(errors="replace").decode() if isinstance(result.subject, str) else ""
        return Ended(
            state="done",
            result={"subject": subject, "detail": _plain(result.detail)},
            drafts=[self._event(job, "done", subject=subject)],
            marks=[_SyncSoon(connection=connection.number, now=self.clock.now())],
        )

    def _signed_out(self, job: Job, connection: Connection, reason: str) -> Ended:
        failed, now = self.give_up(job, connection, reason), self.clock.now()
        return Ended(
            state="failed",
            reason=reason,
            drafts=[*failed.drafts, self.connection_event(connection, "needs_sign_in", now, reason=reason)],
            marks=[StateChanged(number=connection.number, state="needs_sign_in", reason=reason, now=now)],
        )

    def _event(self, job: Job, what: str, *, subject: str = "", reason: str = "") -> Draft:
        return self.action_event(job, what, self.clock.now(), subject=subject, reason=reason)

    def _refusal(self, connection: Connection, name: str, arguments: Mapping[str, Any]) -> Declined | None:
        """Why this connection's connector would not do it, as it is now."""
        connector = self.registry.connectors.get(connection.provider)
        if connector is None:
            return Declined("not_loaded", f"The connector {connection.provider} is not loaded.", "See `oo plugins`.")
        try:
            kind = _kind(connector, name)
            _checked(kind, arguments)
        except Declined as refusal:
            return refusal
        if kind.scope and kind.scope not in connection.scopes:
            return Declined(
                "missing_scope",
                f"{connection.user} has not allowed oO to change anything at {connector.title or connector.id}.",
                f"Ask for it: {_connect(connection, write=True)}",
                scope=kind.scope,
            )
        return None


def _kind(connector: Connector, name: str) -> ActionKind:
    for kind in connector.actions:
        if kind.name == name:
            return kind
    there = ", ".join(kind.name for kind in connector.actions)
    remedy = f"There are {there}." if there else "It has none."
    raise Declined("unknown_action", f"{connector.title or connector.id} has no action {name}.", remedy)


def _checked(kind: ActionKind, arguments: Mapping[str, Any]) -> Struct:
    """The arguments in the kind's shape. Raises `Declined`.

    Text that says a number is taken for one where a number is wanted: command lines have only text.
    """
    known = [field.encode_name for field in msgspec.structs.fields(kind.arguments)]
    takes = f"It takes {', '.join(known)}." if known else "It takes none."
    if unknown := sorted(set(arguments) - set(known)):
        raise Declined("arguments", f"The action {kind.name} has no argument {unknown[0]}.", takes)
    try:
        return msgspec.convert(arguments, kind.arguments, strict=False)
    except msgspec.ValidationError as wrong:
        raise Declined("arguments", f"The arguments of {kind.name} do not fit: {wrong}.", takes) from None


def _not_active(connection: Connection) -> Declined:
    remedy = connection.reason or f"Connect it first: {_connect(connection)}"
    return Declined("not_active", f"The connection is {connection.state.replace('_', ' ')}.", remedy)


def _connect(connection: Connection, *, write: bool = False) -> str:
    account = ["--account", connection.account] if connection.account != "default" else []
    return shlex.join(["oo", "connect", connection.provider, "--user", connection.user, *account, *(["--write"] if write else [])])


def _plain(detail: Any) -> dict[str, Any]:
    """What a connector says of a result, as JSON knows it; nothing where JSON does not, or where it is too much."""
    try:
        text = msgspec.json.encode(detail)
        plain: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        return {}
    return plain if len(text) <= LARGEST_DETAIL else {}


class _SyncSoon(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: something changed at the provider, and a sync is to tell what."""

    connection: int
    now: int

    def apply(self, database: Database) -> None:
        """Write it."""
        schedule.due_now(database, self.connection, self.now)
