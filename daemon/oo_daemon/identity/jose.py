"""Signatures over claims (RFC 7515, RFC 7519): checked by joserfc, which is met here only.

Which algorithms and which keys count is decided by us, never by what a token's header says: symmetric algorithms and `none` cannot even be
asked for, keys come from the issuer alone, and each is used for what it says it is for.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, GuestProtocol, Key, OKPKey, RSAKey, import_key

from oo_daemon.identity.person import NotVouched

#: Seconds by which clocks may differ.
LEEWAY = 30
#: Longest token that is looked at, in characters, and the most keys of one document.
LONGEST, MOST_KEYS = 8192, 100
_SHORTEST_RSA = 2048


class UnknownKey(NotVouched):
    """The token names a key that is not among these: the issuer may have a new one."""


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """Keys by which signatures are checked, by their ids; one without an id counts as ""."""

    by_id: Mapping[str, Key] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> PublicKeys:
        """The keys of a document (RFC 7517) that are for signatures; others are passed over."""
        listed = document.get("keys")
        found = [_key(each) for each in (listed[:MOST_KEYS] if isinstance(listed, list) else ())]
        return cls({key.kid or "": key for key in found if key is not None})

    def named(self, id_: object) -> Key:
        """The key that a token names; without a name the only one there is. Raises `UnknownKey`."""
        if id_ is None and len(self.by_id) == 1:
            return next(iter(self.by_id.values()))
        key = self.by_id.get(id_) if isinstance(id_, str) else None
        if key is None:
            raise UnknownKey("its key is not known")
        return key


def claims_of(
    token: str, keys: PublicKeys, algorithms: Collection[str], *, issuer: str | None, audience: str, now: int
) -> Mapping[str, Any]:
    """What a token says, once everything about it holds; `now` in seconds. Raises `NotVouched`, of which `UnknownKey` is one."""
    if len(token) > LONGEST or not token.isascii():
        raise NotVouched("it is no token")

    def named(guest: GuestProtocol) -> Key:
        header = guest.headers()
        key = keys.named(header.get("kid"))
        if key.alg not in (None, header.get("alg")):
            raise NotVouched("its key is for another algorithm")
        return key

    try:
        with _told_by_us():
            claims = jwt.decode(token, named, algorithms=[*algorithms]).claims
        _requests(issuer, audience, now).validate(claims)
    except (JoseError, ValueError, TypeError, RecursionError) as error:  # also the library's own, over what is hardly a token
        reason = f"it does not hold ({type(error).__name__})"
    else:
        return claims
    raise NotVouched(reason)  # out here: the library's error may quote the token


def _requests(issuer: str | None, audience: str, now: int) -> jwt.JWTClaimsRegistry:
    wanted = {"aud": jwt.ClaimsOption(essential=True, value=audience), "exp": jwt.ClaimsOption(essential=True)}
    if issuer is not None:
        wanted["iss"] = jwt.ClaimsOption(essential=True, value=issuer)
    return jwt.JWTClaimsRegistry(now=now, leeway=LEEWAY, **wanted)


def _key(document: object) -> Key | None:
    """A key, if signatures may be checked by it."""
    if not isinstance(document, dict) or document.get("use", "sig") != "sig" or document.get("kty") not in {"RSA", "EC", "OKP"}:
        return None
    if "verify" not in document.get("key_ops", ["verify"]) or not isinstance(document.get("kid", ""), str):
        return None
    try:
        with _told_by_us():
            key = import_key(document)
    except (JoseError, ValueError, TypeError):
        return None
    if isinstance(key, RSAKey) and key.public_key.key_size < _SHORTEST_RSA:
        return None
    return key if isinstance(cast(object, key), RSAKey | ECKey | OKPKey) else None


@contextmanager
def _told_by_us() -> Iterator[None]:
    """Without the library's warnings: of names that have grown old, and of keys that we refuse ourselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        yield
