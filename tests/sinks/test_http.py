"""The HTTP sink: signed as Standard Webhooks says, and clear about what an answer means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat
from daemon.virtual import Notes
from oo_sinks.http import Http, key, signed
from standardwebhooks import Webhook, WebhookVerificationError

from oo_sdk import Change, NormalizedEvent, Outlet, Response, RetryLater, Unreadable, cloudevents
from oo_sdk.vocabulary import Document

OLD, NEW = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


class Now:
    """The time at which the receiver looks, too."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits")


@dataclass
class Receiver:
    """Answers as told, then 200; keeps what it was sent."""

    answers: list[Response] = field(default_factory=list)
    got: list[tuple[str, bytes, Mapping[str, str]]] = field(default_factory=list)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
        self.got.append((url, body, headers))
        return self.answers.pop(0) if self.answers else Response(status=204, headers={}, body=b"")


def event(number: int) -> NormalizedEvent:
    made = NormalizedEvent(
        id=f"{number:032x}", connection="c", user="ada", provider="acme", type="acme.note", subject=f"n{number}", revision=1
    )
    made.change = Change.UPSERTED  # type: ignore[assignment]  # the numbers are the same
    made.observed_at.FromDatetime(datetime(2026, 11, 22, 9, 30, tzinfo=UTC))
    made.payload.Pack(Document(title="Café \N{SNOWMAN}"))
    return made


async def opened(receiver: Receiver, **settings: Any) -> Http:
    sink = Http()
    sink.settings = msgspec.convert({"url": "https://a.example/in", "secrets": [OLD], **settings}, Http.Settings)
    await sink.open(Outlet(name="billing", http=receiver, clock=Now(), log=Notes()))
    return sink


def verified(receiver: Receiver, secret: str) -> list[Any]:
    """What the library of Standard Webhooks makes of everything that came. Raises where it does not fit."""
    return [Webhook(secret).verify(body, dict(headers)) for _, body, headers in receiver.got]


async def test_the_library_of_standard_webhooks_takes_it() -> None:
    """Each event is a request, its id that of the event, and its signature fits; one that was changed on the way does not."""
    receiver = Receiver()
    sink = await opened(receiver)
    assert await sink.deliver([event(1), event(2)]) == 2
    first, second = verified(receiver, OLD)
    assert (first["type"], first["timestamp"], first["data"]["id"]) == ("acme.note", "2026-11-22T09:30:00Z", event(1).id)
    assert second["data"]["payload"]["title"] == "Café \N{SNOWMAN}"
    assert [headers["webhook-id"] for _, _, headers in receiver.got] == [event(1).id, event(2).id]
    url, body, headers = receiver.got[0]
    assert (url, headers["Content-Type"]) == ("https://a.example/in", "application/json")
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(body.replace(b"acme", b"evil"), dict(headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body, dict(headers))


def test_the_signature_is_that_of_the_library() -> None:
    """Byte for byte, for the same id, second and body."""
    now = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
    ours = signed([key(OLD), key(NEW)], "msg_1", int(now.timestamp()), b'{"a":1}')
    assert ours["webhook-signature"].split(" ") == [Webhook(each).sign("msg_1", now, '{"a":1}') for each in (OLD, NEW)]


async def test_every_secret_signs(tmp_path: Path) -> None:
    """While secrets are changed a receiver that knows either one takes it; they may lie in a file, which is read again after a failure."""
    receiver = Receiver()
    file = tmp_path / "secrets"
    file.write_text(f"{NEW}\n{OLD}\n")
    sink = await opened(receiver, secrets=[], secrets_file=str(file))
    await sink.deliver([event(1)])
    assert verified(receiver, OLD) == verified(receiver, NEW)
    file.write_text(NEW)
    receiver.got.clear()
    await sink.open(Outlet(name="billing", http=receiver, clock=Now(), log=Notes()))
    await sink.deliver([event(1)])
    verified(receiver, NEW)
    with pytest.raises(WebhookVerificationError):
        verified(receiver, OLD)
    file.unlink()
    with pytest.raises(RetryLater, match="secrets_file cannot be read"):
        await sink.open(Outlet(name="billing", http=receiver, clock=Now(), log=Notes()))


async def test_together_and_as_cloudevents() -> None:
    """Many in one request, under an id that is the same for the same events; and as CloudEvents, which their library reads."""
    receiver = Receiver()
    sink = await opened(receiver, together=True)
    for _ in range(2):
        assert await sink.deliver([event(1), event(2)]) == 2
    (one, two) = verified(receiver, OLD)
    assert (one, one["type"], [each["subject"] for each in one["data"]]) == (two, "events", ["n1", "n2"])
    assert len({headers["webhook-id"] for _, _, headers in receiver.got}) == 1
    receiver.got.clear()
    await (await opened(receiver, together=True, form="cloudevents")).deliver([event(1), event(2)])
    await (await opened(receiver, form="cloudevents")).deliver([event(3)])
    assert [headers["Content-Type"] for _, _, headers in receiver.got] == [cloudevents.JSON_BATCH, cloudevents.JSON]
    batch, alone = verified(receiver, OLD)
    assert [cloudevents.from_json(each) for each in [*batch, alone]] == [event(1), event(2), event(3)]
    assert JSONFormat().read(None, json.dumps(alone)).get_subject() == "n3"


@pytest.mark.parametrize(
    ("status", "headers", "error", "after"),
    [
        (422, {}, Unreadable, None),
        (400, {}, Unreadable, None),
        (401, {}, RetryLater, None),
        (410, {}, RetryLater, None),
        (302, {}, RetryLater, None),
        (429, {"retry-after": "120"}, RetryLater, timedelta(minutes=2)),
        (503, {"retry-after": "99999999"}, RetryLater, timedelta(days=1)),
        (503, {"retry-after": "soon"}, RetryLater, None),
        (500, {}, RetryLater, None),
    ],
)
async def test_what_an_answer_means(status: int, headers: dict[str, str], error: type[Exception], after: timedelta | None) -> None:
    """What is about the event is said of the event, the rest waits; what was taken before it counts."""
    bad = Response(status=status, headers=headers, body=b"s3cret")
    receiver = Receiver([Response(status=200, headers={}, body=b""), bad, bad])
    sink = await opened(receiver)
    assert await sink.deliver([event(1), event(2)]) == 1
    with pytest.raises(error, match=f"answered {status}") as told:
        await sink.deliver([event(2)])
    assert getattr(told.value, "after", None) == after
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"secrets": []}, "either secrets or secrets_file"),
        ({"secrets_file": "/x"}, "either secrets or secrets_file"),
        ({"secrets": ["whsec_!"]}, "whsec_ and base64"),
        ({"secrets": ["whsec_c2hvcnQ="]}, "24 to 64 bytes"),
        ({"form": "xml"}, "form"),
    ],
)
async def test_settings_that_could_not_work(settings: dict[str, Any], says: str) -> None:
    """Without a secret nothing is sent, and a weak one is none; the refusal repeats none."""
    with pytest.raises(msgspec.ValidationError, match=says) as refused:
        await opened(Receiver(), **settings)
    assert "c2hvcnQ" not in str(refused.value)
