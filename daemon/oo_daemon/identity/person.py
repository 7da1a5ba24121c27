"""Whom an issuer vouches for, and what its claims make of them here."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

#: What somebody is here: one who runs oO, one who may look, or one whose data it is.
Role = Literal["operator", "viewer", "user"]

#: As a product's users are named everywhere.
_NAME = re.compile(r"[\w.@+:=-]{1,128}")


class NotVouched(Exception):
    """What was shown proves nothing. The reason is for the operator's log: whoever showed it gets one answer for all reasons."""


class NotSignedIn(Exception):
    """The person said no at the issuer."""


class CannotTell(Exception):
    """The issuer cannot be asked just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody whom the issuer vouches for."""

    name: str = field(repr=False)  #: the user, as the product names them
    role: Role
    scopes: frozenset[str] = frozenset()  #: words of the claim `scope`


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """Which claim says what."""

    user: str = "sub"
    roles: str = "roles"
    operators: Collection[str] = ()
    viewers: Collection[str] = ()

    def person(self, claims: Mapping[str, Any]) -> Person:
        """Whom these claims are about. Raises `NotVouched`."""
        name = claims.get(self.user)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise NotVouched(f"the claim {self.user} is no name of a user")
        if self.user == "email" and claims.get("email_verified") is not True:
            raise NotVouched("the e-mail address was never verified")
        said, scope = claims.get(self.roles), claims.get("scope")
        roles = {said} if isinstance(said, str) else {each for each in said if isinstance(each, str)} if isinstance(said, list) else set()
        role: Role = "operator" if roles & {*self.operators} else "viewer" if roles & {*self.viewers} else "user"
        return Person(name=name, role=role, scopes=frozenset(scope.split()) if isinstance(scope, str) else frozenset())
