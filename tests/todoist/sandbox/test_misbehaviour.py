from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from todoist.sandbox.visitor import Visitor

import oo_todoist.sandbox
from oo_todoist.sandbox.misbehaviour import SWITCHES

ITEMS = {"sync_token": "*", "resource_types": ["items"]}


async def misbehave(visitor: Visitor, name: str, times: int | None = 1, **args: Any) -> None:
    answer = await visitor.control("POST", "misbehave", json={"name": name, "times": times, "args": args})
    assert isinstance(answer, dict), answer


async def sync(visitor: Visitor) -> aiohttp.ClientResponse:
    return await visitor.raw("POST", "sync", json=ITEMS)


@pytest.mark.parametrize(
    ("name", "status", "retry_after"),
    [
        ("status_500", 500, None),
        ("status_503", 503, "30"),
        ("status_429", 429, "30"),
        ("status_429_bare", 429, None),
        ("unauthorized", 401, None),
    ],
)
async def test_a_status_instead_of_the_answer(ada: Visitor, name: str, status: int, retry_after: str | None) -> None:
    """The next request gets the status, the one after it the real answer."""
    await misbehave(ada, name)
    answer = await sync(ada)
    assert (answer.status, answer.headers.get("Retry-After")) == (status, retry_after)
    assert (await sync(ada)).status == 200


async def test_retry_after_can_be_a_date(ada: Visitor) -> None:
    """status_429_date says when to return as an HTTP date."""
    await misbehave(ada, "status_429_date", seconds=90)
    answer = await sync(ada)
    assert (parsedate_to_datetime(answer.headers["Retry-After"]) - ada.clock()).total_seconds() == 90


async def test_a_page_instead_of_the_answer(ada: Visitor) -> None:
    """html_answer is 200 with HTML."""
    await misbehave(ada, "html_answer")
    answer = await sync(ada)
    assert (answer.status, answer.content_type) == (200, "text/html")


async def test_a_switch_stays_on_until_it_is_off(ada: Visitor) -> None:
    """Without times a switch stays on; DELETE ends it; it never touches the control side."""
    await misbehave(ada, "status_500", None)
    for _ in range(3):
        assert (await sync(ada)).status == 500
    assert (await ada.control("GET", "misbehave"))["misbehaving"] == {"status_500": {"times": None, "args": {}}}
    await ada.control("DELETE", "misbehave", params={"name": "status_500"})
    assert (await sync(ada)).status == 200


async def test_a_switch_can_be_aimed(ada: Visitor) -> None:
    """With an endpoint in its args a switch works there and nowhere else."""
    await misbehave(ada, "status_500", endpoint="revoke")
    assert (await sync(ada)).status == 200
    assert (await ada.raw("POST", "revoke", headers=ada.basic(), data={"token": "x"})).status == 500


async def test_json_can_end_in_the_middle(ada: Visitor) -> None:
    """truncated_json is a whole HTTP answer with half the JSON."""
    await misbehave(ada, "truncated_json")
    with pytest.raises(ValueError, match=r"."):
        await (await sync(ada)).json()


async def test_a_content_type_can_be_wrong(ada: Visitor) -> None:
    """wrong_content_type is good JSON under text/html."""
    await misbehave(ada, "wrong_content_type")
    answer = await sync(ada)
    assert answer.content_type == "text/html"
    assert (await answer.json(content_type=None))["full_sync"] is True


async def test_an_answer_can_be_slow(ada: Visitor) -> None:
    """slow_answer sleeps before it answers, by the sleep that was handed in."""
    await misbehave(ada, "slow_answer", seconds=77)
    assert (await sync(ada)).status == 200
    assert ada.naps == [77]


async def test_a_body_can_go_on_for_ever(ada: Visitor) -> None:
    """never_ending_body sends more than any answer has, and ends when the client leaves."""
    await misbehave(ada, "never_ending_body")
    answer = await ada.open("POST", "sync", json=ITEMS)
    assert await answer.content.readexactly(1_000_000) == b" " * 1_000_000
    answer.close()
    assert (await sync(ada)).status == 200


async def test_a_connection_can_break(ada: Visitor) -> None:
    """drop_connection sends as many bytes as it was told and breaks off."""
    await misbehave(ada, "drop_connection", bytes=7)
    answer = await ada.open("POST", "sync", json=ITEMS)
    assert await answer.content.read(7) == b'{"sync_'
    with pytest.raises(aiohttp.ClientError):
        await answer.content.read()
    answer.close()
    await misbehave(ada, "drop_connection", bytes=0)
    with pytest.raises(aiohttp.ClientError):
        await sync(ada)


async def test_objects_can_come_strangely(ada: Visitor) -> None:
    """Unknown members, nulls, whole seconds and doubles can be put into answers that are else as they were."""
    plain = (await (await sync(ada)).json())["items"]
    await misbehave(ada, "unknown_fields")
    strange = (await (await sync(ada)).json())["items"]
    assert all(body.pop("sandbox_unknown") for body in strange)
    assert strange == plain
    await misbehave(ada, "null_fields")
    assert all(body["added_at"] is None and body["due"] is None for body in (await (await sync(ada)).json())["items"])
    await misbehave(ada, "whole_seconds")
    assert all(len(body["updated_at"]) == len("2026-11-23T10:00:00Z") for body in (await (await sync(ada)).json())["items"])
    await misbehave(ada, "duplicate_objects")
    assert (await (await sync(ada)).json())["items"] == plain + plain


async def test_pages_can_be_empty(ada: Visitor) -> None:
    """empty_pages gives a page with nothing and a cursor that goes on where it was."""
    _, plain = await ada.api("GET", "tasks")
    await misbehave(ada, "empty_pages", 2)
    _, empty = await ada.api("GET", "tasks")
    assert empty["results"] == []
    _, empty = await ada.api("GET", "tasks", params={"cursor": empty["next_cursor"]})
    assert empty["results"] == []
    assert (await ada.api("GET", "tasks", params={"cursor": empty["next_cursor"]}))[1] == plain


async def test_an_incremental_request_can_be_answered_in_full(ada: Visitor) -> None:
    """forced_full_sync waits for an incremental request and answers full_sync true with everything active."""
    full = await ada.read()
    await misbehave(ada, "forced_full_sync")
    again = await ada.read()
    forced = await ada.read(full["sync_token"])
    assert forced["full_sync"] is True
    assert forced["items"] == again["items"] == full["items"]
    assert (await ada.read(full["sync_token"]))["full_sync"] is False


async def test_a_full_sync_can_be_old(ada: Visitor) -> None:
    """stale_full_sync shows the past and says so; the next incremental sync brings what is missing."""
    kept = await ada.one("item_add", content="kept")
    gone = await ada.one("item_add", content="gone")
    ada.clock.forward(minutes=30)
    new = await ada.one("item_add", content="new")
    await ada.one("item_delete", id=gone)
    await misbehave(ada, "stale_full_sync", seconds=600)
    stale = await ada.read()
    ids = {item["id"] for item in stale["items"]}
    assert stale["full_sync_date_utc"] == "2026-11-23T10:20:00.000000Z"
    assert {kept, gone} <= ids
    assert new not in ids
    rest = await ada.read(stale["sync_token"])
    assert {item["id"]: item["is_deleted"] for item in rest["items"]} == {new: False, gone: True}
    await misbehave(ada, "stale_full_sync", seconds=0)
    assert (await ada.read())["items"] == (await ada.read())["items"]


async def test_rounds_can_be_among_the_completed(ada: Visitor) -> None:
    """completed_rounds lists an open recurring task once for each round that was completed; else it is not there."""
    made = await ada.one("item_add", content="x", due={"string": "every day"})
    await ada.one("item_close", id=made)
    await ada.one("item_update_date_complete", id=made, due={"string": "every day", "date": "2026-11-25"})
    span = {"since": "2026-11-23T00:00:00Z", "until": "2026-11-24T00:00:00Z"}
    path = "tasks/completed/by_completion_date"
    assert (await ada.api("GET", path, params=span))[1]["items"] == []
    await misbehave(ada, "completed_rounds")
    rounds = (await ada.api("GET", path, params=span))[1]["items"]
    assert [(item["id"], item["checked"], item["due"]["date"]) for item in rounds] == [
        (made, True, "2026-11-23"),
        (made, True, "2026-11-24"),
    ]


async def test_sync_tokens_can_be_forgotten(ada: Visitor) -> None:
    """forget_sync_tokens makes the tokens given so far unknown, and new ones work."""
    old = (await ada.read())["sync_token"]
    await misbehave(ada, "forget_sync_tokens")
    status, error = await ada.api("POST", "sync", json={**ITEMS, "sync_token": old})
    assert (status, error["error_extra"]["argument"]) == (400, "sync_token")
    assert (await ada.read((await ada.read())["sync_token"]))["full_sync"] is False


@pytest.mark.parametrize("name", ["lost_token_answer", "token_500_after_rotating"])
async def test_a_rotation_can_get_lost(stranger: Visitor, name: str) -> None:
    """The refresh token is spent though no answer came: within a minute a repeat gives an access token alone, later death."""
    tokens = await stranger.sign_in()
    await misbehave(stranger, name)
    with pytest.raises(aiohttp.ClientError):  # dropped, or a 500 that is no JSON
        await stranger.refresh(tokens["refresh_token"])
    status, again = await stranger.refresh(tokens["refresh_token"])
    assert (status, "refresh_token" in again) == (200, False)
    stranger.clock.forward(seconds=61)
    assert await stranger.refresh(tokens["refresh_token"]) == (400, {"error": "invalid_grant"})


async def test_a_500_need_not_rotate(stranger: Visitor) -> None:
    """token_500_without_rotating leaves the refresh token unspent."""
    tokens = await stranger.sign_in()
    await misbehave(stranger, "token_500_without_rotating")
    with pytest.raises(aiohttp.ClientError):
        await stranger.refresh(tokens["refresh_token"])
    stranger.clock.forward(seconds=61)
    status, again = await stranger.refresh(tokens["refresh_token"])
    assert (status, "refresh_token" in again) == (200, True)


async def test_tokens_can_end_now(stranger: Visitor) -> None:
    """expire_tokens ends access tokens of one user, kill_grant everything of everybody."""
    grace = await stranger.sign_in(user="Grace")
    tokens = await stranger.sign_in()
    await misbehave(stranger, "expire_tokens", user="ada")
    assert (await sync(stranger)).status == 401
    assert (await stranger.refresh(tokens["refresh_token"]))[0] == 200
    stranger.access = grace["access_token"]
    assert (await sync(stranger)).status == 200
    await misbehave(stranger, "kill_grant")
    assert (await sync(stranger)).status == 401
    assert await stranger.refresh(grace["refresh_token"]) == (400, {"error": "invalid_grant"})


async def test_commands_can_fail_one_by_one(ada: Visitor) -> None:
    """fail_commands answers 200 and a 503 for each command, none of which is executed or remembered."""
    await misbehave(ada, "fail_commands", times=1)
    command = ada.command("item_add", "x", content="x")
    answer = await ada.do(command)
    assert answer["sync_status"][command["uuid"]]["http_code"] == 503
    assert answer["temp_id_mapping"] == {}
    assert (await ada.do(command))["sync_status"] == {command["uuid"]: "ok"}


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "unknown"},
        {"name": "status_500", "times": 0},
        {"name": "status_500", "times": "many"},
        {"name": "status_500", "args": {"seconds": 1}},
        {"name": "slow_answer", "args": {"seconds": "long"}},
        {"name": "status_500", "args": {"endpoint": "moon"}},
        {"name": "kill_grant", "args": {"endpoint": "sync"}},
        {"name": "status_500", "args": []},
        {"name": "status_500", "seconds": 1},
    ],
)
async def test_a_switch_that_is_none_is_refused(stranger: Visitor, asked: dict[str, Any]) -> None:
    """Unknown names, arguments and numbers are refused with a sentence, and nothing is switched on."""
    status, _ = await stranger.control("POST", "misbehave", json=asked)
    assert status == 400
    assert (await stranger.control("GET", "misbehave"))["misbehaving"] == {}


def test_every_switch_is_proved_here_and_told_in_the_readme() -> None:
    """No switch is without a test, and the README's table names each with its sentence."""
    proofs = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    readme = (Path(oo_todoist.sandbox.__file__).parent / "README.md").read_text()
    for name, switch in SWITCHES.items():
        assert f'"{name}"' in proofs
        assert f"| `{name}` | {switch.what} |" in readme


async def test_bursts_are_served_together(ada: Visitor) -> None:
    """A slow answer holds up nobody else."""
    answers = await asyncio.gather(*(sync(ada) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
