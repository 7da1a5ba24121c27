"""Plugin discovery: finds what pip installed, asks each plugin alone, and sets aside what does not work.

Ours are on; a stranger's distribution is loaded only when the operator enabled it by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import pluggy

from oo_sdk import Connector, Sandbox
from oo_sdk import hooks as specifications

OURS = "oo-integrations"
RESERVED = {"connection", "user", "action"}
_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One entry point, and what became of it."""

    name: str
    distribution: str
    version: str
    state: Literal["loaded", "quarantined", "disabled"]
    reason: str = ""  #: why it is not loaded: a sentence with the remedy
    connectors: tuple[Connector, ...] = ()
    sandboxes: tuple[Sandbox, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What is installed."""

    plugins: tuple[Plugin, ...]
    connectors: Mapping[str, Connector] = field(default_factory=lambda: MappingProxyType({}))
    sandboxes: Mapping[str, Sandbox] = field(default_factory=lambda: MappingProxyType({}))


class PluginRefused(Exception):
    """A plugin is set aside; the message says why and what to do."""


def discover(
    *,
    enabled: Iterable[str] = (),
    settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    found: Iterable[EntryPoint] | None = None,
) -> Registry:
    """Find, load and ask every plugin. Never raises for a plugin's sake.

    `enabled` names strangers' distributions; `settings` holds the table `[connectors.{id}]` of each connector; `found` stands in for
    the installed entry points in tests.
    """
    allowed = {_normal(name) for name in enabled} | {OURS}
    connectors: dict[str, Connector] = {}
    sandboxes: dict[str, Sandbox] = {}
    plugins = []
    points = entry_points(group=specifications.GROUP) if found is None else found
    for point in sorted(points, key=lambda point: (_normal(point.dist.name if point.dist else "") != OURS, point.name)):
        plugin = _load(point, allowed)
        try:
            for connector in plugin.connectors:
                _configure(connector, settings.get(connector.id, {}))
                if connector.id in connectors:
                    raise PluginRefused(f"there is another connector with the id {connector.id}: uninstall one of the two")
        except PluginRefused as refused:
            plugin = replace(plugin, state="quarantined", reason=str(refused), connectors=(), sandboxes=())
        connectors |= {connector.id: connector for connector in plugin.connectors}
        sandboxes |= {sandbox.id: sandbox for sandbox in plugin.sandboxes if sandbox.id not in sandboxes}
        plugins.append(plugin)
    return Registry(plugins=tuple(plugins), connectors=MappingProxyType(connectors), sandboxes=MappingProxyType(sandboxes))


def _load(point: EntryPoint, allowed: set[str]) -> Plugin:
    distribution = point.dist.name if point.dist else "(unknown)"
    plugin = Plugin(name=point.name, distribution=distribution, version=point.dist.version if point.dist else "", state="loaded")
    if _normal(distribution) not in allowed:
        return replace(plugin, state="disabled", reason=f'add "{distribution}" to plugins.enabled to load it')
    try:
        connectors, sandboxes = _ask(point)
        for connector in connectors:
            check(connector)
    except PluginRefused as refused:
        return replace(plugin, state="quarantined", reason=str(refused))
    except (Exception, SystemExit) as error:  # a plugin is somebody else's code: whatever it raises, the rest goes on
        return replace(plugin, state="quarantined", reason=f"{type(error).__name__} while it was loaded: {error}")
    return replace(plugin, connectors=connectors, sandboxes=sandboxes)


def _ask(point: EntryPoint) -> tuple[tuple[Connector, ...], tuple[Sandbox, ...]]:
    manager = pluggy.PluginManager(specifications.GROUP)
    manager.add_hookspecs(specifications)
    manager.register(point.load(), name=point.name)
    manager.check_pending()
    return (
        tuple(connector for offered in manager.hook.oo_connectors() for connector in offered),
        tuple(sandbox for offered in manager.hook.oo_sandboxes() for sandbox in offered),
    )


def check(connector: object) -> None:
    """Refuse a connector that breaks the contract in what it declares. Raises `PluginRefused`."""
    if not isinstance(connector, Connector):
        raise PluginRefused(f"it offers a {type(connector).__name__}, which is not an oo_sdk.Connector")
    id_ = getattr(connector, "id", "")
    if not (isinstance(id_, str) and _ID.fullmatch(id_)) or id_ in RESERVED:
        raise PluginRefused(f"{id_!r} is no id for a connector: use lower-case letters, digits and _, and none of {sorted(RESERVED)}")
    if connector.auth is None:
        return
    if not connector.hosts:
        raise PluginRefused(f"{id_} declares no hosts: name the only hosts that its credential may be sent to")
    for scope in connector.scopes:
        if len(scope.sentence.split()) < 2:
            raise PluginRefused(f"the scope {scope.id} of {id_} has no sentence that a person could read")
    if connector.auth.revoke is None and type(connector).revoke is Connector.revoke:
        raise PluginRefused(f"{id_} declares no way to revoke: give auth.revoke an address, or write revoke()")


def _configure(connector: Connector, table: Mapping[str, Any]) -> None:
    shape = type(connector).Settings
    unknown = sorted(set(table) - {item.encode_name for item in msgspec.structs.fields(shape)})
    if unknown:
        raise PluginRefused(f"[connectors.{connector.id}] has no setting {unknown[0]}: see `oo config show`")
    try:
        connector.settings = msgspec.convert(dict(table), shape, strict=False)
    except msgspec.ValidationError as wrong:
        raise PluginRefused(f"[connectors.{connector.id}] is wrong: {wrong}") from None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
