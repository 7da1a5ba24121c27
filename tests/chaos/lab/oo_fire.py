"""Fire: a provider that rotates its tokens every few seconds and allows few calls, with a feed for each account and pushes of messages."""

from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

from oo_sdk import (
    Change,
    Checkpoint,
    ClientAuth,
    Connector,
    Context,
    Cursor,
    Delivery,
    Event,
    Flow,
    HmacScheme,
    News,
    Nudge,
    OAuth2,
    RateLimit,
    Rotation,
    Scope,
    Signal,
    Stored,
    StoredCredential,
    Struct,
    decode,
    hookimpl,
)
from oo_sdk.vocabulary import Document


class Page(Struct):
    """A part of the feed."""

    lines: list[tuple[str, str]]
    read: int
    more: bool


class Me(Struct):
    """Whose account it is."""

    id: str


class Pushed(Struct):
    """The body of a push."""

    account: str
    message: str


class Fire(Connector):
    """Knows the feeds."""

    id = "fire"
    title = "Fire"
    scopes = (Scope("read", "Read your notes."),)
    stores = (Stored("note", "your notes", "try things out", ("title",)), Stored("message", "your messages", "try things out", ("title",)))
    webhooks = HmacScheme(header="X-Fire-Signature", id_header="X-Fire-Delivery")

    class Settings(Connector.Settings):
        """Where the provider is, and how many calls it allows in a second, of all users together."""

        address: str = "http://127.0.0.1:1"
        calls: int = 1

    settings: Settings = Settings()

    @property
    def auth(self) -> OAuth2:  # type: ignore[override]  # follows the settings, and nobody sets it
        """How a person signs in."""
        address = self.settings.address
        return OAuth2(
            authorize=f"{address}/authorize",
            token=f"{address}/token",
            revoke=f"{address}/revoke",
            client_auth=ClientAuth.POST,
            rotation=Rotation(rotates=True),
        )

    @property
    def hosts(self) -> Sequence[str]:  # type: ignore[override]  # as above
        """Where the credential goes."""
        return [urlsplit(self.settings.address).netloc]

    @property
    def limits(self) -> Sequence[RateLimit]:  # type: ignore[override]  # as above
        """What it allows."""
        return [RateLimit(self.settings.calls, per="second", of="client")]

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        """Ask whose account it is."""
        credential = await flow.exchange(code)
        me = await flow.http.get(f"{self.settings.address}/me", into=Me)
        return credential.of(me.id, label=me.id)

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        """Read on."""
        read: int = since["read"] if since else 0
        while True:
            page = await ctx.http.get(f"{self.settings.address}/feed", params={"after": str(read)}, into=Page)
            for number, (note, title) in enumerate(page.lines, read + 1):
                yield Event("note", note, Change.UPSERTED, payload=Document(title=title), order=number)
            read = page.read
            yield Checkpoint({"read": read})
            if not page.more:
                return

    async def route(self, delivery: Delivery) -> Sequence[str]:
        """Say whose it is."""
        return [decode(delivery.body, Pushed).account]

    async def read(self, delivery: Delivery) -> Sequence[News]:
        """A message, and a sign that the feed may have grown."""
        message = decode(delivery.body, Pushed).message
        return [Event("message", message, Change.OCCURRED, payload=Document(title=message)), Nudge()]


@hookimpl
def oo_connectors() -> list[Connector]:
    """Offer it."""
    return [Fire()]
