"""
Requesting runs, and looking at everything at once: what `Jobs` and clients do, whichever way they reach the store.

Rule: written once, against a Port; what is asked for is allowed and checked, all of it, before anything is written.
Not here: one option and its bounds (`enqueue`), runs that are there already (`runs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from . import enqueue as enqueueing
from . import guard
from .enqueue import EnqueueOptions, EnqueueResult, Entry
from .errors import IdempotencyConflict, InvalidOption, TooMany, shown
from .guard import Action
from .queues import states
from .schedules.schedules import states as schedules
from .snapshot import RECENT, JobsSnapshot, Stats, stats_of
from .store.contract import Conflict, Insert, Inserted
from .store.errors import CallsheetError
from .store.records import NewRun, Owner, RunFilter, instant

if TYPE_CHECKING:
    from typing import Any

    from .job import Job
    from .jobs import Jobs
    from .port import Port
    from .task import Task


async def request(
    jobs: Jobs, port: Port, task: str | Task[Any, Any] | Job, payload: object, options: EnqueueOptions
) -> EnqueueResult:
    """See `Jobs.enqueue`."""
    wanted, payload = jobs.wanted(task, payload)
    if jobs.policy is not None:
        guard.require(jobs, Action.ENQUEUE, task=wanted.name)
    run = enqueueing.new_run(wanted, payload, options, port.seams, by=port.delays_by)
    return (await _insert(jobs, port, (run,), strict=options.get("on_conflict") == "raise"))[0]


async def request_many(jobs: Jobs, port: Port, entries: Iterable[Entry]) -> list[EnqueueResult]:
    """See `Jobs.enqueue_many`."""
    listed = [entries] if isinstance(entries, Entry) else list(entries)
    for each in listed:
        if not isinstance(each, Entry):
            raise TypeError(f"enqueue_many takes entries, made by task.entry(payload), not {type(each).__name__}")
    if len(listed) > enqueueing.MAX_ENTRIES:
        raise TooMany(len(listed), enqueueing.MAX_ENTRIES)
    if not listed:
        return []
    if jobs.policy is not None:
        for each in listed:
            guard.require(jobs, Action.ENQUEUE, task=jobs.wanted(each.task, each.payload)[0].name)
    seams, by = port.seams, port.delays_by
    now_us = seams.clock.steady_us()  # of all of them: that takes a noticeable part of the time of each
    runs = tuple(
        [
            enqueueing.new_run(*jobs.wanted(each.task, each.payload), each.options, seams, by=by, now_us=now_us)
            for each in listed
        ]
    )
    return await _insert(jobs, port, runs, strict=any(each.options.get("on_conflict") == "raise" for each in listed))


async def _insert(jobs: Jobs, port: Port, runs: Sequence[NewRun], *, strict: bool) -> list[EnqueueResult]:
    insert = Insert(tuple(runs), strict=strict)
    if jobs.bus.tracing is None:  # the common case, once a run: one call less
        answer = await port.write(insert)
    else:
        insert, answer = await jobs.bus.write(port, insert)
    if isinstance(answer, Conflict):
        raise _conflict(jobs, answer)
    assert isinstance(answer, Inserted)
    return enqueueing.results(jobs, insert.runs, answer.existing)


def _conflict(jobs: Jobs, answer: Conflict) -> CallsheetError:
    run = answer.existing
    if run.lane.jobs != jobs.identity:
        return InvalidOption("run_id", f"{shown(run.id)} is the id of a run of other Jobs in this store")
    return IdempotencyConflict(answer.idempotency_key, run.id)


async def snapshot(jobs: Jobs, port: Port) -> JobsSnapshot:
    """See `Jobs.snapshot`."""
    guard.require(jobs, Action.READ)
    where = RunFilter(jobs=jobs.identity)
    taken_at = instant(port.seams.clock.wall_us())
    found = await port.read(lambda reader: reader.snapshot(limit=RECENT, where=where))
    return JobsSnapshot(
        jobs=jobs.identity,
        taken_at=taken_at,
        working=port.works,
        definitions=jobs.definitions(),
        queues=states(jobs, found.counts, found.queues, port.slots),
        runtimes=found.owners,
        stats=stats_of(jobs.identity, found.counts, found.pruned),
        schedules=tuple([evolve(each, payload=None) for each in schedules(jobs, found.schedules)]),
        recent=tuple([run for run in found.runs if guard.may_read(jobs, run)]),
        trouble=None if port.trouble is None else str(port.trouble),
        wake_path=port.wake_path,
    )


async def stats(jobs: Jobs, port: Port) -> Stats:
    """See `Jobs.stats`."""
    guard.require(jobs, Action.READ)
    found = await port.read(lambda reader: reader.snapshot(limit=0))
    return stats_of(jobs.identity, found.counts, found.pruned)


async def runtimes(jobs: Jobs, port: Port) -> tuple[Owner, ...]:
    """See `Jobs.runtimes`."""
    guard.require(jobs, Action.READ)
    return (await port.read(lambda reader: reader.snapshot(limit=0))).owners
