"""The pages that people meet: connecting and its outcomes, and the console.

One function for each page; values in, HTML out. Everything that comes from outside is escaped by jinja2. The words are in the
templates beside the stylesheet, in the folder `pages`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from oo_daemon.ports import SECOND, moment

if TYPE_CHECKING:
    from jinja2 import Environment

Status = Literal["waiting", "pending", "connected", "denied", "failed"]


class Asked(Protocol):
    """One thing that a person is asked to allow."""

    @property
    def id(self) -> str:
        """The provider's word for it."""

    @property
    def sentence(self) -> str:
        """What it lets oO do."""

    @property
    def optional(self) -> bool:
        """Whether the person may leave it out."""

    @property
    def ticked(self) -> bool:
        """Whether it is allowed unless the person says otherwise."""


class CodeToEnter(Protocol):
    """A code, and where the person enters it."""

    @property
    def user_code(self) -> str:
        """What they enter."""

    @property
    def address(self) -> str:
        """Where."""

    @property
    def complete(self) -> str:
        """The same with the code in it; may be empty."""

    @property
    def expires_at(self) -> int:
        """When it is too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One field that a person fills in."""

    id: str
    label: str
    help: str
    secret: bool
    value: str = field(repr=False)
    problem: str


#: What is said where something went wrong: heading, what it means, what to do next.
_PROBLEMS = {
    404: (
        "There is nothing here",
        "The address may be mistyped, or it is no longer in use.",
        "If a link brought you here, ask for a new one.",
    ),
    408: (
        "That took too long",
        "The connection was too slow for oO to wait.",
        "Try again, if you can on a better connection.",
    ),
    413: (
        "That is too large",
        "More was sent than oO takes in one piece.",
        "Send less at a time.",
    ),
    415: (
        "That cannot be unpacked",
        "What was sent is packed in a way that oO does not take.",
        "Send it as it is, or packed with gzip or deflate.",
    ),
    429: (
        "One moment",
        "Many requests come from your network right now.",
        "Try again in a few seconds.",
    ),
    503: (
        "oO cannot answer right now",
        "This is nothing that you did.",
        "Try again in a minute.",
    ),
}
_UNCLEAR = (
    "That did not work",
    "oO could not make sense of what was sent.",
    "Go back to where you came from and try again.",
)


def front(*, host: str) -> str:
    """What this place is, for somebody who came without a link."""
    return _render("front.html", host=host)


def offer(
    *,
    host: str,
    provider: str,
    user: str,
    account: str,
    sees: Collection[Asked],
    changes: Collection[Asked],
    kept: Collection[str],
    expires_at: datetime,
    now: datetime,
    cookie_missing: bool = False,
    fields: Collection[Entry] = (),
    refused: str = "",
    manual_revocation: str = "",
    by_code: bool = False,
) -> str:
    """What a person is asked to agree to. `account` is empty where it has no name of its own; `kept` are sentences.

    `cookie_missing` says that the button was pressed and our cookie did not come with it. `fields` are those of a key that is entered here,
    in place of a sign-in at the provider; `refused` says why the last one was not accepted.
    """
    return _render(
        "offer.html",
        host=host,
        provider=provider,
        user=user,
        account=account,
        sees=sees,
        changes=changes,
        kept=kept,
        expires_at=expires_at,
        lasts=lasting(expires_at - now),
        cookie_missing=cookie_missing,
        fields=fields,
        refused=refused,
        manual_revocation=manual_revocation,
        by_code=by_code,
    )


def outcome(
    *,
    provider: str,
    status: Status,
    reason: str = "",
    label: str = "",
    user: str = "",
    replaces: str = "",
    withheld: Collection[str] = (),
    return_to: str = "",
    own_page: bool = False,
    by_key: bool = False,
    code: CodeToEnter | None = None,
    now: datetime | None = None,
) -> str:
    """How connecting ended, or the question whether it is the right account.

    `label` is how the person knows the account, `replaces` the one whose place it would take; `reason` is a sentence. All may be empty.
    `own_page`: it leads back to the person's own page.
    """
    return _render(
        {"pending": "confirm.html", "waiting": "code.html"}.get(status, "outcome.html"),
        provider=provider,
        status=status,
        reason=reason,
        label=label,
        user=user,
        replaces=replaces,
        withheld=withheld,
        return_to=return_to,
        return_host=urlsplit(return_to).netloc,
        own_page=own_page,
        by_key=by_key,
        code=code,
        code_host=urlsplit(code.address).netloc if code else "",
        lasts=lasting(moment(code.expires_at) - now) if code and now else "",
    )


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds of one type. `months` are those of its records, as "2024-11"."""

    type: str
    records: int
    events: int
    months: Mapping[str, int]

    @property
    def title(self) -> str:
        """The type, as people say it."""
        return self.type.replace("_", " ").capitalize()

    @property
    def step(self) -> str:
        """What a bar stands for."""
        return "month" if len(self._span("month")) <= _MOST_BARS else "year"

    @property
    def bars(self) -> list[Bar]:
        """A chart, from its first month to its last; none where there is too little to see."""
        spans = self._span(self.step)
        counts = dict.fromkeys(spans, 0)
        for month, records in self.months.items():
            counts[month if self.step == "month" else month[:4]] += records
        if sum(map(bool, counts.values())) < _FEWEST_BARS:
            return []
        most, width = max(counts.values()), _CHART[0] / len(spans)
        heights = [_CHART[1] * count / most for count in counts.values()]
        return [
            Bar(
                label=label,
                records=records,
                x=round(number * width, 2),
                y=round(_BASE - height, 2),
                width=round(width * 0.8, 2),
                height=round(height, 2),
            )
            for number, ((label, records), height) in enumerate(zip(counts.items(), heights, strict=True))
        ]

    @property
    def most(self) -> int:
        """The highest bar."""
        return max(bar.records for bar in self.bars)

    def _span(self, step: str) -> list[str]:
        """Every month or year from the first to the last."""
        if not self.months:
            return []
        first, last = min(self.months), max(self.months)
        if step == "year":
            return [str(year) for year in range(int(first[:4]), int(last[:4]) + 1)]
        begin, end = (int(month[:4]) * 12 + int(month[5:]) - 1 for month in (first, last))
        return [f"{month // 12:04}-{month % 12 + 1:02}" for month in range(begin, end + 1)]


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of a chart."""

    label: str
    records: int
    x: float
    y: float
    width: float
    height: float


#: A chart's width and height, and where its bars stand, in its own units; the fewest and most bars that say something.
_CHART, _BASE = (600, 64), 80
_FEWEST_BARS, _MOST_BARS = 5, 60


def import_(
    *,
    here: str,
    provider: str,
    user: str,
    endings: Collection[str],
    kept: Collection[str],
    state: str,
    name: str,
    size: int | None,
    received: int,
    done: int,
    records: int,
    events: int,
    reason: str,
    problem: str,
    kinds: Sequence[Kind],
) -> str:
    """Where a person hands in a file, and sees how far it is and what was in it. `problem` says why the last try was not taken."""
    return _render(
        "import.html",
        script=import_script_version(),
        here=here,
        provider=provider,
        user=user,
        endings=endings,
        kept=kept,
        state=state,
        name=name,
        size=size,
        received=received,
        done=done,
        records=records,
        events=events,
        reason=reason,
        problem=problem,
        kinds=kinds,
    )


def link_gone() -> str:
    """The link was used, is too old, or never was."""
    return _message(
        "This link no longer works",
        "Each link works once, and only for some minutes.",
        "Ask whoever gave it to you for a new one.",
    )


def identify(*, host: str, provider: str, user: str, issuer: str, here: str, cookie_missing: bool) -> str:
    """Who opens a link must prove first who they are: at the issuer, or, where that is empty, by coming from the product.

    `provider` is what the link connects; empty where it opens the person's own page.
    """
    return _render("identify.html", host=host, provider=provider, user=user, issuer=issuer, here=here, cookie_missing=cookie_missing)


def not_proved(*, said_no: bool = False) -> str:
    """Who somebody is was not shown. The same words for every cause."""
    meaning = "You did not sign in." if said_no else "It took too long, was used before, or began in another browser."
    return _message(
        "oO does not know who you are",
        f"{meaning} Nothing was opened or connected.",
        "Go back to where you came from, and begin there again in this browser.",
    )


def not_theirs(*, host: str) -> str:
    """Who signed in is somebody else."""
    return _message(
        "This link is for somebody else",
        f"You signed in at {host} as another person than the link was made for. Nothing was opened or connected.",
        "If it was meant for you, sign out there and open the link again. Otherwise close this page.",
    )


def flow_refused() -> str:
    """The way back from the provider leads nowhere. The same words for every cause."""
    return _message(
        "This could not be finished",
        "It took too long, was finished before, or began in another browser. Nothing was connected just now.",
        "Ask for a new link, then open it and finish it in the same browser.",
    )


def person(template: str, **values: object) -> str:
    """A page of the person whose data it is."""
    return _render(f"person/{template}", **values)


def visit_over() -> str:
    """Nobody is known in this browser any more."""
    return _message(
        "Your page is closed",
        "You closed it, an hour has passed, or you opened it in another browser.",
        "To open it again, ask for a new link where you got the last one.",
    )


def not_own_form() -> str:
    """A form was sent that did not come with the page."""
    return _message(
        "Nothing was done",
        "This form is too old, or did not come from your page.",
        "Load your page again and press the button once more.",
    )


def problem(status: int) -> str:
    """What went wrong, for an HTTP status. Nothing of the request is repeated."""
    return _message(*_PROBLEMS.get(status, _UNCLEAR))


def console(template: str, **values: object) -> str:
    """A page of the console, or a part of one."""
    return _render(f"console/{template}", **values)


@cache
def script() -> bytes:
    """Our one script, for what moves."""
    return files("oo_daemon.ingress").joinpath("pages", "console", "live.js").read_bytes()


@cache
def stylesheet() -> bytes:
    """Our one stylesheet."""
    return files("oo_daemon.ingress").joinpath("pages", "style.css").read_bytes()


@cache
def stylesheet_version() -> str:
    """Changes with the stylesheet, so that browsers can keep it and still see a new one at once."""
    return hashlib.blake2b(stylesheet(), digest_size=6).hexdigest()


@cache
def import_script() -> bytes:
    """The script of the page on which files are handed in."""
    return files("oo_daemon.ingress").joinpath("pages", "import.js").read_bytes()


@cache
def import_script_version() -> str:
    """Changes with the script."""
    return hashlib.blake2b(import_script(), digest_size=6).hexdigest()


def lasting(left: timedelta) -> str:
    """A span as people say it.

    >>> lasting(timedelta(minutes=12, seconds=40)), lasting(timedelta(seconds=70)), lasting(timedelta(seconds=9))
    ('12 minutes', '1 minute', 'less than a minute')
    """
    minutes = int(left.total_seconds() // 60)
    return "less than a minute" if minutes < 1 else "1 minute" if minutes == 1 else f"{minutes} minutes"


def around(then: int, now: int) -> str:
    """A time as people say it, seen from now; both in microseconds.

    >>> [around(then * SECOND, 1_000_000 * SECOND) for then in (1_000_000, 999_700, 1_007_300, 700_000)]
    ['now', '5 minutes ago', 'in 2 hours', '3 days ago']
    """
    seconds = abs(then - now) // SECOND
    if seconds < 5:
        return "now"
    sizes = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
    word, size = next((word, size) for word, size in sizes if seconds >= size)
    count = seconds // size
    told = f"{count} {word}" if count == 1 else f"{count} {word}s"
    return f"in {told}" if then > now else f"{told} ago"


def span(seconds: float) -> str:
    """A time that something takes, as people say it.

    >>> [span(seconds) for seconds in (0.0014, 0.25, 1.41, 64, 400, 90_000)]
    ['1 ms', '250 ms', '1.4 s', '64 s', '7 min', '25 h']
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 and seconds % 1 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def numbered(number: float) -> str:
    """A number with thin separators.

    >>> numbered(1234567)
    '1\u202f234\u202f567'
    """
    return f"{number:,.0f}".replace(",", "\u202f")


def _message(heading: str, meaning: str, remedy: str) -> str:
    return _render("message.html", heading=heading, meaning=meaning, remedy=remedy)


def _render(template: str, **values: object) -> str:
    return _templates().get_template(template).render(style=stylesheet_version(), **values)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here, since a daemon whose pages nobody opens need not carry it

    loader = PackageLoader("oo_daemon.ingress", "pages")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(around=around, numbered=numbered, moment=moment, span=span)
    environment.filters["size"] = lambda size: f"{size / 1_000_000:.1f} MB" if size >= 1_000_000 else f"{size / 1000:.0f} kB"
    environment.filters["exactly"] = lambda when: f"{when:%-d %B %Y, %H:%M:%S} UTC"
    return environment
