"""What every verb is called with: the global options, and the settings that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from oo_config import Settings
    from oo_daemon.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of `oo`."""

    config: Path | None  #: the file with the settings; None: where it usually is
    debug: bool
    environ: Mapping[str, str] = field(repr=False)

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises `ConfigError`."""
        from oo_config import load  # here, since half of the verbs' help would otherwise pay for it

        return load(self.config, self.environ)


def plugins_of(settings: Settings) -> tuple[Registry, list[str]]:
    """The plugins as a daemon with these settings would find them, and what is to be put right in what they were given."""
    from oo_daemon.host import HostClock
    from oo_daemon.registry import amiss, discover
    from oo_daemon.strikes import Strikes

    tables = {"connectors": settings.connectors, "sinks": settings.sinks, "key_sources": settings.key_sources}
    aside = Strikes(settings.places.beside, HostClock()).aside
    found = discover(
        enabled=settings.plugins.enabled,
        settings=settings.connectors,
        sinks=settings.sinks,
        key_sources=settings.key_sources,
        aside=aside,
        sandboxes=False,
    )
    return found, list(amiss(found, tables))


def json_option(verb: F) -> F:
    """Give a verb `--json`, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")(verb)


def quiet_option(verb: F) -> F:
    """Give a verb `--quiet`."""
    return click.option("-q", "--quiet", is_flag=True, help="Write only what was asked for.")(verb)
