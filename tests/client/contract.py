"""Holds exchanges against openapi.yaml."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import yaml
from client.fake_daemon import OPENAPI, Exchange

#: How an answer becomes what its schema speaks of.
_READ: dict[str, Callable[[bytes], Any]] = {"application/json": json.loads, "application/yaml": yaml.safe_load}


@cache
def document() -> dict[str, Any]:
    """Read the description of the private API."""
    read: dict[str, Any] = yaml.safe_load(OPENAPI.read_text("utf-8"))
    return read


def hold(exchanges: Iterable[Exchange]) -> None:
    """Fail unless each request and answer is as described, with no member too many."""
    strict = _closed(document())
    for each in exchanges:
        operation = f"/paths/{_escaped(each.route)}/{each.method.lower()}"
        described = _at(strict, operation)
        if "default" in described["responses"]:
            continue  # what a provider is asked, and what it answers, is its own
        if each.body is not None:
            _validate(strict, f"{operation}/requestBody/content/application~1json/schema", each.body)
        known = {
            _at(strict, it["$ref"].removeprefix("#"))["name"] if "$ref" in it else it["name"] for it in described.get("parameters", [])
        }
        assert each.query.keys() <= known, f"{each.route} has no parameter {each.query.keys() - known}"
        answer = f"{operation}/responses/{each.status}"
        if "$ref" in _at(strict, answer):
            answer = _at(strict, answer)["$ref"].removeprefix("#")
        schema = f"{answer}/content/{_escaped(each.media)}/schema"
        _validate(strict, schema, _READ.get(each.media, bytes.decode)(each.answer))


def _validate(root: dict[str, Any], pointer: str, value: Any) -> None:
    _at(root, pointer)
    validator = jsonschema.Draft202012Validator(
        {**root, "$ref": f"#{pointer}"}, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    validator.validate(value)


def _closed(schema: Any) -> Any:
    """Let objects have only the members that are described."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(each) for name, each in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed.setdefault("additionalProperties", False)
    return closed


def _at(root: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        root = root[part.replace("~1", "/").replace("~0", "~")]
    return root


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
