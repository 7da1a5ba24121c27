"""What `oo doctor --bundle` hands on: enough to help with, and nothing of anybody."""

from __future__ import annotations

import asyncio
import os
import platform
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

import msgspec

import oo_config
from oo_client import Client, ClientError
from oo_daemon.cli.call import Call
from oo_daemon.cli.terminal import NotDone

#: Settings whose values are shown; of the others only that they were set, since plugins' own may be secrets.
SHOWN: Final = frozenset({"public", "private", "sync", "http", "oauth", "disk", "backup", "log"})


def write(call: Call, path: Path, findings: Iterable[Mapping[str, str]]) -> None:
    """Write the zip file, readable by its owner only."""
    parts: dict[str, bytes] = {"findings.json": _json(list(findings)), "versions.json": _json(_versions())}
    try:
        parts["settings.json"] = _json(_settings(call))
        parts |= asyncio.run(_from_daemon(call))
    except oo_config.ConfigError:
        pass  # the findings say what is wrong with them
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise NotDone(f"there is a file {path} already", "name another one") from None
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as whole:
        for name, text in sorted(parts.items()):
            whole.writestr(name, text)


def _settings(call: Call) -> dict[str, str]:
    return {
        f"{it.section}.{it.key}": it.value if it.section in SHOWN and str(it.origin) != "default" else f"({it.origin})"
        for it in oo_config.show(call.settings)
    }


def _versions() -> dict[str, str]:
    found = {each.metadata["Name"]: each.version for each in distributions()}
    return {"python": platform.python_version(), "system": platform.platform(), **dict(sorted(found.items(), key=lambda it: it[0].lower()))}


async def _from_daemon(call: Call) -> dict[str, bytes]:
    try:
        async with Client(call.settings.places.socket) as client:
            status = await client.status()
            return {
                "status.json": _json({"version": status.version, "engine": status.engine, "connections": dict(status.connections)}),
                "health.json": msgspec.json.encode(await client.health()),
                "plugins.json": msgspec.json.encode(await client.plugins()),
                "metrics.txt": (await client.metrics()).encode(),
            }
    except ClientError as wrong:
        return {"daemon.txt": str(wrong).encode()}


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)
