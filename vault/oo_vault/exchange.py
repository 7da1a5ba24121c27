"""What a token endpoint can answer to a refresh, and what a provider does with refresh tokens.

The caller of the endpoint classifies (RFC 6749 section 5.2, by the `error` member and not by the status); reasons hold no secret.
"""

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from oo_vault.secret import Secret


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """New tokens."""

    access_token: Secret
    refresh_token: Secret | None = None
    expires_in: int | None = None  #: seconds; nothing, or none above 0, when the provider names no end
    scopes: tuple[str, ...] | None = None  #: None: as before
    token_type: str = "Bearer"  # noqa: S105  # a kind of token, not one
    extra: Mapping[str, str] = msgspec.field(default_factory=dict)  #: claims that are no secrets, for the grant of a sign-in


class GrantDead(msgspec.Struct, frozen=True, kw_only=True):
    """The refresh token is no good: `invalid_grant`."""

    reason: str


class ClientRefused(msgspec.Struct, frozen=True, kw_only=True):
    """Our registration is no good: `invalid_client` and its kin. The grant was not looked at."""

    reason: str


class NotSent(msgspec.Struct, frozen=True, kw_only=True):
    """The request surely never reached the provider: no address, no connection."""

    reason: str


class Unclear(msgspec.Struct, frozen=True, kw_only=True):
    """It may have been done or not: a time-out, a 5xx, a 429, an answer that cannot be read."""

    reason: str
    after: float | None = None  #: seconds, from Retry-After


Answer = Renewed | GrantDead | ClientRefused | NotSent | Unclear

Exchange = Callable[[Secret], Awaitable[Answer]]
"""Calls the token endpoint once with this refresh token. It must end well within a lease, and never repeat by itself."""


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider does with a refresh token that was used."""

    rotates: bool = False  #: each refresh gives a new one and spends the old
    grace: float | None = None  #: seconds within which a repeat still gives an access token, without a refresh token
    reuse_kills: bool = False  #: using a spent one later ends every grant of this user
