from __future__ import annotations

import json

from todoist.sandbox.visitor import Visitor

from oo_sdk import Sandbox
from oo_todoist.sandbox import TodoistSandbox


async def test_the_state_shows_people_tasks_tokens_and_requests(stranger: Visitor) -> None:
    """GET /sandbox/state has everything a person wants to know, and no token in full."""
    tokens = await stranger.sign_in()
    await stranger.read()
    await stranger.visit("GET", "/nowhere")
    state = await stranger.control("GET", "state")
    assert [user["name"] for user in state["users"]] == ["ada", "grace"]
    assert "Buy milk" in {task["content"] for task in state["users"][0]["tasks"]}
    assert {(token["kind"], token["state"]) for token in state["tokens"]} == {("access", "alive"), ("refresh", "alive")}
    for text in (tokens["access_token"], tokens["refresh_token"]):
        assert text not in json.dumps(state)
    assert state["requests"] == {
        "GET /oauth/authorize": 1,
        "POST /oauth/authorize": 1,
        "POST /oauth/access_token": 1,
        "POST /api/v1/sync": 1,
        "GET (unknown)": 1,
    }
    await stranger.refresh(tokens["refresh_token"])
    stranger.clock.forward(hours=2)
    states = [token["state"] for token in (await stranger.control("GET", "state"))["tokens"]]
    assert states == ["expired", "spent", "expired", "alive"]


async def test_a_change_happens_as_the_person_would_make_it(ada: Visitor) -> None:
    """POST /sandbox/change takes the same commands, needs no token or scope, and shows in the next incremental sync."""
    since = (await ada.read())["sync_token"]
    commands = [
        {"type": "item_add", "temp_id": "t", "args": {"content": "from the app"}},
        {"type": "item_add", "args": {}},
    ]
    answer = await ada.control("POST", "change", json={"user": "ada", "commands": commands})
    ok, error = answer["sync_status"].values()
    assert (ok, error["error_extra"]["argument"]) == ("ok", "content")
    assert [item["id"] for item in (await ada.read(since))["items"]] == [answer["temp_id_mapping"]["t"]]


async def test_a_change_must_make_sense(stranger: Visitor) -> None:
    """Nobody's change is 404, no list of commands is 400, and a form from a web page is not taken."""
    assert (await stranger.control("POST", "change", json={"user": "nobody", "commands": []}))[0] == 404
    assert (await stranger.control("POST", "change", json={"user": "ada"}))[0] == 400
    assert (await stranger.control("POST", "change", data={"user": "ada"}))[0] == 415
    assert (await stranger.control("POST", "change", json=["ada"]))[0] == 400


async def test_the_front_page_says_what_this_is(stranger: Visitor) -> None:
    """GET / names the client, the addresses and the switches."""
    page = await (await stranger.visit("GET", "/")).text()
    for said in (stranger.sandbox.client_id, stranger.address + "/oauth/access_token", "lost_token_answer"):
        assert said in page


def test_a_sandbox_fits_the_seam() -> None:
    """TodoistSandbox is a Sandbox as the SDK declares it, its settings are the connector's, and its switches have sentences."""
    sandbox: Sandbox = TodoistSandbox()
    assert sandbox.id == "todoist"
    assert sandbox.settings("http://127.0.0.1:1") == {
        "authorize": "http://127.0.0.1:1/oauth/authorize",
        "token": "http://127.0.0.1:1/oauth/access_token",
        "revoke": "http://127.0.0.1:1/api/v1/revoke",
        "api": "http://127.0.0.1:1/api/v1",
    }
    assert all(sandbox.switches.values())
