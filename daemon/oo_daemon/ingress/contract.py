"""The contracts of the listeners: the OpenAPI documents beside this file, as they are and as something to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import msgspec

Listener = Literal["private", "public", "console"]
FILES: Final[Mapping[Listener, str]] = {"private": "openapi.yaml", "public": "public.yaml", "console": "console.yaml"}
_METHODS = ("get", "post", "put", "patch", "delete")


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is sent or answered, of a kind; `shape` is the name of the shape that it has, or that each of it has."""

    name: str
    kind: str
    needed: bool
    says: str
    shape: str = ""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a body may be."""

    media: str
    members: Sequence[Member]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What may come back."""

    status: str
    says: str
    contents: Sequence[Content]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be asked for."""

    id: str
    method: str
    path: str
    summary: str
    says: str
    scopes: Sequence[str]  #: what a token must allow, on TCP
    of_user: Sequence[str]  #: what a token of an issuer must allow, for what is a person's own
    parameters: Sequence[tuple[str, Member]]  #: with where each stands: path, query, header
    takes: Sequence[Content]
    answers: Sequence[Answer]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Something that several operations give or take."""

    name: str
    says: str
    members: Sequence[Member]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Operations that belong together, and the shapes that they and those shapes name."""

    name: str
    says: str
    operations: Sequence[Operation]
    shapes: Sequence[Shape]


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A document, to be read."""

    title: str
    summary: str
    says: str
    groups: Sequence[Group]


def document(listener: Listener) -> bytes:
    """The document as it is."""
    return files("oo_daemon.ingress").joinpath(FILES[listener]).read_bytes()


@cache
def contract(listener: Listener) -> Contract:
    """The document, to be read."""
    import yaml  # here, since only those who look at the page pay for it: 15 ms and 1 MB at every start

    return _Reading(yaml.load(document(listener), yaml.CSafeLoader)).contract()


@dataclass(frozen=True, slots=True)
class _Reading:
    root: dict[str, Any] = field(repr=False)

    def contract(self) -> Contract:
        info = self.root["info"]
        groups = [self._group(tag["name"], tag["description"]) for tag in self.root["tags"]]
        return Contract(title=info["title"], summary=info["summary"], says=info["description"], groups=groups)

    def _group(self, name: str, says: str) -> Group:
        operations = list(self._operations(name))
        schemas = self.root.get("components", {}).get("schemas", {})
        shapes: dict[str, Shape] = {}
        contents = [content for each in operations for content in (*each.takes, *(it for answer in each.answers for it in answer.contents))]
        waiting = [member.shape for content in contents for member in content.members]
        while waiting:
            shape = waiting.pop()
            if shape and shape not in shapes:
                members = list(self._members(schemas[shape]))
                shapes[shape] = Shape(name=shape, says=schemas[shape].get("description", ""), members=members)
                waiting += [member.shape for member in members]
        return Group(name=name, says=says, operations=operations, shapes=sorted(shapes.values(), key=lambda each: each.name))

    def _operations(self, tag: str) -> Iterator[Operation]:
        for path, item in self.root["paths"].items():
            for method in _METHODS:
                if tag in item.get(method, {}).get("tags", []):
                    yield self._operation(path, method, item[method], item.get("parameters", []))

    def _operation(self, path: str, method: str, said: dict[str, Any], shared: Sequence[dict[str, Any]]) -> Operation:
        parameters = [self._at(each) for each in (*shared, *said.get("parameters", []))]
        answers = {status: self._at(each) for status, each in said["responses"].items()}
        return Operation(
            id=said["operationId"],
            method=method.upper(),
            path=path,
            summary=said["summary"],
            says=said.get("description", ""),
            scopes=_scopes(said, "token"),
            of_user=_scopes(said, "person"),
            parameters=[
                (each["in"], self._member(each["name"], {"description": each.get("description", ""), **each.get("schema", {})}, each))
                for each in parameters
            ],
            takes=self._contents(self._at(said.get("requestBody", {}))),
            answers=[
                Answer(status=status, says=each["description"], contents=self._contents(each)) for status, each in sorted(answers.items())
            ],
        )

    def _contents(self, of: dict[str, Any]) -> list[Content]:
        return [Content(media=media, members=list(self._members(each.get("schema", {})))) for media, each in of.get("content", {}).items()]

    def _members(self, schema: dict[str, Any], within: str = "") -> Iterator[Member]:
        """What it consists of, laid out flat: `a.b` is within `a`, `a[].b` in each of the list `a`, `a.*.b` in each that `a` names."""
        if "$ref" in schema or not (schema.get("properties") or schema.get("allOf")):
            yield from () if schema == {} else [self._member(within or "the whole", schema, {"required": True})]
            return
        for part in schema.get("allOf", []):
            yield from self._members(self._at(part), within)
        for name, each in schema.get("properties", {}).items():
            whole = f"{within}.{name}" if within else name
            yield self._member(whole, each, {"required": name in schema.get("required", [])})
            inner, end = each, ""
            while "items" in inner or isinstance(inner.get("additionalProperties"), dict):
                inner, end = (inner["items"], f"{end}[]") if "items" in inner else (inner["additionalProperties"], f"{end}.*")
            if inner.get("properties"):
                yield from self._members(inner, whole + end)

    def _member(self, name: str, schema: dict[str, Any], of: dict[str, Any]) -> Member:
        kind, shape = self._kind(schema)
        return Member(name=name, kind=kind, needed=of.get("required", False), says=schema.get("description", ""), shape=shape)

    def _kind(self, schema: dict[str, Any]) -> tuple[str, str]:
        """In words, and the shape that it has."""
        if "$ref" in schema:
            return "", schema["$ref"].rpartition("/")[2]
        if choices := [*schema.get("oneOf", []), *schema.get("anyOf", [])]:
            kinds = [self._kind(each) for each in choices]
            shape = next((shape for _, shape in kinds if shape), "")
            return " or ".join([kind for kind, _ in kinds if kind] + ([""] if shape else [])), shape
        types = schema.get("type", "anything")
        kind = types if isinstance(types, str) else " or ".join(types)
        if "items" in schema:
            inner, shape = self._kind(schema["items"])
            return f"list of {inner}".rstrip(), shape
        if isinstance(schema.get("additionalProperties"), dict):
            inner, shape = self._kind(schema["additionalProperties"])
            return f"by name: {inner}".rstrip(), shape
        if "enum" in schema:
            return "one of " + ", ".join(map(str, schema["enum"])), ""
        bounds = [f"{word} {schema[name]:g}" for name, word in (("minimum", "from"), ("maximum", "to")) if name in schema]
        return ", ".join([f"{kind} ({schema['format']})" if "format" in schema else kind, *bounds[:1]]) + "".join(
            f" {each}" for each in bounds[1:]
        ), ""

    def _at(self, thing: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in thing:
            found: Any = self.root
            for part in thing["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            thing = found
        return thing


def _scopes(said: dict[str, Any], scheme: str) -> list[str]:
    return sorted({scope for each in said.get("security", []) for scope in each.get(scheme, [])})
