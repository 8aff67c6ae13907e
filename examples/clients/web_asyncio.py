"""
A web application on asyncio that requests reports and shows how far they are, beside a worker in another process.

    pip install 'callsheet[anyio]' starlette uvicorn
    python examples/clients/web_asyncio.py reports.db 8000
    curl -X POST localhost:8000/reports -d '{"month": "May"}'

The same in FastAPI: its handlers are coroutines on the same loop, and use the same client.
"""

import contextlib
import sys
from collections.abc import AsyncIterator

import uvicorn
from reports import Report, jobs, make_report
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from callsheet import AsyncClient, PayloadInvalid, RunNotFound, StoreBusy


def application(database: str) -> Starlette:
    """One client serves all requests; nothing is opened before the first of them."""
    client = AsyncClient(jobs.client(database))

    async def request_report(request: Request) -> JSONResponse:
        """The answer is given when the report is on disk, so it may be promised: it will be made, whatever happens."""
        asked = await request.json()
        try:
            receipt = await client.enqueue(
                make_report,
                Report(asked.get("month"), asked.get("pages", 3)),
                idempotency_key=request.headers.get("Idempotency-Key") or f"report:{asked.get('month')}",
            )
        except PayloadInvalid as error:  # a month that is no text, say
            return JSONResponse({"error": str(error)}, 422)
        except StoreBusy as error:  # somebody else writes for longer than five seconds: nothing was stored
            return JSONResponse({"error": str(error)}, 503, {"Retry-After": "5"})
        return JSONResponse({"id": receipt.run_id, "known": receipt.deduped}, 202)

    async def show_report(request: Request) -> JSONResponse:
        """Where it is, and what came of it."""
        try:
            found = await client.runs.get(request.path_params["run_id"])
        except RunNotFound as error:
            return JSONResponse({"error": str(error)}, 404)
        return JSONResponse({"status": found.run.status, "progress": found.progress, "result": found.result})

    async def cancel_report(request: Request) -> JSONResponse:
        """Also one that is being made: its handler is stopped, in the other process."""
        done = await client.runs.cancel(request.path_params["run_id"], "by its owner")
        return JSONResponse({"canceled": done.canceled, "status": done.status})

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    routes = [
        Route("/reports", request_report, methods=["POST"]),
        Route("/reports/{run_id}", show_report),
        Route("/reports/{run_id}", cancel_report, methods=["DELETE"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), port=int(sys.argv[2]), log_level="warning")
