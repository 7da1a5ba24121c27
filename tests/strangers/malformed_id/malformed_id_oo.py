"""A plugin whose connector has no proper id."""

from oo_sdk import Connector, hookimpl


class Odd(Connector):
    id = "Not-An-Id"


@hookimpl
def oo_connectors() -> list[Connector]:
    return [Odd()]
