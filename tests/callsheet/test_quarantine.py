"""Runs under which the process died three times in a row, in a runtime."""

from __future__ import annotations

import pytest
import trio
from attrs import evolve

from callsheet import Context, Jobs, Queue, Status
from callsheet.store.contract import Claim, Insert
from callsheet.store.records import Lane, NewRun, Owner

from .house import NOON_NS, Place, open_house, settle, statuses, write

NOON_US = NOON_NS // 1000
DEAD = Owner("dead", 1, "here", NOON_US)
LANES = tuple(Lane("default/j", f"default/{queue}", "work", "1") for queue in ("j-jobs", "other"))
SUSPECTS = [f"s{n}" for n in range(6)]


async def with_suspects(place: Place) -> None:
    """Three in each of two queues."""
    runs = tuple(NewRun(run_id, LANES[n % 2], b"1", NOON_US) for n, run_id in enumerate(SUSPECTS))
    write(place, DEAD, Insert(runs))
    for n in range(3):
        dead = evolve(DEAD, boot_id=f"dead{n}")
        write(place, dead, Claim(dead.boot_id, bytes([n]) * 16, LANES, 6, 15_000_000))
        async with open_house(place, Jobs("empty")):
            await settle()


async def test_p4_suspects_run_one_at_a_time_and_everybody_else_beside_them(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """Over all queues together; each ends, and one that fails first comes round again."""
    await with_suspects(place)
    jobs = Jobs("j", queues=[Queue("other")])
    on_stage: set[str] = set()
    most: list[int] = []
    beside: list[int] = []

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        on_stage.add(ctx.run_id)
        suspects = len(on_stage.intersection(SUSPECTS))
        (most if ctx.run_id in SUSPECTS else beside).append(suspects)
        await trio.sleep(1)
        on_stage.remove(ctx.run_id)
        if ctx.run_id == "s3" and ctx.spent == 0:
            raise ValueError("once")

    async with open_house(place, jobs):
        others = [(await work.enqueue(n)).run_id for n in range(5)]
        await trio.sleep(0.5)
        assert 6 == len(on_stage)
        await trio.sleep(60)

        assert [Status.SUCCEEDED] * 11 == await statuses(jobs, [*SUSPECTS, *others])
    assert [1] * 7 == most
    assert 5 == len(beside)


async def test_a_task_supervisor_that_dies_with_a_suspect_frees_the_quarantine(
    autojump_clock: trio.abc.Clock, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever becomes of the suspect on stage, the next one has its turn."""
    await with_suspects(place)
    jobs = Jobs("j", queues=[Queue("other")])

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        await trio.sleep(1)

    async with open_house(place, jobs) as runtime:
        await settle()
        runtime.system.stage.registry["/tasks/default/j/work"].kill()
        await trio.sleep(0.5)
        runtime.system.stage.registry["/queues/default/other"].kill()
        await runtime.until_idle()

        assert [Status.SUCCEEDED] * 6 == await statuses(jobs, SUSPECTS)
