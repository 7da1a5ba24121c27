"""The keys, for verbs that work without the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oo_config import Settings
    from oo_vault import Keyring


async def keys(settings: Settings, environ: Mapping[str, str]) -> Keyring:
    """From where the daemon would take them."""
    from oo_daemon.connections import key_keeping
    from oo_daemon.host import SameLoop
    from oo_daemon.registry import discover

    sources = discover(enabled=settings.plugins.enabled, key_sources=settings.key_sources).key_sources
    kept = key_keeping.chosen(settings.vault.keys_from, settings.vault.key_file, sources, SameLoop(), dict(environ))
    return await kept.load()
