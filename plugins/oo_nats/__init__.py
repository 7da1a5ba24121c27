"""Events into a stream of NATS JetStream. Needs the extra: `pip install oo-integrations[nats]`. A guest like any other."""

from oo_nats.sink import Nats
from oo_sdk import Sink, hookimpl

__all__ = ["oo_sinks"]


@hookimpl
def oo_sinks() -> list[Sink]:
    """Offer it."""
    return [Nats()]
