"""Which runs a runtime takes: some queues, a bound on all of them together, none at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from callsheet import Context, InvalidOption, Jobs, Queue, Retry, Status, StoreHeld, UnknownQueue, open_runtime
from callsheet.actors.seams import Seams
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.sqlite import SqliteStore

from .house import Place, Wall, moves_of, open_house, settle, statuses


def workers(**options: Any) -> tuple[Jobs, list[str]]:
    """Jobs with two queues, `mail` beside the default one, and a log of what began."""
    jobs = Jobs("j", queues=[Queue("mail", concurrency=50)], **options)
    began: list[str] = []

    @jobs.task("work")
    async def work(name: str, ctx: Context) -> None:
        began.append(name)
        await trio.sleep(10)

    return jobs, began


# ---------------------------------------------------------------- queues=


@pytest.mark.parametrize("name", ["mail", "default/mail"])
async def test_a_runtime_may_watch_some_queues_only(autojump_clock: trio.abc.Clock, place: Place, name: str) -> None:
    """G42: what waits in the others stays there, and goes on when somebody watches them."""
    jobs, began = workers()
    async with open_house(place, jobs, queues=[name]) as runtime:
        here = await jobs.enqueue("work", "here", queue="mail")
        there = await jobs.enqueue("work", "there")
        await runtime.until_idle()

        assert ["here"] == began
        assert [Status.SUCCEEDED, Status.QUEUED] == await statuses(jobs, [here.run_id, there.run_id])

    async with open_house(place, jobs) as runtime:
        await runtime.until_idle()

    assert ["here", "there"] == began


@pytest.mark.parametrize(
    ("queues", "error", "says"),
    [
        (["post"], UnknownQueue, "did you mean|it has"),
        ([], InvalidOption, "at least one name"),
        ("mail", InvalidOption, "a list"),
        ([3], UnknownQueue, "has no queue '3'"),
    ],
)
async def test_queues_to_watch_must_be_declared(
    autojump_clock: trio.abc.Clock, memory: Place, queues: Any, error: type[Exception], says: str
) -> None:
    """Said before the store is opened."""
    jobs, _ = workers()

    with pytest.raises(error, match=says):
        async with open_house(memory(), jobs, queues=queues):
            pass


# ---------------------------------------------------------------- max_running=


async def test_max_running_bounds_all_queues_together(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """G40: however many slots the queues have; and it is used whole."""
    jobs = Jobs("j", queue=Queue(concurrency=3), queues=[Queue("mail", concurrency=50, batch_size=2)])
    now = most = 0

    @jobs.task("work", retry=Retry(backoff="fixed", initial_delay=1))
    async def work(n: int, ctx: Context) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await trio.sleep(1 + n % 2)
        now -= 1
        if n % 5 == 0 and ctx.attempt == 1:
            raise ValueError

    async with open_house(place, jobs, max_running=5) as runtime:
        runs = [(await jobs.enqueue("work", n, queue=("j-jobs", "mail")[n % 2])).run_id for n in range(40)]
        await runtime.until_idle()

        assert {Status.SUCCEEDED} == set(await statuses(jobs, runs))
    assert 5 == most


async def test_a_busy_queue_does_not_keep_another_out(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Queues that share `max_running` take turns: the first run of the other queue need not wait for a thousand."""
    jobs, began = workers()
    async with open_house(memory, jobs, max_running=2):
        await jobs.enqueue_many([jobs.tasks["work"].entry(f"busy-{n}", queue="mail") for n in range(1000)])
        await settle()
        for n in range(3):
            await jobs.enqueue("work", f"other-{n}")
        await trio.sleep(41)

    assert {"other-0", "other-1", "other-2"} <= set(began)
    assert 10 == len(began)


async def test_an_empty_queue_gives_its_turn_away(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """One that wanted more, and finds nothing when its turn comes, holds nobody up."""
    jobs, began = workers()
    async with open_house(memory, jobs, max_running=1) as runtime:
        first = await jobs.enqueue("work", "first")
        await settle()
        gone = await jobs.enqueue("work", "gone", queue="mail")
        await settle()
        await jobs.enqueue("work", "third")
        await jobs.runs.cancel(gone.run_id)
        await runtime.until_idle()

        assert [Status.SUCCEEDED] == await statuses(jobs, [first.run_id])
    assert ["first", "third"] == began


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "5", 1_000_001])
async def test_max_running_is_a_number_of_runs(autojump_clock: trio.abc.Clock, memory: Place, wrong: Any) -> None:
    """Said before the store is opened."""
    jobs, _ = workers()

    with pytest.raises(InvalidOption, match="max_running"):
        async with open_house(memory(), jobs, max_running=wrong):
            pass


async def test_what_is_available_is_bounded_by_all_queues_together(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """A queue with free slots shows none of them while the others have taken all that may run here."""
    jobs, _ = workers()
    async with open_house(place, jobs, max_running=3) as runtime:
        before = (await jobs.queues.get("mail")).available
        for n in range(2):
            await jobs.enqueue("work", str(n))
        await settle()

        assert (3, 1) == (before, (await jobs.queues.get("mail")).available)
        await runtime.until_idle()


# ---------------------------------------------------------------- work=False


def two(tmp_path: Path, kind: str) -> tuple[Any, Any]:
    """A store for one that works, and one over the same data for one that does not."""
    if kind == "memory":
        tables = Tables()
        return MemoryStore(tables, exclusive=False), MemoryStore(tables, exclusive=False)
    return tmp_path / "jobs.db", tmp_path / "jobs.db"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_one_that_does_not_work_enqueues_reads_and_steers_for_one_that_does(
    autojump_clock: trio.abc.Clock, tmp_path: Path, kind: str
) -> None:
    """Both are open at once; the one that works takes what the other one enqueued, and the other one sees it end."""
    here, there = two(tmp_path, kind)
    jobs, began = workers()
    front, _ = workers()
    async with open_runtime(here, jobs, seams=Seams.seeded(1, wall_ns=Wall())) as runtime:
        seams = Seams.seeded(2, wall_ns=Wall())
        async with open_runtime(there, front, work=False, seams=seams) as desk:
            run = await front.enqueue("work", "a")
            later = await front.enqueue("work", "b", delay=30)
            ended = await front.runs.wait(run.run_id)
            canceled = await front.runs.cancel(later.run_id)

            assert (Status.SUCCEEDED, True) == (ended.status, canceled.canceled)
            assert ["scheduled", "canceled"] == await moves_of(jobs, later.run_id)
            assert (["a"], 0, 0) == (began, desk.on_stage, len(desk.slots))
            assert [runtime.boot_id] == [
                each.boot_id for each in await runtime.read(lambda r: r.snapshot(limit=1).owners)
            ]


async def test_one_that_does_not_work_runs_nothing(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """What is there waits; `until_idle` returns, for it could run none of it."""
    jobs, began = workers()
    async with open_house(place, jobs, work=False) as runtime:
        run = await jobs.enqueue("work", "a")
        await runtime.until_idle()
        await trio.sleep(60)

        assert [Status.QUEUED] == await statuses(jobs, [run.run_id])
        assert ([], ["scheduler", "journal"]) == (began, [each.name for each in runtime.tree().children])


async def test_two_that_work_cannot_share_a_file(autojump_clock: trio.abc.Clock, tmp_path: Path) -> None:
    """S3: the second one is told who holds it; one that does not work takes no lock."""
    jobs, _ = workers()
    other, _ = workers()
    store = tmp_path / "jobs.db"
    async with open_runtime(store, other, work=False), open_runtime(store, jobs):
        with pytest.raises(StoreHeld):
            async with open_runtime(SqliteStore(store), other):
                pass


async def test_a_delay_of_another_process_counts_by_the_wall_clock(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """P7: steady clocks begin when their process does, so nobody else can read them."""
    jobs, _ = workers()
    async with open_house(place, jobs, work=False):
        run = await jobs.enqueue("work", "a", delay=30)

        assert 2 == (await jobs.runs.get(run.run_id)).run.clock
