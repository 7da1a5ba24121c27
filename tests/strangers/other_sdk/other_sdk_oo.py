"""A plugin that was written for an SDK of the future, and would not even import with this one."""

from oo_sdk import hookimpl, no_such_name_yet  # type: ignore[attr-defined]  # the point of it


@hookimpl
def oo_connectors() -> object:
    return no_such_name_yet()
