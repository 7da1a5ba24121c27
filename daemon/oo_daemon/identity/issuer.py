"""The issuer: its keys, fetched, kept, and fetched again where a token names one that is not known."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from oo_daemon.connections.metadata import OutOfReach, Published, Wrong
from oo_daemon.identity.jose import PublicKeys, UnknownKey, claims_of
from oo_daemon.identity.person import CannotTell, Claims, Person
from oo_daemon.ports import SECOND, Clock
from oo_sdk import Log

#: Seconds for which keys are taken without another look; for which they stand in while the issuer is out of reach; and between two looks
#: that are for a key nobody knows, since anybody can name one.
FRESH, KEPT, PAUSE = 600.0, 86_400.0, 30.0


@dataclass(slots=True, kw_only=True, eq=False)
class Issuer:
    """One OpenID Connect issuer. Belongs to the main loop."""

    name: str
    algorithms: Collection[str]
    claims: Claims
    published: Published
    clock: Clock
    log: Log
    _keys: PublicKeys | None = field(default=None, init=False, repr=False)
    _met_at: float = field(default=-math.inf, init=False)
    _looked_at: float = field(default=-math.inf, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def claims_of(self, token: str, audience: str) -> Mapping[str, Any]:
        """What a token of this issuer's says. Raises `NotVouched` and `CannotTell`."""
        keys = await self._current()
        now = self.clock.now() // SECOND
        try:
            return claims_of(token, keys, self.algorithms, issuer=self.name, audience=audience, now=now)
        except UnknownKey:
            newer = await self._current(than=keys)
            if newer is keys:
                raise
            return claims_of(token, newer, self.algorithms, issuer=self.name, audience=audience, now=now)

    async def person(self, token: str, audience: str) -> Person:
        """Whom a token of this issuer's is about. Raises `NotVouched` and `CannotTell`."""
        return self.claims.person(await self.claims_of(token, audience))

    async def _current(self, than: PublicKeys | None = None) -> PublicKeys:
        """The keys; newer ones than these, where there are any to be had."""
        async with self._turn:
            now = self.clock.monotonic()
            if self._keys is not None and self._keys is not than and now - self._met_at < FRESH:
                return self._keys
            if self._keys is not None and now - self._looked_at < PAUSE:
                return self._keys
            self._looked_at = now
            try:
                metadata = await self.published.of(self.name, "openid")
                keys = PublicKeys.of(await self.published.fetch(metadata.jwks_uri, dict))
            except (OutOfReach, Wrong) as fault:
                self.log.warning("issuer_not_asked", reason=str(fault))
                if self._keys is not None and now - self._met_at < KEPT:
                    return self._keys
                raise CannotTell(str(fault)) from None
            self._keys, self._met_at = keys, now
            return keys


class Callers(msgspec.Struct, frozen=True, kw_only=True):
    """Callers of the API who show a token of the issuer's that was made for it."""

    issuer: Issuer
    audience: str

    async def person(self, token: str) -> Person:
        """Whom it is about. Raises `NotVouched` and `CannotTell`."""
        return await self.issuer.person(token, self.audience)
