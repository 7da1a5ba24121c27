"""Root keys wrapped by the transit engine of OpenBao or HashiCorp Vault.

The transit key is made by the operator, of a type that takes associated data (aes256-gcm96, chacha20-poly1305):
`bao write -f transit/keys/oo`. The token needs `update` on `transit/encrypt/oo` and `transit/decrypt/oo` and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from oo_sdk import ConnectorBug, KeySource, RetryLater, hookimpl

PATIENCE = aiohttp.ClientTimeout(total=10)
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Transit(KeySource):
    """The transit engine."""

    id = "transit"

    class Settings(KeySource.Settings):
        """Where it is, and what opens it."""

        address: str  #: https://bao.example:8200; plain http on loopback only
        token_file: str  #: a file with the token, such as a systemd credential
        key: str = "oo"
        mount: str = "transit"

    settings: Settings

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> str:
        """Encrypt."""
        answer = await self._ask("encrypt", {"plaintext": base64.b64encode(key).decode()}, context)
        return str(answer["ciphertext"])

    async def unwrap(self, wrapped: str, context: Mapping[str, str]) -> bytes:
        """Decrypt."""
        answer = await self._ask("decrypt", {"ciphertext": wrapped}, context)
        return base64.b64decode(answer["plaintext"])

    async def _ask(self, what: str, body: Mapping[str, str], context: Mapping[str, str]) -> Mapping[str, Any]:
        place = urlsplit(self.settings.address)
        if place.scheme != "https" and not (place.scheme == "http" and place.hostname in LOOPBACK):
            raise ConnectorBug("key_sources.transit.address must be an https:// address, or one of loopback")
        try:
            token = (await asyncio.to_thread(Path(self.settings.token_file).read_text, "ascii")).strip()
        except (OSError, UnicodeDecodeError):
            token = ""
        if not (token.isprintable() and token):
            raise ConnectorBug("the file that key_sources.transit.token_file names cannot be read, or holds no token")
        bound = base64.b64encode(json.dumps(dict(context), sort_keys=True).encode()).decode()
        url = f"{self.settings.address.rstrip('/')}/v1/{quote(self.settings.mount)}/{what}/{quote(self.settings.key, safe='')}"
        try:
            async with (
                aiohttp.ClientSession(timeout=PATIENCE, trust_env=False) as client,
                client.post(
                    url, json={**body, "associated_data": bound}, headers={"X-Vault-Token": token}, allow_redirects=False
                ) as answer,
            ):
                status, said = answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            raise RetryLater("it cannot be reached", after=timedelta(seconds=30)) from None  # not the cause: it shows the token
        # 412, 429, 472, 473 and 5xx: it is sealed, standing by, or has too much to do.
        if status in {412, 429, 472, 473} or status >= 500:
            raise RetryLater(f"it answered {status}: it may be sealed or standing by", after=timedelta(seconds=30))
        if status != 200:
            raise ConnectorBug(f"it answered {status}: check the token, the key's name, and that the key file is of this host")
        found: Mapping[str, Any] = json.loads(said)["data"]
        return found


@hookimpl
def oo_key_sources() -> list[KeySource]:
    """Offer it."""
    return [Transit()]
