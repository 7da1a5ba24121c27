"""The hooks by which a package tells oO what it brings.

A hook is synchronous, does no I/O and only says what there is. A package names its module under the entry-point group `oo.plugins`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import pluggy

from oo_sdk.connector import Connector
from oo_sdk.key_sources import KeySource
from oo_sdk.sandbox import Sandbox
from oo_sdk.sinks import Sink
from oo_sdk.webhooks import Scheme

#: The pluggy project and the entry-point group.
GROUP: Final = "oo.plugins"

hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker(GROUP)
hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker(GROUP)


@hookspec
def oo_connectors() -> Iterable[Connector]:
    """Offer connectors. Called once, at start."""
    raise AssertionError("a specification is never called")


@hookspec
def oo_sandboxes() -> Iterable[Sandbox]:
    """Offer stand-ins for providers. Called when a sandbox is asked for."""
    raise AssertionError("a specification is never called")


@hookspec
def oo_sinks() -> Iterable[Sink]:
    """Offer sinks. Called once, at start."""
    raise AssertionError("a specification is never called")


@hookspec
def oo_schemes() -> Mapping[str, Scheme]:
    """Offer schemes by name, for addresses that are given one. Called once, at start."""
    raise AssertionError("a specification is never called")


@hookspec
def oo_key_sources() -> Iterable[KeySource]:
    """Offer key sources. Called once, at start."""
    raise AssertionError("a specification is never called")
