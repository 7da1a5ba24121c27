"""Backups over the private API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from aiohttp import web

from oo_daemon.ingress.asking import answer
from oo_daemon.ingress.tokens import needs
from oo_daemon.ingress.view import time


class Backup(Protocol):
    """A file in the backup folder."""

    @property
    def name(self) -> str:
        """Its name there."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def made_at(self) -> int:
        """When."""

    @property
    def position(self) -> str:
        """Where the outbox ended."""


class Making(Protocol):
    """How far one is."""

    @property
    def done(self) -> int:
        """Bytes."""

    @property
    def total(self) -> int:
        """Bytes."""


class Makes(Protocol):
    """Makes and lists backups."""

    @property
    def making(self) -> Making | None:
        """How far the one is that is made now."""

    async def make(self) -> Backup:
        """Make one, and check it. Raises `CannotStore`, `VaultError`."""

    def listed(self) -> Sequence[Backup]:
        """What there is, newest first."""


class BackupRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """Two."""

    backups: Makes

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [web.get("/v1/backups", self.list_backups), web.post("/v1/backups", self.make_backup)]

    @needs("read")
    async def list_backups(self, request: web.Request) -> web.Response:
        """Newest first, and how far the one is that is being made."""
        making = self.backups.making
        under_way = {"making": {"done": making.done, "total": making.total}} if making else {}
        return answer({"backups": [_shown(each) for each in self.backups.listed()], **under_way})

    @needs("admin")
    async def make_backup(self, request: web.Request) -> web.Response:
        """Make one; the answer comes once it was checked."""
        return answer(_shown(await self.backups.make()), status=201)


def _shown(backup: Backup) -> dict[str, Any]:
    return {"name": backup.name, "size": backup.size, "made_at": time(backup.made_at), "position": backup.position}
