"""Plugin discovery: finds what pip installed, asks each plugin alone, and sets aside what does not work.

Ours are on; a stranger's distribution is loaded only when the operator enabled it by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distribution, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import pluggy
from msgspec.structs import replace

from oo_sdk import ApiKey, Connector, Hears, KeySource, Sandbox, Scheme, Sink, Stored, Struct, Takes
from oo_sdk import hooks as specifications

S = TypeVar("S", bound=Struct)

OURS = "oo-integrations"
RESERVED = {"connection", "user", "action"}
UNKNOWN = "(unknown)"
_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SCHEME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class Plugin(msgspec.Struct, frozen=True, kw_only=True):
    """One entry point, and what became of it."""

    name: str
    distribution: str
    version: str
    state: Literal["loaded", "quarantined", "disabled"]
    reason: str = ""  #: why it is not loaded: a sentence with the remedy
    struck: bool = False  #: it is not loaded since it had too many strikes
    connectors: tuple[Connector, ...] = ()
    sandboxes: tuple[Sandbox, ...] = ()
    sinks: tuple[Sink, ...] = ()
    schemes: Mapping[str, Scheme] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    key_sources: tuple[KeySource, ...] = ()

    @property
    def key(self) -> str:
        """What tells it from all others: two distributions may give one name."""
        return f"{_normal(self.distribution)}/{self.name}"


class Terms(Struct, kw_only=True):
    """What the table of any sink can say; what else it holds is the sink's own."""

    kind: str = ""  #: which sink it is; the table's own name where nothing is said
    start: str = "beginning"  #: where it begins in the outbox, when it is met for the first time
    user: str | None = None  #: only this user's events
    provider: str | None = None
    type: str | None = None
    batch: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None  #: events that it is given at once, at most
    tries: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10  #: of an event that it cannot take
    reach: tuple[str, ...] = ()  #: addresses and networks that are not of the open internet, and may be reached


TERMS = frozenset(item.encode_name for item in msgspec.structs.fields(Terms))


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A sink that runs: one table of the settings."""

    name: str
    sink: Sink
    terms: Terms = msgspec.field(default_factory=Terms)


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """What is installed; of the sinks and key sources those that have a table, since only they are used."""

    plugins: tuple[Plugin, ...]
    connectors: Mapping[str, Connector] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    sandboxes: Mapping[str, Sandbox] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    sinks: Mapping[str, Placed] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    #: Tables of sinks that do not run, and why.
    sinks_aside: Mapping[str, str] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    schemes: Mapping[str, Scheme] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    key_sources: Mapping[str, KeySource] = msgspec.field(default_factory=lambda: MappingProxyType({}))

    def named(self, guest: object) -> str:
        """The key of the plugin that this connector, sink or key source came with."""
        for plugin in self.plugins:
            if any(guest is one or (isinstance(guest, Sink) and guest.id == one.id) for one in plugin.sinks):
                return plugin.key  # one that runs is a copy
            if any(guest is one for one in (*plugin.connectors, *plugin.key_sources)):
                return plugin.key
        return ""


class PluginRefused(Exception):
    """A plugin is set aside; the message says why and what to do."""


def discover(
    *,
    enabled: Iterable[str] = (),
    settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    sinks: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    key_sources: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    aside: Mapping[str, str] = MappingProxyType({}),
    loading: Callable[[str], AbstractContextManager[None]] = lambda key: nullcontext(),
    sandboxes: bool = True,
    only: str = "",
    found: Iterable[EntryPoint] | None = None,
) -> Registry:
    """Find, load and ask every plugin. Never raises for a plugin's sake.

    `enabled` names strangers' distributions; `settings` holds the table `[connectors.{id}]` of each connector, `sinks` the table
    `[sinks.{id}]` of each sink that is to run, `key_sources` those of key sources; `aside` names plugins that have too many strikes, by
    their keys, with the reason: they are not even imported. `loading` is held while a plugin's code runs. Without `sandboxes` nobody is
    asked for any: each brings a web server along. `only` is the one connector that is wanted: of ours nothing else is imported then.
    `found` stands in for the installed entry points in tests.
    """
    allowed = {_normal(name) for name in enabled} | {OURS}
    connectors: dict[str, Connector] = {}
    stand_ins: dict[str, Sandbox] = {}
    offered: dict[str, Sink] = {}
    schemes: dict[str, Scheme] = {}
    keeping: dict[str, KeySource] = {}
    plugins = []
    points = entry_points(group=specifications.GROUP) if found is None else found
    # Ours first: a stranger cannot take the id of one of ours.
    for point in sorted(points, key=lambda point: (_normal(_origin(point)[0]) != OURS, point.name)):
        plugin = Plugin(name=point.name, distribution=_origin(point)[0], version=_origin(point)[1], state="loaded")
        if _normal(plugin.distribution) not in allowed:
            reason = f'add "{plugin.distribution}" to plugins.enabled to load it'
            plugins.append(replace(plugin, state="disabled", reason=reason))
            continue
        if only and _normal(plugin.distribution) == OURS and point.name != only:
            continue
        if plugin.key in aside:
            plugins.append(replace(plugin, state="quarantined", reason=aside[plugin.key], struck=True))
            continue
        with loading(plugin.key):
            plugin = _load(plugin, point, settings, connectors, offered, schemes, key_sources, keeping, sandboxes)
        connectors |= {connector.id: connector for connector in plugin.connectors}
        stand_ins |= {sandbox.id: sandbox for sandbox in plugin.sandboxes if sandbox.id not in stand_ins}
        offered |= {sink.id: sink for sink in plugin.sinks}
        schemes |= plugin.schemes
        keeping |= {source.id: source for source in plugin.key_sources}
        plugins.append(plugin)
    placed, not_placed = _place(sinks, offered)
    return Registry(
        plugins=tuple(plugins),
        connectors=MappingProxyType(connectors),
        sandboxes=MappingProxyType(stand_ins),
        sinks=MappingProxyType(placed),
        sinks_aside=MappingProxyType(not_placed),
        schemes=MappingProxyType(schemes),
        key_sources=MappingProxyType({id_: source for id_, source in keeping.items() if id_ in key_sources}),
    )


def _load(
    plugin: Plugin,
    point: EntryPoint,
    settings: Mapping[str, Mapping[str, Any]],
    taken: Mapping[str, Connector],
    taken_sinks: Mapping[str, Sink],
    taken_schemes: Mapping[str, Scheme],
    key_sources: Mapping[str, Mapping[str, Any]],
    taken_key_sources: Mapping[str, KeySource],
    sandboxes: bool,
) -> Plugin:
    try:
        if _normal(plugin.distribution) != OURS:
            check_sdk(point.dist)
        connectors, stand_ins, offered, schemes, keeping = _ask(point, sandboxes)
        ids = set(taken)
        for connector in connectors:
            check(connector)
            if connector.id in ids:
                raise PluginRefused(f"there is another connector with the id {connector.id}: uninstall one of the two")
            ids.add(connector.id)
            configure(f"[connectors.{connector.id}]", connector, settings.get(connector.id, {}))
        ids = set(taken_sinks)
        for sink in offered:
            check_sink(sink)
            if sink.id in ids:
                raise PluginRefused(f"there is another sink with the id {sink.id}: uninstall one of the two")
            ids.add(sink.id)
        check_schemes(schemes, taken_schemes)
        ids = set(taken_key_sources)
        for source in keeping:
            check_key_source(source)
            if source.id in ids:
                raise PluginRefused(f"there is another key source with the id {source.id}: uninstall one of the two")
            ids.add(source.id)
            if source.id in key_sources:
                configure(f"[key_sources.{source.id}]", source, key_sources[source.id])
    except PluginRefused as refused:
        return replace(plugin, state="quarantined", reason=str(refused))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin is somebody else's code: whatever it raises, the rest goes on
        reason = f"{type(error).__name__} while it was loaded ({_short(error)}): update or uninstall {plugin.distribution}"
        return replace(plugin, state="quarantined", reason=reason)
    return replace(plugin, connectors=connectors, sandboxes=stand_ins, sinks=offered, schemes=schemes, key_sources=keeping)


def _place(tables: Mapping[str, Mapping[str, Any]], offered: Mapping[str, Sink]) -> tuple[Mapping[str, Placed], Mapping[str, str]]:
    """The sinks that tables ask for, each a copy of what was offered, and why the others do not run: a wrong table stops no other."""
    placed: dict[str, Placed] = {}
    aside: dict[str, str] = {}
    for name, table in tables.items():
        place = f"[sinks.{name}]"
        try:
            if not _ID.fullmatch(name):
                raise PluginRefused(f"{name!r} is no name for a sink: use lower-case letters, digits and _")
            if not isinstance(table, Mapping):
                raise PluginRefused(f"{place} must be a table of settings: see `oo config show`")
            terms = _decoded(place, {key: value for key, value in table.items() if key in TERMS}, Terms)
            kind = terms.kind or name
            if kind not in offered:
                known = f"choose one of {', '.join(sorted(offered))}" if offered else "see `oo plugins`"
                raise PluginRefused(f"{place} is set, but no loaded plugin brings the sink {kind}: {known}")
            sink = copy(offered[kind])
            configure(place, sink, {key: value for key, value in table.items() if key not in TERMS}, besides=TERMS)
            placed[name] = Placed(name=name, sink=sink, terms=terms)
        except PluginRefused as refused:
            aside[name] = str(refused)
    return placed, aside


def _ask(
    point: EntryPoint, with_sandboxes: bool
) -> tuple[tuple[Connector, ...], tuple[Sandbox, ...], tuple[Sink, ...], Mapping[str, Scheme], tuple[KeySource, ...]]:
    manager = pluggy.PluginManager(specifications.GROUP)
    manager.add_hookspecs(specifications)
    plugin = point.load()
    manager.register(plugin, name=point.name)
    hooks = manager.get_hookcallers(plugin) or []
    for hook in hooks:
        if not (hook.has_spec() or all(implementation.optionalhook for implementation in hook.get_hookimpls())):
            raise PluginRefused(f"it implements {hook.name}, which this version of oO does not know: correct the name, or update oO")
    if not hooks:
        raise PluginRefused("it implements no hook: its author must mark oo_connectors with @hookimpl")
    connectors = tuple(_offered(manager.hook.oo_connectors))
    sandboxes = tuple(_offered(manager.hook.oo_sandboxes)) if with_sandboxes else ()
    for sandbox in sandboxes:
        if not isinstance(getattr(sandbox, "id", None), str):
            raise PluginRefused(f"it offers a {type(sandbox).__name__}, which is not an oo_sdk.Sandbox: tell its author")
    keeping = tuple(_offered(manager.hook.oo_key_sources))
    return connectors, sandboxes, tuple(_offered(manager.hook.oo_sinks)), _schemes(manager.hook.oo_schemes), keeping


def _schemes(hook: pluggy.HookCaller) -> Mapping[str, Scheme]:
    offered: dict[str, Scheme] = {}
    for some in hook():
        if not isinstance(some, Mapping):
            raise PluginRefused(f"its {hook.name} gives a {type(some).__name__} and not schemes by name: tell its author")
        offered |= some
    return MappingProxyType(offered)


def _offered(hook: pluggy.HookCaller) -> Iterator[Any]:
    for offered in hook():
        if not isinstance(offered, Iterable):
            raise PluginRefused(f"its {hook.name} gives a {type(offered).__name__} and not a list: tell its author")
        yield from offered


def conflicts(found: Distribution) -> Iterator[tuple[str, str]]:
    """Name what a distribution needs and does not find here, each with a sentence. Reads what pip wrote; loads nothing."""
    from packaging.requirements import InvalidRequirement, Requirement  # not above: who has no stranger's plugin never needs it

    for line in found.requires or ():
        try:
            needed = Requirement(line)
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            there = distribution(needed.name).version
        except InvalidRequirement:
            yield "", f"{found.name} says what it needs in a way that cannot be read"
        except PackageNotFoundError:
            yield _normal(needed.name), f"{found.name} needs {needed.name}{needed.specifier}, which is not installed"
        else:
            if not needed.specifier.contains(there, prereleases=True):
                yield _normal(needed.name), f"{found.name} needs {needed.name}{needed.specifier}, and {there} is installed"


def amiss(found: Registry, tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """What is to be put right in what plugins were given, a sentence and its remedy each; `tables` are by section and id.

    A file that a setting names (`…_file`) is looked for and not read: whoever asks may not be the one who may.
    """
    refused = [plugin for plugin in found.plugins if plugin.state == "quarantined" and not plugin.struck]
    yield from (f"{plugin.name} is set aside, {plugin.reason}" for plugin in refused)
    yield from found.sinks_aside.values()
    guests: dict[str, Mapping[str, Connector | Sink | KeySource]] = {
        "connectors": found.connectors,
        "sinks": {name: placed.sink for name, placed in found.sinks.items()},
        "key_sources": found.key_sources,
    }
    for section, known in guests.items():
        for id_, table in tables.get(section, {}).items():
            place = f"[{section}.{id_}]"
            if id_ in known:
                for key in (key for key, value in table.items() if key.endswith("_file") and value and not _is_there(str(value))):
                    yield f"{place} names a file in {key} that is not there: make it, or correct the path"
            elif section != "sinks" and not any(id_ == plugin.name or place in plugin.reason for plugin in refused):
                what = section.removesuffix("s").replace("_", " ")
                yield f"{place} is set, but no loaded plugin brings the {what} {id_}: correct the name, or see `oo plugins`"


def _is_there(path: str) -> bool:
    """True also where it cannot be told: in a folder that others may not enter, or that systemd makes when the service starts."""
    try:
        return path.startswith("/run/credentials/") or Path(path).exists()
    except OSError:
        return True


def all_conflicts(enabled: Iterable[str], found: Iterable[EntryPoint] | None = None) -> list[str]:
    """The sentences of `conflicts` for oO itself and for everything that is enabled."""
    names = {_normal(name) for name in enabled}
    points = entry_points(group=specifications.GROUP) if found is None else found
    there = {_normal(point.dist.name): point.dist for point in points if point.dist and _normal(point.dist.name or "") in names | {OURS}}
    return [sentence for name in sorted(there) for _, sentence in conflicts(there[name])]


def check_sdk(found: Distribution | None) -> None:
    """Refuse a plugin that was written for another SDK than ours. Raises `PluginRefused`."""
    for name, sentence in conflicts(found) if found is not None else ():
        if name == OURS:
            raise PluginRefused(f"{sentence}: update the older of the two")


def check(connector: object) -> None:
    """Refuse a connector that breaks the contract in what it declares. Raises `PluginRefused`."""
    if not isinstance(connector, Connector):
        raise PluginRefused(f"it offers a {type(connector).__name__}, which is not an oo_sdk.Connector: tell its author")
    id_ = getattr(connector, "id", "")
    if not (isinstance(id_, str) and _ID.fullmatch(id_)) or id_ in RESERVED:
        raise PluginRefused(f"{id_!r} is no id for a connector: use lower-case letters, digits and _, and none of {sorted(RESERVED)}")
    if isinstance(connector.hosts, str) or not all(isinstance(host, str) and _HOST.fullmatch(host) for host in connector.hosts):
        raise PluginRefused(f'the hosts of {id_} must be a list of "name" or "name:port", without a scheme or a path')
    check_stores(connector)
    if connector.auth is None:
        return
    if not connector.hosts:
        raise PluginRefused(f"{id_} declares no hosts: name the only hosts that its credential may be sent to")
    for scope in connector.scopes:
        if len(scope.sentence.split()) < 2:
            raise PluginRefused(f"the scope {scope.id} of {id_} has no sentence that a person could read: write one")
    if isinstance(connector.auth, ApiKey):
        for sentence in connector.auth.problems():
            raise PluginRefused(f"{id_} declares a key that cannot be used, {sentence}: tell its author")
        if not connector.auth.check and type(connector).accept_key is Connector.accept_key:
            raise PluginRefused(f"{id_} declares no way to check a key: give auth.check an address, or write accept_key()")
        if not connector.manual_revocation and type(connector).revoke is Connector.revoke:
            raise PluginRefused(f"{id_} does not say where a person deletes the key: write manual_revocation, or revoke()")
        return
    if connector.auth.metadata is not None and not connector.auth.issuer:
        raise PluginRefused(f"{id_} declares metadata without an issuer: write auth.issuer, whose document it is")
    if connector.auth.revoke is None and type(connector).revoke is Connector.revoke:
        raise PluginRefused(f"{id_} declares no way to revoke: give auth.revoke an address, or write revoke()")


def check_stores(connector: Connector) -> None:
    """Refuse a connector that does not say what is kept of what it tells, and what for. Raises `PluginRefused`."""
    id_, names = connector.id, set[str]()
    for stored in connector.stores:
        if not isinstance(stored, Stored):
            raise PluginRefused(f"the stores of {id_} hold a {type(stored).__name__}, which is not an oo_sdk.Stored: tell its author")
        if isinstance(stored.fields, str) or not all(isinstance(field, str) and field for field in stored.fields):
            raise PluginRefused(f"the fields that {id_} stores of a {stored.name} must be a list of names")
        if len(stored.what.split()) < 2 or len(stored.purpose.split()) < 2:
            raise PluginRefused(f"{id_} does not say in words what it stores of a {stored.name}, and what for: a person reads them")
        if stored.name in names:
            raise PluginRefused(f"{id_} declares twice what it stores of a {stored.name}: leave one")
        names.add(stored.name)
    tells = type(connector).fetch_signals is not Connector.fetch_signals or isinstance(connector, Hears | Takes)
    if tells and not names:
        raise PluginRefused(f"{id_} declares nothing that it stores: say in `stores` what is kept of each event, and what for")


def check_sink(sink: object) -> None:
    """Refuse a sink that breaks the contract in what it declares. Raises `PluginRefused`."""
    if not isinstance(sink, Sink):
        raise PluginRefused(f"it offers a {type(sink).__name__}, which is not an oo_sdk.Sink: tell its author")
    id_ = getattr(sink, "id", "")
    if not (isinstance(id_, str) and _ID.fullmatch(id_)):
        raise PluginRefused(f"{id_!r} is no id for a sink: use lower-case letters, digits and _")
    if type(sink).deliver is Sink.deliver:
        raise PluginRefused(f"the sink {id_} delivers nothing: write deliver()")
    if own := sorted(TERMS & {item.encode_name for item in msgspec.structs.fields(type(sink).Settings)}):
        raise PluginRefused(f"the sink {id_} has a setting {own[0]}, which is one of every sink's: its author must give it another name")


def check_schemes(schemes: Mapping[str, Scheme], taken: Mapping[str, Scheme]) -> None:
    """Refuse schemes without a proper name, with one that is taken, or that are none. Raises `PluginRefused`."""
    for name, scheme in schemes.items():
        if not (isinstance(name, str) and _SCHEME.fullmatch(name)):
            raise PluginRefused(f"{name!r} is no name for a scheme: use lower-case letters, digits, - and _")
        if name in taken:
            raise PluginRefused(f"there is another scheme with the name {name}: uninstall one of the two")
        if not isinstance(scheme, Scheme):
            raise PluginRefused(f"its scheme {name} is a {type(scheme).__name__}, which is not an oo_sdk.Scheme: tell its author")


def check_key_source(source: object) -> None:
    """Refuse a key source that breaks the contract in what it declares. Raises `PluginRefused`."""
    if not isinstance(source, KeySource):
        raise PluginRefused(f"it offers a {type(source).__name__}, which is not an oo_sdk.KeySource: tell its author")
    id_ = getattr(source, "id", "")
    if not (isinstance(id_, str) and _ID.fullmatch(id_)) or id_ in {"file", "environment"}:
        raise PluginRefused(f"{id_!r} is no id for a key source: use lower-case letters, digits and _, and neither file nor environment")
    if type(source).wrap is KeySource.wrap or type(source).unwrap is KeySource.unwrap:
        raise PluginRefused(f"the key source {id_} cannot give a key back: write wrap() and unwrap()")


def configure(place: str, guest: Connector | Sink | KeySource, table: Mapping[str, Any], besides: Collection[str] = ()) -> None:
    """Give a guest what the operator set for it; `besides` may be set, too, by somebody else. Raises `PluginRefused`."""
    shape: type[Struct] = type(guest).Settings
    if not isinstance(table, Mapping):
        raise PluginRefused(f"{place} must be a table of settings: see `oo config show`")
    known = {item.encode_name for item in msgspec.structs.fields(shape)}
    if unknown := sorted(set(table) - known):
        raise PluginRefused(f"{place} has no setting {unknown[0]}: it has {', '.join(sorted({*known, *besides})) or 'none'}")
    guest.settings = _decoded(place, table, shape)


def _decoded(place: str, table: Mapping[str, Any], shape: type[S]) -> S:
    try:
        return msgspec.convert(dict(table), shape, strict=False)
    except msgspec.ValidationError as wrong:
        raise PluginRefused(f"{place} is wrong ({wrong}): see `oo config show`") from None


def _origin(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution; an upgrade that was cut off leaves some without."""
    return _told(point.dist) if point.dist else (UNKNOWN, "")


@lru_cache(maxsize=64)  # one may bring many plugins, and its METADATA is read anew for each question
def _told(found: Distribution) -> tuple[str, str]:
    try:
        return found.name or UNKNOWN, found.version or ""
    except Exception:  # importlib.metadata does not say what it raises for a folder without METADATA
        return UNKNOWN, ""


def _short(error: BaseException) -> str:
    """The first line of what an error says; its author may have given it no words."""
    return (str(error).splitlines() or ["no reason given"])[0][:200]


def _normal(name: str) -> str:
    """A distribution's name in the spelling of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
