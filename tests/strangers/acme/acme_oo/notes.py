"""Acme Notes: notes as they change, from its change feed."""

from collections.abc import AsyncIterator
from datetime import datetime

from oo_sdk import (
    Change,
    Checkpoint,
    Connector,
    Context,
    Cursor,
    CursorExpired,
    Event,
    OAuth2,
    RateLimit,
    Scope,
    Signal,
    Stored,
    Struct,
    hookimpl,
)
from oo_sdk.vocabulary import Document

API = "https://api.acme.example/v1"


class Note(Struct):
    id: str
    etag: str
    title: str
    changed_at: datetime
    deleted: bool = False


class Page(Struct):
    changes: list[Note]
    cursor: str
    more: bool


class AcmeNotes(Connector):
    id = "acme_notes"
    title = "Acme Notes"
    auth = OAuth2(
        authorize="https://acme.example/oauth/authorize",
        token="https://acme.example/oauth/token",
        revoke="https://acme.example/oauth/revoke",
    )
    scopes = [Scope("notes.read", "See your notes and when you change them.")]
    stores = [Stored("note", "the titles of your notes", "show them where you look for them", ["title"])]
    hosts = ["api.acme.example"]
    limits = [RateLimit(60, per="minute", of="user")]
    errors = {410: CursorExpired}

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        cursor = since and since["cursor"]
        while True:
            page = await ctx.http.get(f"{API}/changes", params={"cursor": cursor}, into=Page)
            for note in page.changes:
                yield self.event(note)
            cursor = page.cursor
            yield Checkpoint({"cursor": cursor})
            if not page.more:
                return

    def event(self, note: Note) -> Event:
        if note.deleted:
            return Event("note", note.id, Change.DELETED, at=note.changed_at)
        return Event("note", note.id, Change.UPSERTED, at=note.changed_at, version=note.etag, payload=Document(title=note.title))


@hookimpl
def oo_connectors() -> list[Connector]:
    return [AcmeNotes()]
