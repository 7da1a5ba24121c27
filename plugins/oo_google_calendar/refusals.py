"""What Google Calendar's refusals mean. A status says little: of 403 alone there are a dozen kinds, told apart by their reason."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from oo_google_calendar.shapes import Refused
from oo_sdk import ConnectorBug, ConnectorError, CursorExpired, Response, RetryLater, SignInAgain, decode

#: Used up for a whole day: trying every few minutes would be no use.
A_WHILE: Final = timedelta(hours=1)
#: How long to wait for an operator to put the Cloud project right.
PROJECT: Final = timedelta(minutes=15)

TOO_MUCH: Final = {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "calendarUsageLimitsExceeded"}
#: Why Google does not push to an address: its certificate, or a host whose owner it does not know. No sign-in mends that.
UNWILLING: Final = {"push.webhookUrlUnauthorized", "push.webhookUrlNotHttps", "webhookUrlUnauthorized"}
SCOPE: Final = {"insufficientPermissions", "insufficientScopes", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}
DISABLED: Final = {"accessNotConfigured", "SERVICE_DISABLED"}


class Refusal(ConnectorBug):
    """Google will not do what was asked for; whoever asked knows whether that is a fault."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Google Calendar refuses the request{f' ({reason})' if reason else ''}; report it if it happens again")
        self.reason = reason


class Invalid(Refusal):
    """Something in the request cannot be (400)."""


class Forbidden(Refusal):
    """The person may not do it (403)."""


class NotThere(Refusal):
    """There is no such calendar or entry, or this person cannot see it (404)."""


class Taken(Refusal):
    """The id of a new entry is one that there is (409)."""


class Deleted(Refusal):
    """The entry is deleted already (410)."""


class ChangedMeanwhile(Refusal):
    """The entry is no longer as it was when it was read (412)."""


STATUSES: Final[dict[int, type[Refusal]]] = {
    400: Invalid,
    403: Forbidden,
    404: NotThere,
    409: Taken,
    410: Deleted,
    412: ChangedMeanwhile,
}


def meaning(response: Response) -> ConnectorError | None:
    """Say what a refusal means; None where the status says it all."""
    domain, reason = _why(response.body)
    if reason in UNWILLING:
        return RetryLater("Google does not push to our address: verify its host as a domain of the Cloud project", after=A_WHILE)
    if response.status == 410 and reason != "deleted":
        return CursorExpired("Google Calendar no longer knows where we left off")
    if response.status in {403, 429}:
        if reason == "dailyLimitExceeded":
            return RetryLater("Google's daily limit for this Cloud project is used up", after=A_WHILE)
        if reason in DISABLED:
            return RetryLater("the Google Calendar API is not enabled in the Cloud project of our client: enable it there", after=PROJECT)
        if reason in TOO_MUCH or domain == "usageLimits":
            return RetryLater("Google Calendar asks us to slow down", after=_asked(response))
        if reason in SCOPE:
            return SignInAgain("Google did not allow oO to read calendars: connect again and leave every box ticked")
    refusal = STATUSES.get(response.status)
    return refusal(reason) if refusal else None


def _why(body: bytes) -> tuple[str, str]:
    """Read the first reason; what is not a plain word is not repeated."""
    try:
        error = decode(body, Refused).error
    except ConnectorBug:
        return "", ""
    fault = error.errors[0] if error.errors else None
    words = (fault.domain if fault else None, fault.reason if fault else error.status)
    domain, reason = (word if word and re.fullmatch(r"[\w.]{1,60}", word) else "" for word in words)
    return domain, reason


def _asked(response: Response) -> timedelta | None:
    """Give how long Google asks us to wait, where it does; it does not promise to say."""
    seconds = response.headers.get("retry-after", "")
    return timedelta(seconds=int(seconds)) if re.fullmatch(r"[0-9]{1,6}", seconds) else None
