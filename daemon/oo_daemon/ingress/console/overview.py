"""The first page: what there is, what needs a person, what is next. It moves by itself."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp import web

from oo_daemon.ingress import pages
from oo_daemon.ingress.console import chart
from oo_daemon.ingress.console.live import Live
from oo_daemon.ingress.console.page import page
from oo_daemon.ingress.health import Looks
from oo_daemon.ingress.tokens import needs
from oo_daemon.ports import Clock
from oo_daemon.registry import Registry
from oo_daemon.store import overview
from oo_daemon.store.storage import Storage

#: The order in which states are told, and what they mean.
STATES = {
    "active": "syncing",
    "needs_sign_in": "to be signed in again",
    "paused": "paused",
    "revoking": "being disconnected",
    "disconnected": "disconnected",
    "erasing": "being erased",
}


class OverviewPages(msgspec.Struct, frozen=True, kw_only=True):
    """The page, and the part of it that moves."""

    moving: Live
    storage: Storage
    registry: Registry
    health: Looks
    clock: Clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [web.get("/", self.show), web.get("/live", self.live, allow_head=False)]

    @needs("read")
    async def show(self, request: web.Request) -> web.Response:
        """The page."""
        return page(request, "overview.html", here="/console/", part=await self._part())

    @needs("read")
    async def live(self, request: web.Request) -> web.StreamResponse:
        """The part that moves."""
        return await self.moving.stream(request, self._part)

    async def _part(self) -> str:
        now = self.clock.now()
        found = await self.storage.read(overview.looked_at, now)
        findings = await self.health.findings()
        return pages.console(
            "overview_part.html",
            found=found,
            now=now,
            chart=chart.bars(found.hours),
            band=chart.band([(hour.begins_at, hour.took) for hour in found.hours]),
            states=[(state, words, found.connections.get(state, 0)) for state, words in STATES.items()],
            titles={connector.id: connector.title for connector in self.registry.connectors.values()},
            unwell=[(name, finding.says) for name, finding in findings.items() if not finding.well],
            quarantined=[plugin for plugin in self.registry.plugins if plugin.state == "quarantined"],
        )
