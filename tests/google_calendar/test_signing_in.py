"""Signing in, staying signed in, and giving the access back."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from google_calendar.house import ADA, House
from oo_google_calendar import GoogleCalendar
from oo_google_calendar.connector import LIST, READ, WRITE

from oo_daemon.store.storage import InlineStorage
from oo_sdk import Revoked


async def test_what_is_asked_for(house: House) -> None:
    """The address asks for a refresh token, for consent, for what was granted before, and for two scopes by themselves."""
    await house.sign_in()
    opened = await house.connecting.open("google_calendar", "grace")
    query = parse_qs(urlsplit(await house.connecting.begin(opened.link, "b")).query)
    assert query["scope"] == [f"{LIST} {READ}"]
    wanted = {"access_type": "offline", "prompt": "consent", "include_granted_scopes": "true", "code_challenge_method": "S256"}
    assert {name: query[name] for name in wanted} == {name: [value] for name, value in wanted.items()}


@pytest.mark.rows("D10")
async def test_who_is_signed_in(house: House) -> None:
    """The account is known by the address of its first calendar, and what was granted counts."""
    assert await house.sign_in() == "connected"
    connection = await house.connection()
    assert (connection.provider_account, connection.label, connection.meta) == (ADA, ADA, {"calendar": ADA, "zone": "Europe/London"})
    assert set(connection.scopes) == {LIST, READ}


@pytest.mark.rows("D10")
@pytest.mark.parametrize(
    ("untick", "words"), [("calendarlist.readonly", "the list of your calendars"), ("events.readonly", "what is in your")]
)
async def test_a_box_that_was_unticked(house: House, untick: str, words: str) -> None:
    """Who unticks one of the two is told what that was, and nothing is kept; it can be done again."""
    told = await house.sign_in(untick=(untick,))
    assert words in told
    assert "leave every box ticked" in told
    assert await house.sign_in() == "connected"


@pytest.mark.rows("D10")
async def test_changing_is_granted_apart(house: House) -> None:
    """Without the box for changing, reading works; ticked later, it is added to what was granted before."""
    assert await house.sign_in(write=True, untick=("calendar.events",)) == "connected"
    assert WRITE not in (await house.connection()).scopes
    assert (await house.run()).outcome == "done"
    assert await house.sign_in(write=True) == "connected"
    assert {LIST, READ, WRITE} <= set((await house.connection()).scopes)


async def test_one_scope_holds_others(house: House) -> None:
    """Where Google grants a scope that holds those that are needed, these count as granted, too."""
    await house.sign_in()
    for token in house.world.grants.tokens.values():
        token.scopes = ("https://www.googleapis.com/auth/calendar",)
    house.world.grants.expire()
    assert (await house.run()).outcome == "done"
    assert await house.sign_in(untick=("events.readonly",)) == "connected"
    assert {LIST, READ, WRITE} <= set((await house.connection()).scopes)


@pytest.mark.parametrize("days", [8, 190])
async def test_a_grant_that_ends_by_itself(storage: InlineStorage, days: int) -> None:
    """A grant that ends, after seven days in testing or six months unused, is told in words that name what it can be."""
    house = House(storage, testing=days == 8)
    await house.sign_in()
    await house.clock.advance(days * 86400.0)
    ended = await house.run()
    assert ended.outcome == "signed_out"
    for words in ("six months", "hundred times", "seven days", "still in testing"):
        assert words in (ended.detail or "")
    assert (await house.connection()).state == "needs_sign_in"
    assert await house.sign_in() == "connected"
    assert (await house.run()).outcome == "done"
    assert house.difference() == []


@pytest.mark.rows("C14")
async def test_the_hundred_and_first_sign_in(house: House) -> None:
    """Google silently ends the oldest refresh token of an account and client; the newest goes on."""
    for _ in range(101):
        assert await house.sign_in() == "connected"
        await house.clock.advance(60)  # a person may make so many links in a minute
    alive = [token for token in house.world.grants.tokens.values() if token.kind == "refresh" and not token.revoked]
    assert len(alive) == 100
    house.world.grants.expire()
    assert (await house.run()).outcome == "done"


async def test_a_hundred_sign_ins_elsewhere(house: House) -> None:
    """Where the same account signed in a hundred times more with our client, the person is told that this can be why it ended."""
    await house.sign_in()
    (ours,) = [token for token in house.world.grants.tokens.values() if token.kind == "refresh"]
    for _ in range(100):
        house.world.grants._refresh_token(ours.client, ours.email, ours.scopes)
    assert ours.revoked
    house.world.grants.expire()
    ended = await house.run()
    assert (ended.outcome, "the same account has signed in more than a hundred times since" in (ended.detail or "")) == ("signed_out", True)
    assert (await house.connection()).state == "needs_sign_in"


@pytest.mark.rows("D13")
async def test_revoking(house: House) -> None:
    """The refresh token is revoked without a word about our client, and the outcome says that the project's whole grant went with it."""
    await house.sign_in()
    ctx = await house.context()
    house.line.asked.clear()
    revocation = await house.connector.revoke(ctx)
    (asked,) = house.line.asked
    assert (asked.path, "authorization" in asked.headers, list(asked.form())) == (("revoke",), False, ["token"])
    assert revocation.revoked is Revoked.FULLY
    assert "same Google Cloud project" in revocation.remains
    assert all(token.revoked for token in house.world.grants.tokens.values())
    house.line.sandbox.world.grants.tokens.clear()
    again = await house.connector.revoke(ctx)  # 400 to a token that no longer works
    assert again == revocation


def test_the_real_addresses() -> None:
    """Without settings it is Google, and its credential goes to two hosts."""
    connector = GoogleCalendar()
    assert connector.hosts == ["oauth2.googleapis.com", "www.googleapis.com"]
    assert connector.auth.authorize.startswith("https://accounts.google.com/")
