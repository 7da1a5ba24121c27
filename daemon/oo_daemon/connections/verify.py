"""Verification: is a body what its sender signed? Decided over bytes, before anything is parsed, and compared in one place."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode
from collections.abc import Iterable, Sequence

from oo_sdk import HmacScheme
from oo_vault import Secret


def fits(scheme: HmacScheme, secrets: Sequence[Secret], presented: Iterable[str], bodies: Iterable[bytes]) -> bool:
    """Say whether one of the presented signatures is over one of the bodies with one of the secrets. No bytes make it raise.

    Every combination is computed, whatever comes of the others: how long it takes depends on what was sent, not on what fits.
    """
    expected = [hmac.digest(_bytes(secret.reveal()), body, hashlib.sha256) for body in bodies for secret in secrets]
    signatures = [_signature(scheme, text) for text in presented] or [b""]
    return sum(_same(signature, wanted) for signature in signatures for wanted in expected) > 0


def _same(signature: bytes, wanted: bytes) -> bool:
    return hmac.compare_digest(signature, wanted)


def _signature(scheme: HmacScheme, text: str) -> bytes:
    """The bytes that a header's value stands for; none for what is no signature."""
    plain = text.strip()
    if not plain.startswith(scheme.prefix):
        return b""
    plain = plain.removeprefix(scheme.prefix)
    try:
        return binascii.unhexlify(plain) if scheme.encoding == "hex" else b64decode(plain, validate=True)
    except ValueError:
        return b""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
