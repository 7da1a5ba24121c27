"""What those who watch over the daemon ask: does it live, is it ready, is it well, and the numbers. On the private doors only.

They tell nothing of anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from aiohttp import web

from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.asking import answer
from oo_daemon.ingress.tokens import needs


class Finding(Protocol):
    """One part, and how it is."""

    @property
    def well(self) -> bool:
        """It is as it should be."""

    @property
    def says(self) -> str:
        """What is wrong, and what to do."""

    @property
    def warning(self) -> bool:
        """It is worth a word, and keeps nobody from working."""


class Looks(Protocol):
    """Looks at every part."""

    async def findings(self) -> Mapping[str, Finding]:
        """Every part, by name."""

    def ready(self, findings: Any) -> bool:
        """Say whether new work may be sent here."""


class HealthRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """The four."""

    health: Looks
    numbers: Callable[[], bytes]
    numbers_type: str

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes, the same on both private doors."""
        return [
            web.get("/livez", self.live),
            web.get("/readyz", self.ready),
            web.get("/healthz", self.well),
            web.get("/metrics", self.metrics),
        ]

    @needs("read")
    async def live(self, request: web.Request) -> web.Response:
        """The loop answers."""
        return answer({"status": "ok"})

    @needs("read")
    async def ready(self, request: web.Request) -> web.Response:
        """Whether new work may be sent here; names what is in the way."""
        findings = await self.health.findings()
        if not self.health.ready(findings):
            failing = "; ".join(f"{name}: {found.says}" for name, found in findings.items() if not (found.well or found.warning))
            raise Refused(503, "not_ready", f"oO is not ready: {failing}.", "See /healthz for every part.", headers={"Retry-After": "5"})
        return answer({"status": "ok"})

    @needs("read")
    async def well(self, request: web.Request) -> web.Response:
        """Every part, in words."""
        findings = await self.health.findings()
        parts = {
            name: {"status": "ok" if found.well else "warning" if found.warning else "failing", "says": found.says}
            for name, found in findings.items()
        }
        return answer({"status": "ok" if self.health.ready(findings) else "not_ready", "parts": parts})

    @needs("read")
    async def metrics(self, request: web.Request) -> web.Response:
        """The numbers, for Prometheus."""
        return web.Response(body=self.numbers(), headers={"Content-Type": self.numbers_type})
