"""A small world for the refresh protocol: a clock, rows and a provider in memory, and a way to crash at any step."""

import asyncio
import heapq
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from msgspec.structs import replace

from oo_vault import (
    Answer,
    ClientRefused,
    CredentialGone,
    CredentialRow,
    Grant,
    GrantDead,
    Intent,
    Keyring,
    LeaseLost,
    NotSent,
    Refresher,
    Renewed,
    Rotation,
    Sealed,
    Secret,
    State,
    Unclear,
    VersionMoved,
)

SECOND = 1_000_000
HOUR = 3600.0
CONNECTION = "c0ffee"

ROTATING = Rotation(rotates=True, reuse_kills=True)
GRACE = Rotation(rotates=True, grace=60, reuse_kills=True)
STEADY = Rotation()

Fault = Literal["ok", "slow", "lost", "500 after", "time-out", "500", "not sent", "dead", "client"]
"""slow: longer than the lease of a test that crashes; lost, 500 after, time-out: done, and nobody hears of it."""

SLOW, TIME_OUT = 20.0, 30.0
T = TypeVar("T")


class Crash(BaseException):
    """The process died here."""


class VirtualClock:
    """Time that passes only when everybody waits."""

    def __init__(self) -> None:
        self.time = 1000.0  # monotonic
        self.epoch = 1_700_000_000 * SECOND
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = itertools.count()

    def now(self) -> int:
        return self.epoch + int(self.time * SECOND)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._order), woken))
        await woken.wait()

    def step_wall(self, seconds: float) -> None:
        self.epoch += int(seconds * SECOND)

    async def run(self, work: Awaitable[T]) -> T:
        """Drive this to its end, moving time whenever nothing else can move; at most a virtual day."""
        task = asyncio.ensure_future(work)
        end = self.time + 24 * HOUR
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # what can move now; no public name
        while not task.done():
            await asyncio.sleep(0)
            while ready and not task.done():
                await asyncio.sleep(0)
            if not task.done():
                assert self._sleepers, "everybody waits for something that is not time"
                self.time, _, woken = heapq.heappop(self._sleepers)
                assert self.time < end, "it waits without a bound"
                woken.set()
        return await task


@dataclass
class Provider:
    """A token endpoint that does as its rotation says."""

    clock: VirtualClock
    rotation: Rotation
    life: int | None = 3600
    takes: float = 0.0
    script: list[Fault] = field(default_factory=list)  #: what the next calls do; "ok" after the last
    used: list[str] = field(default_factory=list)  #: refresh tokens, in the order of calls
    accesses: dict[str, float] = field(default_factory=dict)  #: live access tokens and their end
    good: str = "refresh-0"
    spent: dict[str, float] = field(default_factory=dict)
    killed: bool = False
    most_at_once: int = 0
    _at_once: int = 0
    _serial: int = 0

    def first(self) -> Grant:
        """Give the grant of the sign-in."""
        now = self.clock.now()
        return Grant(
            access_token=Secret(self._access()),
            refresh_token=Secret(self.good),
            scopes=("data:read",),
            expires_at=None if self.life is None else now + self.life * SECOND,
            obtained_at=now,
            extra={"account": "a1"},
        )

    def accepts(self, grant: Grant) -> bool:
        """Say whether the API would take this access token now."""
        return not self.killed and self.accesses.get(grant.access_token.reveal(), 0) > self.clock.time

    async def __call__(self, refresh_token: Secret) -> Answer:
        self.used.append(refresh_token.reveal())
        fault = self.script.pop(0) if self.script else "ok"
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if takes := {"slow": SLOW, "time-out": TIME_OUT}.get(fault, self.takes):
                await self.clock.sleep(takes)
            return self._answer(refresh_token.reveal(), fault)
        finally:
            self._at_once -= 1

    def _answer(self, token: str, fault: Fault) -> Answer:
        match fault:
            case "not sent":
                return NotSent(reason="no connection")
            case "client":
                return ClientRefused(reason="invalid_client")
            case "500":
                return Unclear(reason="status 500")
            case "dead":
                return GrantDead(reason="invalid_grant")
            case "lost" | "500 after" | "time-out":
                self._renew(token)
                return Unclear(reason="no answer in time")
            case "ok" | "slow":
                return self._renew(token)

    def _renew(self, token: str) -> Answer:
        if self.killed or (token != self.good and token not in self.spent):
            return GrantDead(reason="invalid_grant")
        if token in self.spent:
            grace = self.rotation.grace
            if grace is not None and self.clock.time - self.spent[token] <= grace:
                return Renewed(access_token=Secret(self._access()), expires_in=self.life)
            self.killed = self.rotation.reuse_kills
            return GrantDead(reason="invalid_grant")
        fresh = None
        if self.rotation.rotates:
            self.spent[token] = self.clock.time
            self.good = f"refresh-{self._serial + 1}"
            fresh = Secret(self.good)
        return Renewed(access_token=Secret(self._access()), refresh_token=fresh, expires_in=self.life)

    def _access(self) -> str:
        self._serial += 1
        token = f"access-{self._serial}"
        self.accesses[token] = self.clock.time + (10 * 365 * 86400 if self.life is None else self.life)
        return token


class MemoryRows:
    """Rows in memory, with every promise of the port; crashes at step `crash_at`, and has errors to raise by call."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.rows: dict[str, CredentialRow] = {}
        self.steps: list[str] = []
        self.crash_at: int | None = None
        self.errors: dict[str, list[Exception]] = {}

    def step(self, name: str) -> None:
        """Pass one point at which a process can die."""
        if self.crash_at == len(self.steps):
            self.crash_at = None
            raise Crash(name)
        self.steps.append(name)

    def fail(self, call: str) -> None:
        """Raise the next error laid out for this call."""
        if self.errors.get(call):
            raise self.errors[call].pop(0)

    async def read(self, connection: str) -> CredentialRow:
        await asyncio.sleep(0)
        self.fail("read")
        if connection not in self.rows:
            raise CredentialGone(connection)
        return self.rows[connection]

    async def lease(self, connection: str, owner: str, now: Callable[[], int], length: int) -> int | None:
        self.step("before lease")
        await asyncio.sleep(0)
        row, at = self.rows[connection], now()
        if row.lease_owner not in (None, owner) and row.lease_until is not None and at < row.lease_until <= at + 2 * length:
            return None
        self.rows[connection] = replace(row, lease_owner=owner, lease_until=at + length, fence=row.fence + 1)
        self.step("after lease")
        return row.fence + 1

    async def intend(self, connection: str, fence: int, intent: Intent) -> None:
        self.step("before intend")
        await asyncio.sleep(0)
        self.fail("intend")
        self.rows[connection] = replace(self._held(connection, fence), intent=intent)
        self.step("after intend")

    async def probe(self, connection: str, fence: int, size: int) -> None:
        self.step("before probe")
        await asyncio.sleep(0)
        self.fail("probe")
        assert size > len(self._held(connection, fence).sealed.blob)
        self.step("after probe")

    async def commit(
        self,
        connection: str,
        fence: int,
        expected_token_version: int,
        sealed: Sealed,
        expires_at: int | None,
        state: State,
    ) -> None:
        self.step("before commit")
        await asyncio.sleep(0)
        self.fail("commit")
        row = self.rows[connection]
        if row.token_version != expected_token_version:
            raise VersionMoved(connection)
        row = replace(row, sealed=sealed, expires_at=expires_at, state=state, token_version=expected_token_version + 1, intent=None)
        if row.fence == fence:
            row = replace(row, lease_owner=None, lease_until=None)
        self.rows[connection] = row
        self.step("after commit")

    async def settle(self, connection: str, fence: int, *, intent: Intent | None, state: State | None = None) -> None:
        self.step("before settle")
        await asyncio.sleep(0)
        self.fail("settle")
        row = self._held(connection, fence)
        self.rows[connection] = replace(row, intent=intent, state=state or row.state, lease_owner=None, lease_until=None)
        self.step("after settle")

    def _held(self, connection: str, fence: int) -> CredentialRow:
        row = self.rows[connection]
        if row.fence != fence or row.lease_owner is None:
            raise LeaseLost(connection)
        return row


class World:
    """One connection, its provider, and as many processes as a test wants."""

    def __init__(self, rotation: Rotation, *, life: int | None = 3600, takes: float = 0.0, lease: float = 40) -> None:
        self.lease = lease
        self.clock = VirtualClock()
        self.rotation = rotation
        self.provider = Provider(self.clock, rotation, life=life, takes=takes)
        self.rows = MemoryRows(self.clock)
        self.keyring = Keyring([bytes(32)])
        self._owners = itertools.count()
        self.sign_in(self.provider.first())
        self.refresher = self.process()

    def sign_in(self, grant: Grant, *, version: int = 1) -> None:
        """Put a new grant into the row, as a finished sign-in does."""
        row = CredentialRow(
            connection=CONNECTION,
            user="u1",
            provider="acme",
            account="default",
            sealed=Sealed(key_id="", blob=b""),
            token_version=version,
            expires_at=grant.expires_at,
        )
        self.rows.rows[CONNECTION] = replace(row, sealed=self.keyring.seal(row.context(), grant.pack()))

    @property
    def row(self) -> CredentialRow:
        return self.rows.rows[CONNECTION]

    def process(self) -> Refresher:
        """Start one more process over the same rows."""
        owner = f"process-{next(self._owners)}"
        return Refresher(rows=self.rows, keyring=self.keyring, clock=self.clock, chance=random.Random(7), owner=owner, lease=self.lease)

    def restart(self) -> None:
        """Go on with a new process that remembers nothing."""
        self.refresher = self.process()

    async def exchange(self, token: Secret) -> Answer:
        self.rows.step("before exchange")
        answer = await self.provider(token)
        self.rows.step("after exchange")
        return answer

    async def grant(self, refresher: Refresher | None = None, *, force_after: int | None = None) -> Grant:
        """Ask for a usable grant and drive the clock until there is an answer."""
        asked = (refresher or self.refresher).grant(CONNECTION, self.exchange, self.rotation, force_after=force_after)
        return await self.clock.run(asked)

    def into_margin(self) -> None:
        """Go to one minute before the access token ends."""
        assert self.row.expires_at is not None
        self.clock.time += (self.row.expires_at - self.clock.now()) / SECOND - 60

    def past_expiry(self) -> None:
        """Go to one minute after the access token ended."""
        self.into_margin()
        self.clock.time += 120
