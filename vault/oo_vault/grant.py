"""A grant: what a provider gave us to act for a user, before it is sealed and after it is opened."""

from collections.abc import Mapping

import msgspec

from oo_vault.errors import FormatUnknown
from oo_vault.secret import Secret

_FORMAT = b"\x01"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and what is known about them. Times are microseconds since 1970, UTC."""

    access_token: Secret
    refresh_token: Secret | None = None
    token_type: str = "Bearer"  # noqa: S105  # a kind of token, not one
    scopes: tuple[str, ...] = ()
    expires_at: int | None = None  #: end of the access token; None when the provider named none
    obtained_at: int  #: taken before the request was sent, so that a life is never thought longer than it is
    extra: Mapping[str, str] = msgspec.field(default_factory=dict)  #: claims that are no secrets: an account id, a mail address
    token_version: int = 0  #: of the row it came from; not packed. Name it as `force_after` when the token was refused

    def pack(self) -> bytes:
        """Give the bytes to be sealed: a format byte and JSON, with the tokens in clear."""
        return _FORMAT + msgspec.json.encode(
            _Packed(
                access_token=self.access_token.reveal(),
                refresh_token=None if self.refresh_token is None else self.refresh_token.reveal(),
                token_type=self.token_type,
                scopes=self.scopes,
                expires_at=self.expires_at,
                obtained_at=self.obtained_at,
                extra=dict(self.extra),
            )
        )

    @classmethod
    def unpack(cls, packed: bytes, *, token_version: int = 0) -> "Grant":
        """Read what `pack` gave, or raise `FormatUnknown`."""
        if packed[:1] != _FORMAT:
            raise _unknown()
        try:
            found = msgspec.json.decode(packed[1:], type=_Packed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _unknown() from None  # not the cause: its message may quote what it could not read
        return cls(
            access_token=Secret(found.access_token),
            refresh_token=None if found.refresh_token is None else Secret(found.refresh_token),
            token_type=found.token_type,
            scopes=found.scopes,
            expires_at=found.expires_at,
            obtained_at=found.obtained_at,
            extra=found.extra,
            token_version=token_version,
        )


class _Packed(msgspec.Struct, frozen=True, kw_only=True):
    """The shape inside the seal. It holds tokens in clear and lives only within `pack` and `unpack`."""

    access_token: str
    refresh_token: str | None
    token_type: str
    scopes: tuple[str, ...]
    expires_at: int | None
    obtained_at: int
    extra: dict[str, str]

    def __repr__(self) -> str:
        return "_Packed(…)"


def _unknown() -> FormatUnknown:
    return FormatUnknown("A grant is in a format that this version does not know.", "Run the version that wrote it, or a newer one.")
