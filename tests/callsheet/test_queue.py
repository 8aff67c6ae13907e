"""Queues, several of them, several instances; and what a handler sees of its host."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
import trio

from callsheet import Jobs, Queue, Status

from .house import Place, open_house, settle, statuses

if TYPE_CHECKING:
    from callsheet import Context


@pytest.mark.parametrize(("concurrency", "batch_size"), [(1, 10), (3, 1), (3, 2), (5, 100)])
async def test_a_queue_never_has_more_on_stage_than_its_slots(
    autojump_clock: trio.abc.Clock, place: Place, concurrency: int, batch_size: int
) -> None:
    """I24: whatever ends, fails, is canceled or comes meanwhile; and the slots are used."""
    jobs = Jobs("j", queue=Queue(concurrency=concurrency, batch_size=batch_size))
    now = most = 0

    @jobs.task("work")
    async def work(n: int, ctx: Context) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await trio.sleep(1 + n % 3)
            if n % 4 == 0 and ctx.attempt == 1:
                raise ValueError
        finally:
            now -= 1

    async with open_house(place, jobs) as runtime:
        runs = [(await jobs.enqueue("work", n, delay=n % 5)).run_id for n in range(40)]
        await trio.sleep(3)
        for run_id in runs[::7]:
            await jobs.runs.cancel(run_id)
        await trio.sleep(5)
        await runtime.until_idle()

        assert {Status.SUCCEEDED, Status.CANCELED} == set(await statuses(jobs, runs))
    assert concurrency == most


async def test_smaller_priorities_start_first(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Among what waits, priority decides, then age."""
    jobs = Jobs("j", queue=Queue(concurrency=1))
    order: list[str] = []

    @jobs.task("work")
    async def work(name: str, ctx: Context) -> None:
        order.append(name)
        await trio.sleep(1)

    async with open_house(place, jobs) as runtime:
        await jobs.enqueue("work", "first")
        await settle()
        for name, priority in (("d", 9), ("b", 5), ("c", 5), ("a", 0)):
            await jobs.enqueue("work", name, priority=priority)
        await runtime.until_idle()

    assert ["first", "a", "b", "c", "d"] == order


async def test_a_full_queue_does_not_hold_up_another(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Each queue has slots of its own; a run may be sent to another one than its task's."""
    jobs = Jobs("j", queue=Queue(concurrency=1), queues=[Queue("side", concurrency=2)])
    began: dict[str, float] = {}

    @jobs.task("work")
    async def work(name: str, ctx: Context) -> None:
        began[name] = trio.current_time()
        await trio.sleep(10)

    async with open_house(place, jobs) as runtime:
        for name in ("a", "b"):
            await jobs.enqueue("work", name)
            await jobs.enqueue("work", f"{name} aside", queue="side")
        await runtime.until_idle()

    assert began["b"] - began["a"] == 10
    assert 0 == began["a aside"] - began["a"] == began["b aside"] - began["a"]


async def test_several_instances_share_a_runtime(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Each has its own tasks and queues; a handler's `ctx.enqueue` stays with its own and hands on the trace id."""
    one, two = Jobs("one"), Jobs("two")
    seen: list[tuple[str, str | None, object]] = []

    for each in (one, two):

        @each.task("parent")
        async def parent(_: object, ctx: Context) -> None:
            await ctx.enqueue("child")

        @each.task("child")
        async def child(_: object, ctx: Context) -> None:
            seen.append((ctx.jobs.identity, ctx.trace_id, ctx.app))

    async with open_house(place, one, two, app="the app") as runtime:
        await one.enqueue("parent", trace_id="t1")
        await two.enqueue("parent", trace_id="t2")
        await runtime.until_idle()

        assert (2, 2) == (len((await one.runs.list()).runs), len((await two.runs.list()).runs))
    assert [("default/one", "t1", "the app"), ("default/two", "t2", "the app")] == sorted(seen, key=str)


async def test_handlers_see_the_hosts_context_variables(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """As they were when the runtime was opened; what a handler sets stays with that attempt."""
    name: ContextVar[str] = ContextVar("name")
    jobs = Jobs("j")
    seen: list[str] = []

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        seen.append(name.get())
        name.set("changed")

    name.set("host")
    async with open_house(memory, jobs) as runtime:
        name.set("later")
        for _ in range(3):
            await jobs.enqueue("work")
        await runtime.until_idle()

    assert ["host"] * 3 == seen


def test_only_the_type_of_the_payload_must_exist_at_run_time() -> None:
    """A Context that is imported for type checkers alone is no reason to refuse a handler; a missing payload type is."""
    jobs = Jobs("j")

    async def fine(payload: dict[str, int], ctx: Context) -> None: ...

    async def wrong(payload: Missing, ctx: Context) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    task: Any = jobs.task("fine")(fine)
    assert dict[str, int] == task.payload_type
    with pytest.raises(TypeError, match="the type of the payload of task 'wrong' cannot be resolved"):
        jobs.task("wrong")(wrong)
