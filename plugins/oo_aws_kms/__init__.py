"""Root keys wrapped by AWS KMS. Needs the extra: `pip install oo-integrations[aws]`.

The KMS key is symmetric and the operator's own. The daemon's role needs `kms:Decrypt` on it, and `kms:Encrypt` where keys are made; both
can be bound to the encryption context `purpose = oo root key` by a condition. Credentials come as boto3 finds them.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from oo_sdk import ConnectorBug, KeySource, RetryLater, hookimpl

#: What KMS says that passes by itself; the rest is for the operator.
PASSES = {
    "DependencyTimeoutException",
    "KeyUnavailableException",
    "KMSInternalException",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailableException",
    "ThrottlingException",
}


class AwsKms(KeySource):
    """AWS KMS."""

    id = "aws_kms"

    class Settings(KeySource.Settings):
        """Which key, and where."""

        key: str  #: id, ARN or alias
        region: str | None = None  #: as boto3 finds it where it is not set
        endpoint: str | None = None  #: another address than the region's own, such as a VPC endpoint's

    settings: Settings

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> str:
        """Encrypt."""
        answer = await asyncio.to_thread(self._ask, "encrypt", KeyId=self.settings.key, Plaintext=key, EncryptionContext=dict(context))
        return base64.b64encode(answer["CiphertextBlob"]).decode()

    async def unwrap(self, wrapped: str, context: Mapping[str, str]) -> bytes:
        """Decrypt."""
        blob = base64.b64decode(wrapped)
        answer = await asyncio.to_thread(
            self._ask, "decrypt", KeyId=self.settings.key, CiphertextBlob=blob, EncryptionContext=dict(context)
        )
        return bytes(answer["Plaintext"])

    def _ask(self, what: str, **arguments: Any) -> Mapping[str, Any]:
        try:
            import boto3  # here: an extra that only those have who use it, and heavy
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise ConnectorBug("boto3 is missing: pip install oo-integrations[aws]") from None
        try:
            config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
            client = boto3.client("kms", region_name=self.settings.region, endpoint_url=self.settings.endpoint, config=config)
            answer: Mapping[str, Any] = getattr(client, what)(**arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "")) or "an error"
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in PASSES or status >= 500:
                raise RetryLater(f"it answered {code}", after=timedelta(seconds=30)) from None
            raise ConnectorBug(f"it answered {code}: check the key's id, the role, and that the key file is of this host") from None
        except BotoCoreError as error:
            raise RetryLater(f"it cannot be asked ({type(error).__name__})", after=timedelta(seconds=30)) from None
        return answer


@hookimpl
def oo_key_sources() -> list[KeySource]:
    """Offer it."""
    return [AwsKms()]
