"""Traces: what belongs together and how long it took, sent to a collector of OpenTelemetry's. Imported only where they are on.

Names and notes are declared here, and their values come from closed sets: providers, outcomes, routes. Of an exception only the kind is
told, since what it says may quote what was being worked on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

#: Seconds that a collector gets for one batch, and for what is left at the end: one that is away holds nobody up.
PATIENCE: Final = 3.0

SPANS: Final[Mapping[str, tuple[SpanKind, str]]] = MappingProxyType(
    {
        "webhook": (SpanKind.SERVER, "A webhook, from its headers to its answer."),
        "intake": (SpanKind.CONSUMER, "A delivery becomes events; in the trace of the webhook that brought it."),
        "sync": (SpanKind.INTERNAL, "A sync; in the trace of the webhook that announced it, where one did."),
        "page": (SpanKind.INTERNAL, "What a sync fetched and kept up to a checkpoint, or to its end."),
        "call": (SpanKind.CLIENT, "One request to a provider."),
        "refresh": (SpanKind.INTERNAL, "A credential is renewed at the provider."),
        "accept": (SpanKind.INTERNAL, "A batch enters the outbox, from the wait for its commit on."),
        "deliver": (SpanKind.PRODUCER, "Events are handed to a sink."),
        "api": (SpanKind.SERVER, "A request to the private API; in its caller's trace, where the caller names one."),
    }
)
#: What may be noted, and what OpenTelemetry calls it.
NOTES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "provider": "oo.provider",
        "outcome": "oo.outcome",
        "events": "oo.events",
        "sink": "oo.sink",
        "route": "http.route",
        "method": "http.request.method",
        "status": "http.response.status_code",
    }
)

_W3C = TraceContextTextMapPropagator()


class Traces:
    """The port `Trace`, for any thread and every loop."""

    def __init__(self, *, endpoint: str, percent: int, version: str, instance: str) -> None:
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=PATIENCE)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(percent / 100)),
            # Made by hand: what the library finds out by itself tells of the host and its user.
            resource=Resource({"service.name": "oo-integrations", "service.version": version, "service.instance.id": instance}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("oo_daemon", version)

    @contextmanager
    def span(self, name: str, parent: str | None = None, **notes: str | int) -> Iterator[None]:
        """A stretch of work: within the one under way, or within the one that `parent` names; where that is empty, it begins a trace."""
        kind, _ = SPANS[name]
        within = None if parent is None else _W3C.extract({"traceparent": parent}, Context())
        with self._tracer.start_as_current_span(
            name, within, kind, _named(notes), record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    def note(self, **notes: str | int) -> None:
        """Say more of the stretch under way."""
        get_current_span().set_attributes(_named(notes))

    def here(self) -> str:
        """What names the stretch under way; empty where there is none."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get("traceparent", "")

    async def close(self) -> None:
        """Send what waits."""
        ending = threading.Thread(target=self._provider.shutdown, name="oo-traces", daemon=True)
        ending.start()
        await asyncio.get_running_loop().run_in_executor(None, ending.join, PATIENCE)
        if ending.is_alive():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # it tries no more


def _named(notes: Mapping[str, str | int]) -> dict[str, str | int]:
    return {NOTES[name]: value for name, value in notes.items()}
