"""The sandbox from outside: its consent page, its control endpoints, what goes wrong on the wire, and its pushes."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from hashlib import sha256

import pytest
from aiohttp import ClientError
from google_calendar.visitor import CALLBACK, Receiver, Visitor, receiving, visiting
from oo_google_calendar.sandbox.misbehaviour import SWITCHES

READ = ("calendar.calendarlist.readonly", "calendar.events.readonly")


@pytest.fixture
async def stranger() -> AsyncIterator[Visitor]:
    """Nobody has signed in yet."""
    async with visiting() as visitor:
        yield visitor


@pytest.fixture
async def ada(stranger: Visitor) -> Visitor:
    """Ada, signed in."""
    await stranger.sign_in()
    return stranger


@pytest.fixture
async def app() -> AsyncIterator[Receiver]:
    """An app's backend."""
    async with receiving() as receiver:
        yield receiver


# --- consent ----------------------------------------------------------------------------------------------------------


async def test_the_page(stranger: Visitor) -> None:
    """It names the app, the people and what is asked for, each with a box of its own; it may not be framed or kept."""
    page = await stranger.ask(*READ)
    text = await page.text()
    for said in ("oO wants access", "Ada Lovelace", "Grace Hopper", "View events on all", "See the list of calendars"):
        assert said in text
    assert text.count('type="checkbox"') == 2
    assert 'type="checkbox"' not in await (await stranger.ask(READ[0])).text(), "one permission has no box"
    assert (page.headers["Cache-Control"], page.headers["X-Frame-Options"]) == ("no-store", "DENY")


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"redirect_uri": "https://elsewhere.example/"}, 400, "redirect_uri_mismatch"),
        ({"redirect_uri": ""}, 400, "redirect_uri_mismatch"),
        ({"response_type": "token"}, 400, "invalid_request"),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, 400, "invalid_request"),
        ({"code_challenge": "x" * 43, "code_challenge_method": "plain"}, 400, "invalid_request"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, 400, "invalid_scope"),
        ({"scope": ""}, 400, "invalid_scope"),
    ],
)
async def test_what_cannot_be_asked(stranger: Visitor, changed: dict[str, str], status: int, said: str) -> None:
    """What no address of the app's can be told is said on a page."""
    page = await stranger.ask(*READ, **changed)
    assert (page.status, said in await page.text()) == (status, True)


async def test_a_decision(stranger: Visitor) -> None:
    """Allowing gives a code with the state; an unticked box is missing from what is granted; a form counts once."""
    page = await stranger.ask(*READ, state="my state & more")
    called = await stranger.decide(page, untick=READ[1])
    assert called["state"] == "my state & more"
    status, given = await stranger.token(grant_type="authorization_code", code=called["code"], redirect_uri=CALLBACK)
    assert (status, given["scope"].rpartition("/")[2]) == (200, READ[0])
    with pytest.raises(AssertionError, match="invalid_request"):
        await stranger.decide(page)
    assert await stranger.decide(await stranger.ask(*READ), "deny") == {"error": "access_denied", "state": "s"}
    assert (await stranger.decide(await stranger.ask(*READ, state="")))["code"].startswith("4/")


async def test_proof_keys(stranger: Visitor) -> None:
    """A code that was asked for with a challenge is worth nothing without what it was made of."""
    verifier = "v" * 43
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()

    async def code() -> dict[str, str]:
        called = await stranger.decide(await stranger.ask(*READ, code_challenge=challenge, code_challenge_method="S256"))
        return {"grant_type": "authorization_code", "code": called["code"], "redirect_uri": CALLBACK}

    for more in ({}, {"code_verifier": "w" * 43}):
        assert (await stranger.token(**await code(), **more))[1]["error"] == "invalid_grant"
    asked = await code()
    assert (await stranger.token(**asked, code_verifier=verifier))[0] == 200
    assert (await stranger.token(**asked, code_verifier=verifier))[1]["error_description"] == "Code was already redeemed."


async def test_refresh_tokens(ada: Visitor) -> None:
    """One comes with the first consent, or where consent is asked for; it stays, and ends with whatever token is revoked."""
    asked = await ada.decide(await ada.ask("calendar"))
    _, again = await ada.token(grant_type="authorization_code", code=asked["code"], redirect_uri=CALLBACK)
    assert "refresh_token" not in again
    status, given = await ada.token(grant_type="refresh_token", refresh_token=ada.refresh)
    assert (status, "refresh_token" in given, given["expires_in"]) == (200, False, 3599)
    assert (await ada.visit("POST", "/revoke", data={"token": given["access_token"]})).status == 200
    assert (await ada.visit("POST", "/revoke", data={"token": ada.refresh})).status == 400
    assert await ada.token(grant_type="refresh_token", refresh_token=ada.refresh) == (
        400,
        {"error": "invalid_grant", "error_description": "Token has been expired or revoked."},
    )
    assert (await ada.api("GET", "users/me/calendarList"))[0] == 401
    assert (await ada.token(grant_type="password"))[1]["error"] == "unsupported_grant_type"
    assert (await ada.token(grant_type="refresh_token", client_secret="guessed"))[0] == 401


# --- control ----------------------------------------------------------------------------------------------------------


async def test_the_front_page(stranger: Visitor) -> None:
    """It says how to use it: the settings, the client, and every switch."""
    text = await (await stranger.visit("GET", "/")).text()
    for said in (f"{stranger.address}/calendar/v3", stranger.sandbox.client_id, "POST /sandbox/change", *SWITCHES):
        assert said in text


async def test_state(ada: Visitor) -> None:
    """It tells of people, calendars, entries, tokens by their end, and what was asked so far; and nothing that opens a door."""
    await ada.api("GET", "users/me/calendarList")
    state = await ada.control("GET", "state")
    assert [person["name"] for person in state["users"]] == ["Ada Lovelace", "Grace Hopper"]
    assert "Tea with Mary" in {entry["summary"] for calendar in state["calendars"] for entry in calendar["entries"]}
    assert state["requests"]["GET /calendar/v3/users/me/calendarList"] == 1
    assert {token["ends_with"] for token in state["tokens"]} == {ada.access[-4:], ada.refresh[-4:]}
    for secret in (ada.access, ada.refresh, ada.sandbox.client_secret):
        assert secret not in json.dumps(state)


async def test_changing_something_as_a_person(stranger: Visitor) -> None:
    """Whatever the API can is done as somebody, and answered as the API does; nothing of it stays behind."""
    times = {"start": {"date": "2026-11-26"}, "end": {"date": "2026-11-27"}}
    asked = {"user": "grace", "method": "POST", "path": "calendars/primary/events", "body": {"summary": "Nanoseconds", **times}}
    made = await stranger.control("POST", "change", json=asked)
    assert made["creator"]["email"] == "grace@example.com"
    found = await stranger.control("POST", "change", json={"user": "grace", "path": "calendars/primary/events?q=nanoseconds"})
    assert [entry["id"] for entry in found["items"]] == [made["id"]]
    gone = {"user": "grace", "method": "DELETE", "path": f"calendars/primary/events/{made['id']}"}
    assert await stranger.control("POST", "change", json=gone) is None
    assert (await stranger.control("POST", "change", json=gone))[0] == 410
    assert (await stranger.control("POST", "change", json={**gone, "user": "charles"}))[0] == 404
    assert (await stranger.control("GET", "state"))["tokens"] == []


async def test_json_only(stranger: Visitor) -> None:
    """A form that a page elsewhere could post is refused, and so is what makes no sense; the words say what is right."""
    for path in ("change", "misbehave"):
        assert (await stranger.control("POST", path, data={"name": "status_500"}))[0] == 415
        assert (await stranger.control("POST", path, json=["status_500"]))[0] == 400
    for asked in ({"name": "fly"}, {"name": "status_500", "times": 0}, {"name": "status_500", "args": {"seconds": 1}}, {"nome": "x"}):
        status, words = await stranger.control("POST", "misbehave", json=asked)
        assert status == 400, asked
        assert words
    assert (await stranger.control("GET", "misbehave"))["misbehaving"] == {}


async def test_switches(ada: Visitor) -> None:
    """A switch works as often as it was told to, or until it is switched off; the others stay."""
    await ada.misbehave("status_500", times=1)
    assert [(await ada.api("GET", "users/me/calendarList"))[0] for _ in range(2)] == [500, 200]
    await ada.misbehave("status_503", seconds=7)
    await ada.misbehave("small_pages")
    answer = await ada.visit("GET", "/calendar/v3/users/me/calendarList")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
    assert (await ada.control("DELETE", "misbehave", params={"name": "status_503"}))["misbehaving"].keys() == {"small_pages"}
    assert (await ada.control("DELETE", "misbehave"))["misbehaving"] == {}


# --- what goes wrong on the wire --------------------------------------------------------------------------------------


async def test_slow_answers(ada: Visitor) -> None:
    """It waits, and then answers as it would have."""
    await ada.misbehave("slow_answer", times=1, seconds=40)
    assert (await ada.api("GET", "users/me/calendarList"))[0] == 200
    assert ada.naps == [40]


async def test_a_connection_that_is_dropped(ada: Visitor) -> None:
    """The work is done; its answer never comes."""
    await ada.misbehave("drop_connection", times=1)
    body = {"summary": "Once", "start": {"date": "2026-11-26"}, "end": {"date": "2026-11-27"}}
    headers = {"Authorization": f"Bearer {ada.access}"}
    with pytest.raises(ClientError):
        await ada.visit("POST", "/calendar/v3/calendars/primary/events", json=body, headers=headers)
    assert len((await ada.api("GET", "calendars/primary/events", q="once"))[1]["items"]) == 1


async def test_json_that_is_cut(ada: Visitor) -> None:
    """The status is right and the body ends in the middle."""
    await ada.misbehave("truncated_json", times=1)
    headers = {"Authorization": f"Bearer {ada.access}"}
    answer = await ada.visit("GET", "/calendar/v3/users/me/calendarList", headers=headers)
    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(await answer.text())


async def test_the_token_endpoint_fails(ada: Visitor) -> None:
    """It answers 500, and the refresh token lives on; the API is not affected."""
    await ada.misbehave("token_500", times=1)
    assert (await ada.api("GET", "users/me/calendarList"))[0] == 200
    asked = {"grant_type": "refresh_token", "refresh_token": ada.refresh}
    assert [(await ada.token(**asked))[0] for _ in range(2)] == [500, 200]


async def test_a_web_page_in_place_of_an_answer(ada: Visitor) -> None:
    """It is one, and says so."""
    await ada.misbehave("html_answer", times=1)
    answer = await ada.visit("GET", "/calendar/v3/users/me/calendarList")
    assert (answer.status, answer.content_type) == (200, "text/html")


async def test_a_minute_has_its_limits(ada: Visitor) -> None:
    """After 600 requests of one person within a minute they are refused by name, and a minute later they are not."""
    for _ in range(600):
        ada.sandbox.world.spend("ada@example.com")
    status, body = await ada.api("GET", "users/me/calendarList")
    assert (status, body["error"]["errors"][0]["reason"]) == (403, "userRateLimitExceeded")
    ada.clock.forward(minutes=1)
    assert (await ada.api("GET", "users/me/calendarList"))[0] == 200


async def test_sync_tokens_grow_old(ada: Visitor) -> None:
    """A sync token works for a month; then a full sync is required. Asking again gives a new month."""
    _, first = await ada.api("GET", "calendars/primary/events")
    token = first["nextSyncToken"]
    ada.clock.forward(days=29)
    await ada.sign_in()
    status, second = await ada.api("GET", "calendars/primary/events", syncToken=token)
    assert (status, second["items"]) == (200, [])
    ada.clock.forward(days=2)
    await ada.sign_in()
    status, body = await ada.api("GET", "calendars/primary/events", syncToken=token)
    assert (status, body["error"]["errors"][0]["reason"]) == (410, "fullSyncRequired")
    assert (await ada.api("GET", "calendars/primary/events", syncToken=second["nextSyncToken"]))[0] == 200


# --- pushes -----------------------------------------------------------------------------------------------------------


async def watch(visitor: Visitor, app: Receiver, id_: str = "channel-1", **more: object) -> dict[str, str]:
    """Open a channel for Ada's first calendar."""
    asked = {"id": id_, "type": "web_hook", "address": app.url, "token": "a secret", **more}
    status, opened = await visitor.api("POST", "calendars/primary/events/watch", asked)
    assert status == 200, opened
    assert isinstance(opened, dict)
    return opened


async def pushed(visitor: Visitor) -> list[tuple[str, list[object]]]:
    """What became of each push, after all have ended."""
    async with asyncio.timeout(20):
        await visitor.sandbox.settled()
    return [(push["state"], push["attempts"]) for push in (await visitor.control("GET", "pushes"))["pushes"]]


async def test_a_channel(ada: Visitor, app: Receiver) -> None:
    """It begins with a message that says so, then tells that something changed: no body, the token, numbers that grow with gaps."""
    opened = await watch(ada, app)
    for number in range(3):
        await ada.add(f"Lunch {number}")
    assert await pushed(ada) == [("delivered", [200])] * 4
    assert sorted(app.told("Resource-State")) == ["exists"] * 3 + ["sync"]
    numbers = sorted(int(number) for number in app.told("Message-Number"))
    assert numbers[0] == 1
    assert len(set(numbers)) == 4
    assert numbers != [1, 2, 3, 4]
    assert {body for _, body in app.calls} == {b""}
    assert set(app.told("Channel-ID")) == {"channel-1"}
    assert set(app.told("Channel-Token")) == {"a secret"}
    assert set(app.told("Resource-ID")) == {opened["resourceId"]}
    assert set(app.told("Channel-Expiration")) == {"Mon, 30 Nov 2026 10:00:00 GMT"}
    assert all(uri.startswith(f"{ada.address}/calendar/v3/calendars/") for uri in app.told("Resource-URI"))


async def test_a_channel_is_stopped(ada: Visitor, app: Receiver) -> None:
    """Nothing comes after it was stopped; only who opened it can stop it, and once."""
    opened = await watch(ada, app)
    stop = {"id": opened["id"], "resourceId": opened["resourceId"]}
    assert (await ada.api("POST", "channels/stop", {**stop, "resourceId": "another"}))[0] == 404
    access = ada.access
    await ada.sign_in(user="Grace Hopper")
    assert (await ada.api("POST", "channels/stop", stop))[0] == 404
    ada.access = access
    assert [(await ada.api("POST", "channels/stop", stop))[0] for _ in range(2)] == [204, 404]
    await ada.add()
    await pushed(ada)
    assert app.told("Resource-State") == ["sync"]
    assert (await ada.control("GET", "state"))["channels"] == []


async def test_a_channel_ends_by_itself(ada: Visitor, app: Receiver) -> None:
    """After a week, or as soon as was asked, nothing comes any more; two that overlap both tell."""
    await watch(ada, app, params={"ttl": "3600"})
    await watch(ada, app, "channel-2", params={"ttl": "9999999"})
    await ada.add()
    await pushed(ada)
    assert app.told("Resource-State").count("exists") == 2
    ada.clock.forward(minutes=61)
    await ada.sign_in()
    await ada.add()
    await pushed(ada)
    assert app.told("Channel-ID").count("channel-2") == 3
    ada.clock.forward(days=7)
    await ada.sign_in()
    await ada.add()
    await pushed(ada)
    assert len(app.calls) == 5


@pytest.mark.parametrize(
    "more",
    [
        {"address": "http://elsewhere.example/"},
        {"type": "pigeon"},
        {"id": "x" * 65},
        {"token": "x" * 257},
        {"expiration": "soon"},
        {"expiration": "1"},
        {"address": ""},
    ],
)
async def test_a_channel_that_cannot_be(ada: Visitor, app: Receiver, more: dict[str, str]) -> None:
    """It is refused, and nothing is sent."""
    asked = {"id": "channel-1", "type": "web_hook", "address": app.url, **more}
    assert (await ada.api("POST", "calendars/primary/events/watch", asked))[0] == 400
    assert await pushed(ada) == []


async def test_pushes_are_tried_again(ada: Visitor, app: Receiver) -> None:
    """After one of four faults it comes again, later and later, and is given up; after any other answer it is lost."""
    app.statuses = [503, 500, 204]
    await watch(ada, app)
    assert await pushed(ada) == [("delivered", [503, 500, 204])]
    app.statuses = [400]
    await ada.add()
    assert (await pushed(ada))[1:] == [("failed", [400])]
    app.statuses = [502, 504, 500, 503, 500]
    await ada.add()
    assert (await pushed(ada))[2:] == [("failed", [502, 504, 500, 503, 500])]
    assert ada.naps == [1, 4, 1, 4, 16, 64]


async def test_pushes_that_go_wrong(ada: Visitor, app: Receiver) -> None:
    """They are dropped, come twice, or come with a token that is not the channel's."""
    await watch(ada, app)
    await pushed(ada)
    for switch, calls, token in (("drop_pushes", 0, None), ("duplicate_pushes", 2, "a secret"), ("forge_pushes", 1, "another")):
        app.calls.clear()
        await ada.misbehave(switch, times=1)
        await ada.add()
        await pushed(ada)
        assert len(app.calls) == calls, switch
        if token is not None:
            assert {told == "a secret" for told in app.told("Channel-Token")} == {token == "a secret"}
        if calls == 2:
            assert len(set(app.told("Message-Number"))) == 1
