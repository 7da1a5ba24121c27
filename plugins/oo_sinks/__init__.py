"""Sinks that come with oO: HTTP, a file, standard output. Guests like any other, built on the SDK alone."""

from oo_sdk import Sink, hookimpl
from oo_sinks.file import File
from oo_sinks.http import Http
from oo_sinks.stdout import Stdout

__all__ = ["oo_sinks"]


@hookimpl
def oo_sinks() -> list[Sink]:
    """Offer the sinks."""
    return [Http(), File(), Stdout()]
