"""Signing in at the issuer (OpenID Connect, authorization code flow with PKCE and a nonce): one small room for every page that needs it.

What must be known when the person comes back travels in their own browser, sealed: state, nonce and verifier. So a restart in between harms
nobody, nothing is kept for those who never come back, and an answer is worth nothing in another browser.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import msgspec

from oo_daemon.connections import bounds
from oo_daemon.connections.metadata import Metadata, OutOfReach, Wrong
from oo_daemon.connections.token_endpoint import basic
from oo_daemon.connections.transport import NoAnswer, NotSent, Request
from oo_daemon.identity.issuer import Issuer
from oo_daemon.identity.person import CannotTell, NotSignedIn, NotVouched, Person
from oo_daemon.ports import SECOND, Chance
from oo_sdk import ConnectorBug
from oo_vault import Context, Keyring, Sealed, Secret, VaultError

#: Seconds that a person has to sign in.
LIFE = 600
_SEALED = re.compile(r"([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{1,4000})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A sign-in that begins: where the browser goes, and what it keeps in a cookie until it is back."""

    address: str = field(repr=False)
    kept: str = field(repr=False)


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What travels in the browser."""

    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    carried: str
    ends_at: int


class OpenId(msgspec.Struct, frozen=True, kw_only=True):
    """Our client at the issuer. Belongs to the main loop."""

    issuer: Issuer
    client_id: str
    secret: Secret | None
    scopes: tuple[str, ...]
    keyring: Keyring
    chance: Chance

    @property
    def host(self) -> str:
        """Where people sign in, as they are told."""
        return bounds.declared(self.issuer.name)

    async def origin(self) -> str:
        """Where the button leads, for a page's policy. Raises `CannotTell`."""
        return bounds.origin((await self._metadata()).authorization_endpoint)

    async def begin(self, redirect_uri: str, *, purpose: str, carried: str = "") -> Begun:
        """Begin a sign-in; `purpose` is the page's own, and what is `carried` is given back by `finish`. Raises `CannotTell`."""
        kept = _Kept(
            state=self._token(),
            nonce=self._token(),
            verifier=self._token(),
            redirect_uri=redirect_uri,
            carried=carried,
            ends_at=self.issuer.clock.now() + LIFE * SECOND,
        )
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.scopes),
            "state": kept.state,
            "nonce": kept.nonce,
            "code_challenge": _unpadded(hashlib.sha256(kept.verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        where = (await self._metadata()).authorization_endpoint
        sealed = self.keyring.wrap(_place(purpose), msgspec.json.encode(kept))
        address = f"{where}{'&' if '?' in where else '?'}{urlencode(query)}"
        return Begun(address=address, kept=f"{sealed.key_id}.{_unpadded(sealed.blob)}")

    async def finish(self, kept: str, answer: Mapping[str, str], *, purpose: str) -> tuple[Person, str]:
        """Who has signed in, and what was carried. Raises `NotSignedIn`, `NotVouched` and `CannotTell`."""
        begun = self._opened(kept, purpose)
        if not hmac.compare_digest(begun.state.encode(), answer.get("state", "").encode(errors="replace")):
            raise NotVouched("the state is another's")
        if begun.ends_at <= self.issuer.clock.now():
            raise NotVouched("it took too long")
        metadata = await self._metadata()
        iss = answer.get("iss")
        if iss != self.issuer.name and (iss is not None or metadata.authorization_response_iss_parameter_supported):
            raise NotVouched("the answer is another issuer's")
        if "error" in answer or not answer.get("code"):
            raise NotSignedIn
        form = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": begun.redirect_uri,
            "code_verifier": begun.verifier,
        }
        claims = await self.issuer.claims_of(await self._id_token(metadata, form), self.client_id)
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(errors="replace"), begun.nonce.encode()):
            raise NotVouched("the nonce is another's")
        if claims.get("azp", self.client_id) != self.client_id:
            raise NotVouched("it was made for another client")
        return self.issuer.claims.person(claims), begun.carried

    async def _id_token(self, metadata: Metadata, form: dict[str, str]) -> str:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self.secret is None:
            form["client_id"] = self.client_id
        elif "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            headers["Authorization"] = basic(self.client_id, self.secret.reveal())
        else:
            form |= {"client_id": self.client_id, "client_secret": self.secret.reveal()}
        url = _checked(metadata.token_endpoint)
        published = self.issuer.published
        request = Request(method="POST", url=url, headers=headers, body=urlencode(form).encode())
        try:
            response = await published.guests.run(published.transport.send(request))
        except (NotSent, NoAnswer) as fault:
            raise CannotTell(str(fault)) from None
        try:
            told: Any = msgspec.json.decode(response.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            told = None
        given = told.get("id_token") if isinstance(told, dict) else None
        if response.status == 200 and isinstance(given, str):
            return given
        word = told.get("error") if isinstance(told, dict) else None
        if word == "invalid_grant":
            raise NotVouched("the issuer does not take the code")
        self.issuer.log.warning("issuer_not_asked", reason=f"its token endpoint answered {response.status}: check our client there")
        raise CannotTell("the code was not exchanged")

    def _opened(self, kept: str, purpose: str) -> _Kept:
        found = _SEALED.fullmatch(kept)
        if found is None:
            raise NotVouched("the browser has kept nothing")
        try:
            blob = base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4))
            return msgspec.json.decode(self.keyring.unwrap(_place(purpose), Sealed(key_id=found[1], blob=blob)), type=_Kept)
        except (VaultError, ValueError, msgspec.MsgspecError):
            raise NotVouched("what the browser has kept is not ours") from None

    async def _metadata(self) -> Metadata:
        try:
            metadata = await self.issuer.published.of(self.issuer.name, "openid")
        except (OutOfReach, Wrong) as fault:
            self.issuer.log.warning("issuer_not_asked", reason=str(fault))
            raise CannotTell(str(fault)) from None
        _checked(metadata.authorization_endpoint)
        return metadata

    def _token(self) -> str:
        return _unpadded(self.chance.token_bytes(32))


def _checked(url: str) -> str:
    """An address that somebody's browser, or our secret, may be sent to. Raises `CannotTell`."""
    try:
        bounds.check(url, [bounds.declared(url)])
    except (ConnectorBug, ValueError):
        raise CannotTell("the issuer names an address that is not one of https") from None
    return url


def _place(purpose: str) -> Context:
    return Context(purpose=f"sign-in at the issuer for {purpose}")


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
