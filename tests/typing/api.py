"""
What a type checker makes of the public names. This file is checked (`make check`), never run.

Rule: use the package as a user would, and say with `assert_type` what must come out.
"""

from pathlib import Path
from typing import assert_type

import callsheet

assert_type(callsheet.__version__, str)
callsheet.no_such_name  # type: ignore[attr-defined]  # although names load lazily


jobs = callsheet.Jobs("typed")


@jobs.task("double")
async def double(n: int, ctx: callsheet.Context) -> str:
    assert_type(ctx.attempt, int)
    return str(n)


assert_type(double, callsheet.Task[int, str])


async def use() -> None:
    """Calls as a user makes them; what must be an error has its ignore, which fails when it is none."""
    async with jobs.open(Path("jobs.db"), grace=3) as runtime:
        assert_type(runtime, callsheet.Runtime)
        result = await double.enqueue(2, delay=1.5, idempotency_key="k")
        assert_type(result, callsheet.EnqueueResult)
        assert_type(result.run, callsheet.Run)
        await double.enqueue("2")  # type: ignore[arg-type]
        await double.enqueue(2, dealy=1)  # type: ignore[call-arg]
        assert_type(await jobs.enqueue_many([double.entry(1)]), list[callsheet.EnqueueResult])
        assert_type((await jobs.runs.get(result.run_id)).run.status, callsheet.Status)
        assert_type((await jobs.runs.list(status="queued")).next, str | None)
        assert_type(await jobs.runs.wait(result.run_id, timeout=1), callsheet.Run)
