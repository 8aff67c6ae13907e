"""What clients are told: the truth, soon, as fast as each can take it and no faster; and what that costs the others."""

from __future__ import annotations

import gc
import logging
import random
import struct
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from termios import FIONREAD, TIOCOUTQ
from typing import Any, Final

import pytest
import trio
import trio.testing

import callsheet.monitor.client as client_module
import callsheet.monitor.feed as feed_module
from callsheet import Discard, Jobs, Monitor, Queue, Retry, Runtime, Status
from callsheet.monitor.board import MAX_CHANGED
from callsheet.monitor.client import ACK_S, CREDIT, SEND_S
from callsheet.monitor.feed import Feed
from callsheet.monitor.rows import stats_row
from callsheet.store.contract import Cancel, Prune
from callsheet.store.errors import StoreBusy

from .visitor import Rude, Watcher, pass_time, rude, settled, token_of, until, watching

MIB: Final = 1024 * 1024


@pytest.fixture
def jobs() -> Jobs:
    """One task whose payload says how each of its runs goes."""
    jobs = Jobs("background", namespace="app", queue=Queue(concurrency=100, batch_size=100))

    @jobs.task("act", retry=Retry(attempts=3, backoff="fixed", initial_delay=0.01))
    async def act(payload: Any, ctx: object) -> None:
        match payload:
            case "fail":
                raise RuntimeError("it failed")
            case "discard":
                raise Discard("no use")
            case "verbose":
                raise Discard("ü" * 1_000)
            case "hang":
                await trio.sleep_forever()

    return jobs


@pytest.fixture
async def runtime(jobs: Jobs) -> AsyncIterator[Runtime]:
    """At work in memory, with a monitor."""
    async with jobs.open(":memory:", monitor=Monitor(), grace=0) as runtime:
        yield runtime


@pytest.fixture(params=["memory", "sqlite"])
async def either(request: pytest.FixtureRequest, jobs: Jobs, tmp_path: Path) -> AsyncIterator[Runtime]:
    """The same, on disk too: there, work goes on while the feed reads."""
    place = ":memory:" if request.param == "memory" else str(tmp_path / "jobs.db")
    async with jobs.open(place, monitor=Monitor(), grace=0) as runtime:
        yield runtime


def feed_of(runtime: Runtime) -> Feed:
    """What is behind its websocket."""
    feed: Feed = runtime.system.stage.registry["/monitor"].actor._feed  # type: ignore[union-attr]
    return feed


async def quiet(runtime: Runtime) -> None:
    """Return when the feed has looked twice since now, with nothing new."""
    feed = feed_of(runtime)
    while True:
        rev, looks = feed.board.rev, feed.looks
        while feed.looks < looks + 2:
            feed.ask()
            await trio.sleep(0.01)
        if feed.board.rev == rev and not feed._changed and not feed._lost:
            return


async def work(jobs: Jobs, chance: random.Random, n: int) -> None:
    """So many random things."""
    runs: list[str] = []
    lasting: list[str] = []
    for _ in range(n):
        match chance.choice(["enqueue", "enqueue", "many", "cancel", "replay", "rest"]):
            case "enqueue":
                how = chance.choice(["ok", "ok", "fail", "discard", "hang"])
                delay = chance.choice([0.0, 0.0, 0.02, 3_600.0])
                runs.append((await jobs.enqueue("act", how, delay=delay)).run_id)
                if how == "hang" or delay > 1:
                    lasting.append(runs[-1])
            case "many":
                task = jobs.tasks["act"]
                runs += [each.run_id for each in await jobs.enqueue_many([task.entry("ok")] * chance.randrange(1, 30))]
            case "cancel" if runs:
                await jobs.runs.cancel(chance.choice(lasting or runs))
            case "replay" if runs:
                run = (await jobs.runs.get(chance.choice(runs))).run
                if run.status.is_final:
                    runs.append((await jobs.runs.replay(run.id)).run_id)
            case _:
                await trio.sleep(chance.random() * 0.02)


async def level(goal: int, quick: Watcher, *others: Watcher) -> None:
    """All have the state of one moment: the tree may change in a quiet one too, when an actor looks around."""
    while True:
        await quick.until(lambda goal=goal: quick.rev >= goal)
        for each in others:
            while each.rev < goal:
                await each.next()
        goal = max(each.rev for each in (quick, *others))
        if all(each.rev == goal for each in (quick, *others)):
            return


# I40


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("changes_kept", [MAX_CHANGED, 10])
async def test_a_snapshot_and_its_deltas_are_what_a_fresh_snapshot_says(
    jobs: Jobs, either: Runtime, seed: int, changes_kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I40: at random points of random work, for a client that keeps up and for one that takes a frame now and then."""
    monkeypatch.setattr(feed_module, "MAX_CHANGED", changes_kept)
    runtime = either
    chance = random.Random(seed)
    async with watching(runtime) as quick, watching(runtime) as slow, trio.open_nursery() as nursery:
        nursery.start_soon(quick.listen)
        for _ in range(4):
            await work(jobs, chance, 30)
            await quiet(runtime)
            async with watching(runtime) as fresh:
                await level(feed_of(runtime).board.rev, quick, slow, fresh)
                counts, found = await runtime.read(feed_module.read_recent)
                rows = [row for _, row in found]
                for each in (quick, slow, fresh):
                    assert stats_row(counts) == each.state["stats"]
                    assert fresh.state == each.state
                    assert rows == [each.runs.get(row["id"]) for row in rows]
        assert (quick.resets > 0) == (changes_kept < MAX_CHANGED)
        nursery.cancel_scope.cancel()


async def test_a_run_is_seen_in_each_of_its_states(jobs: Jobs, either: Runtime) -> None:
    """As they happen, with what goes with them."""
    runtime = either
    async with watching(runtime) as watcher:
        run = (await jobs.enqueue("act", "hang")).run_id
        while watcher.runs.get(run, {}).get("status") != "running":
            await watcher.next()
        assert (1, 0, 3) == tuple(watcher.runs[run][name] for name in ("attempt", "spent", "max"))
        assert 1 == watcher.state["stats"]["running"]
        while watcher.state["queues"][0]["on_stage"] != 1:
            await watcher.next()

        await jobs.runs.cancel(run, "enough")
        while watcher.runs[run]["status"] != "canceled":
            await watcher.next()
        assert "canceled: enough" == watcher.runs[run]["cause"]

        failed = (await jobs.enqueue("act", "fail")).run_id
        while watcher.runs.get(failed, {}).get("status") != "dead_lettered":
            await watcher.next()
        assert ("RuntimeError: it failed", 3) == (watcher.runs[failed]["error"], watcher.runs[failed]["spent"])
        assert 0 == watcher.resets


async def test_a_parked_task_is_seen_without_any_commit(runtime: Runtime) -> None:
    """The tree is looked at once a second while somebody watches."""
    async with watching(runtime) as watcher:
        cell = runtime.system.stage.registry["/tasks/app/background/act"]
        while not cell.parked:
            cell.ref.tell("nonsense")
            await trio.testing.wait_all_tasks_blocked()

        while "parked" not in str(watcher.state["tree"]):
            await watcher.next()

    assert "AssertionError" in str(watcher.state["tree"])


async def test_another_process_that_writes_is_noticed(jobs: Jobs, runtime: Runtime) -> None:
    """It tells nobody what it changed; the counters do, and everybody starts again."""
    run = (await jobs.enqueue("act", "ok", delay=3_600)).run_id
    async with watching(runtime) as watcher:
        await quiet(runtime)
        listeners, runtime.journal.on_committed[:] = runtime.journal.on_committed[:], []
        await jobs.runs.cancel(run)
        runtime.journal.on_committed[:] = listeners

        while watcher.runs[run]["status"] != "canceled":
            await watcher.next()

    assert 1 == watcher.resets


async def test_what_is_pruned_goes_from_the_page(jobs: Jobs, runtime: Runtime) -> None:
    """Though a commit does not say which runs that were, and others change in the same one."""
    old = (await jobs.enqueue("act", "discard")).run_id
    kept = (await jobs.enqueue("act", "hang")).run_id
    await jobs.runs.wait(old)
    async with watching(runtime) as watcher:
        assert {old, kept} == set(watcher.runs)

        for _ in range(2):  # one that finds something, and one that does not
            prune = Prune(jobs.identity, Status.DEAD_LETTERED, runtime.seams.clock.steady_us(), 9)
            await runtime.write_all([prune, Cancel(kept)])
            while old in watcher.runs or watcher.runs[kept]["status"] != "canceled":
                await watcher.next()
        await quiet(runtime)

        assert {kept} == set(watcher.runs)
        assert 1 == watcher.resets


# Nobody watches


async def test_while_nobody_watches_nothing_is_kept_or_read(jobs: Jobs, runtime: Runtime) -> None:
    """The monitor that is on all night costs a comparison a commit."""
    await work(jobs, random.Random(1), 200)
    feed = feed_of(runtime)

    assert (0, {}, False, 0) == (feed.looks, feed._changed, feed._lost, len(feed.board._runs))


async def test_when_the_last_client_leaves_what_was_kept_goes(jobs: Jobs, runtime: Runtime) -> None:
    """And the next one starts with the truth."""
    feed = feed_of(runtime)
    async with watching(runtime) as watcher:
        await work(jobs, random.Random(2), 50)
        await watcher.next()
    await until(lambda: not feed.watchers)
    looks = feed.looks
    await work(jobs, random.Random(3), 50)

    assert (looks, {}, 0, None) == (feed.looks, feed._changed, len(feed.board._runs), feed._recent)
    async with watching(runtime) as watcher, watching(runtime) as fresh:
        assert watcher.runs == fresh.runs


@pytest.mark.parametrize("look", ["_look", "snapshot"])
async def test_who_leaves_during_a_look_leaves_nothing_behind(jobs: Jobs, runtime: Runtime, look: str) -> None:
    """What a look brings when the last client has gone is not shown to the next one as the truth."""
    feed = feed_of(runtime)
    await work(jobs, random.Random(2), 5)
    feed._lost = True  # so that a look reads everything

    await getattr(feed, look)()

    assert ({}, 0, None) == (feed._changed, len(feed.board._runs), feed._recent)


# Slow, deaf and hostile


async def test_who_acknowledges_nothing_gets_two_frames(jobs: Jobs, runtime: Runtime) -> None:
    """Credit: the third comes when the first was acknowledged, and says everything since."""
    async with watching(runtime, snapshot=False) as watcher, watching(runtime) as quick, trio.open_nursery() as nursery:
        nursery.start_soon(quick.listen)
        frames: list[dict[str, Any]] = []
        last = ""
        while len(frames) < CREDIT:
            await jobs.enqueue("act", "ok")
            with trio.move_on_after(0.2):
                frames.append(await watcher.next(ack=False))
        for _ in range(20):
            last = (await jobs.enqueue("act", "ok")).run_id
            await trio.sleep(0.01)
        await quick.until(lambda: quick.runs.get(last, {}).get("status") == "succeeded")
        with trio.move_on_after(0.5):
            frames.append(await watcher.next(ack=False))
        assert len(frames) == CREDIT

        await watcher.say({"type": "ack", "rev": frames[0]["rev"]})
        await watcher.next(ack=False)

        assert watcher.runs[last]["status"] == "succeeded"
        assert watcher.resets == 0
        nursery.cancel_scope.cancel()


def has_been_sent(feed: Feed) -> bool:
    """Whether its only client has been sent a frame."""
    return any(each.unacked for each in feed.watchers)  # type: ignore[attr-defined]


async def test_who_is_deaf_for_half_a_minute_is_dropped(
    jobs: Jobs, runtime: Runtime, mock_clock: trio.testing.MockClock
) -> None:
    """No acknowledgement for 30 seconds: its seat is free again."""
    async with rude(runtime) as client:
        await client.say({"type": "hello", "token": token_of(runtime)})
        await until(lambda: has_been_sent(feed_of(runtime)))
        await settled()
        mock_clock.jump(ACK_S - 1)
        await settled()
        assert feed_of(runtime).watchers

        await pass_time(mock_clock, lambda: not feed_of(runtime).watchers)
        assert await client.closing() is None


async def test_a_frame_that_is_not_taken_closes_the_transport(
    jobs: Jobs, runtime: Runtime, mock_clock: trio.testing.MockClock
) -> None:
    """After five seconds, by force: half a frame is out, and nothing polite can follow it."""
    task = jobs.tasks["act"]
    entries = [task.entry("ok", run_id=f"{n:03}" + "r" * 120, delay=3_600, trace_id="t" * 100) for n in range(200)]
    await jobs.enqueue_many(entries)
    feed = feed_of(runtime)
    async with rude(runtime, receive_buffer=2_048) as client:
        await client.say({"type": "hello", "token": token_of(runtime)})
        await until(lambda: has_been_sent(feed))
        await settled()
        mock_clock.jump(SEND_S - 0.5)
        await settled()
        assert feed.watchers

        mock_clock.jump(1)
        await settled()
        assert not feed.watchers  # long before it would be dropped for acknowledging nothing


async def test_a_store_that_cannot_be_read_makes_the_page_stale_and_no_more(
    jobs: Jobs, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No frame pretends that all is well; it is logged once; and when the store answers again, so does the feed."""

    def fail(*_: object) -> Any:
        raise StoreBusy("jobs.db", 5.0)

    async with watching(runtime) as watcher:
        await quiet(runtime)
        with monkeypatch.context() as patch:
            patch.setattr(feed_module, "RETRY_S", 0.01)
            patch.setattr(feed_module, "read_changed", fail)
            patch.setattr(feed_module, "read_recent", fail)
            run = (await jobs.enqueue("act", "ok")).run_id
            await jobs.runs.wait(run)
            await until(lambda: "cannot look" in caplog.text)
            feed = feed_of(runtime)
            await until(lambda looks=feed.looks: feed.looks > looks + 3)
        while watcher.runs.get(run, {}).get("status") != "succeeded":
            await watcher.next()

    assert 1 == caplog.text.count("cannot look")


async def test_who_comes_while_the_store_cannot_be_read_is_told(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And gets a snapshot when it can; the connection stays, and nothing is logged as a failure of ours."""

    def fail(*_: object) -> Any:
        raise StoreBusy("jobs.db", 5.0)

    monkeypatch.setattr(client_module, "RETRY_S", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(feed_module, "read_recent", fail)
        async with watching(runtime, snapshot=False) as watcher:
            assert (await watcher.next())["code"] == "store"
            patch.undo()
            while not watcher.frames:
                await watcher.next()

    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]


# What it costs


@pytest.mark.parametrize("how", [pytest.param("ok", marks=pytest.mark.slow), "verbose"])
async def test_a_client_that_never_reads_costs_two_mebibytes_at_most(
    jobs: Jobs, runtime: Runtime, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11, W5: over 10,000 changes, all of which happen: Python's and the kernel's memory, at its highest."""
    monkeypatch.setattr(client_module, "SEND_S", 3_600.0)  # it would be dropped before the end
    monkeypatch.setattr(client_module, "ACK_S", 3_600.0)
    held = 0
    with traced():
        async with rude(runtime) as client:
            await client.say({"type": "hello", "token": token_of(runtime)})
            async for done in waves(jobs, runtime, how, 10_000):
                if done % 2_400 == 0:
                    held = max(held, held_for_clients() + in_the_kernel(client))
            assert len(feed_of(runtime).watchers) == 1

    assert (await jobs.runs.list(limit=1, status="queued")).runs == ()
    assert held > 10_000, "it was measured at all"
    logging.getLogger(__name__).info("a client that never read held at most %d bytes", held)
    assert held <= 2 * MIB


async def waves(jobs: Jobs, runtime: Runtime, how: str, changes: int) -> AsyncIterator[int]:
    """Runs, a hundred at a time, until so many changes have happened; three a run."""
    task, done = jobs.tasks["act"], 0
    while done < changes:
        entries = [task.entry(how, run_id=f"{done:06}-{n:03}-{'x' * 100}") for n in range(100)]
        for each in await jobs.enqueue_many(entries):
            assert (await jobs.runs.wait(each.run_id)).status.is_final
        done += 300
        yield done


@contextmanager
def traced() -> Iterator[None]:
    """Every allocation is counted meanwhile."""
    tracemalloc.start(1)
    try:
        yield
    finally:
        tracemalloc.stop()


def held_for_clients() -> int:
    """Bytes that live and were allocated by the monitor, its libraries and the encoder: of all clients, and the board."""
    gc.collect()
    folders = ("callsheet/monitor", "trio_websocket", "wsproto", "h11", "json")
    files = tracemalloc.take_snapshot().statistics(
        "filename"
    )  # a filter would look at every allocation, not every file
    return sum(each.size for each in files if any(f"/{folder}/" in each.traceback[0].filename for folder in folders))


def in_the_kernel(client: Rude) -> int:
    """Bytes on their way to it: in the server's send queue, and in its own receive queue."""
    port = client.stream.socket.getsockname()[1]
    servers = [
        each
        for each in gc.get_objects()
        if isinstance(each, trio.SocketStream) and peer_port(each) == port and each is not client.stream
    ]
    assert len(servers) == 1
    return queued(servers[0], TIOCOUTQ) + queued(client.stream, FIONREAD)


def peer_port(stream: trio.SocketStream) -> int | None:
    try:
        return int(stream.socket.getpeername()[1])
    except OSError:
        return None


def queued(stream: trio.SocketStream, question: int) -> int:
    answer: int = struct.unpack("i", ioctl(stream.socket.fileno(), question, b"\0" * 4))[0]
    return answer
