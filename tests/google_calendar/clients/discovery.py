"""Google's discovery document of Calendar v3, as the official client carries it, and what it says answers look like."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # it ships no types

Json = dict[str, Any]

#: The formats that are checked; the others only say how wide a number is.
FORMATS = FormatChecker(("date", "date-time"))


@cache
def document() -> Json:
    """Read the document."""
    text = files("googleapiclient").joinpath("discovery_cache/documents/calendar.v3.json").read_text()
    found: Json = json.loads(text)
    return found


def _translated(schema: Any) -> Any:
    """Translate a schema of discovery's dialect: what it names is known by name, and what it does not name must not be there."""
    if isinstance(schema, list):
        return [_translated(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        return {"$ref": f"#/$defs/{schema['$ref']}"}
    kept = {name: schema[name] for name in ("type", "enum", "pattern") if isinstance(schema.get(name), str | list)}
    if schema.get("format") in {"date", "date-time"}:
        kept["format"] = schema["format"]
    if isinstance(schema.get("items"), dict):
        kept["items"] = _translated(schema["items"])
    if schema.get("type") == "object":
        kept["properties"] = {name: _translated(each) for name, each in schema.get("properties", {}).items()}
        kept["additionalProperties"] = _translated(schema.get("additionalProperties", False))
    return {} if kept.get("type") == "any" else kept


@cache
def validator(name: str) -> Draft202012Validator:
    """Give the validator of a schema by its name."""
    definitions = {each: _translated(schema) for each, schema in document()["schemas"].items()}
    schema = {"$ref": f"#/$defs/{name}", "$defs": definitions}
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FORMATS)


def wrong(name: str, body: Any) -> list[str]:
    """Say what of a body is not as the schema has it."""
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(body)]
