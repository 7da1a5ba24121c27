"""Where a credential may go: exact hosts, https, nothing clever in the address.

An address is held against one narrow grammar before any library parses it, so that no two parsers can disagree about its host. That a
name leads to the provider's own machine is not looked at here: DNS can lie, and TLS is what notices.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from oo_sdk import ConnectorBug

_DEFAULT_PORTS = {"https": 443, "http": 80}
_HOST = r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
_DECLARED = re.compile(_HOST)
#: No user information, no fragment, and of ASCII what RFC 3986 lets stand in a path or query, with the brackets and bars that occur there.
_ADDRESS = re.compile(rf"(?P<scheme>https?)://{_HOST}(?:[/?][A-Za-z0-9._~%!$&'()*+,;=:@/?\[\]|-]*)?")


def check(url: str, hosts: Iterable[str]) -> str:
    """Refuse an address outside the connector's hosts; gives its host as these name it.

    https on port 443 unless a host is declared with a port; plain http only to a loopback address that is declared with its port (a
    sandbox on this machine). Raises `ConnectorBug`, which names at most the host.
    """
    address = _ADDRESS.fullmatch(url)
    if address is None:
        raise ConnectorBug("an address is not of the form https://host/path?query, or has characters that do not belong in one")
    scheme, host, port = address.group("scheme", "host", "port")
    host = host.lower()
    if (host, int(port or _DEFAULT_PORTS[scheme])) not in _places(tuple(hosts)):
        raise ConnectorBug(f"{host} is not one of the connector's hosts, or its port is not")
    if scheme != "https" and not is_loopback(host):
        raise ConnectorBug(f"{host} must be called by https")
    return url[address.start("host") : address.end("port" if port else "host")]


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """True for this machine's own addresses, and the name that stands for them."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def origin(url: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def declared(url: str) -> str:
    """The host of an address as `Connector.hosts` names it."""
    return urlsplit(url).netloc


@lru_cache(maxsize=256)
def _places(hosts: tuple[str, ...]) -> frozenset[tuple[str, int]]:
    return frozenset(map(_place, hosts))


def _place(declared: str) -> tuple[str, int]:
    """Host and port; a declaration that makes no sense is the place of nothing."""
    place = _DECLARED.fullmatch(declared)
    return (place["host"].lower(), int(place["port"] or 443)) if place else ("", 0)
