"""The Todoist connector against prepared answers: every way that a sync, a sign-in or a revocation can go."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from todoist.scripted import NOW, Asked, Script, SignIn, answer, context, everything

import oo_todoist
from oo_sdk import (
    ApiRetired,
    Change,
    Checkpoint,
    ClientAuth,
    ConnectorBug,
    ConnectorError,
    CursorExpired,
    Event,
    Listing,
    Placeholder,
    Raw,
    RetryLater,
    Revoked,
    Sign,
    Signal,
    SignInAgain,
    Unreadable,
)
from oo_sdk.vocabulary import Task
from oo_todoist import Todoist
from oo_todoist.meaning import TASKS, read

REALDATA = Path(__file__).parents[2].parent / "shared" / "realdata" / "todoist"

API = "https://api.todoist.com/api/v1"
COMPLETED = f"{API}/tasks/completed/by_completion_date"
RESOURCES = ["projects", "sections", "labels", "items", "notes", "project_notes", "reminders"]
#: What a listing shows all of; of comments it shows only those on what is active.
LISTED = ("project", "section", "label", "task", "reminder")

#: History that fits into one request: every listing then asks for completed tasks exactly once.
RECENT = NOW - timedelta(days=30)
CURSOR = {"sync_token": "one", "resources": RESOURCES, "completed_from": RECENT.isoformat()}
NONE_COMPLETED: Mapping[str, Any] = {"items": [], "next_cursor": None}


def item(id_: str, **members: Any) -> dict[str, Any]:
    """Make a task as Todoist shows it."""
    return {"id": id_, "content": f"task {id_}", "updated_at": "2026-11-22T11:00:00Z"} | members


def done(id_: str, at: str = "2026-11-20T10:00:00.000000Z", **members: Any) -> dict[str, Any]:
    """Make a completed task."""
    return item(id_, checked=True, completed_at=at) | members


def folder(id_: str, **members: Any) -> dict[str, Any]:
    """Make a project as Todoist shows it."""
    return {"id": id_, "name": f"project {id_}"} | members


def full(token: str, *items: Any, projects: tuple[Any, ...] = (), at: str | None = "2026-11-22T12:00:00Z") -> dict[str, Any]:
    """Make the answer of a full sync, of `at`."""
    objects = dict.fromkeys(RESOURCES, ()) | {"items": items, "projects": projects}
    body = {"sync_token": token, "full_sync": True, "full_sync_date_utc": at} | {name: [*some] for name, some in objects.items()}
    return {name: value for name, value in body.items() if value is not None}


def partial(token: str, *items: Any, projects: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Make the answer of an incremental sync."""
    return {"sync_token": token, "full_sync": False, "items": [*items], "projects": [*projects]}


def without(name: str) -> tuple[str, ...]:
    """Give what is listed but for one name."""
    return tuple(each for each in LISTED if each != name)


async def sync(
    *answers: Any, since: Mapping[str, Any] | None = CURSOR, first_fetch_from: datetime | None = RECENT
) -> tuple[list[Signal], list[Asked]]:
    """Run one sync; every prepared answer must be asked for."""
    script = Script(*answers)
    signals = await everything(Todoist().fetch_signals(context(script, first_fetch_from=first_fetch_from), since))
    assert script.answers == []
    return signals, script.asked


def events(signals: list[Signal]) -> list[tuple[str, str, Change]]:
    """Name the events among them."""
    return [(each.name, each.subject, each.change) for each in signals if isinstance(each, Event)]


def states(signals: list[Signal]) -> dict[str, bool]:
    """Say which tasks were told, and whether the last word was that they are completed."""
    return {each.subject: each.payload.completed for each in signals if isinstance(each, Event) and isinstance(each.payload, Task)}


def checkpoint(signals: list[Signal]) -> Checkpoint:
    """Give the checkpoint: there is one, and it comes last."""
    last = signals[-1]
    assert isinstance(last, Checkpoint)
    assert not any(isinstance(each, Checkpoint) for each in signals[:-1])
    return last


# --- fetching --------------------------------------------------------------------------------------------------------


async def test_a_first_fetch_lists_everything() -> None:
    """A first fetch asks for everything, and gives a listing: projects, tasks, and the checkpoint that ends it."""
    signals, asked = await sync(full("one", item("t1"), projects=(folder("p1"),)), NONE_COMPLETED, since=None)
    assert signals[0] == Listing()
    assert events(signals) == [("project", "p1", Change.UPSERTED), ("task", "t1", Change.UPSERTED)]
    assert checkpoint(signals) == Checkpoint(CURSOR, listed=LISTED)
    assert (asked[0].method, asked[0].url, asked[0].sign) == ("POST", f"{API}/sync", Sign.USER)
    assert asked[0].form["sync_token"] == "*"
    assert json.loads(asked[0].form["resource_types"]) == RESOURCES


async def test_the_documented_empty_full_sync() -> None:
    """The documentation's example of a full sync, which has nothing in it and no date, is a listing of nothing."""
    if not REALDATA.is_dir():
        pytest.skip("the published bodies are not on this machine")
    body = json.loads((REALDATA / "doc_sync_full_empty_response.json").read_text())
    signals, _ = await sync(body, NONE_COMPLETED, since=None)
    assert signals == [
        Listing(),
        Checkpoint(CURSOR | {"sync_token": body["sync_token"]}, listed=LISTED),
    ]


async def test_an_incremental_sync_gives_what_changed() -> None:
    """An incremental sync asks with the cursor's token, and ends no listing."""
    changed = partial("two", item("t1"), done("t2"), item("t3", is_deleted=True), projects=(folder("p1", is_deleted=True),))
    signals, asked = await sync(changed)
    assert events(signals) == [
        ("project", "p1", Change.DELETED),
        ("task", "t1", Change.UPSERTED),
        ("task", "t2", Change.UPSERTED),
        ("task", "t3", Change.DELETED),
    ]
    assert states(signals) == {"t1": False, "t2": True}
    assert checkpoint(signals) == Checkpoint(CURSOR | {"sync_token": "two"})
    assert [each.form["sync_token"] for each in asked] == ["one"]


@pytest.mark.parametrize("body", [partial("two"), partial("two") | {"full_sync_date_utc": "2026-11-01T00:00:00Z"}, {"sync_token": "two"}])
async def test_nothing_new(body: dict[str, Any]) -> None:
    """Where nothing is new the cursor still moves."""
    signals, _ = await sync(body)
    assert signals == [Checkpoint(CURSOR | {"sync_token": "two"})]


async def test_the_cursor_survives_json() -> None:
    """A cursor that was kept as JSON is the same cursor."""
    signals, _ = await sync(full("one"), NONE_COMPLETED, since=None)
    kept = json.loads(json.dumps(checkpoint(signals).cursor))
    assert kept == checkpoint(signals).cursor
    again, asked = await sync(partial("two"), since=kept)
    assert asked[0].form["sync_token"] == "one"
    assert checkpoint(again).cursor == CURSOR | {"sync_token": "two"}


@pytest.mark.parametrize("resources", [["items"], ["projects", "items"]])
async def test_a_cursor_for_other_resources_lists_again(resources: list[str]) -> None:
    """A token made for other resources, as by an older oO, says nothing about ours: everything is listed again, history kept."""
    signals, asked = await sync(full("two"), NONE_COMPLETED, since=CURSOR | {"resources": resources})
    assert asked[0].form["sync_token"] == "*"
    assert checkpoint(signals) == Checkpoint(CURSOR | {"sync_token": "two"}, listed=LISTED)


async def test_a_full_answer_to_an_incremental_request() -> None:
    """When Todoist sends everything instead of the changes, that is a listing too."""
    signals, asked = await sync(full("two", item("t1")), NONE_COMPLETED)
    assert asked[0].form["sync_token"] == "one"
    assert signals[0] == Listing()
    assert checkpoint(signals).listed == LISTED


async def test_all_that_belongs_to_tasks() -> None:
    """Sections, labels, comments on tasks and on projects, and reminders become events, what holds others before what it holds."""
    changed = partial("two", item("t1")) | {
        "sections": [{"id": "s1", "name": "Cards"}],
        "labels": [{"id": "l1", "name": "errand"}],
        "notes": [{"id": "n1", "content": "soon", "item_id": "t1"}, {"id": "n3", "is_deleted": True}],
        "project_notes": [{"id": "n2", "content": "all of it", "project_id": "p1"}],
        "reminders": [{"id": "r1", "item_id": "t1", "minute_offset": 30}],
    }
    signals, _ = await sync(changed)
    assert events(signals) == [
        ("section", "s1", Change.UPSERTED),
        ("label", "l1", Change.UPSERTED),
        ("task", "t1", Change.UPSERTED),
        ("comment", "n1", Change.UPSERTED),
        ("comment", "n3", Change.DELETED),
        ("comment", "n2", Change.UPSERTED),
        ("reminder", "r1", Change.UPSERTED),
    ]


# --- completed tasks -------------------------------------------------------------------------------------------------


async def test_a_listing_goes_on_with_completed_tasks() -> None:
    """A task that a listing does not show because it was completed is told as completed, and so is not taken for deleted."""
    completed = {"items": [done("t2"), done("t3", checked=False)], "next_cursor": None}
    signals, asked = await sync(full("two", item("t1")), completed)
    assert states(signals) == {"t1": False, "t2": True, "t3": True}
    assert (asked[1].method, asked[1].url) == ("GET", COMPLETED)
    assert asked[1].params == {"since": "2026-10-23T12:00:00Z", "until": "2026-11-22T13:00:00Z", "limit": 200}


async def test_an_active_task_is_not_completed_by_its_past() -> None:
    """A recurring task that is listed as open stays open, though it has been finished before."""
    signals, _ = await sync(full("two", item("t1")), {"items": [done("t1")], "next_cursor": None})
    assert states(signals) == {"t1": False}


async def test_completed_tasks_come_in_pages() -> None:
    """Every page of completed tasks is read, with the same question, and a task on two of them is told once."""
    signals, asked = await sync(
        full("two"),
        {"items": [done("t1"), done("t2")], "next_cursor": "more"},
        {"items": [], "next_cursor": "even more"},
        {"items": [done("t2"), done("t3")], "next_cursor": None},
    )
    assert [subject for _, subject, _ in events(signals)] == ["t1", "t2", "t3"]
    assert [each.params.get("cursor") for each in asked[1:]] == [None, "more", "even more"]
    assert len({(each.params["since"], each.params["until"]) for each in asked[1:]}) == 1


async def test_pages_without_an_end() -> None:
    """A page that leads to itself is not followed for ever."""
    page = {"items": [], "next_cursor": "more"}
    with pytest.raises(RetryLater):
        await sync(full("two"), page, page)


async def test_a_long_history_is_asked_for_in_spans() -> None:
    """No request covers more than three months; the spans touch, newest first, and go back to the first one told."""
    since = NOW - timedelta(days=200)
    signals, asked = await sync(full("two"), *[NONE_COMPLETED] * 3, since=CURSOR | {"completed_from": since.isoformat()})
    spans = [(each.params["since"], each.params["until"]) for each in asked[1:]]
    assert spans[0][1] == "2026-11-22T13:00:00Z"
    assert spans[-1][0] == "2026-05-06T12:00:00Z"
    assert [until for _, until in spans[1:]] == [begin for begin, _ in spans[:-1]]
    assert all(datetime.fromisoformat(until) - datetime.fromisoformat(begin) <= timedelta(days=89) for begin, until in spans)
    assert checkpoint(signals).cursor["completed_from"] == since.isoformat()


@pytest.mark.parametrize("first_fetch_from", [None, datetime(2007, 1, 1, tzinfo=UTC)])
async def test_history_is_bounded(first_fetch_from: datetime | None) -> None:
    """Five years of completed tasks are read at most, and that many where nobody says how far to go back."""
    _, asked = await sync(full("one"), *[NONE_COMPLETED] * 21, since=None, first_fetch_from=first_fetch_from)
    assert asked[-1].params["since"] == "2021-11-23T12:00:00Z"


async def test_no_history() -> None:
    """A first fetch that goes back to no earlier than now reads only the margin that two clocks need."""
    _, asked = await sync(full("one"), NONE_COMPLETED, since=None, first_fetch_from=NOW)
    assert asked[1].params["since"] == "2026-11-22T12:00:00Z"


async def test_an_older_completion_widens_the_history() -> None:
    """When a task is told that was completed before the history began, the next listing looks back as far as that."""
    signals, _ = await sync(partial("two", done("t1", at="2026-09-01T00:00:00Z")))
    cursor = checkpoint(signals).cursor
    assert cursor["completed_from"] == "2026-09-01T00:00:00+00:00"
    _, asked = await sync(full("three"), NONE_COMPLETED, since=cursor)
    assert asked[1].params["since"] == "2026-09-01T00:00:00Z"


# --- stale listings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["2026-11-22T11:58:59Z", "2026-11-22T11:58:59.5", "2026-11-22T12:01:01Z", "yesterday"])
async def test_a_stale_listing_is_brought_up_to_date(at: str) -> None:
    """A full sync that was not made now is followed at once by an incremental one, within the same listing."""
    signals, asked = await sync(full("two", item("t1"), item("t2"), at=at), NONE_COMPLETED, partial("three", done("t1"), item("t3")))
    assert [each.form.get("sync_token") for each in asked] == ["one", None, "two"]
    assert states(signals) == {"t1": True, "t2": False, "t3": False}
    assert signals.count(Listing()) == 1
    assert checkpoint(signals) == Checkpoint(CURSOR | {"sync_token": "three"}, listed=LISTED)


@pytest.mark.parametrize("at", ["2026-11-22T11:59:00Z", "2026-11-22T12:00:59.123456Z", None])
async def test_a_fresh_listing_needs_no_more(at: str | None) -> None:
    """A full sync of the last minute, or one that does not say when it was made, is taken as it is."""
    await sync(full("two", at=at), NONE_COMPLETED)


async def test_two_full_answers_in_a_row() -> None:
    """When the second answer is a full one too, the listing starts again, and it is the last."""
    old = "2026-11-22T10:00:00Z"
    signals, _ = await sync(full("two", item("t1"), at=old), NONE_COMPLETED, full("three", item("t2"), at=old), NONE_COMPLETED)
    assert signals.count(Listing()) == 2
    assert checkpoint(signals) == Checkpoint(CURSOR | {"sync_token": "three"}, listed=LISTED)


# --- what makes no sense ---------------------------------------------------------------------------------------------


async def test_one_unreadable_item_is_set_aside() -> None:
    """An item that makes no sense is set aside, and the others and the cursor go on."""
    signals, _ = await sync(partial("two", item("t1"), item("t2", content=7), item("t3")))
    assert [subject for _, subject, _ in events(signals)] == ["t1", "t3"]
    assert [each.subject for each in signals if isinstance(each, Unreadable)] == ["t2"]
    assert checkpoint(signals).cursor["sync_token"] == "two"


@pytest.mark.parametrize(
    ("listing", "completed", "listed"),
    [
        (full("two", item("t1", content=7)), [], without("task")),
        (full("two") | {"labels": [{"id": "l1"}]}, [], without("label")),
        (full("two") | {"notes": [{"id": "n1", "content": 7}]}, [], LISTED),
        (full("two", projects=(folder("p1", name=None),)), [], without("project")),
        (full("two"), [done("t1", content=7)], without("task")),
        (full("two"), [{}, {}], without("task")),
    ],
)
async def test_nothing_is_missing_from_a_listing_that_cannot_be_read(listing: Any, completed: list[Any], listed: tuple[str, ...]) -> None:
    """Where an object of a listing cannot be read, no object of its kind is taken for deleted."""
    signals, _ = await sync(listing, {"items": completed, "next_cursor": None})
    assert sum(isinstance(each, Unreadable) for each in signals) == max(1, len(completed))
    assert checkpoint(signals).listed == listed


@pytest.mark.parametrize("missing", RESOURCES)
async def test_a_full_sync_that_lacks_a_resource(missing: str) -> None:
    """A full sync that does not even have a resource's list is not taken for an empty list."""
    body = full("two", item("t1"))
    del body[missing]
    with pytest.raises(ConnectorBug, match=f"lacks {missing}"):
        await sync(body)


@pytest.mark.parametrize("body", [{"sync_token": ""}, {"error": "oops", "http_code": 500}, [], {"sync_token": "two", "items": {}}])
async def test_an_answer_of_another_shape(body: Any) -> None:
    """An answer that is no answer of /sync moves no cursor."""
    with pytest.raises(ConnectorBug):
        await sync(body)


# --- refusals --------------------------------------------------------------------------------------------------------


def refusal(status: int, argument: str) -> dict[str, Any]:
    """Make the body of a refusal, in the documented shape."""
    extra = {"argument": argument}
    return {"error": "Invalid argument value", "error_code": 20, "error_extra": extra, "error_tag": "INVALID_ARGUMENT_VALUE"} | {
        "http_code": status
    }


@pytest.mark.parametrize(
    ("status", "argument", "meant"),
    [
        (400, "sync_token", CursorExpired),
        (403, "sync_token", CursorExpired),
        (404, "sync_token", CursorExpired),
        (410, "sync_token", CursorExpired),
        (400, "resource_types", ConnectorBug),
        (401, "sync_token", SignInAgain),
        (403, "access_token", SignInAgain),
        (404, "", ConnectorBug),
        (410, "", ApiRetired),
        (429, "sync_token", RetryLater),
        (503, "sync_token", RetryLater),
    ],
)
async def test_refusals(status: int, argument: str, meant: type[ConnectorError]) -> None:
    """A refused sync token means to start over, 410 that the API is gone, and 403 that a scope is missing."""
    refused = answer(refusal(status, argument), status)
    with pytest.raises(meant):
        await sync(refused, refused)


async def test_a_forgotten_token_is_followed_by_a_listing() -> None:
    """A sync token that Todoist has forgotten leads to a listing at once, with the history back to where it was read before."""
    refused = answer(refusal(400, "sync_token"), 400)
    script = Script(refused, full("two", item("t1")), {"items": [], "next_cursor": None}, {"items": [], "next_cursor": None})
    signals = [signal async for signal in Todoist().fetch_signals(context(script), CURSOR)]
    assert signals[0] == Listing()
    assert isinstance(signals[-1], Checkpoint)
    assert signals[-1].cursor == {**CURSOR, "sync_token": "two"}
    assert [asked.form.get("sync_token") for asked in script.asked[:2]] == [CURSOR["sync_token"], "*"]


async def test_a_missing_scope_is_named() -> None:
    """Who may not read is told which scope is missing and what to do."""
    with pytest.raises(SignInAgain, match=r"the scope data:read was not granted; connect again"):
        await sync(answer({"error": "Insufficient Token scope"}, 403))


async def test_a_refused_history_ends_no_listing() -> None:
    """When the completed tasks cannot be read the listing does not end, so nothing is taken for deleted."""
    signals = Todoist().fetch_signals(context(Script(full("two", item("t1")), answer({}, 500))), CURSOR)
    assert [await anext(signals) for _ in range(2)] == [Listing(), read(TASKS, Raw(json.dumps(item("t1")).encode()))]
    with pytest.raises(RetryLater):
        await anext(signals)


# --- signing in and out ----------------------------------------------------------------------------------------------


async def test_signing_in_names_the_account() -> None:
    """After the exchange one signed-in request learns whose account it is."""
    todoist = Todoist()
    user = {"id": "2671355", "email": "alice@example.com", "full_name": "Alice", "token": "hush", "tz_info": {"timezone": "Europe/Paris"}}
    flow = SignIn(auth=todoist.auth, http=Script({"sync_token": "x", "full_sync": True, "user": user}))
    credential = await todoist.finish_oauth(flow, "the-code")
    assert flow.codes == ["the-code"]
    assert (credential.account_id, credential.label, credential.meta) == ("2671355", "alice@example.com", {"zone": "Europe/Paris"})
    assert (credential.refreshable, credential.expires_in) == (True, 3600)
    [asked] = flow.http.asked
    assert (asked.method, asked.url, asked.sign) == ("POST", f"{API}/sync", Sign.USER)
    assert asked.form == {"sync_token": "*", "resource_types": '["user"]'}


async def test_signing_in_without_an_address() -> None:
    """An account without an e-mail address is known by its name."""
    flow = SignIn(auth=Todoist().auth, http=Script({"user": {"id": "1", "email": None, "full_name": "Alice"}}))
    assert (await Todoist().finish_oauth(flow, "the-code")).label == "Alice"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (answer({"user": {}}), ConnectorBug),
        (answer({"user": {"id": ""}}), ConnectorBug),
        (answer({"error": "Insufficient Token scope"}, 403), SignInAgain),
        (answer({"error": "Unauthorized"}, 401), SignInAgain),
        (answer(b"", 503), RetryLater),
    ],
)
async def test_signing_in_that_fails(given: Any, meant: type[ConnectorError]) -> None:
    """A credential that cannot tell whose it is is not kept."""
    with pytest.raises(meant):
        await Todoist().finish_oauth(SignIn(auth=Todoist().auth, http=Script(given)), "the-code")


async def test_where_the_browser_goes() -> None:
    """The person is sent to Todoist with the scopes separated by commas, and with a challenge only where there is one."""
    flow = SignIn(auth=Todoist().auth, http=Script())
    url = (await Todoist().begin_oauth(flow)).url
    assert url.startswith("https://app.todoist.com/oauth/authorize?")
    assert "scope=data%3Aread%2Cdata%3Aread_write" in url
    assert "code_challenge" not in url


async def test_revoking() -> None:
    """The access token is revoked as Todoist wants it, the refresh token is never sent, and what remains is said."""
    script = Script(answer(b"null"))
    revocation = await Todoist().revoke(context(script))
    [asked] = script.asked
    assert (asked.method, asked.url, asked.sign) == ("POST", f"{API}/revoke", Sign.CLIENT)
    assert asked.json == {"token": Placeholder.ACCESS_TOKEN, "token_type_hint": "access_token"}
    assert not asked.form
    assert revocation.revoked is Revoked.PARTLY
    assert "refresh token" in revocation.remains
    assert revocation.manual_url == Todoist.manual_revocation == "https://app.todoist.com/app/settings/integrations"


async def test_revoking_that_fails() -> None:
    """A revocation that Todoist does not answer is not reported as done."""
    with pytest.raises(RetryLater):
        await Todoist().revoke(context(Script(answer(b"", 503))))


# --- declarations ----------------------------------------------------------------------------------------------------


def test_the_sign_in_it_declares() -> None:
    """What is peculiar about Todoist's OAuth is declared."""
    auth = Todoist().auth
    assert auth.client_auth is ClientAuth.POST
    assert auth.scope_separator == ","
    assert not auth.pkce
    assert (auth.rotation.rotates, auth.rotation.grace, auth.rotation.reuse_kills) == (True, timedelta(seconds=60), True)
    assert auth.errors["bad_authorization_code"] == "invalid_grant"
    assert auth.errors["incorrect_application_credentials"] == "invalid_client"


@pytest.mark.parametrize("name", ["doc_oauth_error_bad_client.json", "doc_oauth_error_bad_code.json"])
def test_documented_oauth_errors_are_translated(name: str) -> None:
    """Every error word of the documentation's token endpoint has a translation."""
    if not REALDATA.is_dir():
        pytest.skip("the published bodies are not on this machine")
    assert json.loads((REALDATA / name).read_text())["error"] in Todoist().auth.errors


def test_the_scopes_it_declares() -> None:
    """Reading is required and writing is optional, each with a sentence."""
    assert [(scope.id, scope.access, scope.required) for scope in Todoist.scopes] == [
        ("data:read", "read", True),
        ("data:read_write", "write", False),
    ]
    assert all(scope.sentence.endswith(".") for scope in Todoist.scopes)


def test_hosts_follow_the_settings() -> None:
    """The credential goes to the hosts of the settings and nowhere else."""
    todoist = Todoist()
    assert todoist.hosts == ["api.todoist.com"]
    local = "http://127.0.0.1:8800"
    todoist.settings = Todoist.Settings(
        authorize=f"{local}/oauth/authorize", token=f"{local}/token", revoke=f"{local}/revoke", api=f"{local}/api/v1", pkce=True
    )
    assert todoist.hosts == ["127.0.0.1:8800"]
    assert (todoist.auth.token, todoist.auth.revoke, todoist.auth.pkce) == (f"{local}/token", f"{local}/revoke", True)
    assert Todoist().hosts == ["api.todoist.com"]


async def test_requests_follow_the_settings() -> None:
    """Another address of the API is the one that is asked."""
    todoist = Todoist()
    todoist.settings = Todoist.Settings(api="http://127.0.0.1:8800/api/v1")
    script = Script(full("two"), NONE_COMPLETED)
    await everything(todoist.fetch_signals(context(script), CURSOR))
    assert {each.url.partition("/api")[0] for each in script.asked} == {"http://127.0.0.1:8800"}


def test_the_hook_offers_it() -> None:
    """The package offers the connector through the hook that every package has."""
    [connector] = oo_todoist.oo_connectors()
    assert isinstance(connector, Todoist)
    assert (connector.id, connector.title) == ("todoist", "Todoist")


def test_the_hook_offers_a_stand_in() -> None:
    """The package offers a sandbox for the same connector, whose settings the connector takes."""
    [sandbox] = oo_todoist.oo_sandboxes()
    assert sandbox.id == Todoist.id
    assert set(sandbox.settings("http://127.0.0.1:8800")) == {*Todoist.Settings.__struct_fields__} - {"pkce"}


def test_it_is_a_guest() -> None:
    """The connector imports the SDK and nothing else of ours."""
    ours = set()
    for file in Path(oo_todoist.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            ours |= {name.partition(".")[0] for name in names if name.startswith("oo_")}
    assert ours == {"oo_sdk", "oo_todoist"}
