"""The console over a real daemon: signing in, every page, and a connection from its first sync to its end."""

import os
import re
from pathlib import Path

import aiohttp
from browser.chromium import a_page, launched, seen
from journeys.house import House, served
from playwright.async_api import Page
from ports import free_port

from oo_client import Client
from oo_daemon.store import latency
from oo_daemon.store.database import Database
from oo_todoist import Todoist
from oo_todoist.sandbox import TodoistSandbox
from oo_vault import create_key_file

#: How much there is where there is much, how often it is looked at, and within how many milliseconds something is seen. The long run has
#: a machine to itself; here others are at work on it.
EVENTS = int(os.environ.get("OO_TEST_CONSOLE_EVENTS", "20000"))
CONNECTIONS = EVENTS // 100
LOOKS, FIRST_PAINT = (15, 150.0) if "OO_TEST_CONSOLE_EVENTS" in os.environ else (3, 3000.0)
DAY, HOUR = 86_400_000_000, 3_600_000_000
PLACES = (
    "",
    "connections",
    "sources",
    "inbox",
    "events",
    "events?user=ada",
    "plugins",
    "vault",
    "health",
    "erasures",
    "reference",
    "reference?listener=private&part=events",
)


class Operator:
    """A person at a browser."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self.page = ""

    async def get(self, path: str) -> str:
        async with self.session.get(f"{self.url}/console/{path}") as answer:
            self.page = await answer.text()
            assert answer.status == 200, (path, self.page)
            return self.page

    async def send(self, path: str, status: int = 200, **form: str) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.page)
        assert found is not None
        async with self.session.post(f"{self.url}/console/{path}", data={"csrf": found[1], **form}) as answer:
            self.page = await answer.text()
            assert answer.status == status, (path, self.page)
            return self.page


async def test_an_operator_looks_around_and_acts(tmp_path: Path) -> None:
    """Every page with a connection and its events is light and whole; sync, pause and erase work, and are in the audit log."""
    create_key_file(tmp_path / "root.key")
    sandbox, port = TodoistSandbox(), free_port()
    async with served(sandbox) as address:
        house = House(tmp_path, sandbox, address, settings={"sync": {"interval": 3600}, "private": {"port": port}})
        await house.start()
        try:
            known = await house.connect()
            assert known is not None
            async with house.client as client:
                token = (await client.create_token("op", scopes=["admin"])).token
                await client.sync(known.id, wait=20)
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as session:
                await _look_around(Operator(session, f"http://127.0.0.1:{port}"), token, known.id)
            async with house.client as client:
                await _all_noted(client)
        finally:
            await house.stop()


async def _look_around(operator: Operator, token: str, connection: str) -> None:
    await operator.get("sign-in")
    await operator.send("sign-in", token=token)
    for place in PLACES:
        page = await operator.get(place)
        assert len(page) < 80_000, place
        assert not re.search(r'(?:src|href|action)="(?!/console|\?|#)', page), place
        assert token not in page
    found = re.search(r'href="/console/(events/\d+)"', await operator.get("events"))
    assert found is not None
    event = await operator.get(found[1])
    assert "&#34;type&#34;: &#34;todoist." in event
    assert re.search(r"type: &#34;todoist\.", event)
    await _sources(operator)
    page = await operator.get(f"connections/{connection}")
    assert all(each.sentence in page for each in Todoist.scopes if each.required)
    assert "A sync begins now." in await operator.send(f"connections/{connection}/sync")
    assert "It is paused" in await operator.send(f"connections/{connection}/pause")
    assert "The erasure has begun." in await operator.send(f"connections/{connection}/erase", name="ada")
    await operator.get("vault")
    await operator.send("vault/rotate")


async def _sources(operator: Operator) -> None:
    """An address is made, told once with its secret, given another secret, closed and opened."""
    await operator.get("sources")
    page = await operator.send("sources", name="bell", user="ada", scheme="github")
    told = re.search(r'aria-label="Secret">([^<]+)</pre>', page)
    address = re.search(r'aria-label="Address">([^<]+)</pre>', page)
    assert told is not None
    assert address is not None
    page = await operator.get("sources/bell")
    assert told[1] not in page
    assert address[1] in page
    page = await operator.send("sources/bell/rotate")
    other = re.search(r'aria-label="Secret">([^<]+)</pre>', page)
    assert other is not None
    assert other[1] != told[1]
    assert "previous" in page
    page = await operator.send("sources/bell/try", body='{"zen": "Keep it logically awesome."}')
    assert "github" in page
    assert "Keep it logically awesome." in page, "what was typed is kept"
    assert "X-Hub-Signature-256: sha256=" in page
    assert "It is closed" in await operator.send("sources/bell/disable")
    assert "refuses everything" in await operator.send("sources/bell/try", body="{}")
    assert "It is open" in await operator.send("sources/bell/enable")
    page = await operator.send("sources", 409, name="bell", user="ada", scheme="github")
    assert "There is a source bell already." in page
    assert 'value="bell"' in page, "what was typed is kept"
    assert '<a href="/console/sources/bell">' in await operator.get("sources")


async def _all_noted(client: Client) -> None:
    noted = [(entry.who, entry.act) for entry in await client.audit()]
    for act in ("sync", "pause", "erase"):
        assert ("token op", f"POST /console/connections/{{id}}/{act}") in noted


async def test_the_console_in_a_browser(tmp_path: Path) -> None:
    """By keyboard from the sign-in on: every page can be read by everybody, and the overview moves by itself."""
    create_key_file(tmp_path / "root.key")
    sandbox, port = TodoistSandbox(), free_port()
    async with served(sandbox) as address:
        house = House(tmp_path, sandbox, address, settings={"sync": {"interval": 3600}, "private": {"port": port}})
        await house.start()
        try:
            async with house.client as client:
                token = (await client.create_token("op", scopes=["admin"])).token
            async with launched() as browser:
                page = await a_page(browser)
                await page.goto(f"http://127.0.0.1:{port}/console/sign-in")
                await seen(page, "console sign-in")
                await page.focus("#token")
                await page.keyboard.type(token)
                await page.keyboard.press("Enter")
                await page.get_by_text("There are none yet").wait_for()
                known = await house.connect()
                assert known is not None
                await page.get_by_role("link", name="Todoist of ada").first.wait_for()
                await seen(page, "console overview")
                async with house.client as client:
                    await client.add_source("bell", user="ada", scheme="github")
                for place in (*PLACES[1:], "sources/bell", f"connections/{known.id}"):
                    await page.goto(f"http://127.0.0.1:{port}/console/{place}")
                    await seen(page, f"console {place}")
                await page.get_by_role("button", name="Pause").press("Enter")
                await page.get_by_text("It is paused: nothing is fetched").wait_for()
                await seen(page, "console paused")
        finally:
            await house.stop()


def furnished(database: Database, now: int) -> None:
    """Much of everything, as after a busy day: names that are long or go from right to left, too."""
    odd = ["Wolfeschlegelsteinhausenbergerdorff.Hubert@a-very-long-name-of-a-domain.example.org", "יעל.כהן", "name_" + "x" * 100]
    counted = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?) "
    made = (
        'INSERT INTO connection (id, "user", provider, account, state, reason, provider_account, label, scopes, meta, '
        "created_at, changed_at, version) "
    )
    database.rows(
        f"{counted}{made}SELECT 'id' || i, 'user' || i, 'todoist', 'default', CASE WHEN i % 97 = 0 THEN 'paused' ELSE 'active' END, "
        "'', '', 'user' || i, 'data:read', '{}', ?, ?, 1 FROM c",
        (CONNECTIONS, now, now),
    )
    for number, user in enumerate(odd):
        database.rows(
            f"{made}VALUES (?, ?, 'todoist', 'default', 'needs_sign_in', 'The grant is gone.', '', ?, 'data:read', '{{}}', ?, ?, 1)",
            (f"odd{number}", user, user, now, now),
        )
    database.rows(
        "INSERT INTO schedule "
        "(connection, next_run_at, generation, tries, failed, fence, finished_fence, events, outcome, detail, finished_at) "
        "SELECT number, ?, 0, 0, CASE WHEN number = 9 THEN 4 ELSE 0 END, 0, 0, 0, 'later', 'the provider answered 503', ? FROM connection "
        "WHERE number NOT IN (SELECT connection FROM schedule)",
        (now + DAY, now),
    )
    ((position, body),) = database.rows("SELECT position, body FROM outbox ORDER BY position DESC LIMIT 1")
    database.rows("UPDATE outbox SET accepted_at = ?", (now - DAY,))
    database.rows(
        f"{counted}INSERT INTO outbox SELECT ? + i, 0, 1, 'ada', 'todoist.task', NULL, ?, ? + CAST(? * 1.0 * i / ? AS INT) FROM c",
        (EVENTS, position, body, now - DAY, DAY, EVENTS),
    )
    database.rows("UPDATE stream SET position = position + ?, events = events + ?", (EVENTS, EVENTS))
    database.rows(
        f"{counted}INSERT INTO delivery "
        "(source, delivery_id, weak, state, reason, tries, waiting, fence, headers, body, received_at, done_at) SELECT 'bell', "
        "'msg-' || i, 0, CASE WHEN i % 10 = 0 THEN 'dead' ELSE 'done' END, 'it is no JSON', 1, 0, 0, '{}', x'7b', ?, ? FROM c",
        (EVENTS // 100, now, now),
    )
    counts = {(now - now % HOUR - hour * HOUR, 4 + (hour + number) % 20): 50 - number for hour in range(24) for number in range(20)}
    latency.add(database, counts)


async def test_where_there_is_much(tmp_path: Path) -> None:
    """The overview is there at once and weighs little; charts, long names and names from right to left fit everywhere.

    By keyboard, dead deliveries are looked for, ticked, replayed, and followed until they are done.
    """
    create_key_file(tmp_path / "root.key")
    sandbox, port = TodoistSandbox(), free_port()
    async with served(sandbox) as address:
        house = House(tmp_path, sandbox, address, settings={"sync": {"interval": 3600}, "private": {"port": port}})
        await house.start()
        try:
            await house.connect()
            assert house.app is not None
            async with house.client as client:
                token = (await client.create_token("op", scopes=["admin"])).token
                await client.add_source("bell", user="ada", scheme="github")
            await house.app.storage.write(furnished, house.app.clock.now())
            async with launched() as browser:
                page = await a_page(browser)
                await page.goto(f"http://127.0.0.1:{port}/console/sign-in")
                await page.get_by_label("Token").fill(token)
                await page.get_by_label("Token").press("Enter")
                await page.get_by_role("heading", name="Overview").wait_for()
                looks = [await _look(page, f"http://127.0.0.1:{port}/console/") for _ in range(LOOKS)]
                assert max(weight for _, weight in looks) < 100_000
                assert min(paint for paint, _ in looks) < FIRST_PAINT, looks
                await seen(page, "console overview with much")
                for place in ("connections", "connections/odd2", "inbox?state=dead&words=msg"):
                    await page.goto(f"http://127.0.0.1:{port}/console/{place}")
                    await seen(page, f"console {place} with much")
                await _replays(page, f"http://127.0.0.1:{port}/console/inbox?state=dead")
        finally:
            await house.stop()


async def _look(page: Page, address: str) -> tuple[float, int]:
    """Milliseconds until something is seen, and the bytes that were loaded for it."""
    fresh = await page.context.new_page()
    await fresh.goto(address)
    measured: tuple[float, int] = await fresh.evaluate(
        """async () => {
          const paint = () => performance.getEntriesByName("first-contentful-paint")[0];
          while (!paint()) await new Promise(requestAnimationFrame);
          const loaded = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
          return [paint().startTime, loaded.reduce((sum, each) => sum + each.encodedBodySize, 0)];
        }"""
    )
    await fresh.close()
    return measured


async def _replays(page: Page, address: str) -> None:
    await page.goto(address)
    await page.get_by_role("checkbox").first.press("Space")
    await page.get_by_role("checkbox").nth(1).press("Space")
    await page.get_by_role("button", name="Replay what is ticked").press("Enter")
    await page.get_by_role("heading", name="Replay").wait_for()
    await page.get_by_text("All 2 are done.").wait_for()
    await seen(page, "console replay")
    await page.get_by_role("link", name="Inbox").last.press("Enter")
    await page.get_by_role("heading", name="Inbox").wait_for()
