"""What users of the two studied systems rely on, where no other test says it: see `docs/features.md` for all of it."""

from __future__ import annotations

import ast
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import pytest
import trio
from attrs import frozen

import callsheet
from callsheet import Context, Jobs, Queue, Retry, Status
from callsheet.actors.control import Control
from callsheet.job import Job
from callsheet.store.contract import ClaimedRuns
from callsheet.store.memory import MemoryStore
from callsheet.store.records import Now
from callsheet.testing import simulate

from .house import Place, moves_of, open_house, settle

ROOT: Final = Path(__file__).parents[2]
LAYERS: Final = ("callsheet", "actors", "supervisor", "store")


# ---------------------------------------------------------------- declaring


async def test_one_name_in_two_namespaces_is_two_instances(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """L03: each has its own runs, keys and queue, on one store."""
    one, two = Jobs("mail", namespace="one"), Jobs("mail", namespace="two")
    done: list[str] = []

    @one.task("send")
    async def send(_: object, ctx: Context) -> None:
        done.append("one")

    @two.task("send")
    async def send_too(_: object, ctx: Context) -> None:
        done.append("two")

    async with open_house(place, one, two) as runtime:
        first = await one.enqueue("send", idempotency_key="k")
        second = await two.enqueue("send", idempotency_key="k")
        await runtime.until_idle()

        assert (False, False) == (first.deduped, second.deduped)
        assert ["one/mail-jobs", "two/mail-jobs"] == [each.run.lane.queue for each in (first, second)]
        assert [[first.run_id], [second.run_id]] == [
            [run.id for run in (await each.runs.list()).runs] for each in (one, two)
        ]
    assert ["one", "two"] == sorted(done)


def test_an_instance_says_what_it_is() -> None:
    """L10: its kind, its identity, how many tasks it has."""
    jobs = Jobs("background", namespace="app")
    jobs.task("work")(_nothing)

    assert "<Jobs app/background: 1 tasks>" == repr(jobs)


async def _nothing(_: object, ctx: Context) -> None:
    """Does nothing."""


class Watched(MemoryStore):
    """Remembers how many runs each claim that found some was given."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: list[int] = []

    def write(self, commands: Any, now: Now) -> Any:
        answers = super().write(commands, now)
        self.claims += [len(each.runs) for each in answers if isinstance(each, ClaimedRuns) and each.runs]
        return answers


async def test_a_claim_takes_a_batch_and_no_more_than_there_are_slots(autojump_clock: trio.abc.Clock) -> None:
    """L05, G45: `batch_size` runs at most, so that none is claimed that cannot start at once."""
    jobs = Jobs("j", queue=Queue(concurrency=7, batch_size=3))

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        await trio.sleep(10)

    store = Watched()
    async with open_house(store, jobs) as runtime:
        await jobs.enqueue_many([work.entry(None) for _ in range(9)])
        await settle()

        assert ([3, 3, 1], 7) == (store.claims, runtime.on_stage)

        await runtime.until_idle()
    assert 9 == sum(store.claims)


# ---------------------------------------------------------------- requesting


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_run_days_ahead_starts_in_its_time_and_once(
    mock_clock: trio.abc.Clock, store: Literal["memory", "sqlite"]
) -> None:
    """L38, LQ5: beyond the hours that a delivery service can wait, over a restart too: not a moment before; nothing recurs."""
    jobs = Jobs("j")
    started: list[datetime] = []

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        started.append(world.now)

    async with simulate(jobs, store=store) as world:
        wanted = world.now + timedelta(hours=30)
        run = await jobs.enqueue("work", run_at=wanted)
        await world.advance(hours=20)
        await world.restart()
        await world.advance(hours=9, minutes=59)
        before = list(started)
        await world.advance(hours=4)

        assert ([], [wanted]) == (before, [each.replace(microsecond=0) for each in started])
        assert [run.run_id] == [each.id for each in (await jobs.runs.list()).runs]


async def test_a_trace_id_reaches_every_attempt(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """L43: each attempt of the run has it, what a handler enqueues takes it over, and it finds them all."""
    jobs = Jobs("j", retry=Retry(attempts=3))
    seen: list[str | None] = []

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        seen.append(ctx.trace_id)
        if ctx.attempt < 3:
            raise ValueError
        await ctx.enqueue("after")

    @jobs.task("after")
    async def after(_: object, ctx: Context) -> None:
        seen.append(ctx.trace_id)

    async with open_house(place, jobs) as runtime:
        await jobs.enqueue("work", trace_id="req-1")
        await runtime.until_idle()

        assert ["after", "work"] == [run.lane.task for run in (await jobs.runs.list(trace_id="req-1")).runs]
    assert ["req-1"] * 4 == seen


async def test_ids_are_texts_in_the_order_of_the_requests(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """L44: opaque and stable; newest first is by id."""
    jobs = Jobs("j")
    jobs.task("work")(_nothing)
    async with open_house(place, jobs):
        ids = []
        for _ in range(5):
            ids += [(await jobs.enqueue("work", delay=60)).run_id for _ in range(2)]
            await trio.sleep(1)

        assert sorted(ids) == ids
        assert [26] * 10 == [len(each) for each in ids]
        assert ids[::-1] == [run.id for run in (await jobs.runs.list()).runs]


async def test_no_caller_can_pass_for_a_schedule(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """G27: `schedule_key` is for schedules alone; the error says what `enqueue` has."""
    jobs = Jobs("j")
    jobs.task("work")(_nothing)
    async with open_house(memory, jobs):
        with pytest.raises(TypeError, match="enqueue has no option 'schedule_key'; it has delay"):
            await jobs.enqueue("work", schedule_key="k")  # type: ignore[call-overload]

        assert None is (await jobs.enqueue("work")).run.schedule_key


# ---------------------------------------------------------------- the life of a run


async def test_every_status_is_reached_and_found(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """L50, L53 to L59, G26, G31 to G35: a run in each of the seven; attempts begin at 0, and grow by one at each start."""
    jobs = Jobs("j", queue=Queue(concurrency=1), queues=[Queue("side")], retry=Retry(attempts=2, initial_delay=500))

    @jobs.task("work")
    async def work(what: str, ctx: Context) -> None:
        if what == "fail":
            raise ValueError
        if what == "sleep":
            await trio.sleep(100)

    async with open_house(place, jobs):
        succeeded = await jobs.enqueue("work", "return", queue="side")
        dead = await jobs.enqueue("work", "fail", queue="side", max_attempts=1)
        retrying = await jobs.enqueue("work", "fail", queue="side")
        await settle()
        running = await jobs.enqueue("work", "sleep")
        await settle()
        queued = await jobs.enqueue("work", "sleep")
        scheduled = await jobs.enqueue("work", "sleep", delay=50)
        canceled = await jobs.enqueue("work", "sleep")
        await jobs.runs.cancel(canceled.run_id)

        expected = {
            Status.SUCCEEDED: (succeeded.run_id, 1),
            Status.DEAD_LETTERED: (dead.run_id, 1),
            Status.RETRYING: (retrying.run_id, 1),
            Status.RUNNING: (running.run_id, 1),
            Status.QUEUED: (queued.run_id, 0),
            Status.SCHEDULED: (scheduled.run_id, 0),
            Status.CANCELED: (canceled.run_id, 0),
        }
        found = {status: (await jobs.runs.list(status=status)).runs for status in Status}

        assert {status: [each] for status, each in expected.items()} == {
            status: [(run.id, run.attempt) for run in runs] for status, runs in found.items()
        }
        assert [None] * 7 == [runs[0].payload for runs in found.values()]


async def test_a_failure_that_is_not_the_last_is_retrying_until_the_next_start(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """L57, L78, G33: first the run is retrying, durably; from there it is started, without being queued again."""
    jobs = Jobs("j", retry=Retry(attempts=2, initial_delay=5))

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError

    async with open_house(place, jobs):
        run = await jobs.enqueue("work")
        await settle()
        between = (await jobs.runs.get(run.run_id)).run
        await jobs.runs.wait(run.run_id)

        assert (Status.RETRYING, 5_000_000) == (between.status, between.due_us - between.updated_us)
        assert ["queued", "running", "retrying", "running", "succeeded"] == await moves_of(jobs, run.run_id)


async def test_a_job_that_decides_nothing_is_as_its_instance_says(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """G08: the default queue, the tries and waits of the instance; nothing has to be inherited for that."""
    jobs = Jobs("j", retry=Retry(attempts=3, backoff="fixed", initial_delay=7))
    started: list[float] = []

    @jobs.register
    @frozen
    class Plain(Job, kind="plain"):
        async def work(self, ctx: Context) -> None:
            started.append(trio.current_time() - began_s)
            raise ValueError

    async with open_house(place, jobs):
        began_s = trio.current_time()
        run = await jobs.enqueue(Plain())
        ended = await jobs.runs.wait(run.run_id)

    assert ("default/j-jobs", 3, Status.DEAD_LETTERED) == (run.run.lane.queue, run.run.max_attempts, ended.status)
    assert [0, 7, 14] == [round(each, 2) for each in started]


# ---------------------------------------------------------------- no empty promises


def test_every_public_error_is_made_somewhere() -> None:
    """G103: an error that a reader is told to catch is one that can happen; what handlers raise is theirs to make."""
    public = {name: getattr(callsheet, name) for name in callsheet.__all__}
    errors = {name: each for name, each in public.items() if isinstance(each, type) and issubclass(each, Exception)}
    bases = {base for each in errors.values() for base in each.__mro__[1:]}
    mine = {name for name, each in errors.items() if each not in bases and not issubclass(each, Control)}

    named = set().union(*(_made(path) for top in LAYERS for path in (ROOT / top).rglob("*.py")))

    assert set() == mine - named
    assert 20 < len(mine)


def _made(path: Path) -> set[str]:
    """The names that are called or raised in a file."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = [
        node.func if isinstance(node, ast.Call) else node.exc for node in tree if isinstance(node, ast.Call | ast.Raise)
    ]
    return {each.id for each in found if isinstance(each, ast.Name)}
