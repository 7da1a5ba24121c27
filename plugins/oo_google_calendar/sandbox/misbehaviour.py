"""What can be made to go wrong, each by a name: the one table of switches, and which of them are on.

A switch stays on for so many requests (or pushes) that it applies to, or until it is switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]

#: When a switch works: at once; in place of the answer; on the answer; in the middle of the work; or on a push.
When = Literal["at once", "before", "after", "within", "push"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One way to misbehave."""

    what: str
    when: When
    where: str = "api"  #: "api", "token" or "push"
    args: Mapping[str, Any] = field(default_factory=dict)  #: what can be set, with its default


SWITCHES: Mapping[str, Switch] = {
    "status_500": Switch(what="answers 500", when="before"),
    "status_503": Switch(what="answers 503 with Retry-After", when="before", args={"seconds": 30}),
    "status_429": Switch(what="answers 429, rateLimitExceeded", when="before"),
    "rate_limit": Switch(what="answers 403, rateLimitExceeded", when="before"),
    "user_rate_limit": Switch(what="answers 403, userRateLimitExceeded", when="before"),
    "quota": Switch(what="answers 403, quotaExceeded", when="before"),
    "daily_limit": Switch(what="answers 403, dailyLimitExceeded", when="before"),
    "not_configured": Switch(what="answers 403, accessNotConfigured", when="before"),
    "unauthorized": Switch(what="answers 401 to a good token", when="before"),
    "html_answer": Switch(what="answers 200 with a web page", when="before"),
    "slow_answer": Switch(what="waits before it answers", when="after", args={"seconds": 20}),
    "drop_connection": Switch(what="does the work, and drops the connection", when="after"),
    "truncated_json": Switch(what="ends the JSON in the middle", when="after"),
    "unknown_fields": Switch(what="adds members nobody documented", when="within"),
    "duplicate_items": Switch(what="lists everything twice", when="within"),
    "small_pages": Switch(what="puts no more than this many into a page", when="within", args={"items": 2}),
    "empty_pages": Switch(what="puts an empty page before each other one", when="within"),
    "no_sync_token": Switch(what="ends a list without a sync token", when="within"),
    "bad_token_400": Switch(what="answers 400, not 410, to a sync token that no longer works", when="within"),
    "silent_occurrences": Switch(what="says nothing of the occurrences of a series that is deleted", when="within"),
    "forget_sync_tokens": Switch(what="lets every sync token given so far end", when="at once"),
    "expire_tokens": Switch(what="lets every access token end now", when="at once", args={"user": None}),
    "kill_grant": Switch(what="revokes every token, as a person who removes the app", when="at once", args={"user": None}),
    "token_500": Switch(what="answers 500 at the token endpoint", when="before", where="token"),
    "refuse_channels": Switch(what="opens no channel, as where it does not know whose the address is", when="within"),
    "drop_pushes": Switch(what="does not push what happened", when="push", where="push"),
    "duplicate_pushes": Switch(what="pushes everything twice", when="push", where="push"),
    "forge_pushes": Switch(what="pushes with a channel token that is not the channel's", when="push", where="push"),
}


class NoSuchSwitch(ValueError):
    """The name or an argument is not in the table: look it up there."""


@dataclass(slots=True, kw_only=True)
class _On:
    times: int | None
    args: Json


class Misbehaviour:
    """The switches that are on. `at_once` carries out those that work immediately."""

    def __init__(self, at_once: Mapping[str, Callable[[Json], None]]) -> None:
        self._at_once = at_once
        self._on: dict[str, _On] = {}

    def on(self, name: str, *, times: int | None = None, **args: Any) -> None:
        """Switch one on, for so many times or until it is switched off."""
        switch = SWITCHES.get(name)
        if switch is None:
            raise NoSuchSwitch(f"There is no switch {name!r}; the names are {', '.join(SWITCHES)}.")
        if unknown := sorted(args.keys() - switch.args.keys()):
            raise NoSuchSwitch(f"{name} takes no {unknown[0]}; it takes {dict(switch.args) or 'nothing'}.")
        if times is not None and not (isinstance(times, int) and not isinstance(times, bool) and times > 0):
            raise NoSuchSwitch(f"times={times!r} is no number of times; leave it out for no end.")
        if switch.when == "at once":
            self._at_once[name]({**switch.args, **args})
            return
        self._on[name] = _On(times=times, args={**switch.args, **args})

    def off(self, name: str | None = None) -> None:
        """Switch one off, or all of them."""
        if name is None:
            self._on.clear()
        self._on.pop(name or "", None)

    def active(self) -> dict[str, Json]:
        """Give the switches that are on: {name: {times, args}}."""
        return {name: {"times": on.times, "args": on.args} for name, on in self._on.items()}

    def take(self, name: str) -> Json | None:
        """Give the arguments of a switch that is on, and count it as used; None when it is off."""
        on = self._on.get(name)
        if on is None:
            return None
        if on.times is not None:
            on.times -= 1
            if on.times == 0:
                del self._on[name]
        return on.args

    def taken(self, when: When, where: str) -> list[tuple[str, Json]]:
        """Take every switch of a kind that is on here, in the order of the table."""
        names = [name for name, switch in SWITCHES.items() if (switch.when, switch.where) == (when, where) and name in self._on]
        return [(name, args) for name in names if (args := self.take(name)) is not None]
