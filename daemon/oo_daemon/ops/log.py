"""Logs: one line of JSON (or of colour, on a terminal) for each thing that happened. Ids as tags, never bodies, never secrets.

What other libraries log below a warning is dropped, since they log what they are given.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
#: What looks like a credential, wherever it stands. A second line of defence: nothing of the kind should get here.
_SECRETS = re.compile(
    r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"
    r"|\b(access_token|refresh_token|client_secret|code_verifier|code|state|token|password|secret)(\"?\s*[=:]\s*\"?)[^\s\"'&,;}]{6,}"
)


def redact(text: str) -> str:
    """The text with what looks like a credential blotted out."""
    return _SECRETS.sub(lambda match: f"{match.group(1) or match.group(2)}{match.group(3) or ' '}[redacted]", text)


def _redact(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {name: redact(value) if isinstance(value, str) else value for name, value in event.items()}


def configure(*, level: str = "info", style: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None) -> None:
    """Set up logging for the process; standard-library loggers come out in the same form, from warnings on."""
    stream = stream or sys.stderr
    console = style == "console" or (style == "auto" and stream.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    render: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_drop_internal, render]))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _drop_internal(logger: Any, name: str, event: MutableMapping[str, Any]) -> Any:
    return _redact(logger, name, structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, name, event))


def logger(**fields: Any) -> structlog.typing.FilteringBoundLogger:
    """A logger with these fields on each line."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(**fields)
    return bound
