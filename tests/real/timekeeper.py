"""
One life of a runtime with schedules and delayed runs, for the proof that a kill loses none of their times.

    python timekeeper.py FOLDER < one line of JSON (`Orders`)

As `worker`: it writes down what it asked and was told (`caller.jsonl`) and what its handlers did (`stage.jsonl`), there with
what both clocks showed. Its wall clock is `wall`, which its parent sets.
"""

from __future__ import annotations

import json
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, cast

import trio
from acting import Flop, Plan
from asking import some_asks
from attrs import define, field, frozen
from ledger import Ledger, now_ns
from mutants import MUTANTS
from timetable import Timing, timetable
from wall import SharedWall, us_of

from callsheet import Context, Custom, Jobs, Queue, Retry, Runtime, Seams, open_runtime
from callsheet.actors.seams import SystemClock
from callsheet.store.sqlite import SqliteStore

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_S: Final = 0.05

jobs: Final = Jobs(
    "time",
    namespace="real",
    queue=Queue(concurrency=100, batch_size=50),
    queues=[Queue("ticks", concurrency=500, batch_size=100)],
    retry=Retry(attempts=4, backoff=Custom([0.05, 0.3, 1.0])),
)


@frozen
class Orders:
    """What one life is to do."""

    life: int
    seed: int
    schedules: int
    asks: int = 0
    """Runs that it requests about ten times a second."""
    ahead_s: float = 60.0
    """Up to how far ahead."""
    finish: bool = False
    """Let every run end, and see that every time until now has been looked after."""
    patience: float = 40.0
    mutant: str | None = None


@define(eq=False)
class Books:
    """What handlers share."""

    orders: Orders
    stage: Ledger
    caller: Ledger
    seams: Seams
    asked: int = 0
    chance: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.chance = random.Random(f"{self.orders.seed}/{self.orders.life}")

    def clocks(self) -> dict[str, int]:
        """What both show."""
        return {"wall": self.seams.clock.wall_us(), "steady": self.seams.clock.steady_us()}

    async def ask(self) -> None:
        """Request some delayed runs at once, written down before and after."""
        self.asked += 1
        me = f"{self.orders.life}.{self.asked}"
        asks = some_asks(self.chance, me, self.orders.asks, self.clocks()["wall"], self.orders.ahead_s)
        self.caller.say("ask", id=me, do="many", by="steady", **asks.told(), **self.clocks())
        found = await jobs.enqueue_many(
            [
                jobs.tasks["work"].entry(Plan(**plan), **cast("Any", options))
                for plan, options in zip(asks.plans, asks.options(), strict=True)
            ]
        )
        self.caller.say("ack", id=me, runs=[each.run_id for each in found], **self.clocks())


async def act(plan: Plan, ctx: Context) -> dict[str, object]:
    """Write down that it began and what both clocks show, do as planned, write down how that ended."""
    books: Books = ctx.app
    clocks = books.clocks()
    me = {"run": ctx.run_id, "attempt": ctx.attempt}
    nominal_us = None if ctx.nominal_time is None else (ctx.nominal_time - EPOCH) // timedelta(microseconds=1)
    books.stage.say(
        "start", **me, claim=ctx.claim_id.hex(), fence=ctx.fence, boot=ctx.jobs.runtime().boot_id,
        life=books.orders.life, n=plan.n, nominal=nominal_us, **clocks,
    )  # fmt: skip
    how = "stopped"
    try:
        await trio.sleep(plan.ms / 1000)
        if ctx.spent < plan.fails:
            raise Flop
        how = "returned"
    except Flop:
        how = "Flop"
        raise
    finally:
        books.stage.say("end", **me, how=how)
    return {"n": plan.n, "attempt": ctx.attempt}


jobs.task("work")(act)
jobs.task("tick", queue="ticks")(act)


def declare(timing: Timing) -> None:
    """As the code of a user would."""
    misfire = cast("Literal['skip', 'latest', 'all']", timing.misfire)
    overlap = cast("Literal['skip', 'allow', 'queue']", timing.overlap)
    plan = Plan(timing.key, timing.ms, timing.fails)
    options: dict[str, Any] = {"jitter": timing.jitter_us / 1e6, "misfire_cap": 40}
    if timing.start_us is not None:
        options["start"] = EPOCH + timedelta(microseconds=timing.start_us)
    if timing.cron:
        jobs.cron(timing.key, timing.cron, "tick", plan, misfire=misfire, overlap=overlap, **options)
    else:
        step = timedelta(microseconds=timing.step_us)
        jobs.every(timing.key, step, "tick", plan, misfire=misfire, overlap=overlap, **options)


async def play(books: Books) -> None:
    """Ask until somebody ends it."""
    while True:
        if books.orders.asks:
            await books.ask()
        await trio.sleep(books.chance.uniform(0, 0.2))


async def finish(runtime: Runtime, books: Books) -> None:
    """Let every time that has come be looked after and every run end; then nothing more is to come."""
    until_us = runtime.seams.clock.wall_us()
    books.stage.say("until", wall=until_us)
    with trio.move_on_after(books.orders.patience):
        while await behind(runtime, until_us) or await unfinished(runtime, "work"):  # noqa: ASYNC110 -- as a user would
            await trio.sleep(LOOK_S)
        for each in await jobs.schedules.list():
            await jobs.schedules.pause(each.key)
        while await unfinished(runtime, "tick"):  # noqa: ASYNC110 -- as above
            await trio.sleep(LOOK_S)


async def behind(runtime: Runtime, until_us: int) -> bool:
    """Whether a schedule still has a time until then before it."""
    found = await runtime.read(lambda reader: reader.schedules(jobs.identity))
    return any(each.due_us is not None and each.due_us <= until_us for each in found)


async def unfinished(runtime: Runtime, task: str) -> int:
    """How many runs have not ended."""
    counts = await runtime.read(lambda reader: reader.counts())
    return sum(count.n for count in counts if count.lane.task == task and not count.status.is_final)


async def live(folder: Path, orders: Orders) -> None:
    """From open to close."""
    store = SqliteStore if orders.mutant is None else MUTANTS[orders.mutant]
    seams = Seams.real()
    seams.clock = SystemClock(SharedWall(folder / "wall").now_ns)
    books = Books(orders, Ledger(folder / "stage.jsonl"), Ledger(folder / "caller.jsonl"), seams)
    books.stage.say("awake", wall=seams.clock.wall_us())
    for timing in timetable(orders.seed, orders.schedules):
        if timing.declared:
            declare(timing)
    async with open_runtime(store(str(folder / "jobs.db")), jobs, app=books, seams=seams, grace=5.0) as runtime:
        least_us, most_us = steady_offset_us(seams)
        books.stage.say("open", life=orders.life, boot=runtime.boot_id, steady_least=least_us, steady_most=most_us)
        await (finish(runtime, books) if orders.finish else play(books))
    books.stage.say("closed", life=orders.life)


def steady_offset_us(seams: Seams) -> tuple[int, int]:
    """Between which bounds the steady clock of this life is ahead of the clock of the ledgers; the closest of some readings."""
    found: list[tuple[int, int]] = []
    for _ in range(20):
        before_us, steady_us, after_us = us_of(now_ns()), seams.clock.steady_us(), us_of(now_ns())
        found.append((steady_us - after_us - 1, steady_us - before_us + 1))
    return min(found, key=lambda each: each[1] - each[0])


def main() -> None:
    """See the module."""
    line = sys.stdin.readline()
    if line:  # else whoever started us ahead of time does not need us
        trio.run(live, Path(sys.argv[1]), Orders(**json.loads(line)))


if __name__ == "__main__":
    main()
