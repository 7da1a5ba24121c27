"""The console's door: who is let in, how a browser is known again, and what a page may do."""

from __future__ import annotations

import asyncio
import doctest
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest.mock import AsyncMock, Mock

import aiohttp
import pytest
from daemon.ingress.wire import Notebook, Open
from daemon.virtual import SeededChance, VirtualClock
from msgspec.structs import force_setattr
from tab import Tab

from oo_daemon.connections.budgets import Budgets
from oo_daemon.ingress import pages
from oo_daemon.ingress.answers import private_application
from oo_daemon.ingress.api import SOME
from oo_daemon.ingress.console import chart, house, inbox
from oo_daemon.ingress.console.door import COOKIE, LIFE
from oo_daemon.ingress.console.live import EVERY
from oo_daemon.ingress.console.rooms import Console
from oo_daemon.ingress.server import listen_unix
from oo_daemon.ingress.tokens import Scope, Tokens, guard
from oo_daemon.ops.health import Health
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import Plugin, Registry
from oo_daemon.store import connections, jobs, latency, outbox, overview, schedule, subscriptions
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.latency import Took
from oo_daemon.store.outbox import Filter
from oo_daemon.store.overview import HOUR, Hour
from oo_daemon.store.storage import InlineStorage, open_database
from oo_daemon.store.subscriptions import Subscriber, SubscriptionRow
from oo_daemon.strikes import Strikes
from oo_sdk import Connector, RateLimit
from oo_todoist import Todoist


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = open_database(tmp_path / "oo.db")
    yield opened
    opened.close()


class World:
    """A door on TCP with a console behind it, and browsers."""

    def __init__(self, database: SqliteDatabase, folder: Path) -> None:
        self.clock = VirtualClock()
        self.storage = InlineStorage(database, wire.encode)
        self.tokens = Tokens(storage=self.storage, clock=self.clock, chance=SeededChance())
        self.registry = Registry(plugins=())
        self.strikes = Strikes(folder, self.clock)
        self.url = ""
        self.disconnect = AsyncMock()
        self.erasures = AsyncMock()
        self.erasures.of_connection.return_value.id = "erasure-1"

    async def open(self, open_door: Open) -> None:
        app = private_application(log=Notebook())
        app.middlewares.append(guard(self.tokens))
        self.console().add_to(app, trusts=False)
        self.url = (await open_door(app)).address

    def console(self) -> Console:
        return Console(
            storage=self.storage,
            registry=self.registry,
            strikes=self.strikes,
            tokens=self.tokens,
            sources=Mock(),
            health=Health(looks={}),
            keys=Mock(),
            disconnect=self.disconnect,
            budgets=Budgets(storage=self.storage, clock=self.clock, metrics=MemoryMetrics()),
            erasures=self.erasures,
            wake=Mock(),
            arrived=Mock(),
            rehearse=AsyncMock(),
            as_json=wire.as_json,
            as_text=wire.as_text,
            clock=self.clock,
            chance=SeededChance(),
            log=Notebook(),
        )

    async def token(self, name: str, *scopes: Scope) -> str:
        return (await self.tokens.create(name, list(scopes), None)).token


class Operator(Tab):
    """A browser of an operator's."""

    async def sign_in(self, token: str) -> int:
        await self.get("/console/sign-in")
        return await self.ask("POST", "/console/sign-in", data=self.filled({"token": token}), allow_redirects=True)


@pytest.fixture
async def world(database: SqliteDatabase, open_door: Open, tmp_path: Path) -> World:
    world = World(database, tmp_path)
    await world.open(open_door)
    return world


@pytest.fixture
async def tab(world: World) -> AsyncIterator[Operator]:
    tab = Operator(world.url, COOKIE)
    yield tab
    await tab.session.close()


async def test_who_has_not_signed_in_is_led_to_the_sign_in(tab: Operator) -> None:
    """And no page of the console is shown before."""
    assert await tab.get("/console/") == 303
    assert tab.headers["Location"] == "/console/sign-in"
    assert await tab.get("/console/sign-in") == 200
    assert "oo token create" in tab.page


async def test_a_token_opens_the_console_and_a_wrong_one_says_so(world: World, tab: Operator) -> None:
    """A token of neither scope opens nothing; the page says what to do, and repeats nothing that was typed."""
    assert await tab.sign_in("oot_wrong") == 401
    assert "oot_wrong" not in tab.page
    assert "opens nothing here" in tab.page
    assert await tab.sign_in(await world.token("pusher", "connect")) == 401
    assert await tab.sign_in(await world.token("op", "admin")) == 200
    assert "<h1>Overview</h1>" in tab.page
    assert re.search(r"<bdi>op</bdi>, operator", tab.page)


async def test_a_viewer_is_told_what_he_is(world: World, tab: Operator) -> None:
    """The scope read makes a viewer."""
    assert await tab.sign_in(await world.token("reader", "read")) == 200
    assert "<bdi>reader</bdi>, viewer" in tab.page


async def test_the_cookie_is_kept_from_scripts_and_strangers(tab: Operator) -> None:
    """HttpOnly, SameSite=Strict, of the console only; pages may run our own script and nothing else, and stand in nobody's frame."""
    await tab.get("/console/sign-in")
    assert {"HttpOnly", "SameSite=Strict", "Path=/console"} <= {part.strip() for part in tab.headers["Set-Cookie"].split(";")}
    policy = tab.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_a_session_cannot_be_planted(world: World, tab: Operator) -> None:
    """Signing in gives another value of the cookie; the one from before opens nothing."""
    await tab.get("/console/sign-in")
    before = tab.cookie
    await tab.sign_in(await world.token("op", "admin"))
    assert tab.cookie != before
    tab.session.cookie_jar.clear()
    assert await tab.get("/console/", Cookie=f"{COOKIE}={before}") == 303


async def test_a_form_of_a_stranger_is_not_taken(world: World, tab: Operator) -> None:
    """Without the digest of this browser's cookie nothing is done, nor where the browser says that it came from elsewhere."""
    token = await world.token("op", "admin")
    await tab.get("/console/sign-in")
    assert await tab.send("/console/sign-in", {"token": token, "csrf": ""}) == 403
    await tab.get("/console/sign-in")
    assert await tab.send("/console/sign-in", {"token": token, "csrf": "0" * 64}) == 403
    await tab.get("/console/sign-in")
    assert await tab.send("/console/sign-in", {"token": token}, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert "Nothing was done" in tab.page
    assert await tab.get("/console/") == 303


async def test_a_revoked_token_ends_its_sessions_and_so_does_time(world: World, tab: Operator) -> None:
    """From the next page on."""
    await tab.sign_in(await world.token("op", "admin"))
    await world.tokens.revoke("op")
    assert await tab.get("/console/") == 303
    await tab.sign_in(await world.token("second", "admin"))
    assert await tab.get("/console/") == 200
    world.clock.shift(LIFE / SECOND)
    assert await tab.get("/console/") == 303


async def test_signing_out_ends_the_session(world: World, tab: Operator) -> None:
    """Also for who kept the cookie."""
    await tab.sign_in(await world.token("op", "admin"))
    kept = tab.cookie
    assert await tab.send("/console/sign-out") == 303
    assert await tab.get("/console/", Cookie=f"{COOKIE}={kept}") == 303


async def test_a_strangers_name_for_this_machine_is_refused(tab: Operator) -> None:
    """DNS rebinding: a page whose name was pointed here says its own name."""
    assert await tab.get("/console/sign-in", Host="evil.example") == 403
    assert "localhost" in tab.body.decode()


async def test_the_api_still_wants_its_token(world: World, tab: Operator) -> None:
    """A cookie of the console opens nothing else."""
    await tab.sign_in(await world.token("op", "admin"))
    assert await tab.get("/v1/status") == 401


async def test_what_is_not_there_is_said_in_a_page(world: World, tab: Operator) -> None:
    """Not in JSON."""
    await tab.sign_in(await world.token("op", "admin"))
    assert await tab.get("/console/nothing") == 404
    assert tab.page.startswith("<!doctype html>")


async def test_the_overview_is_told_again_when_it_changes(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """The stream sends the part that moves, and again once it is another."""
    await tab.sign_in(await world.token("op", "admin"))
    async with tab.session.get(world.url + "/console/live") as stream:
        assert stream.content_type == "text/event-stream"
        assert "There are none yet" in await told(world, stream)
        add_connection(database)
        part = await told(world, stream)
        assert "To be signed in again" in part
        assert all(line.startswith("data: ") for line in part.strip().splitlines())
        await world.tokens.revoke("op")
        assert await told(world, stream) == ""


async def told(world: World, stream: aiohttp.ClientResponse) -> str:
    """What is sent next, however much time passes until then; empty once it has ended."""
    while True:
        reading = asyncio.ensure_future(stream.content.readuntil(b"\n\n"))
        while not reading.done():
            await world.clock.advance(EVERY)
            await asyncio.wait({reading}, timeout=0.01)  # what is sent goes over a socket, of which the clock knows nothing
        if not reading.result().startswith(b":"):
            return reading.result().decode()


def add_connection(database: SqliteDatabase, user: str = "ada", state: str = "needs_sign_in") -> None:
    database.rows(
        'INSERT INTO connection (id, "user", provider, account, state, reason, provider_account, label, scopes, meta, created_at, '
        "changed_at, version) VALUES (?, ?, 'todoist', 'default', ?, 'The grant is gone.', '', '', '', '{}', 0, 0, 1)",
        (f"id-{user}", user, state),
    )


async def test_nothing_of_a_person_gets_out_of_its_place(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """A name that is markup stays a name."""
    add_connection(database, '"><script>alert(1)</script>')
    await tab.sign_in(await world.token("op", "admin"))
    assert "<script>alert" not in tab.page
    assert "&lt;script&gt;alert" in tab.page


def test_events_are_counted_by_hours(database: SqliteDatabase) -> None:
    """Each in the hour in which it was accepted, also where positions are missing."""
    now = 500 * HOUR + HOUR // 2
    times = [470 * HOUR, *[477 * HOUR] * 3, 480 * HOUR - 1, 480 * HOUR, 499 * HOUR, now - 1, now]
    for position, at in enumerate(times, start=1):
        database.rows("INSERT INTO outbox VALUES (?, 0, 1, 'ada', 'todoist.task', NULL, x'00', ?)", (position, at))
    found = {hour.begins_at // HOUR: hour.events for hour in overview.hours(database, len(times), now)}
    assert list(found) == list(range(477, 501))
    assert {hour: count for hour, count in found.items() if count} == {477: 3, 479: 1, 480: 1, 499: 1, 500: 2}
    database.rows("DELETE FROM outbox WHERE position = 6")
    assert sum(hour.events for hour in overview.hours(database, len(times), now)) == 8


def test_bars_stand_on_the_axis_and_none_is_taller_than_it() -> None:
    """The tallest of 24 hours is below the top line."""
    drawn = chart.bars([Hour(begins_at=number * HOUR, events=number * 7) for number in range(24)])
    assert drawn.worth_drawing
    assert {round(bar.y + bar.height, 1) for bar in drawn.bars} == {chart.BOTTOM}
    assert min(bar.y for bar in drawn.bars) >= chart.TOP
    assert [line.value for line in drawn.lines] == [0, 100, 200]
    assert not chart.bars([Hour(begins_at=0, events=9)]).worth_drawing


def test_the_band_stands_between_the_middle_and_the_slowest() -> None:
    """On an axis of tens: a line for each, the slower the higher; hours without deliveries are left out, and few hours are not drawn."""
    hours = [(number * HOUR, Took(deliveries=9, half=0.004 * number, most=0.5 * number) if number else None) for number in range(8)]
    drawn = chart.band(hours)
    assert drawn.worth_drawing
    assert [line.value for line in drawn.lines] == pytest.approx([0.001, 0.01, 0.1, 1, 10])
    assert [line.y for line in drawn.lines] == sorted((line.y for line in drawn.lines), reverse=True)
    assert (drawn.lines[0].y, drawn.lines[-1].y) == (chart.BOTTOM, chart.TOP)
    for each in drawn.stretches[1:]:
        assert chart.TOP - 1 <= each.y < each.y + each.height <= chart.BOTTOM + 1
    assert drawn.stretches[7].y < drawn.stretches[1].y
    assert (drawn.deliveries, drawn.half, drawn.most) == (63, 0.028, 3.5)
    assert drawn.stretches[0].took is None
    assert (drawn.path.count("M"), drawn.path.count("H")) == (1, 14)
    gap = chart.band([each if number != 4 else (each[0], None) for number, each in enumerate(hours)])
    assert gap.path.count("M") == gap.path.count("Z") == 2
    few = chart.band([(0, Took(deliveries=1, half=1.0, most=1.0)), (HOUR, None)])
    assert (few.worth_drawing, few.deliveries) == (False, 1)
    assert not chart.band([]).worth_drawing


async def test_the_overview_says_how_long_deliveries_took(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """In a sentence while there is little, then as a chart with a table behind it."""
    hour = world.clock.now() - world.clock.now() % HOUR
    await tab.sign_in(await world.token("op", "admin"))
    assert "No webhook became an event in the last day" in tab.page
    latency.add(database, {(hour, latency.stretch(0.004)): 10})
    await tab.get("/console/")
    assert "10 webhooks became events in the last day: half of each hour&#39;s within 4 ms" in tab.page.replace("'", "&#39;")
    latency.add(database, {(hour - number * HOUR, latency.stretch(0.004)): 10 for number in range(1, 5)})
    await tab.get("/console/")
    assert "the band begins where half" in tab.page
    assert tab.page.count("<td>4 ms</td><td>4 ms</td>") == 5


def test_the_weight_of_the_pages() -> None:
    """One stylesheet of at most 12 kB, one small script, nothing from elsewhere."""
    assert len(pages.stylesheet()) <= 12_000
    assert len(pages.script()) <= 2_000
    assert b"http" not in pages.script() + pages.stylesheet()


def test_the_examples_are_true() -> None:
    """In the docstrings."""
    for module in (chart, house, latency):
        assert doctest.testmod(module).failed == 0


def test_a_connection_is_found_by_words(database: SqliteDatabase) -> None:
    """Whole or in part, in any case; signs of patterns mean themselves; a page goes on after the last one."""
    for user in ("Ada", "bea_1", "beax1"):
        add_connection(database, user)
    found = [each.user for each in connections.page(database, after=0, limit=9, words="ADA")]
    assert found == ["Ada"]
    assert [each.user for each in connections.page(database, after=0, limit=9, words="a_1")] == ["bea_1"]
    assert [each.user for each in connections.page(database, after=1, limit=1)] == ["bea_1"]
    assert connections.page(database, after=0, limit=9, state="active") == []


def test_events_are_read_backwards_in_windows(database: SqliteDatabase) -> None:
    """What fits is found however far back it lies; the way ends at the beginning."""
    for position in range(1, 31):
        kind = "todoist.note" if position == 2 else "todoist.task"
        database.rows("INSERT INTO outbox VALUES (?, 0, 1, 'ada', ?, NULL, x'00', 0)", (position, kind))
    before, found = 31, []
    while before:
        some, before = outbox.latest(database, before, 5, Filter(type="todoist.note"), window=10)
        found += [stored[0] for stored in some]
    assert found == [2]
    some, before = outbox.latest(database, 31, 5)
    assert ([stored[0] for stored in some], before) == ([30, 29, 28, 27, 26], 26)


def test_secrets_in_a_delivery_are_masked() -> None:
    """In headers, in JSON at any depth, in forms."""
    shown = inbox.masked_body(b'{"a": [{"client_secret": "abc", "n": 1}], "password": {"x": "abc"}}')
    assert "abc" not in shown
    assert '"n": 1' in shown
    assert inbox.masked_body(b"\xff\x00no text")
    assert doctest.testmod(inbox).failed == 0


async def test_a_connection_is_paused_and_resumed(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """By its buttons; the page says what it means."""
    add_connection(database, "ada", "active")
    await tab.sign_in(await world.token("op", "admin"))
    assert await tab.get("/console/connections/id-ada") == 200
    assert await tab.send("/console/connections/id-ada/pause") == 303
    assert await tab.get(tab.headers["Location"]) == 200
    assert "It is paused" in tab.page
    assert state_of(database) == "paused"
    assert await tab.send("/console/connections/id-ada/sync") == 409
    assert "The connection is paused." in tab.page
    assert await tab.send("/console/connections/id-ada/resume") == 303
    assert state_of(database) == "active"


class Acme(Connector):
    """A connector with a limit and a secret among its settings."""

    id = "todoist"
    title = "Acme"
    auth = None
    scopes = ()
    hosts = ()
    limits = (RateLimit(100, per="minute"),)

    class Settings(Connector.Settings):
        """Where it is."""

        token: str = "https://acme.example"
        hook: str = ""
        api_token: str = ""
        tags: tuple[str, ...] = ()

    settings = Settings(token="https://ada:pw@acme.example/in?key=s3cret", hook="https://x.example/s3cret", api_token="s3cret")


async def test_a_connection_tells_how_it_does(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """Since when the cursor stands, what is left of the limit, what the provider pushes, its timetable, what was done there."""
    force_setattr(world.registry, "connectors", {"todoist": Acme()})
    add_connection(database, "ada", "active")
    (known,) = connections.listed(database)
    schedule.create(database, known.number, world.clock.now())
    schedule.set_timetable(database, known.number, '{"every": null, "cron": "30 6 * * *", "zone": "Europe/Berlin"}', world.clock.now())
    database.rows("UPDATE schedule SET moved_at = ?, unmoved = 2", (world.clock.now() - 2 * HOUR,))
    later = world.clock.now() + HOUR
    row = SubscriptionRow(id="s1", connection=known.number, topic="tasks", state="standing", changed_at=0, expires_at=later)
    subscriptions.put(database, row)
    subscriptions.looked(database, known.number, Subscriber(look_at=later, tries=1, reason="it answered 500"))
    asked = {"name": "add_task", "arguments": {"title": "s3cret"}}
    jobs.put(database, id_="j1", kind="act", connection=known.number, key="k", body=asked, now=0)
    await tab.sign_in(await world.token("op", "admin"))
    await tab.get("/console/connections/id-ada")
    for words in (
        "cursor moved",
        "2 hours ago</time>",
        "2 syncs since without a move",
        "calls left at once",
        "25 of 25",
        "100 in 60 s, for this user",
        "at 30 6 * * * in Europe/Berlin",
        "tasks",
        "standing",
        "in 1 hour</time>",
        "it answered 500",
        "Add task",
    ):
        assert words in tab.page, words
    assert "s3cret" not in tab.page


async def test_a_connection_is_disconnected(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """By its button; what became of the grant is told in words, each way it can end."""
    force_setattr(world.registry, "connectors", {"todoist": Todoist()})
    add_connection(database, "ada", "active")
    await tab.sign_in(await world.token("op", "admin"))
    await tab.get("/console/connections/id-ada")
    assert await tab.send("/console/connections/id-ada/disconnect") == 303
    (known,) = connections.listed(database)
    world.disconnect.begin.assert_awaited_once_with(known)
    database.rows("UPDATE connection SET state = 'revoking'")
    jobs.put(database, id_="j1", kind="revoke", connection=known.number, key="1", body={}, now=0)
    await tab.get(tab.headers["Location"])
    assert "It is being disconnected. What the provider said stands below" in tab.page
    assert "still to be told" in tab.page
    for result, words in (
        ('{"revoked": "fully", "remains": "", "manual_url": "https://x.example"}', "nothing of it works any more"),
        (
            '{"revoked": "partly", "remains": "a session stays", "manual_url": "https://x.example"}',
            "a part of it. a session stays. Its owner",
        ),
        ('{"revoked": "unsupported", "remains": "", "manual_url": ""}', "no way to take it back"),
        ('{"revoked": "failed", "remains": "", "manual_url": ""}', "could not be told"),
    ):
        database.rows("UPDATE job SET state = 'done', result = ?", (result,))
        await tab.get("/console/connections/id-ada")
        assert words in tab.page


async def test_settings_of_plugins_are_shown_without_secrets(world: World, tab: Operator) -> None:
    """As they are declared, with what holds; what is called like a secret is not shown, nor what an address carries besides where it is."""
    force_setattr(world.registry, "connectors", {"todoist": Acme()})
    force_setattr(world.registry, "plugins", (Plugin(name="acme", distribution="acme-oo", version="1.0", state="loaded"),))
    await tab.sign_in(await world.token("reader", "read"))
    await tab.get("/console/plugins")
    for words in (
        "[connectors.todoist]",
        "api_token",
        "set, and not shown",
        "https://acme.example/in",
        "https://x.example/…",
        "as declared",
    ):
        assert words in tab.page
    for secret in ("s3cret", "ada:pw"):
        assert secret not in tab.page


async def test_at_the_unix_door_nobody_signs_in(world: World, tmp_path: Path) -> None:
    """The kernel has said who asks: they operate at once, there is no session to end, and forms are still held to their page."""
    app = private_application(log=Notebook())
    world.console().add_to(app, trusts=True)
    door = await listen_unix(app, path=tmp_path / "oo.sock", admins=frozenset({os.getuid()}))
    tab = Operator("http://localhost", COOKIE)
    await tab.session.close()
    tab.session = aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(tmp_path / "oo.sock")), cookie_jar=aiohttp.CookieJar(unsafe=True)
    )
    try:
        assert await tab.get("/console/") == 200
        assert f"<bdi>uid {os.getuid()}</bdi>, operator" in tab.page
        assert "Sign out" not in tab.page
        assert await tab.get("/console/sign-in") == 303
        assert tab.headers["Location"] == "/console/"
        await tab.get("/console/vault")
        assert await tab.send("/console/vault/rotate", {"csrf": "0" * 64}) == 403
        assert await tab.get("/console/", Host="evil.example") == 403
    finally:
        await tab.session.close()
        await door.close()


async def test_a_viewer_changes_nothing(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """He sees no button, and what he sends is refused."""
    add_connection(database, "ada", "active")
    await tab.sign_in(await world.token("reader", "read"))
    await tab.get("/console/connections/id-ada")
    assert tab.page.count("<button") == 1
    for act in ("sync", "pause", "resume", "disconnect", "erase"):
        await tab.get("/console/connections")
        assert await tab.send(f"/console/connections/id-ada/{act}", {"name": "ada"}) == 403
    assert state_of(database) == "active"
    world.erasures.of_connection.assert_not_called()


async def test_erasing_takes_the_name_typed(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """Another name erases nothing, and what was typed stays."""
    add_connection(database, "ada", "active")
    await tab.sign_in(await world.token("op", "admin"))
    await tab.get("/console/connections/id-ada")
    assert await tab.send("/console/connections/id-ada/erase", {"name": "eve"}) == 409
    assert "Nothing was erased" in tab.page
    assert 'value="eve"' in tab.page
    world.erasures.of_connection.assert_not_called()
    assert await tab.send("/console/connections/id-ada/erase", {"name": "ada"}) == 303
    assert tab.headers["Location"] == "/console/erasures?begun=erasure-1"
    world.erasures.of_connection.assert_called_once()


async def test_deliveries_are_replayed_one_or_many(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """Those that were ticked, or all dead ones of a source."""
    add_delivery(database, 1, "dead")
    add_delivery(database, 2, "dead")
    add_delivery(database, 3, "done")
    add_delivery(database, 4, "dead")
    await tab.sign_in(await world.token("op", "admin"))
    await tab.get("/console/inbox?state=dead")
    assert tab.page.count('type="checkbox"') == 3
    assert await tab.send("/console/inbox/replay", {"which": "ticked", "delivery": "2"}) == 303
    assert states(database) == ["dead", "received", "done", "dead"]
    assert await tab.get(tab.headers["Location"]) == 200
    assert "0 of 1 are worked on" in tab.page
    await tab.send("/console/inbox/replay", {"which": "ticked", "delivery": "99"})
    await tab.get(tab.headers["Location"])
    assert "Nothing was replayed" in tab.page
    world.clock.shift(1)
    await tab.send("/console/inbox/replay", {"which": "dead", "source": ""})
    assert states(database) == ["received", "received", "done", "received"]
    database.rows("UPDATE delivery SET state = 'done' WHERE number = 1")
    world.clock.shift(2)
    replay = tab.headers["Location"]
    await tab.get(replay)
    assert "1 of 2 are worked on, less than one a second, 2 s to go." in tab.page
    assert await tab.send(f"{replay}/call-off") == 303
    await tab.get(replay)
    assert "It is done." in tab.page
    assert states(database) == ["done", "received", "done", "dead"]
    await tab.get("/console/inbox/replays/0")
    assert "There is nothing of this replay" in tab.page
    assert await tab.get("/console/inbox/3") == 200
    assert "v1,abc" not in tab.page
    assert "s3cret" not in tab.page
    assert "hello" in tab.page


async def test_the_inbox_is_looked_through(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """Page by page, and by words; what was asked for stays in the form and in the link to the next page."""
    for number in range(1, 121):
        add_delivery(database, number, "dead" if number == 7 else "done")
    await tab.sign_in(await world.token("op", "admin"))
    await tab.get("/console/inbox")
    assert ("msg-120<" in tab.page, "msg-20<" in tab.page) == (True, False)
    further = re.search(r'href="(/console/inbox\?before=\d+)">Further back', tab.page)
    assert further is not None
    await tab.get(further[1])
    assert ("msg-20<" in tab.page, "msg-1<" in tab.page, "Further back" in tab.page) == (True, True, False)
    await tab.get("/console/inbox?words=MSG-7&state=dead")
    assert tab.page.count('type="checkbox"') == 1
    assert 'value="MSG-7"' in tab.page
    assert "Replay all dead ones" not in tab.page, "it would replay more than what is shown"
    await tab.get("/console/inbox?words=nothing")
    assert "None fits." in tab.page
    assert await tab.get("/console/inbox?before=nonsense") == 200


async def test_more_are_replayed_than_one_transaction_takes(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """All of them, step by step."""
    for number in range(1, 2 * SOME + 2):
        add_delivery(database, number, "dead")
    await tab.sign_in(await world.token("op", "admin"))
    await tab.get("/console/inbox?state=dead")
    assert await tab.send("/console/inbox/replay", {"which": "dead", "source": ""}) == 303
    assert set(states(database)) == {"received"}


async def test_a_replay_moves_by_itself(world: World, tab: Operator, database: SqliteDatabase) -> None:
    """The stream tells how far it is, and ends in a summary; a viewer may look, and not call it off."""
    add_delivery(database, 1, "received")
    database.rows("UPDATE delivery SET replayed_at = 5")
    await tab.sign_in(await world.token("reader", "read"))
    await tab.get("/console/inbox/replays/5")
    assert "Call it off" not in tab.page
    assert await tab.send("/console/inbox/replays/5/call-off") == 403
    async with tab.session.get(world.url + "/console/inbox/replays/5/live") as stream:
        assert "0 of 1" in await told(world, stream)
        database.rows("UPDATE delivery SET state = 'dead'")
        assert "It became nothing once more." in await told(world, stream)
        await world.tokens.revoke("reader")
        assert await told(world, stream) == ""


def add_delivery(database: SqliteDatabase, number: int, state: str) -> None:
    database.rows(
        "INSERT INTO source (id, provider, token_hash, key_id, sealed, secret_count, scheme, enabled, created_at) "
        "VALUES ('door', 'webhook', x'01', 'k', x'00', 1, '', 1, 0) ON CONFLICT DO NOTHING"
    )
    database.rows(
        "INSERT INTO delivery (number, source, delivery_id, weak, state, reason, tries, waiting, fence, headers, body, "
        "received_at, done_at) VALUES (?, 'door', ?, 0, ?, 'it is no JSON', 1, 0, 0, '{\"webhook-signature\": \"v1,abc\"}', ?, 0, 0)",
        (number, f"msg-{number}", state, b'{"hello": 1, "token": "s3cret"}'),
    )


def state_of(database: SqliteDatabase) -> str:
    known = connections.by_id(database, "id-ada")
    assert known is not None
    return known.state


def states(database: SqliteDatabase) -> list[str]:
    return [state for (state,) in database.rows("SELECT state FROM delivery ORDER BY number")]


async def test_a_plugin_that_was_set_aside_is_released(world: World, tab: Operator) -> None:
    """The page says why it is set aside; an operator releases it, and the page says from when on it is back. A viewer has no button."""
    aside = Plugin(name="acme", distribution="acme-oo", version="1.0", state="quarantined", reason="it ended the daemon", struck=True)
    shaky = Plugin(name="shaky", distribution="shaky-oo", version="1.0", state="loaded")
    force_setattr(world.registry, "plugins", (aside, shaky))
    for _ in range(3):
        world.strikes.give("acme-oo/acme", "ended")
    world.strikes.give("shaky-oo/shaky", "blocked")
    await tab.sign_in(await world.token("reader", "read"))
    await tab.get("/console/plugins")
    assert "it ended the daemon" in tab.page
    assert "1 of 3 strikes today" in tab.page
    assert "Release acme" not in tab.page
    assert await tab.send("/console/plugins/acme/release") == 403
    await tab.get("/console/plugins")
    await tab.send("/console/sign-out")
    await tab.sign_in(await world.token("op", "admin"))
    await tab.get("/console/plugins")
    assert "Release acme" in tab.page
    assert await tab.send("/console/plugins/acme/release") == 303
    await tab.get("/console/plugins")
    assert "It was released: the next start of the daemon loads it." in tab.page
    assert "Release acme" not in tab.page
    assert list(world.strikes.counted()) == ["shaky-oo/shaky"]
