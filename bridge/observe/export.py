"""Spans on their way to a collector, by OTLP over HTTP, as the ``OTEL_*`` variables of the environment say.

The only module that knows OpenTelemetry's SDK, which is an extra: import it where tracing is on. A thread of the SDK
sends; when the collector is away, spans are lost, and the log says so once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

from bridge.version import __version__

log = logging.getLogger(__name__)

#: The service in traces, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES name it.
SERVICE = "mcp-bridge"
#: Seconds that the last spans get on the way out.
LAST_SPANS = 3.0


class Export:
    """Where spans go. ``tracer`` makes them."""

    def __init__(self) -> None:
        self._exporter = _Telling(OTLPSpanExporter())
        # Not that of the process: two bridges in one process must not share it.
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer: Tracer = self._provider.get_tracer(SERVICE, __version__)

    async def close(self) -> None:
        """Send what waits, in the time there is."""
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def shut() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody waits any longer
                loop.call_soon_threadsafe(sent.set)

        # A daemon, and none of the executor: the process must not wait for it.
        threading.Thread(target=shut, name="last spans", daemon=True).start()
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_SPANS):
                    await sent.wait()
                    return
            self._exporter.shutdown()  # which ends its waiting for another try


class _Telling(SpanExporter):
    """Says once that spans are lost, and why, and once that they arrive again."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0
        self._said = _FirstWords(logging.WARNING)
        # They say each failure, each new try, and each span that finds no room.
        for name, handler in (("opentelemetry.exporter", self._said), ("opentelemetry.sdk", logging.NullHandler())):
            logger = logging.getLogger(name)
            logger.propagate = False
            logger.handlers = [handler]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send some."""
        self._said.text = ""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                log.warning("traces cannot be sent, until they can they are lost: %s", self._said.text or "no reason")
            self._lost += len(spans)
        elif self._lost:
            log.warning("traces are sent again; %d spans were lost", self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """Send nothing more."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _FirstWords(logging.Handler):
    """Keeps the first thing that is said of a failure: the last one is that there have been too many."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or record.getMessage()[:300]


def _resource() -> Resource:
    named = Resource.create({SERVICE_VERSION: __version__})
    if str(named.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return named.merge(Resource({SERVICE_NAME: SERVICE}))
    return named
