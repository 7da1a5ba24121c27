"""Logs: one line of JSON (or of colour, on a terminal) for each thing that happened. Ids as tags, never bodies, never secrets.

Whatever is logged is looked through before it is written: every secret that this process works with, in any spelling, and what only
looks like a credential are blotted out. That is a second line of defence,
since nothing of the kind should get here. Of an exception only its kind and its place are told, because what it says may quote what was
being worked on (an aiohttp error shows the request's Authorization header). What other libraries log below a warning is dropped, since
they log what they are given, and of a warning its first line is kept: in the others they quote exceptions.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TextIO

try:
    # Consoles of structlog show an exception by means of rich, where they find it; ours show none, and it is a tenth of the start.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # what Python has for a module that is not to be found
    import structlog
finally:
    if sys.modules["rich"] is None:
        del sys.modules["rich"]

from oo_daemon.ops.live import Live
from oo_sdk import Log
from oo_vault import watch_secrets

#: One for the process, as what it is written to is.
_live = Live()

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_GONE = "[redacted]"
_LONGEST = 4000  #: characters of one text
_SHORT = 48  #: characters up to which a text is likely to come again
_DEEPEST = 5  #: levels of one value
_FRAMES = 12

_NAMES = (
    r"(?:[a-z0-9]+[_-])*(?:token|secret|password|passwd|passphrase|assertion|signature|cookie|authorization|verifier)"
    r"|(?:x-)?api[_-]?key|sig"
)
#: After a name, in a query, a form, JSON (also quoted once more), a header, or what Python prints of them.
_IS = r"""\\?["']?\s*(?:=|:|%3D|%3A|,(?=\s*b?["']))\s*(?:b(?=["']))?\\?["']?"""
_SECRETS = [
    (re.compile(pattern, re.IGNORECASE), becomes)
    for pattern, becomes in [
        # RFC 7235: a header's value may have blanks in it.
        (rf"((?:authorization|cookie){_IS})[^\r\n\"'}}]+", rf"\1{_GONE}"),
        (r"\b(bearer|basic|digest|negotiate)\s+[a-z0-9._~+/=-]{8,}", rf"\1 {_GONE}"),
        (rf"(?:(?<![a-z0-9])|(?<=%[0-9a-f][0-9a-f]))((?:{_NAMES}){_IS})[^\s\"'&,;}})\\]{{3,}}", rf"\1{_GONE}"),
        # The two of OAuth's callback have names that other things have too: only where they stand as in a query, a form or JSON.
        (rf"((?:[?&\"']|\A)(?:code|state){_IS})[^\s\"'&,;}})\\]{{6,}}", rf"\1{_GONE}"),
        (r"(://)[^/\s@]+@", rf"\1{_GONE}@"),
        (r"(/(?:webhooks|uploads|connect)/)[\w-]{16,}", rf"\1{_GONE}"),
        (r"\boo1-[a-z0-9-]+", _GONE),
        (r"\beyj[\w-]+\.[\w-]+(?:\.[\w-]*)?", _GONE),
    ]
]
#: A long run without blanks is a key of some kind, unless it is made of words.
_RUN = re.compile(r"[\w-]{32,}", re.ASCII)
_WORDS = re.compile(r"[A-Za-z]{1,20}(?:[_-]+[A-Za-z]{1,20})*_?")
_SECRET_NAME = re.compile(rf"(?:{_NAMES})s?", re.IGNORECASE)


def redact(text: str) -> str:
    """The text without the secrets that this process works with, and with what looks like a credential blotted out."""
    text = _live.blot(text, _GONE)
    return _by_look_kept(text) if len(text) <= _SHORT else _by_look(text)


def _by_look(text: str) -> str:
    for pattern, becomes in _SECRETS:
        text = pattern.sub(becomes, text)
    return _RUN.sub(lambda run: run[0] if _WORDS.fullmatch(run[0]) else _GONE, text)


#: Names, routes and levels come in every line: what the patterns make of them is worked out once.
_by_look_kept = lru_cache(maxsize=1024)(_by_look)


def configure(*, level: str = "info", style: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None) -> None:
    """Set up logging for the process; standard-library loggers come out in the same form, from warnings on.

    Set up anew, it blots out the secrets that it meets from then on.
    """
    global _live
    stream = stream or sys.stderr
    _live = Live()
    watch_secrets(_live.add)
    console = style == "console" or (style == "auto" and stream.isatty())
    render: Any = structlog.dev.ConsoleRenderer(colors=stream.isatty()) if console else structlog.processors.JSONRenderer()
    finish: list[Any] = [structlog.processors.TimeStamper(fmt="iso", utc=True), _kind_and_place, _Safe(stream.encoding or "utf-8"), render]
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)  # a library may have set its own logger lower than the root's
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, _first_line],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # Its warnings are of errors that come after one that it raises: a database that is away would have one for each batch.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    logging.raiseExceptions = False  # a call with wrong arguments would print them


def logger(**fields: Any) -> structlog.typing.FilteringBoundLogger:
    """A logger with these fields on each line."""
    # Bound here: one that is not binds itself anew with each line, also with those that nobody wants to read.
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(**fields).bind()
    return bound


class Lazy:
    """The SDK's `Log`: a logger that is made when something is to be logged, since most that are given out say nothing."""

    __slots__ = ("_log", "_make")

    def __init__(self, make: Callable[[], Log]) -> None:
        self._make = make
        self._log: Log | None = None

    def _made(self) -> Log:
        if self._log is None:
            self._log = self._make()
        return self._log

    def debug(self, event: str, **fields: Any) -> None:
        """For the author."""
        self._made().debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """For the operator, when all is well."""
        self._made().info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """For the operator, when something wants attention."""
        self._made().warning(event, **fields)


def _first_line(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["event"] = (str(event["event"]).splitlines() or [""])[0]
    event.pop("stack_info", None)
    return event


def _kind_and_place(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception by what it was and where."""
    match event.pop("exc_info", None):
        case BaseException() as error:
            event["fault"] = _chain(error)
        case (_, BaseException() as error, _):
            event["fault"] = _chain(error)
        case told if told:
            current = sys.exc_info()[1]
            event["fault"] = _chain(current) if current else "none"
    return event


def _chain(error: BaseException) -> list[str]:
    """One line for the error, and one for each that it came of."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < _DEEPEST:
        frames = traceback.extract_tb(cause.__traceback__)[-_FRAMES:]
        place = " > ".join(f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}" for frame in frames)
        chain.append(f"{type(cause).__name__} at {place}" if place else type(cause).__name__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return chain


class _Safe:
    """Makes a line of plain values without secrets, that the stream can carry."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        # A console gives these two names a meaning of its own, and a line to themselves.
        return {
            self._text(f"{name}_" if name in {"stack", "exception"} else name): self._field(name, value, _DEEPEST)
            for name, value in event.items()
        }

    def _field(self, name: str, value: Any, depth: int) -> Any:
        return _GONE if _SECRET_NAME.fullmatch(name) else self._plain(value, depth)

    def _plain(self, value: Any, depth: int) -> Any:
        match value:
            case None | bool() | int():
                return value
            case float():
                return value if math.isfinite(value) else str(value)  # JSON has no word for the others
            case str():
                return self._text(value)
            case bytes():
                return f"{len(value)} bytes"
            case BaseException():
                return type(value).__name__
            case _ if depth == 0:
                return "…"
            case Mapping():
                return {self._text(str(name)): self._field(str(name), item, depth - 1) for name, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._plain(item, depth - 1) for item in value]
            case _:
                try:
                    return self._text(repr(value))
                except Exception:  # a line about something odd must still be written
                    return type(value).__name__

    def _text(self, text: str) -> str:
        text = redact(text)
        if len(text) > _LONGEST:
            text = text[:_LONGEST] + "…"
        if text.isascii() and text.isprintable():
            return text
        text = text.encode(self._encoding, "backslashreplace").decode(self._encoding)
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
