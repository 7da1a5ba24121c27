"""Subscriptions: pushes that a provider sends for a while only are asked for, asked for again before half of that while, and ended.

Where that fails somebody is told, polling takes over, and it is tried again. A row is kept before the provider is asked, so that what a
crash leaves there is ended, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from msgspec.structs import replace

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.guest import Contexts, sentence
from oo_daemon.connections.sources import Sources
from oo_daemon.ports import SECOND, Chance, Clock, Guests, Metrics, micros, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, schedule, subscriptions
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database
from oo_daemon.store.errors import Erased
from oo_daemon.store.storage import Storage
from oo_daemon.store.subscriptions import Subscriber, SubscriptionRow
from oo_sdk import Address, Connector, ConnectorBug, ConnectorError, Context, Hears, Log, SignInAgain, Subscribes, Subscription
from oo_vault import VaultError

#: How often one looks whether something is due, and at how many connections at once.
EVERY, MOST = 10.0, 20
#: Seconds after which the topics of a connection are looked at again.
DAILY = 24 * 3600
#: Seconds that one look may take.
WITHIN = 120.0
#: Seconds until a look that failed is repeated: doubled each time, up to the second.
AGAIN, LONGEST = 60, 3600
#: Seconds for which one that has ended still says whose a late push is.
LATE = 24 * 3600
#: Seconds after which one of which nothing is known is not asked to end any more.
GIVEN_UP = 30 * 24 * 3600
#: Makes the address of a subscription, by its id.
Addresses: TypeAlias = Callable[[str], Address]


@dataclass(slots=True, kw_only=True, eq=False)
class Subscriptions:
    """What subscribing needs."""

    storage: Storage
    registry: Registry
    sources: Sources
    contexts: Contexts
    guests: Guests
    clock: Clock
    chance: Chance
    metrics: Metrics
    log: Log
    public_url: str
    interval: float  #: seconds between polls where pushes do not work
    _busy: set[int] = field(default_factory=set, init=False)

    async def tick(self) -> None:
        """Look at the connections whose time it is."""
        able = {id_: each for id_, each in self.registry.connectors.items() if isinstance(each, Subscribes) and isinstance(each, Hears)}
        if not able or not reachable(self.public_url):
            return
        numbers = await self.storage.read(subscriptions.due, [*able], self.clock.now(), MOST)
        await asyncio.gather(*(self._look(number) for number in numbers if number not in self._busy))

    async def end(self, connector: Connector, connection: Connection) -> bool:
        """End all of a connection's, before its grant is given back; False where some may still stand."""
        rows = [row for row in await self.storage.read(subscriptions.of, connection.number) if row.state != "ended"]
        if not rows or not isinstance(connector, Subscribes):
            return True
        try:
            ctx = await self._context(connector, connection)
        except SignInAgain:
            return True  # with the grant went what it had asked for
        except (ConnectorError, VaultError):
            return False
        address = await self._addresses(connection)
        return all([await self._ended(connector, ctx, row, address) for row in rows])

    async def _look(self, number: int) -> None:
        connection = await self.storage.read(connections.by_number, number)
        before = await self.storage.read(subscriptions.subscriber, number)
        connector = self.registry.connectors.get(connection.provider) if connection else None
        if connection is None or connector is None:
            return
        self._busy.add(number)
        try:
            async with asyncio.timeout(WITHIN):
                reason, next_at = "", await self._reconciled(connector, connection)
        except Erased:
            return
        except Exception as error:
            reason = str(error) if isinstance(error, Declined) else sentence(error)
            tries = before.tries + 1 if before else 1
            next_at = self.clock.now() + min(LONGEST, AGAIN * 2 ** min(tries - 1, 6)) * SECOND
            self.metrics.count("subscription_failures", provider=connection.provider)
            self.log.warning("subscription_failed", provider=connection.provider, tries=tries, reason=reason)
            await self.storage.write(schedule.poll_again, number, self.clock.now() + int(self.interval * SECOND))
        else:
            tries = 0
        finally:
            self._busy.discard(number)
        await self.storage.write(subscriptions.looked, number, Subscriber(look_at=next_at, tries=tries, reason=reason))

    async def _reconciled(self, connector: Any, connection: Connection) -> int:
        """Have what stands at the provider be what should; gives when to look again."""
        address = await self.sources.addresses(connection.registration or "")
        ctx = await self._context(connector, connection)
        topics = dict.fromkeys(await self.guests.run(connector.topics(ctx), of=connector))
        now = self.clock.now()
        await self.storage.write(subscriptions.forget_ended, connection.number, now - LATE * SECOND)
        standing: dict[str, SubscriptionRow] = {}
        for row in await self.storage.read(subscriptions.of, connection.number):
            alive = row.state == "standing" and (row.expires_at is None or row.expires_at > now)
            if alive and row.topic in topics and row.topic not in standing:
                standing[row.topic] = row
            elif row.state != "ended":  # of a topic that is no more, or left by a crash
                await self._ended(connector, ctx, row, address)
        for topic in topics:
            old = standing.get(topic)
            if old is None or (old.renew_at is not None and old.renew_at <= now):
                made = await self._made(connector, ctx, connection, topic, address, old)
                if made is not None:
                    standing[topic] = made
                elif old is not None:
                    del standing[topic]
        ends = [row.renew_at for row in standing.values() if row.renew_at is not None]
        return min([now + DAILY * SECOND, *ends])

    async def _made(
        self, connector: Any, ctx: Context, connection: Connection, topic: str, address: Addresses, old: SubscriptionRow | None
    ) -> SubscriptionRow | None:
        """Subscribe, or renew what stands; None where nothing of this topic is pushed."""
        now, id_ = self.clock.now(), self.chance.token_bytes(16).hex()
        making = SubscriptionRow(id=id_, connection=connection.number, topic=topic, state="making", changed_at=now)
        await self.storage.write(subscriptions.put, making)
        if old is None:
            made = await self.guests.run(connector.subscribe(ctx, topic, address(id_)), of=connector)
        else:
            made = await self.guests.run(connector.renew(ctx, _shown(old), address(id_)), of=connector)
        now = self.clock.now()
        if made is None:
            await self.storage.write(subscriptions.put, replace(making, state="ended", changed_at=now))
            if old is not None:
                await self._ended(connector, ctx, old, address)
            return None
        same = old is not None and isinstance(made, Subscription) and made.id == old.id
        row = _checked(connector, made, old if old is not None and same else making, now)
        # Which of the two stands is written in one step, so that no crash leaves both in doubt.
        other = replace(making, state="ended", changed_at=now) if same else old and replace(old, state="ending", changed_at=now)

        def write(database: Database) -> None:
            for each in filter(None, (row, other)):
                subscriptions.put(database, each)

        await self.storage.write(write)
        self.metrics.count("subscriptions_made", provider=connection.provider)
        if other is not None and other.state == "ending":
            await self._ended(connector, ctx, other, address)
        return row

    async def _ended(self, connector: Any, ctx: Context, row: SubscriptionRow, address: Addresses) -> bool:
        """Unsubscribe; False where it is to be tried again. One that has expired needs nothing."""
        now = self.clock.now()
        ends = row.changed_at + GIVEN_UP * SECOND if row.expires_at is None and row.state != "standing" else row.expires_at
        try:
            if ends is None or ends > now:
                await self.guests.run(connector.unsubscribe(ctx, _shown(row), address(row.id)), of=connector)
        except Exception as error:
            self.log.warning("not_unsubscribed", provider=connector.id, reason=sentence(error))
            await self.storage.write(subscriptions.put, replace(row, state="ending"))
            return False
        await self.storage.write(subscriptions.put, replace(row, state="ended", changed_at=now))
        return True

    async def _addresses(self, connection: Connection) -> Addresses:
        """What makes addresses; where the source takes nothing any more, such as lead nowhere."""
        try:
            return await self.sources.addresses(connection.registration or "")
        except Declined:
            return lambda id_: Address(id=id_, url="", secret="")

    async def _context(self, connector: Connector, connection: Connection) -> Context:
        return await self.guests.run(self.contexts.of(connector, connection), of=connector)


def reachable(public_url: str) -> bool:
    """Say whether providers push there: over TLS, or on this machine, where only sandboxes are."""
    address = urlsplit(public_url)
    return address.scheme == "https" or address.hostname in {"localhost", "127.0.0.1", "::1"}


def half_life(made_at: int, expires_at: int) -> int:
    """When one is renewed: when half of its life is over."""
    return made_at + max(0, expires_at - made_at) // 2


def _shown(row: SubscriptionRow) -> Subscription:
    expires_at = None if row.expires_at is None else moment(row.expires_at)
    return Subscription(id=row.id, topic=row.topic, handle=row.handle, expires_at=expires_at)


def _checked(connector: Connector, made: Any, of: SubscriptionRow, now: int) -> SubscriptionRow:
    """The row of what a connector gave back. Raises `ConnectorBug`."""
    match made:
        case Subscription(id=of.id, topic=of.topic, handle=str() as handle, expires_at=None):
            return replace(of, handle=handle, state="standing", changed_at=now, renew_at=None, expires_at=None)
        case Subscription(id=of.id, topic=of.topic, handle=str() as handle, expires_at=datetime() as ends) if ends.tzinfo:
            expires_at = micros(ends)
            if expires_at > now:
                renew_at = half_life(now, expires_at)
                return replace(of, handle=handle, state="standing", changed_at=now, renew_at=renew_at, expires_at=expires_at)
    raise ConnectorBug(f"{connector.id} gave back something else than a subscription of this topic that stands")
