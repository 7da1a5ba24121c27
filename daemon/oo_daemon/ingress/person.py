"""The page of the person whose data it is: what is connected, and what they can do about it.

It opens behind a one-use link, for an hour, in one browser. Everything on it is of the visit's user: no address and no form names one, and
a connection that is somebody else's is answered as one that is not there. What is done here is in the audit log.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Collection, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from oo_daemon.connections.connect import ConnectSession, LinkGone, ProofNeeded
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.kept import sentences
from oo_daemon.connections.visits import Invitation
from oo_daemon.ingress import pages
from oo_daemon.ingress.answers import refused
from oo_daemon.ingress.asking import form_of
from oo_daemon.ingress.audit import Notes, noted
from oo_daemon.ingress.privacy import Erases, sent
from oo_daemon.ingress.proving import Proving, address, refuse_guesses, see_other, shown
from oo_daemon.ingress.rate import Rate
from oo_daemon.ingress.uploads import Takes
from oo_daemon.ports import Clock, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, jobs, registrations, schedule, uploads
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database
from oo_daemon.store.jobs import Job
from oo_daemon.store.overview import FAILING
from oo_daemon.store.schedule import Schedule
from oo_daemon.store.storage import Storage
from oo_daemon.store.uploads import Upload
from oo_daemon.store.visits import Visit
from oo_sdk import Connector, OAuth2, Scope
from oo_sdk import Takes as TakesFiles

#: Exports and erasures that may be begun from one address in a minute.
HEAVY = 6
#: What is said after something was done, and where something cannot be done; what else goes wrong is no business of the person's.
DONE = {
    "disconnect": "It is being disconnected: oO reads nothing there any more. What became of the access stands below.",
}
DECLINED = {
    "erasing": "This connection is being erased. Connect it again once that is done.",
    "too_many": "You have begun many times within a minute. Wait a little, then try again.",
    "account": "A name has up to 128 letters, digits and . _ @ + : = -, and no spaces. Choose another one.",
    "not_active": "This connection is stopped just now, so it takes no file. Ask whoever runs this place.",
    "connected": "An account with this name is connected there already. Give the other one a name of its own.",
    "no_registration": "This cannot be connected here just now. Ask whoever runs this place.",
    "disk": "There is no room for a file just now. Try again later, or tell whoever runs this place.",
}
_OTHERWISE = "That cannot be done just now. Try again later, or tell whoever runs this place."

_VISIT = web.RequestKey("visit", Visit)


class Visiting(Protocol):
    """Knows who is on their page."""

    async def invitation(self, link: str, browser: str = "") -> Invitation:
        """What a link is for. Raises LinkGone."""

    async def prove(self, link: str, browser: str, how: str, user: str, session: str | None = None) -> None:
        """The person in this browser is this user. Raises LinkGone and NotTheirs."""

    async def begin(self, link: str, browser: str) -> str:
        """Use the link up. Raises LinkGone and ProofNeeded."""

    async def of(self, cookie: str) -> Visit | None:
        """The visit of a cookie."""

    async def end(self, visit: Visit) -> None:
        """It is over."""

    async def erased(self, visit: Visit, cookie: str, erasure: str) -> None:
        """Leave what shows the receipt."""


class OpensSignIns(Protocol):
    """Opens sign-ins."""

    async def open(
        self,
        provider: str,
        user: str,
        account: str = "default",
        registration: str | None = None,
        *,
        write: bool = False,
        also: Collection[str] = (),
        return_to: str = "",
        by_code: bool = False,
    ) -> ConnectSession:
        """Give a one-use link. Raises `Declined`."""

    async def prove(self, link: str, browser: str, how: str, user: str, session: str | None = None) -> None:
        """The person in this browser is this user. Raises LinkGone and NotTheirs."""


class Disconnects(Protocol):
    """Gives grants back."""

    async def begin(self, connection: Connection) -> None:
        """Stop everything that a connection does, and give its grant back."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One connection as its owner sees it."""

    known: Connection
    title: str
    sees: Sequence[str]  #: what it may read, in sentences
    changes: Sequence[str]
    kept: Sequence[str]
    signs_in: bool  #: there is an account to sign in to
    read_at: int | None  #: when it was last read to its end
    failing: bool
    revoking: Job | None
    upload: Upload | None  #: the last file


class PersonPages(msgspec.Struct, frozen=True, kw_only=True):
    """The page, what can be done on it, and the link to it."""

    visits: Visiting
    proving: Proving
    connect: OpensSignIns
    disconnect: Disconnects
    uploads: Takes
    erasures: Erases
    export: Callable[[str], Awaitable[Path]]  #: everything of a user, as a zip file that the caller removes
    notes: Notes
    storage: Storage
    registry: Registry
    clock: Clock
    wake: Callable[[], None]  #: has the jobs that were just queued done at once
    pushes_kept: float

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes of the public door."""
        heavy = Rate(HEAVY, self.clock)
        return [
            web.get("/visit/{link}", self.invite),
            web.post("/visit/{link}", self.enter),
            web.post("/visit/{link}/sign-in", self.sign_in),
            web.get("/person", self._visited(self.show, erased=True)),
            web.post("/person/connect", self._visited(self.begin_connecting)),
            web.post("/person/import", self._visited(self.begin_import)),
            web.post("/person/connections/{id}/disconnect", self._visited(self.end_connection)),
            web.post("/person/download", self._visited(self.download, rate=heavy)),
            web.get("/person/erase", self._visited(self.ask_to_erase)),
            web.post("/person/erase", self._visited(self.erase, rate=heavy, notes_itself=True)),
            web.post("/person/leave", self._visited(self.leave, erased=True)),
        ]

    # --- the link -----------------------------------------------------------------------------------------------------

    async def invite(self, request: web.Request) -> web.Response:
        """Whose page the link opens. Spends nothing but a ticket."""
        if "ticket" in request.query:
            return await self.proving.with_ticket(request, "visit")
        return await self._invited(request)

    async def sign_in(self, request: web.Request) -> web.Response:
        """Send the person to the issuer."""
        self.proving.begun.take(request.remote)
        browser, link = self.proving.browser(request), request.match_info["link"]
        if self.proving.at_issuer is None or browser is None:
            return await self._invited(request, cookie_missing=browser is None)
        try:
            await self.visits.invitation(link, browser)
        except LinkGone:
            return shown(pages.link_gone(), status=404)
        return await self.proving.to_issuer("visit", link)

    async def enter(self, request: web.Request) -> web.Response:
        """Use the link up, and open the page in this browser."""
        refuse_guesses(request)
        self.proving.begun.take(request.remote)
        browser, link = self.proving.browser(request), request.match_info["link"]
        if browser is None:
            return await self._invited(request, cookie_missing=True)
        try:
            user = (await self.visits.invitation(link, browser)).user
            cookie = await self.visits.begin(link, browser)
        except LinkGone:
            return shown(pages.link_gone(), status=404)
        except ProofNeeded:
            return await self._invited(request)
        await self.notes.note(f"user {user}", "POST /visit/{link}", f"user {user}", 303)
        response = see_other("/person")
        # Strict: no other site can have this browser ask for anything as the person.
        response.set_cookie(self._cookie, cookie, path="/", secure=self.proving.secure, httponly=True, samesite="Strict")
        return response

    async def _invited(self, request: web.Request, *, cookie_missing: bool = False) -> web.Response:
        link, browser = request.match_info["link"], self.proving.browser(request)
        try:
            found = await self.visits.invitation(link, browser or "")
        except LinkGone:
            return shown(pages.link_gone(), status=404)
        if found.proof_needed:
            return await self.proving.who_is_it(request, "visit", user=found.user, cookie_missing=cookie_missing)
        html = pages.person(
            "invitation.html",
            host=self.proving.host,
            user=found.user,
            here=address("visit", link),
            expires_at=found.expires_at,
            lasts=pages.lasting(found.expires_at - moment(self.clock.now())),
            cookie_missing=cookie_missing,
        )
        response = shown(html, status=400 if cookie_missing else 200)
        if browser is None:
            self.proving.know_again(response, self.proving.token())
        return response

    # --- the page -----------------------------------------------------------------------------------------------------

    async def show(self, request: web.Request) -> web.Response:
        """What is connected; or, once they have erased themselves, the receipt."""
        return await self._shown(request, done=DONE.get(request.query.get("done", ""), ""))

    async def begin_connecting(self, request: web.Request) -> web.Response:
        """Open a sign-in for the person, who need not prove once more who they are, and lead to it."""
        visit, form = request[_VISIT], await form_of(request)
        provider, account = str(form.get("provider", "")), str(form.get("account", "")).strip() or "default"
        user = visit.user or ""
        if provider not in {each.id for each in await self.storage.read(self._offered)}:
            return await self._shown(request, problem=DECLINED["no_registration"], status=409)
        known = await self.storage.read(connections.of, user, provider, account)
        if known is not None and known.state in {"active", "paused"}:
            return await self._shown(request, problem=DECLINED["connected"], typed=(provider, str(form.get("account", ""))), status=409)
        try:
            session = await self.connect.open(provider, user, account, return_to=f"{self.proving.public_url}/person")
        except Declined as declined:
            problem = DECLINED.get(declined.code, _OTHERWISE)
            return await self._shown(request, problem=problem, typed=(provider, str(form.get("account", ""))), status=409)
        browser = self.proving.browser(request)
        if visit.proved and browser is not None:
            await self.connect.prove(session.link, browser, visit.proved, user)
        return see_other(address("connect", session.link))

    async def begin_import(self, request: web.Request) -> web.Response:
        """Make a ticket for a file, and lead to where it is handed in."""
        visit, form = request[_VISIT], await form_of(request)
        try:
            ticket = await self.uploads.await_file(provider=str(form.get("provider", "")), user=visit.user or "")
        except Declined as declined:
            return await self._shown(request, problem=DECLINED.get(declined.code, _OTHERWISE), status=409)
        return see_other(address("import", ticket.ticket))

    async def end_connection(self, request: web.Request) -> web.Response:
        """Disconnect one of theirs."""
        known = await self.storage.read(connections.by_id, request.match_info["id"])
        if known is None or known.user != request[_VISIT].user:
            raise refused(404)
        await self.disconnect.begin(known)
        self.wake()
        return see_other("/person?done=disconnect")

    async def download(self, request: web.Request) -> web.StreamResponse:
        """Everything that is kept of them, as a zip file."""
        return await sent(await self.export(request[_VISIT].user or ""), request, name="oo-data.zip")

    async def ask_to_erase(self, request: web.Request) -> web.Response:
        """What erasing means, and the name to be typed."""
        return self._asked(request)

    async def erase(self, request: web.Request) -> web.Response:
        """Erase everything of theirs, once their name was typed; the page is a receipt from then on."""
        visit = request[_VISIT]
        user, typed = visit.user or "", str((await form_of(request)).get("name", "")).strip()
        if typed != user:
            await self.notes.note(f"user {user}", "POST /person/erase", f"user {user}", 409)
            return self._asked(request, typed=typed, status=409)
        # Noted before: afterwards there is nobody any more of whom it could be said.
        await self.notes.note(f"user {user}", "POST /person/erase", f"user {user}", 303)
        erasure = await self.erasures.of_user(user)
        await self.visits.erased(visit, request.cookies[self._cookie], erasure.id)
        return see_other("/person")

    async def leave(self, request: web.Request) -> web.Response:
        """Close the page."""
        await self.visits.end(request[_VISIT])
        response = shown(pages.visit_over())
        response.del_cookie(self._cookie, path="/", secure=self.proving.secure, httponly=True, samesite="Strict")
        return response

    # --- behind the cookie --------------------------------------------------------------------------------------------

    @property
    def _cookie(self) -> str:
        return self.proving.cookie("oo-visit")

    def _visited(self, handler: Handler, *, rate: Rate | None = None, erased: bool = False, notes_itself: bool = False) -> Handler:
        """Let only a visitor in, and do something only by a form of their own page; what is done is noted.

        `rate` is for what takes much; `erased`: also once they have erased themselves.
        """

        async def behind(request: web.Request) -> web.StreamResponse:
            visit = await self.visits.of(request.cookies.get(self._cookie, ""))
            if visit is None or (visit.user is None and visit.erasure is None):
                return shown(pages.visit_over(), status=403)
            if visit.user is None and not erased:
                return see_other("/person")
            request[_VISIT] = visit
            if request.method == "POST":
                if not await self._own_form(request):
                    return shown(pages.not_own_form(), status=403)
                if rate is not None:
                    rate.take(request.remote)
                if not notes_itself:
                    return await self._noted(request, handler, visit.user)
            return await handler(request)

        return behind

    async def _noted(self, request: web.Request, handler: Handler, user: str | None) -> web.StreamResponse:
        if user is None:
            return await handler(request)
        about = f"connection {request.match_info['id']}" if "id" in request.match_info else f"user {user}"
        return await noted(self.notes, request, handler, who=lambda _: f"user {user}", about=about)

    def _csrf(self, request: web.Request) -> str:
        """What a form of this browser carries: only the page that was made for its cookie knows it."""
        return blake2b(b"a form of the page", key=request.cookies[self._cookie].encode()[:64], digest_size=32).hexdigest()

    async def _own_form(self, request: web.Request) -> bool:
        given = (await form_of(request)).get("csrf", "")
        theirs = request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
        return not theirs and isinstance(given, str) and hmac.compare_digest(given.encode(), self._csrf(request).encode())

    # --- what is shown ------------------------------------------------------------------------------------------------

    async def _shown(
        self, request: web.Request, *, done: str = "", problem: str = "", typed: tuple[str, str] = ("", ""), status: int = 200
    ) -> web.Response:
        visit, now = request[_VISIT], self.clock.now()
        if visit.user is None:
            return await self._receipt(request, visit.erasure or "")
        found = await self.storage.read(self._of_user, visit.user, now)
        html = pages.person(
            "page.html",
            user=visit.user,
            host=self.proving.host,
            csrf=self._csrf(request),
            shown=found,
            offered=await self.storage.read(self._offered),
            takes=[(each.id, each.title or each.id) for each in self.registry.connectors.values() if isinstance(each, TakesFiles)],
            done=done,
            problem=problem,
            typed=typed,
            now=now,
            ends_at=visit.expires_at,
        )
        return shown(html, status=status)

    def _asked(self, request: web.Request, *, typed: str = "", status: int = 200) -> web.Response:
        values = {"user": request[_VISIT].user, "csrf": self._csrf(request), "typed": typed, "wrong": status != 200}
        return shown(pages.person("erase.html", **values), status=status)

    async def _receipt(self, request: web.Request, id_: str) -> web.Response:
        try:
            found = await self.erasures.status(id_)
        except Declined:
            return shown(pages.visit_over(), status=403)
        html = pages.person(
            "erased.html",
            erasure=found,
            csrf=self._csrf(request),
            titles={each.id: each.title for each in self.registry.connectors.values()},
            signs_in={each.id for each in self.registry.connectors.values() if each.auth is not None},
            manual={each.id: each.manual_revocation for each in self.registry.connectors.values()},
        )
        return shown(html)

    def _of_user(self, database: Database, user: str, now: int) -> list[Seen]:
        """All connections of one user, those that work first."""
        files = {each.connection: each for each in reversed(uploads.listed(database, user=user))}
        found = [self._seen(database, known, files.get(known.number), now) for known in connections.listed(database, user=user)]
        return sorted(found, key=lambda each: (_ORDER.index(each.known.state), each.title, each.known.number))

    def _seen(self, database: Database, known: Connection, upload: Upload | None, now: int) -> Seen:
        connector = self.registry.connectors.get(known.provider)
        planned = schedule.of(database, known.number, now)
        scopes = _granted(connector, known)
        return Seen(
            known=known,
            title=connector.title or connector.id if connector else known.provider,
            sees=[scope.sentence for scope in scopes if scope.access == "read"],
            changes=[scope.sentence for scope in scopes if scope.access == "write"],
            kept=sentences(connector, self.pushes_kept) if connector else (),
            signs_in=connector is not None and connector.auth is not None,
            read_at=_read_at(planned),
            failing=planned is not None and planned.tries >= FAILING,
            revoking=jobs.latest(database, "revoke", known.number) if known.state in {"revoking", "disconnected"} else None,
            upload=upload,
        )

    def _offered(self, database: Database) -> list[Connector]:
        """What can be connected here: a key needs nothing more, a sign-in our registration at the provider."""
        registered = {each.provider for each in registrations.listed(database)}
        known = self.registry.connectors.values()
        found = [each for each in known if each.auth is not None and (not isinstance(each.auth, OAuth2) or each.id in registered)]
        return sorted(found, key=lambda each: each.title or each.id)


#: The order in which connections stand on the page: what wants the person comes first.
_ORDER = ("needs_sign_in", "active", "paused", "revoking", "erasing", "disconnected")


def _granted(connector: Connector | None, known: Connection) -> list[Scope]:
    return [scope for scope in connector.scopes if scope.id in known.scopes] if connector else []


def _read_at(planned: Schedule | None) -> int | None:
    return planned.finished_at if planned is not None and planned.outcome == "done" else None
