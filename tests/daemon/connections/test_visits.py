"""Links to a person's own page: once, for a while, in one browser, and for the right person only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon.virtual import SeededChance, VirtualClock

from oo_daemon.connections.connect import LinkGone, NotTheirs, ProofNeeded
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.visits import LIFE, Visits
from oo_daemon.outbox import wire
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.storage import InlineStorage, open_database

LINK_LIFE = 900.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = open_database(tmp_path / "oo.db")
    yield opened
    opened.close()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def visiting(database: SqliteDatabase, clock: VirtualClock, *proofs: str) -> Visits:
    return Visits(
        storage=InlineStorage(database, wire.encode),
        clock=clock,
        chance=SeededChance(),
        public_url="https://oo.example",
        link_life=LINK_LIFE,
        proofs=frozenset(proofs),
    )


async def link_of(visits: Visits, user: str = "ada") -> str:
    return (await visits.open(user)).url.rpartition("/")[2]


@pytest.mark.rows("D3")
async def test_a_link_opens_one_page_once(database: SqliteDatabase, clock: VirtualClock) -> None:
    """Looking spends nothing; the first who enters has it, and every secret is worth only what it is for."""
    visits = visiting(database, clock)
    link = await link_of(visits)
    for _ in range(3):
        assert (await visits.invitation(link)).user == "ada"
    cookie = await visits.begin(link, "mine")
    visit = await visits.of(cookie)
    assert visit is not None
    assert visit.user == "ada"
    for asking in (visits.invitation(link), visits.begin(link, "mine"), visits.invitation(cookie), visits.begin(cookie, "mine")):
        with pytest.raises(LinkGone):
            await asking
    for other in ("", link, "mine", visit.id):
        assert await visits.of(other) is None
    stored = b"".join(bytes(str(row), "utf8") for row in database.rows("SELECT * FROM visit"))
    assert link.encode() not in stored
    assert cookie.encode() not in stored


@pytest.mark.rows("D3")
async def test_link_and_visit_run_out(database: SqliteDatabase, clock: VirtualClock) -> None:
    """A link after a quarter of an hour, a visit after an hour; what is over is forgotten."""
    visits = visiting(database, clock)
    late, link = await link_of(visits), await link_of(visits)
    cookie = await visits.begin(link, "mine")
    clock.shift(LINK_LIFE)
    with pytest.raises(LinkGone):
        await visits.begin(late, "mine")
    assert await visits.of(cookie) is not None
    clock.shift(LIFE - LINK_LIFE)
    assert await visits.of(cookie) is None
    clock.shift(1)
    await visits.tidy()
    assert database.rows("SELECT * FROM visit") == []


@pytest.mark.rows("D3")
async def test_who_it_is_comes_first(database: SqliteDatabase, clock: VirtualClock) -> None:
    """Where people must prove who they are: only the right one, in the way that is set, for this visit; then in that browser alone."""
    visits = visiting(database, clock, "ticket")
    opened = await visits.open("ada")
    link = opened.url.rpartition("/")[2]
    assert (await visits.invitation(link, "mine")).proof_needed
    with pytest.raises(ProofNeeded):
        await visits.begin(link, "mine")
    for user, session in (("grace", opened.id), ("ada", "another")):
        with pytest.raises(NotTheirs):
            await visits.prove(link, "mine", "ticket", user, session)
    with pytest.raises(LinkGone):
        await visits.prove(link, "mine", "sign_in", "ada")
    await visits.prove(link, "mine", "ticket", "ada", opened.id)
    with pytest.raises(LinkGone):
        await visits.prove(link, "theirs", "ticket", "ada", opened.id)
    with pytest.raises(LinkGone):
        await visits.begin(link, "theirs")
    visit = await visits.of(await visits.begin(link, "mine"))
    assert visit is not None
    assert (visit.user, visit.proved) == ("ada", "ticket")


async def test_a_name_is_a_name(database: SqliteDatabase, clock: VirtualClock) -> None:
    """As everywhere."""
    with pytest.raises(Declined):
        await visiting(database, clock).open("a/b c")
