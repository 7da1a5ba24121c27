"""The settings of oO integrations, each declared once: TOML and environment in, frozen values out."""

from oo_config.loading import load
from oo_config.manual import Described, Shown, describe, example, show
from oo_config.problems import ConfigError, Problem
from oo_config.settings import (
    Http,
    Log,
    OAuth,
    Origin,
    Places,
    Plugins,
    Private,
    Public,
    Settings,
    Sync,
    Vault,
)
from oo_config.spelling import Network, Server

__all__ = [
    "ConfigError",
    "Described",
    "Http",
    "Log",
    "Network",
    "OAuth",
    "Origin",
    "Places",
    "Plugins",
    "Private",
    "Problem",
    "Public",
    "Server",
    "Settings",
    "Shown",
    "Sync",
    "Vault",
    "describe",
    "example",
    "load",
    "show",
]
