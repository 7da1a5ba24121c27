"""What Google says when it says no, in its own error body."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class Refusal(Exception):
    """A request that Google refuses."""

    def __init__(self, status: int, reason: str, message: str, *, domain: str = "global", location: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.domain = domain
        self.location = location

    def body(self) -> Json:
        """Give the body that every refusal of the API has."""
        fault = {"domain": self.domain, "reason": self.reason, "message": self.message}
        if self.location:
            fault |= {"locationType": "header" if self.location[0].isupper() else "parameter", "location": self.location}
        return {"error": {"code": self.status, "message": self.message, "errors": [fault]}}


def invalid(location: str, message: str = "Invalid Value") -> Refusal:
    """A parameter or a member has a value that cannot be."""
    return Refusal(400, "invalid", message, location=location)


def required(location: str) -> Refusal:
    """A member that must be there is not."""
    return Refusal(400, "required", f"Missing {location}.", location=location)


def not_found() -> Refusal:
    """There is no such thing, or this person may not know of it."""
    return Refusal(404, "notFound", "Not Found")


def forbidden(reason: str = "forbidden", message: str = "Forbidden") -> Refusal:
    """The person may not do it."""
    return Refusal(403, reason, message, domain="calendar" if reason != "insufficientPermissions" else "global")


def unauthorized() -> Refusal:
    """The access token is missing, unknown, expired or revoked."""
    return Refusal(401, "authError", "Invalid Credentials", location="Authorization")


def too_old(reason: str = "fullSyncRequired") -> Refusal:
    """A sync token, or the time since which changes are wanted, is too old."""
    location = "updatedMin" if reason == "updatedMinTooLongAgo" else "syncToken"
    return Refusal(410, reason, "Sync token is no longer valid, a full sync is required.", domain="calendar", location=location)


def deleted() -> Refusal:
    """The entry was deleted before."""
    return Refusal(410, "deleted", "Resource has been deleted")


def changed() -> Refusal:
    """The entry is not as If-Match says."""
    return Refusal(412, "conditionNotMet", "Precondition Failed", location="If-Match")


def spent(reason: str = "userRateLimitExceeded", status: int = 403) -> Refusal:
    """Too many requests."""
    return Refusal(status, reason, "Rate Limit Exceeded", domain="usageLimits")
