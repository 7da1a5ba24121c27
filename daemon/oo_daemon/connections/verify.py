"""Verification: is a body what its sender sent? Decided over bytes, before anything is parsed, and compared in one place."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum

from oo_daemon.connections import member
from oo_daemon.ports import SECOND
from oo_sdk import Ed25519Scheme, HmacScheme, NoScheme, Scheme, SignedScheme, Stamp, TokenScheme
from oo_vault import Secret, signed_by

#: Gives the values that a header was sent with.
Headers = Callable[[str], Sequence[str]]

_HASHES = {"sha256": hashlib.sha256, "sha1": hashlib.sha1}
_KEY_SIZE = 32  #: bytes of an Ed25519 public key
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_PART = re.compile(r"(\{(?:id|timestamp|body)\})")


class Verdict(Enum):
    """What came of it."""

    GOOD = "good"
    BAD = "bad"
    OUT_OF_TIME = "out_of_time"  #: it is the sender's, and its time is not ours: sent again by somebody, or a clock is wrong


def usable(scheme: object) -> bool:
    """True where we can do what a scheme says: what a newer SDK may add must not be taken for something else."""
    match scheme:
        case NoScheme():
            return type(scheme) is NoScheme
        case TokenScheme(header=str(header), encoding="plain" | "base64", key="client_secret" | "webhook_secret"):
            return type(scheme) is TokenScheme and header != "" and (scheme.hash_of == "" or scheme.encoding == "plain")
        case HmacScheme(algorithm=algorithm) if algorithm not in _HASHES:
            return False
        case SignedScheme(header=str(header), encoding="hex" | "base64", key="client_secret" | "webhook_secret"):
            known = type(scheme) in (HmacScheme, Ed25519Scheme) and header != "" and "{body}" in scheme.signed
            return known and set(scheme.secret) <= {"text", "base64", "hex"} and bool(scheme.secret) and _usable_stamp(scheme.stamp)
    return False


def _usable_stamp(stamp: Stamp | None) -> bool:
    return stamp is None or ((stamp.header == "") != (stamp.member == "") and stamp.unit in {"s", "ms"} and stamp.within > 0)


def keys(scheme: Scheme, secret: Secret) -> list[bytes]:
    """The keys that a secret's text can stand for; none where it makes no sense in this scheme."""
    text = secret.reveal()
    if not isinstance(scheme, SignedScheme):
        return [_bytes(text)] if text else []
    read = [_read(text, reading, scheme.secret_prefix) for reading in scheme.secret]
    size = _KEY_SIZE if isinstance(scheme, Ed25519Scheme) else None
    return [key for key in read if key and size in (None, len(key))]


def judge(scheme: Scheme, held: Sequence[bytes], headers: Headers, bodies: Collection[bytes], now: int) -> Verdict:
    """Say whether what came is the sender's. No bytes make it raise.

    Every combination is computed, whatever comes of the others: how long it takes depends on what was sent, not on what fits.
    """
    match scheme:
        case NoScheme():
            return Verdict.GOOD
        case TokenScheme():
            shown = [_token(scheme, text) for text in headers(scheme.header)] or [b""]
            name = _first(headers(scheme.hash_of)) if scheme.hash_of else ""
            wanted = [keyed_hash(scheme, key, name).encode() for key in held] if scheme.hash_of else held
            return Verdict.GOOD if any_same(shown, wanted) else Verdict.BAD
        case SignedScheme():
            return _judge_signed(scheme, held, headers, bodies, now)
    return Verdict.BAD


def _judge_signed(scheme: SignedScheme, held: Sequence[bytes], headers: Headers, bodies: Collection[bytes], now: int) -> Verdict:
    shown = [_signature(scheme, part) for part in _parts(headers(scheme.header), scheme.separator)] or [b""]
    stamp = scheme.stamp
    sent_at = _first(_stripped(stamp.prefix, _parts(headers(stamp.header), stamp.separator))) if stamp and stamp.header else ""
    id_ = _first(headers(scheme.id_header)) if scheme.id_header else ""
    messages = bodies if scheme.signed == "{body}" else [_message(scheme.signed, id_, sent_at, body) for body in bodies]
    if isinstance(scheme, HmacScheme):
        made = [hmac.digest(key, message, _HASHES[scheme.algorithm]) for message in messages for key in held]
        fits = any_same(shown, made)
    else:
        fits = sum(signed_by(key, message, signature) for signature in shown for message in messages for key in held) > 0
    if not fits:
        return Verdict.BAD
    if stamp is None:
        return Verdict.GOOD
    if stamp.member:
        sent_at = _first(str(found) for found in (member.of(body, stamp.member) for body in bodies) if type(found) is int)
    if not _WHOLE.fullmatch(sent_at):
        return Verdict.BAD
    away = abs(int(sent_at) * (SECOND if stamp.unit == "s" else SECOND // 1000) - now)
    return Verdict.GOOD if away <= stamp.within * SECOND else Verdict.OUT_OF_TIME


def any_same(shown: Iterable[bytes], wanted: Collection[bytes]) -> bool:
    """Say whether one of these is one of those: the only place where secrets and signatures are compared."""
    return sum([_same(one, other) for one in shown for other in wanted]) > 0


def _same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


def sign(scheme: Scheme, secret: Secret, *, id_: str, sent_at: int, body: bytes) -> dict[str, str] | None:
    """The headers with which a sender would send this body; None where only the sender can."""
    said = {scheme.id_header: id_} if scheme.id_header else {}
    if isinstance(scheme, NoScheme):
        return said
    key = next(iter(keys(scheme, secret)), None)
    if key is None:
        return None
    if isinstance(scheme, TokenScheme):
        if scheme.hash_of:
            said[scheme.hash_of], key = id_, keyed_hash(scheme, key, id_).encode()
        return said | {scheme.header: scheme.prefix + (b64encode(key).decode() if scheme.encoding == "base64" else key.decode())}
    if not isinstance(scheme, HmacScheme):
        return None
    stamp, when = scheme.stamp, ""
    if stamp is not None and stamp.header:
        when = str(sent_at // (SECOND if stamp.unit == "s" else SECOND // 1000))
        said[stamp.header] = stamp.prefix + when
    made = hmac.digest(key, _message(scheme.signed, id_, when, body), _HASHES[scheme.algorithm])
    proof = scheme.prefix + (made.hex() if scheme.encoding == "hex" else b64encode(made).decode())
    said[scheme.header] = f"{said[scheme.header]}{scheme.separator}{proof}" if scheme.header in said else proof
    return said


def keyed_hash(scheme: Scheme, key: bytes, text: str) -> str:
    """A text's hash under a source's key, in hex, for senders that want one as an answer."""
    algorithm = scheme.algorithm if isinstance(scheme, HmacScheme) else "sha256"
    return hmac.digest(key, _bytes(text), _HASHES[algorithm]).hex()


def _message(template: str, id_: str, sent_at: str, body: bytes) -> bytes:
    parts = {"{id}": _bytes(id_), "{timestamp}": _bytes(sent_at), "{body}": body}
    return b"".join(parts.get(part, part.encode()) for part in _PART.split(template))


def _parts(values: Iterable[str], separator: str) -> list[str]:
    if not separator:
        return [value.strip() for value in values]
    return [part.strip() for value in values for part in value.split(separator)]


def _stripped(prefix: str, parts: Iterable[str]) -> Iterable[str]:
    return (part.removeprefix(prefix) for part in parts if part.startswith(prefix))


def _first(values: Iterable[str]) -> str:
    return next(iter(values), "")


def _signature(scheme: SignedScheme, text: str) -> bytes:
    """The bytes that a part of a header stands for; none for what is no signature."""
    if not text.startswith(scheme.prefix):
        return b""
    plain = text.removeprefix(scheme.prefix)
    try:
        return binascii.unhexlify(plain) if scheme.encoding == "hex" else b64decode(plain, validate=True)
    except ValueError:
        return b""


def _token(scheme: TokenScheme, text: str) -> bytes:
    plain = text.strip()
    if plain[: len(scheme.prefix)].lower() != scheme.prefix.lower():  # names of HTTP's ways to sign in have no case
        return b""
    plain = plain[len(scheme.prefix) :]
    if scheme.encoding == "plain":
        return _bytes(plain)
    try:
        return b64decode(plain, validate=True)
    except ValueError:
        return b""


def _read(text: str, reading: str, prefix: str) -> bytes:
    if reading == "text":
        return _bytes(text)
    plain = text.removeprefix(prefix)
    try:
        return binascii.unhexlify(plain) if reading == "hex" else b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return b""


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")  # as aiohttp decodes headers
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
