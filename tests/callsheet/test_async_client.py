"""A client for event loops, trio's and asyncio's: the calls of `Client`, none of which holds the loop up."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import apsw
import pytest
import trio

from callsheet import (
    AsyncClient,
    Client,
    Context,
    Jobs,
    NoStore,
    RunNotFound,
    Status,
    StoreBusy,
    StoreClosed,
    UnknownTask,
    WaitTimeout,
)
from callsheet.client import direct
from callsheet.client.client import ClientQueues, ClientRuns, ClientSchedules

NOT_AWAITED: Final = {"of", "port", "jobs", "entered", "behind"}
"""What a Client has that waits for nothing, or is not for users."""

jobs: Final = Jobs("shop", namespace="acme")


@jobs.task("send")
async def send(to: str, ctx: Context) -> str:
    return f"sent to {to}"


@pytest.fixture(params=["trio", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Runs a function in one of the event loops."""
    return lambda main: anyio.run(main, backend=request.param)


@pytest.fixture(params=["typed", "published"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    """A client, of a store that a runtime has used."""
    path = tmp_path / "jobs.db"

    async def open_once() -> None:
        async with jobs.open(path):
            pass

    trio.run(open_once)
    return jobs.client(path) if request.param == "typed" else Client(path)


def test_every_call_of_a_client_is_a_coroutine_there() -> None:
    """None is left out, and each is documented."""
    for one, other in (
        (Client, AsyncClient),
        (ClientRuns, AsyncClient(jobs.client("x")).runs),
        (ClientQueues, AsyncClient(jobs.client("x")).queues),
        (ClientSchedules, AsyncClient(jobs.client("x")).schedules),
    ):
        for name in {name for name in vars(one) if not name.startswith("_")} - NOT_AWAITED:
            assert inspect.getdoc(getattr(other, name)), name
            assert inspect.iscoroutinefunction(inspect.unwrap(getattr(other, name))) or hasattr(
                getattr(other, name), "__wrapped__"
            ), name


def test_each_call_does_what_that_of_the_client_does(run: Any, made: Client) -> None:
    """Requesting, looking, steering, under both loops."""

    async def main() -> None:
        async with AsyncClient(made) as client:
            sent = await client.enqueue("send", "ann", idempotency_key="k")
            later = await client.enqueue_in("send", 60, "ben")
            then = await client.enqueue_at("send", datetime.now(UTC) + timedelta(days=1), "cy")
            many = await client.enqueue_many([await client.entry("send", each) for each in ("di", "ed")])
            runs = [each.run_id for each in (sent, later, then, *many)]

            assert sorted(runs) == sorted(each.id for each in (await client.runs.list(task="send")).runs)
            assert "ann" == (await client.runs.get(sent.run_id)).payload
            assert Status.QUEUED is (await client.runs.explain(sent.run_id)).status
            assert (await client.runs.cancel(sent.run_id, reason="no")).canceled
            assert "canceled: no" == (await client.runs.wait(sent.run_id, timeout=9)).cause
            assert sent.run_id == (await client.runs.replay(sent.run_id)).run.replay_of
            assert 5 == (await client.runs.cancel_all(task="send")).done
            assert 5 == (await client.runs.replay_all(status="canceled", limit=9)).done
            assert (await client.queues.pause()).paused
            assert 7 == (await client.queues.set(concurrency=7)).concurrency
            assert ["shop-jobs"] == [each.name for each in await client.queues.list()]
            assert (True, 100) == ((await client.queues.get()).paused, (await client.queues.reset()).concurrency)
            assert not (await client.queues.resume()).paused
            assert (await client.stats()).total == (await client.snapshot()).stats.total
            assert () == await client.runtimes()
            assert ["send"] == [each.name for each in await client.definitions()]
            assert jobs.config == await client.config()
            assert "acme/shop" in repr(client) or "published" in repr(client)
        with pytest.raises(StoreClosed):
            await client.stats()

    run(main)


def test_errors_are_those_of_the_client(run: Any, made: Client, tmp_path: Path) -> None:
    """With the same facts."""

    async def main() -> None:
        async with AsyncClient(made) as client:
            with pytest.raises(UnknownTask, match="did you mean 'send'"):
                await client.enqueue("sned", "ann")
            with pytest.raises(RunNotFound):
                await client.runs.wait("nobody")
            waits = (await client.enqueue("send", "ann")).run_id
            with pytest.raises(WaitTimeout) as late:
                await client.runs.wait(waits, timeout=0.01)
            assert (waits, Status.QUEUED, 0.01) == (late.value.run_id, late.value.status, late.value.timeout_s)
            for wrong in (-1, float("nan"), "soon"):
                with pytest.raises((ValueError, TypeError)):
                    await client.runs.wait(waits, timeout=wrong)  # type: ignore[arg-type]
        async with AsyncClient(Client(tmp_path / "no.db")) as client:
            with pytest.raises(NoStore):
                await client.stats()

    run(main)
    with pytest.raises(TypeError, match="made of a Client"):
        AsyncClient(tmp_path / "jobs.db")  # type: ignore[arg-type]


def test_a_wait_is_cancelled_at_once_and_holds_no_thread(run: Any, made: Client) -> None:
    """However long it would have gone on; more of them than there are threads keep no other call from being made."""

    async def main() -> None:
        async with AsyncClient(made) as client:
            waits = (await client.enqueue("send", "ann")).run_id
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    for _ in range(60):
                        tasks.start_soon(client.runs.wait, waits)
                    await anyio.lowlevel.checkpoint()
                    for _ in range(10):
                        await client.enqueue("send", "ben")
                    tasks.cancel_scope.cancel()
            assert 11 == (await client.stats()).total

    run(main)


def test_another_call_is_cancelled_when_it_is_done(run: Any, made: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never half: what had begun when it was cancelled is stored. The loop goes on meanwhile."""
    path = Path(made.port.where)

    async def main() -> None:
        async with AsyncClient(made) as client:
            await client.stats()
            other = apsw.Connection(str(path))
            other.execute("begin immediate")
            began = anyio.Event()
            write = direct.Direct._write

            def noted(self: direct.Direct, commands: Any) -> Any:
                anyio.from_thread.run_sync(began.set)
                return write(self, commands)

            monkeypatch.setattr(direct.Direct, "_write", noted)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.enqueue, "send", "ann")
                await began.wait()
                tasks.cancel_scope.cancel()
                other.execute("rollback")
            other.close()
            assert 1 == (await client.stats()).total

    run(main)


def test_p10_a_busy_store_holds_up_no_loop(run: Any, made: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """While calls wait for somebody else's transaction, others read, and the loop turns."""
    monkeypatch.setattr(direct, "BUSY_S", 0.1)
    path = Path(made.port.where)

    async def main() -> None:
        async with AsyncClient(made) as client:
            await client.stats()
            other = apsw.Connection(str(path))
            other.execute("begin immediate")
            turns, refused = 0, []

            async def call() -> None:
                try:
                    await client.enqueue("send", "ann")
                except StoreBusy as error:
                    refused.append(error.waited_s)

            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(call)
                while len(refused) < 3:
                    await client.stats()
                    turns += 1
            other.close()
            assert ([0.1] * 3, True) == (refused, turns > 3)

    run(main)
