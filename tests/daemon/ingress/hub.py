"""A hub for the connect pages: remembers what it was asked, answers what it was told to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from oo_daemon.connections.connect import Asked, FlowRefused, KeyNotTaken, LinkGone, NotNow, NotTheirs, Offer, Outcome
from oo_daemon.ports import micros

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


def an_offer(text: str = "Todoist", *, account: str = "default", scopes: tuple[Asked, ...] | None = None) -> Offer:
    return Offer(
        provider_title=text,
        user_label=text if text != "Todoist" else "Ada",
        account=account,
        scopes=scopes
        or (
            Asked(id="read", sentence="See your tasks and when you complete them.", access="read"),
            Asked(id="change", sentence="Complete a task.", access="write", optional=True),
        ),
        kept=("Your tasks, to show them elsewhere.",),
        provider_origin="https://app.todoist.example",
        expires_at=NOW + timedelta(minutes=12, seconds=30),
    )


class StoppedClock:
    """Time stands still."""

    def now(self) -> int:
        return micros(NOW)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("these pages wait for nothing")


@dataclass
class Hub:
    """One link, `good`; one state, `fresh`, for the browser that began; one outcome, `out-1`, for that browser."""

    offered: Offer = field(default_factory=an_offer)
    ended: Outcome = field(default_factory=lambda: Outcome(status="connected", provider_title="Todoist", label="ada@example.org"))
    provider: str = "https://app.todoist.example/oauth/authorize?state=fresh"
    spent: bool = False
    browser: str | None = None
    finished: list[dict[str, str | None]] = field(default_factory=list)
    broken: Exception | None = None
    ticked: Collection[str] | None = None
    proved: str = ""
    no_code: str = ""
    entered: Mapping[str, str] = field(default_factory=dict)
    not_taken: Mapping[str, str] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)

    async def prove(self, link: str, browser: str, how: str, user: str, session: str | None = None) -> None:
        await self.offer(link)
        if user != "ada" or session not in (None, "session-1"):
            raise NotTheirs
        self.proved = browser

    async def offer(self, link: str, browser: str = "") -> Offer:
        if self.proved and browser and browser != self.proved:
            raise LinkGone
        if link != "good" or self.spent:
            raise LinkGone
        return replace(self.offered, proof_needed=False) if self.proved else self.offered

    async def begin(self, link: str, browser: str, ticked: Collection[str] | None = None) -> str:
        await self.offer(link)
        self.ticked = ticked
        self.spent, self.browser = True, browser
        return self.provider

    async def begin_device(self, link: str, browser: str, ticked: Collection[str] | None = None) -> str:
        await self.offer(link)
        if self.no_code:
            raise NotNow(self.no_code)
        self.ticked, self.spent, self.browser = ticked, True, browser
        return "out-1"

    async def enter(self, link: str, browser: str, values: Mapping[str, str], ticked: Collection[str] | None = None) -> str:
        await self.offer(link)
        self.ticked, self.entered = ticked, values
        if self.not_taken:
            raise KeyNotTaken(self.not_taken)
        self.spent, self.browser = True, browser
        return "out-1"

    async def finish(self, *, registration: str, state: str, browser: str, code: str | None, error: str | None, iss: str | None) -> str:
        if self.broken:
            raise self.broken
        self.finished.append({"registration": registration, "state": state, "code": code, "error": error, "iss": iss})
        if state != "fresh" or browser != self.browser or registration != "todoist-1" or len(self.finished) > 1:
            raise FlowRefused
        return "out-1"

    async def outcome(self, outcome_id: str, browser: str) -> Outcome:
        if outcome_id != "out-1" or browser != self.browser:
            raise FlowRefused
        return self.ended

    async def confirm(self, outcome_id: str, browser: str) -> None:
        await self.outcome(outcome_id, browser)
        self.answers.append("yes")

    async def decline(self, outcome_id: str, browser: str) -> None:
        await self.outcome(outcome_id, browser)
        self.answers.append("no")
