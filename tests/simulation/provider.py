"""A simulated provider: its truth, its API over the transport port, and forty-odd ways to be difficult.

It has accounts with objects that change, a change feed with cursors and pages, a full listing, a way to write, webhooks, and OAuth with
refresh tokens that last, rotate, or rotate with a grace, and can be revoked. What the daemon should end up with is `truth`; what stands
between is the catalogue at the end of this file.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from oo_daemon.connections.transport import NoAnswer, NotSent, Request
from oo_daemon.ports import SECOND, moment
from oo_sdk import Response

PAGE = 5
#: Seconds in which a spent refresh token may be used once more.
GRACE = 60.0
#: Seconds that an access token lives.
LIFE = 900
#: What every token and code begins with, so that one search finds them all.
CANARY = "canary-"
Json = dict[str, Any]


@dataclass(slots=True)
class Thing:
    """One object at the provider."""

    id: str
    title: str
    seq: int
    at: int  #: when that was
    deleted: bool = False
    wished: str = ""  #: the title with which an action made it


@dataclass(slots=True)
class Account:
    """One person's account."""

    id: str
    things: dict[str, Thing] = field(default_factory=dict)
    seq: int = 0
    forgotten: int = 0  #: cursors up to here are no longer known

    @property
    def truth(self) -> dict[str, str]:
        """What is there now: id → title."""
        return {thing.id: thing.title for thing in self.things.values() if not thing.deleted}


@dataclass(slots=True)
class Grant:
    """What one sign-in gave."""

    account: str
    access: dict[str, float] = field(default_factory=dict)  #: token → end, in virtual seconds
    refresh: str = ""
    spent: dict[str, float] = field(default_factory=dict)  #: used refresh tokens → when
    last_access: str = ""
    dead: bool = False
    unsaved: bool = True  #: its newest refresh token is not in our database: the answer was lost, or is still on its way


@dataclass(slots=True)
class Provider:
    """One provider, and how it behaves."""

    name: str
    rotates: bool
    now: Callable[[], float]  #: virtual seconds, the provider's own clock
    wall: Callable[[], int]  #: microseconds, for dates
    chance: random.Random
    trouble: float = 0.15  #: how often a request meets a behaviour
    accounts: dict[str, Account] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    by_token: dict[str, Grant] = field(default_factory=dict)  #: each token that was ever given out
    done: dict[str, str] = field(default_factory=dict)  #: keys of what was written, and what it made
    reused: list[str] = field(default_factory=list)  #: accounts whose spent refresh token was used again although its successor was kept
    codes: dict[str, str] = field(default_factory=dict)
    met: Counter[str] = field(default_factory=Counter)  #: behaviours by name
    calls: int = 0
    numbers: int = 0

    @property
    def host(self) -> str:
        """Where its API is."""
        return f"{self.name}.example"

    # --- what happens there -------------------------------------------------------------------------------------------

    def change(self, account: Account) -> Thing:
        """Something changes, as chance has it."""
        live = [thing for thing in account.things.values() if not thing.deleted]
        account.seq += 1
        roll = self.chance.random()
        if not live or roll < 0.35:
            return self._make(account, f"new {account.seq}")
        thing = self.chance.choice(live)
        thing.seq, thing.at = account.seq, self.wall()
        if roll < 0.55:
            thing.deleted = True
        elif roll < 0.7:
            thing.title = "A"  # the same value comes back: A→B→A
        else:
            thing.title = f"changed {account.seq}"
        return thing

    def _make(self, account: Account, title: str) -> Thing:
        self.numbers += 1
        made = account.things[f"t{self.numbers}"] = Thing(f"t{self.numbers}", title, account.seq, self.wall())
        return made

    def consent(self, account: str) -> str:
        """A person allows it: a code."""
        code = self._secret("code")
        self.codes[code] = account
        return code

    def end_grants(self, account: str) -> None:
        """A person removes the app."""
        for grant in self.grants:
            if grant.account == account:
                grant.dead = True

    # --- the API ------------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Response:
        """Answer a request. Raises `NotSent` or `NoAnswer`."""
        self.calls += 1
        parts = urlsplit(request.url)
        query = dict(parse_qsl(parts.query))
        endpoint = parts.path.strip("/")
        form = dict(parse_qsl((request.body or b"").decode())) if endpoint in {"token", "revoke"} else {}
        if endpoint == "token":
            return self._token(form)
        if endpoint == "revoke":
            return self._revoke(form)
        difficult = self.difficult("act" if endpoint == "act" else "api")
        early = self._instead(difficult)
        if early is not None:
            return early
        grant = self._grant_of(request)
        if grant is None or difficult == "unauthorized_once":
            return self._json({"error": "unauthorized"}, status=401)
        account = self.accounts[grant.account]
        match endpoint:
            case "act":
                return self._act(account, json.loads(request.body or b"{}"), difficult)
            case "me":
                return self._json({"id": account.id})
            case "changes":
                body = self._changes(account, query.get("cursor"), difficult)
            case "all":
                body = self._all(account, int(query.get("page", "0")), difficult)
            case _:
                return self._json({"error": "not found"}, status=404)
        if body is None:
            return self._json({"error": "cursor"}, status=410)
        return self._spoiled(body, difficult)

    def _changes(self, account: Account, cursor: str | None, difficult: str | None) -> Json | None:
        since = int(cursor or 0)
        if since < account.forgotten or difficult == "cursor_expired":
            return None
        newer = sorted((thing for thing in account.things.values() if thing.seq > since), key=lambda thing: thing.seq)
        if difficult == "stale_read" and newer:
            newer = newer[: len(newer) // 2]
        page = newer[:PAGE]
        reached = page[-1].seq if page else since
        more = len(newer) > PAGE
        if difficult == "empty_page":
            return {"changes": [], "cursor": str(since), "more": False}
        if difficult == "repeated_page" and page:
            reached, more = since, False
        return {"changes": [shown(thing) for thing in page], "cursor": str(reached), "more": more}

    def _all(self, account: Account, page: int, difficult: str | None) -> Json | None:
        live = sorted((thing for thing in account.things.values() if not thing.deleted), key=lambda thing: thing.id)
        some = live[page * PAGE : (page + 1) * PAGE]
        # The cursor of a listing is taken before its first page, so that what changes meanwhile comes again.
        return {"changes": [shown(thing) for thing in some], "cursor": str(account.seq), "more": len(live) > (page + 1) * PAGE}

    def _act(self, account: Account, wish: Json, difficult: str | None) -> Response:
        """Make a thing, once for each key."""
        if difficult == "act_500_before":
            return self._json({}, status=500)
        made = self.done.get(wish["key"])
        if made is None:
            account.seq += 1
            thing = self._make(account, wish["title"])
            thing.wished = thing.title
            made = self.done[wish["key"]] = thing.id
        if difficult == "act_lost_answer":
            raise NoAnswer("the answer was lost")
        if difficult == "act_500_after":
            return self._json({}, status=500)
        return self._json({"id": made})

    # --- OAuth --------------------------------------------------------------------------------------------------------

    def _token(self, form: dict[str, str]) -> Response:
        difficult = self.difficult("token")
        if difficult in {"token_not_sent", "token_500", "token_html", "token_429"}:
            match difficult:
                case "token_not_sent":
                    raise NotSent("no connection")
                case "token_500":
                    return self._json({"error": "server_error"}, status=500)
                case "token_html":
                    return Response(status=200, headers={"content-type": "text/html"}, body=b"<html>busy</html>")
                case _:
                    return Response(status=429, headers={"retry-after": "7"}, body=b"{}")
        if form.get("grant_type") == "authorization_code":
            account = self.codes.pop(form.get("code", ""), None)
            if account is None:
                return self._json({"error": "invalid_grant"}, status=400)
            grant = Grant(account)
            self.grants.append(grant)
            body = self._issue(grant)
        else:
            refreshed = self._refreshed(form.get("refresh_token", ""))
            if refreshed is None:
                return self._json({"error": "invalid_grant"}, status=400)
            grant, body = refreshed
        match difficult:
            case "token_lost_answer":
                raise NoAnswer("the answer was lost")
            case "token_500_after":
                return self._json({"error": "server_error"}, status=500)
            case "token_expires_text":
                body["expires_in"] = str(body["expires_in"])
            case "token_extra_members":
                body |= {"scope": "read", "id_token": "x.y.z", "surprise": [1, {"a": None}]}
        return self._json(body)

    def _refreshed(self, refresh: str) -> tuple[Grant, Json] | None:
        grant = self.by_token.get(refresh)
        if grant is None or grant.dead:
            return None
        if grant.refresh != refresh:
            if self.now() - grant.spent[refresh] <= GRACE:
                return grant, {"access_token": grant.last_access, "expires_in": LIFE, "token_type": "Bearer"}
            if not grant.unsaved:
                self.reused.append(grant.account)
            grant.dead = True
            return None
        if not self.rotates:
            return grant, {name: value for name, value in self._issue(grant, keep=True).items() if name != "refresh_token"}
        grant.spent[refresh] = self.now()
        return grant, self._issue(grant)

    def _issue(self, grant: Grant, *, keep: bool = False) -> Json:
        grant.last_access = self._secret("access")
        grant.access[grant.last_access] = self.now() + LIFE
        self.by_token[grant.last_access] = grant
        if not keep:
            grant.refresh = self._secret("refresh")
            grant.unsaved = True
            self.by_token[grant.refresh] = grant
        return {"access_token": grant.last_access, "refresh_token": grant.refresh, "expires_in": LIFE, "token_type": "Bearer"}

    def _revoke(self, form: dict[str, str]) -> Response:
        """RFC 7009: whoever shows a token ends its grant, and a token that is unknown is no error."""
        difficult = self.difficult("revoke")
        if difficult == "revoke_not_sent":
            raise NotSent("no connection")
        if difficult == "revoke_500":
            return self._json({}, status=500)
        if difficult == "revoke_429":
            return Response(status=429, headers={"retry-after": "5"}, body=b"")
        grant = self.by_token.get(form.get("token", ""))
        if grant is not None:
            grant.dead = True
        if difficult == "revoke_lost_answer":
            raise NoAnswer("the answer was lost")
        return self._json({})

    def _grant_of(self, request: Request) -> Grant | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        grant = self.by_token.get(token)
        return grant if grant is not None and not grant.dead and grant.access.get(token, -1) > self.now() else None

    def _secret(self, kind: str) -> str:
        self.numbers += 1
        return f"{CANARY}{kind}-{self.name}-{self.numbers}-{self.chance.getrandbits(64):016x}"

    # --- being difficult ----------------------------------------------------------------------------------------------

    def difficult(self, where: str) -> str | None:
        """What goes wrong this time; mostly nothing."""
        if self.chance.random() >= self.trouble:
            return None
        name = self.chance.choice(CATALOGUE[where])
        self.met[name] += 1
        return name

    def _instead(self, difficult: str | None) -> Response | None:
        """Answers that come before anything was looked at."""
        date = format_datetime(moment(self.wall() + 20 * SECOND), usegmt=True)
        match difficult:
            case "refused_connection":
                raise NotSent("no connection")
            case "reset" | "time_out" | "cut_body":
                raise NoAnswer("the answer did not arrive whole")
            case "status_500" | "status_502" | "status_504":
                return self._json({}, status=int(difficult[-3:]))
            case "status_503":
                return Response(status=503, headers={"retry-after": "11"}, body=b"")
            case "status_429_seconds":
                return Response(status=429, headers={"retry-after": "30"}, body=b"{}")
            case "status_429_date":
                return Response(status=429, headers={"retry-after": date}, body=b"{}")
            case "status_429_bare":
                return Response(status=429, headers={}, body=b"slow down")
            case "status_429_nonsense":
                return Response(status=429, headers={"retry-after": "soon"}, body=b"")
            case "status_403" | "status_404" | "status_418" | "status_302":
                return Response(status=int(difficult[-3:]), headers={"location": "https://elsewhere.example/"}, body=b"{}")
            case "html":
                return Response(status=200, headers={"content-type": "text/html"}, body=b"<html>maintenance</html>")
            case "html_called_json":
                return Response(status=200, headers={"content-type": "application/json"}, body=b"<html>maintenance</html>")
            case "empty_body":
                return Response(status=200, headers={"content-type": "application/json"}, body=b"")
            case "json_null" | "json_array" | "json_text":
                body = {"json_null": b"null", "json_array": b"[]", "json_text": b'"ok"'}[difficult]
                return Response(status=200, headers={"content-type": "application/json"}, body=body)
            case "error_in_200":
                return self._json({"error": "temporarily_unavailable"})
            case "not_utf8":
                return Response(status=200, headers={"content-type": "application/json"}, body=b'{"changes": ["\xff\xfe"]}')
            case _:
                return None

    def _spoiled(self, body: Json, difficult: str | None) -> Response:
        """What is done to a good answer."""
        changes: list[Json] = body["changes"]
        match difficult:
            case "duplicates":
                changes += [dict(change) for change in changes]
            case "reordered":
                self.chance.shuffle(changes)
            case "unknown_members":
                body["surprise"] = {"deep": [None]}
                for change in changes:
                    change["flavour"] = "new"
            case "null_members":
                for change in changes:
                    if change["deleted"]:
                        change["title"] = None
            case "missing_members":
                for change in changes:
                    if change["deleted"]:
                        change.pop("title")
            case "unreadable_item" if changes:
                spoilt = self.chance.choice(changes)
                thing = next(thing for account in self.accounts.values() for thing in account.things.values() if thing.id == spoilt["id"])
                owner = next(account for account in self.accounts.values() if thing.id in account.things)
                spoilt["seq"] = "not a number"
                # A provider that shows it broken once shows it whole when it changes again.
                owner.seq += 1
                thing.seq, thing.at = owner.seq, self.wall()
            case "truncated":
                text = json.dumps(body).encode()
                return Response(status=200, headers={"content-type": "application/json"}, body=text[: len(text) * 2 // 3])
        return self._json(body)

    @staticmethod
    def _json(body: Json, *, status: int = 200) -> Response:
        return Response(status=status, headers={"content-type": "application/json"}, body=json.dumps(body).encode())


def shown(thing: Thing) -> Json:
    """One object as the API and the webhooks show it."""
    return {"id": thing.id, "title": thing.title, "seq": thing.seq, "at": thing.at, "deleted": thing.deleted}


#: Every way to be difficult, by where it applies. Adding one: its name here, what it does above.
CATALOGUE: dict[str, tuple[str, ...]] = {
    "api": (
        "refused_connection",
        "reset",
        "time_out",
        "cut_body",
        "status_500",
        "status_502",
        "status_504",
        "status_503",
        "status_429_seconds",
        "status_429_date",
        "status_429_bare",
        "status_429_nonsense",
        "status_403",
        "status_404",
        "status_418",
        "status_302",
        "html",
        "html_called_json",
        "empty_body",
        "json_null",
        "json_array",
        "json_text",
        "error_in_200",
        "not_utf8",
        "unauthorized_once",
        "cursor_expired",
        "stale_read",
        "empty_page",
        "repeated_page",
        "duplicates",
        "reordered",
        "unknown_members",
        "null_members",
        "missing_members",
        "unreadable_item",
        "truncated",
    ),
    "token": (
        "token_not_sent",
        "token_500",
        "token_html",
        "token_429",
        "token_lost_answer",
        "token_500_after",
        "token_expires_text",
        "token_extra_members",
    ),
    "act": (
        "refused_connection",
        "time_out",
        "status_503",
        "status_429_seconds",
        "html",
        "act_500_before",
        "act_500_after",
        "act_lost_answer",
    ),
    "revoke": ("revoke_not_sent", "revoke_500", "revoke_429", "revoke_lost_answer"),
    "push": (
        "push_lost",
        "push_late",
        "push_twice_at_once",
        "push_again_after_200",
        "push_answer_unseen",
        "push_forged",
        "push_senseless",
        "push_for_a_stranger",
        "push_without_id",
        "push_to_a_wrong_address",
    ),
}
