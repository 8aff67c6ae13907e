"""
Spans and metrics of OpenTelemetry: a request and the attempts that follow from it are one trace, across processes.

Rule 1: the span of a request is stored with its runs as W3C `traceparent`; every attempt is a child of what is stored. Nothing
but that text goes from one process to another.
Rule 2: nothing that goes wrong here changes what becomes of a run, or of a request.
Names are those of the semantic conventions for messaging (https://opentelemetry.io/docs/specs/semconv/messaging/), and
`callsheet.…` for what these do not have.
Not here: whether anybody wants them (`telemetry`). Loaded only then: this imports `opentelemetry`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from attrs import define, evolve, field
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import __version__
from ..actors import ending
from ..actors.cancellation import is_cancellation
from ..actors.run import RunActor, Unreadable
from ..store.codec import describe
from ..store.contract import Answer, Conflict, Insert, Inserted
from ..store.records import NewRun, OutcomeKind
from .event import Event, EventKind

if TYPE_CHECKING:
    from ..port import Port
    from ..task import Task

_log = logging.getLogger("callsheet")

NAME: Final = "callsheet"
"""Of the tracer and the meter."""
BAD: Final = frozenset(
    {OutcomeKind.FAILED, OutcomeKind.TIMED_OUT, OutcomeKind.DISCARDED, OutcomeKind.UNREADABLE},
)
"""Outcomes that make the span of an attempt an error."""
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300, 900, 3600)
"""Buckets: those of the conventions, and what jobs take beyond them."""
MAX_STACK: Final = 16 * 1024
"""Characters of a traceback in a span: its end, which says what happened."""

_propagator: Final = TraceContextTextMapPropagator()


def _context_of(stored: str | None) -> Context:
    """What is a part of whatever was stored; of nothing, and not of what this process does, where that is None."""
    return _propagator.extract({} if stored is None else {"traceparent": stored}, Context())


@define
class _About:
    """What a span says when it begins."""

    name: str
    kind: SpanKind
    attributes: dict[str, Any]
    links: list[Link] = field(factory=list)


class Tracing:
    """The spans of one Jobs instance."""

    def __init__(self, jobs: str) -> None:
        self._jobs = jobs
        self._tracer = trace.get_tracer(NAME, __version__)

    # -- requests

    def context(self) -> str | None:
        """Of the span we are in, as W3C `traceparent`; None in none."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return carrier.get("traceparent")

    async def write(self, port: Port, insert: Insert, *, replayed: str | None = None) -> tuple[Insert, Answer]:
        """
        Have it inserted, inside a span that its runs are told to be part of. Returns what was inserted, and the answer.

        replayed: the trace context of the run that is replayed; the span is linked to it, and part of what goes on here.
        """
        with self._span(self._request(insert.runs, replayed)) as span:
            context = self.context()
            if context is not None:
                insert = evolve(insert, runs=tuple([evolve(run, trace_context=context) for run in insert.runs]))
            answer = await port.write(insert)
            _tell_answer(span, insert, answer)
            return insert, answer

    def _request(self, runs: Sequence[NewRun], replayed: str | None) -> _About:
        first, tasks, queues = runs[0], {run.lane.task for run in runs}, {run.lane.queue for run in runs}
        verb = "enqueue" if first.replay_of is None else "replay"
        about = _About(verb, SpanKind.PRODUCER, self._attributes("send", verb))
        if len(tasks) == 1:
            about.name = f"{verb} {first.lane.task}"
            about.attributes["callsheet.task"] = first.lane.task
        if len(queues) == 1:
            about.attributes["messaging.destination.name"] = first.lane.queue.partition("/")[2]
        if len(runs) > 1:
            about.attributes["messaging.batch.message_count"] = len(runs)
        elif first.trace_id is not None:
            about.attributes["callsheet.trace_id"] = first.trace_id
        if first.replay_of is not None:
            about.attributes["callsheet.replay_of"] = first.replay_of
        linked = trace.get_current_span(_context_of(replayed)).get_span_context()
        if linked.is_valid:
            about.links.append(Link(linked))
        return about

    def _attributes(self, kind: str, name: str) -> dict[str, Any]:
        return {
            "messaging.system": "callsheet",
            "messaging.operation.type": kind,
            "messaging.operation.name": name,
            "callsheet.jobs": self._jobs,
        }

    # -- attempts

    async def attempt(
        self, task: Task[Any, Any], play: Callable[[RunActor], Awaitable[object]], actor: RunActor
    ) -> object:
        """One call of a handler, in a span of its own: a part of what the run was requested in."""
        run = actor.claimed
        attributes = self._attributes("process", "run") | {
            "messaging.destination.name": run.lane.queue.partition("/")[2],
            "messaging.message.id": run.run_id,
            "callsheet.task": task.name,
            "callsheet.run_id": run.run_id,
            "callsheet.attempt": run.attempt,
        }
        if run.trace_id is not None:
            attributes["callsheet.trace_id"] = run.trace_id
        about = _About(f"run {task.name}", SpanKind.CONSUMER, attributes)
        with self._span(about, within=_context_of(run.trace_context), actor=actor):
            return await play(actor)

    @contextmanager
    def _span(self, about: _About, *, within: Context | None = None, actor: RunActor | None = None) -> Iterator[Span]:
        """A span that lasts as long as the block, says how that ended, and is what the block is in."""
        try:
            span = self._tracer.start_span(about.name, within, about.kind, about.attributes, about.links)
        except Exception:  # noqa: BLE001 -- a sampler or a processor is a stranger's code
            _log.exception("no span could be begun for %s", about.name)
            span = trace.INVALID_SPAN
        error: BaseException | None = None
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield span
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                _end(span, error, actor)
            except Exception:  # noqa: BLE001 -- the same
                _log.exception("the span of %s could not be ended", about.name)


def _tell_answer(span: Span, insert: Insert, answer: Answer) -> None:
    """What came of a request."""
    if isinstance(answer, Conflict):
        span.set_status(StatusCode.ERROR, "the key, or the id, belongs to a run with another payload or task")
    elif isinstance(answer, Inserted):
        found = [run for run in answer.existing if run is not None]
        span.set_attribute("callsheet.deduplicated", len(found))
        if len(insert.runs) == 1:
            span.set_attribute("messaging.message.id", found[0].id if found else insert.runs[0].id)


def _end(span: Span, error: BaseException | None, actor: RunActor | None) -> None:
    if span.is_recording():
        outcome = None if actor is None else _outcome(error, actor)
        if outcome is not None:
            span.set_attribute("callsheet.outcome", str(outcome))
        if outcome in BAD or (outcome is None and error is not None and not is_cancellation(error)):
            _tell_error(span, error, outcome)
    span.end()


def _outcome(error: BaseException | None, actor: RunActor) -> OutcomeKind:
    """As the run actor will judge it; see there."""
    if actor.stop_reason is not None:
        return OutcomeKind(str(actor.stop_reason))
    if error is None:
        return OutcomeKind.SUCCEEDED
    if is_cancellation(error):  # of a scope around the runtime
        return OutcomeKind.INTERRUPTED
    return OutcomeKind.UNREADABLE if isinstance(error, Unreadable) else ending.of_exception(error, actor.policy).kind


def _tell_error(span: Span, error: BaseException | None, outcome: OutcomeKind | None) -> None:
    if outcome is OutcomeKind.TIMED_OUT or error is None:  # what it did when it was told to stop says nothing
        span.set_status(StatusCode.ERROR, "the attempt took longer than its timeout")
        return
    told = describe(error.__cause__ if isinstance(error, Unreadable) and error.__cause__ is not None else error)
    span.set_status(StatusCode.ERROR, f"{told.type}: {told.message}")
    span.set_attribute("error.type", told.type)
    span.add_event(  # not record_exception: that asks the exception for its text, which may raise, or be of any size
        "exception",
        {
            "exception.type": told.type,
            "exception.message": told.message,
            "exception.stacktrace": told.traceback[-MAX_STACK:],
        },
    )


class Metrics:
    """A listener that counts steps and measures how long runs wait and attempts take."""

    COUNTED: Final = {
        EventKind.ENQUEUED: ("enqueued", "Runs that were requested"),
        EventKind.REPLAYED: ("enqueued", "Runs that were requested"),
        EventKind.DEDUPED: ("deduplicated", "Requests that found their run there already"),
        EventKind.STARTED: ("started", "Attempts that began"),
        EventKind.SUCCEEDED: ("succeeded", "Runs that succeeded"),
        EventKind.FAILED: ("failed", "Attempts that ended badly"),
        EventKind.TIMED_OUT: ("failed", "Attempts that ended badly"),
        EventKind.DISCARDED: ("failed", "Attempts that ended badly"),
        EventKind.CRASHED: ("failed", "Attempts that ended badly"),
        EventKind.LEASE_LOST: ("failed", "Attempts that ended badly"),
        EventKind.RETRYING: ("retried", "Runs that are to be tried again"),
        EventKind.DEAD_LETTERED: ("dead_lettered", "Runs that were given up"),
        EventKind.CANCELED: ("canceled", "Runs that were canceled"),
    }

    def __init__(self) -> None:
        meter = metrics.get_meter(NAME, __version__)
        counters = {
            name: meter.create_counter(f"callsheet.runs.{name}", "{run}", description)
            for name, description in self.COUNTED.values()
        }
        self._counters = {kind: counters[name] for kind, (name, _) in self.COUNTED.items()}
        self._latency = _histogram(meter, "callsheet.queue.latency", "How long runs waited after they were due")
        self._duration = _histogram(meter, "callsheet.run.duration", "How long attempts took")
        self.kinds = frozenset(EventKind)

    def __call__(self, event: Event) -> None:
        """Count it."""
        about = {"callsheet.jobs": event.jobs, "callsheet.task": event.task, "callsheet.queue": event.queue}
        counter = self._counters.get(event.kind)
        if counter is not None:
            outcome = {"callsheet.outcome": str(event.kind)} if self.COUNTED[event.kind][0] == "failed" else {}
            counter.add(1, about | outcome)
        if event.waited_us is not None:
            self._latency.record(event.waited_us / 1e6, about)
        if event.took_us is not None:
            self._duration.record(event.took_us / 1e6, about | {"callsheet.outcome": str(event.kind)})


def _histogram(meter: metrics.Meter, name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=SECONDS)
