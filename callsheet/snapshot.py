"""
Everything at a glance: what is declared, how the queues stand, who runs it, how many runs there are, the newest of them.

Rule: one consistent reading of the store; the numbers are its counters, never counted and never cached.
Not here: reading (`jobs`), the tree of actors (`tree`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import frozen

from .queues import QueueState
from .store.records import Count, Owner, Run, Status

if TYPE_CHECKING:
    from .config import Definition
    from .schedules.schedules import ScheduleState

K = TypeVar("K")

RECENT: Final = 100
"""Newest runs in a snapshot."""


@frozen
class Stats:
    """How many runs of one Jobs instance there are. Only keys that have runs appear."""

    total: int
    by_status: Mapping[Status, int]
    by_task: Mapping[str, int]
    """By the names that the runs are stored under."""
    by_queue: Mapping[str, int]
    by_queue_status: Mapping[str, Mapping[Status, int]]
    by_task_status: Mapping[str, Mapping[Status, int]]
    pruned: Mapping[Status, int]
    """How many were ever forgotten by retention, by how they had ended; they are in no other number here."""


@frozen
class JobsSnapshot:
    """One look at a Jobs instance. Payloads, results and keys of other instances are not in it."""

    jobs: str
    """`namespace/name`."""
    taken_at: datetime
    working: bool
    """Whether this runtime runs its jobs; `runtimes` says who else does."""
    definitions: tuple[Definition, ...]
    queues: tuple[QueueState, ...]
    runtimes: tuple[Owner, ...]
    """Registered on the store, whatever they run of it."""
    stats: Stats
    schedules: tuple[ScheduleState, ...]
    """By key, without payloads: those of tasks that may be read."""
    recent: tuple[Run, ...]
    """The newest 100, without payloads: those of them that may be read."""
    trouble: str | None
    """What the store refuses writes of this runtime with, while it does."""
    wake_path: str | None
    """
    The socket that tells the running runtime of writes at once; None where there is none: it then looks four times a second.
    """


def stats_of(jobs: str, counts: Sequence[Count], pruned: Sequence[Count]) -> Stats:
    """The sums over the counters of one instance, by `namespace/name`."""
    mine = [count for count in counts if count.lane.jobs == jobs]
    queues = sorted({_short(count.lane.queue) for count in mine})
    tasks = sorted({count.lane.task for count in mine})
    return Stats(
        total=sum(count.n for count in mine),
        by_status=_sums((count.status, count.n) for count in mine),
        by_task=_sums((count.lane.task, count.n) for count in mine),
        by_queue=_sums((_short(count.lane.queue), count.n) for count in mine),
        by_queue_status={
            queue: _sums((count.status, count.n) for count in mine if _short(count.lane.queue) == queue)
            for queue in queues
        },
        by_task_status={
            task: _sums((count.status, count.n) for count in mine if count.lane.task == task) for task in tasks
        },
        pruned=_sums((count.status, count.n) for count in pruned if count.lane.jobs == jobs),
    )


def _sums(pairs: Iterable[tuple[K, int]]) -> dict[K, int]:
    sums: dict[K, int] = {}
    for key, n in pairs:
        sums[key] = sums.get(key, 0) + n
    return sums


def _short(queue: str) -> str:
    return queue.partition("/")[2]
