"""
The jobs: what can be requested, and how it is done. Imported by the worker, which runs them, and by all who request them.

    python examples/clients/worker.py reports.db          # in one terminal: runs what is requested
    python examples/clients/web_asyncio.py reports.db     # in another: a web application on asyncio
    python examples/clients/web_threads.py reports.db     # or one on threads
    python examples/clients/script.py reports.db May      # or a script that waits for the result
"""

import trio
from attrs import frozen

from callsheet import Context, Jobs, Queue

jobs = Jobs("reports", namespace="example", queue=Queue(concurrency=10))


@frozen
class Report:
    """The payload: checked where it is requested, and before it is run."""

    month: str
    pages: int = 3


@jobs.task("make-report", timeout=60)
async def make_report(payload: Report, ctx: Context) -> dict[str, object]:
    """Takes a moment, and tells how far it is."""
    for page in range(1, payload.pages + 1):
        ctx.progress({"page": page, "of": payload.pages})
        await trio.sleep(0.02)
    return {"month": payload.month, "pages": payload.pages}
