"""What every authorization server does alike: PKCE, addresses on this machine, and the way back to the app."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aiohttp import web


def proves(verifier: object, challenge: str | None) -> bool:
    """Check PKCE (RFC 7636, S256). A verifier without a challenge is refused, too (RFC 9700 section 4.8.2)."""
    if challenge is None or not isinstance(verifier, str):
        return challenge is None and verifier is None
    made = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(made.encode(), challenge.encode())


def is_loopback(address: str) -> bool:
    """Say whether this is plain HTTP on this machine, which a stand-in takes as if it were registered."""
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"} and not parts.fragment


def back(redirect_uri: str, *, status: int = 302, **answers: str) -> web.Response:
    """Send the browser back to the app, keeping the query that the address has."""
    parts = urlsplit(redirect_uri)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *((name, text) for name, text in answers.items() if text)])
    headers = {"Location": urlunsplit(parts._replace(query=query)), "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(status=status, headers=headers)
