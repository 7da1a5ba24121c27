"""What the daemon hands to a connector for one connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from oo_sdk.session import Session


class Clock(Protocol):
    """Time comes in by the door, so that tests and simulations need not wait."""

    def now(self) -> datetime:
        """The time, in UTC."""

    def monotonic(self) -> float:
        """Seconds from some start, never backwards."""

    async def sleep(self, seconds: float) -> None:
        """Wait. For short waits; for long ones raise `RetryLater`."""


class Log(Protocol):
    """A structured logger: `log.info("page_read", items=20)`. Never log bodies or personal data."""

    def debug(self, event: str, **fields: Any) -> Any:
        """For the author."""

    def info(self, event: str, **fields: Any) -> Any:
        """For the operator, when all is well."""

    def warning(self, event: str, **fields: Any) -> Any:
        """For the operator, when something wants attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One connection, as its connector sees it."""

    http: Session
    meta: Mapping[str, Any]  #: the connection's meta, as `finish_oauth` stored it
    scopes: frozenset[str]  #: what the person granted
    first_fetch_from: datetime | None  #: how far back a first fetch goes; None: everything there is
    clock: Clock
    log: Log
