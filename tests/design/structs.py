"""A plugin for mypy: what `dataclasses` alters or reads is a dataclass, and no struct of msgspec's.

Both are declared alike, so mypy takes one for the other; Python does not, and says so when the line is run.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import FunctionContext, Plugin
from mypy.types import Instance, Type, UnionType, get_proper_type

#: What a struct is refused by → what takes its place.
INSTEAD = {
    "dataclasses.replace": "msgspec.structs.replace",
    "dataclasses.asdict": "msgspec.structs.asdict",
    "dataclasses.astuple": "msgspec.structs.astuple",
}


def is_struct(given: Type) -> bool:
    """Whether a struct may stand there."""
    match get_proper_type(given):
        case Instance(type=known):
            return known.has_base("msgspec.Struct")
        case UnionType(items=items):
            return any(map(is_struct, items))
    return False


class Structs(Plugin):
    """Refuses a struct where a dataclass is meant."""

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        """Look at calls of what a struct is refused by."""
        if (instead := INSTEAD.get(fullname)) is None:
            return None

        def look(call: FunctionContext) -> Type:
            if call.arg_types[0] and is_struct(call.arg_types[0][0]):
                call.api.fail(f"{fullname} refuses a struct when it is run: call {instead}", call.context)
            return call.default_return_type

        return look


def plugin(version: str) -> type[Structs]:
    """What mypy asks for."""
    return Structs
