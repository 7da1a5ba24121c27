"""A stand-in for a provider, so that people can try a connector without an account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aiohttp.web import Application


class Sandbox(Protocol):
    """A provider that lives on this machine, served by `oo sandbox ID`."""

    @property
    def id(self) -> str:
        """The connector's id."""

    @property
    def title(self) -> str:
        """The provider's name."""

    @property
    def client_id(self) -> str:
        """The client it has registered for oO."""

    @property
    def client_secret(self) -> str:
        """That client's secret."""

    @property
    def switches(self) -> Mapping[str, str]:
        """Names of what it can do wrong, each with a sentence."""

    def settings(self, address: str) -> Mapping[str, str]:
        """The connector's settings that point it here; `address` is the sandbox's own, without a slash at the end."""

    def app(self, address: str) -> Application:
        """The web application to serve under that address."""
