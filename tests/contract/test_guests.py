"""Our guests keep the contract: the class that strangers are given."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from apple_health.generator import Phone
from oo_apple_health import AppleHealth
from oo_google_calendar import GoogleCalendar
from oo_google_calendar.sandbox import GoogleCalendarSandbox
from oo_google_calendar.sandbox.control import Control
from oo_google_calendar.sandbox.grants import Ask
from oo_google_calendar.sandbox.wire import Asked

from oo_sdk import Checkpoint, Connector, Cursor, Delivery, Response, Told, Upload, decode
from oo_sdk.testing import Broken, ConnectorContract, Provider, Request, json_answer
from oo_todoist import Todoist
from oo_webhook.connector import Webhook

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SAMPLE = "".join(Phone(records=40, days=20).lines()).encode()
PUSH = b'{"data": {"metrics": [{"name": "step_count", "units": "count", "data": [{"date": "2026-11-21 00:00:00 +0100", "qty": 7}]}]}}'
GOOGLE = "https://google.example"
ADA, GRACE = "ada@example.com", "grace@example.com"
#: The calendar of the sandbox that is nobody's own.
ENGINE = next(id_ for id_ in GoogleCalendarSandbox().world.calendars if id_ not in (ADA, GRACE))


class TodoistTasks:
    """As much of Todoist as a sync and the commands need: a first sync tells everything, a later one what changed."""

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = [task(f"t{number}") for number in range(4)]
        self.done: dict[str, str] = {}

    async def answer(self, request: Request) -> Response:
        """Answer /sync and the list of completed tasks."""
        if request.path.endswith("/by_completion_date"):
            return json_answer({"items": [task("old", checked=True)], "next_cursor": None})
        if not request.path.endswith("/sync"):
            return json_answer({}, status=404)
        if "commands" in request.form:
            return json_answer(self._commanded(json.loads(request.form["commands"])))
        if request.form["sync_token"] != "*":
            return json_answer({"sync_token": "second", "full_sync": False})
        names = json.loads(request.form["resource_types"])
        account = {"user": {"id": "7", "email": "ada@example.com", "full_name": "Ada"}}
        empty: dict[str, list[Any]] = {name: [] for name in names if name != "user"}
        return json_answer({"sync_token": "first", "full_sync": True, **empty, **account, "items": self.tasks})

    def _commanded(self, commands: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        ids = {}
        for command in commands:
            if command["uuid"] not in self.done:
                self.done[command["uuid"]] = f"new{len(self.done)}"
                if command["type"] == "item_add":
                    self.tasks.append(task(self.done[command["uuid"]]))
            if "temp_id" in command:
                ids[command["temp_id"]] = self.done[command["uuid"]]
        return {"sync_status": {command["uuid"]: "ok" for command in commands}, "temp_id_mapping": ids}


def task(id_: str, *, checked: bool = False) -> dict[str, Any]:
    """A task."""
    return {
        "id": id_,
        "user_id": "7",
        "project_id": "p",
        "content": f"Task {id_}",
        "description": "",
        "labels": [],
        "priority": 1,
        "checked": checked,
        "completed_at": "2026-11-20T09:00:00Z" if checked else None,
        "is_deleted": False,
        "added_at": "2026-11-01T09:00:00Z",
        "updated_at": "2026-11-02T09:00:00Z",
    }


class TestTodoist(ConnectorContract):
    """Todoist."""

    connector = Todoist
    deliveries: ClassVar[Sequence[Delivery]] = [
        Delivery(id="1", headers={}, body=b'{"event_name": "item:added", "user_id": "7"}', received_at=NOW)
    ]
    acts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "complete_task": {"id": "t1"},
        "reopen_task": {"id": "t1"},
        "add_task": {"title": "Milk"},
        "update_task": {"id": "t1", "title": "Bread"},
    }

    def provider(self) -> Provider:
        """Four tasks, and one that was completed."""
        return TodoistTasks()

    def things(self, provider: Provider) -> object:
        """Tasks, and which commands were done."""
        assert isinstance(provider, TodoistTasks)
        return provider.tasks, sorted(provider.done)


class Google:
    """The sandbox of Google Calendar, for whom it signed in beforehand."""

    def __init__(self) -> None:
        numbers = iter(range(10**6))
        self.sandbox = GoogleCalendarSandbox(now=lambda: NOW, token=lambda: f"token-{next(numbers)}", testing=False)
        self.control = Control(self.sandbox.world, self.sandbox.misbehaviour, self.sandbox.provider, self.sandbox.channels)
        for number in range(3):
            at = {"dateTime": f"2026-11-2{number}T12:00:00Z", "timeZone": "UTC"}
            self.entry({"id": f"lunch{number}", "summary": f"Lunch {number}", "start": at, "end": at})
        guests = [{"email": ADA}]
        self.entry({"id": "invite0", "summary": "Moths", "start": at, "end": at, "attendees": guests}, who=GRACE)
        client = self.sandbox.world.grants.clients[self.sandbox.client_id]
        ask = Ask(
            client=client,
            scopes=tuple(scope.id for scope in GoogleCalendar.scopes),
            redirect_uri="https://oo.example/callback",
            state="",
            challenge=None,
            offline=True,
            again=True,
            incremental=False,
        )
        code = self.sandbox.world.grants.code(ask, ADA, ask.scopes)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": ask.redirect_uri,
            "client_id": self.sandbox.client_id,
            "client_secret": self.sandbox.client_secret,
        }
        self.token = self.sandbox.world.grants.exchange(form)["access_token"]

    def entry(self, body: Mapping[str, Any], who: str = ADA) -> None:
        """Add an entry, as a person does."""
        answer = self.control.as_person(who, "POST", "calendars/primary/events", {}, json.dumps(body).encode())
        assert answer.status < 300, answer.body

    async def answer(self, request: Request) -> Response:
        """Hand a request in."""
        parts = urlsplit(request.url)
        asked = Asked(
            method=request.method,
            path=tuple(unquote(part) for part in parts.path.strip("/").split("/")),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=dict(request.headers) | {"authorization": f"Bearer {self.token}"},
            body=request.body,
        )
        self.sandbox.misbehaviour.on("small_pages", items=2)
        answer = self.sandbox.provider.answer(asked)
        body = answer.body.encode() if isinstance(answer.body, str) else answer.encoded()
        headers = {"content-type": "application/json"} | {name.lower(): value for name, value in answer.headers.items()}
        return Response(status=answer.status, headers=headers, body=body)


def google() -> Connector:
    """The connector, pointed at the sandbox."""
    made = GoogleCalendar()
    made.settings = decode(json.dumps(GoogleCalendarSandbox().settings(GOOGLE)).encode(), GoogleCalendar.Settings)
    return made


class TestGoogleCalendar(ConnectorContract):
    """Google Calendar."""

    connector = google
    meta: ClassVar[Mapping[str, Any]] = {"calendar": ADA}
    deliveries: ClassVar[Sequence[Delivery]] = [
        Delivery(id=state, headers={"x-goog-channel-id": "c1", "x-goog-resource-state": state}, body=b"", received_at=NOW)
        for state in ("sync", "exists", "not_exists")
    ]
    acts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "add_entry": {"title": "Tea", "start": "2026-11-23T16:00:00Z", "end": "2026-11-23T17:00:00Z"},
        "update_entry": {"id": f"{ADA}/lunch0", "title": "Dinner"},
        "move_entry": {"id": f"{ADA}/lunch1", "calendar": ENGINE},
        "delete_entry": {"id": f"{ADA}/lunch2"},
        "answer_invitation": {"id": f"{ADA}/invite0", "answer": "accepted"},
    }

    def provider(self) -> Provider:
        """Three entries of this test beside those of the sandbox, and an invitation."""
        return Google()

    def things(self, provider: Provider) -> object:
        """Every entry of every calendar, with its version."""
        assert isinstance(provider, Google)
        query = {"showDeleted": "true"}
        return [provider.control.as_person(ADA, "GET", f"calendars/{id_}/events", query, b"").body["items"] for id_ in (ADA, ENGINE)]

    def standing(self, provider: Provider) -> object:
        """What some channel tells of."""
        assert isinstance(provider, Google)
        return sorted(channel.resource for channel in provider.sandbox.channels.open_ones())


class TestWebhook(ConnectorContract):
    """What anything posts."""

    connector = Webhook
    deliveries: ClassVar[Sequence[Delivery]] = [
        Delivery(id=str(number), headers={}, body=f'{{"a": {number}}}'.encode(), received_at=NOW) for number in range(3)
    ]


class TestAppleHealth(ConnectorContract):
    """Exports of the Health app, and pushes of a phone."""

    connector = AppleHealth
    deliveries: ClassVar[Sequence[Delivery]] = [Delivery(id="d1", headers={}, body=PUSH, received_at=NOW)]
    uploads: ClassVar[Sequence[Upload]] = [Upload(name="export.xml", size=len(SAMPLE), open=lambda: io.BytesIO(SAMPLE))]


class Forgetful(AppleHealth):
    """Begins after a fifth of what it should tell again."""

    def parse(self, upload: Upload, since: Cursor | None) -> Iterator[Told]:
        """Tell everything from the beginning, and nothing of it when going on."""
        told = list(super().parse(upload, None))
        yield Checkpoint({"part": 0})
        yield from () if since else told


class Deaf(AppleHealth):
    """Gives no checkpoint."""

    def parse(self, upload: Upload, since: Cursor | None) -> Iterator[Told]:
        """Leave checkpoints out."""
        return (each for each in super().parse(upload, since) if not isinstance(each, Checkpoint))


@pytest.mark.parametrize(("broken", "says"), [(Deaf, "events and a checkpoint"), (Forgetful, "the same after dying")])
def test_files_are_shown_red_too(broken: type[Connector], says: str) -> None:
    """A file that cannot be gone on with fails its test."""
    contract = type("Contract", (TestAppleHealth,), {"connector": broken})()
    with pytest.raises(Broken, match=says):
        contract.test_reads_files_from_any_checkpoint()
