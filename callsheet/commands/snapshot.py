"""
`callsheet snapshot`: everything at a glance, from one reading of the store.

Rule: it shows what `client.snapshot()` answers, and reads nothing else.
"""

from __future__ import annotations

from typing import Final

from ..store.records import Status
from . import shapes
from .asked import JobsOption, JsonOption, StoreOption, SubjectOption, TracebackOption
from .paper import Paper
from .queues import tell_queues
from .reach import client_of
from .runs import COLUMNS, SPARE, row
from .schedules import tell_schedules
from .text import age, counted, listed

RECENT: Final = 10
"""Newest runs that are shown to people; programs are given all that a snapshot has."""


def snapshot(
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show counts, queues, schedules, runtimes and the newest runs."""
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        taken, now_us = client.snapshot(), client.port.seams.clock.wall_us()
    if paper.programs:
        paper.document(shapes.snapshot(taken))
        return
    counts = [f"{taken.stats.by_status[status]:,} {status}" for status in Status if status in taken.stats.by_status]
    paper.heading(f"{taken.jobs}: {counted(taken.stats.total, 'run')}")
    paper.say(", ".join(counts) if counts else "none yet")
    paper.say()
    paper.heading("Queues")
    tell_queues(paper, taken.queues)
    if taken.schedules:
        paper.say()
        paper.heading("Schedules")
        tell_schedules(paper, taken.schedules)
    paper.say()
    paper.heading("Runtimes")
    if not taken.runtimes:
        paper.say("none is open")
    paper.table(
        ("runtime", "process", "host", "version", "opened", "seen", "queues"),
        [
            (
                each.boot_id,
                each.pid,
                each.host,
                each.version,
                f"{age(now_us - each.started_us)} ago",
                f"{age(now_us - each.seen_us)} ago",
                listed(map(shapes.short, each.queues)),
            )
            for each in taken.runtimes
        ],
        spare=("version", "host", "opened"),
    )
    if taken.recent:
        paper.say()
        paper.heading("Newest runs")
        paper.table(COLUMNS, [row(each, now_us) for each in taken.recent[:RECENT]], spare=SPARE)
