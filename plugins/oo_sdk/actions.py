"""Write-back: what `act` is given and gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One change that the person's product wants at the provider.

    `key` is the idempotency key: the same key always means the same change, however often it is tried.
    """

    name: str
    arguments: Mapping[str, Any]
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionResult:
    """What became of an action."""

    subject: str = ""  #: the provider's id of what was changed or made
    detail: Mapping[str, Any] = field(default_factory=dict)
