"""Signing: what a credential adds to a request, as its connector declares it, and what of that is secret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from oo_sdk import ApiKey, AsBasic, ConnectorBug, KeyField, OAuth2
from oo_vault import Grant, Secret

_KIND = "key"
#: What a header and an address can carry without becoming something else.
_ENTERED = re.compile(r"[!-~](?:[ -~]{0,2046}[!-~])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What goes with a request. Names of headers in their own spelling."""

    headers: Mapping[str, str] = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)
    secrets: Sequence[Secret]  #: the first is what stands for the credential in a body

    def address(self, url: str) -> str:
        """The address with the parameters. Raises `ConnectorBug` where one of them is there already."""
        if not self.parameters:
            return url
        if {name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)} & self.parameters.keys():
            raise ConnectorBug("a parameter of the address is the session's own")
        return f"{url}{'&' if urlsplit(url).query else '' if url.endswith('?') else '?'}{urlencode(self.parameters)}"


def signature(auth: OAuth2 | ApiKey | None, grant: Grant) -> Signature:
    """How a request is signed with a grant."""
    if not isinstance(auth, ApiKey):
        refresh = [] if grant.refresh_token is None else [grant.refresh_token]
        bearer = {"Authorization": f"Bearer {grant.access_token.reveal()}"}
        return Signature(headers=bearer, parameters={}, secrets=[grant.access_token, *refresh])
    values = entered(grant)
    if missing := [each.id for each in auth.fields if each.id not in values]:
        raise ConnectorBug(f"the key that is kept has no {missing[0]}: it was entered before the connector asked for it")
    headers, parameters = auth.signature(values)
    secrets = [Secret(values[each.id]) for each in auth.fields if each.secret]
    if isinstance(auth.sent, AsBasic):
        secrets.append(Secret(headers["Authorization"].removeprefix("Basic ")))
    return Signature(headers=headers, parameters=parameters, secrets=secrets)


def key_grant(values: Mapping[str, str], scopes: Sequence[str], now: int) -> Grant:
    """A key as a grant: all of its fields are the one secret."""
    return Grant(access_token=Secret(msgspec.json.encode(dict(values)).decode()), token_type=_KIND, scopes=tuple(scopes), obtained_at=now)


def entered(grant: Grant) -> Mapping[str, str]:
    """The fields of a key. Raises `ConnectorBug` for a grant that is none."""
    try:
        return msgspec.json.decode(grant.access_token.reveal(), type=dict[str, str])
    except msgspec.MsgspecError:
        pass
    raise ConnectorBug("what is kept is no key: the connection is to be connected again")  # out here: the decoder's error quotes it


def unfit(each: KeyField, auth: ApiKey, value: str) -> bool:
    """True for what cannot have been copied whole, or cannot be sent."""
    named = isinstance(auth.sent, AsBasic) and f"{{{each.id}}}" in auth.sent.user
    return not _ENTERED.fullmatch(value) or (named and ":" in value)
