"""A root key as text: what a person writes down, and a line of the key file.

`oo1-` and 56 characters of base32 (a-z, 2-7) in seven groups: 32 bytes of key and 3 bytes of checksum. Case, spaces and dashes
do not matter when it is read.
"""

import base64
import binascii
import hashlib
import hmac

from oo_vault.box import ROOT_SIZE
from oo_vault.errors import KeyMistyped

_PREFIX = "oo1"
_CHECKSUM_SIZE = 3  # bytes: a random typo passes once in 16 million; 35 bytes are 56 characters without padding
_LENGTH = 56
_GROUP = 8


def key_text(root: bytes) -> str:
    """Write a root key (32 bytes) as text."""
    letters = base64.b32encode(root + _checksum(root)).decode().lower()
    return "-".join([_PREFIX, *(letters[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP))])


def parse_key(text: str) -> bytes:
    """Read a root key (32 bytes) from text. Whatever is wrong is said without repeating any of it."""
    letters = "".join(character for character in text.lower() if character.isalnum())
    if not letters.startswith(_PREFIX):
        raise _mistyped(f"A key begins with {_PREFIX}-")
    letters = letters.removeprefix(_PREFIX)
    if len(letters) != _LENGTH:
        raise _mistyped(f"A key has {_LENGTH} characters after {_PREFIX}- and this has {len(letters)}")
    try:
        both = base64.b32decode(letters.upper())
    except (binascii.Error, ValueError):
        raise _mistyped("A key has only the letters a to z and the digits 2 to 7") from None
    root, checksum = both[:ROOT_SIZE], both[ROOT_SIZE:]
    if not hmac.compare_digest(checksum, _checksum(root)):
        raise _mistyped("The checksum of this key does not match, so at least one character is wrong")
    return root


def _checksum(root: bytes) -> bytes:
    return hashlib.blake2b(root, digest_size=_CHECKSUM_SIZE, person=b"oo checksum 1").digest()


def _mistyped(what: str) -> KeyMistyped:
    return KeyMistyped(f"{what}.", "Compare it with the recovery key, character by character.")
