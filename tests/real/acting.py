"""
What the runs of a `worker` do: as their payload says, try by try, and each begin and end is written down.

Rule: a handler's first line is in the ledger before it does anything else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol

import trio
from attrs import frozen
from ledger import Ledger

from callsheet import Context, Custom, Discard, EnqueueOptions, EnqueueResult, Jobs, Queue, Retry, RetryAfter, Snooze


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


class Shared(Protocol):
    """What handlers share; they find it as `ctx.app`."""

    life: int
    stage: Ledger
    on_stage: dict[str, None]

    async def enqueue(
        self, task: str, plan: Plan, options: EnqueueOptions, how: Callable[..., Awaitable[EnqueueResult]]
    ) -> None:
        """One call, written down."""


async def act(plan: Plan, ctx: Context) -> dict[str, object]:
    """Write down that it began, do as planned, write down how that ended."""
    books: Shared = ctx.app
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


async def perform(plan: Plan, ctx: Context, books: Shared) -> None:
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
