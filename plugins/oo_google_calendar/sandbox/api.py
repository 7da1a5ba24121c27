"""Calendar v3: requests in, answers out. It knows nothing of HTTP but its words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from oo_google_calendar.sandbox.calendars import BUSY, Calendar, moment_of
from oo_google_calendar.sandbox.channels import Channels
from oo_google_calendar.sandbox.edits import Edits
from oo_google_calendar.sandbox.grants import PREFIX, Token
from oo_google_calendar.sandbox.misbehaviour import Misbehaviour
from oo_google_calendar.sandbox.refusals import Refusal, forbidden, invalid, not_found, required, too_old, unauthorized
from oo_google_calendar.sandbox.wire import Answer, Asked
from oo_google_calendar.sandbox.world import World

Json = dict[str, Any]

LIST = ("calendar", "calendar.readonly", "calendar.calendarlist", "calendar.calendarlist.readonly")
READ = ("calendar", "calendar.readonly", "calendar.events", "calendar.events.readonly")
WRITE = ("calendar", "calendar.events")
#: What a sync token may not be used with.
NOT_WITH_SYNC = ("iCalUID", "orderBy", "privateExtendedProperty", "q", "sharedExtendedProperty", "timeMin", "timeMax", "updatedMin")
NOT_WITH_LIST_SYNC = ("minAccessRole", "showOwnOrganizationOnly")
UPDATED_MIN = timedelta(days=30)
HORIZON = timedelta(days=366)


class Api:
    """The endpoints of one world."""

    def __init__(self, world: World, misbehaviour: Misbehaviour, channels: Channels) -> None:
        self._world = world
        self._misbehaviour = misbehaviour
        self._channels = channels
        self._edits = Edits(world, misbehaviour)
        self.address = ""  #: where it is served; channels say it

    def answer(self, asked: Asked) -> Answer:
        """Answer one request; its path begins after /calendar/v3."""
        try:
            return self._routed(asked)
        except Refusal as refusal:
            return Answer(status=refusal.status, body=refusal.body())

    def _routed(self, asked: Asked) -> Answer:
        match asked.method, asked.path:
            case "GET", ("users", "me", "calendarList"):
                return self._calendars(asked)
            case "GET", ("users", "me", "calendarList", id_):
                return self._listed(asked, id_)
            case "POST", ("users", "me", "calendarList", "watch"):
                email = self._person(asked, *LIST)
                return self._watch(asked, email, f"{email}/calendarList", "/calendar/v3/users/me/calendarList")
            case "GET", ("calendars", id_):
                return self._calendar(asked, id_)
            case "GET", ("calendars", id_, "events"):
                return self._events(asked, id_)
            case "POST", ("calendars", id_, "events"):
                return self._insert(asked, id_)
            case "POST", ("calendars", id_, "events", "watch"):
                email = self._person(asked, *READ)
                calendar, _ = self._world.calendar(id_, email, "freeBusyReader")
                return self._watch(asked, email, f"{calendar.id}/events", f"/calendar/v3/calendars/{calendar.id}/events")
            case "GET", ("calendars", id_, "events", entry):
                return self._event(asked, id_, entry)
            case (("PATCH" | "PUT"), ("calendars", id_, "events", entry)):
                return self._update(asked, id_, entry)
            case "DELETE", ("calendars", id_, "events", entry):
                return self._delete(asked, id_, entry)
            case "POST", ("calendars", id_, "events", entry, "move"):
                return self._move(asked, id_, entry)
            case "GET", ("calendars", id_, "events", entry, "instances"):
                return self._instances(asked, id_, entry)
            case "POST", ("channels", "stop"):
                return self._stop(asked)
        raise not_found()

    def _person(self, asked: Asked, *needed: str) -> str:
        """Say whose request it is; their token must hold one of these scopes. Counts it against their limits."""
        token = self._token(asked)
        self._world.spend(token.email)
        if not {f"{PREFIX}{scope}" for scope in needed} & set(token.scopes):
            raise forbidden("insufficientPermissions", "Insufficient Permission: Request had insufficient authentication scopes.")
        return token.email

    def _token(self, asked: Asked) -> Token:
        scheme, _, text = asked.headers.get("authorization", "").partition(" ")
        token = self._world.grants.access(text.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            raise unauthorized()
        return token

    # --- the list of calendars ----------------------------------------------------------------------------------------

    def _calendars(self, asked: Asked) -> Answer:
        email = self._person(asked, *LIST)
        journal = self._world.lists[email]
        sync = asked.query.get("syncToken")
        if sync is not None:
            _refuse(asked, NOT_WITH_LIST_SYNC)
            if asked.flag("showDeleted") is False or asked.flag("showHidden") is False:
                raise invalid("showDeleted", "Deleted and hidden entries are always part of a sync.")
        since, until, after = self._place(asked, sync, f"list {email}")
        deleted, hidden = asked.flag("showDeleted") or sync is not None, asked.flag("showHidden") or sync is not None
        role = asked.query.get("minAccessRole")
        found: list[tuple[Any, Json]] = []
        pairs = journal.between(since, until) if sync is not None else ((0, id_) for id_ in sorted(journal.bodies))
        for position, id_ in pairs:
            body = journal.bodies[id_]
            if (body.get("deleted") and not deleted) or (body.get("hidden") and not hidden):
                continue
            if role is None or body.get("accessRole") == "owner" or role == "reader":
                found.append(([position, id_], body))
        size = asked.number("maxResults", 100, 250)
        page, tokens = self._paged(found, size, since, until, after, f"list {email}", asked)
        return Answer(body={"kind": "calendar#calendarList", "etag": f'"{until:016}"', **tokens, "items": page})

    def _listed(self, asked: Asked, id_: str) -> Answer:
        email = self._person(asked, *LIST)
        body = self._world.lists[email].bodies.get(email if id_ == "primary" else id_)
        if body is None or body.get("deleted"):
            raise not_found()
        return Answer(body=body)

    def _calendar(self, asked: Asked, id_: str) -> Answer:
        email = self._person(asked, "calendar", "calendar.readonly")
        calendar, _ = self._world.calendar(id_, email, "freeBusyReader")
        body = {"kind": "calendar#calendar", "etag": '"1"', "id": calendar.id, "summary": calendar.summary, "timeZone": calendar.zone}
        return Answer(body=body)

    # --- reading entries ----------------------------------------------------------------------------------------------

    def _events(self, asked: Asked, id_: str) -> Answer:
        email = self._person(asked, *READ)
        calendar, role = self._world.calendar(id_, email, "freeBusyReader")
        sync, single = asked.query.get("syncToken"), asked.flag("singleEvents") or False
        deleted = asked.flag("showDeleted")
        if sync is not None:
            _refuse(asked, NOT_WITH_SYNC)
            if deleted is False:
                raise invalid("showDeleted", "Deleted events are always part of a sync.")
        order = asked.query.get("orderBy")
        if order not in {None, "updated", "startTime"} or (order == "startTime" and not single):
            raise Refusal(400, "badRequest", "The requested ordering is not available for the particular query.")
        kind = f"events {calendar.id} {single} {sorted(asked.query.get('eventTypes', ''))}"
        since, until, after = self._place(asked, sync, kind)
        found = self._changed(calendar, since, until, single) if sync is not None else self._all(calendar, asked, single, deleted or False)
        if order is not None:
            found = [([_key(order, body), *key], body) for key, body in found]
        size = asked.number("maxResults", 250, 2500)
        zone = self._zone(asked)
        page, tokens = self._paged(sorted(found, key=lambda each: each[0]), size, since, until, after, kind, asked)
        if any(name in asked.query for name in ("timeMin", "timeMax", "q", "orderBy", "updatedMin", "iCalUID")) and order is not None:
            tokens.pop("nextSyncToken", None)
        whole: Json = {
            "kind": "calendar#events",
            "etag": f'"{until:016}"',
            "summary": calendar.summary,
            "updated": f"{self._world.now():%Y-%m-%dT%H:%M:%S}.000Z",
            "timeZone": calendar.zone,
            "accessRole": role,
            "defaultReminders": self._world.lists[email].bodies.get(calendar.id, {}).get("defaultReminders", []),
            **tokens,
            "items": [self._shown(asked, calendar, body, email, zone, role) for body in page],
        }
        return Answer(body=whole)

    def _changed(self, calendar: Calendar, since: int, until: int, single: bool) -> list[tuple[Any, Json]]:
        """What changed: each entry as it is now; expanded, each occurrence of a series that did."""
        found = []
        for position, id_ in calendar.entries.between(since, until):
            body = calendar.entries.bodies[id_]
            if single and body.get("recurrence") and body["status"] != "cancelled":
                horizon = self._world.now() + HORIZON
                found += [([position, each["id"]], each) for each in calendar.instances(body, horizon)]
            else:
                found.append(([position, id_], body))
        return found

    def _all(self, calendar: Calendar, asked: Asked, single: bool, deleted: bool) -> list[tuple[Any, Json]]:
        """What there is. Called-off occurrences of a series are there, unless it is expanded."""
        least, most = _moment(asked, "timeMin"), _moment(asked, "timeMax")
        updated = _moment(asked, "updatedMin")
        if updated is not None and self._world.now() - updated > UPDATED_MIN:
            raise too_old("updatedMinTooLongAgo")
        if least is not None and most is not None and most <= least:
            raise Refusal(400, "timeRangeEmpty", "The specified time range is empty.", domain="calendar")
        bodies: list[Json] = []
        for body in calendar.entries.bodies.values():
            if single and body.get("recurrence") and body["status"] != "cancelled":
                bodies += calendar.instances(body, most or self._world.now() + HORIZON)
            elif not (single and body.get("recurringEventId") and calendar.live(body["recurringEventId"])):
                bodies.append(body)
        words, uid = asked.query.get("q", "").lower(), asked.query.get("iCalUID")
        found = []
        for body in bodies:
            gone = calendar.is_gone(body) or (single and body["status"] == "cancelled")
            if (gone and not (deleted or updated)) or not _within(calendar, body, least, most):
                continue
            if uid is not None and body.get("iCalUID") != uid:
                continue
            if updated is not None and datetime.fromisoformat(body.get("updated", "1970-01-01T00:00:00Z")) < updated:
                continue
            if (
                words
                and words not in " ".join(str(body.get(name, "")) for name in ("summary", "description", "location", "attendees")).lower()
            ):
                continue
            if not _has(asked, body, "private") or not _has(asked, body, "shared"):
                continue
            found.append(([0, body["id"]], body))
        return found

    def _event(self, asked: Asked, id_: str, entry: str) -> Answer:
        email = self._person(asked, *READ)
        calendar, role = self._world.calendar(id_, email, "freeBusyReader")
        body = self._shown(asked, calendar, self._edits.find(calendar, entry), email, self._zone(asked), role)
        if asked.headers.get("if-none-match") == body.get("etag"):
            return Answer(status=304)
        return Answer(body=body, headers={"ETag": body["etag"]})

    def _instances(self, asked: Asked, id_: str, entry: str) -> Answer:
        email = self._person(asked, *READ)
        calendar, role = self._world.calendar(id_, email, "freeBusyReader")
        master = self._edits.find(calendar, entry)
        if not master.get("recurrence") or calendar.is_gone(master):
            raise not_found()
        least, most = _moment(asked, "timeMin"), _moment(asked, "timeMax")
        kind = f"instances {calendar.id} {entry}"
        _, until, after = self._place(asked, None, kind)
        found = [
            ([_key("startTime", body), body["id"]], body)
            for body in calendar.instances(master, most or self._world.now() + HORIZON)
            if (body["status"] != "cancelled" or asked.flag("showDeleted")) and _within(calendar, body, least, most)
        ]
        page, tokens = self._paged(
            sorted(found, key=lambda each: each[0]), asked.number("maxResults", 250, 2500), 0, until, after, kind, asked
        )
        tokens.pop("nextSyncToken", None)
        items = [self._shown(asked, calendar, body, email, self._zone(asked), role) for body in page]
        whole = {"kind": "calendar#events", "etag": f'"{until:016}"', "summary": calendar.summary, "timeZone": calendar.zone}
        return Answer(body={**whole, "accessRole": role, "defaultReminders": [], **tokens, "items": items})

    def _shown(self, asked: Asked, calendar: Calendar, body: Json, email: str, zone: str | None, role: str) -> Json:
        shown = calendar.shown(body, email, zone, role)
        if body.get("visibility") in {"private", "confidential"} and role in {"reader", "writerWithoutPrivateAccess"}:
            shown = {name: value for name, value in shown.items() if name in BUSY | {"visibility"}}
        most = asked.query.get("maxAttendees")
        if most is not None and most.isdecimal() and len(shown.get("attendees", ())) > int(most):
            shown |= {"attendees": [guest for guest in shown["attendees"] if guest.get("self")], "attendeesOmitted": True}
        return shown

    def _zone(self, asked: Asked) -> str | None:
        zone = asked.query.get("timeZone")
        try:
            return zone and ZoneInfo(zone).key
        except (KeyError, ValueError):
            raise invalid("timeZone", "Invalid time zone definition.") from None

    # --- pages and tokens ---------------------------------------------------------------------------------------------

    def _place(self, asked: Asked, sync: str | None, kind: str) -> tuple[int, int, Any]:
        """Read the tokens: since when, until when, and after what. The first page decides until when the others go."""
        since = 0
        if sync is not None:
            since = self._since(sync, kind)
        page = asked.query.get("pageToken")
        if page is None:
            return since, self._world.position, None
        what, until, after = self._world.opened(page, "pageToken")
        if what != kind:
            raise invalid("pageToken")
        return since, until, after

    def _since(self, sync: str, kind: str) -> int:
        try:
            position = self._world.since(sync, kind)
        except (Refusal, ValueError):
            raise invalid("syncToken", "Invalid sync token value.") from None
        if position is None:
            if self._misbehaviour.take("bad_token_400") is not None:
                raise invalid("syncToken", "Invalid sync token value.")
            raise too_old()
        return position

    def _paged(
        self, found: list[tuple[Any, Json]], size: int, since: int, until: int, after: Any, kind: str, asked: Asked
    ) -> tuple[list[Json], Json]:
        """Cut one page out of what was found, in order, and say how to go on."""
        small = self._misbehaviour.take("small_pages")
        size = min(size, small["items"]) if small is not None else size
        skipped, last = after if after is not None else (False, None)
        rest = [each for each in found if last is None or each[0] > last]
        if rest and not skipped and self._misbehaviour.take("empty_pages") is not None:
            return [], {"nextPageToken": self._world.sealed(kind, until, [True, last])}
        page = rest[:size]
        bodies = [body for _, body in page]
        if len(rest) > size:
            return bodies, {"nextPageToken": self._world.sealed(kind, until, [False, page[-1][0]])}
        if self._misbehaviour.take("no_sync_token") is not None:
            return bodies, {}
        return bodies, {"nextSyncToken": self._world.sync_token(kind, until)}

    # --- writing entries ----------------------------------------------------------------------------------------------

    def _insert(self, asked: Asked, id_: str) -> Answer:
        email = self._person(asked, *WRITE)
        calendar, role = self._world.calendar(id_, email, "writer")
        body = self._edits.insert(calendar, email, asked.json())
        return Answer(body=self._shown(asked, calendar, body, email, None, role), headers={"ETag": body["etag"]})

    def _update(self, asked: Asked, id_: str, entry: str) -> Answer:
        email = self._person(asked, *WRITE)
        calendar, role = self._world.calendar(id_, email, "writer")
        whole = asked.method == "PUT"
        body = self._edits.update(calendar, email, entry, asked.json(), if_match=asked.headers.get("if-match"), whole=whole)
        return Answer(body=self._shown(asked, calendar, body, email, None, role), headers={"ETag": body["etag"]})

    def _delete(self, asked: Asked, id_: str, entry: str) -> Answer:
        email = self._person(asked, *WRITE)
        calendar, _ = self._world.calendar(id_, email, "writer")
        self._edits.delete(calendar, entry, if_match=asked.headers.get("if-match"))
        return Answer(status=204)

    def _move(self, asked: Asked, id_: str, entry: str) -> Answer:
        email = self._person(asked, *WRITE)
        if "destination" not in asked.query:
            raise required("destination")
        calendar, _ = self._world.calendar(id_, email, "writer")
        target, role = self._world.calendar(asked.query["destination"], email, "writer")
        body = self._edits.move(calendar, entry, target)
        return Answer(body=self._shown(asked, target, body, email, None, role))

    # --- channels -----------------------------------------------------------------------------------------------------

    def _watch(self, asked: Asked, email: str, resource: str, path: str) -> Answer:
        client = self._token(asked).client
        return Answer(body=self._channels.open(asked.json(), email, client, resource, f"{self.address}{path}?alt=json"))

    def _stop(self, asked: Asked) -> Answer:
        email, wanted = self._person(asked, *LIST, *READ), asked.json()
        self._channels.close(wanted.get("id"), wanted.get("resourceId"), email, self._token(asked).client)
        return Answer(status=204)


def _refuse(asked: Asked, names: tuple[str, ...]) -> None:
    for name in names:
        if name in asked.query:
            raise Refusal(400, "badRequest", f"The parameter {name} cannot be used with a sync token.", location=name)


def _key(order: str, body: Json) -> Any:
    if order == "updated":
        return body.get("updated", "")
    return moment_of(body["start"]).timestamp() if "start" in body else 0.0


def _moment(asked: Asked, name: str) -> datetime | None:
    text = asked.query.get(name)
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise invalid(name) from None
    if moment is not None and moment.tzinfo is None:
        raise invalid(name, "A time zone offset is required.")
    return moment


def _within(calendar: Calendar, body: Json, least: datetime | None, most: datetime | None) -> bool:
    """Say whether an entry, or any occurrence of a series, is in the time asked for."""
    if (least is None and most is None) or "start" not in body:
        return True
    if body.get("recurrence") and body["status"] != "cancelled":
        until = most or (least or moment_of(body["start"])) + HORIZON
        return any(_within(calendar, {**each, "recurrence": None}, least, most) for each in calendar.instances(body, until))
    return (least is None or moment_of(body["end"]) > least) and (most is None or moment_of(body["start"]) < most)


def _has(asked: Asked, body: Json, which: str) -> bool:
    wanted = asked.query.get(f"{which}ExtendedProperty")
    if wanted is None:
        return True
    name, _, value = wanted.partition("=")
    properties: Mapping[str, Any] = body.get("extendedProperties", {}).get(which, {})
    return bool(properties.get(name) == value)
