"""Nothing that others rely on since the last release breaks by accident: not the events, not the documents of the listeners."""

from __future__ import annotations

import base64
import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from design import kept
from design.breaking import breaking
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from oo_sdk._schema.oo.cloudevents.v1 import cloudevents_pb2
from oo_sdk._schema.oo.events.v1 import event_pb2
from oo_sdk._schema.oo.vocabulary.v1 import vocabulary_pb2

PRESENT: dict[str, Any] = {
    descriptor.full_name: getattr(file, name)
    for file in (cloudevents_pb2, event_pb2, vocabulary_pb2)
    for name, descriptor in file.DESCRIPTOR.message_types_by_name.items()
}
MESSAGES = [json.loads(line) for line in (kept.KEPT / "messages.jsonl").read_text().splitlines()]
EVENT, VOCABULARY = "oo/events/v1/event.proto", "oo/vocabulary/v1/vocabulary.proto"


def test_what_is_kept_is_the_newest_release() -> None:
    """A release keeps its contract: its heading in CHANGELOG.md and the folder name the same one."""
    assert (kept.KEPT / "release").read_text().strip() == kept.release(), "run `make contract`"


@pytest.mark.rows("B14")
def test_nothing_kept_is_broken() -> None:
    """Whoever was built against the last release can stay as he is."""
    assert list(kept.broken()) == []


@pytest.mark.rows("B14")
@pytest.mark.parametrize(
    ("file", "was", "becomes"),
    [
        (EVENT, "  string subject = 8;\n", ""),
        (EVENT, "  string subject = 8;\n", "  reserved 8;\n"),
        (EVENT, "string subject = 8;", "string thing = 8;"),
        (EVENT, "string subject = 8;", "string subject = 15;"),
        (EVENT, "string subject = 8;", "bytes subject = 8;"),
        (EVENT, "uint64 revision = 9;", "repeated uint64 revision = 9;"),
        (EVENT, "CHANGE_OCCURRED = 3;", "CHANGE_OCCURRED = 4;"),
        (EVENT, "CHANGE_OCCURRED = 3;", "CHANGE_HAPPENED = 3;"),
        (VOCABULARY, "bool completed = 3;", "string completed = 3;"),
        (VOCABULARY, "message Due {", "message Deadline {"),
    ],
)
def test_a_broken_field_is_seen(tmp_path: Path, file: str, was: str, becomes: str) -> None:
    """A field or a word of the schema that is gone, or has another name, number or type, is named by the gate."""
    shutil.copytree(kept.SCHEMA, tmp_path / "schema", ignore=shutil.ignore_patterns("*.py", "*.pyi"))
    path = tmp_path / "schema" / file
    assert path.read_text().count(was) == 1
    path.write_text(path.read_text().replace(was, becomes).replace(" Due ", " Deadline " if "Deadline" in becomes else " Due "))
    assert any(file in each for each in kept.broken(schema=tmp_path / "schema"))


@pytest.mark.rows("B14")
def test_what_is_added_breaks_nothing(tmp_path: Path) -> None:
    """A field more in each message and a word more in each enum pass."""
    assert list(kept.broken(schema=_newer(tmp_path))) == []


@pytest.mark.rows("B14")
@pytest.mark.parametrize("message", MESSAGES, ids=lambda it: str(it["type"]))
def test_the_present_reader_understands_what_was_written_then(message: dict[str, Any]) -> None:
    """Each kind of message of the last release says today what it said then, and is passed on byte for byte."""
    wire = base64.b64decode(message["bytes"])
    read = PRESENT[message["type"]].FromString(wire)
    assert kept.says(read) == message["says"]
    assert read.SerializeToString(deterministic=True) == wire


@pytest.mark.rows("B14")
@pytest.mark.parametrize("message", MESSAGES, ids=lambda it: str(it["type"]))
def test_a_reader_of_then_understands_what_is_written_now(message: dict[str, Any]) -> None:
    """Readers built at the last release read what they know of the present messages, and pass all of it on."""
    wire = kept.filled(PRESENT[message["type"]]()).SerializeToString(deterministic=True)
    read = _compiled(kept.KEPT)[message["type"]].FromString(wire)
    assert _covers(kept.says(kept.filled(PRESENT[message["type"]]())), _says(read))
    assert read.SerializeToString(deterministic=True) == wire


@pytest.mark.rows("B14")
def test_the_present_reader_understands_a_newer_writer(tmp_path: Path) -> None:
    """Fields and words that are yet to be invented do not disturb it: they are kept, and passed on byte for byte."""
    newer = _compiled(_newer(tmp_path))
    assert newer.keys() == PRESENT.keys()
    for name, shape in PRESENT.items():
        written = kept.filled(newer[name]())
        read = shape.FromString(written.SerializeToString(deterministic=True))
        assert "added_later" not in kept.says(read), name
        assert read.SerializeToString(deterministic=True) == written.SerializeToString(deterministic=True), name
        again = newer[name].FromString(read.SerializeToString())
        assert again == written, name


def test_the_corpus_has_each_message_with_each_field() -> None:
    """No field of the last release is left out of what the readers are held against."""
    shapes = _compiled(kept.KEPT)
    assert [each["type"] for each in MESSAGES] == list(shapes)
    for each in MESSAGES:
        choices = {field.name for one in shapes[each["type"]].DESCRIPTOR.oneofs for field in one.fields[:-1]}
        assert each["says"].keys() == {field.name for field in shapes[each["type"]].DESCRIPTOR.fields} - choices


# --- the documents --------------------------------------------------------------------------------------------------------


def _drop(*place: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        _in(document, place[:-1]).pop(place[-1])

    return change


def _put(*place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        _in(document, place[:-1])[place[-1]] = value

    return change


def _in(document: Any, place: tuple[str, ...]) -> Any:
    for part in place:
        document = document[part]
    return document


SMALL: dict[str, Any] = yaml.safe_load("""
paths:
  /things:
    get:
      security: [{}, {token: [read]}]
      parameters:
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100}}
      responses:
        "200": {content: {application/json: {schema: {$ref: "#/components/schemas/Thing"}}}}
        "404": {content: {application/json: {schema: {type: object}}}}
    post:
      requestBody:
        content:
          application/json:
            schema:
              type: object
              required: [name]
              properties:
                name: {type: string, maxLength: 20}
                kind: {type: string, enum: [red, blue]}
                size: {type: [number, "null"]}
      responses:
        "201": {content: {application/json: {schema: {$ref: "#/components/schemas/Thing"}}}}
components:
  schemas:
    Thing:
      type: object
      required: [id, kind, parts]
      properties:
        id: {type: string}
        kind: {type: string, enum: [red, blue]}
        at: {type: string, format: date-time}
        size: {oneOf: [{type: number}, {type: string}]}
        parts: {type: array, items: {$ref: "#/components/schemas/Thing"}}
""")
GET, POST = ("paths", "/things", "get"), ("paths", "/things", "post")
SENT = (*POST, "requestBody", "content", "application/json", "schema", "properties")
THING = ("components", "schemas", "Thing")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_drop("paths", "/things"), "GET /things is gone."),
        (_drop(*POST), "POST /things is gone."),
        (_put(*GET, "security", value=[{"token": ["read"]}]), "GET /things asks for more than nothing."),
        (_put(*GET, "security", value=[{}, {"token": ["admin"]}]), "GET /things asks for more than {'token': ['read']}."),
        (_put(*GET, "parameters", value=[]), "GET /things no longer takes limit in its query."),
        (_put(*POST, "parameters", value=[{"name": "x", "in": "query", "required": True}]), "POST /things needs x in its query."),
        (_put(*POST, "requestBody", "required", value=True), "POST /things needs a body."),
        (_drop(*SENT, "kind"), "POST /things, body.kind is gone."),
        (_put(*SENT, "kind", "enum", value=["red"]), "POST /things, body.kind changes its words."),
        (_put(*SENT, "size", "type", value="integer"), "POST /things, body.size changes from integer or null or number to integer."),
        (_put(*SENT, "name", "maxLength", value=10), "POST /things, body.name has a lower maxLength."),
        (_put(*SENT, "name", "pattern", value="a+"), "POST /things, body.name has another pattern."),
        (_put(*SENT[:-1], "required", value=["name", "kind"]), "POST /things, body.kind is needed."),
        (_put(*POST, "responses", "202", value={}), "POST /things may answer 202."),
        (_drop(*POST, "responses", "201"), "POST /things no longer answers 201."),
        (_drop(*GET, "responses", "200", "content", "application/json"), "GET /things, answer 200: application/json is gone."),
        (_drop(*THING, "properties", "at"), "GET /things, answer 200.at is gone."),
        (_put(*THING, "required", value=["id", "kind"]), "GET /things, answer 200.parts is no longer always there."),
        (_put(*THING, "properties", "kind", "enum", value=["red", "blue", "green"]), "GET /things, answer 200.kind changes its words."),
        (_put(*THING, "properties", "id", "type", value="integer"), "GET /things, answer 200.id changes from string to integer."),
        (
            _put(*THING, "properties", "id", "type", value=["string", "null"]),
            "GET /things, answer 200.id changes from string to null or string.",
        ),
        (_drop(*THING, "properties", "at", "format"), "GET /things, answer 200.at has another format."),
        (
            _put(*THING, "properties", "parts", "items", value={"type": "string"}),
            "GET /things, answer 200.parts[] changes from object to string.",
        ),
        (
            _put(*THING, "properties", "size", "oneOf", value=[{"type": "number"}, {"type": "boolean"}]),
            "GET /things, answer 200.size changes its shapes.",
        ),
    ],
)
def test_a_break_of_a_document_is_seen(change: Callable[[dict[str, Any]], None], says: str) -> None:
    """Whatever would break a caller of the last release is named, with where it is."""
    changed = copy.deepcopy(SMALL)
    change(changed)
    assert says in breaking(SMALL, changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        _put("paths", "/more", value={"get": {"responses": {}}}),
        _put(*GET, "security", value=[{}, {"token": []}]),
        _put(*GET, "parameters", value=[*SMALL["paths"]["/things"]["get"]["parameters"], {"name": "x", "in": "query"}]),
        _put(*GET, "responses", "503", value={}),
        _put(*SENT, "more", value={"type": "string"}),
        _put(*SENT, "kind", "enum", value=["red", "blue", "green"]),
        _put(*SENT, "name", "maxLength", value=30),
        _put(*SENT, "name", "type", value=["string", "null"]),
        _put(*SENT[:-1], "required", value=[]),
        _put(*THING, "properties", "more", value={"type": "string"}),
        _put(*THING, "properties", "kind", "enum", value=["red"]),
        _put(*THING, "required", value=["id", "kind", "parts", "at"]),
        _put(*THING, "properties", "size", "oneOf", value=[{"type": "number"}]),
    ],
)
def test_what_breaks_nobody_passes(change: Callable[[dict[str, Any]], None]) -> None:
    """More may be taken, less may be given, and members may be added."""
    changed = copy.deepcopy(SMALL)
    change(changed)
    assert breaking(SMALL, changed) == []


@pytest.mark.parametrize("name", kept.RELIED_ON)
def test_the_gate_reads_our_documents(tmp_path: Path, name: str) -> None:
    """In a copy of the present document, whichever operation is taken out is missed."""
    document = yaml.load((kept.KEPT / name).read_text(), yaml.CSafeLoader)
    for path, methods in document["paths"].items():
        for method in methods.keys() - {"parameters"}:
            without = {**document, "paths": {**document["paths"], path: {it: methods[it] for it in methods if it != method}}}
            assert breaking(document, without) == [f"{method.upper()} {path} is gone."]


# --- readers of other days ------------------------------------------------------------------------------------------------


def _newer(folder: Path) -> Path:
    """The schema of a day to come."""
    place = folder / "newer"
    shutil.copytree(kept.SCHEMA, place, ignore=shutil.ignore_patterns("*.py", "*.pyi"))
    for file in place.rglob("*.proto"):
        text = re.sub(r"^( *)message \w+ \{$", r"\g<0>\n\1  string added_later = 9000;", file.read_text(), flags=re.MULTILINE)
        file.write_text(re.sub(r"^( *)(\w+)_UNSPECIFIED = 0;$", r"\g<0>\n\1\2_ADDED_LATER = 9000;", text, flags=re.MULTILINE))
        assert "added_later" in file.read_text()
        assert "ADDED_LATER" in file.read_text() or "_UNSPECIFIED" not in text
    return place


@cache
def _compiled(schema: Path) -> dict[str, Any]:
    """The messages of a schema, by name, as readers that were built with it have them."""
    protoc = str(Path(sys.executable).with_name("protoc"))
    files = sorted(str(file.relative_to(schema)) for file in schema.rglob("*.proto"))
    built = subprocess.run([protoc, f"-I{schema}", "--include_imports", "-o/dev/stdout", *files], capture_output=True, check=True)
    pool = descriptor_pool.DescriptorPool()
    descriptors = descriptor_pb2.FileDescriptorSet.FromString(built.stdout)
    for file in descriptors.file:
        pool.Add(file)
    ours = [f"{file.package}.{it.name}" for file in descriptors.file if file.package.startswith("oo.") for it in file.message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in sorted(ours)}


def _says(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=message.DESCRIPTOR.file.pool)


def _covers(more: Any, less: Any) -> bool:
    """Whether everything that one says is said by the other, too."""
    if isinstance(more, dict) and isinstance(less, dict):
        return all(name in more and _covers(more[name], less[name]) for name in less)
    return bool(more == less)
