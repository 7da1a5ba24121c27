"""A plugin whose hook raises."""

from oo_sdk import Connector, hookimpl


@hookimpl
def oo_connectors() -> list[Connector]:
    raise RuntimeError("the moon is in the wrong phase")
