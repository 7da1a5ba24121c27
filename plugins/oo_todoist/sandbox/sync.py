"""POST /api/v1/sync: reading changes and executing commands, in one request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiohttp import web

from oo_todoist.sandbox.account import Account
from oo_todoist.sandbox.bearer import bearer
from oo_todoist.sandbox.dates import stamp
from oo_todoist.sandbox.misbehaviour import Misbehaviour
from oo_todoist.sandbox.objects import NOTHING
from oo_todoist.sandbox.refusals import invalid, missing, outside_scope
from oo_todoist.sandbox.wire import answer, arguments, loads
from oo_todoist.sandbox.world import World

Json = dict[str, Any]


class Sync:
    """The sync endpoint."""

    def __init__(self, world: World, misbehaviour: Misbehaviour) -> None:
        self._world = world
        self._misbehaviour = misbehaviour

    def routes(self) -> list[web.RouteDef]:
        """Give the routes. There is no GET: Todoist took it away."""
        return [web.post("/api/v1/sync", self.sync, name="sync")]

    async def sync(self, request: web.Request) -> web.Response:
        """Execute the commands, then say what changed since the sync token."""
        account, token = bearer(self._world, request)
        args = await arguments(request)
        kinds = _kinds(_json(args, "resource_types"))
        commands = _json(args, "commands")
        if kinds is None and commands is None:
            raise missing("resource_types")
        if kinds is not None and not token.allows("data:read"):
            raise outside_scope()
        since = args.get("sync_token", "*")  # the official client leaves it out where it sends commands too
        if kinds is not None and not isinstance(since, str):
            raise invalid("sync_token", expected="Input should be a valid string")
        full = kinds is not None and since == "*"
        self._world.spend(account, "full" if full else "partial")
        # Read before anything is executed: a request is refused as a whole or carried out.
        position = None if kinds is None or full else self._world.position(account, str(since))

        done: Json = {"temp_id_mapping": {}}
        if commands is not None:
            failing = self._misbehaviour.take("fail_commands", "sync") is not None
            executed = self._world.execute(account, commands, token=token, failing=failing)
            done = {"sync_status": executed.sync_status, "temp_id_mapping": executed.temp_id_mapping}
        read = {"sync_token": self._world.sync_token(account, account.position)}
        if kinds is not None:
            read = self._read(account, kinds, position)
        return answer({**read, **done})

    def _read(self, account: Account, kinds: list[str], since: int | None) -> Json:
        if since is not None and self._misbehaviour.take("forced_full_sync", "sync") is not None:
            since = None
        at, position = self._world.now(), account.position
        if since is None:
            stale = self._misbehaviour.take("stale_full_sync", "sync")
            if stale is not None:
                at -= timedelta(seconds=stale["seconds"])
                position = account.position_at(at)
            objects = account.active(None if stale is None else position)
        else:
            objects = account.since(since)
        read: Json = {"sync_token": self._world.sync_token(account, position), "full_sync": since is None}
        if since is None:
            read["full_sync_date_utc"] = stamp(at)
        for kind in kinds:
            read.update(NOTHING[kind])
            if kind in objects:
                read[kind] = objects[kind][0] if kind == "user" else objects[kind]
        return read


def _json(args: Json, name: str) -> Any:
    """Read a member that a form carries as JSON text."""
    value = args.get(name)
    if not isinstance(value, str):
        return value
    try:
        return loads(value)
    except (ValueError, RecursionError):
        raise invalid(name, expected="Input should be valid JSON") from None


def _kinds(value: object) -> list[str] | None:
    """Give the resource types asked for; a leading "-" takes one away from the rest."""
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise invalid("resource_types", expected="Input should be a valid list of resource types")
    without = {each[1:] for each in value if each.startswith("-")}
    wanted = {each for each in value if not each.startswith("-")} or {"all"}
    if unknown := (wanted | without) - {*NOTHING, "all"}:
        raise invalid("resource_types", explanation=f"There is no resource type {min(unknown)!r}")
    return [kind for kind in NOTHING if kind not in without and (kind in wanted or "all" in wanted)]
