"""What Todoist says when it says no, in its own error body.

Codes 15, 19, 20, 21, 22, 35, 403, 477 and 478 and their tags were seen on the wire or in Todoist's documentation; where none was
found the nearest of them is used, and the README says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: error_extra.retry_after on ordinary 401 and 404 answers; it is no rate-limit signal there
COURTESY_SECONDS = 3

_KINDS = {"items": ("Item", 22), "projects": ("Project", 21), "sections": ("Section", 478), "labels": ("Label", 478)}


class Refusal(Exception):
    """A request or a command that Todoist refuses: change it before sending it again."""

    def __init__(self, status: int, code: int, tag: str, error: str, headers: Mapping[str, str] | None = None, **extra: Any):
        super().__init__(error)
        self.status = status
        self.code = code
        self.tag = tag
        self.error = error
        self.headers = dict(headers or {})
        self.extra = extra

    def body(self, **more: Any) -> dict[str, Any]:
        """Give the five members every Todoist error has; `more` joins error_extra."""
        return {
            "error": self.error,
            "error_code": self.code,
            "error_extra": {**self.extra, **more},
            "error_tag": self.tag,
            "http_code": self.status,
        }


def missing(argument: str) -> Refusal:
    """An argument that must be there is not."""
    return Refusal(400, 19, "ARGUMENT_MISSING", "Required argument is missing", argument=argument)


def invalid(argument: str, **extra: Any) -> Refusal:
    """An argument has a value that cannot be; `expected` or `explanation` may say why."""
    return Refusal(400, 20, "INVALID_ARGUMENT_VALUE", "Invalid argument value", argument=argument, **extra)


def unknown_temp_id(argument: str) -> Refusal:
    """A command refers to a temp_id that no earlier command of the request made."""
    return Refusal(400, 15, "INVALID_TEMPID", "Invalid temporary id", argument=argument)


def no_such(kind: str) -> Refusal:
    """A command names an object that is not there or was deleted."""
    noun, code = _KINDS.get(kind, (kind.removesuffix("s").replace("_", " ").capitalize(), 478))
    return Refusal(404, code, f"{noun.upper().replace(' ', '_')}_NOT_FOUND", f"{noun} not found")


def not_found(noun: str) -> Refusal:
    """A REST address names nothing."""
    return Refusal(404, 478, "NOT_FOUND", f"{noun} not found")


def unauthorized() -> Refusal:
    """The access token is missing, unknown, expired or revoked."""
    return Refusal(401, 477, "UNAUTHORIZED", "Unauthorized", {"WWW-Authenticate": "Bearer"})


def outside_scope() -> Refusal:
    """The token is good, but its scopes do not reach this far."""
    return Refusal(403, 403, "AUTH_INSUFFICIENT_TOKEN_SCOPE", "Insufficient Token scope", access_type="access_token")


def unavailable() -> Refusal:
    """Todoist cannot do it now."""
    return Refusal(503, 503, "SERVICE_UNAVAILABLE", "Service unavailable")


def too_many(seconds: int) -> Refusal:
    """The rate limit is spent for so many seconds."""
    return Refusal(
        429,
        35,
        "LIMITS_REACHED",
        "Too many requests. Limits reached. Try again later",
        {"Retry-After": str(seconds)},
        retry_after=seconds,
    )
