"""The shapes of Google Calendar's answers, as far as oO reads them: members that are not declared here never get further.

Facts are from the discovery document of Calendar v3 and from bodies seen on the wire. Every id is an opaque string. What Google marks as
always present may be missing from cancelled entries, of which only the id is sure.
"""

from __future__ import annotations

from datetime import datetime

from oo_sdk import Raw, Struct


def spelled(name: str) -> str:
    """Give Google's spelling of a member."""
    first, *others = name.split("_")
    return {"ical_uid": "iCalUID", "own": "self"}.get(name, first + "".join(map(str.capitalize, others)))


class Shape(Struct, rename=spelled):
    """What all shapes have: Google's spelling."""


class Subject(Shape):
    """What is read first, so that something that cannot be read further can at least be named."""

    id: str


class Override(Shape):
    """One alarm: how, and how many minutes before."""

    method: str | None = None
    minutes: int | None = None


class Listed(Subject, kw_only=True):
    """One entry of the list of calendars."""

    etag: str | None = None
    summary: str | None = None
    summary_override: str | None = None
    description: str | None = None
    location: str | None = None
    time_zone: str | None = None
    access_role: str | None = None
    primary: bool = False
    selected: bool = False
    hidden: bool = False
    deleted: bool = False
    color_id: str | None = None
    default_reminders: list[Override] | None = None


class Moment(Shape):
    """A day, "2026-11-22", or an instant with an offset, and the zone in which it was meant."""

    date: str | None = None
    date_time: str | None = None
    time_zone: str | None = None


class Someone(Shape):
    """Who made an entry, or whose it is. The address may be missing where only a profile is known."""

    email: str | None = None
    display_name: str | None = None
    own: bool = False


class Guest(Someone, kw_only=True):
    """Who is invited."""

    response_status: str | None = None
    comment: str | None = None
    optional: bool = False
    resource: bool = False
    organizer: bool = False
    additional_guests: int | None = None


class Reminders(Shape):
    """What calls an entry to mind."""

    use_default: bool = False
    overrides: list[Override] | None = None


class EntryPoint(Shape):
    """One way into a conference. Its codes and passwords are not read."""

    entry_point_type: str | None = None
    uri: str | None = None
    label: str | None = None


class Solution(Shape):
    """The service that a conference is held with."""

    name: str | None = None


class Conference(Shape):
    """How to meet from afar."""

    conference_id: str | None = None
    conference_solution: Solution | None = None
    entry_points: list[EntryPoint] | None = None


class Source(Shape):
    """What an entry was made from."""

    url: str | None = None


class Entry(Subject, kw_only=True):
    """What Google calls an event: one entry, a recurring one, or one occurrence that differs from its rule."""

    etag: str | None = None
    status: str | None = None
    created: datetime | None = None
    updated: datetime | None = None
    summary: str | None = None
    description: str | None = None
    location: str | None = None
    start: Moment | None = None
    end: Moment | None = None
    end_time_unspecified: bool = False
    recurrence: list[str] | None = None
    recurring_event_id: str | None = None
    original_start_time: Moment | None = None
    ical_uid: str | None = None
    sequence: int | None = None
    transparency: str | None = None
    visibility: str | None = None
    event_type: str | None = None
    creator: Someone | None = None
    organizer: Someone | None = None
    attendees: list[Guest] | None = None
    attendees_omitted: bool = False
    hangout_link: str | None = None
    conference_data: Conference | None = None
    reminders: Reminders | None = None
    color_id: str | None = None
    event_label_id: str | None = None
    source: Source | None = None
    html_link: str | None = None
    locked: bool = False


class Page(Shape):
    """One page of a list. It may hold nothing while more pages come: only the absence of `nextPageToken` ends the list."""

    items: list[Raw]
    next_page_token: str | None = None
    next_sync_token: str | None = None


class Fault(Shape):
    """One of the reasons for a refusal."""

    domain: str | None = None
    reason: str | None = None


class Faults(Shape):
    """Why a request was refused."""

    errors: list[Fault] | None = None
    status: str | None = None


class Refused(Shape):
    """The body of a refusal."""

    error: Faults


class Kept(Subject, kw_only=True):
    """What an action looks at before it changes an entry. The guests are kept whole, since they are sent back."""

    etag: str | None = None
    status: str | None = None
    attendees: list[dict[str, object]] | None = None
    extended_properties: Properties | None = None


class Properties(Shape):
    """What programs note on an entry for themselves."""

    private: dict[str, str] | None = None


class Channel(Shape):
    """A push channel, as Google answers it."""

    id: str
    resource_id: str
    expiration: str | None = None
