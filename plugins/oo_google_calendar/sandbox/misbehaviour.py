"""What can be made to go wrong, each by a name: the one table of switches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from oo_sdk.stand_in import Switch, Switches

Json = dict[str, Any]

TOKEN = frozenset({"token"})
PUSH = frozenset({"push"})

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
    "token_500": Switch(what="answers 500 at the token endpoint", when="before", where=TOKEN),
    "refuse_channels": Switch(what="opens no channel, as where it does not know whose the address is", when="within"),
    "drop_pushes": Switch(what="does not push what happened", when="within", where=PUSH),
    "duplicate_pushes": Switch(what="pushes everything twice", when="within", where=PUSH),
    "forge_pushes": Switch(what="pushes with a channel token that is not the channel's", when="within", where=PUSH),
}


class Misbehaviour(Switches):
    """The switches that are on."""

    def __init__(self, at_once: Mapping[str, Callable[[Json], None]]) -> None:
        super().__init__(SWITCHES, at_once)
