"""The hub: the daemon that runs connectors, and the only part that knows the others."""

__version__ = "0.1.0"
