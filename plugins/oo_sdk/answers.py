"""What a provider's answer means: the same in the daemon and in the tests of a connector."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urljoin

import msgspec

from oo_sdk.errors import ApiRetired, ConnectorBug, ConnectorError, QuotaSpent, RetryLater, SignInAgain, Unreadable
from oo_sdk.session import Response, Session, Sign
from oo_sdk.structs import decode

if TYPE_CHECKING:
    from oo_sdk.connector import Connector

T = TypeVar("T")
#: Nobody is waited for longer.
LONGEST: Final = timedelta(days=1)
#: Where providers say how much is left, and when there is more: seconds from now, or a time since 1970.
_LIMITS: Final = (
    ("ratelimit-remaining", "ratelimit-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("x-rate-limit-remaining", "x-rate-limit-reset"),
)
#: The headers without which nobody is asked to wait.
WAITS: Final = frozenset({"retry-after", *(reset for _, reset in _LIMITS)})
#: A larger number is a time since 1970, not a wait.
_TIME: Final = 1_000_000_000
_LINK = re.compile(r"\s*<(?P<url>[^>]*)>(?P<parameters>.*)", re.DOTALL)
_RELATION = re.compile(r';\s*rel\s*=\s*(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s;,"]+))', re.IGNORECASE)


def meaning(connector: Connector, response: Response, sign: Sign, now: datetime) -> ConnectorError:
    """The error that an answer is: by the connector's own words first, else by its status.

    403 and 429 are `QuotaSpent` where the provider says that nothing is left and when there is more, and 403 with a `Retry-After` is
    `RetryLater`: so GitHub does.
    """
    explained = connector.explain(response)
    if explained is not None:
        return explained
    message, wait, reset = f"the provider answered {response.status}", asked_wait(response.headers, now), spent(response.headers, now)
    meant = connector.errors.get(response.status)
    if meant is RetryLater:
        return RetryLater(message, after=wait)
    if meant is not None and not issubclass(meant, QuotaSpent | Unreadable):
        return meant(message)
    match response.status:
        case 401 if sign is Sign.USER:
            return SignInAgain("the provider refuses the credential, also after it was renewed")
        case 401 if sign is Sign.CLIENT:
            return RetryLater("the provider refuses our registration: check its client id and client secret", after=timedelta(minutes=15))
        case 403 | 429 if reset is not None:
            return QuotaSpent(until=now + reset)
        case 403 if wait is not None:
            return RetryLater(message, after=wait)
        case 408 | 425 | 429:
            return RetryLater(message, after=wait)
        case 410:
            return ApiRetired("the provider says that this address is gone for good")
        case status if status >= 500:
            return RetryLater(message, after=wait)
        case _:
            return ConnectorBug(message)


def asked_wait(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long to wait, at most a day, by whichever header asks for the longest; None where none does."""
    return max((wait for wait in (retry_after(headers.get("retry-after"), now), spent(headers, now)) if wait is not None), default=None)


def spent(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long until there is more, where it is said that nothing is left; None where it is not said."""
    resets = [_reset(headers[reset], now) for left, reset in _LIMITS if reset in headers and headers.get(left, "").strip() == "0"]
    return max((wait for wait in resets if wait is not None), default=None)


def _reset(text: str, now: datetime) -> timedelta | None:
    try:
        value = float(text)
    except ValueError:
        return retry_after(text, now)
    seconds = value - now.timestamp() if value >= _TIME else value
    return timedelta(seconds=min(max(seconds, 0.0), LONGEST.total_seconds())) if seconds == seconds else None


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """What Retry-After says, in seconds or as a date (RFC 9110 section 10.2.3): at most a day; None where it makes no sense."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(float(text), LONGEST.total_seconds()))
    try:
        date = parsedate_to_datetime(text)
        # A date without a zone is in UTC: one of the three forms of RFC 9110 section 5.6.7 has none.
        wait = (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError):
        return None
    return min(max(wait, timedelta()), LONGEST)


def decoded(response: Response, into: type[T]) -> T:
    """The JSON of an answer, of the declared shape. `RetryLater` where it is a web page, or cut short; `ConnectorBug` for another shape."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in {"text/html", "application/xhtml+xml"}:
        raise RetryLater(f"the provider answered {response.status} with a web page where JSON was asked for")
    try:
        response.body.decode()
        return decode(response.body, into)
    except UnicodeDecodeError:
        pass
    except ConnectorBug:
        if _is_json(response.body):
            raise
    raise RetryLater(f"the provider answered {response.status} with JSON that is cut short or broken")


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def next_link(response: Response) -> str | None:
    """Where the next page is, by a `Link` header with the relation "next" (RFC 8288); None after the last page."""
    for link in re.split(r",(?=\s*<)", response.headers.get("link", "")):
        found = _LINK.fullmatch(link)
        relation = _RELATION.search(found["parameters"]) if found else None
        if found and relation and "next" in (relation["quoted"] or relation["bare"] or "").lower().split():
            return found["url"]
    return None


async def pages(http: Session, url: str, *, into: type[T], params: Mapping[str, Any] | None = None) -> AsyncIterator[T]:
    """GET a list page by page, as each page's `Link` header names the next (RFC 8288). `params` are of the first one.

    Raises what `Session` raises, and `ConnectorBug` where a page names one that was read already.
    """
    following, read = url, set[str]()
    while True:
        response = await http.request("GET", following, params=params)
        yield decoded(response, into)
        link = next_link(response)
        if link is None:
            return
        read.add(following)
        following, params = urljoin(following, link), None
        if following in read:
            raise ConnectorBug("the provider's pages go round in a circle: the next one was read already")
