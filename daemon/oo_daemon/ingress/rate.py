"""How often one address may do something that could be guessed at."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from oo_daemon.ingress.answers import refused
from oo_daemon.ports import Clock

#: Addresses that are remembered; beyond it those that have their whole share again are forgotten.
_MANY = 10_000
_MINUTE = 60.0


class Rate:
    """So many a minute for each address, and as many at once; an IPv6 address counts as its /64."""

    def __init__(self, rate: int, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._shares: dict[str, tuple[float, float]] = {}  #: what is left, and when that was

    def take(self, address: str | None) -> None:
        """Take one. Raises `Refused` with 429 where none is left."""
        who, now = _network(address or ""), self._clock.monotonic()
        left, at = self._shares.get(who, (float(self._rate), now))
        left = min(float(self._rate), left + (now - at) * self._rate / _MINUTE)
        if left < 1:
            self._shares[who] = left, now
            raise refused(429)
        if len(self._shares) >= _MANY and who not in self._shares:
            self._shares = {each: share for each, share in self._shares.items() if share[1] > now - _MINUTE}
        self._shares[who] = left - 1, now


def _network(address: str) -> str:
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    return str(int(ip) >> 64) if isinstance(ip, IPv6Address) else str(ip)
