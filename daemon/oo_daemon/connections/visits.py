"""Visiting: a person on their own page, from a one-use link on.

A link opens a page that says whose it is; the button there uses the link up and gives the browser a cookie of its own, which is worth
nothing before and nothing after. Where people must prove who they are, the link opens for the right one only, as connect links do.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from oo_daemon.connections.connect import NAME, LinkGone, NotTheirs, ProofNeeded
from oo_daemon.connections.errors import Declined
from oo_daemon.ports import SECOND, Chance, Clock, moment
from oo_daemon.store import visits
from oo_daemon.store.storage import Storage
from oo_daemon.store.visits import Visit

#: Seconds that a person stays known on their page.
LIFE = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVisit:
    """A visit whose link is told once."""

    id: str
    url: str = field(repr=False)
    expires_at: int  #: of the link


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """What the page behind a link shows."""

    user: str
    expires_at: datetime
    proof_needed: bool  #: before anything, the person must prove who they are


class Visits(msgspec.Struct, frozen=True, kw_only=True):
    """Begins, knows and ends visits."""

    storage: Storage
    clock: Clock
    chance: Chance
    public_url: str
    link_life: float  #: seconds
    proofs: frozenset[str] = frozenset()  #: the ways in which a person may prove who they are; none: nobody has to

    async def open(self, user: str) -> NewVisit:
        """Give a one-use link to a user's page. Raises `Declined`."""
        if not NAME.fullmatch(user):
            raise Declined("user", f"{user!r} is no name for a user.", "Use up to 128 letters, digits and . _ @ + : = -")
        link, id_, now = self._token(), self.chance.token_bytes(16).hex(), self.clock.now()
        expires_at = now + int(self.link_life * SECOND)
        await self.storage.write(visits.open_, id_, user, _hash(link), now, expires_at)
        return NewVisit(id=id_, url=f"{self.public_url}/visit/{link}", expires_at=expires_at)

    async def invitation(self, link: str, browser: str = "") -> Invitation:
        """What the link is for. Spends nothing. Raises `LinkGone`."""
        visit = await self._of_link(link, browser)
        lacks = bool(self.proofs) and not visit.proved
        return Invitation(user=visit.user or "", expires_at=moment(visit.expires_at), proof_needed=lacks)

    async def prove(self, link: str, browser: str, how: str, user: str, session: str | None = None) -> None:
        """The person in this browser is this user: somebody vouches for that. Raises `LinkGone` and `NotTheirs`."""
        visit = await self._of_link(link, browser)
        if how not in self.proofs:
            raise LinkGone
        if user != visit.user or session not in (None, visit.id):
            raise NotTheirs
        if not await self.storage.write(visits.prove, _hash(link), _hash(browser), self.clock.now(), how):
            raise LinkGone

    async def begin(self, link: str, browser: str) -> str:
        """Use the link up, and give the value of the cookie by which the visitor is known. Raises `LinkGone` and `ProofNeeded`."""
        if (await self.invitation(link, browser)).proof_needed:
            raise ProofNeeded
        cookie, now = self._token(), self.clock.now()
        expires_at = now + int(LIFE * SECOND)
        if not await self.storage.write(visits.begin, _hash(link), _hash(browser), now, cookie_hash=_hash(cookie), expires_at=expires_at):
            raise LinkGone
        return cookie

    async def of(self, cookie: str) -> Visit | None:
        """The visit of this cookie, while it lasts."""
        return await self.storage.read(visits.by_cookie, _hash(cookie), self.clock.now()) if cookie else None

    async def end(self, visit: Visit) -> None:
        """It is over."""
        await self.storage.write(visits.end, visit.id)

    async def erased(self, visit: Visit, cookie: str, erasure: str) -> None:
        """Its user has erased themselves: leave what shows the receipt."""
        await self.storage.write(visits.erased, visit, _hash(cookie), erasure)

    async def tidy(self) -> None:
        """Forget those that are over."""
        await self.storage.write(visits.drop_older, self.clock.now())

    async def _of_link(self, link: str, browser: str) -> Visit:
        visit = await self.storage.read(visits.by_link, _hash(link), _hash(browser), self.clock.now())
        if visit is None:
            raise LinkGone
        return visit

    def _token(self) -> str:
        return base64.urlsafe_b64encode(self.chance.token_bytes(32)).rstrip(b"=").decode()


def _hash(token: str) -> bytes:
    # Unkeyed and fast is enough: nobody guesses 256 random bits.
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()
