"""Spans of OpenTelemetry: what was requested and what came of it is one tree, whatever happens in between."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from callsheet import (
    AsyncClient,
    Client,
    Context,
    Discard,
    IdempotencyConflict,
    Jobs,
    Observability,
    Retry,
    Snooze,
    Status,
    SyncContext,
)
from callsheet.actors.run import Unreadable
from callsheet.store.contract import Insert
from callsheet.store.records import Lane, NewRun, Owner
from callsheet.testing import Die, Hang, Play, Raise, Return, simulate

from .house import NOON_NS, Place, open_house, settle, write


class Spans:
    """What was exported, as a test looks at it."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    def all(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def tree(self) -> list[str]:
        """Each span under its parent, in the order in which they began."""
        spans = self.all()
        below: dict[int | None, list[ReadableSpan]] = {}
        known = {span.context.span_id for span in spans}
        for span in spans:
            parent = span.parent.span_id if span.parent and span.parent.span_id in known else None
            below.setdefault(parent, []).append(span)

        def lines(parent: int | None, depth: int) -> Iterator[str]:
            for span in below.get(parent, []):
                yield "  " * depth + span.name
                yield from lines(span.context.span_id, depth + 1)

        return list(lines(None, 0))


def set_up(monkeypatch: pytest.MonkeyPatch, *processors: SpanProcessor, **options: Any) -> Spans:
    """As a program does with `trace.set_tracer_provider`, which can be called only once in a process."""
    spans = Spans()
    provider = TracerProvider(shutdown_on_exit=False, **options)
    for each in (SimpleSpanProcessor(spans.exporter), *processors):
        provider.add_span_processor(each)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return spans


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return set_up(monkeypatch)


def parent(span: ReadableSpan) -> str:
    """What its children in other processes are told; sampled, by an SDK that draws its trace ids at random."""
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-03"


def mine() -> trace.Tracer:
    return trace.get_tracer("the program")


def declared(**options: Any) -> Jobs:
    jobs = Jobs("j", retry=Retry(attempts=2, backoff="fixed", initial_delay=5), **options)

    @jobs.task("work", timeout=20)
    async def work(payload: Any, ctx: Context) -> str:
        if payload == "flaky" and ctx.attempt == 1:
            raise OSError("no route")
        with mine().start_as_current_span("in the handler"):
            await ctx.enqueue("other")
        return "done"

    @jobs.task("other")
    def other(_payload: Any, ctx: SyncContext) -> None:
        with mine().start_as_current_span("in the thread"):
            if ctx.trace_id == "go on":
                ctx.enqueue("last")

    @jobs.task("last")
    async def last(_payload: Any, _ctx: Context) -> None: ...

    @jobs.task("stubborn", timeout=5)
    async def stubborn(_payload: Any, _ctx: Context) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        return "late"

    return jobs


async def test_a_retried_run_is_one_tree(autojump_clock: trio.abc.Clock, spans: Spans, place: Place) -> None:
    """From whoever requested it, through both attempts, to what its handler does and requests: one trace."""
    jobs = declared()

    async with open_house(place, jobs) as runtime:
        with mine().start_as_current_span("GET /"):
            run_id = (await jobs.enqueue("work", "flaky", trace_id="go on")).run_id
        await runtime.until_idle()

    assert [
        "GET /",
        "  enqueue work",
        "    run work",
        "    run work",
        "      in the handler",
        "        enqueue other",
        "          run other",
        "            in the thread",
        "              enqueue last",
        "                run last",
    ] == spans.tree()
    assert 1 == len({span.context.trace_id for span in spans.all()})
    first, second = spans.named("run work")
    assert (StatusCode.ERROR, "OSError: no route") == (first.status.status_code, first.status.description)
    (event,) = first.events
    assert ("exception", "OSError", "no route") == (
        event.name,
        *[(event.attributes or {})[f"exception.{name}"] for name in ("type", "message")],
    )
    assert "raise OSError" in str((event.attributes or {})["exception.stacktrace"])
    assert (StatusCode.UNSET, ()) == (second.status.status_code, second.events)
    assert {
        "messaging.system": "callsheet",
        "messaging.operation.type": "process",
        "messaging.operation.name": "run",
        "messaging.destination.name": "j-jobs",
        "messaging.message.id": run_id,
        "callsheet.jobs": "default/j",
        "callsheet.task": "work",
        "callsheet.run_id": run_id,
        "callsheet.attempt": 2,
        "callsheet.trace_id": "go on",
        "callsheet.outcome": "succeeded",
    } == dict(second.attributes or {})
    (request,) = spans.named("enqueue work")
    assert (SpanKind.PRODUCER, SpanKind.CONSUMER) == (request.kind, second.kind)
    assert {
        "messaging.system": "callsheet",
        "messaging.operation.type": "send",
        "messaging.operation.name": "enqueue",
        "messaging.destination.name": "j-jobs",
        "messaging.message.id": run_id,
        "callsheet.jobs": "default/j",
        "callsheet.task": "work",
        "callsheet.trace_id": "go on",
        "callsheet.deduplicated": 0,
    } == dict(request.attributes or {})


@pytest.mark.parametrize(
    ("step", "outcome", "status"),
    [
        (Return(1), "succeeded", StatusCode.UNSET),
        (Raise(OSError("no route")), "failed", StatusCode.ERROR),
        (Raise(ExceptionGroup("two", [OSError(), KeyError()])), "failed", StatusCode.ERROR),
        (Raise(KeyboardInterrupt()), "failed", StatusCode.ERROR),
        (Raise(Discard("no such order")), "discarded", StatusCode.ERROR),
        (Raise(Snooze(100)), "snoozed", StatusCode.UNSET),
        (Raise(Unreadable()), "unreadable", StatusCode.ERROR),
        (Hang(), "timed_out", StatusCode.ERROR),
    ],
)
async def test_a_span_says_how_its_attempt_ended(
    mock_clock: trio.abc.Clock, spans: Spans, step: Any, outcome: str, status: StatusCode
) -> None:
    """As the run's history has it; an error is what is one for the run."""
    jobs = declared()

    async with simulate(jobs) as world:
        world.script("work", [step, Return()])
        run_id = (await jobs.enqueue("work")).run_id
        await world.advance(seconds=30)
        attempts = world.history(run_id).attempts

    span = spans.named("run work")[0]
    assert (outcome, status) == ((span.attributes or {})["callsheet.outcome"], span.status.status_code)
    assert outcome == attempts[0].outcome
    assert (status is StatusCode.ERROR and outcome != "timed_out") == bool(span.events)


async def test_whoever_stops_an_attempt_decides_how_it_ended(mock_clock: trio.abc.Clock, spans: Spans) -> None:
    """A handler that returns a value when it was told to stop is still timed out, or canceled, or interrupted."""
    jobs = declared()

    async with simulate(jobs, grace=0) as world:
        world.script("work", [Hang(), Hang()])
        await jobs.enqueue("stubborn")
        run_id = (await jobs.enqueue("work")).run_id
        await world.settle()
        await jobs.runs.cancel(run_id)
        await world.advance(seconds=12)
        await jobs.enqueue("work")
        await world.settle()

    outcomes = {span.name: (span.attributes or {})["callsheet.outcome"] for span in spans.named("run stubborn")}
    assert "timed_out" == outcomes["run stubborn"]
    ends = [((s.attributes or {})["callsheet.outcome"], s.status.status_code) for s in spans.named("run work")]
    assert [("canceled", StatusCode.UNSET), ("interrupted", StatusCode.UNSET)] == ends


async def test_a_next_process_goes_on_with_the_trace(mock_clock: trio.abc.Clock, spans: Spans) -> None:
    """What is stored with the run is all that is needed: also after a crash."""
    jobs = declared()

    async with simulate(jobs, store="sqlite") as world:
        world.script("work", [Die(), Return()])
        await jobs.enqueue("work")
        await world.until_idle()

    (request,), attempts = spans.named("enqueue work"), spans.named("run work")
    assert {request.context.span_id} == {span.parent.span_id for span in attempts if span.parent}
    assert 2 == (attempts[-1].attributes or {})["callsheet.attempt"]


async def test_many_requests_are_one_span(autojump_clock: trio.abc.Clock, spans: Spans, memory: Place) -> None:
    """A call of `enqueue_many` is one; of several tasks it names none."""
    jobs = declared()

    async with open_house(memory, jobs) as runtime:
        await jobs.enqueue_many([jobs.entry("last") for _ in range(3)])
        await jobs.enqueue_many([jobs.entry("last"), jobs.entry("other")])
        await runtime.until_idle()

    tree = spans.tree()
    assert ["enqueue last", *["  run last"] * 3, "enqueue"] == tree[:5]
    assert {"  run last", "  run other", "    in the thread"} == set(tree[5:])
    counts = [(span.attributes or {}).get("messaging.batch.message_count") for span in spans.all()]
    assert [3, 2] == [count for count in counts if count]


async def test_a_request_says_what_came_of_it(autojump_clock: trio.abc.Clock, spans: Spans, memory: Place) -> None:
    """That its run was there already, which one that is, and that a conflict is an error."""
    jobs = declared()

    async with open_house(memory, jobs):
        run_id = (await jobs.enqueue("last", 1, idempotency_key="k", delay=60)).run_id
        await jobs.enqueue("last", 1, idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            await jobs.enqueue("last", 2, idempotency_key="k", on_conflict="raise")

    _, again, conflict = spans.named("enqueue last")
    found = again.attributes or {}
    assert (1, run_id) == (found["callsheet.deduplicated"], found["messaging.message.id"])
    assert [StatusCode.UNSET, StatusCode.ERROR] == [span.status.status_code for span in (again, conflict)]


async def test_what_the_store_refuses_is_an_error_of_the_request(mock_clock: trio.abc.Clock, spans: Spans) -> None:
    """With what was raised."""
    jobs = declared()

    async with simulate(jobs) as world:
        world.faults.fail(on="enqueue")
        with pytest.raises(Exception, match="memory"):
            await jobs.enqueue("last")

    (span,) = spans.named("enqueue last")
    assert StatusCode.ERROR is span.status.status_code
    assert "StoreBusy" == (span.attributes or {})["error.type"]


async def test_a_replay_is_linked_to_what_it_replays(
    autojump_clock: trio.abc.Clock, spans: Spans, memory: Place
) -> None:
    """It is part of what goes on where it was asked for, and says which request it repeats."""
    jobs = declared()

    async with open_house(memory, jobs) as runtime:
        run_id = (await jobs.enqueue("last")).run_id
        await runtime.until_idle()
        with mine().start_as_current_span("by hand"):
            await jobs.runs.replay(run_id)
            await jobs.runs.replay_all(status="succeeded", repeat=True)
        await runtime.until_idle()

    assert ["enqueue last", "  run last", "by hand", "  replay last", "    run last", "  run last"] == spans.tree()
    (request,), (replay,) = spans.named("enqueue last"), spans.named("replay last")
    assert [request.context.span_id] == [link.context.span_id for link in replay.links]
    assert run_id == (replay.attributes or {})["callsheet.replay_of"]


async def test_a_replay_that_nobody_traces_goes_on_with_the_old_trace(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, memory: Place
) -> None:
    """By a program without OpenTelemetry, say: better than a trace that begins nowhere."""
    spans, jobs, untraced = set_up(monkeypatch), declared(), declared(observability=Observability(traces=False))

    async with open_house(memory, jobs) as runtime:
        run_id = (await jobs.enqueue("last")).run_id
        await runtime.until_idle()
    async with open_house(memory, untraced, work=False):
        await untraced.runs.replay(run_id)
    async with open_house(memory, jobs) as runtime:
        await runtime.until_idle()

    assert ["enqueue last", "  run last", "  run last"] == spans.tree()


async def test_the_hosts_own_span_is_nobodys_parent(
    autojump_clock: trio.abc.Clock, spans: Spans, memory: Place
) -> None:
    """A run that was requested without a trace begins one, whatever the runtime was opened in."""
    untraced = declared(observability=Observability(traces=False))
    jobs = declared()

    async with open_house(memory, untraced, work=False):
        await untraced.enqueue("last")
    with mine().start_as_current_span("main"):
        async with open_house(memory, jobs) as runtime:
            await runtime.until_idle()

    assert ["main", "run last"] == spans.tree()


@pytest.mark.parametrize(
    "stored", ["", "nonsense", f"00-{'0' * 32}-{'1' * 16}-01", f"ff-{'1' * 32}-{'1' * 16}-01", "\x00" * 999]
)
async def test_a_context_that_is_none_begins_a_trace(
    autojump_clock: trio.abc.Clock, spans: Spans, memory: Place, stored: str
) -> None:
    """Whatever another program has stored there: it costs the connection, never the run."""
    jobs, lane = declared(), Lane("default/j", "default/j-jobs", "last", "1")
    write(
        memory,
        Owner("other", 1, "here", 0),
        Insert((NewRun("r", lane, b"null", NOON_NS // 1000, trace_context=stored),)),
    )

    async with open_house(memory, jobs) as runtime:
        await runtime.until_idle()
        run = (await jobs.runs.get("r")).run

    assert Status.SUCCEEDED is run.status
    assert ["run last"] == spans.tree()
    assert spans.all()[0].parent is None


async def test_what_is_not_sampled_is_recorded_nowhere(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, memory: Place
) -> None:
    """The decision of whoever requested it holds for its attempts, in whatever process: it is stored too."""
    unsampled, jobs = set_up(monkeypatch, sampler=ALWAYS_OFF), declared()
    async with open_house(memory, jobs, work=False):
        run_id = (await jobs.enqueue("last")).run_id
        stored = (await jobs.runs.get(run_id)).run.trace_context
    sampled = set_up(monkeypatch)

    async with open_house(memory, jobs) as runtime:
        await runtime.until_idle()

    assert stored is not None
    assert 0 == int(stored[-2:], 16) & 1
    assert [] == unsampled.tree() == sampled.tree()


async def test_where_nothing_is_set_up_nothing_is_stored(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, memory: Place
) -> None:
    """By default OpenTelemetry is used where the program uses it: the next open sees that it does."""
    jobs = declared()
    async with open_house(memory, jobs) as runtime:
        before = (await jobs.enqueue("last")).run.trace_context
        assert jobs.bus.tracing is None
        await runtime.until_idle()
    spans = set_up(monkeypatch)

    async with open_house(memory, jobs) as runtime:
        result = await jobs.enqueue("last")
        await runtime.until_idle()
        stored = (await jobs.runs.get(result.run_id)).run.trace_context

    (request, _) = spans.all()
    assert (None, parent(request), parent(request)) == (before, result.run.trace_context, stored)


async def test_it_can_be_refused_and_demanded(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, memory: Place
) -> None:
    """False: no span although there is a provider. True: also without one, which then keeps none."""
    demanded = declared(observability=Observability(traces=True))
    async with open_house(memory, demanded) as runtime:
        await demanded.enqueue("work")
        await runtime.until_idle()
        assert demanded.bus.tracing is not None
    spans = set_up(monkeypatch)

    refused = declared(observability=Observability(traces=False))
    async with open_house(memory, refused) as runtime:
        await refused.enqueue("last")
        await runtime.until_idle()

    assert [] == spans.tree()


class Unprintable(Exception):
    """A stranger's."""

    def __str__(self) -> str:
        raise ValueError("no text")


async def test_an_error_that_cannot_be_told_is_told_as_that(mock_clock: trio.abc.Clock, spans: Spans) -> None:
    """Its text is asked for once, by us, and raises: the attempt failed with it all the same."""
    jobs = declared()

    async with simulate(jobs) as world:
        world.script("work", [Raise(Unprintable()), Return()])
        run_id = (await jobs.enqueue("work")).run_id
        await world.until_idle()
        details = world.history(run_id)

    assert ["failed", "succeeded"] == [attempt.outcome for attempt in details.attempts]
    assert "Unprintable: <unprintable Unprintable>" == spans.named("run work")[0].status.description


class Breaks(SpanProcessor):
    """A processor that is broken."""

    def __init__(self, where: str) -> None:
        self._where = where

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._where == "start":
            raise ValueError("cannot start")

    def on_end(self, span: Any) -> None:
        if self._where == "end":
            raise ValueError("cannot end")


@pytest.mark.parametrize("where", ["start", "end"])
async def test_what_breaks_in_there_changes_nothing(
    autojump_clock: trio.abc.Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    memory: Place,
    where: str,
) -> None:
    """Requests are made and attempts end as without it, and the log says that a span is missing."""
    set_up(monkeypatch, Breaks(where))
    jobs = declared()

    async with open_house(memory, jobs) as runtime:
        run_id = (await jobs.enqueue("last")).run_id
        await runtime.until_idle()
        details = await jobs.runs.get(run_id)

    assert (["succeeded"], Status.SUCCEEDED) == ([a.outcome for a in details.attempts], details.run.status)
    assert 2 == sum("span" in record.message for record in caplog.records if record.levelno == logging.ERROR)


async def test_a_client_is_traced_too(tmp_path: Path, spans: Spans) -> None:
    """In whatever thread: what it requests is part of what goes on there."""
    jobs = declared()

    def visit() -> str | None:
        with jobs.client(tmp_path / "jobs.db") as client, mine().start_as_current_span("POST /"):
            result = client.enqueue("last")
            return client.runs.get(result.run_id).run.trace_context

    stored = await trio.to_thread.run_sync(visit)

    assert ["POST /", "  enqueue last"] == spans.tree()
    (request,) = spans.named("enqueue last")
    assert parent(request) == stored


async def test_a_client_of_an_event_loop_is_traced_too(tmp_path: Path, spans: Spans) -> None:
    """Its threads know what they are part of; also one that goes by what is published, without the code."""
    async with declared().open(tmp_path / "jobs.db") as runtime:
        async with AsyncClient(Client(tmp_path / "jobs.db")) as client:
            with mine().start_as_current_span("POST /"):
                await client.enqueue("last")
        await runtime.until_idle()

    assert ["POST /", "  enqueue last", "    run last"] == spans.tree()


async def test_a_scripted_attempt_is_traced_as_any(mock_clock: trio.abc.Clock, spans: Spans) -> None:
    """A test of a user sees the spans that the program would make."""
    jobs = declared()

    async with simulate(jobs) as world:
        world.script("work", [Play()])
        await jobs.enqueue("work")
        await world.settle()
        await settle()
        await world.until_idle()

    assert ["enqueue work", "  run work", "    in the handler"] == spans.tree()[:3]
