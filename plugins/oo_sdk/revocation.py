"""Giving a grant back: what `revoke` reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Revoked(Enum):
    """How far a revocation went."""

    FULLY = "fully"  #: nothing we hold works any more
    PARTLY = "partly"  #: something remains that only the person can remove
    UNSUPPORTED = "unsupported"  #: the provider has no way to revoke


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What was revoked at the provider, and what cannot be."""

    revoked: Revoked
    remains: str = ""  #: a sentence on what is left
    manual_url: str = ""  #: where the person removes it by hand
