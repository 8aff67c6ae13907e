"""
Where orders of clients are carried out: through the same calls that a program uses, with their guards.

Rule: every order is answered, with what happened or with a code and a sentence; what changes something is logged.
Not here: what an order may look like (`messages`), who may give one (`client`).
"""

from __future__ import annotations

import logging
from typing import Any, Final, assert_never

from ..actors.journal import Overloaded
from ..errors import InvalidOption, RunNotFinished, RunNotFound, ShuttingDown
from ..jobs import Jobs
from ..runtime import Runtime
from ..store.errors import CallsheetError, StoreError
from ..store.records import History
from .messages import CancelRun, Order, ReplayRun, RequestId, ShowRun
from .rows import Row, details

_log = logging.getLogger("callsheet.monitor")

# {error: the code a client can act on}; the first that fits
CODES: Final[dict[type[Exception], str]] = {
    RunNotFound: "not_found",
    RunNotFinished: "not_finished",
    ShuttingDown: "shutting_down",
    Overloaded: "overloaded",
    InvalidOption: "bad_field",
    StoreError: "store",
    CallsheetError: "refused",
}


class NotHere(CallsheetError):
    """The run belongs to a Jobs instance that this runtime does not run."""

    def __init__(self, run_id: str, jobs: str) -> None:
        super().__init__(f"run {run_id} belongs to {jobs}, which this runtime does not run: steer it where it runs")


async def carry_out(runtime: Runtime, order: Order, peer: str) -> Row:
    """The answer to `order`. Never raises but for cancellation."""
    try:
        return {"type": "done", "id": order.id, "result": await _do(runtime, order, peer)}
    except NotHere as error:
        return failure(order.id, "not_here", str(error))
    except Exception as error:  # noqa: BLE001 -- the client is told; an unexpected one is logged
        for kind, code in CODES.items():
            if isinstance(error, kind):
                return failure(order.id, code, str(error))
        _log.exception("the monitor could not do %r", order)
        return failure(order.id, "internal", "that failed; the log says why")


def failure(request_id: RequestId | None, code: str, message: str) -> Row:
    """The answer to what could not be done."""
    return {"type": "error", "id": request_id, "code": code, "message": message}


async def _do(runtime: Runtime, order: Order, peer: str) -> dict[str, Any]:
    history = await runtime.read(lambda reader: reader.get(order.run_id))
    if history is None:
        raise RunNotFound(order.run_id)
    match order:
        case ShowRun():
            return details(history)
        case CancelRun(run_id=run_id):
            _log.info("monitor client %s cancels run %s", peer, run_id)
            canceled = await _jobs_of(runtime, history).runs.cancel(run_id, "by the monitor")
            return {"run_id": run_id, "canceled": canceled.canceled, "status": str(canceled.status)}
        case ReplayRun(run_id=run_id, reason=reason):
            _log.info("monitor client %s replays run %s", peer, run_id)
            replayed = await _jobs_of(runtime, history).runs.replay(run_id, reason=reason or "by the monitor")
            return {"run_id": replayed.run_id, "replay_of": run_id, "status": str(replayed.run.status)}
        case _:
            assert_never(order)


def _jobs_of(runtime: Runtime, history: History) -> Jobs:
    identity = history.run.lane.jobs
    for jobs in runtime.jobs:
        if jobs.identity == identity:
            return jobs
    raise NotHere(history.run.id, identity)
