"""Acme Lists: changes of lists, read with a key and a name that people enter."""

from collections.abc import AsyncIterator

from oo_sdk import (
    ApiKey,
    AsBasic,
    Change,
    Checkpoint,
    Connector,
    Context,
    Cursor,
    Event,
    KeyField,
    KeyFlow,
    Scope,
    Signal,
    Stored,
    StoredCredential,
    Struct,
    hookimpl,
)
from oo_sdk.vocabulary import Document

API = "https://api.acme.example/v1"


class Entry(Struct):
    id: str
    title: str
    deleted: bool = False


class Page(Struct):
    changes: list[Entry]
    cursor: str
    more: bool


class Me(Struct):
    id: str
    email: str


class AcmeLists(Connector):
    id = "acme_lists"
    title = "Acme Lists"
    auth = ApiKey(
        fields=[
            KeyField("name", "User name", "As it stands at the top of Acme's pages.", secret=False),
            KeyField("key", "API key", "In Acme Lists, under Settings, Keys. One that may only read is enough."),
        ],
        sent=AsBasic(user="{name}", password="{key}"),
        ends="Acme ends keys that lie idle for a year.",
    )
    scopes = [Scope("lists.read", "See your lists and what you cross off.")]
    stores = [Stored("entry", "the titles of what is on your lists", "show them where you look for them", ["title"])]
    hosts = ["api.acme.example"]
    manual_revocation = "https://acme.example/settings/keys"

    async def accept_key(self, flow: KeyFlow) -> StoredCredential:
        me = await flow.http.get(f"{API}/me", into=Me)
        return flow.stored().of(me.id, label=me.email)

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        cursor = since and since["cursor"]
        while True:
            page = await ctx.http.get(f"{API}/changes", params={"cursor": cursor}, into=Page)
            for entry in page.changes:
                change = Change.DELETED if entry.deleted else Change.UPSERTED
                yield Event("entry", entry.id, change, payload=None if entry.deleted else Document(title=entry.title))
            cursor = page.cursor
            yield Checkpoint({"cursor": cursor})
            if not page.more:
                return


@hookimpl
def oo_connectors() -> list[Connector]:
    return [AcmeLists()]
