"""Where a sealed value belongs, so that it opens nowhere else."""

from collections.abc import Iterator

import msgspec

CREDENTIAL = "credential"  #: the purpose of a sealed grant

_FORMAT = 1


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The row and column that a sealed value is bound to."""

    purpose: str  #: what the value is: "credential", "webhook secret", "pkce verifier", …
    connection: str = ""  #: the random connection id; empty where a value belongs to a registration
    user: str = ""
    provider: str = ""
    account: str = ""
    token_version: int = 0  #: 0 or more; grows by one with every renewal

    def encode(self, key_id: str) -> bytes:
        """Give the one byte string of this context under this key: a format byte, then each field after its length."""
        return bytes([_FORMAT]) + b"".join(len(field).to_bytes(4, "big") + field for field in self._fields(key_id))

    def _fields(self, key_id: str) -> Iterator[bytes]:
        for text in (key_id, self.purpose, self.connection, self.user, self.provider, self.account):
            yield text.encode()
        yield self.token_version.to_bytes(8, "big")
