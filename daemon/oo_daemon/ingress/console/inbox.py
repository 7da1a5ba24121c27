"""The inbox: deliveries as they came, and those that became nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from aiohttp import web

from oo_daemon.ingress.api import SOME, in_short_steps
from oo_daemon.ingress.asking import form_of
from oo_daemon.ingress.console.page import page, see
from oo_daemon.ingress.server import Refused
from oo_daemon.ingress.tokens import needs
from oo_daemon.ports import Clock
from oo_daemon.store import inbox
from oo_daemon.store.inbox import Which
from oo_daemon.store.storage import Storage

HERE = "/console/inbox"
ON_A_PAGE = 100
STATES = {"received": "waiting", "done": "done", "dead": "dead"}
MASK = "••••••"
_SECRET = re.compile(r"auth|cookie|secret|signature|token|passw|api[_-]?key|credential|session", re.IGNORECASE)
_IN_FORMS = re.compile(r"(?i)([^&=\s]*(?:auth|secret|signature|token|passw|api_?key|session)[^&=\s]*=)[^&\s]+")
#: Of a body, this much is shown.
LONGEST = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxPages:
    """The list, one delivery, and doing it again."""

    storage: Storage
    arrived: Callable[[], None]  #: has deliveries worked on at once
    clock: Clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [
            web.get("/inbox", self.list),
            web.post("/inbox/replay", self.replay),
            web.get("/inbox/{id}", self.show),
        ]

    @needs("read")
    async def list(self, request: web.Request) -> web.Response:
        """The newest first."""
        state = request.query.get("state", "")
        state = state if state in get_args(inbox.State) else ""
        source = request.query.get("source", "").strip()
        shown = await self.storage.read(inbox.listed, state=state or None, source=source or None, limit=ON_A_PAGE)
        again = request.query.get("again", "")
        return page(
            request,
            "inbox.html",
            here=HERE,
            shown=shown,
            state=state,
            source=source,
            states=STATES,
            now=self.clock.now(),
            again=int(again) if again.isdigit() and len(again) < 9 else None,
            most=ON_A_PAGE,
        )

    @needs("admin")
    async def show(self, request: web.Request) -> web.Response:
        """One, with its headers and its body; what looks like a secret is masked."""
        text = request.match_info["id"]
        found = await self.storage.read(inbox.shown, int(text)) if text.isascii() and text.isdigit() and len(text) < 19 else None
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
            ticked = [int(text) for text in map(str, form.getall("delivery", [])) if text.isascii() and text.isdigit() and len(text) < 19]
            chosen = [Which(first=number, last=number) for number in ticked]
        done = 0
        for which in chosen:
            numbers = await in_short_steps(self.storage, lambda database, rest: inbox.replay(database, rest, SOME), which)
            done += len(numbers)
        self.arrived()
        return see(f"{HERE}?again={done}")


def masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers to be looked at.

    >>> masked_headers({"content-type": "text/plain", "webhook-signature": "v1,abc"})
    {'content-type': 'text/plain', 'webhook-signature': '••••••'}
    """
    return {name: MASK if _SECRET.search(name) else value for name, value in headers.items()}


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
            return {name: MASK if _SECRET.search(name) else _masked(each) for name, each in value.items()}
        case list():
            return [_masked(each) for each in value]
        case _:
            return value
