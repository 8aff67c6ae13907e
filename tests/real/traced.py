"""
A program that has set up OpenTelemetry, for the proof that traces go from one process to another.

    python traced.py client|desk|worker DATABASE SPANS

It requests one run, as a client or as a runtime that runs nothing, or it runs what there is; its spans are lines of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from callsheet import Context, Jobs, Retry

jobs = Jobs("traced", retry=Retry(attempts=2, backoff="fixed", initial_delay=0))


@jobs.task("deliver")
async def deliver(_payload: Any, ctx: Context) -> None:
    if ctx.attempt == 1:
        raise OSError("no route")
    with trace.get_tracer("program").start_as_current_span("post"):
        await ctx.enqueue("tell")


@jobs.task("tell")
async def tell(_payload: Any, _ctx: Context) -> None: ...


class Lines(SpanExporter):
    """Writes each span when it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._path.open("a") as file:
            for span in spans:
                file.write(json.dumps(json.loads(span.to_json())) + "\n")
        return SpanExportResult.SUCCESS


async def at_a_desk(database: str) -> None:
    async with jobs.open(database, work=False):
        await jobs.enqueue("deliver")


async def at_work(database: str) -> None:
    async with jobs.open(database) as runtime:
        await runtime.until_idle()


def main(role: str, database: str, spans: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Lines(Path(spans))))
    trace.set_tracer_provider(provider)
    if role == "worker":
        trio.run(at_work, database)
        return
    with trace.get_tracer("program").start_as_current_span("GET /"):
        if role == "desk":
            trio.run(at_a_desk, database)
        else:
            with jobs.client(database) as client:
                client.enqueue("deliver")


if __name__ == "__main__":
    main(*sys.argv[1:])
