"""What can be made to go wrong, each by a name: the one table of switches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from oo_sdk.stand_in import Switch, Switches

Json = dict[str, Any]

API = frozenset({"sync", "rest"})
SYNC = frozenset({"sync"})
REST = frozenset({"rest"})
TOKEN = frozenset({"token"})
WEBHOOK = frozenset({"webhook"})
#: what `endpoint` may name, to aim a switch elsewhere than where it applies by itself
ENDPOINTS = frozenset({"sync", "rest", "token", "revoke", "authorize", "metadata"})

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


class Misbehaviour(Switches):
    """The switches that are on. `endpoint` in their arguments aims them elsewhere than where they apply by themselves."""

    def __init__(self, at_once: Mapping[str, Callable[[Json], None]]) -> None:
        super().__init__(SWITCHES, at_once, api=API, aims=ENDPOINTS)
