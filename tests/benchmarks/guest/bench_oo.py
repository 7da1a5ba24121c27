"""A guest for the benchmarks: a feed to sync, a connector that does nothing, and a sender of webhooks that concern nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from oo_sdk import (
    Change,
    Checkpoint,
    Connector,
    Context,
    Cursor,
    Delivery,
    Event,
    HmacScheme,
    News,
    OAuth2,
    Signal,
    Stored,
    Struct,
    hookimpl,
)
from oo_sdk.vocabulary import Task


class Item(Struct):
    """A task as the feed tells it."""

    id: str
    title: str
    description: str
    labels: list[str]
    project: str
    changed_at: datetime
    version: str


class Page(Struct):
    """One page of the feed."""

    changes: list[Item]
    cursor: int
    more: bool


class Feed(Connector):
    """An append-only feed in pages, with a checkpoint after each."""

    id = "bench_feed"
    title = "Feed"
    stores = (Stored("task", "your tasks", "measure something", ("title", "description", "labels", "project")),)
    auth = OAuth2(authorize="https://feed.example/authorize", token="https://feed.example/token", revoke="https://feed.example/revoke")

    class Settings(Struct):
        """Where the feed is."""

        address: str = "https://feed.example"

    settings: Settings = Settings()

    @property
    def hosts(self) -> Sequence[str]:  # type: ignore[override]  # follows the settings
        """Where it is."""
        return [urlsplit(self.settings.address).netloc]

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        """Read to the end."""
        cursor, more = since["cursor"] if since else 0, True
        while more:
            page = await ctx.http.get(f"{self.settings.address}/changes", params={"cursor": cursor}, into=Page)
            for item in page.changes:
                yield Event(
                    "task",
                    item.id,
                    Change.UPSERTED,
                    at=item.changed_at,
                    version=item.version,
                    payload=Task(title=item.title, description=item.description, labels=item.labels, project=item.project),
                )
            cursor, more = page.cursor, page.more
            yield Checkpoint({"cursor": cursor})


class Idle(Connector):
    """Has nothing to tell."""

    id = "bench_idle"
    title = "Idle"
    stores = (Stored("nothing", "nothing at all", "measure something", ()),)

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        """End at once."""
        nothing: tuple[Signal, ...] = ()
        for signal in nothing:
            yield signal


class Hook(Connector):
    """Takes webhooks that are for no account."""

    id = "bench_hook"
    title = "Hook"
    stores = (Stored("nothing", "nothing at all", "measure something", ()),)
    auth = OAuth2(authorize="https://hook.example/authorize", token="https://hook.example/token", revoke="https://hook.example/revoke")
    hosts = ("hook.example",)
    webhooks = HmacScheme(header="x-signature", key="webhook_secret", encoding="hex", id_header="x-delivery")

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        """Nothing but webhooks comes from here."""
        nothing: tuple[Signal, ...] = ()
        for signal in nothing:
            yield signal

    async def route(self, delivery: Delivery) -> Sequence[str]:
        """For nobody."""
        return []

    async def read(self, delivery: Delivery) -> Sequence[News]:
        """It says nothing."""
        return []


@hookimpl
def oo_connectors() -> list[Connector]:
    """What the benchmarks run."""
    return [Feed(), Idle(), Hook()]
