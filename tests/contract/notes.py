"""A connector for an imagined provider of notes, and that provider: right in everything, and to be broken one thing at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from oo_sdk import (
    Action,
    ActionKind,
    ActionResult,
    Address,
    Change,
    Checkpoint,
    Connector,
    ConnectorError,
    Context,
    Cursor,
    CursorExpired,
    Delivery,
    Event,
    Flow,
    HmacScheme,
    News,
    OAuth2,
    RateLimit,
    Scope,
    Signal,
    Stored,
    StoredCredential,
    Struct,
    Subscription,
    Unreadable,
    decode,
)
from oo_sdk.errors import ConnectorBug
from oo_sdk.testing import Request, Routes, json_answer
from oo_sdk.vocabulary import Document

API = "https://api.notes.example/v1"


class Note(Struct):
    id: str
    title: str


class Page(Struct):
    notes: list[Note]
    cursor: int
    more: bool


class Account(Struct):
    id: str


class Pushed(Struct):
    account: str
    note: Note


class Hook(Struct):
    id: str
    number: str


class NewNote(Struct):
    title: str


class Notes(Connector):
    id = "notes"
    title = "Notes"
    auth = OAuth2(authorize="https://notes.example/authorize", token="https://notes.example/token", revoke="https://notes.example/revoke")
    scopes: Sequence[Scope] = [Scope("read", "See your notes."), Scope("write", "Add notes for you.", "write", required=False)]
    stores: Sequence[Stored] = [Stored("note", "your notes", "show them elsewhere", ["title", "text"])]
    hosts: Sequence[str] = ["api.notes.example"]
    limits = (RateLimit(60, per="minute"),)
    errors: Mapping[int, type[ConnectorError]] = {410: CursorExpired}
    actions = (ActionKind(name="add_note", sentence="Add a note.", arguments=NewNote, scope="write"),)
    webhooks = HmacScheme(header="x-signature", id_header="x-id")

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        stored = await flow.exchange(code)
        return stored.of((await flow.http.get(f"{API}/me", into=Account)).id)

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        cursor = since["cursor"] if since else 0
        while True:
            page = await self.page(ctx, cursor)
            for note in page.notes:
                yield self.event(ctx, note)
            cursor = page.cursor
            yield Checkpoint({"cursor": cursor})
            if not page.more:
                return

    async def page(self, ctx: Context, cursor: int) -> Page:
        return await ctx.http.get(f"{API}/notes", params={"after": cursor}, into=Page)

    def event(self, ctx: Context, note: Note) -> Event:
        return Event("note", note.id, Change.UPSERTED, payload=Document(title=note.title))

    async def act(self, ctx: Context, action: Action) -> ActionResult:
        assert isinstance(action.arguments, NewNote)
        body, headers = {"title": action.arguments.title}, {"Idempotency-Key": self.key(action)}
        made = await ctx.http.request("POST", f"{API}/notes", json=body, headers=headers, into=Note)
        return ActionResult(subject=made.id)

    def key(self, action: Action) -> str:
        return action.key

    async def topics(self, ctx: Context) -> Sequence[str]:
        return ["notes", "trash"]

    async def subscribe(self, ctx: Context, topic: str, address: Address) -> Subscription | None:
        body = {"id": address.id, "topic": topic, "url": address.url, "secret": address.secret}
        made = await ctx.http.post(f"{API}/hooks", json=body, into=Hook)
        return Subscription(id=address.id, topic=topic, handle=made.number, expires_at=ctx.clock.now() + timedelta(days=7))

    async def renew(self, ctx: Context, standing: Subscription, address: Address) -> Subscription | None:
        return await self.subscribe(ctx, standing.topic, address)

    async def unsubscribe(self, ctx: Context, standing: Subscription, address: Address) -> None:
        handle = standing.handle
        if not handle:
            hooks = await ctx.http.get(f"{API}/hooks", into=list[Hook])
            handle = next((hook.number for hook in hooks if hook.id == standing.id), "")
        if handle:
            await self.end(ctx, handle)

    async def end(self, ctx: Context, handle: str) -> None:
        await ctx.http.request("DELETE", f"{API}/hooks/{handle}", accept=(404,))

    async def route(self, delivery: Delivery) -> Sequence[str]:
        return [self.pushed(delivery).account]

    async def read(self, delivery: Delivery) -> Sequence[News]:
        note = self.pushed(delivery).note
        return [Event("note", note.id, Change.UPSERTED, payload=Document(title=note.title))]

    def pushed(self, delivery: Delivery) -> Pushed:
        try:
            return decode(delivery.body, Pushed)
        except ConnectorBug as wrong:
            raise Unreadable(str(wrong)) from None


class World:
    """The notes there are, two to a page, and the keys of those that were added."""

    def __init__(self) -> None:
        self.notes = [{"id": f"n{number}", "title": f"Note {number}"} for number in range(5)]
        self.added: dict[str, dict[str, str]] = {}
        routes = {"GET /v1/notes": self.page, "POST /v1/notes": self.add, "GET /v1/me": lambda _: json_answer({"id": "ada"})}
        self.routes = Routes({**routes, "POST /v1/hooks": self.hook, "GET /v1/hooks": lambda _: json_answer([*self.hooks.values()])})
        self.hooks: dict[str, dict[str, str]] = {}
        self.made = 0

    async def answer(self, request: Request) -> Any:
        if request.method == "DELETE":
            gone = self.hooks.pop(request.path.rpartition("/")[2], None)
            return json_answer({}, status=404 if gone is None else 200)
        return await self.routes.answer(request)

    def hook(self, request: Request) -> Any:
        self.made += 1
        self.hooks[str(self.made)] = {"id": request.json["id"], "number": str(self.made)}
        return json_answer(self.hooks[str(self.made)])

    def page(self, request: Request) -> Any:
        after = int(request.query["after"])
        notes = self.notes[after : after + 2]
        return json_answer({"notes": notes, "cursor": after + len(notes), "more": after + 2 < len(self.notes)})

    def add(self, request: Request) -> Any:
        key = request.headers["idempotency-key"]
        if key not in self.added:
            self.added[key] = {"id": f"n{len(self.notes)}", "title": request.json["title"]}
            self.notes.append(self.added[key])
        return json_answer(self.added[key])
