"""The whole state of the stand-in: people, calendars, lists, tokens. No HTTP, no clock and no chance of its own."""

from __future__ import annotations

import hmac
import json
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from oo_google_calendar.sandbox.calendars import ROLES, Calendar, Journal
from oo_google_calendar.sandbox.grants import Client, Grants
from oo_google_calendar.sandbox.refusals import forbidden, invalid, not_found, spent
from oo_sdk.stand_in import Window

Json = dict[str, Any]

MINUTE = timedelta(minutes=1)
PER_USER, PER_PROJECT = 600, 10_000
#: How long a sync token works. Google does not say; of `updatedMin` about as much is known.
SYNC_LIFE = timedelta(days=30)
#: Members of an entry that each person has of their own.
OWN = {"reminders", "colorId", "etag", "updated"}
DIGITS = "0123456789abcdefghijklmnopqrstuv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with an account. Their address is also the id of their first calendar."""

    email: str
    name: str


class World:
    """Google Calendar's state. `seed` decides ids, so that they repeat; `token` gives what must not be guessed."""

    def __init__(
        self, *, now: Callable[[], datetime], seed: int, token: Callable[[], str], expires_in: int = 3600, testing: bool = False
    ) -> None:
        self.now = now
        self.token = token
        self.people: dict[str, Person] = {}
        self.calendars: dict[str, Calendar] = {}
        self.lists: dict[str, Journal] = {}  #: by address: entries of the list of calendars
        self.grants = Grants(now=now, token=token, expires_in=expires_in, testing=testing)
        self.position = 0
        self.listeners: list[Callable[[str], None]] = []  #: told the resource that changed
        self._chance = random.Random(seed)  # noqa: S311 (ids only; they are to repeat)
        self._key = token().encode()[:64]
        self._window = Window(MINUTE)
        self._generation = 0

    # --- people, clients, calendars -----------------------------------------------------------------------------------

    def new_id(self, digits: int = 26) -> str:
        """Give an id as entries have it."""
        return "".join(self._chance.choices(DIGITS, k=digits))

    def add_client(self, name: str, redirect_uris: tuple[str, ...] = ()) -> Client:
        """Register a Web client of the project."""
        number, tail, secret = self._chance.randrange(10**11, 10**12), self.new_id(32), self.new_id(28)
        client = Client(id=f"{number}-{tail}.apps.googleusercontent.com", secret=f"GOCSPX-{secret}", name=name, redirect_uris=redirect_uris)
        self.grants.clients[client.id] = client
        return client

    def add_person(self, email: str, name: str, zone: str = "UTC") -> Person:
        """Add somebody with an empty calendar."""
        person = self.people[email] = Person(email=email, name=name)
        self.lists[email] = Journal()
        calendar = self.calendars[email] = Calendar(id=email, summary=email, zone=zone, owner=email, roles={email: "owner"})
        self.subscribe(person.email, calendar)
        return person

    def add_calendar(self, owner: str, summary: str, zone: str = "UTC", id_: str = "") -> Calendar:
        """Add another calendar, and put it into its owner's list."""
        id_ = id_ or f"c_{self._chance.getrandbits(128):032x}@group.calendar.google.com"
        calendar = self.calendars[id_] = Calendar(id=id_, summary=summary, zone=zone, owner=owner, roles={owner: "owner"})
        self.subscribe(owner, calendar)
        return calendar

    def person(self, who: str) -> Person | None:
        """Find a person by address or by the part before the @."""
        named = (person for email, person in self.people.items() if email.partition("@")[0] == who.lower())
        return self.people.get(who) or next(named, None)

    def subscribe(self, email: str, calendar: Calendar, role: str | None = None) -> None:
        """Put a calendar into somebody's list, with the role that they have there."""
        if role is not None:
            calendar.roles[email] = role
        entry: Json = {
            "kind": "calendar#calendarListEntry",
            "id": calendar.id,
            "summary": calendar.summary,
            "timeZone": calendar.zone,
            "colorId": "14",
            "backgroundColor": "#9fe1e7",
            "foregroundColor": "#000000",
            "selected": True,
            "accessRole": calendar.roles[email],
            "defaultReminders": [{"method": "popup", "minutes": 30}] if calendar.id == email else [],
            "conferenceProperties": {"allowedConferenceSolutionTypes": ["hangoutsMeet"]},
        }
        entry |= {"primary": True} if calendar.id == email else {"dataOwner": calendar.owner}
        self.put_listed(email, entry)

    def put_listed(self, email: str, entry: Json) -> None:
        """Record a new or changed entry of somebody's list."""
        position = self._next()
        self.lists[email].put(position, entry["id"], {**entry, "etag": f'"{position:016}"'})
        self._tell(f"{email}/calendarList")

    def change_listed(self, email: str, id_: str, **members: Any) -> None:
        """Change an entry of somebody's list; `deleted=True` takes it out."""
        entry = self.lists[email].bodies[id_]
        if members.get("deleted"):
            entry = {"kind": entry["kind"], "id": id_}
        self.put_listed(email, {name: value for name, value in {**entry, **members}.items() if value is not None})

    def remove_calendar(self, calendar: Calendar) -> None:
        """Delete a calendar, and take it out of every list."""
        calendar.deleted = True
        for email, listed in self.lists.items():
            if not listed.bodies.get(calendar.id, {"deleted": True}).get("deleted"):
                self.change_listed(email, calendar.id, deleted=True)

    def calendar(self, id_: str, email: str, needed: str) -> tuple[Calendar, str]:
        """Give a calendar by id, and the person's role there, which must be at least the one needed."""
        calendar = self.calendars.get(email if id_ == "primary" else id_)
        role = calendar.roles.get(email, "none") if calendar is not None and not calendar.deleted else "none"
        if calendar is None or role == "none":
            raise not_found()
        if ROLES.index(role) < ROLES.index(needed):
            raise forbidden("requiredAccessLevel", f"You need to have {needed} access to this calendar.")
        return calendar, role

    # --- entries ------------------------------------------------------------------------------------------------------

    def put(self, calendar: Calendar, body: Json, *, silent: bool = False) -> Json:
        """Record a new or changed entry; gives it with its etag. A silent change is in no list of changes."""
        position = calendar.entries.changed.get(body["id"], 0) if silent else self._next()
        body = {**body, "etag": f'"{position:016}"'}
        if silent:
            calendar.entries.bodies[body["id"]] = body
            return body
        calendar.put(position, body)
        self._tell(f"{calendar.id}/events")
        return body

    def invite(self, calendar: Calendar, body: Json, before: Json | None) -> None:
        """Give every guest who is in this world a copy in their first calendar, and take it from those who no longer are."""
        if body["organizer"]["email"] != calendar.id:
            return
        guests = {guest["email"] for guest in body.get("attendees", ()) if body["status"] != "cancelled"} & self.people.keys()
        former = {guest["email"] for guest in (before or {}).get("attendees", ())} & self.people.keys()
        for email in sorted((guests | former) - {calendar.id}):
            theirs = self.calendars[email]
            known = theirs.entries.bodies.get(body["id"], {})
            if email in guests:
                own = {name: known[name] for name in OWN & known.keys()} or {"reminders": {"useDefault": True}}
                shared = {name: value for name, value in body.items() if name not in {"extendedProperties", *OWN}}
                properties = {"extendedProperties": known["extendedProperties"]} if "extendedProperties" in known else {}
                self.put(theirs, {**shared, **own, **properties, "updated": body["updated"]})
            elif known and known["status"] != "cancelled":
                # All that is sure of a deleted entry is its id.
                self.put(theirs, {"kind": "calendar#event", "id": body["id"], "status": "cancelled"})

    # --- tokens and limits --------------------------------------------------------------------------------------------

    def sealed(self, *parts: Any) -> str:
        """Write parts as an opaque text that only we can write."""
        text = json.dumps(parts, separators=(",", ":")).encode()
        return urlsafe_b64encode(blake2b(text, key=self._key, digest_size=8).digest() + text).decode().rstrip("=")

    def opened(self, token: str, name: str) -> list[Any]:
        """Read a text that we wrote; anything else is refused by the parameter's name."""
        try:
            raw = urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4))
        except ValueError:
            raise invalid(name) from None
        if not hmac.compare_digest(blake2b(raw[8:], key=self._key, digest_size=8).digest(), raw[:8]):
            raise invalid(name)
        parts: list[Any] = json.loads(raw[8:])
        return parts

    def sync_token(self, kind: str, until: int) -> str:
        """Give the token that tells what changes from here on."""
        return self.sealed(kind, self._generation, int(self.now().timestamp()), until)

    def since(self, token: str, kind: str) -> int | None:
        """Read a sync token: the position where it left off; None where it is too old, or of another question."""
        what, generation, given, position = self.opened(token, "syncToken")
        old = self.now().timestamp() - given >= SYNC_LIFE.total_seconds()
        return None if what != kind or generation != self._generation or old else int(position)

    def forget_sync_tokens(self) -> None:
        """Let every sync token given so far end."""
        self._generation += 1

    def spend(self, email: str) -> None:
        """Count a request against the person's and the project's minute."""
        now = self.now()
        for who, most, reason in ((email, PER_USER, "userRateLimitExceeded"), ("", PER_PROJECT, "rateLimitExceeded")):
            if self._window.spend(who, most, now) is not None:
                raise spent(reason)

    def _next(self) -> int:
        self.position += 1
        return self.position

    def _tell(self, resource: str) -> None:
        for listener in self.listeners:
            listener(resource)
