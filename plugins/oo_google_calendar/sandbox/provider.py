"""The provider as one function from requests to answers: Calendar v3, the token endpoint and revocation, and what goes wrong there."""

from __future__ import annotations

from collections import Counter
from typing import Any

from oo_google_calendar.sandbox.api import Api
from oo_google_calendar.sandbox.channels import Channels
from oo_google_calendar.sandbox.grants import NotGranted
from oo_google_calendar.sandbox.misbehaviour import Misbehaviour
from oo_google_calendar.sandbox.refusals import Refusal, spent, unauthorized
from oo_google_calendar.sandbox.wire import Answer, Asked
from oo_google_calendar.sandbox.world import World

Json = dict[str, Any]

CALENDAR = ("calendar", "v3")
_REFUSALS = {
    "status_429": spent("rateLimitExceeded", 429),
    "rate_limit": spent("rateLimitExceeded"),
    "user_rate_limit": spent("userRateLimitExceeded"),
    "quota": spent("quotaExceeded"),
    "daily_limit": spent("dailyLimitExceeded"),
    "not_configured": Refusal(403, "accessNotConfigured", "Google Calendar API has not been used in this project.", domain="usageLimits"),
    "unauthorized": unauthorized(),
}
_PAGE = "<!doctype html><title>Error</title><p>The server encountered a temporary error.</p>"


class Provider:
    """What answers for Google. `requests` counts what was asked, by "METHOD path"."""

    def __init__(self, world: World, misbehaviour: Misbehaviour, channels: Channels) -> None:
        self._world = world
        self._misbehaviour = misbehaviour
        self.api = Api(world, misbehaviour, channels)
        self.requests: Counter[str] = Counter()

    def answer(self, asked: Asked) -> Answer:
        """Answer one request."""
        self.requests[f"{asked.method} /{'/'.join(asked.path)}"] += 1
        where = "api" if asked.path[:2] == CALENDAR else "token"
        for name, args in self._misbehaviour.taken("before", where)[:1]:
            if name in _REFUSALS:
                return Answer(status=_REFUSALS[name].status, body=_REFUSALS[name].body())
            if name == "html_answer":
                return Answer(body=_PAGE, headers={"Content-Type": "text/html"})
            headers = {"Retry-After": str(args["seconds"])} if name == "status_503" else {}
            return Answer(status=503 if headers else 500, body={"error": {"code": 500, "message": "Backend Error"}}, headers=headers)
        match asked.method, asked.path:
            case _, ("calendar", "v3", *path):
                return self._spoiled(self.api.answer(_at(asked, path)))
            case "POST", ("token",):
                return self._token(asked.form())
            case "POST", ("revoke",):
                return self._revoke({**asked.query, **asked.form()})
        return Answer(status=404, body={"error": {"code": 404, "message": "Not Found"}})

    def _token(self, form: Json) -> Answer:
        grants = self._world.grants
        try:
            match form.get("grant_type"):
                case "authorization_code":
                    given = grants.exchange(form)
                case "refresh_token":
                    given = grants.refresh(form)
                case _:
                    raise NotGranted("unsupported_grant_type", "Invalid grant_type")
        except NotGranted as no:
            return Answer(status=no.status, body={"error": no.error, "error_description": no.words})
        return Answer(body=given, headers={"Cache-Control": "no-store"})

    def _revoke(self, form: Json) -> Answer:
        try:
            self._world.grants.revoke(form.get("token", ""))
        except NotGranted as no:
            return Answer(status=400, body={"error": no.error, "error_description": no.words})
        return Answer(body={})

    def _spoiled(self, answer: Answer) -> Answer:
        if isinstance(answer.body, dict) and answer.status == 200:
            if self._misbehaviour.take("unknown_fields") is not None:
                items = [{**item, "sandboxUnknown": {"nested": [1, None]}} for item in answer.body.get("items", ())]
                answer.body = {**answer.body, "sandboxUnknown": ["of the future"], **({"items": items} if items else {})}
            if "items" in answer.body and self._misbehaviour.take("duplicate_items") is not None:
                answer.body = {**answer.body, "items": [*answer.body["items"], *answer.body["items"]]}
        return answer


def _at(asked: Asked, path: list[str]) -> Asked:
    return Asked(method=asked.method, path=tuple(path), query=asked.query, headers=asked.headers, body=asked.body)
