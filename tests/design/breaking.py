"""Says what of one OpenAPI document no longer holds in another: what would break those who were built against the older one.

A caller may send less than before never, and be answered with more than before never: requests may only be taken more widely, answers only
be given more narrowly. Members may be added to answers, since the documents ask callers to ignore what they do not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Side = Literal["request", "answer"]
#: Parameters by where they stand and what they are called.
_Named = dict[tuple[str, str], dict[str, Any]]
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
#: Bounds of what is sent: the larger one takes less, or the smaller one.
_LOWEST, _HIGHEST = ("minimum", "minLength", "minItems"), ("maximum", "maxLength", "maxItems")


def breaking(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What breaks, a sentence each; empty where everybody can stay as he is."""
    return sorted(_Comparison(old, new).operations())


@dataclass
class _Comparison:
    old: dict[str, Any]
    new: dict[str, Any]
    _within: set[tuple[str, str, Side]] = field(default_factory=set)

    def operations(self) -> Iterator[str]:
        for path, methods in self.old["paths"].items():
            item = self.new["paths"].get(path, {})
            for method in methods.keys() & set(_METHODS):
                where, now = f"{method.upper()} {path}", item.get(method)
                if now is None:
                    yield f"{where} is gone."
                    continue
                yield from self._allowed(where, methods[method], now)
                yield from self._parameters(where, self._named(self.old, methods, method), self._named(self.new, item, method))
                yield from self._body(where, methods[method].get("requestBody"), now.get("requestBody"))
                yield from self._answers(where, methods[method]["responses"], now["responses"])

    def _allowed(self, where: str, then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
        before, after = then.get("security", self.old.get("security", [{}])), now.get("security", self.new.get("security", [{}]))
        for each in before:
            if not any(it.keys() == each.keys() and all(set(it[name]) <= set(each[name]) for name in it) for it in after):
                yield f"{where} asks for more than {each or 'nothing'}."

    def _parameters(self, where: str, before: _Named, after: _Named) -> Iterator[str]:
        for name in before.keys() - after.keys():
            yield f"{where} no longer takes {name[1]} in its {name[0]}."
        for name, parameter in after.items():
            if parameter.get("required") and not before.get(name, {}).get("required"):
                yield f"{where} needs {name[1]} in its {name[0]}."
            if name in before:
                yield from self._schema(f"{where}, {name[1]}", before[name].get("schema", {}), parameter.get("schema", {}), "request")

    def _named(self, root: dict[str, Any], item: dict[str, Any], method: str) -> _Named:
        found = [_at(root, each) for each in (*item.get("parameters", []), *item[method].get("parameters", []))]
        return {(each["in"], each["name"]): each for each in found}

    def _body(self, where: str, then: dict[str, Any] | None, now: dict[str, Any] | None) -> Iterator[str]:
        before, after = _at(self.old, then or {}), _at(self.new, now or {})
        if after.get("required") and not before.get("required"):
            yield f"{where} needs a body."
        yield from self._contents(f"{where}, body", before.get("content", {}), after.get("content", {}), "request")

    def _answers(self, where: str, then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
        good = {status for status in now if status < "400"}
        for status in sorted(good - then.keys()):
            yield f"{where} may answer {status}."
        for status, answer in then.items():
            if status in now:
                before, after = _at(self.old, answer), _at(self.new, now[status])
                yield from self._contents(f"{where}, answer {status}", before.get("content", {}), after.get("content", {}), "answer")
            elif status < "400":
                yield f"{where} no longer answers {status}."

    def _contents(self, where: str, then: dict[str, Any], now: dict[str, Any], side: Side) -> Iterator[str]:
        for kind in then.keys() - now.keys():
            yield f"{where}: {kind} is gone."
        for kind in then.keys() & now.keys():
            yield from self._schema(where, then[kind].get("schema", {}), now[kind].get("schema", {}), side)

    def _schema(self, where: str, then: dict[str, Any], now: dict[str, Any], side: Side) -> Iterator[str]:
        names = str(then.get("$ref", "")), str(now.get("$ref", "")), side
        if all(names) and names in self._within:
            return
        self._within.add(names)
        before, after = _at(self.old, then), _at(self.new, now)
        # Whoever gives it may give no more than the taker knows.
        given, taken = (before, after) if side == "request" else (after, before)
        yield from self._choices(where, before, after, side)
        kinds, known = _kinds(given), _kinds(taken)
        if known and not (kinds and kinds <= known):
            yield f"{where} changes from {_list(_kinds(before))} to {_list(_kinds(after))}."
        if "enum" in taken and not ("enum" in given and set(given["enum"]) <= set(taken["enum"])):
            yield f"{where} changes its words."
        for word in ("format", "pattern", "const"):
            if word in taken and given.get(word) != taken[word]:
                yield f"{where} has another {word}."
        if side == "request":
            for word in _LOWEST:
                if after.get(word, float("-inf")) > before.get(word, float("-inf")):
                    yield f"{where} has a higher {word}."
            for word in _HIGHEST:
                if after.get(word, float("inf")) < before.get(word, float("inf")):
                    yield f"{where} has a lower {word}."
        yield from self._members(where, before, after, side)
        if "items" in before and "items" in after:
            yield from self._schema(f"{where}[]", before["items"], after["items"], side)
        self._within.discard(names)

    def _members(self, where: str, before: dict[str, Any], after: dict[str, Any], side: Side) -> Iterator[str]:
        mine, theirs = before.get("properties", {}), after.get("properties", {})
        for name in mine.keys() - theirs.keys():
            yield f"{where}.{name} is gone."
        must, musts = set(before.get("required", [])), set(after.get("required", []))
        for name in sorted(musts - must if side == "request" else (must - musts) & theirs.keys()):
            yield f"{where}.{name} is {'needed' if side == 'request' else 'no longer always there'}."
        for name in mine.keys() & theirs.keys():
            yield from self._schema(f"{where}.{name}", mine[name], theirs[name], side)
        others = before.get("additionalProperties"), after.get("additionalProperties")
        if isinstance(others[0], dict) and isinstance(others[1], dict):
            yield from self._schema(f"{where}.*", others[0], others[1], side)

    def _choices(self, where: str, before: dict[str, Any], after: dict[str, Any], side: Side) -> Iterator[str]:
        """Each shape that may be given is one that the taker knows."""
        mine, theirs = _shapes(before), _shapes(after)
        if not mine and not theirs:
            return
        for each in mine or [before] if side == "request" else theirs or [after]:
            others: Sequence[dict[str, Any]] = (theirs or [after]) if side == "request" else (mine or [before])
            pairs = [(each, other) if side == "request" else (other, each) for other in others]
            if not any(not list(self._schema(where, then, now, side)) for then, now in pairs):
                yield f"{where} changes its shapes."


def _at(root: dict[str, Any], thing: dict[str, Any]) -> dict[str, Any]:
    """What stands behind a reference."""
    while "$ref" in thing:
        found: Any = root
        for part in thing["$ref"].removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        thing = found
    if "allOf" not in thing:
        return thing
    whole = {name: value for name, value in thing.items() if name != "allOf"}
    for part in (_at(root, each) for each in thing["allOf"]):
        whole = {
            **part,
            **whole,
            "properties": {**part.get("properties", {}), **whole.get("properties", {})},
            "required": [*part.get("required", []), *whole.get("required", [])],
        }
    return whole


def _shapes(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [*schema.get("oneOf", []), *schema.get("anyOf", [])]


def _kinds(schema: dict[str, Any]) -> set[str]:
    kinds = schema.get("type", [])
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    return found | {"integer"} if "number" in found else found


def _list(kinds: set[str]) -> str:
    return " or ".join(sorted(kinds)) or "anything"
