"""A small daemon made from the contract: a real aiohttp server on a Unix socket that remembers what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

import oo_daemon

Json = dict[str, Any]

OPENAPI = Path(oo_daemon.__file__).parent / "ingress" / "openapi.yaml"
NOW = "2026-11-22T09:30:00Z"
SOON = "2026-11-22T09:45:00Z"


BACKUP: Json = {"name": "oo-20261122T093000Z-1-7.backup", "size": 81_920, "made_at": "2026-11-22T09:30:00Z", "position": "1-7"}


PROXIED = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request as it came, and its answer."""

    method: str
    route: str  #: the path with its parameters in braces
    path: str
    query: Mapping[str, str]
    body: Any
    status: int
    media: str
    answer: bytes


@dataclass(kw_only=True)
class FakeDaemon:
    """What it knows; tests change it, the handlers read it."""

    socket: Path
    plugins: list[Json] = field(default_factory=list)
    registrations: list[Json] = field(default_factory=list)
    deliveries: list[Json] = field(default_factory=list)
    sources: list[Json] = field(default_factory=list)
    tokens: list[Json] = field(default_factory=list)
    #: Answers to the question how the vault stands, in turn; the last one again and again.
    vaults: list[Json] = field(default_factory=list)
    connections: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    consumers: list[Json] = field(default_factory=list)
    sinks: list[Json] = field(default_factory=list)
    dead_letters: list[Json] = field(default_factory=list)
    #: Answers to the question how far a person has come, in turn; after the last one the question is left open.
    progress: list[Json] = field(default_factory=list)
    #: Answers to a sync of a connection, in turn; the last one again and again.
    syncs: dict[str, list[Json]] = field(default_factory=dict)
    #: Answers to an action, in turn; the last one again and again.
    actions: list[Json] = field(default_factory=list)
    #: The run log.
    runs: list[Json] = field(default_factory=list)
    #: Where credentials were used.
    uses: list[Json] = field(default_factory=list)
    #: What a connection is after it was disconnected, in turn; the last one again and again.
    disconnected: list[Json] = field(default_factory=list)
    #: Answers given instead, one for each request: a status and a body, with headers.
    instead: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    health: dict[str, Json] = field(default_factory=lambda: {"database": {"status": "ok", "says": ""}})
    erasures: list[Json] = field(default_factory=list)
    uploads: list[Json] = field(default_factory=list)
    #: What becomes of an upload that was sent.
    imported: Json = field(
        default_factory=lambda: {
            "state": "done", "done": 5, "records": 1200, "events": 3, "kinds": {"apple_health.step_count": {"records": 1200, "events": 3}},
        }
    )  # fmt: skip
    #: How far a backup is that is being made, in turn: bytes done, and of how many; after the last one it is made.
    making: list[tuple[int, int]] = field(default_factory=list)
    made: asyncio.Event = field(default_factory=asyncio.Event)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = None

    def asked(self, route: str) -> list[Exchange]:
        """Give the exchanges on one route, "POST /v1/registrations"."""
        return [each for each in self.exchanges if f"{each.method} {each.route}" == route]

    def add(self, *events: Json) -> None:
        """Write events, waking whoever waits for them."""
        self.events.extend(events)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._woken.set)

    def app(self) -> web.Application:
        """Give the application with every route of the contract."""
        app = web.Application(middlewares=[self._remember])
        app.add_routes(
            [
                web.get("/livez", self._live),
                web.get("/readyz", self._live),
                web.get("/healthz", self._health),
                web.get("/metrics", self._metrics),
                web.get("/v1/audit", self._audit),
                web.get("/v1/audit/verdict", self._audit_verdict),
                web.get("/v1/backups", self._backups),
                web.get("/v1/uploads", self._uploads),
                web.post("/v1/uploads", self._await_upload),
                web.get("/v1/uploads/{id}", self._upload),
                web.delete("/v1/uploads/{id}", self._upload),
                web.put("/v1/uploads/{id}/file", self._send_upload),
                web.delete("/v1/users/{user}", self._erase),
                web.get("/v1/users/{user}/export", self._export),
                web.post("/v1/users/{user}/visits", self._visit),
                web.post("/v1/connections/{id}/erase", self._erase),
                web.get("/v1/erasures", self._erasures),
                web.get("/v1/erasures/{id}", self._erasure),
                web.post("/v1/backups", self._make_backup),
                web.get("/v1/status", self._status),
                web.get("/v1/plugins", self._plugins),
                web.post("/v1/plugins/{name}/release", self._released),
                web.get("/v1/registrations", self._registrations),
                web.post("/v1/registrations", self._register),
                web.post("/v1/connect-sessions", self._connect),
                web.get("/v1/connect-sessions/{id}", self._progress),
                web.post("/v1/connect-sessions/{id}/code", self._code),
                web.post("/v1/connect-sessions/{id}/answer", self._progress),
                web.get("/v1/connections", self._connections),
                web.get("/v1/connections/{id}", self._connection),
                web.delete("/v1/connections/{id}", self._disconnect),
                web.get("/v1/connections/{id}/details", self._details),
                web.get("/v1/connections/{id}/uses", self._uses),
                web.post("/v1/actions", self._act),
                web.get("/v1/actions/{id}", self._action),
                web.post("/v1/connections/{id}/sync", self._sync),
                *(web.route(method, "/v1/connections/{id}/proxy/{path:.+}", self._proxied) for method in PROXIED),
                web.post("/v1/connections/{id}/pause", self._paused),
                web.post("/v1/connections/{id}/resume", self._paused),
                web.put("/v1/connections/{id}/timetable", self._timetable),
                web.delete("/v1/connections/{id}/timetable", self._timetable),
                web.get("/v1/runs", self._runs),
                web.get("/v1/events", self._events),
                web.get("/v1/sinks", self._sinks),
                web.post("/v1/sinks/{name}/pause", self._move_sink),
                web.post("/v1/sinks/{name}/resume", self._move_sink),
                web.post("/v1/sinks/{name}/replay", self._replay_letters),
                web.get("/v1/consumers", self._consumers),
                web.post("/v1/consumers", self._add_consumer),
                web.get("/v1/consumers/{name}", self._consumer),
                web.delete("/v1/consumers/{name}", self._remove_consumer),
                web.post("/v1/consumers/{name}/reset", self._reset_consumer),
                web.post("/v1/consumers/{name}/batches", self._take),
                web.post("/v1/consumers/{name}/ack", self._ack),
                web.post("/v1/consumers/{name}/nack", self._nack),
                web.get("/v1/consumers/{name}/dead-letters", self._dead_letters),
                web.delete("/v1/consumers/{name}/dead-letters", self._drop_dead_letters),
                web.get("/v1/deliveries", self._deliveries),
                web.get("/v1/deliveries/{id}", self._delivery),
                web.post("/v1/deliveries/replay", self._some),
                web.post("/v1/deliveries/drop", self._some),
                web.get("/v1/sources", self._sources),
                web.post("/v1/sources", self._add_source),
                web.get("/v1/sources/{id}", self._source),
                web.post("/v1/sources/{id}/rotate", self._rotate_source),
                web.post("/v1/sources/{id}/enable", self._switch_source),
                web.post("/v1/sources/{id}/disable", self._switch_source),
                web.post("/v1/sources/{id}/try", self._try_source),
                web.post("/v1/sources/{id}/sample", self._sample_source),
                web.get("/v1/tokens", self._tokens),
                web.post("/v1/tokens", self._create_token),
                web.delete("/v1/tokens/{name}", self._revoke_token),
                web.get("/v1/vault", self._vault),
                web.post("/v1/vault/reload", self._vault),
                web.post("/v1/vault/rotate", self._vault),
                web.delete("/v1/vault/keys/{id}", self._drop_key),
                web.get("/v1/openapi.yaml", self._openapi),
            ]
        )
        return app

    @web.middleware
    async def _remember(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.json() if request.can_read_body and request.content_type == "application/json" else None
        if self.instead:
            status, text, headers = self.instead.pop(0)
            return web.Response(status=status, body=text, headers=headers)
        response: web.Response = await handler(request)
        resource = request.match_info.route.resource
        self.exchanges.append(
            Exchange(
                method=request.method,
                route=resource.canonical if resource is not None else "",
                path=request.raw_path.partition("?")[0],
                query=dict(request.query),
                body=body,
                status=response.status,
                media=response.content_type,
                answer=bytes(response.body or b"") if isinstance(response.body, bytes) else b"",
            )
        )
        return response

    async def _live(self, request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _health(self, request: web.Request) -> web.Response:
        failing = any(part["status"] == "failing" for part in self.health.values())
        return _json({"status": "not_ready" if failing else "ok", "parts": self.health})

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text="oo_integrations_syncs_total 1.0\n")

    async def _erase(self, request: web.Request) -> web.Response:
        self.erasures.append(erasure(f"e-{len(self.erasures)}"))
        return _json(self.erasures[-1], status=202)

    async def _export(self, request: web.Request) -> web.Response:
        return web.Response(body=b"PK\x05\x06" + bytes(18), content_type="application/zip")

    async def _visit(self, request: web.Request) -> web.Response:
        return _json({"id": "v-1", "url": "http://127.0.0.1:8710/visit/once", "expires_at": NOW}, status=201)

    async def _erasures(self, request: web.Request) -> web.Response:
        return _json({"erasures": self.erasures})

    async def _erasure(self, request: web.Request) -> web.Response:
        return _json(next(each for each in self.erasures if each["id"] == request.match_info["id"]))

    async def _audit(self, request: web.Request) -> web.Response:
        entry = {"number": 1, "at": NOW, "who": "uid 1000", "act": "DELETE /v1/users/{user}", "about": "user ada", "status": 202}
        return _json({"entries": [entry]})

    async def _audit_verdict(self, request: web.Request) -> web.Response:
        whole = "head" not in request.query
        return _json({"entries": 1, "whole": whole, "says": "" if whole else "the end was cut off", "head": "0f" * 32})

    async def _uploads(self, request: web.Request) -> web.Response:
        return _json({"uploads": self.uploads})

    async def _await_upload(self, request: web.Request) -> web.Response:
        asked = await request.json()
        named = {name: asked[name] for name in ("provider", "user", "account", "name", "size") if name in asked}
        self.uploads.insert(0, upload(**named))
        return _json({"upload": self.uploads[0], "url": "http://127.0.0.1:8710/import/one-use", "expires_at": SOON}, status=201)

    async def _upload(self, request: web.Request) -> web.Response:
        (found,) = (each for each in self.uploads if each["id"] == request.match_info["id"])
        if request.method == "DELETE":
            found["state"] = "cancelled"
        elif found["state"] == "queued":
            found.update(self.imported)
        return _json(found)

    async def _send_upload(self, request: web.Request) -> web.Response:
        (found,) = (each for each in self.uploads if each["id"] == request.match_info["id"])
        found["received"] += len(await request.read())
        found["state"] = "queued" if found["received"] == found["size"] else "awaited"
        return _json(found)

    async def _backups(self, request: web.Request) -> web.Response:
        if not self.making:
            self.made.set()
            return _json({"backups": [BACKUP]})
        done, total = self.making.pop(0)
        return _json({"backups": [BACKUP], "making": {"done": done, "total": total}})

    async def _make_backup(self, request: web.Request) -> web.Response:
        await self.made.wait()
        return _json(BACKUP, status=201)

    async def _status(self, request: web.Request) -> web.Response:
        states = [each["state"] for each in self.connections]
        return _json(
            {
                "version": "0.1.0",
                "instance": "5f0c",
                "public_url": "http://127.0.0.1:8710",
                "database": "/var/lib/oo-integrations/oo.sqlite3",
                "engine": "SQLite 3.54.1",
                "connections": {state: states.count(state) for state in set(states)},
                "unverified_sources": [each["id"] for each in self.sources if not each["verified"]],
                "started_at": NOW,
            }
        )

    async def _plugins(self, request: web.Request) -> web.Response:
        return _json({"plugins": self.plugins})

    async def _released(self, request: web.Request) -> web.Response:
        named = [each for each in self.plugins if each["name"] == request.match_info["name"] and each["strikes"]]
        if not named:
            return _error(404, "not_found", "No plugin of this name has a strike.", "See `oo plugins`.")
        for each in named:
            each["strikes"] = 0
        return _json({"plugins": self.plugins})

    async def _registrations(self, request: web.Request) -> web.Response:
        return _json({"registrations": self.registrations})

    async def _register(self, request: web.Request) -> web.Response:
        asked = await request.json()
        name = asked.get("id", asked["provider"])
        if any(each["id"] == name and each["provider"] != asked["provider"] for each in self.registrations):
            return _error(409, "registration_exists", f"There is a registration {name} with another provider.", "Choose another id.")
        added = registration(
            id=name,
            provider=asked["provider"],
            client_id=asked["client_id"],
            secrets=len(asked["client_secrets"]),
            webhook_secrets=len(asked.get("webhook_secrets", [])),
        )
        self.registrations.append(added)
        return _json(added, status=201)

    async def _code(self, request: web.Request) -> web.Response:
        where = "https://todoist.example/device"
        told = {"user_code": "123-456", "verification_uri": where, "verification_uri_complete": f"{where}?code=123-456"}
        return _json({**told, "expires_at": SOON}, status=201)

    async def _connect(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["provider"] == "nowhere":
            return _error(404, "provider", "No connector is called nowhere.", "See `oo plugins`.")
        return _json({"id": "s-1", "url": "http://127.0.0.1:8710/connect/one-use", "expires_at": SOON}, status=201)

    async def _progress(self, request: web.Request) -> web.Response:
        if not self.progress:
            await self._wait(request)
            return _json({"id": request.match_info["id"], "status": "open", "reason": "", "label": "", "connection": None})
        return _json(self.progress.pop(0))

    async def _proxied(self, request: web.Request) -> web.Response:
        if request.match_info["path"].startswith("elsewhere"):
            return _error(
                403, "host", "The path does not begin with one of the connector's hosts.", "Begin it with one of: api.todoist.com."
            )
        status = 404 if request.path.endswith("/missing") else 200
        return web.Response(status=status, text=request.match_info["path"], headers={"OO-Answer": "provider", "X-Kind": "test"})

    async def _connections(self, request: web.Request) -> web.Response:
        return _json({"connections": [each for each in self.connections if _matches(each, request, "user", "provider")]})

    async def _connection(self, request: web.Request) -> web.Response:
        for each in self.connections:
            if each["id"] == request.match_info["id"]:
                return _json(each)
        return _error(404, "not_found", "There is no such connection.", "See `oo connections`.")

    async def _disconnect(self, request: web.Request) -> web.Response:
        if not self.disconnected:
            return await self._connection(request)
        shown = self.disconnected.pop(0) if len(self.disconnected) > 1 else self.disconnected[0]
        return _json(shown, status=202 if shown["state"] == "revoking" else 200)

    async def _act(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["name"] == "nothing":
            return _error(404, "unknown_action", "Todoist has no action nothing.", "There are complete_task, add_task.")
        shown = self._next_action()
        return _json(shown, status=202 if shown["state"] == "queued" else 200)

    async def _action(self, request: web.Request) -> web.Response:
        return _json(self._next_action())

    def _next_action(self) -> Json:
        return self.actions.pop(0) if len(self.actions) > 1 else self.actions[0]

    async def _sync(self, request: web.Request) -> web.Response:
        answers = self.syncs.get(request.match_info["id"])
        if not answers:
            return _error(404, "not_found", "There is no such connection.", "See `oo connections`.")
        return _json(answers.pop(0) if len(answers) > 1 else answers[0])

    async def _paused(self, request: web.Request) -> web.Response:
        for each in self.connections:
            each["state"] = "paused" if request.path.endswith("pause") else "active"
        return await self._connection(request)

    async def _timetable(self, request: web.Request) -> web.Response:
        for each in self.connections:
            each["timetable"] = {"every": None, "cron": None, "zone": None, **await request.json()} if request.method == "PUT" else None
        return await self._connection(request)

    async def _runs(self, request: web.Request) -> web.Response:
        return _json({"runs": [each for each in self.runs if _matches(each, request, "connection")]})

    async def _details(self, request: web.Request) -> web.Response:
        return _json({**details(), "runs": self.runs[:5]})

    async def _uses(self, request: web.Request) -> web.Response:
        return _json({"uses": self.uses})

    async def _events(self, request: web.Request) -> web.Response:
        try:
            start = int(request.query.get("after", "1-0").removeprefix("1-"))
        except ValueError:
            return _error(400, "position", "This is no position.", "Use one that an answer gave.")
        if start > len(self.events):
            return _error(409, "position_ahead", "This position is ahead of the log.", "Read from the beginning.")
        if start == len(self.events):
            await self._wait(request)
        limit = int(request.query.get("limit", "100"))
        page = self.events[start : start + limit]
        end = start + len(page)
        shown = [each for each in page if _matches(each, request, "user", "provider", "type")]
        return _json({"events": shown, "position": f"1-{end}", "more": end < len(self.events), "missing": 0})

    async def _sinks(self, request: web.Request) -> web.Response:
        return _json({"sinks": self.sinks})

    async def _move_sink(self, request: web.Request) -> web.Response:
        for each in self.sinks:
            if each["name"] == request.match_info["name"]:
                each["state"] = "paused" if request.path.endswith("pause") else "running"
                return _json(each)
        return _error(404, "unknown_sink", "There is no such sink.", "See `oo sinks list`.")

    async def _replay_letters(self, request: web.Request) -> web.Response:
        positions = (await request.json()).get("positions")
        for each in self.sinks:
            if each["name"] == request.match_info["name"]:
                return _json({"replayed": each["dead_letters"] if positions is None else len(positions)})
        return _error(404, "unknown_sink", "There is no such sink.", "See `oo sinks list`.")

    async def _consumers(self, request: web.Request) -> web.Response:
        return _json({"consumers": self.consumers})

    async def _add_consumer(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if any(each["name"] == asked["name"] for each in self.consumers):
            return _error(409, "consumer_exists", f"There is a consumer {asked['name']}.", "Reset it, or choose another name.")
        wanted = {key: asked.get(key) for key in ("user", "provider", "type")}
        self.consumers.append(consumer(name=asked["name"], lag=len(self.events), most_tries=asked.get("most_tries", 10), **wanted))
        return _json(self.consumers[-1], status=201)

    async def _consumer(self, request: web.Request) -> web.Response:
        known = self._known_consumer(request)
        return _no_consumer() if known is None else _json(known)

    async def _remove_consumer(self, request: web.Request) -> web.Response:
        known = self._known_consumer(request)
        if known is None:
            return _no_consumer()
        self.consumers.remove(known)
        return _json(known)

    async def _reset_consumer(self, request: web.Request) -> web.Response:
        known, asked = self._known_consumer(request), await request.json()
        if known is None:
            return _no_consumer()
        end = len(self.events)
        at = {"beginning": 0, "present": 0, "now": end, "here": int(known["position"][2:])}.get(asked["to"], end)
        known.update(state="free", position=f"1-{at}", lag=end - at, present_until=f"1-{end}" if asked["to"] == "present" else None)
        return _json(known)

    async def _take(self, request: web.Request) -> web.Response:
        known, asked = self._known_consumer(request), await request.json()
        if known is None:
            return _no_consumer()
        start = int(known["position"][2:])
        if start == len(self.events):
            await self._wait(request)
        page = self.events[start : start + asked.get("limit", 100)]
        batch = {"events": page, "position": f"1-{start + len(page)}", "token": None, "until": None, "tries": 0, "missing": 0}
        if page:
            known.update(tries=known["tries"] + 1)
            batch |= {"token": f"t{start}", "until": SOON, "tries": known["tries"]}
        return _json(batch)

    async def _ack(self, request: web.Request) -> web.Response:
        known, said = self._known_consumer(request), await request.json()
        if known is None:
            return _no_consumer()
        if said["token"] != f"t{known['position'][2:]}":
            return _error(409, "lease_lost", "This batch is no longer this reader's.", "Ask for the next batch.")
        known.update(position=said["position"], tries=0, lag=len(self.events) - int(said["position"][2:]))
        return _json(known)

    async def _nack(self, request: web.Request) -> web.Response:
        known, said = self._known_consumer(request), await request.json()
        if known is None:
            return _no_consumer()
        known.update(position=f"1-{int(said['position'][2:]) - 1}", state="held", reason=said["reason"])
        return _json(known)

    async def _dead_letters(self, request: web.Request) -> web.Response:
        return _json({"dead_letters": self.dead_letters})

    async def _drop_dead_letters(self, request: web.Request) -> web.Response:
        dropped = len(self.dead_letters)
        self.dead_letters.clear()
        return _json({"dropped": dropped})

    def _known_consumer(self, request: web.Request) -> Json | None:
        return next((each for each in self.consumers if each["name"] == request.match_info["name"]), None)

    async def _tokens(self, request: web.Request) -> web.Response:
        return _json({"tokens": self.tokens})

    async def _create_token(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if any(each["name"] == asked["name"] for each in self.tokens):
            return _error(409, "token_exists", f"There is a token {asked['name']}.", "Revoke it first.")
        self.tokens.append(token(name=asked["name"], scopes=asked["scopes"], expires_at=SOON if "life" in asked else None))
        return _json({**self.tokens[-1], "token": "oot_s3cret"}, status=201)

    async def _revoke_token(self, request: web.Request) -> web.Response:
        for each in self.tokens:
            if each["name"] == request.match_info["name"]:
                self.tokens.remove(each)
                return _json(each)
        return _error(404, "not_found", "There is no such token.", "See `oo token list`.")

    async def _deliveries(self, request: web.Request) -> web.Response:
        shown = [each for each in self.deliveries if _matches(each, request, "state", "source")]
        return _json({"deliveries": shown[: int(request.query.get("limit", "100"))]})

    async def _delivery(self, request: web.Request) -> web.Response:
        for each in self.deliveries:
            if each["id"] == request.match_info["id"]:
                body = "eyJhIjoxfQ==" if each["state"] != "done" else None
                return _json({**each, "headers": {"content-type": "application/json"}, "body": body})
        return _error(404, "not_found", "There is no such delivery.", "See `oo inbox list`.")

    async def _some(self, request: web.Request) -> web.Response:
        asked = await request.json()
        fits = [each for each in self.deliveries if all(each[key] == asked.get(key, each[key]) for key in ("source", "state"))]
        return _json({"deliveries": [each["id"] for each in fits if int(asked.get("first", "0")) <= int(each["id"])]})

    async def _sources(self, request: web.Request) -> web.Response:
        return _json({"sources": self.sources})

    async def _add_source(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["scheme"] == "odd":
            return _error(404, "unknown_scheme", "There is no scheme odd.", "Use one of github, none.")
        self.sources.append(source(id=asked["id"], provider=asked["provider"], scheme=asked["scheme"], verified=asked["scheme"] != "none"))
        told = None if "secret" in asked or asked["scheme"] == "none" else "made-secret"
        return _json({**self.sources[-1], "secret": told}, status=201)

    async def _source(self, request: web.Request) -> web.Response:
        known = self._known_source(request)
        return _no_source() if known is None else _json({**known, "secret": None})

    async def _rotate_source(self, request: web.Request) -> web.Response:
        known, asked = self._known_source(request), await request.json()
        return _no_source() if known is None else _json({**known, "secret": None if "secret" in asked else "newer-secret"})

    async def _switch_source(self, request: web.Request) -> web.Response:
        known = self._known_source(request)
        if known is None:
            return _no_source()
        known.update(state="open" if request.path.endswith("enable") else "closed")
        return _json(known)

    async def _try_source(self, request: web.Request) -> web.Response:
        return _no_source() if self._known_source(request) is None else _json({"events": [event(1)]})

    async def _sample_source(self, request: web.Request) -> web.Response:
        known = self._known_source(request)
        return _no_source() if known is None else _json({"url": known["url"], "headers": {"X-Sign": "sha256=00"}})

    def _known_source(self, request: web.Request) -> Json | None:
        return next((each for each in self.sources if each["id"] == request.match_info["id"]), None)

    async def _vault(self, request: web.Request) -> web.Response:
        return _json(self.vaults.pop(0) if len(self.vaults) > 1 else self.vaults[0])

    async def _drop_key(self, request: web.Request) -> web.Response:
        for each in self.vaults[0]["keys"]:
            if each["id"] == request.match_info["id"]:
                if each["sealed"]:
                    return _error(409, "key_in_use", f"The key {each['id']} has still sealed {each['sealed']} values.", "Rotate first.")
                each.update(state="dropped", since=None)
                return _json(self.vaults[0])
        return _error(404, "not_found", "This database needs no such key.", "See `oo vault status`.")

    async def _wait(self, request: web.Request) -> None:
        """Wait as the question says, or until something happens."""
        self._woken.clear()
        try:
            await asyncio.wait_for(self._woken.wait(), float(request.query.get("wait", "0")))
        except TimeoutError:
            return

    async def _openapi(self, request: web.Request) -> web.Response:
        assert request.query["listener"] == "private"
        return web.Response(text=OPENAPI.read_text("utf-8"), content_type="application/yaml")


@contextmanager
def running(daemon: FakeDaemon) -> Iterator[FakeDaemon]:
    """Serve it from a thread of its own, so that commands with loops of their own can be tried on it."""
    started = threading.Event()
    stopping: list[asyncio.Event] = []

    async def serve() -> None:
        daemon._loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        stopping.append(stop)
        runner = web.AppRunner(daemon.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, str(daemon.socket)).start()
        started.set()
        await stop.wait()
        daemon._woken.set()
        await runner.cleanup()
        daemon._loop = None

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        if not started.wait(10):
            raise AssertionError("the fake daemon did not start")
        yield daemon
    finally:
        if daemon._loop is not None and stopping:
            daemon._loop.call_soon_threadsafe(stopping[0].set)
        thread.join(10)


def plugin(**changes: Any) -> Json:
    """Give a plugin as the API shows it."""
    scope = {"id": "data:read", "sentence": "See your tasks.", "access": "read", "required": True}
    stored = {"name": "task", "what": "your tasks", "purpose": "show them elsewhere", "fields": ["title"]}
    whole = {"id": "todoist", "title": "Todoist", "name": changes.get("id", "todoist"), "distribution": "oo-integrations"}
    whole |= {"version": "0.1.0", "state": "loaded", "strikes": 0}
    rest = {"reason": "", "scopes": [scope], "stores": [stored], "hosts": ["api.todoist.com"], "sinks": [], "actions": []}
    return {**whole, **rest, **changes}


def sink(**changes: Any) -> Json:
    """Give a sink as the API shows it."""
    whole = {"name": "billing", "kind": "http", "state": "running", "reason": "", "position": "1-40", "lag": 2}
    return {**whole, "unread_since": None, "dead_letters": 0, **changes}


def consumer(**changes: Any) -> Json:
    """Give a consumer as the API shows it."""
    return {
        "name": "backend", "state": "free", "position": "1-0", "lag": 0, "unread_since": None, "present_until": None,
        "user": None, "provider": None, "type": None, "tries": 0, "most_tries": 10, "reason": "", "dead_letters": 0, **changes,
    }  # fmt: skip


def token(**changes: Any) -> Json:
    """Give a token as the API shows it."""
    return {"name": "backend", "scopes": ["read"], "created_at": NOW, "expires_at": None, "last_used_at": None, **changes}


def vault(done: int = 3, total: int = 5, *, running: bool = False, **changes: Any) -> Json:
    """Give a vault with two keys, the newer of which has sealed `done` values of all."""
    newest = {"id": "9e1c77aa", "state": "seals", "sealed": done, "since": NOW}
    older = {"id": "0b2d4f66", "state": "opens", "sealed": total - done, "since": "2026-11-01T08:00:00Z"}
    rotation = {
        "running": running,
        "since": NOW if running else None,
        "done": done,
        "total": total,
        "rate": 9000.5 if running else 0,
        "refused": 0,
    }
    return {"source": "/var/lib/oo-integrations/root.key", "keys": [newest, older], "rotation": {**rotation, **changes}}


def registration(**changes: Any) -> Json:
    """Give a registration as the API shows it."""
    name = changes.get("id", "todoist")
    redirect = f"http://127.0.0.1:8710/oauth/{name}/callback"
    return {
        "id": name, "provider": "todoist", "client_id": "a1b2c3", "redirect_uri": redirect, "secrets": 1,
        "webhook_url": f"http://127.0.0.1:8710/webhooks/{name}-token", "webhook_secrets": 0, "webhook_reason": "",
        "created_at": NOW, **changes,
    }  # fmt: skip


def connection(**changes: Any) -> Json:
    """Give an active connection that was synced once."""
    return {
        "id": "c-7f3a", "user": "ada", "provider": "todoist", "account": "default", "label": "ada@example.com",
        "state": "active", "reason": "", "scopes": ["data:read"], "meta": {"cursor": {"sync_token": "abc"}},
        "timetable": None, "next_sync_at": SOON,
        "last_sync": {"started_at": NOW, "finished_at": "2026-11-22T09:30:01.5Z", "outcome": "done", "detail": "", "events": 1234},
        "revocation": None,
        "created_at": "2026-11-01T08:00:00Z",
        **changes,
    }  # fmt: skip


def details(**changes: Any) -> Json:
    """Give what there is to know of a connection."""
    scopes = [
        {"id": "data:read", "sentence": "See your tasks.", "access": "read", "required": True, "granted": True},
        {"id": "data:read_write", "sentence": "Change your tasks.", "access": "write", "required": False, "granted": False},
    ]
    budget = {"of": "user", "calls": 1000, "seconds": 900, "left": 241, "at_once": 250, "closed_until": None}
    pushed = {"topic": "items", "state": "standing", "renew_at": SOON, "expires_at": SOON}
    whole = {"cursor_at": NOW, "tries": 0, "scopes": scopes, "budgets": [budget], "subscriptions": [pushed], "runs": []}
    return {**whole, **changes}


def revocation(revoked: str = "fully", **changes: Any) -> Json:
    """Give what became of a grant."""
    at = None if revoked == "pending" else "2026-11-22T09:30:02Z"
    return {"revoked": revoked, "remains": "", "manual_url": "", "reason": "", "at": at, **changes}


def action(state: str = "done", **changes: Any) -> Json:
    """Give an action as the API shows it."""
    result = {"subject": "6X7rM8997g3RQmvh", "detail": {}} if state == "done" else None
    ended = None if state == "queued" else "2026-11-22T09:30:01Z"
    return {
        "id": "a-1", "key": "k-1", "name": "complete_task", "connection": "c-7f3a", "state": state, "result": result, "reason": "",
        "tries": 1, "created_at": NOW, "finished_at": ended, **changes,
    }  # fmt: skip


def action_kind(**changes: Any) -> Json:
    """Give a kind of action as the API shows it."""
    fields = {"id": {"type": "string"}, "note": {"type": "string", "default": ""}}
    arguments = {"$ref": "#/$defs/Task", "$defs": {"Task": {"type": "object", "properties": fields, "required": ["id"]}}}
    return {"name": "complete_task", "sentence": "Complete a task.", "scope": "data:read_write", "arguments": arguments, **changes}


def delivery(**changes: Any) -> Json:
    """Give a delivery that has become a sync."""
    return {
        "id": "17", "source": "todoist", "provider": "todoist", "delivery_id": "d-1", "weak": False, "state": "done", "reason": "",
        "tries": 1, "received_at": NOW, "next_try_at": None, "done_at": "2026-11-22T09:30:01Z", "age": 42.5, **changes,
    }  # fmt: skip


def source(**changes: Any) -> Json:
    """Give an address as the API shows it."""
    return {
        "id": "hooks", "provider": "webhook", "connection": "c-9", "scheme": "github", "verified": True, "state": "open", "reason": "",
        "url": "http://127.0.0.1:9/webhooks/token", "secrets": [{"role": "current", "until": None}], "created_at": NOW, **changes,
    }  # fmt: skip


def sync(outcome: str = "done", **changes: Any) -> Json:
    """Give the answer to a sync."""
    ended = None if outcome == "running" else "2026-11-22T09:30:01Z"
    return {"outcome": outcome, "detail": "", "events": 12, "started_at": NOW, "finished_at": ended, **changes}


def upload(**changes: Any) -> Json:
    """Give an upload that is awaited."""
    return {
        "id": "u-1", "connection": "c-7f3a", "user": "ada", "provider": "apple_health", "account": "default", "state": "awaited",
        "reason": "", "name": "", "size": None, "received": 0, "done": 0, "records": 0, "events": 0, "kinds": {}, "created_at": NOW,
        "began_at": None, "finished_at": None, **changes,
    }  # fmt: skip


def erasure(id_: str, **changes: Any) -> Json:
    """Give an erasure that is done."""
    part = {
        "connection": "c-7f3a", "provider": "todoist", "state": "done", "revoked": "partly", "reason": "", "tried_at": NOW,
        "remains": "remove oO at Todoist", "manual_url": "https://app.todoist.com/",
    }  # fmt: skip
    return {
        "id": id_, "kind": "user", "cause": "asked", "state": "done", "waits_for": "", "connections": [part], "erased": {"outbox": 7},
        "physical": "done", "consumers": {"reader": NOW, "slow": None}, "created_at": NOW, "erased_at": NOW, "finished_at": NOW, **changes,
    }  # fmt: skip


def reached(status: str, **changes: Any) -> Json:
    """Give how far a person has come."""
    return {"id": "s-1", "status": status, "label": "", "reason": "", "connection": "c-7f3a" if status == "connected" else None, **changes}


def event(number: int, **changes: Any) -> Json:
    """Give the event at position 1-{number}: a task that was written down."""
    return {
        "position": f"1-{number}", "id": f"{number:032x}", "connection": "c-7f3a", "user": "ada", "provider": "todoist",
        "account": "default", "type": "todoist.task", "change": "upserted", "subject": f"6X7rM8997g3RQm{number:02}",
        "revision": 1, "version": "", "order": None, "occurred_at": NOW, "observed_at": SOON,
        "payload": {"@type": "type.googleapis.com/oo.vocabulary.v1.Task", "title": "Buy milk"},
        **changes,
    }  # fmt: skip


def _no_consumer() -> web.Response:
    return _error(404, "unknown_consumer", "There is no such consumer.", "Make it with `oo consumers add`.")


def _no_source() -> web.Response:
    return _error(404, "unknown_source", "There is no such source.", "See `oo source list`.")


def _matches(row: Json, request: web.Request, *names: str) -> bool:
    return all(name not in request.query or row[name] == request.query[name] for name in names)


def _json(body: Json, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


def _error(status: int, code: str, message: str, remedy: str) -> web.Response:
    return _json({"error": {"code": code, "message": message, "remedy": remedy}}, status=status)
