"""The forms in which events leave: oO's own JSON, or CloudEvents."""

from __future__ import annotations

import json
from typing import Any, Literal

from oo_sdk import NormalizedEvent, as_json, cloudevents

#: As an operator names them.
Form = Literal["json", "cloudevents"]


def shown(event: NormalizedEvent, form: Form) -> dict[str, Any]:
    """An event in one of the forms."""
    return cloudevents.as_json(event) if form == "cloudevents" else as_json(event)


def written(value: Any) -> bytes:
    """A value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
