"""The refresh protocol: how a grant is renewed without ever being lost.

One refresh at a time, each step one await on a port:

    lease → read → intend → probe → exchange → commit

The intent is durable before the call and is gone when the outcome is known. One that is found later belongs to a crash or to a
lost answer: its refresh token may be spent. Such a token is tried again, since that is the only way to know; but where using a
spent one ends every grant of the user (Todoist), only within the provider's grace or once the access token has run out too, when
nothing is left to lose.

    answer                                   row afterwards                        caller gets
    ---------------------------------------  ------------------------------------  ------------------------------------------
    Renewed                                  good, new tokens, no intent           the new grant
    Renewed, no refresh token                good, keeps the old refresh token     the new grant
      … from a provider with a grace         consent_soon, no refresh token        the new grant, its last
    GrantDead, and the version moved         as found                              the newer grant
    GrantDead, first time, reuse is safe     intent stays; tried once more         what the second answer gives
    GrantDead else                           dead, still sealed                    SignInNeeded
    ClientRefused                            as before                             ClientBroken
    NotSent                                  as before                             the old grant while it lives, else TryLater
    Unclear                                  intent stays                          the old grant while it lives, else TryLater
      … first time, provider with a grace    intent stays; tried once more         what the second answer gives
    none (a crash)                           intent and lease stay                 (the next caller, after the lease)

    state         leaves it by
    ------------  -------------------------------------------------------------------------
    good          consent_soon, dead: above
    verify        good, consent_soon, dead: above (its refresh token counts as one that may be spent)
    consent_soon  dead: when its access token has run out
    dead          a new sign-in, which replaces the row
"""

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from oo_vault.credential import CredentialRow, Intent, Rows, State, digest
from oo_vault.errors import ClientBroken, LeaseLost, SignInNeeded, TryLater, VersionMoved
from oo_vault.exchange import ClientRefused, Exchange, GrantDead, NotSent, Renewed, Rotation, Unclear
from oo_vault.grant import Grant
from oo_vault.keyring import Keyring
from oo_vault.secret import Secret

SECOND = 1_000_000  #: in microseconds

_MARGIN_SHARE, _MARGIN_MOST = 0.2, 300.0  # of a token's life; seconds: renew in the last part of it
_ARRIVES = 5.0  # seconds that a token must still live to be worth sending
_SKEW = 60.0  # seconds by which clocks of several hosts may differ
_GRACE_SHARE = 0.8  # of a provider's grace: the rest is for the way there
_STEP = 0.25  # seconds between two looks at another owner's lease
_SOON = 3.0  # seconds before the second try of a call
_BACKOFF_LEAST, _BACKOFF_MOST, _AFTER_MOST = 5.0, 300.0, 3600.0  # seconds
_COMMIT_TRIES = 4
_ROOM = 4096  # bytes that new tokens may be longer than twice the old


class Clock(Protocol):
    """Time, and waiting."""

    def now(self) -> int:
        """Give the microseconds since 1970, UTC. It may jump."""

    def monotonic(self) -> float:
        """Give seconds that never run backwards."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Chance(Protocol):
    """Randomness for jitter; `random.Random` is one."""

    def uniform(self, a: float, b: float, /) -> float:
        """Give a number between the two."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Known:
    """What this process remembers of one token version. Forgetting it costs nothing but politeness."""

    version: int
    margin: float  # seconds
    ends: float  # monotonic; infinite without an expiry
    faults: int = 0  # in a row
    fault: str = ""  # the last one
    broken: bool = False  # it was a refusal of our registration
    quiet_until: float = -math.inf  # monotonic; no call to the provider before


class Refresher:
    """Gives usable grants, renewing them where needed. One per event loop; any number may share the rows.

    `owner` names this daemon among those that share the rows. Let it be the same after a restart, so that its own lease does not
    keep it out while a provider's grace (Todoist: 60 s) runs. `lease` is in seconds and well above the longest exchange.
    """

    def __init__(self, *, rows: Rows, keyring: Keyring, clock: Clock, chance: Chance, owner: str, lease: float = 40.0) -> None:
        self._rows = rows
        self._keyring = keyring
        self._clock = clock
        self._chance = chance
        self._owner = owner
        self._lease_seconds = lease
        self._known: dict[str, _Known] = {}
        self._flights: dict[tuple[str, int], asyncio.Task[Grant]] = {}

    async def grant(self, connection: str, exchange: Exchange, rotation: Rotation, *, force_after: int | None = None) -> Grant:
        """Give a grant that can be used now.

        It is renewed within its margin, and when `force_after` names its `token_version`: the provider refused that one with a
        401. Raises `SignInNeeded`, `TryLater`, `ClientBroken`, `CredentialGone`; `Tampered`, `KeyUnknown`; whatever the rows raise.
        """
        row = await self._rows.read(connection)
        grant = self._opened(row)
        known = self._know(connection, grant)
        forced = force_after == row.token_version
        left = self._left(grant, known)
        if not forced and left > known.margin:
            return grant
        usable = not forced and left > _ARRIVES
        quiet = known.quiet_until - self._clock.monotonic()
        if usable and (
            grant.refresh_token is None
            or quiet > 0
            or self._leased_elsewhere(row)
            or _must_hold(row.intent, row.state, grant.refresh_token, rotation, self._clock.now())
        ):
            return grant
        if forced and grant.refresh_token is None:
            raise SignInNeeded("the provider refused it and it cannot be renewed")
        if quiet > 0:
            raise ClientBroken(known.fault) if known.broken else TryLater(known.fault, quiet)
        try:
            return await self._fly(row, exchange, rotation, forced)
        except TryLater:
            if usable and self._left(grant, known) > _ARRIVES:
                return grant
            raise

    def forget(self, connection: str) -> None:
        """Drop what is remembered of a connection that is gone."""
        self._known.pop(connection, None)

    async def finish(self) -> None:
        """Wait for the refreshes under way; for a stop that loses none."""
        await asyncio.gather(*self._flights.values(), return_exceptions=True)

    async def _fly(self, row: CredentialRow, exchange: Exchange, rotation: Rotation, forced: bool) -> Grant:
        """Join the refresh of this version that is under way, or begin it."""
        key = (row.connection, row.token_version)
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._refresh(*key, exchange, rotation, forced))
            self._flights[key] = flight
            flight.add_done_callback(partial(self._landed, key))
        # Shielded: a caller who gives up must not cut off an exchange that the provider may have done already.
        return await asyncio.shield(flight)

    def _landed(self, key: tuple[str, int], flight: asyncio.Task[Grant]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # looked at, or asyncio complains when every caller has given up

    async def _refresh(self, connection: str, version: int, exchange: Exchange, rotation: Rotation, forced: bool) -> Grant:
        """Give a grant newer than this version, or raise."""
        while True:
            fence = await self._lease(connection, version)
            row = await self._rows.read(connection)
            if fence is None:
                return self._opened(row)
            if row.token_version != version or row.state == "dead":
                await self._settle(connection, fence, row.intent)
                return self._opened(row)
            grant = row.open(self._keyring)
            token = grant.refresh_token
            if token is None:
                await self._settle(connection, fence, None, "dead")
                raise SignInNeeded("its last access token has run out")
            known = self._know(connection, grant)
            now = self._clock.now()
            before = _of_token(row.intent, token)
            left = self._left(grant, known)
            if not forced and left > _ARRIVES and _must_hold(before, row.state, token, rotation, now):
                await self._settle(connection, fence, before)
                raise TryLater("its refresh token may be spent", left)

            intent = Intent(digest=digest(token), at=before.at if before else now, tries=before.tries + 1 if before else 1)
            try:
                await self._rows.intend(connection, fence, intent)
                await self._rows.probe(connection, fence, 2 * len(row.sealed.blob) + _ROOM)
            except LeaseLost:
                raise TryLater("another process is renewing it", _STEP) from None
            except Exception:
                with suppress(Exception):  # the disk may refuse this too; the cause is what the caller must see
                    await self._rows.settle(connection, fence, intent=before)
                raise

            sent_at = self._clock.now()
            match await exchange(token):
                case Renewed() as answer:
                    return await self._keep(row, fence, grant, answer, rotation, sent_at)
                case ClientRefused(reason=reason):
                    await self._settle(connection, fence, before)
                    self._hush(known, reason, broken=True)
                    raise ClientBroken(reason)
                case NotSent(reason=reason):
                    await self._settle(connection, fence, before)
                    raise TryLater(reason, self._hush(known, reason))
                case Unclear(reason=reason, after=after):
                    if rotation.grace is None or intent.tries > 1 or (after or 0) > _SOON:
                        await self._settle(connection, fence, intent)
                        raise TryLater(reason, self._hush(known, reason, after))
                case GrantDead(reason=reason):
                    row = await self._rows.read(connection)
                    if row.token_version != version:
                        await self._settle(connection, fence, row.intent)
                        return self._opened(row)
                    if rotation.reuse_kills or intent.tries > 1:
                        if not await self._settle(connection, fence, None, "dead"):
                            raise TryLater("another process is renewing it", _STEP)
                        raise SignInNeeded(reason)
            await self._clock.sleep(self._chance.uniform(_SOON / 2, _SOON))

    async def _lease(self, connection: str, version: int) -> int | None:
        """Take the lease, waiting for another owner's to end; None when the version moved meanwhile."""
        deadline = self._clock.monotonic() + self._lease_seconds
        while True:
            fence = await self._rows.lease(connection, self._owner, self._clock.now, int(self._lease_seconds * SECOND))
            if fence is not None:
                return fence
            if self._clock.monotonic() >= deadline:
                raise TryLater("another process is renewing it", _BACKOFF_LEAST)
            await self._clock.sleep(_STEP)
            if (await self._rows.read(connection)).token_version != version:
                return None

    async def _keep(self, row: CredentialRow, fence: int, old: Grant, answer: Renewed, rotation: Rotation, sent_at: int) -> Grant:
        """Commit new tokens and give them; or give the grant that somebody else committed first."""
        spent = answer.refresh_token is None and rotation.rotates and rotation.grace is not None
        new = Grant(
            access_token=answer.access_token,
            refresh_token=old.refresh_token if answer.refresh_token is None and not spent else answer.refresh_token,
            token_type=answer.token_type,
            scopes=old.scopes if answer.scopes is None else answer.scopes,
            # An end of 0 seconds (Todoist's migration prints one) would mean a refresh for every call.
            expires_at=sent_at + answer.expires_in * SECOND if answer.expires_in and answer.expires_in > 0 else None,
            obtained_at=sent_at,
            extra=old.extra,
            token_version=row.token_version + 1,
        )
        state: State = "consent_soon" if spent else "good"
        for attempt in range(_COMMIT_TRIES):
            # Each time anew: while the disk failed, another key may have become the newest.
            sealed = self._keyring.seal(row.context(new.token_version), new.pack())
            try:
                await self._rows.commit(row.connection, fence, row.token_version, sealed, new.expires_at, state)
            except VersionMoved:
                return self._opened(await self._rows.read(row.connection))
            except Exception:
                # These tokens exist only here: a disk that failed is asked again before they are given up.
                if attempt == _COMMIT_TRIES - 1:
                    raise
                await self._clock.sleep(2.0**attempt)
            else:
                break
        self._know(row.connection, new)
        return new

    async def _settle(self, connection: str, fence: int, intent: Intent | None, state: State | None = None) -> bool:
        """End our lease; False when it had passed to another, who goes on from the row as it is."""
        try:
            await self._rows.settle(connection, fence, intent=intent, state=state)
        except LeaseLost:
            return False
        return True

    def _opened(self, row: CredentialRow) -> Grant:
        if row.state == "dead":
            raise SignInNeeded("the provider ended it")
        return row.open(self._keyring)

    def _leased_elsewhere(self, row: CredentialRow) -> bool:
        return row.lease_owner not in (None, self._owner) and (row.lease_until or 0) > self._clock.now()

    def _hush(self, known: _Known, fault: str, after: float | None = None, *, broken: bool = False) -> float:
        """Leave the provider in peace for a while after a fault; give the seconds."""
        growing = min(_BACKOFF_LEAST * 2.0 ** min(known.faults, 16), _BACKOFF_MOST)
        seconds = max(self._chance.uniform(growing / 2, growing), min(after or 0, _AFTER_MOST))
        known.faults += 1
        known.fault = fault
        known.broken = broken
        known.quiet_until = self._clock.monotonic() + seconds
        return seconds

    def _know(self, connection: str, grant: Grant) -> _Known:
        known = self._known.get(connection)
        if known is None or known.version != grant.token_version:
            known = self._known[connection] = self._meet(grant)
        return known

    def _meet(self, grant: Grant) -> _Known:
        """Tie the life of a token to the monotonic clock, so that a wall clock set back does not prolong it."""
        if grant.expires_at is None:
            return _Known(version=grant.token_version, margin=0, ends=math.inf)
        life = (grant.expires_at - grant.obtained_at) / SECOND
        age = (self._clock.now() - grant.obtained_at) / SECOND
        # Obtained in the future: the clock was set back while we were away, and nobody knows how old it is.
        left = 0.0 if age < -_SKEW else life - max(age, 0)
        margin = min(_MARGIN_SHARE * life, _MARGIN_MOST)
        # Drawn once: drawn at each look, the earliest would always win.
        jittered = self._chance.uniform(margin / 2, margin)
        return _Known(version=grant.token_version, margin=jittered, ends=self._clock.monotonic() + left)

    def _left(self, grant: Grant, known: _Known) -> float:
        """Give the seconds that the access token still lives, by the clock that says less."""
        if grant.expires_at is None:
            return math.inf
        return min((grant.expires_at - self._clock.now()) / SECOND, known.ends - self._clock.monotonic())


def _of_token(intent: Intent | None, token: Secret) -> Intent | None:
    return intent if intent is not None and intent.digest == digest(token) else None


def _must_hold(intent: Intent | None, state: State, token: Secret, rotation: Rotation, now: int) -> bool:
    """Say whether using this refresh token might end grants while its access token still works."""
    intent = _of_token(intent, token)
    if not rotation.reuse_kills or (intent is None and state != "verify"):
        return False
    if intent is None or rotation.grace is None:
        return True
    return not 0 <= now - intent.at < rotation.grace * _GRACE_SHARE * SECOND
