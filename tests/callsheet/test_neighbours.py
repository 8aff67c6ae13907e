"""What another process does to the store is noticed by the one that runs the jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from callsheet import Context, Jobs, Runtime, Status, open_runtime
from callsheet.actors.calendar import WINDOW_US
from callsheet.actors.journal import send
from callsheet.actors.readers import Readers
from callsheet.actors.reply import Forward
from callsheet.actors.seams import Seams
from callsheet.store.contract import Reader, Register
from callsheet.store.errors import StoreBusy
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.supervisor import paths

from .house import Wall, outcomes_of, settle

T = TypeVar("T")
LOOK_S = 0.3
"""A little more than it takes to notice."""


def sleepers() -> tuple[Jobs, list[str]]:
    """Jobs whose runs last a minute, and what became of them."""
    jobs = Jobs("j")
    log: list[str] = []

    @jobs.task("work")
    async def work(name: str, ctx: Context) -> None:
        log.append(f"{name} began")
        try:
            await trio.sleep(60)
        except trio.Cancelled:
            log.append(f"{name} stopped")
            raise

    return jobs, log


@asynccontextmanager
async def side_by_side(jobs: Jobs, desk: Jobs) -> AsyncIterator[Runtime]:
    """`jobs` at work, and `desk` beside them, which runs nothing."""
    tables, wall = Tables(), Wall()
    one, two = (MemoryStore(tables, exclusive=False) for _ in range(2))
    async with (
        open_runtime(one, jobs, grace=0, seams=Seams.seeded(1, wall_ns=wall)) as runtime,
        open_runtime(two, desk, work=False, seams=Seams.seeded(2, wall_ns=wall)),
    ):
        yield runtime


async def test_a_cancel_by_another_process_stops_the_handler(autojump_clock: trio.abc.Clock) -> None:
    """P5: its slot is free as soon as its handler has ended; its neighbour goes on."""
    (jobs, log), (desk, _) = sleepers(), sleepers()
    async with side_by_side(jobs, desk) as runtime:
        first = (await jobs.enqueue("work", "first")).run_id
        await jobs.enqueue("work", "second")
        await settle()

        await desk.runs.cancel(first)
        await trio.sleep(LOOK_S)

        assert ["first stopped"] == log[2:]
        assert 1 == runtime.on_stage
        assert ["canceled"] == await outcomes_of(jobs, first)


async def test_a_cancel_here_and_one_elsewhere_are_told_apart(autojump_clock: trio.abc.Clock) -> None:
    """P5: whatever the counters say in between, each of them stops its own."""
    (jobs, log), (desk, _) = sleepers(), sleepers()
    async with side_by_side(jobs, desk):
        runs = [(await jobs.enqueue("work", name)).run_id for name in ("a", "b", "c")]
        await settle()

        await jobs.runs.cancel(runs[0])
        await desk.runs.cancel(runs[1])
        await trio.sleep(LOOK_S)
        await desk.runs.cancel(runs[2])
        await trio.sleep(LOOK_S)

        assert {"a stopped", "b stopped"} == {*log[3:5]}
        assert ["c stopped"] == log[5:]


async def test_what_others_write_while_it_closes_is_nobodys_loss(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P9: nobody is told that a wake-up met somebody who was about to end."""
    (jobs, _), read = sleepers(), Readers.read
    async with open_runtime(MemoryStore(), jobs, seams=Seams.seeded(1)) as runtime:
        system = runtime.system

        async def slow(self: Readers, what: Callable[[Reader], Any]) -> Any:
            await trio.sleep(0.5)
            return await read(self, what)

        monkeypatch.setattr(Readers, "read", slow)
        await trio.sleep(WINDOW_US / 2e6 + 1.7)  # the calendar reads on
        for listener in runtime.journal.on_neighbours:
            listener()

    assert 0 == system.undelivered.total
    assert [] == [each.message for each in caplog.records if "undelivered" in each.message]


async def test_a_resume_is_noticed_though_the_store_could_not_be_read_then(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P10: the look is repeated until it succeeds; nothing else would tell a paused queue."""
    (jobs, log), (desk, _) = sleepers(), sleepers()
    async with side_by_side(jobs, desk) as runtime:
        await jobs.queues.pause()
        await jobs.enqueue("work", "it")
        fails = [True, True]
        read = Readers.read

        async def failing(self: Readers, what: Callable[[Reader], T]) -> T:
            if self is runtime.readers and fails and fails.pop():
                raise StoreBusy("jobs.db", 5.0)
            return await read(self, what)

        monkeypatch.setattr(Readers, "read", failing)
        await desk.queues.resume()
        await trio.sleep(3)

        assert ["it began"] == log
        assert 1 == len([each for each in caplog.records if "could not read what others wrote" in each.message])


async def test_a_resume_during_a_slow_look_is_noticed(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written after a look has begun is news for the next one."""
    (jobs, log), (desk, _) = sleepers(), sleepers()
    async with side_by_side(jobs, desk) as runtime:
        await jobs.queues.pause()
        await jobs.enqueue("work", "it")
        await trio.sleep(LOOK_S)
        read = Readers.read

        async def slow(self: Readers, what: Callable[[Reader], Any]) -> Any:
            found = await read(self, what)
            if self is runtime.readers:
                await trio.sleep(0.6)
            return found

        monkeypatch.setattr(Readers, "read", slow)
        await desk.enqueue("work", "another")
        await trio.sleep(LOOK_S)
        await desk.queues.resume()
        await trio.sleep(3)

        assert ["another began", "it began"] == sorted(log)
        assert Status.RUNNING in (await jobs.stats()).by_status


async def test_what_others_do_is_noticed_while_there_is_always_more_to_write(
    mock_clock: trio.testing.MockClock,
) -> None:
    """P5: a journal that never comes to rest looks around between two commits."""
    (jobs, log), (desk, _) = sleepers(), sleepers()
    async with side_by_side(jobs, desk) as runtime:
        run = await jobs.enqueue("work", "it")
        await settle()
        await desk.runs.cancel(run.run_id)
        journal = runtime.system.stage.registry[paths.JOURNAL].ref
        done = trio.Event()
        stopped: list[bool] = []

        def again(_: object) -> None:
            stopped.append("it stopped" in log)
            mock_clock.jump(0.01)
            if len(stopped) == 200:
                done.set()
            else:
                send(journal, Register(runtime.owner), Forward(again, lambda _: None))

        again(None)
        await done.wait()

        assert stopped[-1]
