"""The inbox: deliveries as they came, and those that became nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from oo_daemon.ingress import pages
from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.api import SOME, in_short_steps
from oo_daemon.ingress.asking import form_of
from oo_daemon.ingress.console.live import Live
from oo_daemon.ingress.console.page import number_in, page, see
from oo_daemon.ingress.tokens import needs
from oo_daemon.ports import SECOND, Clock
from oo_daemon.store import inbox
from oo_daemon.store.inbox import Which
from oo_daemon.store.storage import Storage

HERE = "/console/inbox"
ON_A_PAGE = 100
STATES = {"received": "waiting", "done": "done", "dead": "dead"}
MASK = "••••••"
#: What is called so is masked.
SECRET = re.compile(r"auth|cookie|secret|signature|token|passw|api[_-]?key|credential|session", re.IGNORECASE)
_IN_FORMS = re.compile(r"(?i)([^&=\s]*(?:auth|secret|signature|token|passw|api_?key|session)[^&=\s]*=)[^&\s]+")
#: Of a body, this much is shown.
LONGEST = 64 * 1024


class InboxPages(msgspec.Struct, frozen=True, kw_only=True):
    """The list, one delivery, doing it again, and how far that is."""

    moving: Live
    storage: Storage
    arrived: Callable[[], None]  #: has deliveries worked on at once
    clock: Clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [
            web.get("/inbox", self.list),
            web.post("/inbox/replay", self.replay),
            web.get("/inbox/replays/{at}", self.progress),
            web.get("/inbox/replays/{at}/live", self.live, allow_head=False),
            web.post("/inbox/replays/{at}/call-off", self.call_off),
            web.get("/inbox/{id}", self.show),
        ]

    @needs("read")
    async def list(self, request: web.Request) -> web.Response:
        """Some, newest first."""
        given = {name: request.query.get(name, "").strip() for name in ("state", "source", "words")}
        given["state"] = given["state"] if given["state"] in get_args(inbox.State) else ""
        before = number_in(request.query.get("before", "")) or None
        found, reached = await self.storage.read(
            inbox.page,
            before=before,
            limit=ON_A_PAGE,
            state=given["state"] or None,
            source=given["source"] or None,
            words=given["words"],
        )
        kept = {name: value for name, value in given.items() if value}
        return page(
            request,
            "inbox.html",
            here=HERE,
            shown=found,
            given=given,
            filtered=bool(kept),
            newest=before is None,
            states=STATES,
            now=self.clock.now(),
            nothing=request.query.get("again", "") == "0",
            further=f"{HERE}?{urlencode({**kept, 'before': reached})}" if reached else "",
        )

    @needs("admin")
    async def show(self, request: web.Request) -> web.Response:
        """One, with its headers and its body; what looks like a secret is masked."""
        number = number_in(request.match_info["id"])
        found = await self.storage.read(inbox.shown, number) if number else None
        if found is None:
            raise Refused(404, "not_found", "There is no such delivery.", "It may have been forgotten: ids are kept for 35 days.")
        entry, headers, body = found
        return page(
            request,
            "delivery.html",
            here=HERE,
            entry=entry,
            headers=masked_headers(headers),
            body=None if body is None else masked_body(body),
            states=STATES,
            now=self.clock.now(),
        )

    @needs("admin")
    async def replay(self, request: web.Request) -> web.Response:
        """Have those that were ticked, or all dead ones, worked on once more."""
        form = await form_of(request)
        if form.get("which") == "dead":
            source = str(form.get("source", "")) or None
            chosen = [Which(state="dead", source=source)]
        else:
            ticked = [number for text in form.getall("delivery", []) if (number := number_in(str(text)))]
            chosen = [Which(first=number, last=number) for number in ticked]
        now, done = self.clock.now(), 0
        for which in chosen:
            numbers = await in_short_steps(self.storage, lambda database, rest: inbox.replay(database, rest, SOME, now), which)
            done += len(numbers)
        self.arrived()
        return see(f"{HERE}/replays/{now}" if done else f"{HERE}?again=0")

    @needs("read")
    async def progress(self, request: web.Request) -> web.Response:
        """How far a replay is; it is known by when it was asked for."""
        at = number_in(request.match_info["at"])
        found = await self.storage.read(inbox.replayed, at)
        return page(request, "replay.html", here=HERE, at=at, left=found.left, part=await self._part(at))

    @needs("read")
    async def live(self, request: web.Request) -> web.StreamResponse:
        """The part of it that moves."""
        at = number_in(request.match_info["at"])
        return await self.moving.stream(request, lambda: self._part(at))

    @needs("admin")
    async def call_off(self, request: web.Request) -> web.Response:
        """Leave those alone that are still to be worked on."""
        at = number_in(request.match_info["at"])
        while await self.storage.write(inbox.call_off, at, self.clock.now(), SOME):
            pass
        return see(f"{HERE}/replays/{at}")

    async def _part(self, at: int) -> str:
        found, passed = await self.storage.read(inbox.replayed, at), max(self.clock.now() - at, 1) / SECOND
        rate = found.done / passed
        return pages.console("replay_part.html", found=found, rate=rate, lasts=found.left / rate if found.left and rate else None)


def masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers to be looked at.

    >>> masked_headers({"content-type": "text/plain", "webhook-signature": "v1,abc"})
    {'content-type': 'text/plain', 'webhook-signature': '••••••'}
    """
    return {name: MASK if SECRET.search(name) else value for name, value in headers.items()}


def masked_body(body: bytes) -> str:
    """A body to be looked at: JSON laid out, anything else as it is.

    >>> masked_body(b'{"id": 1, "access_token": "abc"}')
    '{\\n  "id": 1,\\n  "access_token": "••••••"\\n}'
    >>> masked_body(b"user=ada&token=abc")
    'user=ada&token=••••••'
    """
    try:
        text = json.dumps(_masked(json.loads(body)), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = _IN_FORMS.sub(rf"\1{MASK}", body.decode(errors="replace"))
    return text if len(text) <= LONGEST else text[:LONGEST] + "\n…"


def _masked(value: Any) -> Any:
    match value:
        case dict():
            return {name: MASK if SECRET.search(name) else _masked(each) for name, each in value.items()}
        case list():
            return [_masked(each) for each in value]
        case _:
            return value
