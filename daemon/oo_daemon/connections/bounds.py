"""Where a credential may go: exact hosts, https, nothing clever in the address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from oo_sdk import ConnectorBug

_DEFAULT_PORTS = {"https": 443, "http": 80}


def check(url: str, hosts: Iterable[str]) -> None:
    """Refuse an address outside the connector's hosts.

    https on port 443 unless a host is declared with a port; plain http only to a loopback address that is declared with its port (a
    sandbox on this machine). Raises `ConnectorBug`, which names at most the host.
    """
    if not url.isascii() or any(character <= " " or character in '\\"<>^`{|}\x7f' for character in url):
        raise ConnectorBug("an address has characters that do not belong in one")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConnectorBug("an address cannot be read") from None
    host = parts.hostname or ""
    if parts.username is not None or parts.password is not None or not host:
        raise ConnectorBug("an address has user information or no host")
    place = f"{host}:{port or _DEFAULT_PORTS.get(parts.scheme, 0)}"
    if place not in {_place(declared) for declared in hosts}:
        raise ConnectorBug(f"{host} is not one of the connector's hosts")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ConnectorBug(f"{host} must be called by https")


def _place(declared: str) -> str:
    parts = urlsplit(f"//{declared.lower()}")
    return f"{parts.hostname}:{parts.port or 443}"


def is_loopback(host: str) -> bool:
    """True for this machine's own addresses."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def origin(url: str) -> str:
    """Scheme, host and port of an address."""
    parts: SplitResult = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def declared(url: str) -> str:
    """The host of an address as `Connector.hosts` names it."""
    return urlsplit(url).netloc
