"""The door of webhooks, on real sockets and over a real file: what is taken, and how alike all refusals are."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import os
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon.ingress.hub import NOW, StoppedClock
from daemon.ingress.wire import PATIENCE, QUICK, Dial, Notebook, Open, Wire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oo_daemon.connections import verify
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.sources import Sources
from oo_daemon.host import HostChance
from oo_daemon.ingress import webhooks
from oo_daemon.ingress.answers import public_application
from oo_daemon.ingress.server import Listening
from oo_daemon.ingress.webhooks import Webhooks
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import wire as encoding
from oo_daemon.patience import Patience
from oo_daemon.ports import micros
from oo_daemon.registry import Registry
from oo_daemon.store import inbox
from oo_daemon.store.errors import CannotStore, Erased
from oo_daemon.store.inbox import Arrival, Claimed, Entry
from oo_daemon.store.storage import ThreadedStorage, open_database
from oo_sdk import Connector, Delivery, HmacScheme, News, OAuth2, Scheme, Stamp
from oo_vault import Keyring, Secret

SECRET = "canary-of-webhooks"
#: Hostile requests.
HOSTILE = int(os.environ.get("OO_TEST_HOSTILE", "200"))
LIMIT = 64 * 1024
TIME = micros(NOW)


class Acme(Connector):
    """Hears."""

    id = "acme"
    hosts = ("api.acme.example",)
    auth = OAuth2(authorize="https://acme.example/a", token="https://acme.example/t", revoke="https://acme.example/r")
    webhooks = HmacScheme(header="X-Sign", prefix="sha256=", id_header="X-Id", keep=("X-Kind", "X-Sign"))

    async def route(self, delivery: Delivery) -> Sequence[str]:
        raise AssertionError("the door asks no connector")

    async def read(self, delivery: Delivery) -> Sequence[News]:
        raise AssertionError("the door asks no connector")


@dataclass
class Door:
    """The door, and what came of it."""

    listening: Listening
    hooks: Webhooks
    sources: Sources
    registrations: Registrations
    storage: ThreadedStorage
    metrics: MemoryMetrics
    rung: list[int]
    path: str = field(default="")

    async def kept(self) -> list[Entry]:
        return await self.storage.read(inbox.listed, limit=1000)

    async def claimed(self) -> list[Claimed]:
        return await self.storage.write(inbox.claim, "me", TIME, TIME + 1, 1000)

    def counted(self, outcome: str, provider: str = "acme") -> float:
        return self.metrics.values().get(("webhooks_total", (("outcome", outcome), ("provider", provider))), 0)


@pytest.fixture
async def door(tmp_path: Path, stack: AsyncExitStack, open_door: Open, notebook: Notebook) -> AsyncIterator[Door]:
    storage = ThreadedStorage(open_database(tmp_path / "oo.sqlite3"), encoding.encode)
    keyring, registry, clock = Keyring([bytes(range(32))]), Registry(plugins=(), connectors={"acme": Acme()}), StoppedClock()
    registrations = Registrations(storage=storage, keyring=keyring, registry=registry, clock=clock, public_url="http://oo")
    sources = Sources(
        storage=storage,
        keyring=keyring,
        registry=registry,
        registrations=registrations,
        clock=clock,
        chance=HostChance(),
        public_url="http://oo",
    )
    await sources.keep(await registrations.add("acme", "client", []), [Secret(SECRET), Secret("older")])
    await sources.keep(await registrations.add("acme", "client", [], "silent"), [])
    metrics, rung = MemoryMetrics(), list[int]()
    hooks = Webhooks(
        keep=lambda arrival: storage.begin(inbox.put, arrival),
        sources=sources,
        clock=clock,
        chance=HostChance(),
        metrics=metrics,
        log=notebook,
        arrived=lambda: rung.append(1),
        short=lambda: False,
        limit=LIMIT,
        rate=1000,
    )
    app = public_application(log=notebook)
    app.add_routes(hooks.routes())
    listening = await open_door(app, limits=msgspec.structs.replace(QUICK, body=LIMIT), straight=hooks.straight())
    opened = Door(listening, hooks, sources, registrations, storage, metrics, rung, _path(sources, "acme"))
    yield opened
    await listening.close()
    await storage.close()


def _path(sources: Sources, name: str) -> str:
    source = sources.of(name)
    assert source is not None
    return source.url.removeprefix("http://oo")


def sign(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Sign": "sha256=" + hmac.digest(secret.encode(), body, hashlib.sha256).hex()}


def request(path: str, body: bytes, headers: dict[str, str], method: str = "POST") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: oo",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def chunked(path: str, chunks: Sequence[bytes], headers: dict[str, str]) -> bytes:
    head = request(path, b"", headers).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


Ask = Callable[..., Awaitable[tuple[int, dict[str, str], bytes]]]


@pytest.fixture
def ask(door: Door, dial: Dial) -> Ask:
    """Posts one delivery on a connection of its own."""

    async def asked(body: bytes = b"{}", headers: dict[str, str] | None = None, *, path: str | None = None, method: str = "POST") -> Any:
        wire = await dial(door.listening)
        await wire.send(
            request(door.path if path is None else path, body, {**sign(body), "X-Id": "d1"} if headers is None else headers, method)
        )
        return await wire.answer()

    return asked


# --- taken -----------------------------------------------------------------------------------------------------------


async def test_a_signed_delivery_is_kept_and_answered(door: Door, ask: Ask, notebook: Notebook) -> None:
    """200 with an empty body, once it is in the inbox as it came, with the headers that the scheme names and no other."""
    body = bytes(range(256))
    headers = {**sign(body), "X-ID": "d1", "x-kind": "ä", "Content-Type": "image/png", "Cookie": "c", "User-Agent": "u"}
    status, answered, text = await ask(body, headers)
    assert (status, text, answered["content-length"]) == (200, b"", "0")
    (kept,) = await door.claimed()
    assert (kept.source, kept.delivery_id, kept.body, kept.received_at) == ("acme", "d1", body, TIME)
    assert kept.headers == {"x-id": "d1", "x-kind": "ä", "content-type": "image/png"}
    assert door.rung == [1]
    assert door.counted("stored") == 1
    said = str(notebook.lines)
    assert "/webhooks/{token}" in said
    for secret in (door.path, SECRET, headers["X-Sign"], "d1"):
        assert secret not in said


async def test_the_straight_way_looks_like_the_other(door: Door, dial: Dial, notebook: Notebook) -> None:
    """What is ready to be sent is what would be put together for it: only a body that is waited for, or an end, takes the longer way."""
    wire = await dial(door.listening)
    body, headers = b"{}", sign(b"{}")
    answers = []
    for number, more in enumerate([{}, {"Expect": "100-continue"}, {"X-Other": "1"}, {"Connection": "close"}]):
        await wire.send(request(door.path, body, {**headers, "X-Id": f"d{number}", **more}))
        if "Expect" in more:
            assert (await wire.answer())[0] == 100
        answers.append(await wire.answer())
    assert await wire.rest() == b"", "the last one asked for that"
    assert answers[3][1].pop("connection") == "close"
    for _, told, _ in answers:
        told.pop("date")
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert answers[0][1]["server"] == "oO"
    assert {line["path"] for line in notebook.events("request")} == {"/webhooks/{token}"}
    await (old := await dial(door.listening)).send(request(door.path, body, {**headers, "X-Id": "d9"}).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (await old.answer())[0] == 200
    assert await old.rest() == b""
    assert len(await door.kept()) == 5


async def test_pipelined_deliveries_are_answered_in_order(door: Door, dial: Dial) -> None:
    """Several at once on one connection: each is kept and answered, the refused one in its place."""
    wire = await dial(door.listening)
    sent = [request(door.path, b"{}", {**sign(b"{}"), "X-Id": f"d{n}"}) for n in range(4)]
    sent[2] = request(door.path, b"{}", {**sign(b"[]"), "X-Id": "d2"})
    await wire.send(b"".join(sent))
    assert [(await wire.answer())[0] for _ in sent] == [200, 200, 404, 200]


@pytest.mark.parametrize("body", [b"", b"not JSON", b"\xff\xfe\x00", b"[" * 5000])
async def test_nothing_is_parsed(door: Door, ask: Ask, body: bytes) -> None:
    """What is signed is taken, whatever it is and calls itself."""
    assert (await ask(body, {**sign(body), "Content-Type": "text/html; charset=nonsense"}))[0] == 200
    assert [each.body for each in await door.claimed()] == [body]


async def test_an_older_secret_is_taken_too(door: Door, ask: Ask) -> None:
    """While secrets are changed, deliveries signed with either are taken."""
    assert (await ask(b"{}", {**sign(b"{}", "older"), "X-Id": "d2"}))[0] == 200
    assert (await ask())[0] == 200
    assert len(await door.kept()) == 2


@pytest.mark.rows("A4")
async def test_a_redelivery_is_answered_alike(door: Door, ask: Ask) -> None:
    """Twenty at once of one id are one delivery, and each of them hears 200."""
    for answer in await asyncio.gather(*(ask() for _ in range(20))):
        assert (answer[0], answer[2]) == (200, b"")
    assert len(await door.kept()) == 1
    assert door.rung == [1]
    assert (door.counted("stored"), door.counted("repeated")) == (1, 19)


async def test_a_body_in_pieces(door: Door, dial: Dial) -> None:
    """A chunked body is put together before it is verified."""
    wire = await dial(door.listening)
    await wire.send(chunked(door.path, [b"ab", b"c" * 1000, b"d"], {**sign(b"ab" + b"c" * 1000 + b"d"), "X-Id": "d1"}))
    assert (await wire.answer())[0] == 200
    assert (await door.claimed())[0].body == b"ab" + b"c" * 1000 + b"d"


@pytest.mark.rows("A6")
@pytest.mark.parametrize("ids", [{}, {"X-Id": ""}, {"X-Id": "i" * 201}, {"X-Id": "ä"}, {"X-Id": "\udcff"}, {"X-Id": "a\tb"}])
async def test_without_an_id_a_hash_stands_in(door: Door, ask: Ask, ids: dict[str, str]) -> None:
    """A delivery without a usable id is known by what is kept of it, and is marked so; another body or another kind is another one."""
    for body, kind in ((b"a", "1"), (b"a", "1"), (b"b", "1"), (b"a", "2")):
        assert (await ask(body, {**sign(body), **ids, "X-Kind": kind}))[0] == 200
    kept = await door.kept()
    assert len(kept) == len({each.delivery_id for each in kept}) == 3
    assert all(each.weak and len(each.delivery_id) == 32 for each in kept)


# --- compressed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("DEFLATE", zlib.compress)])
@pytest.mark.rows("A7")
async def test_a_compressed_body_is_unpacked(door: Door, ask: Ask, coding: str, pack: Callable[[bytes], bytes]) -> None:
    """Whether its sender signed it before or after; what is kept is what the connector can read."""
    body = b'{"text": "' + b"x" * 30_000 + b'"}'
    packed = pack(body)  # once: gzip writes the time into it
    for name, signed in (("before", body), ("after", packed)):
        assert (await ask(packed, {**sign(signed), "X-Id": name, "Content-Encoding": coding}))[0] == 200
    assert [each.body for each in await door.claimed()] == [body, body]


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"no gzip at all"),
        ("gzip", gzip.compress(b"{}" * 500, mtime=0)[:-1]),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"more"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-8] + bytes(8)),
        ("gzip", b""),
        ("deflate", zlib.compress(b"{}")[:-2]),
    ],
)
@pytest.mark.rows("A15")
async def test_what_cannot_be_unpacked_is_refused(door: Door, ask: Ask, coding: str, body: bytes) -> None:
    """Also where it is signed: nobody could read it."""
    assert (await ask(body, {**sign(body), "X-Id": "d1", "Content-Encoding": coding}))[0] == 404
    assert await door.kept() == []


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "\udcff"])
@pytest.mark.rows("A13", "A15")
async def test_what_is_packed_otherwise_is_not_read(door: Door, dial: Dial, coding: str) -> None:
    """415 names the ways that are taken, at every address alike and before the body comes: no bomb in it goes off."""
    answers = set()
    for path in (door.path, "/webhooks/nobody"):
        wire = await dial(door.listening)
        await wire.send(
            request(path, b"", {"X-Id": "d1", "Content-Encoding": coding}).replace(b"Content-Length: 0", b"Content-Length: 50000")
        )
        status, headers, text = await wire.answer()
        assert (status, headers["accept-encoding"], headers["connection"]) == (415, "gzip, deflate", "close")
        answers.add(text)
    assert len(answers) == 1
    assert await door.kept() == []


# --- too large -------------------------------------------------------------------------------------------------------


@pytest.mark.rows("A15")
async def test_the_limit_is_exact(door: Door, ask: Ask) -> None:
    """A body of the limit is taken, one byte more is not; so also unpacked."""
    fits, over = bytes(LIMIT), bytes(LIMIT + 1)
    for name, body in (("plain", fits), ("packed", gzip.compress(fits))):
        coding = {"Content-Encoding": "gzip"} if name == "packed" else {}
        assert (await ask(body, {**sign(body), "X-Id": name, **coding}))[0] == 200
    assert (await ask(over, sign(over)))[0] == 413
    assert (await ask(gzip.compress(over), {**sign(gzip.compress(over)), "Content-Encoding": "gzip"}))[0] == 413
    assert len(await door.kept()) == 2


@pytest.mark.rows("A15")
async def test_an_announced_flood_is_not_waited_for(door: Door, dial: Dial) -> None:
    """A body that says it is too large is refused before it comes, at every address alike."""
    for path in (door.path, "/webhooks/nobody"):
        wire = await dial(door.listening)
        await wire.send(request(path, b"", {}).replace(b"Content-Length: 0", b"Content-Length: 1000000000"))
        assert (await wire.answer())[0] == 413


@pytest.mark.rows("A15")
async def test_an_unannounced_flood_is_cut_off(door: Door, dial: Dial) -> None:
    """A chunked body is refused as soon as it is too large, and nothing is kept."""
    wire = await dial(door.listening)
    await wire.send(chunked(door.path, [bytes(8192)] * 9, {"X-Id": "d1"}).removesuffix(b"0\r\n\r\n"))
    status, headers, _ = await wire.answer()
    assert (status, headers["connection"]) == (413, "close")
    assert await door.kept() == []


@pytest.mark.rows("A15")
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
async def test_a_bomb_is_not_unpacked(door: Door, dial: Dial, pack: Callable[[bytes], bytes]) -> None:
    """What would become 50 MiB is given up at the limit: memory rises by little more than that."""
    bomb = pack(bytes(50 * 1024 * 1024))
    assert len(bomb) < LIMIT
    wire = await dial(door.listening)
    tracemalloc.start()
    try:
        await wire.send(request(door.path, bomb, {**sign(bomb), "Content-Encoding": "gzip"}))
        assert (await wire.answer())[0] == 413
        assert tracemalloc.get_traced_memory()[1] < LIMIT + 2 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert await door.kept() == []


# --- refused ---------------------------------------------------------------------------------------------------------


async def refusals(door: Door) -> dict[str, bytes]:
    """Requests that are refused, each for another cause."""
    good = {**sign(b"{}"), "X-Id": "d1"}
    silent = _path(door.sources, "silent")
    return {
        "forged": request(door.path, b"{}", {**good, "X-Sign": "sha256=" + "0" * 64}),
        "unsigned": request(door.path, b"{}", {"X-Id": "d1"}),
        "signed by another": request(door.path, b"{}", {**sign(b"{}", "guess"), "X-Id": "d1"}),
        "signed with nothing": request(silent, b"{}", {**sign(b"{}", ""), "X-Id": "d1"}),
        "another body": request(door.path, b"{ }", good),
        "no scheme": request(door.path, b"{}", {**good, "X-Sign": good["X-Sign"].removeprefix("sha256=")}),
        "unknown address": request("/webhooks/" + "A" * 43, b"{}", good),
        "no address": request("/webhooks/", b"{}", good),
        "an odd address": request("/webhooks/%ff%00", b"{}", good),
        "below an address": request(door.path + "/more", b"{}", good),
        "without a secret": request(silent, b"{}", good),
        "unpacked": request(door.path, b"{}", {**good, "Content-Encoding": "gzip"}),
        **{method: request(door.path, b"{}", good, method) for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH")},
    }


async def answer_of(wire: Wire, sent: bytes) -> bytes:
    """The bytes of an answer, without the time."""
    await wire.send(sent)
    async with asyncio.timeout(PATIENCE):
        head = await wire.reader.readuntil(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:")]
        length = next(int(line.partition(b":")[2]) for line in lines if line.lower().startswith(b"content-length:"))
        return b"\r\n".join(lines) + await wire.reader.readexactly(length)


@pytest.mark.rows("A7", "A9", "A13", "A14")
async def test_all_refusals_are_the_same_bytes(door: Door, dial: Dial) -> None:
    """Whoever tries addresses, methods and signatures learns nothing: every answer is the same, and the connection stays open."""
    wire = await dial(door.listening)
    answers = {name: await answer_of(wire, sent) for name, sent in (await refusals(door)).items()}
    await door.sources.enable("acme", False)
    answers["switched off"] = await answer_of(wire, request(door.path, b"{}", {**sign(b"{}"), "X-Id": "d1"}))
    assert answers["forged"].startswith(b"HTTP/1.1 404 ")
    assert {name for name, answer in answers.items() if answer != answers["forged"]} == set()
    assert await door.kept() == []
    assert door.rung == []
    assert sum(door.counted("refused", provider) for provider in ("acme", "")) == len(answers)


@pytest.mark.rows("A13")
async def test_all_refusals_take_the_same_way(door: Door, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is verified once, with a secret, whether or not there is a source; and nothing is read from the database for it."""
    seen: list[int] = []
    real = verify.judge

    def judge(scheme: Scheme, held: Sequence[bytes], *rest: Any) -> verify.Verdict:
        seen.append(len(held))
        return real(scheme, held, *rest)

    monkeypatch.setattr(verify, "judge", judge)
    monkeypatch.setattr(door.hooks, "keep", None)
    wire = await dial(door.listening)
    for name, sent in (await refusals(door)).items():
        seen.clear()
        await answer_of(wire, sent)
        assert len(seen) == 1, name
        assert seen[0] >= 1, name


header_values = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=30) | st.binary(max_size=30).map(
    lambda data: data.translate(None, b"\r\n\0").decode("utf-8", "surrogateescape")
)


@pytest.mark.rows("A8")
@pytest.mark.timeout(3600)
@settings(max_examples=HOSTILE, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=200) | st.binary(max_size=200).map(gzip.compress),
    headers=st.dictionaries(
        st.sampled_from(["X-Sign", "X-Id", "X-Kind", "Content-Type", "Content-Encoding", "Expect", "Range"]),
        header_values | st.sampled_from(["gzip", "deflate", "identity", "sha256=", "100-continue"]),
    ),
    signed=st.booleans(),
    token=st.sampled_from(["", "x", "%ff", "..%2f", "%00", "?a=b"]) | st.none(),
)
async def test_any_bytes_are_taken_or_refused(door: Door, body: bytes, headers: dict[str, str], signed: bool, token: str | None) -> None:
    """No body, header or address leads to anything but a 200 or a refusal that is the sender's own fault."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.listening.port)
    try:
        path = door.path if token is None else f"/webhooks/{token}"
        writer.write(request(path, body, {**headers, **(sign(body) if signed else {}), "Connection": "close"}))
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
    finally:
        writer.close()
    final = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    status = int(final.split(b" ", 2)[1])
    assert status in {200, 400, 404, 415}, (status, answer)
    if not signed:
        assert status != 200


# --- our own faults --------------------------------------------------------------------------------------------------


@dataclass
class Refusing:
    """A storage that cannot store."""

    fault: Exception | None = None
    asked: int = 0

    def __call__(self, arrival: Arrival) -> asyncio.Future[bool]:
        self.asked += 1
        kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.fault is not None:
            kept.set_exception(self.fault)
        return kept


@pytest.mark.rows("A12", "A13")
async def test_what_was_erased_meanwhile_is_refused(door: Door, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that another daemon has just erased is like one that there never was, to the last byte; its sender need not come again."""
    never = await ask(path="/webhooks/nobody")
    monkeypatch.setattr(door.hooks, "keep", Refusing(Erased("what this belongs to was erased")))
    assert await ask() == never
    assert never[0] == 404


@pytest.mark.rows("A12", "A17", "A18")
async def test_what_cannot_be_stored_is_asked_for_again(door: Door, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a database that does not answer, a fault of ours and too much at once: 503 with a time, and nothing is promised."""
    monkeypatch.setattr(door.hooks, "patience", Patience(0.05))
    for fault in (CannotStore("the disk is full"), None, ZeroDivisionError("canary")):
        monkeypatch.setattr(door.hooks, "keep", Refusing(fault))
        status, headers, text = await ask()
        assert status == 503
        assert int(headers["retry-after"]) > 0
        assert b"canary" not in text
    monkeypatch.setattr(door.hooks, "short", lambda: True)
    assert (await ask())[0] == 503
    monkeypatch.setattr(door.hooks, "short", lambda: False)
    overloaded = Refusing(CannotStore("never asked"))
    monkeypatch.setattr(door.hooks, "keep", overloaded)
    monkeypatch.setattr(webhooks, "WAITING", 0)
    assert (await ask())[0] == 503
    assert overloaded.asked == 0
    assert (door.counted("not_stored"), door.counted("short", ""), door.counted("overloaded", "")) == (2, 1, 1)
    assert door.rung == []
    assert await door.kept() == []


@pytest.mark.rows("A18")
async def test_overload_is_told_before_the_body_comes(door: Door, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are waited for at once, and not one more: the others hear 503 at once, each with another time to come again."""
    let, waiting = asyncio.Event(), asyncio.Event()
    asked: list[Arrival] = []

    async def full(arrival: Arrival) -> bool:
        asked.append(arrival)
        if len(asked) == 4:
            waiting.set()
        await let.wait()
        return await door.storage.write(inbox.put, arrival)

    monkeypatch.setattr(webhooks, "WAITING", 4)
    monkeypatch.setattr(door.hooks, "keep", lambda arrival: asyncio.ensure_future(full(arrival)))
    held = [await dial(door.listening) for _ in range(4)]
    for number, wire in enumerate(held):
        await wire.send(request(door.path, b"{}", {**sign(b"{}"), "X-Id": f"d{number}"}))
    async with asyncio.timeout(PATIENCE):
        await waiting.wait()
    times = set()
    for _ in range(20):
        wire = await dial(door.listening)
        # Announced, and never sent: it is not waited for.
        await wire.send(request(door.path, b"", {}).replace(b"Content-Length: 0", b"Content-Length: 60000"))
        began = asyncio.get_running_loop().time()
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (503, "close")
        assert asyncio.get_running_loop().time() - began < 0.5
        times.add(int(headers["retry-after"]))
    assert len(times) > 3
    assert min(times) >= 5
    assert max(times) <= 60
    let.set()
    assert [(await wire.answer())[0] for wire in held] == [200] * 4
    assert len(await door.kept()) == 4


@pytest.mark.rows("A18")
async def test_bodies_have_so_much_room(door: Door, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many half-sent bodies do not fill the memory: above the bound 503, and what they held is given back."""
    monkeypatch.setattr(webhooks, "HELD", 100_000)
    wires = [await dial(door.listening) for _ in range(3)]
    for wire in wires[:2]:
        await wire.send(request(door.path, b"", {}).replace(b"Content-Length: 0", b"Content-Length: 60000") + bytes(49_000))
    async with asyncio.timeout(PATIENCE):
        while door.hooks._held < 98_000:
            await asyncio.sleep(0)
    await wires[2].send(request(door.path, bytes(49_000), {**sign(bytes(49_000)), "X-Id": "d1"}))
    assert (await wires[2].answer())[0] == 503
    for wire in wires:
        wire.writer.close()
    async with asyncio.timeout(PATIENCE):
        while door.hooks._held:
            await asyncio.sleep(0)


@pytest.mark.rows("A18")
async def test_one_source_does_not_use_up_the_others_share(door: Door, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a source sends above its rate gets 429 with a time; forged deliveries do not count, and the other source goes on."""
    await door.sources.keep(await door.registrations.add("acme", "client", [], "other"), [Secret(SECRET)])
    other, now = _path(door.sources, "other"), [0.0]
    monkeypatch.setattr(door.hooks, "rate", 5)
    monkeypatch.setattr(StoppedClock, "monotonic", lambda _: now[0])

    async def sent(number: int, path: str | None = None, secret: str = SECRET) -> int:
        status, headers, _ = await ask(b"{}", {**sign(b"{}", secret), "X-Id": f"d{number}"}, path=path)
        assert status != 429 or 5 <= int(headers["retry-after"]) <= 60
        return int(status)

    assert [await sent(number, secret="guess") for number in range(30)] == [404] * 30
    assert [await sent(number) for number in range(12)] == [200] * 10 + [429] * 2
    assert [await sent(number, other) for number in range(10)] == [200] * 10
    now[0] = 1.0
    assert [await sent(number) for number in range(20, 26)] == [200] * 5 + [429]
    now[0] = 1000.0
    assert [await sent(number) for number in range(30, 41)] == [200] * 10 + [429], "what was not used is not saved up"
    assert door.counted("too_many") == 4


@pytest.mark.rows("A11")
async def test_a_wrong_clock_is_told(door: Door, ask: Ask, notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery that its sender signed an hour ago looks like any refusal from outside, and is a warning inside; once a minute."""
    scheme = replace(Acme.webhooks, signed="{timestamp}.{body}", stamp=Stamp(header="X-Time"))
    monkeypatch.setattr(Acme, "webhooks", scheme)
    await door.sources.load()
    forged = await ask(b"{}", {"X-Sign": "sha256=00", "X-Time": "1"})
    for away, status in ((0, 200), (3600, 404), (-3600, 404)):
        headers = verify.sign(scheme, Secret(SECRET), id_=f"d{away}", sent_at=TIME + away * 1_000_000, body=b"{}")
        assert headers is not None
        answer = await ask(b"{}", headers)
        assert answer[0] == status
        if status == 404:
            assert answer[2] == forged[2]
    assert [each["source"] for each in notebook.events("webhook_out_of_time")] == ["acme"]
    assert door.counted("out_of_time") == 2


@pytest.mark.rows("A12")
async def test_a_stopped_store_is_our_fault(door: Door, ask: Ask) -> None:
    """What arrives while the daemon stops is not lost: its sender hears 503, and sends it again."""
    door.storage._queue.close()
    status, headers, _ = await ask()
    assert (status, "retry-after" in headers) == (503, True)


async def test_room_is_given_back(door: Door, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """After faults the door takes as many at once as before."""
    monkeypatch.setattr(webhooks, "WAITING", 1)
    real = door.hooks.keep
    monkeypatch.setattr(door.hooks, "keep", Refusing(CannotStore("full")))
    for _ in range(3):
        assert (await ask())[0] == 503
    monkeypatch.setattr(door.hooks, "keep", real)
    assert (await ask())[0] == 200


@pytest.mark.rows("A1")
async def test_the_answer_comes_after_the_commit(door: Door, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the commit is not through, nothing is answered; a sender that gives up and comes again finds its delivery kept."""
    arrived, let = asyncio.Event(), asyncio.Event()

    async def slow(arrival: Arrival) -> bool:
        new = await door.storage.write(inbox.put, arrival)
        arrived.set()
        await let.wait()
        return new

    monkeypatch.setattr(door.hooks, "keep", lambda arrival: asyncio.ensure_future(slow(arrival)))
    first = asyncio.ensure_future(ask())
    async with asyncio.timeout(PATIENCE):
        await arrived.wait()
    assert not first.done()
    assert len(await door.kept()) == 1
    again = asyncio.ensure_future(ask())
    let.set()
    assert [(await each)[0] for each in (first, again)] == [200, 200]
    assert len(await door.kept()) == 1


@pytest.mark.rows("A12")
def test_senders_are_never_sent_away() -> None:
    """Nothing in the public rooms answers 410, and webhooks are redirected nowhere: both make senders give up an address."""
    room = Path(webhooks.__file__).parent
    assert "410" not in "".join(each.read_text() for each in room.glob("*.py"))
    assert not any(word in (room / "webhooks.py").read_text() for word in ("HTTPFound", "HTTPSeeOther", "Location", "redirect"))


@pytest.mark.rows("A6")
async def test_what_may_repeat_is_kept_twice(door: Door, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that may say the same twice and mean two things is heard twice; with an id it is known again."""
    monkeypatch.setattr(Acme, "webhooks", replace(Acme.webhooks, repeats=True))
    await door.sources.load()
    moments = iter(range(TIME, TIME + 9))
    monkeypatch.setattr(StoppedClock, "now", lambda _: next(moments))
    for headers in ({}, {}, {"X-Id": "d1"}, {"X-Id": "d1"}):
        assert (await ask(b"pressed", {**sign(b"pressed"), **headers}))[0] == 200
    assert sorted(each.weak for each in await door.kept()) == [False, True, True]
