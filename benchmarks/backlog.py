"""
What a store costs that is full, against one that is empty: claims, enqueues, lists, snapshots.

Full: 1,000,000 runs that ended (`--n`), 200,000 queued, 300,000 in the future, 300,000 of tasks that nobody declares. Empty:
the same at the smallest scale at which every question gets a full page for its answer, since a ratio of fifty rows to none
would tell what fifty rows cost. Both are asked in alternation, and each figure is the median of what was asked in one repeat.
`api_…`: the same through an open runtime, a hop to a thread included.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio
from attrs import define, field

from callsheet import Context, Jobs, Queue, Runtime
from callsheet.store.contract import Insert
from callsheet.store.records import RunFilter, Status
from callsheet.store.sqlite import SqliteStore
from callsheet.store.sqlite.reader import SqliteReader

from .figures import Figure, Report, gather
from .floors import PAYLOAD, scratch
from .runs import pause
from .standing import A_KEY, A_TRACE, BEGAN_US, KNOWN, LEAST, OWNER, PAGE, SUCCEED, N, Standing, fill

TIMES: Final = 30
"""How often each question is put to either store in a repeat."""
CALLS: Final = 2
"""How often `enqueue_many` is called in a repeat."""
MANY: Final = 10_000
CLAIMED: Final = 50
LIMIT: Final = 50
SHOWN: Final = 100
"""Runs in a snapshot."""


@define(eq=False)
class Place:
    """One of the two stores, and a reader of it."""

    standing: Standing
    reader: SqliteReader = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reader = self.standing.store.reader()


Ask: TypeAlias = Callable[[Place], float]
"""Puts one question to a store, and returns the seconds it took; what it changed it sets right in its own time."""


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


# ---------------------------------------------------------------- writes


def _claim(place: Place) -> float:
    """What was claimed ends afterwards, and as many are enqueued."""
    began = time.perf_counter()
    claimed = place.standing.claim(CLAIMED)
    took_s = time.perf_counter() - began
    place.standing.settle(claimed, SUCCEED)
    place.standing.insert(CLAIMED)
    place.standing.store.idle()
    return took_s


def _settle(place: Place) -> float:
    claimed = place.standing.claim(CLAIMED)
    took_s = _timed(lambda: place.standing.settle(claimed, SUCCEED))
    place.standing.insert(CLAIMED)
    place.standing.store.idle()
    return took_s


def _enqueue(place: Place, n: int = 1) -> float:
    standing = place.standing
    runs = tuple([standing.new() for _ in range(n)])
    took_s = _timed(lambda: standing.store.write([Insert(runs)], standing.now))
    standing.store.idle()
    return took_s


WRITES: Final[dict[str, Ask]] = {"claim_ms": _claim, "settle_ms": _settle, "enqueue_ms": _enqueue}

# ---------------------------------------------------------------- reads


def _list(place: Place, before: str | None = None, **fields: Any) -> float:
    where = RunFilter(jobs=place.standing.jobs, **fields)
    began = time.perf_counter()
    found = place.reader.list(where, limit=LIMIT, before=before)
    took_s = time.perf_counter() - began
    assert len(found) == LIMIT or where.idempotency_key is not None, f"{len(found)} runs match {where}"
    return took_s


def _window(place: Place, first: int, last: int) -> float:
    """Runs created between two points of the store's whole time, in hundredths of it."""
    span_us = place.standing.now.steady_us - BEGAN_US
    times = [BEGAN_US + span_us * each // 100 for each in (first, last)]
    return _list(place, created_from_us=times[0], created_before_us=times[1])


READS: Final[dict[str, Ask]] = {
    "list_any_ms": _list,
    "list_task_ms": lambda place: _list(place, task="task-3"),
    "list_queue_ms": lambda place: _list(place, queue=place.standing.queue),
    **{f"list_{status}_ms": partial(_list, status=status) for status in Status},
    "list_queued_deep_ms": lambda place: _list(place, place.standing.deep, status=Status.QUEUED),
    "list_task_queued_ms": lambda place: _list(place, task="task-3", status=Status.QUEUED),
    "list_task_dead_lettered_ms": lambda place: _list(place, task="task-3", status=Status.DEAD_LETTERED),
    "list_gone_task_ms": lambda place: _list(place, task="gone-3"),
    "list_idempotency_key_ms": lambda place: _list(place, idempotency_key=A_KEY),
    "list_trace_id_ms": lambda place: _list(place, trace_id=A_TRACE),
    "list_replay_of_ms": lambda place: _list(place, replay_of=place.standing.replayed),
    "list_created_last_ms": partial(_window, first=90, last=100),
    "list_created_old_ms": partial(_window, first=20, last=30),
    "get_ms": lambda place: _timed(lambda: place.reader.get(place.standing.replayed)),
    "counts_ms": lambda place: _timed(place.reader.counts),
    "snapshot_ms": lambda place: _timed(lambda: place.reader.snapshot(limit=SHOWN)),
}

# ---------------------------------------------------------------- through an open runtime


def declare() -> Jobs:
    """Fresh jobs, whose tasks are those of a standing store."""
    jobs = Jobs("bench", queue=Queue(concurrency=100))

    async def noop(payload: Any, ctx: Context) -> None:
        pass

    for n in range(KNOWN):
        jobs.task(f"task-{n}")(noop)
    return jobs


@define(eq=False)
class Opened:
    """One of the two stores, opened as a user opens it; nothing of it is claimed."""

    jobs: Jobs
    runtime: Runtime
    an_id: str

    async def enqueue(self) -> None:
        """One run, durable on return."""
        await self.jobs.enqueue("task-3", json.loads(PAYLOAD))

    async def list(self, **fields: Any) -> None:
        """A page."""
        page = await self.jobs.runs.list(limit=LIMIT, **fields)
        assert len(page.runs) == LIMIT

    async def snapshot(self) -> None:
        """Everything at a glance."""
        assert len((await self.jobs.snapshot()).recent) == SHOWN


API: Final[dict[str, Callable[[Opened], Awaitable[object]]]] = {
    "api_enqueue_ms": Opened.enqueue,
    "api_list_any_ms": Opened.list,
    "api_list_task_ms": lambda opened: opened.list(task="task-3"),
    "api_list_dead_lettered_ms": lambda opened: opened.list(status=Status.DEAD_LETTERED),
    "api_list_hour_ms": lambda opened: opened.list(created_from=datetime.now(UTC) - timedelta(hours=1)),
    "api_get_ms": lambda opened: opened.jobs.runs.get(opened.an_id),
    "api_snapshot_ms": Opened.snapshot,
}


async def _ask_runtimes(empty: Standing, full: Standing, repeat: int) -> list[Sample]:
    paths = [Path(each.store.name) for each in (empty, full)]
    ids = [each.replayed for each in (empty, full)]
    first, second = declare(), declare()
    async with first.open(paths[0]) as one, second.open(paths[1]) as two:
        both = [Opened(first, one, ids[0]), Opened(second, two, ids[1])]
        for each in both:
            pause(each.runtime)
            for _ in range(PAGE):  # so that there is a page of the last hour
                await each.enqueue()
        samples: list[Sample] = []
        for name, ask in API.items():
            for number in range(repeat):
                for _ in range(TIMES):
                    for which, opened in zip(("empty", "full"), both, strict=True):
                        began = time.perf_counter()
                        await ask(opened)
                        samples.append((name, which, number, time.perf_counter() - began))
    return samples


# ---------------------------------------------------------------- all of it

Sample: TypeAlias = tuple[str, str, int, float]
"""Figure, store, repeat, seconds."""


def _ask_stores(empty: Place, full: Place, repeat: int) -> Iterator[Sample]:
    """Every question to both stores in turn."""
    asked: list[tuple[str, int, Ask]] = [(name, TIMES, ask) for name, ask in (READS | WRITES).items()]
    asked.append(("many_per_s", CALLS, lambda place: _enqueue(place, MANY)))
    for name, times, ask in asked:
        for place in (empty, full):  # what is learned once does not count
            ask(place)
        for number in range(repeat):
            for _ in range(times):
                yield name, "empty", number, ask(empty)
                yield name, "full", number, ask(full)


@contextmanager
def _stores(n: int) -> Iterator[tuple[Standing, Standing]]:
    jobs = declare()
    with scratch() as folder:
        both = [
            fill(folder / name, jobs.identity, f"{jobs.identity}-jobs", size)
            for name, size in (("empty.db", min(n, LEAST)), ("full.db", n))
        ]
        try:
            yield both[0], both[1]
        finally:
            for each in both:
                each.store.close()


def _nothing() -> dict[str, float]:
    """What a list and a snapshot of a store with no runs at all take, in milliseconds."""
    with scratch() as folder:
        standing = Standing(SqliteStore(folder / "nothing.db"), "bench", "bench-jobs")
        standing.store.open(OWNER)
        place = Place(standing)
        asks = {
            "list_any_nothing_ms": lambda: place.reader.list(RunFilter(jobs="bench"), limit=LIMIT),
            "snapshot_nothing_ms": lambda: place.reader.snapshot(limit=SHOWN),
        }
        took = {name: statistics.median([_timed(ask) for _ in range(TIMES)]) for name, ask in asks.items()}
        place.reader.close()
        standing.store.close()
    return {name: 1e3 * each_s for name, each_s in took.items()}


def _figure(name: str, which: str, samples: list[Sample], repeat: int) -> Figure:
    took = [
        statistics.median([took_s for *about, took_s in samples if about == [name, which, number]])
        for number in range(repeat)
    ]
    if name == "many_per_s":
        return Figure("runs/s", tuple([MANY / each_s for each_s in took]))
    return Figure("ms", tuple([1e3 * each_s for each_s in took]))


def measure(n: int | None, repeat: int) -> Report:
    """The benchmark."""
    n = n or N
    report = Report("backlog", n)
    with _stores(n) as (empty, full):
        places = Place(empty), Place(full)
        samples = list(_ask_stores(*places, repeat))
        for place in places:
            place.reader.close()
            place.standing.store.close()
        samples += trio.run(_ask_runtimes, empty, full, repeat)
    for name in dict.fromkeys(name for name, *_ in samples):
        over, under = (name, f"{name} (empty)")
        report.figures[over] = _figure(name, "full", samples, repeat)
        report.floors[under] = _figure(name, "empty", samples, repeat)
        report.ratios[f"{name}: full / empty"] = over, under
    report.floors |= gather(repeat, _nothing, {"list_any_nothing_ms": "ms", "snapshot_nothing_ms": "ms"})
    report.ratios["list_any_ms / nothing"] = "list_any_ms", "list_any_nothing_ms"
    report.ratios["snapshot_ms / nothing"] = "snapshot_ms", "snapshot_nothing_ms"
    return report
