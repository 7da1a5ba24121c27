"""Where the connector left off: one place in the list of calendars, and one in each calendar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from oo_sdk import Cursor

#: Raised when what is asked for changes: Google's tokens tell nothing of what they were not made for.
ASKED: Final = 1
#: How many deleted entries are remembered while the pages of one delta are read.
REMEMBERED: Final = 500


@dataclass(slots=True, kw_only=True)
class Place:
    """A place in one calendar. With neither token it is listed from the beginning."""

    sync: str | None = None  #: gives what changed since
    page: str | None = None  #: where the pages of a listing, or of what changed, go on
    gone: list[str] = field(default_factory=list)  #: entries that these pages told as deleted
    unread: bool = False  #: a page of this listing showed an entry that could not be read: nothing follows from what it lacks

    @property
    def is_begun(self) -> bool:
        """Say whether this is in the middle of a listing."""
        return self.sync is None and self.page is not None

    def bury(self, id_: str) -> None:
        """Remember a deleted entry."""
        self.gone = [*self.gone, id_][-REMEMBERED:]


@dataclass(slots=True, kw_only=True)
class Places:
    """The whole cursor."""

    list: str | None = None  #: sync token of the list of calendars
    calendars: dict[str, Place] = field(default_factory=dict)

    @classmethod
    def of(cls, cursor: Cursor | None) -> Places:
        """Read a cursor; one of other questions than are asked now only says which calendars there were."""
        if cursor is None:
            return cls()
        known = cursor["asked"] == ASKED
        places = {id_: _place(kept) if known else Place() for id_, kept in cursor["calendars"].items()}
        return cls(list=cursor["list"] if known else None, calendars=places)

    def cursor(self) -> Cursor:
        """Write it down, short: there may be hundreds of calendars."""
        return {"asked": ASKED, "list": self.list, "calendars": {id_: _kept(place) for id_, place in self.calendars.items()}}


def _place(kept: str | Mapping[str, Any] | None) -> Place:
    return Place(**kept) if isinstance(kept, Mapping) else Place(sync=kept)


def _kept(place: Place) -> str | Mapping[str, Any] | None:
    if place.page is None:
        return place.sync
    kept = {"sync": place.sync, "page": place.page, "gone": place.gone, "unread": place.unread}
    return {name: value for name, value in kept.items() if value}
