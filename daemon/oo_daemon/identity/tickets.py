"""Tickets: the product's backend says by its signature that a user of its own is in this browser just now.

A ticket is for one connect session and a minute or so: it is made when the product sends its signed-in user to us, and is worth nothing in
another browser once it was used.
"""

from __future__ import annotations

import msgspec

from oo_daemon.identity.jose import LEEWAY, PublicKeys, claims_of
from oo_daemon.identity.person import NotVouched
from oo_daemon.ports import SECOND, Clock

#: Seconds that a ticket may live at most.
LIFE = 300
ALGORITHMS = ("EdDSA", "Ed25519", "ES256", "RS256", "PS256")


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticket says."""

    user: str
    session: str  #: the connect session


class Tickets(msgspec.Struct, frozen=True, kw_only=True):
    """Reads tickets. `audience` is our public address."""

    keys: PublicKeys
    audience: str
    clock: Clock

    def read(self, text: str) -> Ticket:
        """What a ticket says, once everything about it holds. Raises `NotVouched`."""
        now = self.clock.now() // SECOND
        claims = claims_of(text, self.keys, ALGORITHMS, issuer=None, audience=self.audience, now=now)
        user, session, ends_at = claims.get("sub"), claims.get("sid"), claims["exp"]
        if not isinstance(user, str) or not isinstance(session, str):
            raise NotVouched("it names no user, or no session")
        if ends_at - now > LIFE + LEEWAY:
            raise NotVouched("it lives too long")
        return Ticket(user=user, session=session)
