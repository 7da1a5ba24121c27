"""A root key as text: what a person writes down, and a line of the key file; and a bundle as a line of an ingress process's file.

`oo1-` and 56 characters of base32 (a-z, 2-7) in seven groups: 32 bytes of key and 3 bytes of checksum. Case, spaces and dashes
do not matter when it is read. A bundle is `oob1-` and 216 characters: 132 bytes and 3 of checksum.
"""

import base64
import binascii
import hashlib
import hmac

from oo_vault.box import BUNDLE_SIZE, ROOT_SIZE
from oo_vault.errors import KeyMistyped

_PREFIX, _BUNDLE_PREFIX = "oo1", "oob1"
_CHECKSUM_SIZE = 3  # bytes: a random typo passes once in 16 million; 35 bytes are 56 characters without padding, 135 are 216
_GROUP = 8


def key_text(root: bytes) -> str:
    """Write a root key (32 bytes) as text."""
    return _text(_PREFIX, root)


def parse_key(text: str) -> bytes:
    """Read a root key (32 bytes) from text. Whatever is wrong is said without repeating any of it."""
    return _parse(text, "key", _PREFIX, ROOT_SIZE)


def bundle_text(bundle: bytes) -> str:
    """Write what an ingress process is given as text."""
    return _text(_BUNDLE_PREFIX, bundle)


def parse_bundle(text: str) -> bytes:
    """Read that from text, as `parse_key` does."""
    return _parse(text, "bundle", _BUNDLE_PREFIX, BUNDLE_SIZE)


def _text(prefix: str, data: bytes) -> str:
    letters = base64.b32encode(data + _checksum(data)).decode().lower()
    return "-".join([prefix, *(letters[start : start + _GROUP] for start in range(0, len(letters), _GROUP))])


def _parse(text: str, what: str, prefix: str, size: int) -> bytes:
    letters = "".join(character for character in text.lower() if character.isalnum())
    if not letters.startswith(prefix):
        raise _mistyped(f"A {what} begins with {prefix}-")
    letters = letters.removeprefix(prefix)
    length = (size + _CHECKSUM_SIZE) * 8 // 5
    if len(letters) != length:
        raise _mistyped(f"A {what} has {length} characters after {prefix}- and this has {len(letters)}")
    try:
        both = base64.b32decode(letters.upper())
    except (binascii.Error, ValueError):
        raise _mistyped(f"A {what} has only the letters a to z and the digits 2 to 7") from None
    data, checksum = both[:size], both[size:]
    if not hmac.compare_digest(checksum, _checksum(data)):
        raise _mistyped(f"The checksum of this {what} does not match, so at least one character is wrong")
    return data


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM_SIZE, person=b"oo checksum 1").digest()


def _mistyped(what: str) -> KeyMistyped:
    return KeyMistyped(f"{what}.", "Compare it with the recovery key, character by character.")
