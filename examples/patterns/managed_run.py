"""
A managed run: look at it, ask why it waits, cancel it, do it once more. To be copied.

    python examples/patterns/managed_run.py
"""

import trio

from callsheet import Context, Jobs, Queue, Retry

jobs = Jobs("reports", namespace="example", queue=Queue(concurrency=1), retry=Retry(attempts=1))
figures = {"May": False}
"""Whether those of a month are there."""
begun, noon = trio.Event(), trio.Event()
"""Play the work that takes its time: it has begun, and it may end."""


@jobs.task("make-report")
async def make_report(month: str, ctx: Context) -> str:
    """One attempt: it takes until noon, and needs its figures."""
    begun.set()
    await noon.wait()
    if not figures[month]:
        raise LookupError(f"no figures for {month}")
    return f"report of {month}"


async def main() -> None:
    """What somebody at a desk does with runs."""
    async with jobs.open(":memory:"):
        first = await make_report.enqueue("May")
        second = await make_report.enqueue("June")
        await begun.wait()  # it has the only slot

        print("June:", (await jobs.runs.explain(second.run_id)).text)
        canceled = await jobs.runs.cancel(second.run_id, reason="not needed")
        print(f"June: {canceled.status} ({(await jobs.runs.get(second.run_id)).run.cause})")

        noon.set()
        run = await jobs.runs.wait(first.run_id)
        error = (await jobs.runs.get(first.run_id)).attempts[-1].error
        print(f"May: {run.status} ({run.cause}); {error.type if error else 'nothing'} was raised")

        figures["May"] = True
        for dead in (await jobs.runs.list(task="make-report", status="dead_lettered", limit=50)).runs:
            again = await jobs.runs.replay(dead.id, reason="the figures are there")
            await jobs.runs.wait(again.run_id)
            print(f"May, once more ({again.run.reason}):", await jobs.runs.result(again.run_id))

        details = await jobs.runs.get(first.run_id)
        print(f"May: still {details.run.status}, replayed {len(details.replays)} time")


if __name__ == "__main__":
    trio.run(main)
