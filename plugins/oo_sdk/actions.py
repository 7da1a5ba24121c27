"""Write-back: what a connector can change at its provider, and what `act` is given and gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oo_sdk.structs import Struct


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionKind:
    """One kind of change, declared as data in `Connector.actions`.

    Arguments are checked against the Struct before the connector is asked; `scope` must have been granted.
    """

    name: str  #: such as "complete_task"
    sentence: str  #: what it does, for people
    arguments: type[Struct]
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One change that the person's product wants at the provider.

    `key` is a UUID made from the caller's idempotency key: the same key always means the same change, however often it is tried.
    """

    name: str
    arguments: Struct  #: of the kind's type
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionResult:
    """What became of an action."""

    subject: str = ""  #: the provider's id of what was changed or made
    detail: Mapping[str, Any] = field(default_factory=dict)
