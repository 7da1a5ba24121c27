"""The Google Calendar connector: a person's calendars and what is in them, as it changes, over Calendar v3."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from oo_google_calendar import actions, channels
from oo_google_calendar.cursor import Place, Places
from oo_google_calendar.meaning import gone, read_calendar, read_entry, subject
from oo_google_calendar.refusals import Forbidden, Invalid, NotThere, meaning
from oo_google_calendar.shapes import Listed, Page
from oo_google_calendar.stored import STORES
from oo_sdk import (
    Action,
    ActionKind,
    ActionResult,
    Address,
    Change,
    Checkpoint,
    ClientAuth,
    Connector,
    ConnectorError,
    Context,
    Cursor,
    CursorExpired,
    Delivery,
    Event,
    Flow,
    Listing,
    News,
    OAuth2,
    Placeholder,
    RateLimit,
    Raw,
    Response,
    RetryLater,
    Revocation,
    Revoked,
    Scheme,
    Scope,
    Sign,
    Signal,
    Stored,
    StoredCredential,
    Subscription,
    Unreadable,
)

T = TypeVar("T")

SCOPES: Final = "https://www.googleapis.com/auth/"
LIST: Final = f"{SCOPES}calendar.calendarlist.readonly"
READ: Final = f"{SCOPES}calendar.events.readonly"
WRITE: Final = actions.SCOPE
#: Scopes that hold others: Google may grant one of these in their place.
HOLDS: Final = {
    f"{SCOPES}calendar": {LIST, READ, WRITE},
    f"{SCOPES}calendar.readonly": {LIST, READ},
    f"{SCOPES}calendar.calendarlist": {LIST},
    WRITE: {READ},
}

#: Entries, and calendars, that one answer may hold.
ENTRIES, CALENDARS = 500, 250
#: How many parts one checkpoint names.
PARTS = 100


class GoogleCalendar(Connector):
    """Knows Google Calendar."""

    id = "google_calendar"
    title = "Google Calendar"
    scopes: Sequence[Scope] = (
        Scope(LIST, "See the list of your calendars."),
        Scope(READ, "See what is in your calendars, with guests and places, and when you change it."),
        Scope(WRITE, "Add, change, move and delete entries, and answer invitations, when you ask for it.", "write", required=False),
    )
    stores: Sequence[Stored] = STORES
    # The project's console has the figures that hold.
    limits: Sequence[RateLimit] = (
        RateLimit(600, per="minute", of="user"),
        RateLimit(10_000, per="minute", of="client"),
        RateLimit(1_000_000, per="day", of="client"),
    )
    actions: Sequence[ActionKind] = actions.ACTIONS
    webhooks: Scheme | None = channels.SCHEME
    manual_revocation = "https://myaccount.google.com/connections"

    class Settings(Connector.Settings):
        """Where Google is, and for tests where a sandbox is."""

        authorize: str = "https://accounts.google.com/o/oauth2/v2/auth"
        token: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
        revoke: str = "https://oauth2.googleapis.com/revoke"
        issuer: str = "https://accounts.google.com"
        api: str = "https://www.googleapis.com/calendar/v3"

    settings: Settings = Settings()

    @property
    def auth(self) -> OAuth2:  # type: ignore[override]  # follows the settings, and nobody sets it
        """How a person signs in at Google.

        A refresh token comes with the first consent only, or where consent is asked for again: so it always is. Signing in anew asks
        for what was granted before, too (`include_granted_scopes`), so that asking for more takes nothing away.
        """
        return OAuth2(
            authorize=self.settings.authorize,
            token=self.settings.token,
            revoke=self.settings.revoke,
            issuer=self.settings.issuer,
            client_auth=ClientAuth.POST,
            extra={"access_type": "offline", "include_granted_scopes": "true", "prompt": "consent"},
            errors={"deleted_client": "invalid_client", "disabled_client": "invalid_client", "admin_policy_enforced": "invalid_grant"},
            ends="Google ends a sign-in when its owner removes oO, when it was not used for six months, when the same account has "
            "signed in more than a hundred times since, and after seven days where the operator's Google project is still in testing.",
        )

    @property
    def hosts(self) -> Sequence[str]:  # type: ignore[override]  # follows the settings, and nobody sets it
        """Where the credential goes; the person's browser goes to the authorize address without it."""
        return sorted({urlsplit(url).netloc for url in (self.settings.token, self.settings.revoke, self.settings.api)})

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        """Exchange the code, see what was ticked, and ask for the first calendar, whose id is the account's address."""
        credential = await flow.exchange(code)
        granted = credential.scopes.union(*(HOLDS.get(scope, ()) for scope in credential.scopes))
        credential = replace(credential, scopes=granted)
        if LIST not in granted:
            return credential  # it is refused, in words that say what was not ticked
        own = await flow.http.get(f"{self.settings.api}/users/me/calendarList/primary", into=Listed)
        zone = {"zone": own.time_zone} if own.time_zone else {}
        return credential.of(own.id, label=own.id, meta={"calendar": own.id, **zone})

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        """Yield what changed, calendar by calendar, or everything of those that Google tells nothing else of.

        Listings do not nest, so one that was cut is ended before anything else is listed.
        """
        places = Places.of(since)
        for id_ in [id_ for id_, place in places.calendars.items() if place.is_begun]:
            async for signal in self._entries(ctx, places, id_):
                yield signal
        async for signal in self._calendars(ctx, places):
            yield signal
        for id_ in list(places.calendars):
            async for signal in self._entries(ctx, places, id_):
                yield signal

    async def act(self, ctx: Context, action: Action) -> ActionResult:
        """Carry out one change; done again with the same key, it changes nothing twice."""
        return await actions.act(self.settings.api, ctx, action)

    def explain(self, response: Response) -> ConnectorError | None:
        """Say what a refusal means, by its reason."""
        return meaning(response)

    async def revoke(self, ctx: Context) -> Revocation:
        """Give the grant back, with everything that the person ever allowed to any client of our Cloud project.

        Google wants no proof of the client, and answers 400 to a token that no longer works: then there is nothing left to revoke.
        """
        await ctx.http.request("POST", self.settings.revoke, form={"token": Placeholder.REFRESH_TOKEN}, sign=Sign.NOBODY, accept=(400,))
        return Revocation(
            revoked=Revoked.FULLY,
            remains="Nothing of it is left. Whatever else this person had allowed to the same Google Cloud project has ended with it.",
            manual_url=self.manual_revocation,
        )

    # --- pushes -------------------------------------------------------------------------------------------------------

    async def topics(self, ctx: Context) -> Sequence[str]:
        """Name the list of calendars, and each calendar in it."""
        raws, _ = await self._list(ctx, None)
        told = (listed for listed, _ in map(read_calendar, raws) if listed is not None)
        return [channels.LIST, *(listed.id for listed in told if not listed.deleted)]

    async def subscribe(self, ctx: Context, topic: str, address: Address) -> Subscription | None:
        """Open a channel for one of them."""
        return await channels.opened(self.settings.api, ctx, topic, address)

    async def renew(self, ctx: Context, standing: Subscription, address: Address) -> Subscription | None:
        """Open another channel, as none can be made to last longer; the one before is stopped after that."""
        return await channels.opened(self.settings.api, ctx, standing.topic, address)

    async def unsubscribe(self, ctx: Context, standing: Subscription, address: Address) -> None:
        """Stop a channel."""
        await channels.stopped(self.settings.api, ctx, standing, address)

    async def route(self, delivery: Delivery) -> Sequence[str]:
        """Name the channel that a push came by."""
        return [channels.named(delivery)]

    async def read(self, delivery: Delivery) -> Sequence[News]:
        """Say that a sync will tell what changed."""
        return channels.read(delivery)

    # --- calendars ----------------------------------------------------------------------------------------------------

    async def _calendars(self, ctx: Context, places: Places) -> AsyncIterator[Signal]:
        """Yield what changed in the list of calendars, and see to it that `places` has those that there are."""
        listing = places.list is None
        try:
            raws, token = await self._list(ctx, places.list)
        except (CursorExpired, Invalid):
            if listing:
                raise
            listing = True
            raws, token = await self._list(ctx, None)
        told = [read_calendar(raw) for raw in raws]
        there = {listed.id for listed, _ in told if listed is not None and not listed.deleted}
        whole = listing and not any(isinstance(signal, Unreadable) for _, signal in told)
        removed = [listed.id for listed, _ in told if listed is not None and listed.deleted]
        if whole:
            removed += [id_ for id_ in places.calendars if id_ not in there]
        # Before the list's own checkpoint, which would forget them.
        async for signal in self._ended(places, [f"{id_}/" for id_ in removed]):
            yield signal
        if listing:
            yield Listing()
        for _, signal in told:
            yield signal
        places.list = token
        places.calendars = {id_: place for id_, place in places.calendars.items() if id_ not in removed}
        places.calendars |= {id_: Place() for id_ in sorted(there) if id_ not in places.calendars}
        yield Checkpoint(places.cursor(), listed=("calendar",) if whole else ())

    async def _list(self, ctx: Context, token: str | None) -> tuple[list[Raw], str | None]:
        """Read the list of calendars, whole or what changed in it. Hidden ones count: a person may look at them again."""
        raws: list[Raw] = []
        page: str | None = None
        while True:
            params = {"maxResults": CALENDARS, "showHidden": "true", "syncToken": token, "pageToken": page}
            answer = await self._get(ctx, "users/me/calendarList", params)
            raws += answer.items
            if answer.next_page_token is None:
                return raws, answer.next_sync_token
            page = _further(page, answer)

    # --- entries ------------------------------------------------------------------------------------------------------

    async def _entries(self, ctx: Context, places: Places, id_: str) -> AsyncIterator[Signal]:
        """Yield what changed in one calendar, page by page, or everything where Google no longer tells what changed.

        A calendar that cannot be reached is left where it is: the list of calendars will say if it is gone.
        """
        path = f"calendars/{quote(id_, safe='')}/events"
        place = places.calendars[id_]
        while True:
            if place.sync is None and place.page is None:
                yield Listing()
            params = {"maxResults": ENTRIES, "syncToken": place.sync, "pageToken": place.page}
            try:
                answer = await self._get(ctx, path, params)
            except (CursorExpired, Invalid):
                if place.sync is None and place.page is None:
                    raise
                place = places.calendars[id_] = Place()
                continue
            except (NotThere, Forbidden) as refusal:
                ctx.log.warning("calendar_unreachable", reason=refusal.reason)
                return
            buried = []
            for raw in answer.items:
                found, signal = read_entry(raw, id_, ctx.first_fetch_from)
                if found is None or isinstance(signal, Unreadable):
                    place.unread = True
                elif gone(found):
                    place.bury(found.id)
                    buried.append(found.id)
                elif found.recurring_event_id in place.gone:
                    signal = Event("entry", subject(id_, found.id, found.recurring_event_id), Change.DELETED)
                yield signal
            if place.sync is not None:
                # What was deleted may have been a series: its occurrences go with it. Google does not say what it was.
                async for ending in self._ended(places, [f"{id_}/{deleted}/" for deleted in buried]):
                    yield ending
            if answer.next_page_token is None:
                break
            place.page = _further(place.page, answer)
            yield Checkpoint(places.cursor())
        listed = ("entry",) if place.sync is None and not place.unread else ()
        places.calendars[id_] = Place(sync=answer.next_sync_token)
        yield Checkpoint(places.cursor(), listed=listed, within=(f"{id_}/",) if listed else ())

    async def _ended(self, places: Places, parts: Sequence[str]) -> AsyncIterator[Signal]:
        """Yield listings of parts in which there is nothing any more."""
        for some in _groups(parts):
            yield Listing()
            yield Checkpoint(places.cursor(), listed=("entry",), within=tuple(some))

    async def _get(self, ctx: Context, path: str, params: Mapping[str, Any]) -> Page:
        given = {name: value for name, value in params.items() if value is not None}
        return await ctx.http.get(f"{self.settings.api}/{path}", params=given, into=Page)


def _further(page: str | None, answer: Page) -> str | None:
    """Give the next page's token. The same one again would never come to an end."""
    if answer.next_page_token == page:
        raise RetryLater("a list of Google's does not get to an end; the next sync asks again")
    return answer.next_page_token


def _groups(parts: Sequence[str]) -> Iterator[Iterable[str]]:
    return (parts[start : start + PARTS] for start in range(0, len(parts), PARTS))
