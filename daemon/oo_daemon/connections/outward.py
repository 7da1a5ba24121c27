"""The way out to addresses that somebody gave: a name is looked up once, and only what may be reached is gone to.

Whoever gives an address could mean this machine, a neighbour in a private network, or a cloud's metadata, and could answer a second look-up
otherwise than the first. So the addresses that a look-up gave are judged, all of them, and one of them is connected to: there is no other
look-up, and no redirect is followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import msgspec
from yarl import URL

from oo_daemon.connections.transport import NoAnswer, NotAllowed, NotSent, Request, Transport
from oo_sdk import Response, RetryLater

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Global by their registries, and yet not the open internet: protocol assignments, and relays into other networks.
_V4: Final = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24")))
#: What of IPv6 is handed out, and in it: benchmarks, tunnels that hold an IPv4 address (Teredo, 6to4), documentation.
_HANDED_OUT: Final = IPv6Network("2000::/3")
_V6: Final = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
#: Addresses that only stand for an IPv4 address: a translator goes there (RFC 6052).
_NAT64: Final = IPv6Network("64:ff9b::/96")

#: Makes a transport that only goes to addresses of which this says yes.
Make = Callable[[Callable[[str], bool]], Transport]


def meant(text: str) -> Address | None:
    """The address that a text is, where it stands for another the other one; None where it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def in_the_open(address: Address) -> bool:
    """Whether an address is of the open internet."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not any(address in network for network in _V4)
    return address.is_global and address in _HANDED_OUT and not any(address in network for network in _V6)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks as an operator lists them. Raises ValueError."""
    return tuple(ip_network(text) for text in texts)


class Outward(msgspec.Struct, frozen=True, kw_only=True):
    """HTTP to such an address. `reach` lists what may be reached beside the open internet, and by plain http."""

    reach: Sequence[Network]
    tls: Transport
    plain: Transport

    @classmethod
    def made(cls, reach: Sequence[Network], make: Make) -> Outward:
        """With transports that judge what they go to."""

        def listed(text: str) -> bool:
            address = meant(text)
            return address is not None and any(address in network for network in reach)

        def allowed(text: str) -> bool:
            address = meant(text)
            return address is not None and (in_the_open(address) or listed(text))

        return cls(reach=reach, tls=make(allowed), plain=make(listed))

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Send it, and give what was answered. Raises `RetryLater`."""
        try:
            where = URL(url)
        except ValueError:
            raise RetryLater("the address is none: correct it in the settings") from None
        if where.scheme not in {"https", "http"} or not where.host or where.user is not None or where.password is not None:
            raise RetryLater("the address must be https://, with a host and without a user: correct it in the settings")
        transport = self.tls if where.scheme == "https" else self.plain
        try:
            return await transport.send(Request(method="POST", url=str(where), headers=headers, body=body))
        except NotAllowed:
            plain = "" if where.scheme == "https" else ", and plain http goes nowhere else"
            raise RetryLater(
                f"the address is not of the open internet{plain}: list it in reach if it may be reached", after=timedelta(minutes=1)
            ) from None
        except (NotSent, NoAnswer) as fault:
            raise RetryLater(str(fault).replace("the provider", "the receiver")) from None
