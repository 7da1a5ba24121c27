"""Traces: what belongs together reaches a collector, from the webhook to the event, and nothing of a person goes along."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from journeys.house import House, served
from journeys.test_sources import github
from journeys.test_sources import post as post_to_source
from journeys.test_webhooks import address, connected, deliveries, next_task, post, push, signed
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from oo_config import ConfigError
from oo_daemon.ops.traces import NOTES, SPANS
from oo_todoist.sandbox import TodoistSandbox
from oo_vault import create_key_file

USER = "canary-user-4711"
TITLE = "canary title of ada"
#: What a caller and a stranger send along, each a trace of their own.
CALLER, STRANGER = "ca11" * 8, "bad0" * 8


@dataclass(frozen=True)
class Seen:
    """One span as it arrived."""

    name: str
    trace: str
    id: str
    parent: str
    notes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """Takes what OTLP over HTTP brings."""

    address: str = ""
    bodies: list[bytes] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        self.bodies.append(await request.read())
        return web.Response(body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf")

    def spans(self) -> list[Seen]:
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    notes = {note.key: getattr(note.value, note.value.WhichOneof("value") or "") for note in span.attributes}
                    assert not span.events
                    assert not span.status.message
                    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                    found.append(Seen(span.name, *ids, notes, span.status.code == span.status.STATUS_CODE_ERROR))
        return found

    def told_of_itself(self) -> set[str]:
        bodies = map(ExportTraceServiceRequest.FromString, self.bodies)
        return {note.key for body in bodies for resource in body.resource_spans for note in resource.resource.attributes}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """One that works."""
    collector, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.address = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    try:
        yield collector
    finally:
        await runner.cleanup()


@pytest.fixture
async def traced(tmp_path: Path, collector: Collector) -> AsyncIterator[House]:
    """A house that sends its traces there."""
    create_key_file(tmp_path / "root.key")
    sandbox = TodoistSandbox()
    async with served(sandbox) as where:
        house = House(tmp_path, sandbox, where, settings={"sync": {"interval": 3600, "first_fetch_days": 90}})
        house.settings |= {"traces": {"endpoint": collector.address}, "sinks.file": {"path": str(tmp_path / "lines")}}
        await house.start()
        try:
            yield house
        finally:
            await house.stop()


def above(spans: list[Seen], seen: Seen) -> list[str]:
    """The names from a span up to where its trace began."""
    by_id, names = {span.id: span for span in spans}, [seen.name]
    while seen.parent in by_id:
        seen = by_id[seen.parent]
        names.append(seen.name)
    return names


async def lived(house: House) -> list[str]:
    """A life with everything that is traced; gives what must not be found in it."""
    account = house.sandbox.world.account("ada")
    assert account is not None
    before = {"traceparent": f"00-{STRANGER}-{'5' * 16}-01"}
    await connected(house)
    async with house.client as client:
        made = await client.add_source("hooks", user=USER, scheme="github")
    body = json.dumps({"action": "opened", "title": TITLE}).encode()
    assert (await post_to_source(made.url, body, {**github(made.secret, body, "g-1", "issues"), **before}))[0] == 200
    assert (await post_to_source(made.url, body, github("guess", body, "g-2")))[0] == 404
    after = (await house.events())[-1].position
    house.sandbox.misbehaviour.on("expire_tokens")
    house.change({"type": "item_add", "args": {"content": TITLE}})
    told = push(house)
    assert await post(await address(house), told, signed(house, told, "canary-delivery")) == 200
    await next_task(house, after)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(house.folder / "oo.sock"))) as http:
        ours = {"traceparent": f"00-{CALLER}-{'c' * 16}-01"}
        async with http.get(f"http://oo/v1/users/{USER}/nothing", headers=ours) as answer:
            assert answer.status == 404
        async with http.get(f"http://oo/v1/connections?user={USER}", headers=ours) as answer:
            assert answer.status == 200
        async with http.get("http://oo/v1/connections", headers={"traceparent": "canary-nonsense"}) as answer:
            assert answer.status == 200
        async with http.get("http://oo/readyz", headers=ours):
            pass
    tokens = [token.text for token in house.sandbox.world.grants.tokens.values()]
    secrets = [house.sandbox.client_secret, made.secret or "", made.url.rpartition("/")[2]]
    return ["canary", USER, "ada", TITLE, account.id, account.user["email"], *tokens, *secrets]


@pytest.mark.rows("H7", "C7", "F15")
async def test_what_belongs_together_is_one_trace(traced: House, collector: Collector) -> None:
    """A webhook and what became of it are one trace, through the inbox and the sync that it announced; nothing of a person is in it."""
    canaries = await lived(traced)
    lines = traced.folder / "lines"
    async with asyncio.timeout(10):
        while TITLE not in lines.read_text():
            await asyncio.sleep(0.01)
    await traced.stop()
    try:
        spans = collector.spans()
        paths = {" < ".join(above(spans, span)) for span in spans}
        assert {
            "accept < intake < webhook",  # events of its own
            "accept < page < sync < intake < webhook",  # a nudge
            "call < page < sync < intake < webhook",
            "accept < page < sync",  # by the schedule
            "refresh < page < sync < intake < webhook",
            "deliver",
            "api",
        } <= paths
        assert {path.split(" < ")[0] for path in paths} == SPANS.keys()
        # Tasks that began in the middle of a webhook are none of its trace: only what it brought, or announced, is.
        assert {path for path in paths if path.endswith("webhook")} == {
            path for path in paths if path.startswith("webhook") or "intake" in path
        }

        assert STRANGER not in {span.trace for span in spans}
        of_caller = [span for span in spans if span.trace == CALLER]
        assert [(span.name, span.parent, span.notes["http.route"]) for span in of_caller] == [("api", "c" * 16, "/v1/connections")]
        assert {span.notes["oo.outcome"] for span in spans if span.name == "webhook"} == {"stored", "refused"}

        assert {key for span in spans for key in span.notes} - {"error.type"} == set(NOTES.values())
        assert collector.told_of_itself() == {"service.name", "service.version", "service.instance.id"}
        for canary in canaries:
            for spelling in (canary, quote(canary), b64encode(canary.encode()).decode()):
                # Ids are in hexadecimal digits, of which "ada" may be three.
                found = re.compile(rb"(?<![0-9a-f])%b(?![0-9a-f])" % re.escape(spelling.encode()))
                assert not any(found.search(body) for body in collector.bodies), spelling
    finally:
        await traced.start()  # so that the fixture has something to stop


@pytest.mark.rows("H7")
async def test_a_trace_outlives_the_process(traced: House, collector: Collector) -> None:
    """A delivery that waits over a restart is worked on in the trace of the webhook that brought it."""
    async with traced.client as client:
        secrets = [traced.sandbox.client_secret]
        await client.register(provider="todoist", client_id=traced.sandbox.client_id, client_secrets=secrets)
    told = push(traced)
    assert await post(await address(traced), told, signed(traced, told, "early")) == 200
    async with asyncio.timeout(10):
        while not any(delivery.reason for delivery in await deliveries(traced)):  # nobody is connected yet
            await asyncio.sleep(0.01)
    await traced.stop()
    await traced.start()
    await connected(traced)
    async with asyncio.timeout(10):
        while await deliveries(traced, "received"):
            await asyncio.sleep(0.01)
    await traced.stop()
    spans = collector.spans()
    (webhook,) = (span for span in spans if span.name == "webhook")
    intakes = [span for span in spans if span.name == "intake"]
    assert {(span.trace, span.parent) for span in intakes} == {(webhook.trace, webhook.id)}
    assert [span.notes["oo.outcome"] for span in intakes][-1] == "done"
    await traced.start()


async def test_an_error_is_told_by_its_kind(traced: House, collector: Collector) -> None:
    """What a fault said may quote what was being worked on: only what it was is told."""
    connection = await connected(traced)
    traced.sandbox.misbehaviour.on("status_500")
    async with traced.client as client:
        assert (await client.sync(connection, wait=20)).outcome != "done"
    await traced.stop()
    try:
        failed = [span for span in collector.spans() if span.failed]
        assert {(span.name, span.notes["error.type"]) for span in failed} == {("page", "RetryLater")}
        assert 500 in {span.notes.get("http.response.status_code") for span in collector.spans() if span.name == "call"}
    finally:
        await traced.start()


async def test_a_collector_that_is_away_holds_nobody_up(traced: House) -> None:
    """The daemon works, and stops within seconds, where nobody takes its traces."""
    await traced.stop()
    traced.settings["traces"] = {"endpoint": "http://127.0.0.1:9/v1/traces"}
    await traced.start()
    await connected(traced)
    began = asyncio.get_running_loop().time()
    await traced.stop()
    assert asyncio.get_running_loop().time() - began < 6
    await traced.start()


async def test_a_part_of_the_traces_is_made(traced: House, collector: Collector) -> None:
    """With none in a hundred, only what a caller of the API keeps is made."""
    await traced.stop()
    collector.bodies.clear()
    traced.settings["traces"] = {"endpoint": collector.address, "percent": 0}
    await traced.start()
    await connected(traced)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(traced.folder / "oo.sock"))) as http:
        async with http.get("http://oo/v1/connections", headers={"traceparent": f"00-{CALLER}-{'c' * 16}-01"}):
            pass
        async with http.get("http://oo/v1/connections", headers={"traceparent": f"00-{STRANGER}-{'c' * 16}-00"}):
            pass
    await traced.stop()
    assert [(span.name, span.trace) for span in collector.spans()] == [("api", CALLER)]
    await traced.start()


async def test_what_is_not_installed_is_said(traced: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants traces without the extra reads what to install, and the daemon does not start."""
    await traced.stop()
    monkeypatch.delitem(sys.modules, "oo_daemon.ops.traces")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match="oo-integrations\\[traces\\]"):
        await traced.start()
    monkeypatch.undo()
    await traced.start()


def test_nothing_of_it_is_imported_unless_it_is_on(tmp_path: Path) -> None:
    """A daemon without traces has not even looked for the library."""
    create_key_file(tmp_path / "root.key")
    (tmp_path / "oo.toml").write_text(f"[places]\nstate = {str(tmp_path)!r}\n[public]\nport = 0\n")
    program = """
import asyncio, sys
from pathlib import Path
from oo_config import load
from oo_daemon.app import build

async def main():
    async with build(load(Path(sys.argv[1]), {})):
        print([name for name in sys.modules if name.startswith("opentelemetry")], file=sys.stderr)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "oo.toml"], capture_output=True, text=True, check=False, timeout=30)
    assert "[]\n" in done.stderr, done.stderr
