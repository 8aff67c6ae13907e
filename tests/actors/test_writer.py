"""The hand that writes: a thread whose calls always have an outcome that somebody learns."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from callsheet.actors.readers import MAX_READERS, Readers
from callsheet.actors.writer import InlineWriter, ThreadWriter, Writer
from callsheet.store.contract import Reader
from callsheet.store.memory import MemoryStore
from callsheet.store.records import Owner


@pytest.fixture(params=["thread", "inline"])
async def writer(request: pytest.FixtureRequest) -> Writer:
    return ThreadWriter("test-writer") if request.param == "thread" else InlineWriter()


async def test_a_call_returns_what_it_returned(writer: Writer) -> None:
    """The value of the call is the value of the wait."""
    assert 42 == await writer.call(lambda: 42)
    writer.close()


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(1), KeyboardInterrupt()])
async def test_an_exception_comes_back_to_whoever_asked(writer: Writer, error: BaseException) -> None:
    """Whatever a call raises is raised where it was awaited; the next call works."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await writer.call(fail)

    assert error is caught.value
    assert "next" == await writer.call(lambda: "next")
    writer.close()


async def test_calls_run_one_at_a_time_in_order(writer: Writer) -> None:
    """However many tasks ask, the calls never overlap."""
    running = 0
    seen: list[int] = []

    def call(n: int) -> None:
        nonlocal running
        running += 1
        assert 1 == running
        seen.append(n)
        running -= 1

    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(writer.call, lambda n=n: call(n))

    assert list(range(50)) == sorted(seen)
    writer.close()


async def test_a_call_that_has_begun_is_waited_for_although_the_wait_is_cancelled() -> None:
    """Cancelling never leaves a commit in flight without anybody who learns its outcome."""
    writer = ThreadWriter("test-writer")
    begun, release = threading.Event(), threading.Event()
    finished: list[str] = []

    def call() -> str:
        begun.set()
        release.wait(10)
        finished.append("written")
        return "answer"

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def cancel() -> None:
                await trio.to_thread.run_sync(begun.wait, 10)
                scope.cancel()
                release.set()

            answer = await writer.call(call)
            finished.append(answer)
            await trio.lowlevel.checkpoint()

    assert scope.cancelled_caught
    assert ["written", "answer"] == finished
    writer.close()


async def test_close_ends_the_thread_after_what_was_asked_before() -> None:
    """Nothing that was asked is dropped; then the thread is gone."""
    writer = ThreadWriter("test-writer")
    done: list[int] = []

    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(writer.call, lambda n=n: done.append(n))
        await trio.testing.wait_all_tasks_blocked()
        writer.close()
    await trio.to_thread.run_sync(writer._thread.join, 10)

    assert [0, 1, 2] == sorted(done)
    assert not writer._thread.is_alive()


def test_a_thread_whose_loop_has_ended_ends_too() -> None:
    """A program that dies with a call in flight leaves no thread that waits for ever."""
    release = threading.Event()
    writers: list[ThreadWriter] = []

    async def main() -> None:
        writer = ThreadWriter("test-writer")
        writers.append(writer)
        trio.lowlevel.spawn_system_task(writer.call, release.wait)
        await trio.testing.wait_all_tasks_blocked()
        writer._jobs.put(None)  # as close does
        release.set()

    trio.run(main)
    writers[0]._thread.join(10)

    assert not writers[0]._thread.is_alive()


@pytest.mark.parametrize("inline", [True, False])
async def test_reads_share_a_few_connections(inline: bool) -> None:
    """At most four readers are opened, whoever reads; they are closed with the runtime."""
    opened: list[Reader] = []

    class Counting(MemoryStore):
        def reader(self) -> Reader:  # type: ignore[override]
            opened.append(super().reader())
            return opened[-1]

    store = Counting()
    store.open(Owner("boot", 1, "here", 0))
    readers = Readers(store, inline=inline)

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(readers.read, lambda reader: reader.counts())
    readers.close()

    assert 1 <= len(opened) <= MAX_READERS


async def test_a_reader_that_failed_is_not_used_again() -> None:
    """Whatever state a failed read left behind, the next read does not see it."""
    closed: list[object] = []
    store = MemoryStore()
    store.open(Owner("boot", 1, "here", 0))
    readers = Readers(store, inline=True)

    def fail(reader: Reader) -> None:
        closed.append(reader)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        await readers.read(fail)

    assert () == await readers.read(lambda reader: reader.counts())
    assert closed[0] not in readers._free
