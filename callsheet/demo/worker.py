"""
The worker, a process of its own: requests the deliveries of the plan and makes them, until all have ended.

    python -m callsheet.demo.worker --folder FOLDER --url URL --seed N --runs N [--monitor PORT] [--answer-early MS]

Rule: it may be killed at any line. Started again on the same folder it goes on: callsheet with the deliveries that are
acknowledged, the caller with those that are not.
Not here: the receiver, the killing, the comparison. `examples/webhooks.py` is the short version, to be copied.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import trio
from attrs import define, frozen

from .. import Context, Custom, Discard, Jobs, Queue, Retry, RetryAfter, Runtime, Status, open_runtime
from ..actors.seams import Seams
from .child import VARIABLE, orphaned, say
from .early import EarlyStore
from .ledger import CALLER, STORE, Acknowledged, Ledger, Tail
from .plan import Call, Plan, key_of

if TYPE_CHECKING:
    from ..monitor import Monitor

SLOTS: Final = 100
"""As many connections as the HTTP client holds by default."""
CALLERS: Final = 8
PER_SECOND: Final = 150
"""Calls of `enqueue`, all callers together: a service on a good day. It could be a hundred times as many."""
GRACE_S: Final = 2.0
LOOK_S: Final = 0.1
UNFINISHED: Final = [status for status in Status if not status.is_final]

jobs: Final = Jobs("webhooks", namespace="demo", queue=Queue(concurrency=SLOTS, batch_size=50))


@frozen
class Delivery:
    """The payload."""

    event: str
    text: str


@frozen
class Endpoint:
    """What handlers share; they find it as `ctx.app`."""

    client: httpx.AsyncClient
    url: str


@jobs.task("deliver-webhook", retry=Retry(attempts=6, backoff=Custom([0.2, 0.3, 0.5, 0.8, 1.0])), timeout=2.0)
async def deliver_webhook(payload: Delivery, ctx: Context) -> None:
    """POST it. Whatever is raised is a failed attempt; so is an answer that takes more than the timeout."""
    endpoint: Endpoint = ctx.app
    sent = {"event": payload.event, "text": payload.text, "run_id": ctx.run_id, "attempt": ctx.attempt}
    answer = await endpoint.client.post(endpoint.url, json=sent)
    if answer.status_code == httpx.codes.GONE:
        raise Discard("410: the endpoint is gone")
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise RetryAfter(float(answer.headers["Retry-After"]), "503")
    answer.raise_for_status()


@define(eq=False)
class Caller:
    """Whoever requests the deliveries: keeps books of what was acknowledged, and repeats what was not."""

    calls: Iterator[Call]
    ledger: Ledger

    async def call(self) -> None:
        """Request deliveries, one after another, until there are no more."""
        for call in self.calls:
            delivery = Delivery(call.event, f"order {call.event} has shipped")
            receipt = await deliver_webhook.enqueue(delivery, idempotency_key=key_of(call.event), delay=call.delay_s)
            self.ledger.append(Acknowledged(call.n, call.event, receipt.run_id, receipt.deduped))
            await trio.sleep(CALLERS / PER_SECOND)

    async def call_all(self) -> None:
        """The same with several callers."""
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(self.call)


def caller(folder: Path, plan: Plan) -> Caller:
    """The caller, who reads the ledger before going on."""
    done = {entry.call for entry in Tail(folder / CALLER).new() if isinstance(entry, Acknowledged)}
    return Caller(iter([call for call in plan.calls if call.n not in done]), Ledger(folder / CALLER))


async def all_ended() -> None:
    """Return when every run has ended; those that wait for a retry or for their time included."""
    while any([(await jobs.runs.list(status=each, limit=1)).runs for each in UNFINISHED]):  # noqa: ASYNC110 -- as any caller would
        await trio.sleep(LOOK_S)


async def work(given: argparse.Namespace) -> None:
    """From opening the store until everything has ended; with a monitor, until somebody ends it."""
    seams = Seams.real()
    plan = Plan.of(given.seed, given.runs)
    client = httpx.AsyncClient(
        timeout=None,  # noqa: S113 -- the timeout of the task is the one that counts
        trust_env=False,  # a proxy would not find this host's loopback
    )
    async with client, store_of(given) as store:
        say(opening_us=seams.clock.wall_us())
        opened = open_runtime(
            store,
            jobs,
            app=Endpoint(client, given.url),
            signals=True,
            grace=GRACE_S,
            monitor=monitor_of(given),
            seams=seams,
        )
        async with opened as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(stop_when_orphaned, runtime)
            say(monitor=runtime.monitor_url)
            await caller(given.folder, plan).call_all()
            await all_ended()
            say(done=True)
            if given.monitor is not None:
                await runtime.forever()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def store_of(given: argparse.Namespace) -> AsyncIterator[str | EarlyStore]:
    """The store: a file, unless it is to answer early."""
    if not given.answer_early:
        yield str(given.folder / STORE)
        return
    store = EarlyStore(given.folder, STORE, given.answer_early / 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.commit_late)
        yield store
        nursery.cancel_scope.cancel()


def monitor_of(given: argparse.Namespace) -> Monitor | None:
    """With the token that the parent chose: it keeps one link over several lives of this process."""
    if given.monitor is None:
        return None
    from ..monitor import Monitor

    return Monitor(port=given.monitor, token=os.environ[VARIABLE])


async def stop_when_orphaned(runtime: Runtime) -> None:
    """Nobody would read the result any more."""
    await orphaned()
    runtime.stop(grace=0)


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(prog="python -m callsheet.demo.worker")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--monitor", type=int, metavar="PORT")
    parser.add_argument("--answer-early", type=float, default=0.0, metavar="MS")
    trio.run(partial(work, parser.parse_args()))


if __name__ == "__main__":
    main()
