"""Webhooks of any sender: a guest like any other, built on the SDK alone."""

from collections.abc import Mapping

from oo_sdk import Connector, Scheme, hookimpl
from oo_sdk.schemes import SCHEMES
from oo_webhook.connector import Webhook


@hookimpl
def oo_connectors() -> list[Connector]:
    """Offer the connector."""
    return [Webhook()]


@hookimpl
def oo_schemes() -> Mapping[str, Scheme]:
    """Offer the schemes of known senders."""
    return SCHEMES
