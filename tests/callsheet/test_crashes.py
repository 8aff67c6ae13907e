"""When a part of the runtime itself crashes: nothing is lost, and everything still ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import trio

from callsheet import Context, Jobs, Queue, Retry, Status

from .house import Place, open_house, settle, statuses

PARTS = ["/scheduler", "/journal", "/calendar", "/tasks", "/tasks/default/j", "/tasks/default/j/work", "/queues"]
PARTS.append("/queues/default/j-jobs")


@pytest.mark.parametrize("path", PARTS)
async def test_every_part_may_crash_once_under_load(
    autojump_clock: trio.abc.Clock, place: Place, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A poisonous message to any actor of the runtime costs time and repeated attempts, never a run."""
    jobs = Jobs("j", queue=Queue(concurrency=5, batch_size=3), retry=Retry(backoff="fixed", initial_delay=2))
    done: Counter[int] = Counter()

    @jobs.task("work")
    async def work(n: int, ctx: Context) -> int:
        await trio.sleep(1)
        if n % 5 == 0 and ctx.spent == 0:
            raise ValueError("the first time always fails")
        done[n] += 1
        return n

    async with open_house(place, jobs) as runtime:
        results = await jobs.enqueue_many([work.entry(n, delay=3 if n % 7 == 0 else 0) for n in range(40)])
        await trio.sleep(1.5)
        runtime.system.stage.registry[path].ref.tell("poison")
        late = await jobs.enqueue(work, 40)
        await runtime.until_idle()
        await trio.sleep(10)
        await runtime.until_idle()

        ended = [(await jobs.runs.get(each.run_id)) for each in [*results, late]]

    assert {Status.SUCCEEDED: 41} == Counter(each.run.status for each in ended)
    assert list(range(41)) == [each.result for each in ended]
    assert set(range(41)) == set(done)
    assert [1 if n % 5 == 0 else 0 for n in range(41)] == [each.run.spent for each in ended]
    assert f"{path} (generation 1) ended: crashed" in caplog.text


@pytest.mark.parametrize("path", PARTS)
async def test_every_part_may_crash_while_nothing_happens(
    autojump_clock: trio.abc.Clock, memory: Place, path: str
) -> None:
    """After a crash in a quiet moment, new work runs at once, and delayed work in time."""
    jobs = Jobs("j")
    started: list[float] = []

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        started.append(trio.current_time())

    async with open_house(memory, jobs) as runtime:
        began_s = trio.current_time()
        await jobs.enqueue("work", delay=30)
        await settle()
        runtime.system.stage.registry[path].ref.tell("poison")
        await settle()
        await trio.sleep(2)
        await jobs.enqueue("work")
        await trio.sleep(58)

    assert [2.0, 30.0] == [each - began_s for each in started]


async def test_an_outcome_that_waits_when_its_supervisor_crashes_is_kept(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """Handlers that ended in the moment their task's supervisor crashes have their outcomes settled, not repeated."""
    jobs = Jobs("j")
    calls: list[int] = []
    poison: list[Callable[[], None]] = []

    @jobs.task("work")
    async def work(n: int, ctx: Context) -> None:
        await trio.sleep(1)
        calls.append(n)
        poison[0]()  # handlers that end in the same tick put their outcomes before it and after it

    async with open_house(place, jobs) as runtime:
        supervisor = runtime.system.stage.registry["/tasks/default/j/work"]
        told: list[bool] = []

        def once() -> None:
            if len(calls) == 3 and not told:
                told.append(True)
                supervisor.ref.tell_control("poison")

        poison.append(once)
        results = [await jobs.enqueue("work", n) for n in range(6)]
        await runtime.until_idle()

        assert [Status.SUCCEEDED] * 6 == await statuses(jobs, [each.run_id for each in results])
        assert 2 == supervisor.generation

    assert 6 == len(calls)
