"""The connector for the simulated providers: written as a stranger would write it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from declared import everything
from simulation.provider import GRACE, Provider

from oo_daemon.ports import moment
from oo_sdk import (
    Action,
    ActionKind,
    ActionResult,
    Change,
    Checkpoint,
    Connector,
    ConnectorBug,
    Context,
    Cursor,
    CursorExpired,
    Delivery,
    Event,
    Flow,
    HmacScheme,
    Listing,
    News,
    Nudge,
    OAuth2,
    Raw,
    Rotation,
    Scope,
    Signal,
    StoredCredential,
    Struct,
    Unreadable,
    decode,
)
from oo_sdk.vocabulary import Task

ROTATIONS = {
    "lasting": Rotation(),
    "rotating": Rotation(rotates=True, grace=None, reuse_kills=True),
    "graceful": Rotation(rotates=True, grace=timedelta(seconds=GRACE), reuse_kills=True),
}


class Shown(Struct):
    """One object as the provider shows it."""

    id: str
    seq: int
    at: int
    deleted: bool
    title: str | None = None


class Named(Struct):
    """Whose account it is, or what was made."""

    id: str


class Spoilt(Struct):
    """As much of an object as there always is."""

    id: str = ""


class Page(Struct):
    """A page of changes."""

    changes: list[Raw]
    cursor: str
    more: bool


class Push(Struct):
    """What a webhook says."""

    account: str
    thing: Raw


class Wish(Struct):
    """What a new thing is to be called."""

    title: str


class Simulated(Connector):
    """Reads and writes at a simulated provider, and hears it."""

    webhooks = HmacScheme(header="x-signature", id_header="x-delivery")
    stores = everything(Task)
    actions = (ActionKind(name="make_thing", sentence="Make a thing.", arguments=Wish),)

    def __init__(self, provider: Provider, rotation: str, *, ordered: bool) -> None:
        self.id = provider.name
        self.title = provider.name.title()
        self.hosts = [provider.host]
        self.scopes = [Scope("read", "See your things and when you change them.")]
        self.errors = {410: CursorExpired}
        self.ordered = ordered  #: one provider has a growing number, the other an etag
        self.auth = OAuth2(
            authorize=f"https://{provider.host}/authorize",
            token=f"https://{provider.host}/token",
            revoke=f"https://{provider.host}/revoke",
            rotation=ROTATIONS[rotation],
        )

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        """Exchange, and ask whose account it is."""
        credential = await flow.exchange(code)
        return credential.of((await flow.http.get(f"https://{self.hosts[0]}/me", into=Named)).id)

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        """Everything first, then what changed."""
        if since is None:
            yield Listing()
            number, first = 0, ""
            while True:
                page = await ctx.http.get(f"https://{self.hosts[0]}/all", params={"page": number}, into=Page)
                first = first or page.cursor
                for raw in page.changes:
                    yield self.signal(raw)
                if not page.more:
                    break
                number += 1
            yield Checkpoint({"at": first}, listed=("thing",))
            return
        cursor = since["at"]
        while True:
            page = await ctx.http.get(f"https://{self.hosts[0]}/changes", params={"cursor": cursor}, into=Page)
            for raw in page.changes:
                yield self.signal(raw)
            if int(page.cursor) < int(cursor):
                raise ConnectorBug("the cursor went backwards")
            cursor = page.cursor
            yield Checkpoint({"at": cursor})
            if not page.more:
                return

    def signal(self, raw: Raw) -> Event | Unreadable:
        """One object as an event."""
        try:
            shown = decode(raw, Shown)
        except ConnectorBug as wrong:
            return Unreadable(str(wrong), subject=decode(raw, Spoilt).id)
        order, version, at = (shown.seq, "", moment(shown.at)) if self.ordered else (None, f"v{shown.seq}", None)
        if shown.deleted:
            return Event("thing", shown.id, Change.DELETED, at=at, order=order, version=version)
        return Event("thing", shown.id, Change.UPSERTED, at=at, order=order, version=version, payload=Task(title=shown.title or ""))

    async def act(self, ctx: Context, action: Action) -> ActionResult:
        """Make a thing; the provider knows the key again."""
        assert isinstance(action.arguments, Wish)
        wish = {"key": action.key, "title": action.arguments.title}
        return ActionResult(subject=(await ctx.http.post(f"https://{self.hosts[0]}/act", json=wish, into=Named)).id)

    async def route(self, delivery: Delivery) -> Sequence[str]:
        """Whose it is."""
        return [_push(delivery).account]

    async def read(self, delivery: Delivery) -> Sequence[News]:
        """What is told whole is an event, where the order of what arrives does not matter; else it is looked up."""
        if not self.ordered:
            return [Nudge()]
        signal = self.signal(_push(delivery).thing)
        if isinstance(signal, Unreadable):
            raise signal
        return [signal]


def _push(delivery: Delivery) -> Push:
    try:
        return decode(delivery.body, Push)
    except ConnectorBug as wrong:
        raise Unreadable(str(wrong)) from None
