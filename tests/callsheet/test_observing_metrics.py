"""Counters and histograms of OpenTelemetry, fed by events."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import trio
from opentelemetry.metrics import _internal as providers
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from callsheet import Context, Discard, Jobs, Observability, Retry
from callsheet.testing import Raise, Return, Sleep, simulate

from .house import Place, open_house


def declared(**options: Any) -> Jobs:
    jobs = Jobs("j", retry=Retry(attempts=2, backoff="fixed", initial_delay=5), **options)
    for name in ("work", "other"):

        @jobs.task(name)
        async def work(_payload: Any, _ctx: Context) -> None: ...

    return jobs


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    """As a program does with `metrics.set_meter_provider`, which can be called only once in a process."""
    reader = InMemoryMetricReader()
    monkeypatch.setattr(providers, "_METER_PROVIDER", MeterProvider([reader], shutdown_on_exit=False))
    return reader


def points(reader: InMemoryMetricReader) -> dict[str, dict[tuple[str, ...], Any]]:
    """By metric, by task and outcome."""
    data = reader.get_metrics_data()
    found: dict[str, dict[tuple[str, ...], Any]] = {}
    for each in [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics:
        for point in each.data.data_points:
            about = dict(point.attributes or {})
            assert ("default/j", "j-jobs") == (about.pop("callsheet.jobs"), about.pop("callsheet.queue"))
            value = (point.count, point.sum) if isinstance(point, HistogramDataPoint) else point.value
            found.setdefault(each.name, {})[tuple(map(str, about.values()))] = value
    return found


async def test_steps_are_counted_and_measured(mock_clock: trio.abc.Clock, reader: InMemoryMetricReader) -> None:
    """By task: requests, attempts and how they end, retries and what is given up; in seconds how long it took."""
    jobs = declared()

    async with simulate(jobs) as world:
        steps = [Sleep(2, Raise(OSError())), Sleep(3, Return()), Raise(Discard("no")), Sleep(1)]
        world.script("work", steps)
        await jobs.queues.pause()
        first = (await jobs.enqueue("work", idempotency_key="k")).run_id
        await jobs.enqueue("work", idempotency_key="k")
        await world.advance(seconds=4)
        await jobs.queues.resume()
        await world.until_idle()
        await jobs.enqueue("work")
        await world.until_idle()
        await jobs.runs.replay(first)
        await world.until_idle()
        await jobs.runs.cancel((await jobs.enqueue("other", delay=60)).run_id)

    assert {
        "callsheet.runs.enqueued": {("work",): 3, ("other",): 1},
        "callsheet.runs.deduplicated": {("work",): 1},
        "callsheet.runs.started": {("work",): 4},
        "callsheet.runs.succeeded": {("work",): 2},
        "callsheet.runs.failed": {("work", "failed"): 1, ("work", "discarded"): 1},
        "callsheet.runs.retried": {("work",): 1},
        "callsheet.runs.dead_lettered": {("work",): 1},
        "callsheet.runs.canceled": {("other",): 1},
        "callsheet.queue.latency": {("work",): (4, 4.0)},
        "callsheet.run.duration": {
            ("work", "failed"): (1, 2.0),
            ("work", "succeeded"): (2, 4.0),
            ("work", "discarded"): (1, 0.0),
        },
    } == points(reader)


async def test_two_runtimes_one_after_the_other_count_once(
    autojump_clock: trio.abc.Clock, reader: InMemoryMetricReader, memory: Place
) -> None:
    """However often it opens."""
    jobs = declared()

    for _ in range(3):
        async with open_house(memory, jobs) as runtime:
            await jobs.enqueue("work")
            await runtime.until_idle()

    assert {("work",): 3} == points(reader)["callsheet.runs.succeeded"]


async def test_buckets_are_of_seconds(
    autojump_clock: trio.abc.Clock, reader: InMemoryMetricReader, memory: Place
) -> None:
    """Those of the conventions for durations: by default an SDK has some for milliseconds."""
    jobs = declared()
    async with open_house(memory, jobs) as runtime:
        await jobs.enqueue("work")
        await runtime.until_idle()

    data = reader.get_metrics_data()
    assert data is not None
    (histogram,) = [
        each for each in data.resource_metrics[0].scope_metrics[0].metrics if each.name == "callsheet.run.duration"
    ]
    assert ("s", 0.005, 3600) == (
        histogram.unit,
        histogram.data.data_points[0].explicit_bounds[0],  # type: ignore[union-attr]
        histogram.data.data_points[0].explicit_bounds[-1],  # type: ignore[union-attr]
    )


async def test_it_can_be_refused(autojump_clock: trio.abc.Clock, reader: InMemoryMetricReader, memory: Place) -> None:
    """And where there is no provider, nothing is counted: nothing listens then."""
    jobs = declared(observability=Observability(metrics=False))

    async with open_house(memory, jobs) as runtime:
        await jobs.enqueue("work")
        await runtime.until_idle()

    assert {} == points(reader)


async def test_without_a_provider_nobody_listens(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """That OpenTelemetry is loaded is not enough."""
    assert "opentelemetry.metrics" in sys.modules
    jobs = declared()

    async with open_house(memory, jobs):
        assert not jobs.bus._ears
