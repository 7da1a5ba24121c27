"""Keeps grants alive that nothing uses: providers end those that lie idle (Google after six months), as a paused connection's does."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from oo_daemon.connections.credential import Credentials
from oo_daemon.ports import SECOND, Clock, Guests
from oo_daemon.registry import Registry
from oo_daemon.store import credentials
from oo_daemon.store.storage import Storage
from oo_sdk import ConnectorError
from oo_vault import VaultError

#: Seconds since the end of its last access token after which a grant is renewed for its own sake.
IDLE = 30 * 86_400
#: At most so many at a look: after a long absence there may be many at once.
MOST = 20


class KeepAlive(msgspec.Struct, frozen=True, kw_only=True):
    """What keeping grants alive needs."""

    storage: Storage
    registry: Registry
    credentials: Credentials
    guests: Guests
    clock: Clock

    async def tick(self) -> None:
        """Renew those that have lain idle longest. One that cannot be renewed now has its turn again."""
        for connection in await self.storage.read(credentials.idle, self.clock.now() - IDLE * SECOND, MOST):
            connector = self.registry.connectors.get(connection.provider)
            if connector is None:
                continue
            with suppress(ConnectorError, VaultError):  # the numbers of refreshes tell of it
                await self.guests.run(self.credentials.renew(connector, connection), of=connector)
