"""The Todoist connector: a person's tasks and all that belongs to them, as they change, over the unified API v1."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from urllib.parse import urlsplit

from oo_sdk import (
    Action,
    ActionKind,
    ActionResult,
    ApiRetired,
    Checkpoint,
    ClientAuth,
    Connector,
    ConnectorBug,
    ConnectorError,
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
    Placeholder,
    RateLimit,
    Raw,
    Response,
    RetryLater,
    Revocation,
    Revoked,
    Rotation,
    Scope,
    Session,
    Sign,
    Signal,
    SignInAgain,
    Stored,
    StoredCredential,
    Unreadable,
    decode,
)
from oo_sdk.vocabulary import Task
from oo_todoist.actions import ACTIONS, command, refused, result
from oo_todoist.meaning import KINDS, TASKS, read, utc
from oo_todoist.shapes import Account, Page, Push, Synced
from oo_todoist.stored import STORES

T = TypeVar("T")

#: The sync token that asks for everything.
START: Final = "*"
RESOURCES: Final = [kind.resource for kind in KINDS]

#: A full sync made longer ago than this may miss the newest changes.
FRESH: Final = timedelta(seconds=60)

#: How far back completed tasks are read where nobody says: some 20 requests.
REACH: Final = timedelta(days=5 * 365)
#: One request for completed tasks covers at most three months; the shortest three have 89 days.
SPAN: Final = timedelta(days=89)
#: The newest span ends this much after now: Todoist's clock may be ahead of ours.
AHEAD: Final = timedelta(hours=1)
PAGE: Final = 200


class Todoist(Connector):
    """Knows Todoist."""

    id = "todoist"
    title = "Todoist"
    scopes: Sequence[Scope] = (
        Scope("data:read", "See everything in your Todoist, such as tasks, projects and comments, and when you change it."),
        Scope("data:read_write", "Complete and change your tasks and projects when you ask for it.", "write", required=False),
    )
    stores: Sequence[Stored] = STORES
    # 100 full syncs in the same time are allowed too, but nothing makes us want that many. REST has no published limit.
    limits: Sequence[RateLimit] = (RateLimit(1000, per="quarter", of="user"),)
    errors: Mapping[int, type[ConnectorError]] = {410: ApiRetired}
    actions: Sequence[ActionKind] = ACTIONS
    webhooks = HmacScheme(header="X-Todoist-Hmac-SHA256", key="client_secret", encoding="base64", id_header="X-Todoist-Delivery-ID")
    manual_revocation = "https://app.todoist.com/app/settings/integrations"

    class Settings(Connector.Settings):
        """Where Todoist is. Its documents disagree about the hosts, so each address is one to set."""

        authorize: str = "https://app.todoist.com/oauth/authorize"
        token: str = "https://api.todoist.com/oauth/access_token"  # noqa: S105 - an address
        revoke: str = "https://api.todoist.com/api/v1/revoke"
        api: str = "https://api.todoist.com/api/v1"
        pkce: bool = False  #: Todoist documents PKCE for public clients only; ours has a secret

    settings: Settings = Settings()

    @property
    def auth(self) -> OAuth2:  # type: ignore[override]  # follows the settings, and nobody sets it
        """How a person signs in at Todoist."""
        return OAuth2(
            authorize=self.settings.authorize,
            token=self.settings.token,
            revoke=self.settings.revoke,
            client_auth=ClientAuth.POST,
            pkce=self.settings.pkce,
            scope_separator=",",
            rotation=Rotation(rotates=True, grace=timedelta(seconds=60), reuse_kills=True),
            errors={"bad_authorization_code": "invalid_grant", "incorrect_application_credentials": "invalid_client"},
        )

    @property
    def hosts(self) -> Sequence[str]:  # type: ignore[override]  # follows the settings, and nobody sets it
        """Where the credential goes; the person's browser goes to the authorize address without it."""
        return sorted({urlsplit(url).netloc for url in (self.settings.token, self.settings.revoke, self.settings.api)})

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        """Exchange the code and ask whose account it is, which also proves that the credential works."""
        credential = await flow.exchange(code)
        user = (await self._sync(flow.http, START, ["user"], into=Account)).user
        if not user.id:
            raise ConnectorBug("Todoist names no account for this credential; connect again, and report it if that does not help")
        zone = user.tz_info.timezone if user.tz_info else None
        return credential.of(user.id, label=user.email or user.full_name or "", meta={"zone": zone} if zone else {})

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        """Yield what changed, or everything where there is no cursor or Todoist chooses to send everything.

        The cursor is `{"sync_token", "resources", "completed_from"}`. Everything means what is active: a task that was
        completed is not shown, just as one that was deleted. So a listing goes on with the completed tasks since
        `completed_from`, back to which we may have told of any, and only what neither shows is gone.
        """
        now = ctx.clock.now()
        token, completed_from = START, ctx.first_fetch_from or now - REACH
        if since is not None:
            completed_from = datetime.fromisoformat(since["completed_from"])
            if since["resources"] == RESOURCES:  # else: a token tells nothing of what it was not made for
                token = since["sync_token"]
        listed: set[str] = set()
        for _ in range(2):
            try:
                body = await self._sync(ctx.http, token, RESOURCES, into=Raw)
            except CursorExpired:
                if token == START:
                    raise
                # Started over here and not by the daemon, which would forget `completed_from` with the rest of the cursor.
                body = await self._sync(ctx.http, START, RESOURCES, into=Raw)
            answer = decode(body, Synced)
            if not answer.sync_token:
                raise ConnectorBug("Todoist sent an empty sync token; report it if the next sync does not help")
            token = answer.sync_token
            shown: set[str] = set()
            if answer.full_sync:
                listed = {kind.name for kind in KINDS if kind.whole}
                yield Listing()
            members = decode(body, dict[str, Raw])
            for kind in KINDS:
                for raw in _objects(members, kind.resource, required=answer.full_sync):
                    signal = read(kind, raw)
                    yield signal
                    if isinstance(signal, Unreadable):
                        listed.discard(kind.name)  # it is there, but the listing does not show it: nothing follows from that
                    if kind is TASKS:
                        shown.add(signal.subject)
                        completed_from = min(completed_from, _completed_at(signal) or completed_from)
            if answer.full_sync:
                async for signal in self._completed(ctx, max(completed_from, now - REACH), now + AHEAD, shown):
                    yield signal
                    if isinstance(signal, Unreadable):
                        listed.discard(TASKS.name)
            if not answer.full_sync or _fresh(answer, now):
                break
        cursor = {"sync_token": token, "resources": RESOURCES, "completed_from": completed_from.isoformat()}
        yield Checkpoint(cursor, listed=tuple(kind.name for kind in KINDS if kind.name in listed))

    async def route(self, delivery: Delivery) -> Sequence[str]:
        """Name the user that Todoist tells it to."""
        return [str(_push(delivery).user_id)]

    async def read(self, delivery: Delivery) -> Sequence[News]:
        """Say that something changed, whatever it was.

        Deliveries may be late, out of order or missing and their objects lack members of the synced ones, so a sync tells what.
        """
        _push(delivery)
        return [Nudge()]

    async def act(self, ctx: Context, action: Action) -> ActionResult:
        """Carry out one command. Todoist executes each key once, so that this may be tried again after any doubt."""
        form = {"commands": json.dumps([command(action)])}
        answer = await ctx.http.request("POST", f"{self.settings.api}/sync", form=form, accept=(400, 403, 404))
        if answer.status >= 300:
            raise refused(answer.body, answer.status)
        return result(action, answer.body)

    def explain(self, response: Response) -> ConnectorError | None:
        """Say what a refusal means. Todoist documents no code for a sync token that it does not know, but names the argument."""
        if 400 <= response.status < 500 and response.status not in (401, 429) and b"sync_token" in response.body:
            return CursorExpired("Todoist no longer knows our sync token")
        if response.status == 403:
            return SignInAgain("Todoist refuses to be read: the scope data:read was not granted; connect again and allow it")
        return None

    async def revoke(self, ctx: Context) -> Revocation:
        """Revoke the access token, which is all that Todoist's API can do.

        The refresh token is never sent: RFC 7009 at Todoist answers 403 to one.
        """
        token = {"token": Placeholder.ACCESS_TOKEN, "token_type_hint": Placeholder.ACCESS_TOKEN.value}
        await ctx.http.post(self.settings.revoke, json=token, sign=Sign.CLIENT)
        return Revocation(
            revoked=Revoked.PARTLY,
            remains="Todoist revoked the access token, but its API cannot revoke the refresh token: "
            "remove oO under Settings, Integrations in Todoist to end that too.",
            manual_url=self.manual_revocation,
        )

    async def _completed(self, ctx: Context, since: datetime, until: datetime, shown: set[str]) -> AsyncIterator[Event | Unreadable]:
        """Yield the tasks completed in between, newest span first, but none that was `shown`.

        A recurring task may appear here for a date that it has moved on from; what the listing shows of it is newer.
        """
        while until > since:
            begin, cursor = max(since, until - SPAN), ""
            while True:
                span = {"since": _instant(begin), "until": _instant(until), "limit": PAGE}
                params = span | {"cursor": cursor} if cursor else span
                page = await ctx.http.get(f"{self.settings.api}/tasks/completed/by_completion_date", params=params, into=Page)
                for raw in page.items:
                    signal = read(TASKS, raw)
                    if isinstance(signal, Event):
                        if signal.subject in shown:
                            continue
                        shown.add(signal.subject)
                        if isinstance(signal.payload, Task):
                            signal.payload.completed = True
                    yield signal
                if not page.next_cursor:
                    break
                if page.next_cursor == cursor:
                    raise RetryLater("Todoist's completed tasks do not get to an end; the next sync asks again")
                cursor = page.next_cursor
            until = begin

    async def _sync(self, http: Session, token: str, resources: Sequence[str], *, into: type[T]) -> T:
        """Ask /sync: a form whose list is JSON text."""
        form = {"sync_token": token, "resource_types": json.dumps(resources)}
        return await http.post(f"{self.settings.api}/sync", form=form, into=into)


def _push(delivery: Delivery) -> Push:
    """Read who a delivery is for."""
    try:
        push = decode(delivery.body, Push)
    except ConnectorBug as wrong:
        raise Unreadable(f"a webhook was set aside: {wrong}") from None
    if not push.user_id:
        raise Unreadable("a webhook was set aside: its user_id is empty")
    return push


def _objects(members: Mapping[str, Raw], resource: str, *, required: bool) -> list[Raw]:
    """Take one resource's objects, undecoded. A full sync without them must not look like one with none."""
    if resource in members:
        return decode(members[resource], list[Raw])
    if required:
        raise ConnectorBug(f"Todoist's full sync lacks {resource}; report it if the next sync does not help")
    return []


def _completed_at(signal: Event | Unreadable) -> datetime | None:
    if isinstance(signal, Event) and isinstance(signal.payload, Task) and signal.payload.HasField("completed_at"):
        return signal.payload.completed_at.ToDatetime(UTC)
    return None


def _fresh(answer: Synced, now: datetime) -> bool:
    """Tell whether a full sync is of now. For big accounts Todoist gives an older one, and advises to sync again at once."""
    if answer.full_sync_date_utc is None:
        return True
    try:
        return abs(now - utc(datetime.fromisoformat(answer.full_sync_date_utc))) <= FRESH
    except (ValueError, OverflowError):
        return False


def _instant(at: datetime) -> str:
    """Write an instant as Todoist's queries want it."""
    return utc(at).strftime("%Y-%m-%dT%H:%M:%SZ")
