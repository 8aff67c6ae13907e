"""
The numbers of a snapshot as text that Prometheus reads.

Rule: pure, and no server: whoever has one serves it, as `text/plain; version=0.0.4`. Everything is a reading of the store at
one moment, made by whoever asks; what a process counts by itself is in the metrics of OpenTelemetry.
Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from ..store.records import Status

if TYPE_CHECKING:
    from ..queues import QueueState
    from ..snapshot import JobsSnapshot

Labels: TypeAlias = dict[str, str]
Sample: TypeAlias = tuple[Labels, int]


def prometheus_text(*snapshots: JobsSnapshot) -> str:
    """
    What `await jobs.snapshot()` says, in Prometheus' text format: runs by queue and status and by task and status, slots,
    pauses, runtimes, and whether the store refuses writes.

    snapshots: one of each Jobs instance; those of several make one page.
    """
    return "".join(
        [line for name, help_text, samples in FAMILIES for line in _family(name, help_text, samples, snapshots)]
    )


def _family(
    name: str, help_text: str, samples: Callable[[JobsSnapshot], Iterable[Sample]], snapshots: Iterable[JobsSnapshot]
) -> Iterator[str]:
    listed = [({"jobs": each.jobs, **labels}, value) for each in snapshots for labels, value in samples(each)]
    if listed:
        kind = "counter" if name.endswith("_total") else "gauge"
        yield f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"
    for labels, value in listed:
        told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{{{told}}} {value}\n"


def _by_queue(snapshot: JobsSnapshot) -> Iterable[Sample]:
    return _by_status("queue", (each.name for each in snapshot.queues), snapshot.stats.by_queue_status)


def _by_task(snapshot: JobsSnapshot) -> Iterable[Sample]:
    return _by_status("task", (each.name for each in snapshot.definitions), snapshot.stats.by_task_status)


def _by_status(label: str, declared: Iterable[str], counts: Mapping[str, Mapping[Status, int]]) -> Iterator[Sample]:
    """One for each status of each name, those of zero too: what is gone is 0, and not gone from the page."""
    for name in dict.fromkeys([*declared, *counts]):
        for status in Status:
            yield {label: name, "status": str(status)}, counts.get(name, {}).get(status, 0)


def _of_queues(number: Callable[[QueueState], int | None]) -> Callable[[JobsSnapshot], Iterable[Sample]]:
    def samples(snapshot: JobsSnapshot) -> Iterator[Sample]:
        for each in snapshot.queues:
            value = number(each)
            if value is not None:
                yield {"queue": each.name}, value

    return samples


FAMILIES: Final[tuple[tuple[str, str, Callable[[JobsSnapshot], Iterable[Sample]]], ...]] = (
    ("callsheet_runs", "Runs in the store, by queue and status.", _by_queue),
    ("callsheet_task_runs", "Runs in the store, by task and status.", _by_task),
    (
        "callsheet_queue_slots",
        "Runs of a queue that each runtime may have on stage at once.",
        _of_queues(lambda queue: queue.concurrency),
    ),
    (
        "callsheet_queue_slots_available",
        "Runs of a queue that could start here now; 0 where this process does not watch it.",
        _of_queues(lambda queue: queue.available),
    ),
    (
        "callsheet_queue_global_limit",
        "Runs of a queue that may be running in the whole store, where that is limited.",
        _of_queues(lambda queue: queue.global_limit),
    ),
    (
        "callsheet_queue_paused",
        "Whether nothing of a queue is started.",
        _of_queues(lambda queue: int(queue.paused)),
    ),
    (
        "callsheet_pruned_runs_total",
        "Runs that ended and were forgotten by retention, ever since.",
        lambda snapshot: [
            ({"status": str(each)}, snapshot.stats.pruned.get(each, 0)) for each in Status if each.is_final
        ],
    ),
    ("callsheet_runtimes", "Runtimes registered on the store.", lambda snapshot: [({}, len(snapshot.runtimes))]),
    (
        "callsheet_store_trouble",
        "Whether the store refuses writes of this process.",
        lambda snapshot: [({}, int(snapshot.trouble is not None))],
    ),
)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
