"""The contract of the last release, kept in docs/contract: `python -m design.kept` says what breaks it, `… keep` keeps the present one.

The folder holds the .proto files, the OpenAPI documents, and one filled message of each kind as it was written then. Which release it is of
stands in its file `release`, and is the newest heading of CHANGELOG.md: "none" before the first one.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from design.breaking import breaking
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from oo_sdk._schema.oo.cloudevents.v1 import cloudevents_pb2
from oo_sdk._schema.oo.events.v1 import event_pb2
from oo_sdk._schema.oo.vocabulary.v1 import vocabulary_pb2

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "contract"
SCHEMA = ROOT / "plugins" / "oo_sdk" / "_schema"
DOCUMENTS = ROOT / "daemon" / "oo_daemon" / "ingress"
#: The documents that others rely on; the console's pages are for people, and change as they like.
RELIED_ON = ("openapi.yaml", "public.yaml")
REMEDY = (
    "Until the first release a change may break the contract, openly: run `make contract` and commit what it writes. "
    "Afterwards add beside what is there, and leave that as it is."
)


def release() -> str:
    """The newest one that CHANGELOG.md knows."""
    headings: list[str] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    return next((each for each in headings if each != "Unreleased"), "none")


def broken(schema: Path = SCHEMA, documents: Path = DOCUMENTS, kept: Path = KEPT) -> Iterator[str]:
    """What no longer holds of what is kept."""
    buf = [str(Path(sys.executable).with_name("buf")), "breaking", str(schema), "--against", str(kept)]
    yield from subprocess.run(buf, capture_output=True, text=True, check=False).stdout.splitlines()
    for name in RELIED_ON:
        old, new = (yaml.load((folder / name).read_text("utf-8"), yaml.CSafeLoader) for folder in (kept, documents))
        yield from (f"{name}: {each}" for each in breaking(old, new))


def keep() -> None:
    """Keep the present contract. Of a release that is out, only what was added since may be kept."""
    kept = (KEPT / "release").read_text().strip() if KEPT.exists() else "none"
    if kept == release() != "none" and (found := list(broken())):
        raise SystemExit("\n".join([*found, f"{kept} is released and others rely on it: add beside what is there instead."]))
    shutil.rmtree(KEPT / "oo", ignore_errors=True)
    for file in sorted(SCHEMA.rglob("*.proto")):
        place = KEPT / file.relative_to(SCHEMA)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    for name in RELIED_ON:
        shutil.copyfile(DOCUMENTS / name, KEPT / name)
    (KEPT / "release").write_text(release() + "\n")
    (KEPT / "messages.jsonl").write_text("".join(json.dumps(each) + "\n" for each in written()))


def written() -> Iterator[dict[str, Any]]:
    """One filled message of each kind: its bytes, and what they say."""
    for file in (cloudevents_pb2, event_pb2, vocabulary_pb2):
        for name in sorted(file.DESCRIPTOR.message_types_by_name):
            message = filled(getattr(file, name)())
            wire = base64.b64encode(message.SerializeToString(deterministic=True)).decode()
            yield {"type": message.DESCRIPTOR.full_name, "bytes": wire, "says": says(message)}


def says(message: Message) -> Any:
    """A message as JSON, under the names of the schema."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def filled(message: Any, depth: int = 0) -> Any:
    """Fill each field with something of its own; of a choice, the last."""
    for each in message.DESCRIPTOR.fields:
        if each.message_type is None:
            value = _value(each)
            if each.is_repeated:
                getattr(message, each.name).append(value)
            else:
                setattr(message, each.name, value)
        elif each.message_type.GetOptions().map_entry:
            key, value = each.message_type.fields_by_name["key"], each.message_type.fields_by_name["value"]
            if value.message_type is None:
                getattr(message, each.name)[_value(key)] = _value(value)
            else:
                filled(getattr(message, each.name)[_value(key)], depth + 1)
        elif each.message_type.full_name == "google.protobuf.Any":
            getattr(message, each.name).Pack(filled(vocabulary_pb2.Task()), type_url_prefix="oo")
        elif each.message_type.full_name == "google.protobuf.Struct":
            getattr(message, each.name).update({"n": each.number})
        elif depth < 3:
            filled(getattr(message, each.name).add() if each.is_repeated else getattr(message, each.name), depth + 1)
    return message


def _value(each: Any) -> Any:
    match each.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return f"text {each.number}" if each.type == FieldDescriptor.TYPE_STRING else bytes([each.number])
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_ENUM:
            return max(value.number for value in each.enum_type.values)
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return each.number + 0.5
        case _:
            return each.number


if __name__ == "__main__":
    if sys.argv[1:] == ["keep"]:
        keep()
    elif found := list(broken()):
        sys.exit("\n".join([*found, REMEDY]))
