"""Key sources: plugins that keep root keys wrapped by a key that never leaves where it is, such as a KMS."""

from __future__ import annotations

from collections.abc import Mapping

from oo_sdk.errors import ConnectorBug
from oo_sdk.structs import Struct


class KeySource:
    """Wraps root keys and unwraps them. Write both, and offer an instance through `oo_key_sources`.

    It is used where the operator wrote a table `[key_sources.{id}]` and its id into `vault.keys_from`. It is asked when a key is made, at
    the start and when keys are loaded again; never in between, so that its outage leaves a running daemon alone. Bind what is wrapped to
    `context`, which says what the key is for and nothing about any user: with another context it must not open. Raise `RetryLater` where
    it cannot be asked now, and `ConnectorBug` where it refuses.
    """

    id: str

    class Settings(Struct):
        """What an operator can set for this key source; nothing, unless it says otherwise."""

    settings: Struct = Settings()

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> str:
        """Give the key wrapped: one word of visible ASCII, which is kept in the key file."""
        raise ConnectorBug(f"{self.id} wraps nothing")

    async def unwrap(self, wrapped: str, context: Mapping[str, str]) -> bytes:
        """Give the key that was wrapped in this context."""
        raise ConnectorBug(f"{self.id} unwraps nothing")
