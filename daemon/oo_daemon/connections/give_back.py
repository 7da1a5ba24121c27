"""Giving back grants that no connection has: of the wrong account, of a sign-in that nobody confirmed, or of an account that was replaced.

They lie sealed with their sign-in and are revoked as soon as the provider can be reached; after a day they are erased in any case.
"""

from __future__ import annotations

import asyncio

import msgspec

from oo_daemon.connections.connect import WITHIN, grant_place
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.exchange import Held
from oo_daemon.connections.guest import GuestClock, LogFor, sentence
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.session import SignedSession
from oo_daemon.connections.transport import Transport
from oo_daemon.ports import SECOND, Clock, Guests
from oo_daemon.registry import Registry
from oo_daemon.store import connections, flows
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.flows import SignIn
from oo_daemon.store.storage import Storage
from oo_sdk import Context, Log, SignInAgain
from oo_vault import Grant, Keyring, VaultError

#: How long a grant is kept for that.
_KEPT = 24 * 3600 * SECOND


class GiveBack(msgspec.Struct, frozen=True, kw_only=True):
    """Gives back what sign-ins have left."""

    storage: Storage
    keyring: Keyring
    registry: Registry
    registrations: Registrations
    guests: Guests
    transport: Transport
    clock: Clock
    log_for: LogFor
    log: Log

    async def tick(self) -> None:
        """Try each that is left, once."""
        try:
            await self._round(self.clock.now())
        except CannotStore as fault:
            self.log.warning("give_back_failed", reason=str(fault))  # what is left is tried with the next tick

    async def _round(self, now: int) -> None:
        for sign_in in await self.storage.read(flows.left, now):
            if await self._done(sign_in) or sign_in.created_at + _KEPT <= now:
                await self.storage.write(flows.let_go, sign_in.id)

    async def _done(self, sign_in: SignIn) -> bool:
        """True once nothing is left to do at the provider."""
        connector = self.registry.connectors.get(sign_in.provider)
        if connector is None or sign_in.sealed is None or sign_in.found is None:
            return False
        # To revoke what a connection uses, too, would end that as well.
        if await self.storage.read(connections.uses_account, sign_in.provider, sign_in.found.account_id, sign_in.registration):
            return True
        try:
            client = None if sign_in.registration is None else await self.registrations.client(sign_in.registration)
            grant = Grant.unpack(self.keyring.open(grant_place(sign_in), sign_in.sealed))
            context = Context(
                http=SignedSession(connector=connector, client=client, authority=Held(grant), transport=self.transport, clock=self.clock),
                meta=sign_in.found.meta,
                scopes=frozenset(sign_in.found.scopes),
                first_fetch_from=None,
                clock=GuestClock(self.clock),
                log=self.log_for(sign_in.id, sign_in.provider),
            )
            async with asyncio.timeout(WITHIN):
                await self.guests.run(connector.revoke(context), of=connector)
        except SignInAgain:
            return True  # it is gone already
        except Exception as error:
            told = str(error) if isinstance(error, Declined | VaultError) else sentence(error)
            self.log.warning("grant_not_given_back", provider=sign_in.provider, reason=told)
            return False
        return True
