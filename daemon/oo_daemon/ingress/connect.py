"""Connecting: the pages and redirects between a connect link and its outcome.

A link opens our page and nothing else; pressing the button spends it, ties the sign-in to this browser and leads to the provider. What
the provider sends back is handed on once and then gone from the address: the person ends on a clean page that can be loaded again, and is
asked there whether it is the right account.
Where the operator wants it, the person proves before anything else who they are: at the issuer, or by a ticket of the product's.
Nothing that a provider or a stranger put into an address is ever shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import msgspec
from aiohttp import web
from msgspec.structs import replace

from oo_daemon.connections.connect import FlowRefused, KeyNotTaken, LinkGone, NotNow, Offer, Outcome, ProofNeeded
from oo_daemon.ingress import pages
from oo_daemon.ingress.answers import refused
from oo_daemon.ingress.asking import form_of
from oo_daemon.ingress.proving import Proving, address, lead_to, once, refuse_guesses, see_other, shown
from oo_daemon.ports import Clock, moment
from oo_sdk import KeyField


class Connecting(Protocol):
    """What these pages need of the hub."""

    async def offer(self, link: str, browser: str = "") -> Offer:
        """What the link is for. Spends nothing. Raises LinkGone."""

    async def prove(self, link: str, browser: str, how: str, user: str, session: str | None = None) -> None:
        """The person in this browser is this user. Raises LinkGone and NotTheirs."""

    async def begin(self, link: str, browser: str, ticked: Collection[str] | None = None) -> str:
        """Spend the link, tie the sign-in to the browser, and give the provider's address. Raises LinkGone, ProofNeeded and NotNow."""

    async def begin_device(self, link: str, browser: str, ticked: Collection[str] | None = None) -> str:
        """Get a code for the person, and give the outcome's id. Raises LinkGone, ProofNeeded and NotNow."""

    async def enter(self, link: str, browser: str, values: Mapping[str, str], ticked: Collection[str] | None = None) -> str:
        """Take a key, and give the outcome's id. Raises LinkGone, ProofNeeded and KeyNotTaken."""

    async def finish(self, *, registration: str, state: str, browser: str, code: str | None, error: str | None, iss: str | None) -> str:
        """Take the provider's answer, once, and give the outcome's id. Raises FlowRefused."""

    async def outcome(self, outcome_id: str, browser: str) -> Outcome:
        """How it ended, for the browser it began in. Raises FlowRefused."""

    async def confirm(self, outcome_id: str, browser: str) -> None:
        """Make the connection. Raises FlowRefused."""

    async def decline(self, outcome_id: str, browser: str) -> None:
        """Make none. Raises FlowRefused."""


class ConnectPages(msgspec.Struct, frozen=True, kw_only=True):
    """The pages, from a link to its outcome. `own_page` is the address of the person's own page, to which an outcome may lead back."""

    connecting: Connecting
    proving: Proving
    clock: Clock
    own_page: str = ""

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes of the public door."""
        return [
            web.get("/", self.front),
            web.get("/style.css", self.style),
            web.get("/connect/outcome/{outcome}", self.outcome),
            web.post("/connect/outcome/{outcome}", self.answer),
            web.get("/connect/{link}", self.offer),
            web.post("/connect/{link}", self.begin),
            web.post("/connect/{link}/sign-in", self.sign_in),
            # No HEAD: whoever only looks must not spend the state.
            web.get("/oauth/{registration}/callback", self.finish, allow_head=False),
        ]

    async def front(self, request: web.Request) -> web.Response:
        """What this place is, to somebody who came without a link."""
        return shown(pages.front(host=self.proving.host))

    async def style(self, request: web.Request) -> web.Response:
        """The stylesheet."""
        headers = {"Cache-Control": "public, max-age=86400"}  # the pages name a version, so a new one is fetched at once
        return web.Response(body=pages.stylesheet(), content_type="text/css", charset="utf-8", headers=headers)

    async def offer(self, request: web.Request) -> web.Response:
        """What the person is asked to agree to."""
        if "ticket" in request.query:
            return await self.proving.with_ticket(request, "connect")
        return await self._offer(request)

    async def sign_in(self, request: web.Request) -> web.Response:
        """Send the person to the issuer."""
        proving, link = self.proving, request.match_info["link"]
        proving.begun.take(request.remote)
        browser = proving.browser(request)
        if proving.at_issuer is None or browser is None:
            return await self._offer(request, cookie_missing=browser is None)
        try:
            await self.connecting.offer(link, browser)
        except LinkGone:
            return shown(pages.link_gone(), status=404)
        return await proving.to_issuer("connect", link)

    async def begin(self, request: web.Request) -> web.Response:
        """Spend the link and lead to the provider, or take a key."""
        # The cookie came with our page and is not sent from a form on another site (SameSite=Lax): without it, somebody may be pushing
        # this browser into a connection that its user never saw.
        self.proving.begun.take(request.remote)
        browser = self.proving.browser(request)
        if browser is None:
            return await self._offer(request, cookie_missing=True)
        form, link = await form_of(request), request.match_info["link"]
        ticked = [str(value) for value in form.getall("scope", [])]
        try:
            offer = await self.connecting.offer(link, browser)
            if offer.by_code:
                outcome = await self.connecting.begin_device(link, browser, ticked)
                return see_other(address("connect/outcome", outcome))
            if not offer.fields:
                return see_other(await self.connecting.begin(link, browser, ticked))
            entered = {name.removeprefix("key-"): str(value) for name, value in form.items() if name.startswith("key-")}
            try:
                outcome = await self.connecting.enter(link, browser, entered, ticked)
            except KeyNotTaken as refused_:
                return await self._offer(request, refused=refused_.told, entered=entered, ticked=ticked)
        except LinkGone:
            return shown(pages.link_gone(), status=404)
        except ProofNeeded:
            return await self._offer(request)
        except NotNow as none:
            return await self._offer(request, refused={"": str(none)}, ticked=ticked)
        return see_other(address("connect/outcome", outcome))

    async def finish(self, request: web.Request) -> web.Response:
        """Take the provider's answer, once, and lead to the outcome."""
        refuse_guesses(request)
        self.proving.back.take(request.remote)
        answer = once(request, "state", "code", "error", "iss")
        if answer is None:
            return shown(pages.flow_refused(), status=400)
        try:
            outcome = await self.connecting.finish(
                registration=request.match_info["registration"],
                state=answer.get("state", ""),
                browser=self.proving.browser(request) or "",
                code=answer.get("code"),
                error=answer.get("error"),
                iss=answer.get("iss"),
            )
        except FlowRefused:
            return shown(pages.flow_refused(), status=400)
        return see_other(address("connect/outcome", outcome))

    async def outcome(self, request: web.Request) -> web.Response:
        """How it ended, or whose account it is."""
        try:
            outcome = await self.connecting.outcome(request.match_info["outcome"], self.proving.browser(request) or "")
        except FlowRefused:
            return shown(pages.flow_refused(), status=400)
        html = pages.outcome(
            provider=outcome.provider_title,
            status=outcome.status,
            reason=outcome.reason,
            label=outcome.label,
            user=outcome.user_label,
            replaces=outcome.replaces,
            withheld=outcome.withheld,
            return_to=outcome.return_to,
            own_page=bool(self.own_page) and outcome.return_to == self.own_page,
            by_key=outcome.by_key,
            code=outcome.code,
            now=moment(self.clock.now()),
        )
        return shown(html)

    async def answer(self, request: web.Request) -> web.Response:
        """Whether it is the right account."""
        outcome, browser = request.match_info["outcome"], self.proving.browser(request) or ""
        said = (await form_of(request)).get("answer")
        if said not in {"yes", "no"}:
            raise refused(400)
        try:
            await (self.connecting.confirm if said == "yes" else self.connecting.decline)(outcome, browser)
        except FlowRefused:
            return shown(pages.flow_refused(), status=400)
        return see_other(address("connect/outcome", outcome))

    async def _offer(
        self,
        request: web.Request,
        *,
        cookie_missing: bool = False,
        refused: Mapping[str, str] = MappingProxyType({}),
        entered: Mapping[str, str] = MappingProxyType({}),
        ticked: Collection[str] | None = None,
    ) -> web.Response:
        try:
            offer = await self.connecting.offer(request.match_info["link"], self.proving.browser(request) or "")
        except LinkGone:
            return shown(pages.link_gone(), status=404)
        if offer.proof_needed:
            return await self.proving.who_is_it(
                request, "connect", user=offer.user_label, provider=offer.provider_title, cookie_missing=cookie_missing
            )
        scopes = offer.scopes if ticked is None else [replace(each, ticked=each.id in ticked) for each in offer.scopes]
        html = pages.offer(
            host=self.proving.host,
            provider=offer.provider_title,
            user=offer.user_label,
            account="" if offer.account == "default" else offer.account,
            sees=[asked for asked in scopes if asked.access == "read"],
            changes=[asked for asked in scopes if asked.access == "write"],
            kept=offer.kept,
            expires_at=offer.expires_at,
            now=moment(self.clock.now()),
            cookie_missing=cookie_missing,
            fields=[_entry(each, entered, refused) for each in offer.fields],
            refused=refused.get("", ""),
            manual_revocation=offer.manual_revocation,
            by_code=offer.by_code,
        )
        response = shown(html, status=400 if cookie_missing or refused else 200)
        if not offer.fields and not offer.by_code:
            lead_to(response, offer.provider_origin)
        if self.proving.browser(request) is None:
            self.proving.know_again(response, self.proving.token())
        return response


def _entry(field: KeyField, entered: Mapping[str, str], refused: Mapping[str, str]) -> pages.Entry:
    """A field as it is shown: what was typed stays, unless it is secret."""
    return pages.Entry(
        id=field.id,
        label=field.label,
        help=field.help,
        secret=field.secret,
        value="" if field.secret else entered.get(field.id, ""),
        problem=refused.get(field.id, ""),
    )
