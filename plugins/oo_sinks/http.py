"""The HTTP sink: posts events to an address, signed as Standard Webhooks says."""

from __future__ import annotations

import asyncio
import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Final

from oo_sdk import NormalizedEvent, Outlet, RetryLater, Sink, Unreadable, cloudevents
from oo_sinks.forms import Form, shown, written

#: Secrets of Standard Webhooks begin so; bytes that one has.
PREFIX: Final = "whsec_"
SHORTEST, LONGEST = 24, 64
#: Answers that are about the event, and not about the address or the moment.
ABOUT_THE_EVENT: Final = frozenset({400, 406, 411, 413, 415, 422})
#: Longest wait (seconds) that is believed.
DAY: Final = 86_400


class Http(Sink):
    """Posts events. Any answer of 200 to 299 says that they are taken."""

    id = "http"

    class Settings(Sink.Settings):
        """Where to, signed with what, and in which form."""

        url: str
        secrets: tuple[str, ...] = ()  #: `whsec_…`, newest first; each signs, so that they can be changed without a refused delivery
        secrets_file: str = ""  #: a file with them instead, one a line
        together: bool = False  #: several events in one request
        form: Form = "json"

        def __post_init__(self) -> None:
            """Refuse what could not work."""
            if bool(self.secrets) == bool(self.secrets_file):
                raise ValueError("write either secrets or secrets_file")
            list(map(key, self.secrets))

    settings: Settings

    async def open(self, outlet: Outlet) -> None:
        """Read the secrets."""
        self._outlet = outlet
        given: Iterable[str] = self.settings.secrets
        if self.settings.secrets_file:
            try:
                given = (await asyncio.to_thread(Path(self.settings.secrets_file).read_text, "utf-8")).split()
            except (OSError, UnicodeDecodeError) as wrong:
                raise RetryLater(f"secrets_file cannot be read ({type(wrong).__name__})") from None
        try:
            self._keys = [key(secret) for secret in given]
        except ValueError as wrong:
            raise RetryLater(f"secrets_file does not fit: {wrong}") from None
        if not self._keys:
            raise RetryLater("secrets_file holds no secret")

    async def deliver(self, events: Sequence[NormalizedEvent]) -> int:
        """Post them, one by one or together."""
        if self.settings.together:
            await self._post(self._id(events), self._together(events), cloudevents.JSON_BATCH)
            return len(events)
        for done, event in enumerate(events):
            try:
                await self._post(event.id, self._alone(event), cloudevents.JSON)
            except Exception:
                if done:
                    return done  # the one that failed comes first the next time, and is then spoken of
                raise
        return len(events)

    @staticmethod
    def _id(events: Sequence[NormalizedEvent]) -> str:
        """The same for the same events."""
        return blake2b("".join(event.id for event in events).encode(), digest_size=16).hexdigest()

    def _alone(self, event: NormalizedEvent) -> Any:
        if self.settings.form == "cloudevents":
            return shown(event, "cloudevents")
        when = event.occurred_at if event.HasField("occurred_at") else event.observed_at
        return {"type": event.type, "timestamp": when.ToJsonString(), "data": shown(event, "json")}

    def _together(self, events: Sequence[NormalizedEvent]) -> Any:
        made = [shown(event, self.settings.form) for event in events]
        if self.settings.form == "cloudevents":
            return made
        return {"type": "events", "timestamp": events[-1].observed_at.ToJsonString(), "data": made}

    async def _post(self, id_: str, value: Any, cloud: str) -> None:
        body = written(value)
        headers = signed(self._keys, id_, int(self._outlet.clock.now().timestamp()), body)
        kind = cloud if self.settings.form == "cloudevents" else "application/json"
        answer = await self._outlet.http.post(self.settings.url, body, {"Content-Type": kind, **headers})
        judge(answer.status, answer.headers)


def key(secret: str) -> bytes:
    """The bytes of a secret. Raises ValueError, which does not repeat it."""
    try:
        found = b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a secret is whsec_ and base64") from None
    if not SHORTEST <= len(found) <= LONGEST:
        raise ValueError(f"a secret has {SHORTEST} to {LONGEST} bytes")
    return found


def signed(keys: Sequence[bytes], id_: str, now: int, body: bytes) -> Mapping[str, str]:
    """The headers of Standard Webhooks, with a signature by each key."""
    content = f"{id_}.{now}.".encode() + body
    signatures = (b64encode(hmac.new(each, content, sha256).digest()).decode() for each in keys)
    return {"webhook-id": id_, "webhook-timestamp": str(now), "webhook-signature": " ".join(f"v1,{each}" for each in signatures)}


def judge(status: int, headers: Mapping[str, str]) -> None:
    """Say what an answer means, by an error where it is not well."""
    if 200 <= status < 300:
        return
    if status in ABOUT_THE_EVENT:
        raise Unreadable(f"the receiver answered {status}")
    if 300 <= status < 400:
        raise RetryLater(f"the receiver answered {status}: redirects are not followed, so write the final address as url")
    after = headers.get("retry-after", "")
    wait = timedelta(seconds=min(int(after), DAY)) if after.isascii() and after.isdigit() and len(after) < 9 else None
    raise RetryLater(f"the receiver answered {status}", after=wait)
