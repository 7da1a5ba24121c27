"""The house itself: plugins, the vault's keys, health, erasures, and the contracts of the listeners."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from msgspec import NODEFAULT, to_builtins
from msgspec.structs import FieldInfo, fields

from oo_daemon.connections.keys import Keys
from oo_daemon.ingress.console.connections import titles
from oo_daemon.ingress.console.inbox import MASK, SECRET
from oo_daemon.ingress.console.page import page, see
from oo_daemon.ingress.contract import FILES, contract
from oo_daemon.ingress.health import Looks
from oo_daemon.ingress.privacy import Erases
from oo_daemon.ingress.tokens import needs
from oo_daemon.ports import Clock
from oo_daemon.registry import Registry
from oo_daemon.strikes import MOST, Strikes
from oo_sdk import Struct
from oo_vault import VaultError


class HousePages(msgspec.Struct, frozen=True, kw_only=True):
    """Five pages and two buttons."""

    registry: Registry
    strikes: Strikes
    keys: Keys
    health: Looks
    erasures: Erases
    clock: Clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [
            web.get("/plugins", self.plugins),
            web.post("/plugins/{name}/release", self.release),
            web.get("/vault", self.vault),
            web.post("/vault/rotate", self.rotate),
            web.get("/health", self.look),
            web.get("/erasures", self.erased),
            web.get("/reference", self.reference),
        ]

    @needs("read")
    async def plugins(self, request: web.Request) -> web.Response:
        """All plugins, also those set aside."""
        return page(
            request,
            "plugins.html",
            here="/console/plugins",
            plugins=self.registry.plugins,
            sinks={it.sink.id for it in self.registry.sinks.values()},
            strikes=self.strikes.counted(),
            aside=self.strikes.aside,
            most=MOST,
            settings=list(_settings(self.registry)),
        )

    @needs("admin")
    async def release(self, request: web.Request) -> web.Response:
        """Forget the strikes of a plugin: the next start loads it."""
        self.strikes.release(request.match_info["name"])
        return see("/console/plugins")

    @needs("read")
    async def vault(self, request: web.Request) -> web.Response:
        """The keys by their ids, and how far the rotation has come."""
        return await self._vault(request)

    @needs("admin")
    async def rotate(self, request: web.Request) -> web.Response:
        """Seal everything with the newest key."""
        try:
            await self.keys.begin()
        except VaultError as fault:
            return await self._vault(request, f"{fault.sentence} {fault.remedy}")
        return see("/console/vault")

    async def _vault(self, request: web.Request, problem: str = "") -> web.Response:
        found, now = await self.keys.status(), self.clock.now()
        return page(request, "vault.html", here="/console/vault", status=409 if problem else 200, found=found, now=now, problem=problem)

    @needs("read")
    async def look(self, request: web.Request) -> web.Response:
        """Every part, in words."""
        findings = await self.health.findings()
        return page(request, "health.html", here="/console/health", findings=findings, ready=self.health.ready(findings))

    @needs("read")
    async def erased(self, request: web.Request) -> web.Response:
        """The latest erasures, newest first."""
        found, now = await self.erasures.listed(), self.clock.now()
        begun = request.query.get("begun", "")
        return page(request, "erasures.html", here="/console/erasures", found=found, now=now, begun=begun, titles=titles(self.registry))

    @needs("read")
    async def reference(self, request: web.Request) -> web.Response:
        """What can be asked of a listener, or one part of it in full."""
        listener = next((each for each in FILES if each == request.query.get("listener")), "private")
        # Off the loop: the first look reads the document, which takes a tenth of a second.
        told = await asyncio.to_thread(contract, listener)
        group = next((each for each in told.groups if each.name == request.query.get("part")), None)
        return page(
            request, "reference.html", here="/console/reference", listener=listener, listeners=list(FILES), contract=told, group=group
        )


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of a plugin, as its declaration has it."""

    name: str
    value: str
    kind: str  #: "default", "set", or "masked", which it is where its name says that it is a secret


def _settings(registry: Registry) -> Iterator[tuple[str, list[Setting]]]:
    """The tables of settings that plugins declare, with what holds."""
    tables: list[tuple[str, Struct]] = [(f"connectors.{each.id}", each.settings) for each in registry.connectors.values()]
    tables += [(f"sinks.{name}", placed.sink.settings) for name, placed in registry.sinks.items()]
    tables += [(f"key_sources.{each.id}", each.settings) for each in registry.key_sources.values()]
    for table, held in sorted(tables, key=lambda each: each[0]):
        if found := [_setting(field, getattr(held, field.name)) for field in fields(held)]:
            yield table, found


def _setting(field: FieldInfo, value: object) -> Setting:
    name = field.encode_name
    default = field.default_factory() if field.default_factory is not NODEFAULT else field.default
    if value == default:
        return Setting(name=name, value=_plain(to_builtins(value)), kind="default")
    if isinstance(value, str) and "://" in value:
        # Where a connector declares an address, one that was set stands for it. Anywhere else its path can be a secret.
        declared = isinstance(default, str) and "://" in default
        return Setting(name=name, value=_plain(value) if declared else f"{urlsplit(value).scheme}://{_host(value)}/…", kind="set")
    if SECRET.search(name) and not name.endswith("_file"):
        return Setting(name=name, value=MASK, kind="masked")
    return Setting(name=name, value=_plain(to_builtins(value)), kind="set")


def _host(address: str) -> str:
    return urlsplit(address).netloc.rpartition("@")[2]


def _plain(value: object) -> str:
    """A value as it is written in a file of settings. Of an address only where it is: what follows can be a secret.

    >>> _plain("https://ada:pw@hooks.example/in?key=abc"), _plain(["a", "b"]), _plain(False)
    ('https://hooks.example/in', '["a", "b"]', 'false')
    """
    if isinstance(value, list):
        return f"[{', '.join(map(_quoted, value))}]"
    if isinstance(value, str) and "://" in value:
        parts = urlsplit(value)
        return f"{parts.scheme}://{_host(value)}{parts.path}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quoted(value: object) -> str:
    return json.dumps(_plain(value)) if isinstance(value, str) else _plain(value)
