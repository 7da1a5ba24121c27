"""How a connector is run in these tests: its syncs from end to end, and what is said when its contract is broken."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from inspect import getfile
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn, TypeVar
from unittest.mock import patch

from oo_sdk.auth import OAuth2
from oo_sdk.connector import Connector
from oo_sdk.context import Context
from oo_sdk.errors import ConnectorError, Unreadable
from oo_sdk.events import Checkpoint, Cursor, Event, Listing
from oo_sdk.testing.book import Book
from oo_sdk.testing.given import STATE, Lines, Moment, SignIn
from oo_sdk.testing.provider import Provider, Tape
from oo_sdk.testing.session import CANARIES, CODE, Played
from oo_sdk.testing.trouble import Spoilt
from oo_sdk.uploads import Takes
from oo_sdk.webhooks import Hears

T = TypeVar("T")

#: Seconds of computing that one step may hold up the loop.
STEP: Final = 1.0


class Broken(AssertionError):
    """The contract is broken: what was expected, what happened, and what helps."""

    def __init__(self, expected: str, happened: str, remedy: str) -> None:
        super().__init__(f"\n  expected: {expected}\n  happened: {happened}\n  remedy:   {remedy}")


class Harness:
    """Runs one connector against providers in memory."""

    connector: ClassVar[Callable[[], Connector]]  #: the class, or a function that makes one with its settings
    tape: ClassVar[str] = ""  #: a file beside the test
    meta: ClassVar[Mapping[str, Any]] = {}
    now: ClassVar[datetime] = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def provider(self) -> Provider:
        """A provider that nobody has talked to yet."""
        if not self.tape:
            raise Broken("a provider that answers in these tests", "there is none", "set `tape`, or write `provider`")
        return Tape(Path(getfile(type(self))).parent / self.tape)

    def _scopes(self, made: Connector) -> tuple[str, ...]:
        return tuple(scope.id for scope in made.scopes)

    def _made(self) -> Connector:
        made: Connector = type(self).connector()
        return made

    def _only_hears_or_takes(self) -> bool:
        made = self._made()
        return type(made).fetch_signals is Connector.fetch_signals and isinstance(made, Hears | Takes)

    def _session(self, made: Connector, provider: Provider, clock: Moment | None = None) -> Played:
        return Played(connector=made, provider=provider, now=(clock or Moment(at=self.now)).now)

    def _context(self, session: Played, *, clock: Moment | None = None, log: Lines | None = None) -> Context:
        scopes = frozenset(scope.id for scope in session.connector.scopes)
        clock, log = clock or Moment(at=self.now), log or Lines()
        return Context(http=session, meta=self.meta, scopes=scopes, first_fetch_from=None, clock=clock, log=log)

    def _flow(self, made: Connector, auth: OAuth2) -> SignIn:
        return SignIn(auth=auth, http=self._session(made, self.provider()), scopes=tuple(scope.id for scope in made.scopes))

    def _run(self, work: Awaitable[T]) -> T:
        async def alone() -> T:
            return await work

        with nothing_blocks():
            return asyncio.run(alone())

    async def _sync(
        self,
        book: Book,
        provider: Provider,
        *,
        stop: int | None = None,
        now: datetime | None = None,
        log: Lines | None = None,
        session: Played | None = None,
    ) -> ConnectorError | None:
        clock = Moment(at=now or self.now)
        session = session or self._session(self._made(), provider, clock)
        made = session.connector
        signals = made.fetch_signals(self._context(session, clock=clock, log=log), book.now.cursor)
        number, raised = 0, None
        try:
            while True:
                began = time.thread_time()
                signal = await anext(signals, None)
                if time.thread_time() - began > STEP:
                    raise Broken("short steps", "one computed for over a second", "yield more often, or compute in `asyncio.to_thread`")
                if signal is None:
                    break
                if not isinstance(signal, Event | Checkpoint | Listing | Unreadable):
                    raise Broken("a signal", f"a {type(signal).__name__}", "yield Event, Checkpoint, Listing or Unreadable")
                book.take(signal)
                if number == stop:
                    break
                number += 1
        except ConnectorError as error:
            raised = error
        except Broken:
            raise
        except Exception as error:
            remedy = "raise one of the errors of `oo_sdk`, named after what happens next"
            raise Broken("an error of the SDK", f"{type(error).__name__}: {error}", remedy) from error
        finally:
            close = getattr(signals, "aclose", None)
            if close is not None:
                await close()
        if session.strange:
            remedy = "add it to `hosts` if the credential may go there"
            raise Broken("requests to the declared hosts only", f"one to {session.strange[0]}", remedy)
        return raised

    def _whole(self, book: Book, provider: Provider) -> None:
        raised = self._run(self._sync(book, provider))
        if raised is not None:
            remedy = "look at what the provider of this test answers, and at what the connector asks"
            raise Broken("a sync that succeeds", f"{type(raised).__name__}: {raised}", remedy) from raised

    def _count(self) -> int:
        counted: list[object] = []

        class Counted(Book):
            def take(self, signal: Any) -> None:
                counted.append(signal)
                super().take(signal)

        self._whole(Counted(), self.provider())
        return len(counted)

    def _cursors(self) -> Sequence[Cursor]:
        found: list[Cursor] = []

        class Noted(Book):
            def take(self, signal: Any) -> None:
                if isinstance(signal, Checkpoint):
                    found.append(signal.cursor)

        self._whole(Noted(), self.provider())
        return found

    def _requests(self) -> int:
        counting = Spoilt(provider=self.provider(), at=0, make=lambda good: good)
        self._whole(Book(), counting)
        return counting.asked

    def _same(self, book: Book, whole: Book, after: str) -> None:
        lost = whole.living().keys() - book.living().keys()
        strange = book.living().keys() - whole.living().keys()
        if lost:
            remedy = "yield a `Checkpoint` only after everything that it stands for, and keep nothing in the connector between syncs"
            raise Broken(f"nothing lost after {after}", f"{len(lost)} of {len(whole.living())} events are missing", remedy)
        if strange:
            remedy = "make the subject of the provider's own id: no counters and nothing random"
            raise Broken(f"the same ids after {after}", f"{len(strange)} that nobody knows", remedy)
        if book.living() != whole.living():
            raise Broken(f"the same payloads after {after}", "some differ", "let a payload depend on nothing but the provider's answer")

    def _no_canary(self, where: str, text: str) -> None:
        for secret in (*(value for value in CANARIES.values() if "canary" in value), CODE, STATE):
            if secret in text:
                raise Broken(f"no secret in {where}", "there is one", "keep tokens and codes out of it: the session signs for you")


@contextmanager
def nothing_blocks() -> Iterator[None]:
    """Whatever would hold up the loop fails."""

    def blocks(name: str) -> Callable[..., NoReturn]:
        def refuse(*_: Any, **__: Any) -> NoReturn:
            remedy = "wait with `ctx.clock.sleep`, ask with `ctx.http`, and give other work to `asyncio.to_thread`"
            raise Broken("nothing that holds up the loop", f"{name} was called", remedy)

        return refuse

    with (
        patch.object(time, "sleep", blocks("time.sleep")),
        patch.object(socket, "create_connection", blocks("socket.create_connection")),
        patch.object(socket, "getaddrinfo", blocks("socket.getaddrinfo")),
        patch.object(subprocess, "Popen", blocks("a process")),
    ):
        yield
