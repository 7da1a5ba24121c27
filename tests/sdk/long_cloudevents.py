"""Events as CloudEvents in protobuf, read by a library that is not ours. Part of the long run: it brings gRPC along."""

from __future__ import annotations

import pytest
from google.cloud.eventarc_publishing_v1.types import CloudEvent as Theirs
from hypothesis import given
from sdk.test_cloudevents import events

from oo_sdk import NormalizedEvent, cloudevents
from oo_sdk.cloudevents import CloudEvent


@pytest.mark.rows("B15")
@given(events())
def test_the_protobuf_of_others_reads_them(event: NormalizedEvent) -> None:
    """Google's message of CloudEvents reads ours to the last field, and what it writes again is still our event."""
    theirs = Theirs.deserialize(cloudevents.as_protobuf(event, "1-7").SerializeToString())
    assert (theirs.id, theirs.source, theirs.spec_version, theirs.type_) == (event.id, f"/acme/{event.connection}", "1.0", "acme.note")
    said = cloudevents.as_json(event, "1-7")
    assert theirs.attributes["subject"].ce_string == said["subject"]
    assert theirs.attributes["position"].ce_string == "1-7"
    assert CloudEvent.FromString(Theirs.serialize(theirs)).attributes.keys() == theirs.attributes.keys()
    assert cloudevents.from_protobuf(CloudEvent.FromString(Theirs.serialize(theirs))) == event
