"""Forwarding: a request of the product's own reaches the provider as the user, and the token never reaches the product.

The same bounds hold as for connectors: the connector's hosts only, its budgets, its breaker. Bodies go through in parts, both ways. A
small one can be sent again after a 401 with a renewed credential; a large one is gone, and the caller is asked to send it again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import quote_plus

import msgspec

from oo_daemon.connections import bounds
from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.signing import signature
from oo_daemon.connections.transport import Incoming, NoAnswer, NotSent, Request, Streams
from oo_daemon.ports import Clock, moment
from oo_daemon.store.connections import Connection
from oo_sdk import Connector, RetryLater, SignInAgain
from oo_sdk.answers import asked_wait
from oo_vault import ClientBroken, CredentialGone, Grant, Secret, SignInNeeded, TryLater

#: Of one connection between two machines (RFC 9110 section 7.6.1), or ours to say.
_OURS = {
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
}
_FORWARDED = re.compile(r"x-(forwarded|real)-.*|sec-.*")
#: Of an answer, besides: what would make the product's client part of a session with the provider.
_KEPT_BACK = {"set-cookie", "set-cookie2", "www-authenticate", "alt-svc", "strict-transport-security", "clear-site-data", "oo-answer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """The provider's answer, as it may be passed on."""

    status: int
    headers: Sequence[tuple[str, str]] = field(repr=False)
    length: int | None
    _incoming: Incoming = field(repr=False)
    _scrub: _Scrub = field(repr=False)

    async def chunk(self) -> bytes:
        """The next part of the body; empty at the end. Raises `NoAnswer`."""
        while True:
            part = await self._incoming.chunk()
            clean = self._scrub.clean(part)
            if clean or not part:
                return clean

    def close(self) -> None:
        """Let the connection go."""
        self._incoming.close()


class Forward(msgspec.Struct, frozen=True, kw_only=True):
    """Used on the guests' loop only, where the credentials are."""

    credentials: Credentials
    streams: Streams
    clock: Clock

    async def __call__(
        self,
        connector: Connector,
        connection: Connection,
        method: str,
        url: str,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        more: AsyncIterator[bytes] | None,
    ) -> Forwarded:
        """Send it. `more` is what comes after `body`. Raises `ConnectorBug` for an address out of bounds, `SignInAgain`, `RetryLater`."""
        bounds.check(url, connector.hosts)
        passed = _passed(headers)
        authority, gate, used = await self.credentials.signing(connector, connection)
        refused: int | None = None
        while True:
            grant = await _grant(authority.grant, refused)
            signs = signature(connector.auth, grant)
            ours = {name.lower(): value for name, value in signs.headers.items()}
            signed = {**passed, **ours, "accept-encoding": "identity"}
            address = signs.address(url)
            await gate.enter()
            try:
                incoming = await self.streams.open(
                    Request(method=method, url=address, headers=signed, body=body or None), None if more is None else _joined(body, more)
                )
            except (NotSent, NoAnswer) as error:
                gate.heard(None)
                raise RetryLater(str(error)) from None
            used(bounds.declared(url))
            told = {name.lower(): value for name, value in incoming.headers}
            gate.heard(incoming.status)
            await gate.asked(incoming.status, asked_wait(told, moment(self.clock.now())))
            if incoming.status != 401:
                return _forwarded(incoming, signs.secrets)
            incoming.close()
            if refused is not None:
                raise SignInAgain("the provider refuses the credential, also after it was renewed")
            refused = grant.token_version
            if more is not None:
                await _grant(authority.grant, refused)
                raise RetryLater("the credential had to be renewed, and a body of that size is not kept: send it again")


async def _grant(ask: Callable[..., Awaitable[Grant]], refused: int | None) -> Grant:
    try:
        grant = await ask(force_after=refused)
    except (SignInNeeded, CredentialGone) as gone:
        raise SignInAgain(str(gone)) from None
    except TryLater as later:
        raise RetryLater(str(later), after=timedelta(seconds=later.after)) from None
    except ClientBroken as broken:
        raise RetryLater(str(broken)) from None
    assert isinstance(grant, Grant)
    return grant


def _passed(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What goes on to the provider: neither of this connection only, nor a credential, nor where the caller is."""
    given = [(name.lower(), value) for name, value in headers]
    named = {word.strip().lower() for name, value in given if name == "connection" for word in value.split(",")}
    passed: dict[str, str] = {}
    for name, value in given:
        if name not in _OURS and name not in named and not _FORWARDED.fullmatch(name):
            passed[name] = f"{passed[name]}, {value}" if name in passed else value
    return passed


def _forwarded(incoming: Incoming, secrets: Sequence[Secret]) -> Forwarded:
    scrub = _Scrub(secrets)
    named = {word.strip().lower() for name, value in incoming.headers if name.lower() == "connection" for word in value.split(",")}
    back = [
        (name, scrub.text(value))
        for name, value in incoming.headers
        if name.lower() not in _OURS | _KEPT_BACK | named and not name.lower().startswith("access-control-")
    ]
    lengths = [value for name, value in incoming.headers if name.lower() == "content-length" and value.isdecimal()]
    length = int(lengths[0]) if len(lengths) == 1 else None
    return Forwarded(status=incoming.status, headers=back, length=length, _incoming=incoming, _scrub=scrub)


async def _joined(first: bytes, more: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in more:
        yield part


class _Scrub:
    """Blots out what is secret of ours, should a provider echo it; dot for letter, so that lengths stay. Parts may cut it anywhere."""

    def __init__(self, secrets: Sequence[Secret]) -> None:
        self._words = {spelled.encode() for each in secrets for spelled in (each.reveal(), quote_plus(each.reveal()))}
        self._longest = max(map(len, self._words))
        self._held = b""

    def clean(self, part: bytes) -> bytes:
        """As much as is sure by now; the rest comes with the next part, the last with an empty one."""
        held = self._held + part
        for word in self._words:
            held = held.replace(word, b"." * len(word))
        keep = 0 if not part else self._beginning(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def text(self, value: str) -> str:
        """A header without it."""
        for word in self._words:
            value = value.replace(word.decode(), "." * len(word))
        return value

    def _beginning(self, held: bytes) -> int:
        """How many bytes at the end could be the beginning of a secret."""
        for keep in range(min(self._longest - 1, len(held)), 0, -1):
            if any(word.startswith(held[-keep:]) for word in self._words):
                return keep
        return 0


#: What a forwarded request may be.
METHODS: Mapping[str, str] = {each: each for each in ("GET", "POST", "PUT", "PATCH", "DELETE")}
