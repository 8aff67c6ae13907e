"""
One life of a runtime, for the proofs with real processes: it opens the store, calls, and runs what was called.

    python worker.py FOLDER < one line of JSON (`Orders`)

It writes down what it was told (`caller.jsonl`) and what its handlers did (`stage.jsonl`), and knows nothing of how it
will end. It may be started ahead of time: until the line comes it touches nothing.

Rule: a call is written down before it is made, and again when it is answered, before anything else happens.
Not here: who kills it (`lives.py`), what must hold (`oracle.py`).
"""

from __future__ import annotations

import json
import random
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal

import trio
from attrs import asdict, define, evolve, field, frozen
from ledger import Ledger, LedgerReader, Line
from mutants import MUTANTS

from callsheet import (
    CallsheetError,
    Context,
    Custom,
    Discard,
    EnqueueOptions,
    EnqueueResult,
    Jobs,
    Queue,
    Retry,
    RetryAfter,
    Runtime,
    Snooze,
    Task,
    open_runtime,
)
from callsheet.store.sqlite import SqliteStore

CALLERS: Final = 3
ENOUGH: Final = 80
"""Unfinished runs that callers keep in the store: more than the slots, so that the handlers in flight stay many."""
TAIL: Final = 200_000
"""Bytes of the caller's ledger that a new life reads to know what earlier ones did."""


@frozen
class Orders:
    """What one life is to do."""

    life: int
    seed: int
    finish: bool = False
    """Only repeat what was left unanswered, and run everything to its end."""
    crowd: int = 0
    """So many runs are called for at once."""
    slots: int = 0
    """Of the main queue, where it is to be another number."""
    signals: bool = False
    grace: float = 0.1
    patience: float = 40.0
    """How long a life that is to finish waits for the last run."""
    mutant: str | None = None


@frozen
class Plan:
    """A payload: what the handler shall do, attempt by attempt."""

    n: str
    """Of the first call that asked for it; unique."""
    ms: int
    fails: int = 0
    """Tries that fail before it does what `then` says."""
    by: Literal["raising", "retry_after", "hanging"] = "raising"
    then: Literal["return", "discard", "snooze", "child", "late"] = "return"


class Flop(Exception):
    """A try that fails."""


jobs: Final = Jobs(
    "proof",
    namespace="real",
    queue=Queue(concurrency=36, batch_size=8),
    queues=[Queue("side", concurrency=6, batch_size=3)],
    retry=Retry(attempts=4, backoff=Custom([0.02, 0.05, 0.1])),
)


# ---------------------------------------------------------------- the handlers


async def act(plan: Plan, ctx: Context) -> dict[str, object]:
    """Write down that it began, do as planned, write down how that ended."""
    books: Books = ctx.app
    me = {"run": ctx.run_id, "attempt": ctx.attempt}
    books.stage.say(
        "start", **me, claim=ctx.claim_id.hex(), fence=ctx.fence, boot=ctx.jobs.runtime().boot_id, life=books.life
    )
    books.on_stage[ctx.run_id] = None
    how = "stopped"
    try:
        await perform(plan, ctx, books)
        how = "returned"
    except trio.Cancelled:
        if plan.then != "late":
            raise
        with trio.CancelScope(shield=True):  # takes its time to stop, and then answers as if nothing had happened
            await trio.sleep(0.02)
        how = "late"
    except Exception as error:
        how = type(error).__name__
        raise
    finally:
        books.on_stage.pop(ctx.run_id, None)
        books.stage.say("end", **me, how=how)
    return {"n": plan.n, "attempt": ctx.attempt}


async def perform(plan: Plan, ctx: Context, books: Books) -> None:
    """As planned; which try this is, the runtime says."""
    await trio.sleep(plan.ms / 1000)
    if ctx.spent < plan.fails:
        if plan.by == "hanging":
            await trio.sleep_forever()
        raise RetryAfter(0.03) if plan.by == "retry_after" else Flop
    if plan.then == "discard":
        raise Discard("as planned")
    if plan.then == "snooze" and ctx.attempt == 1:
        raise Snooze(0.1)
    if plan.then == "child":
        child = Plan(f"child:{ctx.run_id}", 20)
        await books.enqueue("work", child, {"idempotency_key": child.n}, ctx.enqueue)


jobs.task("work")(act)
jobs.task("errand", queue="side")(act)


# ---------------------------------------------------------------- the callers


@define(eq=False)
class Books:
    """The two ledgers, and what the callers of this life know."""

    life: int
    caller: Ledger
    stage: Ledger
    asked: int = 0
    on_stage: dict[str, None] = field(factory=dict)
    runs: deque[str] = field(factory=lambda: deque(maxlen=150))
    """Acknowledged run ids, newest last."""
    keyed: deque[Line] = field(factory=lambda: deque(maxlen=100))
    """Calls with a key, answered or not."""
    unanswered: list[Line] = field(factory=list)
    """Calls of earlier lives that may be repeated: they have a key or a run id."""

    def recall(self, lines: list[Line]) -> None:
        """Know what earlier lives did."""
        open_: dict[str, Line] = {}
        for line in lines:
            if line["say"] == "ask":
                open_[line["id"]] = line
                self._remember(line)
                continue
            ask = open_.pop(line["id"], None)
            if ask is not None and line["say"] == "ack" and "run" in line:
                self.runs.append(line["run"])
        self.unanswered = [ask for ask in open_.values() if ask["do"] == "enqueue" and repeatable(ask["options"])]

    def _remember(self, ask: Line) -> None:
        if ask["do"] == "enqueue" and "idempotency_key" in ask["options"]:
            self.keyed.append(ask)

    async def ask(self, do: str, call: Callable[[str], Awaitable[Line]], **facts: object) -> None:
        """Make one call, written down before and after. Cancelled or killed in between, its outcome is unknown."""
        self.asked += 1
        me = f"{self.life}.{self.asked}"
        self.caller.say("ask", id=me, do=do, **facts)
        self._remember({"do": do, **facts})
        try:
            answer = await call(me)
        except CallsheetError as error:
            self.caller.say("refused", id=me, why=type(error).__name__)
            return
        self.caller.say("ack", id=me, **answer)
        if "run" in answer:
            self.runs.append(answer["run"])

    async def enqueue(
        self,
        task: str,
        plan: Plan,
        options: EnqueueOptions,
        how: Callable[..., Awaitable[EnqueueResult]] = jobs.enqueue,
    ) -> None:
        """One `enqueue`; `options` as JSON can say them."""

        async def call(_: str) -> Line:
            result = await how(task, plan, **options)
            return {"run": result.run_id, "deduped": result.deduped, "matches": result.payload_matches}

        await self.ask("enqueue", call, task=task, plan=asdict(plan), options=options)

    async def repeat(self, ask: Line) -> None:
        """Make a call of an earlier life again: its key or run id makes that safe."""
        await self.enqueue(ask["task"], Plan(**ask["plan"]), ask["options"])


def repeatable(options: EnqueueOptions) -> bool:
    """Whether a call with these options may be made twice."""
    return "idempotency_key" in options or "run_id" in options


@define(eq=False)
class Caller:
    """Somebody who calls at random."""

    books: Books
    chance: random.Random
    name: str
    made: int = 0

    async def step(self) -> None:
        """One call of some kind."""
        kinds = {
            self.enqueue: 58,
            self.repeat_key: 8,
            self.enqueue_many: 4,
            self.cancel: 18,
            self.replay: 12,
        }
        kind = self.chance.choices(list(kinds), list(kinds.values()))[0]
        await kind()

    def plan(self) -> Plan:
        """What some run shall do."""
        self.made += 1
        pick = self.chance.choices
        return Plan(
            n=f"{self.name}.{self.made}",
            ms=self.chance.randint(10, 120),
            fails=pick([0, 1, 2, 9], [70, 15, 8, 7])[0],
            by=pick(["raising", "retry_after", "hanging"], [60, 20, 20])[0],
            then=pick(["return", "discard", "snooze", "child", "late"], [70, 5, 8, 7, 10])[0],
        )

    async def enqueue(self) -> None:
        """A new run: with a key, with an id of its own, or with neither; a part of them delayed."""
        plan = self.plan()
        options: EnqueueOptions = {}
        how = self.chance.random()
        if how < 0.7:
            options["idempotency_key"] = f"key:{plan.n}"
        elif how < 0.85:
            options["run_id"] = f"own:{plan.n}"
        if self.chance.random() < 0.25:
            options["delay"] = self.chance.choice([0.05, 0.3, 1.0])
        if plan.by == "hanging" and plan.fails:
            options["timeout"] = 0.4
        await self.books.enqueue(self.chance.choices(["work", "errand"], [85, 15])[0], plan, options)

    async def repeat_key(self) -> None:
        """A key that was used before, sometimes with another payload."""
        if not self.books.keyed:
            return
        ask = self.chance.choice(self.books.keyed)
        if self.chance.random() < 0.2:
            await self.books.enqueue(ask["task"], self.plan(), ask["options"])
        else:
            await self.books.repeat(ask)

    async def enqueue_many(self, number: int | None = None, ms: int | None = None) -> None:
        """A few at once: all or none."""
        plans = [self.plan() for _ in range(number or self.chance.randint(2, 8))]
        plans = [Plan(each.n, ms or each.ms) for each in plans]

        async def call(_: str) -> Line:
            task: Task[Plan, Any] = jobs.tasks["work"]
            results = await jobs.enqueue_many([task.entry(each, idempotency_key=f"key:{each.n}") for each in plans])
            return {"runs": [each.run_id for each in results], "deduped": [each.deduped for each in results]}

        await self.books.ask("many", call, plans=[asdict(each) for each in plans])

    def some_run(self) -> str | None:
        """A run that is on stage now, or one that was acknowledged lately, whatever became of it."""
        books = self.books
        if books.on_stage and self.chance.random() < 0.4:
            return self.chance.choice(list(books.on_stage))
        return self.chance.choice(books.runs) if books.runs else None

    async def cancel(self) -> None:
        """Cancel some run."""
        run_id = self.some_run()
        if run_id is None:
            return

        async def call(_: str) -> Line:
            result = await jobs.runs.cancel(run_id)
            return {"canceled": result.canceled, "status": str(result.status)}

        await self.books.ask("cancel", call, of=run_id)

    async def replay(self) -> None:
        """Replay some run; refused when it has not ended."""
        run_id = self.some_run()
        if run_id is None:
            return

        async def call(me: str) -> Line:
            return {"run": (await jobs.runs.replay(run_id, reason=f"replay {me}")).run_id}

        await self.books.ask("replay", call, of=run_id)


# ---------------------------------------------------------------- the life


async def play(runtime: Runtime, books: Books, orders: Orders) -> None:
    """Call until somebody ends it."""
    load = 0

    async def weigh() -> None:
        nonlocal load
        while True:
            load = await unfinished(runtime)
            await trio.sleep(0.005)

    async def call(number: int) -> None:
        seed = f"{orders.seed}/{orders.life}/{number}"
        caller = Caller(books, random.Random(seed), f"{orders.life}.{number}")
        for ask in books.unanswered[number::CALLERS][-3:]:
            await books.repeat(ask)
        if orders.crowd:
            await caller.enqueue_many(orders.crowd // CALLERS, ms=2_000)
        while True:
            if load < ENOUGH:
                await caller.step()
            else:
                await trio.sleep(0.005)

    load = await unfinished(runtime)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(weigh)
        for number in range(CALLERS):
            nursery.start_soon(call, number)


async def finish(runtime: Runtime, books: Books, patience_s: float) -> None:
    """Learn what became of every unanswered call by making it again, and run everything to its end."""
    for ask in books.unanswered:
        await books.repeat(ask)
    with trio.move_on_after(patience_s):
        while await unfinished(runtime):  # noqa: ASYNC110 -- as anybody would who may only ask
            await trio.sleep(0.02)


async def unfinished(runtime: Runtime) -> int:
    """How many runs have not ended."""
    counts = await runtime.read(lambda reader: reader.counts())
    return sum(count.n for count in counts if not count.status.is_final)


async def live(folder: Path, orders: Orders) -> None:
    """From open to close."""
    store = SqliteStore if orders.mutant is None else MUTANTS[orders.mutant]
    books = Books(orders.life, Ledger(folder / "caller.jsonl"), Ledger(folder / "stage.jsonl"))
    books.stage.say("awake")
    if orders.slots:
        identity = jobs.queue_named("proof-jobs")
        jobs.queues[identity] = evolve(jobs.queues[identity], concurrency=orders.slots, batch_size=500)
    tail = TAIL if not orders.finish else sys.maxsize
    books.recall(LedgerReader(folder / "caller.jsonl").tail(tail))
    async with open_runtime(
        store(str(folder / "jobs.db")), jobs, app=books, signals=orders.signals, grace=orders.grace
    ) as runtime:
        books.stage.say("open", life=orders.life, boot=runtime.boot_id)
        await (finish(runtime, books, orders.patience) if orders.finish else play(runtime, books, orders))
    books.stage.say("closed", life=orders.life)


def main() -> None:
    """See the module."""
    folder = Path(sys.argv[1])
    line = sys.stdin.readline()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # before a runtime is open, and after: that is not what is tried
    if line:  # else whoever started us ahead of time does not need us
        trio.run(live, folder, Orders(**json.loads(line)))


if __name__ == "__main__":
    main()
