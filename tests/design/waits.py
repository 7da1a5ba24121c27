"""What our code waits for without an end of its own (E11).

To await what is ours is to wait for nothing yet: its own awaits are looked at where they stand. What is left waits for something outside:
the network, another process, a thread, a guest's code, an event or a task. There the wait must be bounded:

- it stands within `asyncio.timeout` or a `Patience`;
- it is an `asyncio.wait` with a `timeout`, or one that a sleep beside it ends;
- it is a request to which a `timeout` is given.

A lock counts as ours: whoever holds it waits for what is looked at here, too. Names decide, not types.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Names that libraries have for what waits, too: there it depends on what they are called on.
COMMON = frozenset(
    {
        *("acquire", "begin", "cancel", "close", "commit", "connect", "drain", "get", "join", "next", "open", "post", "prepare", "put"),
        *("read", "request", "run", "send", "sleep", "start", "stop", "text", "wait", "write"),
    }
)
#: What is ours, when one of those is called on it.
OURS = frozenset(
    {
        *("at_issuer", "budgets", "client", "clock", "connect", "connecting", "consumers", "disconnect", "here", "issuer", "keys"),
        *("listeners", "reader", "rows", "self", "sources", "storage", "streams", "tokens", "transport", "uploads", "visits", "watch"),
    }
)
#: Whose code is a guest's, whatever is called.
GUESTS = frozenset({"connector", "sink", "source", "wraps"})
#: What makes a task or a future of what it is given, or hands it on: what it is given is looked at in its place.
THROUGH = frozenset({"shield", "gather", "ensure_future", "aclosing", "enter_async_context"})


@dataclass(frozen=True, order=True)
class Wait:
    """One that nothing bounds where it stands."""

    place: str  #: module and function
    what: str  #: as it is written
    line: int = field(default=0, compare=False)


def waits(sources: Mapping[str, str]) -> list[Wait]:
    """All of them in the sources, by module."""
    trees = {module: ast.parse(text) for module, text in sources.items() if "async " in text or "Awaitable" in text}
    ours = frozenset(name for tree in trees.values() for name in _defined(tree))
    return [wait for module, tree in trees.items() for wait in _Looks(ours).through(tree, module)]


def sources(root: Path, folders: Iterable[str]) -> dict[str, str]:
    """The sources of some folders, by module."""
    paths = [path.relative_to(root) for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    return {".".join(path.with_suffix("").parts[1:]): (root / path).read_text() for path in paths}


def _defined(tree: ast.AST) -> Iterator[str]:
    """Coroutines, and what is handed in to be called: a field or an argument that gives something to await."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and any(_name(each) == "Awaitable" for each in ast.walk(node.annotation)):
            yield _name(node.target)


def _name(node: ast.AST) -> str:
    """The last word of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _bounds(item: ast.withitem) -> bool:
    """Ends what it stands around after a time."""
    made = item.context_expr
    if isinstance(made, ast.Call):
        return ast.unparse(made.func) == "asyncio.timeout" or _has_timeout(made)
    return _name(made) in {"patience", "_part", "_whole"}


def _has_timeout(call: ast.Call) -> bool:
    """A time is given to what is called; none is a `None`, or a total of none with nothing else."""
    given = [ast.unparse(each.value) for each in call.keywords if each.arg == "timeout"]
    return bool(given) and given[0] not in {"None", "aiohttp.ClientTimeout(total=None)"}


class _Looks:
    def __init__(self, ours: frozenset[str]) -> None:
        self.ours = ours

    def through(
        self, node: ast.AST, place: str, given: frozenset[str] = frozenset(), sleeps: frozenset[str] = frozenset()
    ) -> Iterator[Wait]:
        """The waits beneath a node. `given` are the names of arguments, `sleeps` those of sleeps under way."""
        match node:
            case ast.ClassDef():
                place = f"{place}.{node.name}"
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                place = f"{place}.{node.name}"
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                given |= {each.arg for each in arguments if each.arg != "self"}
                sleeps |= set(_sleeping(node)) if isinstance(node, ast.AsyncFunctionDef) else set()
            case ast.With() | ast.AsyncWith() if any(map(_bounds, node.items)):
                return
            case ast.Await():
                yield from (Wait(place, what, node.lineno) for what in self._unbounded(node.value, given, sleeps))
            case ast.AsyncFor() | ast.comprehension(is_async=1):
                yield from (Wait(place, what, node.iter.lineno) for what in self._unbounded(node.iter, given, sleeps))
            case ast.AsyncWith():
                for item in node.items:
                    if isinstance(item.context_expr, ast.Call):
                        yield from (Wait(place, what, node.lineno) for what in self._unbounded(item.context_expr, given, sleeps))
        for child in ast.iter_child_nodes(node):
            yield from self.through(child, place, given, sleeps)

    def _unbounded(self, awaited: ast.expr, given: frozenset[str], sleeps: frozenset[str]) -> Iterator[str]:
        """What of an expression waits without an end."""
        if isinstance(awaited, ast.IfExp):
            yield from self._unbounded(awaited.body, given, sleeps)
            yield from self._unbounded(awaited.orelse, given, sleeps)
            return
        if isinstance(awaited, ast.Call) and isinstance(choice := awaited.func, ast.IfExp):
            for func in (choice.body, choice.orelse):
                yield from self._unbounded(ast.Call(func=func, args=awaited.args, keywords=awaited.keywords), given, sleeps)
            return
        if not isinstance(awaited, ast.Call):
            yield ast.unparse(awaited)  # a future, a task, an iterator: somebody else's promise
            return
        called, on = _name(awaited.func), _name(awaited.func.value) if isinstance(awaited.func, ast.Attribute) else None
        if on == "guests" or called in THROUGH:
            for each in awaited.args:
                yield from self._unbounded(_each(each), given, sleeps)
        elif on is None:
            if called not in given | self.ours | {"AsyncExitStack"}:
                yield _written(awaited)
        elif called in {"sleep", "_sleep"} or _has_timeout(awaited) or (called == "wait" and _members(awaited) & sleeps):
            return
        elif called not in self.ours or on in GUESTS or (called in COMMON and on.lstrip("_") not in OURS):
            yield _written(awaited)


def _each(given: ast.expr) -> ast.expr:
    """What there may be many of: `*tasks`, `*(work(each) for each in …)`, `*map(work, …)`."""
    match given:
        case ast.Starred(value=ast.GeneratorExp(elt=made)):
            return made
        case ast.Starred(value=ast.Call(func=ast.Name(id="map"), args=[work, *_])):
            return ast.Call(func=work, args=[], keywords=[])
        case ast.Starred(value=many):
            return many
    return given


def _written(call: ast.Call) -> str:
    return f"{ast.unparse(call.func)}({', '.join(map(ast.unparse, call.args))})"


def _sleeping(function: ast.AST) -> Iterator[str]:
    """Names of the tasks of a function that end after a time."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            for target, value in _pairs(node.targets[0], node.value):
                if isinstance(value, ast.Call) and _name(value.func) == "ensure_future" and ".sleep(" in ast.unparse(value):
                    yield _name(target)


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def _members(call: ast.Call) -> set[str]:
    return {_name(each) for each in call.args[0].elts} if call.args and isinstance(call.args[0], ast.Set) else set()
