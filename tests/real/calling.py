"""
Who calls, in a `worker` or through a client: at random, and it writes down what it asks before, and what it was told after.

Rule: nothing else happens between an answer and its line.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from acting import Plan, jobs
from attrs import asdict, define, field
from ledger import Ledger, Line

from callsheet import CallsheetError, EnqueueOptions, EnqueueResult, Task


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
    desk: Any = jobs
    """Who is called: the Jobs themselves, or what stands before a client of theirs."""

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
        how: Callable[..., Awaitable[EnqueueResult]] | None = None,
    ) -> None:
        """One `enqueue`; `options` as JSON can say them."""

        async def call(_: str) -> Line:
            result = await (how or self.desk.enqueue)(task, plan, **options)
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
    ms: tuple[int, int] = (10, 120)
    """How long runs last."""
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
            ms=self.chance.randint(*self.ms),
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
            results = await self.books.desk.enqueue_many(
                [task.entry(each, idempotency_key=f"key:{each.n}") for each in plans]
            )
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
            result = await self.books.desk.runs.cancel(run_id)
            return {"canceled": result.canceled, "status": str(result.status)}

        await self.books.ask("cancel", call, of=run_id)

    async def replay(self) -> None:
        """Replay some run; refused when it has not ended."""
        run_id = self.some_run()
        if run_id is None:
            return

        async def call(me: str) -> Line:
            return {"run": (await self.books.desk.runs.replay(run_id, reason=f"replay {me}")).run_id}

        await self.books.ask("replay", call, of=run_id)
