"""The numbers of a snapshot as Prometheus reads them."""

from __future__ import annotations

import re
from typing import Any

import trio
from attrs import evolve

from callsheet import Context, Jobs, Queue, Status, prometheus_text
from callsheet.testing import Hang, Return, simulate

SAMPLE = re.compile(r'^(\w+)\{((?:\w+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (-?\d+)$')


def declared(name: str = "j", mail: str = "mail") -> Jobs:
    jobs = Jobs(name, queue=Queue(concurrency=3), queues=[Queue(mail, concurrency=2, global_limit=1)])

    @jobs.task("work")
    async def work(_payload: Any, _ctx: Context) -> None: ...

    @jobs.task("send", queue=mail)
    async def send(_payload: Any, _ctx: Context) -> None: ...

    return jobs


async def test_the_page_says_what_the_snapshot_says(mock_clock: trio.abc.Clock) -> None:
    """Runs by queue and by task, slots, pauses, runtimes; what there is none of is 0."""
    jobs = declared()

    async with simulate(jobs) as world:
        world.script("work", [Return(), Hang()])
        for _ in range(2):
            await jobs.enqueue("work")
        await world.settle()
        await jobs.queues.pause("mail")
        await jobs.enqueue("send", delay=60)
        snapshot = await jobs.snapshot()
        text = prometheus_text(evolve(snapshot, stats=evolve(snapshot.stats, pruned={Status.CANCELED: 5})))

    expected = """
        callsheet_runs{jobs="default/j",queue="j-jobs",status="running"} 1
        callsheet_runs{jobs="default/j",queue="j-jobs",status="succeeded"} 1
        callsheet_runs{jobs="default/j",queue="j-jobs",status="dead_lettered"} 0
        callsheet_runs{jobs="default/j",queue="mail",status="scheduled"} 1
        callsheet_task_runs{jobs="default/j",task="work",status="running"} 1
        callsheet_task_runs{jobs="default/j",task="send",status="scheduled"} 1
        callsheet_queue_slots{jobs="default/j",queue="j-jobs"} 3
        callsheet_queue_slots_available{jobs="default/j",queue="j-jobs"} 2
        callsheet_queue_slots_available{jobs="default/j",queue="mail"} 0
        callsheet_queue_global_limit{jobs="default/j",queue="mail"} 1
        callsheet_queue_paused{jobs="default/j",queue="j-jobs"} 0
        callsheet_queue_paused{jobs="default/j",queue="mail"} 1
        callsheet_pruned_runs_total{jobs="default/j",status="succeeded"} 0
        callsheet_pruned_runs_total{jobs="default/j",status="canceled"} 5
        # TYPE callsheet_pruned_runs_total counter
        callsheet_runtimes{jobs="default/j"} 1
        callsheet_store_trouble{jobs="default/j"} 0
    """
    lines = text.splitlines()
    assert [] == [line.strip() for line in expected.strip().splitlines() if line.strip() not in lines]
    assert 2 * 7 * 2 == sum("runs{" in line for line in lines)


async def test_every_line_is_one_that_prometheus_reads(mock_clock: trio.abc.Clock) -> None:
    """Names with quotes, backslashes and line breaks are escaped; each metric is told of once, also of several instances."""
    one, two = declared(), declared('say "hi"\\', 'a "quoted" queue')

    async with simulate(one, two) as world:
        await world.settle()
        snapshots = [await one.snapshot(), evolve(await two.snapshot(), jobs='a"b\\c\nd')]
        text = prometheus_text(*snapshots)

    assert text.endswith("\n")
    lines = text.splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(names) == len(set(names)) == sum(line.startswith("# HELP ") for line in lines)
    samples = [line for line in lines if not line.startswith("#")]
    assert [] == [line for line in samples if not SAMPLE.match(line)]
    assert len(samples) == len({line.rpartition(" ")[0] for line in samples})
    assert any(r'jobs="a\"b\\c\nd"' in line for line in samples)
    current = ""
    for line in lines:  # what belongs to a metric stands together, below what it is
        current = line.split()[2] if line.startswith("#") else current
        assert line.startswith(("#", f"{current}{{"))


def test_of_nothing_there_is_nothing_to_say() -> None:
    """An empty page is one, too."""
    assert "" == prometheus_text()
