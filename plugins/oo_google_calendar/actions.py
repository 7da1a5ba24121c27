"""What can be done at Google Calendar, so that a try may be repeated after any doubt.

A new entry has an id made from the action's key, so that a second one is refused as taken. A change notes the key in the entry's private
properties, which only our client reads: an entry that carries the key is one that was changed already. Every write names the etag of
what was read (If-Match), so that nothing that somebody else wrote meanwhile is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote
from uuid import UUID

from oo_google_calendar.meaning import subject
from oo_google_calendar.refusals import ChangedMeanwhile, Deleted, Forbidden, Invalid, NotThere, Refusal, Taken
from oo_google_calendar.shapes import Kept
from oo_sdk import Action, ActionKind, ActionRefused, ActionResult, ConnectorBug, Context, RetryLater, Struct

SCOPE: Final = "https://www.googleapis.com/auth/calendar.events"
#: The private property that names the last action.
MARK: Final = "oo.action"
#: How often an entry that others change meanwhile is read again.
READS: Final = 3
#: The digits of base32hex, which ids of new entries are made of.
DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"
NOTIFY: Final = {"all": "all", "outside": "externalOnly", "nobody": "none"}

Notify = Literal["all", "outside", "nobody"]


class ThatEntry(Struct, kw_only=True):
    """Which entry, by the subject of its event; `version` is that event's, where a change since then shall not be written over."""

    id: str
    version: str = ""
    notify: Notify = "nobody"  #: which guests Google tells by mail


class Particulars(Struct, kw_only=True):
    """What can be said of an entry, new or not.

    `start` and `end` are days ("2026-11-22", the end being the first day after it), or instants with an offset. `recurrence` has the lines
    of RFC 5545, "RRULE:FREQ=WEEKLY", which are meant in `time_zone`.
    """

    start: str | None = None
    end: str | None = None
    time_zone: str | None = None
    description: str | None = None
    location: str | None = None
    recurrence: list[str] | None = None
    guests: list[str] | None = None
    free: bool | None = None
    visibility: Literal["default", "public", "private"] | None = None
    alarm_minutes: list[int] | None = None
    notify: Notify = "nobody"


class NewEntry(Particulars, kw_only=True):
    """An entry to be; without a calendar it goes to the person's first."""

    title: str
    start: str
    end: str
    calendar: str | None = None


class ChangedEntry(Particulars, kw_only=True):
    """An entry and what shall be different about it. An empty text or list takes away what was there."""

    id: str
    version: str = ""
    title: str | None = None


class MovedEntry(ThatEntry, kw_only=True):
    """An entry and the calendar that it goes to. Google moves what the person organizes, and a series as a whole."""

    calendar: str


class Answered(ThatEntry, kw_only=True):
    """An invitation and what is answered to it."""

    answer: Literal["accepted", "tentative", "declined"]
    comment: str | None = None


ACTIONS: Final[Sequence[ActionKind]] = (
    ActionKind(name="add_entry", sentence="Add an entry, or a series, to a calendar.", arguments=NewEntry, scope=SCOPE),
    ActionKind(name="update_entry", sentence="Change what an entry says and when it is.", arguments=ChangedEntry, scope=SCOPE),
    ActionKind(name="move_entry", sentence="Move an entry to another calendar.", arguments=MovedEntry, scope=SCOPE),
    ActionKind(
        name="delete_entry", sentence="Delete an entry; of a series, one occurrence or the whole.", arguments=ThatEntry, scope=SCOPE
    ),
    ActionKind(name="answer_invitation", sentence="Answer an invitation.", arguments=Answered, scope=SCOPE),
)


async def act(api: str, ctx: Context, action: Action) -> ActionResult:
    """Carry out an action."""
    arguments = action.arguments
    calls = _Calls(api, ctx, action)
    try:
        match action.name, arguments:
            case "add_entry", NewEntry():
                return await _add(calls, arguments)
            case "update_entry", ChangedEntry():
                return await _update(calls, arguments)
            case "move_entry", MovedEntry():
                return await _move(calls, arguments)
            case "delete_entry", ThatEntry():
                return await _delete(calls, arguments)
            case "answer_invitation", Answered():
                return await _answer(calls, arguments)
    except Refusal as refusal:
        raise _refused(refusal) from None
    raise ConnectorBug(f"google_calendar has no action {action.name} with these arguments")


class _Calls:
    """The requests of one action."""

    def __init__(self, api: str, ctx: Context, action: Action) -> None:
        self.api = api
        self.ctx = ctx
        self.key = action.key

    @property
    def mark(self) -> Mapping[str, Any]:
        """What a change leaves on the entry."""
        return {"extendedProperties": {"private": {MARK: self.key}}}

    async def read(self, calendar: str, id_: str) -> Kept:
        """Read an entry, also a cancelled one."""
        return await self.ctx.http.get(self.url(calendar, id_), into=Kept)

    async def write(
        self, method: str, url: str, *, json: Any = None, notify: Notify = "nobody", version: str | None = None, **params: str
    ) -> Kept:
        """Write, if the entry still is as it was in that version."""
        return await self.ctx.http.request(
            method,
            url,
            json=json,
            params={"sendUpdates": NOTIFY[notify], **params},
            headers={"If-Match": version} if version else None,
            into=Kept,
        )

    async def patch(self, calendar: str, kept: Kept, json: Mapping[str, Any], notify: Notify) -> Kept:
        """Change what was read."""
        return await self.write("PATCH", self.url(calendar, kept.id), json={**json, **self.mark}, notify=notify, version=kept.etag)

    def url(self, calendar: str, *more: str) -> str:
        return f"{self.api}/calendars/{quote(calendar, safe='')}/events" + "".join(f"/{quote(part, safe='')}" for part in more)


async def _add(calls: _Calls, new: NewEntry) -> ActionResult:
    calendar = new.calendar or str(calls.ctx.meta.get("calendar") or "primary")
    id_ = entry_id(calls.key)
    body = {"id": id_, "summary": new.title, **_particulars(new), **calls.mark}
    try:
        made = await calls.write("POST", calls.url(calendar), json=body, notify=new.notify)
    except Taken:  # by an earlier try: nobody else makes ids of this key
        made = await calls.read(calendar, id_)
    return _done(calendar, made)


async def _update(calls: _Calls, changed: ChangedEntry) -> ActionResult:
    calendar, id_ = _place(changed)
    body = _particulars(changed) | ({} if changed.title is None else {"summary": changed.title})
    if not body:
        raise ActionRefused("update_entry was given nothing to change; give it at least one argument besides the id")
    for _ in range(READS):
        kept = await _live(calls, calendar, id_)
        if _is_done(calls, kept):
            return ActionResult(subject=changed.id, detail=_version(kept))
        _check(changed, kept)
        try:
            return ActionResult(subject=changed.id, detail=_version(await calls.patch(calendar, kept, body, changed.notify)))
        except ChangedMeanwhile:
            continue
    raise RetryLater("others change the entry at the same time")


async def _move(calls: _Calls, moved: MovedEntry) -> ActionResult:
    calendar, id_ = _place(moved)
    try:
        kept = await _live(calls, calendar, id_)
    except (ActionRefused, NotThere):
        # An earlier try may have moved it; then it is there.
        there = await _live(calls, moved.calendar, id_)
        return ActionResult(subject=subject(moved.calendar, there.id), detail=_version(there))
    _check(moved, kept)
    url = f"{calls.url(calendar, id_)}/move"
    return _done(moved.calendar, await calls.write("POST", url, notify=moved.notify, destination=moved.calendar))


async def _delete(calls: _Calls, that: ThatEntry) -> ActionResult:
    calendar, id_ = _place(that)
    request = calls.ctx.http.request
    headers = {"If-Match": that.version} if that.version else None
    try:
        await request("DELETE", calls.url(calendar, id_), params={"sendUpdates": NOTIFY[that.notify]}, headers=headers)
    except Deleted:
        pass  # by an earlier try, or by somebody else: gone is gone
    except ChangedMeanwhile:
        if (await calls.read(calendar, id_)).status != "cancelled":
            raise
    return ActionResult(subject=that.id)


async def _answer(calls: _Calls, answered: Answered) -> ActionResult:
    calendar, id_ = _place(answered)
    for _ in range(READS):
        kept = await _live(calls, calendar, id_)
        if _is_done(calls, kept):
            return ActionResult(subject=answered.id, detail=_version(kept))
        _check(answered, kept)
        guests = [dict(guest) for guest in kept.attendees or ()]
        own = next((guest for guest in guests if guest.get("self")), None)
        if own is None:
            raise ActionRefused("the person is not invited to this entry, so there is nothing to answer")
        own["responseStatus"] = answered.answer
        if answered.comment is not None:
            own["comment"] = answered.comment
        try:
            written = await calls.patch(calendar, kept, {"attendees": guests}, answered.notify)
        except ChangedMeanwhile:
            continue
        return ActionResult(subject=answered.id, detail=_version(written))
    raise RetryLater("others change the entry at the same time")


def entry_id(key: str) -> str:
    """Make an entry's id of an action's key: its 128 bits in base32hex."""
    number, digits = UUID(key).int, ""
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits = DIGITS[digit] + digits
    return digits


async def _live(calls: _Calls, calendar: str, id_: str) -> Kept:
    kept = await calls.read(calendar, id_)
    if kept.status == "cancelled":
        raise ActionRefused("the entry was deleted or called off; look at it in Google Calendar")
    return kept


def _is_done(calls: _Calls, kept: Kept) -> bool:
    """Say whether this action has changed the entry already."""
    noted = kept.extended_properties.private if kept.extended_properties else None
    return noted is not None and noted.get(MARK) == calls.key


def _check(that: ThatEntry | ChangedEntry, kept: Kept) -> None:
    if that.version and that.version != kept.etag:
        raise ActionRefused("the entry has changed since that version; look at it again, and give the version that it has now")


def _particulars(entry: Particulars) -> dict[str, Any]:
    body: dict[str, Any] = {
        "start": _moment(entry.start, entry.time_zone),
        "end": _moment(entry.end, entry.time_zone),
        "description": entry.description,
        "location": entry.location,
        "recurrence": entry.recurrence,
        "visibility": entry.visibility,
        "transparency": None if entry.free is None else "transparent" if entry.free else "opaque",
        "attendees": None if entry.guests is None else [{"email": guest} for guest in entry.guests],
    }
    if entry.alarm_minutes is not None:
        overrides = [{"method": "popup", "minutes": minutes} for minutes in entry.alarm_minutes]
        body["reminders"] = {"useDefault": False, "overrides": overrides}
    return {name: value for name, value in body.items() if value is not None}


def _moment(written: str | None, time_zone: str | None) -> dict[str, str | None] | None:
    """Write a day or an instant. The other kind is taken away, since an entry may change from one to the other."""
    if written is None:
        return None
    if "T" not in written:
        return {"date": written, "dateTime": None, "timeZone": None}
    moment: dict[str, str | None] = {"date": None, "dateTime": written}
    return moment if time_zone is None else moment | {"timeZone": time_zone}


def _place(that: ThatEntry | ChangedEntry) -> tuple[str, str]:
    """Read a subject: its first part is the calendar, its last the entry."""
    calendar, _, id_ = that.id.partition("/")
    if not id_:
        raise ActionRefused("that is no entry: give the subject of its event, such as ada@example.com/4q6bc1f2")
    return calendar, id_.rpartition("/")[2]


def _done(calendar: str, kept: Kept) -> ActionResult:
    return ActionResult(subject=subject(calendar, kept.id), detail=_version(kept))


def _version(kept: Kept) -> Mapping[str, Any]:
    return {"version": kept.etag} if kept.etag else {}


def _refused(refusal: Refusal) -> ActionRefused:
    """Put a refusal into our words: Google's own may repeat what the person wrote."""
    match refusal:
        case NotThere():
            words = "Google Calendar does not know the calendar or the entry that the action names"
        case Forbidden():
            words = "this person may not change that entry or calendar; its owner or organizer may"
        case ChangedMeanwhile():
            words = "the entry has changed since that version; look at it again, and give the version that it has now"
        case Deleted():
            words = "the entry was deleted"
        case Invalid():
            words = "Google Calendar does not take what one of the arguments says; look at dates, zone, rule and guests"
        case _:
            words = "Google Calendar refuses it; look at the entry there"
    return ActionRefused(f"{words}{f' ({refusal.reason})' if refusal.reason else ''}")
