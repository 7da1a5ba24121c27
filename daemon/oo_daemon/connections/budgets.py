"""Budgets: no more calls than a provider allows, whoever makes them: polls, pushes and actions draw from the same buckets.

A bucket lets through at most what is allowed in any period, also when it is full at its beginning: its burst and what fills in meanwhile
come to the limit together. A part stays in reserve for calls that somebody waits for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from hashlib import blake2b

import msgspec

from oo_daemon.ports import SECOND, Clock, Metrics, moment
from oo_daemon.store import budgets
from oo_daemon.store.budgets import Bucket
from oo_daemon.store.connections import Connection
from oo_daemon.store.storage import Storage
from oo_sdk import Connector, QuotaSpent, RateLimit

#: Part of a bucket that only calls draw for which somebody waits.
RESERVE = 0.2
#: Seconds that a call waits for its turn; for longer its run is put off.
PATIENT = 5.0
#: Seconds of the shortest wait: a part of a token is never waited for in no time.
LEAST = 0.01
#: Tokens drawn at once, as a part of the bucket, and seconds for which they are good.
CHUNK, GOOD = 0.1, 10.0
#: Seconds for which a door without a limit is not looked at again: another process may have been told to wait meanwhile.
DOOR = 1.0
#: Little less than is allowed: clocks and networks are not exact.
MARGIN = 0.97


def bucket(limit: RateLimit) -> Bucket:
    """The bucket that keeps to a limit."""
    burst = max(1, limit.calls // 4)
    return Bucket(burst=burst, rate=(limit.calls - burst + (burst == 1)) * MARGIN / limit.seconds)


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a limit is left."""

    limit: RateLimit
    left: int  #: calls that may be made at once
    burst: int  #: as many as may be made at once at most
    closed_until: int | None  #: the provider has said that it was too much


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """What keeping to limits needs. Used on the guests' loop."""

    storage: Storage
    clock: Clock
    metrics: Metrics
    _held: dict[str, list[float]] = msgspec.field(
        default_factory=dict
    )  #: by bucket: tokens drawn and not used, and until when they are good
    #: By provider, and by whose calls a limit counts: how much was left of the emptiest bucket since the last time that it was told.
    _least: dict[tuple[str, str], float] = msgspec.field(default_factory=dict)

    def of(self, connector: Connector, connection: Connection) -> Sequence[str]:
        """The buckets that a call of this connection draws from."""
        return tuple(id_ for id_, _ in _buckets(connector, connection))

    def at_once(self, buckets: Sequence[str]) -> bool:
        """Take one call's tokens of those that are drawn already. False: not all are, and none was taken."""
        now = self.clock.monotonic()
        held = [self._held.get(id_, _NONE) for id_ in buckets]
        if any(tokens < 1 or good < now for tokens, good in held):
            return False
        for each in held:
            each[0] -= 1
        return True

    async def take(self, connector: Connector, connection: Connection, *, waited_for: bool) -> None:
        """Take one call's tokens. Waits a little; raises `QuotaSpent` where that is not enough."""
        for id_, size in _buckets(connector, connection):
            while not self._use(id_):
                want = max(1, int(size.burst * CHUNK)) if size and not waited_for else 1
                reserve = 0.0 if waited_for or size is None or size.burst < 1 / RESERVE else RESERVE
                drawn = await self.storage.write(budgets.draw, id_, size, want=want, reserve=reserve, now=self.clock.now)
                whose = (connector.id, id_.partition(" ")[0])
                self._least[whose] = min(self._least.get(whose, 1.0), drawn.left)
                if drawn.tokens:
                    held = self._held.setdefault(id_, [0.0, 0.0])
                    tokens, good = (drawn.tokens, GOOD) if size else (math.inf, DOOR)
                    held[:] = [held[0] + tokens, self.clock.monotonic() + good]
                elif drawn.wait <= PATIENT:
                    await self.clock.sleep(max(drawn.wait, LEAST))
                else:
                    self.metrics.count("calls_put_off", provider=connector.id)
                    raise QuotaSpent(
                        "the provider allows no more calls for now", until=moment(self.clock.now() + int(drawn.wait * SECOND) + 1)
                    )

    async def refused(self, connector: Connector, connection: Connection, wait: timedelta | None) -> None:
        """The provider said that it was too much: nobody calls for as long as it asks."""
        seconds = wait.total_seconds() if wait else 1.0
        now = self.clock.now()
        ids = [id_ for id_, _ in _buckets(connector, connection)]
        for id_ in [each for each in ids if each.startswith("user ")] or ids:  # it does not say which limit it was
            self._held.pop(id_, None)
            await self.storage.write(budgets.close, id_, now + int(seconds * SECOND), now)

    async def left(self, connector: Connector, connection: Connection) -> list[Left]:
        """How many calls may be made at once for a connection just now, by each limit of its provider."""
        now = self.clock.now()
        found = []
        for limit, (id_, size) in zip(connector.limits, _buckets(connector, connection), strict=False):
            if size is not None:
                level = await self.storage.read(budgets.level, id_, size, now)
                found.append(Left(limit=limit, left=level.tokens, burst=size.burst, closed_until=level.closed_until))
        return found

    async def tell(self) -> None:
        """Measure what was left where least was."""
        for provider, of in list(self._least):
            self.metrics.gauge("budget_left_ratio", round(self._least[provider, of], 3), provider=provider, kind=of)
            self._least[provider, of] = 1.0

    async def tidy(self) -> None:
        """Forget buckets that nobody draws from."""
        await self.storage.write(budgets.forget, self.clock.now())

    def _use(self, id_: str) -> bool:
        held = self._held.get(id_)
        if held is None or held[0] < 1 or held[1] < self.clock.monotonic():
            self._held.pop(id_, None)
            return False
        held[0] -= 1
        return True


_NONE = [0.0, 0.0]


def _buckets(connector: Connector, connection: Connection) -> Iterator[tuple[str, Bucket | None]]:
    """The buckets that a call of this connection draws from; without a limit one that only the provider closes."""
    # A digest, since the table outlives the connection by days, and the user's name must not.
    person = blake2b(f"{connection.user}\0{connector.id}".encode(), digest_size=16).hexdigest()
    if not connector.limits:
        yield f"user {person}", None
    for number, limit in enumerate(connector.limits):
        whose = person if limit.of == "user" else f"{connector.id} {connection.registration or ''}"
        yield f"{limit.of} {whose} {number}", bucket(limit)
