"""What can be made to go wrong, each by a name: the one table of switches, and which of them are on.

A switch stays on for so many requests (or webhooks) that it applies to, or until it is switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]

API = frozenset({"sync", "rest"})
SYNC = frozenset({"sync"})
REST = frozenset({"rest"})
TOKEN = frozenset({"token"})
WEBHOOK = frozenset({"webhook"})
#: what `endpoint` may name, to aim a switch elsewhere than where it applies by itself
ENDPOINTS = frozenset({"sync", "rest", "token", "revoke", "authorize", "metadata"})

#: when a switch works: at once; instead of the answer; on the answer once all has happened; or in the middle of the work
When = Literal["at once", "before", "after", "within"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One way to misbehave."""

    what: str
    when: When
    where: frozenset[str] = API  #: the endpoints it applies to unless args name one
    args: Mapping[str, Any] = field(default_factory=dict)  #: what can be set, with its default


SWITCHES: Mapping[str, Switch] = {
    "html_answer": Switch(what="answers 200 with a maintenance page in HTML", when="before"),
    "status_500": Switch(what="answers 500", when="before"),
    "status_503": Switch(what="answers 503 with Retry-After", when="before", args={"seconds": 30}),
    "status_429": Switch(what="answers 429 with Retry-After in seconds", when="before", args={"seconds": 30}),
    "status_429_date": Switch(what="answers 429 with Retry-After as an HTTP date", when="before", args={"seconds": 30}),
    "status_429_bare": Switch(what="answers 429 with no hint when to return", when="before"),
    "unauthorized": Switch(what="answers 401 to a good token", when="before"),
    "slow_answer": Switch(what="waits before it answers", when="after", args={"seconds": 20}),
    "never_ending_body": Switch(what="sends blanks instead of the body, without an end", when="after"),
    "drop_connection": Switch(what="drops the connection after some bytes of the body", when="after", args={"bytes": 20}),
    "truncated_json": Switch(what="ends the JSON in the middle", when="after"),
    "wrong_content_type": Switch(what="calls the JSON text/html", when="after"),
    "unknown_fields": Switch(what="adds members nobody documented", when="after"),
    "null_fields": Switch(what="puts null into every member that may be null", when="after"),
    "whole_seconds": Switch(what="writes moments without microseconds, as the real one also does", when="after"),
    "duplicate_objects": Switch(what="lists every object twice", when="after"),
    "empty_pages": Switch(what="gives an empty page with a next_cursor", when="within", where=REST),
    "completed_rounds": Switch(what="lists recurring tasks among the completed ones, once for each round", when="within", where=REST),
    "forced_full_sync": Switch(what="answers an incremental request with full_sync true", when="within", where=SYNC),
    "stale_full_sync": Switch(
        what="answers a full sync from the past; the next incremental one brings the rest",
        when="within",
        where=SYNC,
        args={"seconds": 3600},
    ),
    "fail_commands": Switch(what="answers 200 and says of each command that it failed for now", when="within", where=SYNC),
    "forget_sync_tokens": Switch(what="refuses every sync token given so far", when="at once"),
    "expire_tokens": Switch(what="lets every access token end now", when="at once", args={"user": None}),
    "kill_grant": Switch(what="revokes every token, as a user who removes the app", when="at once", args={"user": None}),
    "lost_token_answer": Switch(what="rotates, then drops the connection", when="within", where=TOKEN),
    "token_500_after_rotating": Switch(what="rotates, then answers 500", when="within", where=TOKEN),
    "token_500_without_rotating": Switch(what="answers 500 and changes nothing", when="before", where=TOKEN),
    "legacy_ten_years": Switch(what="gives ten-year access tokens and no refresh token", when="within", where=TOKEN),
    "legacy_no_expiry": Switch(what="gives access tokens without expires_in and no refresh token", when="within", where=TOKEN),
    "drop_webhooks": Switch(what="never pushes what happened", when="within", where=WEBHOOK),
    "late_webhooks": Switch(what="pushes what happened later", when="within", where=WEBHOOK, args={"seconds": 60}),
    "reorder_webhooks": Switch(what="pushes what happened after what happens next", when="within", where=WEBHOOK),
    "duplicate_webhooks": Switch(what="pushes everything twice, under one delivery id", when="within", where=WEBHOOK),
    "forge_webhooks": Switch(what="signs what it pushes with a wrong secret", when="within", where=WEBHOOK),
}


class NoSuchSwitch(ValueError):
    """The name, an argument or a number is not in the table: look it up there."""


@dataclass(slots=True, kw_only=True)
class _On:
    times: int | None
    where: frozenset[str]
    args: Json


class Misbehaviour:
    """The switches that are on. `at_once` carries out those that work immediately."""

    def __init__(self, at_once: Mapping[str, Callable[[Json], None]]) -> None:
        self._at_once = at_once
        self._on: dict[str, _On] = {}

    def on(self, name: str, *, times: int | None = None, **args: Any) -> None:
        """Switch one on, for so many requests or until it is switched off. `endpoint` in args aims it elsewhere."""
        switch = SWITCHES.get(name)
        if switch is None:
            raise NoSuchSwitch(f"There is no switch {name!r}; the names are {', '.join(SWITCHES)}.")
        endpoint = args.pop("endpoint", None)
        if endpoint is not None and (endpoint not in ENDPOINTS or switch.when not in {"before", "after"}):
            raise NoSuchSwitch(f"{name} cannot be aimed at {endpoint!r}; the endpoints are {', '.join(sorted(ENDPOINTS))}.")
        for given, value in args.items():
            if given not in switch.args or (isinstance(switch.args[given], int) and not _natural(value)):
                raise NoSuchSwitch(f"{name} takes no {given}={value!r}; it takes {dict(switch.args) or 'nothing'}.")
        if times is not None and not (_natural(times) and times > 0):
            raise NoSuchSwitch(f"times={times!r} is no number of requests; leave it out for no end.")
        if switch.when == "at once":
            self._at_once[name]({**switch.args, **args})
            return
        where = switch.where if endpoint is None else frozenset({endpoint})
        self._on[name] = _On(times=times, where=where, args={**switch.args, **args})

    def off(self, name: str | None = None) -> None:
        """Switch one off, or all of them."""
        if name is None:
            self._on.clear()
        self._on.pop(name or "", None)

    def active(self) -> dict[str, Json]:
        """Give the switches that are on: {name: {times, args}}."""
        return {name: {"times": on.times, "args": on.args} for name, on in self._on.items()}

    def take(self, name: str, endpoint: str) -> Json | None:
        """Give the arguments of a switch that is on here, and count it as used; None when it is off."""
        on = self._on.get(name)
        if on is None or endpoint not in on.where:
            return None
        if on.times is not None:
            on.times -= 1
            if on.times == 0:
                del self._on[name]
        return on.args

    def taken(self, when: When, endpoint: str) -> list[tuple[str, Json]]:
        """Take every switch of a kind that is on here, in the order of the table."""
        names = [name for name, switch in SWITCHES.items() if switch.when == when and name in self._on]
        return [(name, args) for name in names if (args := self.take(name, endpoint)) is not None]


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
