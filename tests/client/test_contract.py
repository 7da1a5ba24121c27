"""openapi.yaml is a valid description, says what the client reads, and the fake daemon keeps to it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import msgspec
import pytest
from client.contract import document, hold
from client.fake_daemon import Exchange, FakeDaemon
from openapi_spec_validator import OpenAPIV31SpecValidator

import oo_client
from oo_client import answers

STRUCTS = [
    each for each in vars(answers).values() if isinstance(each, type) and issubclass(each, msgspec.Struct) and each is not msgspec.Struct
]


def test_the_description_is_valid() -> None:
    """openapi.yaml is an OpenAPI 3.1 document."""
    OpenAPIV31SpecValidator(document()).validate()


def test_everything_is_described() -> None:
    """Every route has a name and a sentence, names its refusals, and every error answer has the one error shape."""
    operations = [(path, it) for path, methods in document()["paths"].items() for it in methods.values()]
    assert len({it["operationId"] for _, it in operations}) == len(operations)
    for path, operation in operations:
        assert operation["summary"].endswith("."), path
        assert "403" in operation["responses"], path
        for status, answer in operation["responses"].items():
            whole = answer if "$ref" not in answer else document()["components"]["responses"][answer["$ref"].rpartition("/")[2]]
            assert status in {"200", "201", "202", "400", "401", "403", "404", "409", "413", "429", "503", "default"}
            if "400" <= status <= "599":
                assert whole["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}, path


def test_every_schema_is_used() -> None:
    """No schema stands in the description for nothing."""
    text = str(document())
    for name in document()["components"]["schemas"]:
        assert f"#/components/schemas/{name}'" in text, name


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda it: it.__name__)
def test_the_client_reads_what_is_described(struct: type[msgspec.Struct]) -> None:
    """Each Struct of the client has the members of the schema of its name, and all of them are required there."""
    schema = document()["components"]["schemas"][struct.__name__]
    members = {it.encode_name for it in msgspec.structs.fields(struct)}
    assert members == schema["properties"].keys() == set(schema["required"])
    assert struct.__name__ in oo_client.__all__


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda it: it.__name__)
def test_the_clients_words_are_those_described(struct: type[msgspec.Struct]) -> None:
    """Where a Struct lists words, the schema lists the same ones."""
    info = msgspec.json.schema(struct)
    mine = info["$defs"][struct.__name__]["properties"]
    theirs = document()["components"]["schemas"][struct.__name__]["properties"]
    for name, described in mine.items():
        words = theirs[name]
        if "$ref" in words:
            words = document()["components"]["schemas"][words["$ref"].rpartition("/")[2]]
        assert sorted(described.get("enum", [])) == sorted(words.get("enum", [])), name


@pytest.fixture
def exchange() -> Exchange:
    """Give a good exchange."""
    return Exchange(
        method="GET", route="/livez", path="/livez", query={}, body=None, status=200, media="application/json", answer=b'{"status":"ok"}'
    )


@pytest.mark.parametrize(
    "changes", [{"answer": b'{"status":"no"}'}, {"answer": b'{"status":"ok","more":1}'}, {"answer": b"{}"}, {"query": {"odd": "1"}}]
)
def test_the_comparison_notices(exchange: Exchange, changes: dict[str, Any]) -> None:
    """A wrong word, a member too many or too few, and an unknown parameter are seen."""
    hold([exchange])
    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        hold([dataclasses.replace(exchange, **changes)])


def test_the_fake_has_every_route(tmp_path: Any) -> None:
    """The fake daemon answers exactly the routes that are described."""
    described = {(method.upper(), path) for path, methods in document()["paths"].items() for method in methods}
    routes = FakeDaemon(socket=tmp_path / "s").app().router.routes()
    assert {(it.method, it.resource.canonical) for it in routes if it.resource is not None and it.method != "HEAD"} == described
