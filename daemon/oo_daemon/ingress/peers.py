"""Who is at the other end: an address, in front of proxies or not, a user of this host, or whom the guard of a door found."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

from aiohttp import web

Network = IPv4Network | IPv6Network


#: The header in which proxies name the client.
Forwarded = Literal["X-Forwarded-For", "Forwarded"]


def peer_uid(sock: socket.socket) -> int:
    """Who is at the other end of a Unix socket (Linux, SO_PEERCRED: pid, uid, gid)."""
    _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    return int(uid)


#: Who a caller over TCP is, as the guard of that door found it.
CALLER = web.RequestKey("caller", str)


def caller(request: web.Request) -> str:
    """Who asks: "token NAME" or a person over TCP, else "uid N" from the other end of the Unix socket."""
    known: str | None = request.get(CALLER)
    if known is not None:
        return known
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    return f"uid {peer_uid(sock)}" if sock is not None and sock.family == socket.AF_UNIX else "nobody known"


def client_address(peer: str, hops: Sequence[str], trusted: Collection[Network]) -> str:
    """Whose request it is: the peer, or behind trusted proxies the rightmost of the addresses they name that is not one of theirs.

    What stands further left was written by the client himself and is not believed; nor is anything left of what is no address.
    """
    address = peer
    for hop in reversed([*hops, peer]):
        ip = ip_of(hop)
        if ip is None:
            break
        address = str(ip)
        if not is_within(ip, trusted):
            break
    return address


def hops(values: Iterable[str], *, standard: bool) -> list[str]:
    """The addresses that proxies name, as they stand: in X-Forwarded-For, or in `standard` Forwarded (RFC 7239) after `for=`."""
    elements = [element.strip() for value in values for element in value.split(",")]
    return [_for(element) for element in elements] if standard else elements


def _for(element: str) -> str:
    """Whom one element of Forwarded names, without a port; empty for whom it hides, and for what is not well-formed."""
    found = _FOR.fullmatch(element)
    return (found["six"] or found["plain"]) if found else ""


#: One element of Forwarded, of which only `for` is read: a name and a value each, the value quoted where it holds a colon.
_FOR = re.compile(
    r'(?:[a-z]+=[^;"]*;|[a-z]+="[^"]*";)*for="?(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<plain>[0-9.]+))(?::[0-9]{1,5})?"?'
    r'(?:;[a-z]+=[^;"]*|;[a-z]+="[^"]*")*',
    re.ASCII | re.IGNORECASE,
)


def peer_address(peername: object) -> str:
    """The address in what a socket says of its other end; empty on a Unix socket."""
    return str(peername[0]) if isinstance(peername, tuple) else ""


@lru_cache(maxsize=1024)
def ip_of(text: str) -> IPv4Address | IPv6Address | None:
    """An address that is written down, None: it is none. What is IPv4 in the clothes of IPv6 is IPv4."""
    try:
        ip = ip_address(text.strip())
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


def is_within(ip: IPv4Address | IPv6Address, networks: Collection[Network]) -> bool:
    """Say whether one of these networks has it."""
    return any(ip in network for network in networks)
