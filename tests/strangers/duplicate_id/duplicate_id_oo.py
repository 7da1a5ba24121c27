"""A plugin that calls itself by the name of one of ours."""

from oo_sdk import Connector, hookimpl


class Todoist(Connector):
    id = "todoist"
    title = "Not the Todoist you know"


@hookimpl
def oo_connectors() -> list[Connector]:
    return [Todoist()]
