"""Listeners and streams: who hears of events, and what becomes of one who does not cope."""

from __future__ import annotations

import functools
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from callsheet import Action, Context, Event, EventKind, InvalidOption, Jobs, NotOpen, PolicyDenied, Retry
from callsheet.observe import told
from callsheet.testing import Raise, Return, simulate

from .house import Place, open_house, settle

STEPS = ["enqueued", "started", "succeeded"]


def declared() -> Jobs:
    jobs = Jobs("j", retry=Retry(attempts=2, backoff="fixed", initial_delay=5))

    @jobs.task("work")
    async def work(payload: Any, _ctx: Context) -> None:
        if payload == "bad":
            raise OSError("no route")

    return jobs


# ---------------------------------------------------------------- listeners


async def test_one_that_raises_is_dropped_and_the_others_go_on(
    autojump_clock: trio.abc.Clock, memory: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told nothing more, and that is said once: in the log, and on the instance; runs never notice."""
    jobs, before, after = declared(), list[Event](), list[Event]()
    calls: list[Event] = []

    def breaks(event: Event) -> None:
        calls.append(event)
        raise ValueError("cannot cope")

    jobs.on_event(before.append)
    jobs.on_event(breaks)
    jobs.on_event(after.append)

    async with open_house(memory, jobs) as runtime:
        for _ in range(2):
            await jobs.enqueue("work")
        await runtime.until_idle()

    assert 6 == len(before)
    assert before == after
    assert before[:1] == calls
    (dropped,) = jobs.dropped_listeners
    assert ("ValueError: cannot cope", before[0]) == (dropped.error, dropped.event)
    assert dropped.name.endswith("breaks")
    assert 1 == sum("told nothing more" in record.message for record in caplog.records)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, trio.Cancelled, BaseExceptionGroup])
async def test_whatever_it_raises_no_run_is_harmed(
    autojump_clock: trio.abc.Clock, memory: Place, error: type[BaseException]
) -> None:
    """Also what ends a program elsewhere."""
    jobs, heard = declared(), list[Event]()

    def breaks(_: Event) -> None:
        if error is trio.Cancelled:
            raise trio.Cancelled._create()
        raise BaseExceptionGroup("two", [KeyboardInterrupt()]) if error is BaseExceptionGroup else error

    jobs.on_event(breaks)
    jobs.on_event(heard.append)

    async with open_house(memory, jobs) as runtime:
        await jobs.enqueue("work")
        await runtime.until_idle()

    assert STEPS == [e.kind for e in heard]
    assert 1 == len(jobs.dropped_listeners)


async def test_one_that_was_ended_hears_nothing_more(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Ending it twice does nothing; one function that listens twice is ended once for each."""
    jobs, heard = declared(), list[EventKind]()

    def listener(event: Event) -> None:
        heard.append(event.kind)

    end, end_other = jobs.on_event(listener), jobs.on_event(listener)
    async with open_house(memory, jobs) as runtime:
        end()
        end()
        await jobs.enqueue("work")
        await runtime.until_idle()
        end_other()
        await jobs.enqueue("work")
        await runtime.until_idle()

    assert STEPS == heard


async def test_one_may_end_another_in_the_middle(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Whoever is ended by a listener before it hears nothing of the event that is being told."""
    jobs, heard = declared(), list[Event]()
    ends: list[Any] = []
    jobs.on_event(lambda _: ends[0]())
    ends.append(jobs.on_event(heard.append))

    async with open_house(memory, jobs):
        await jobs.enqueue("work")

    assert [] == heard


async def test_it_hears_the_kinds_it_asks_for(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """By name or by kind; a name alone is that kind."""
    jobs, some, one = declared(), list[Event](), list[Event]()
    jobs.on_event(some.append, kinds=["failed", EventKind.DEAD_LETTERED])
    jobs.on_event(one.append, kinds="retrying")

    async with open_house(memory, jobs) as runtime:
        await jobs.enqueue_many([jobs.entry("work"), jobs.entry("work", "bad")])
        await runtime.until_idle()

    assert ["failed", "failed", "dead_lettered"] == [e.kind for e in some]
    assert ["retrying"] == [e.kind for e in one]


@pytest.mark.parametrize("kinds", ["finished", ["failed", "lost"], 5, [None]])
def test_a_kind_that_there_is_not_is_refused(kinds: Any) -> None:
    """And what there is is said."""
    with pytest.raises(InvalidOption, match="there are enqueued, "):
        declared().on_event(print, kinds)


async def waits(_: Event) -> None:
    """Nobody would wait for it."""


class Waits:
    """An object like it."""

    async def __call__(self, _: Event) -> None: ...


@pytest.mark.parametrize("listener", [waits, Waits(), functools.partial(waits), "print", None])
def test_what_cannot_listen_is_refused(listener: Any) -> None:
    """An async function, an object whose call is one, what cannot be called: before anything happens."""
    with pytest.raises(TypeError, match="a listener is a"):
        declared().on_event(listener)


async def test_one_that_turns_out_to_be_async_is_dropped(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """A plain function that returns a coroutine does nothing, and would never say so."""
    jobs = declared()

    def seems_plain(event: Event) -> object:
        return waits(event)

    jobs.on_event(seems_plain)

    async with open_house(memory, jobs):
        await jobs.enqueue("work")

    assert "TypeError: it returned a coroutine, which nobody waits for" == jobs.dropped_listeners[0].error


async def test_one_may_listen_before_it_opens_and_after_it_closed(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """A listener belongs to the declaration: it hears of every runtime that there will be."""
    jobs, heard = declared(), list[Event]()
    jobs.on_event(heard.append)

    for _ in range(2):
        async with open_house(memory, jobs) as runtime:
            await jobs.enqueue("work")
            await runtime.until_idle()

    assert STEPS * 2 == [e.kind for e in heard]
    assert 2 == len({e.boot_id for e in heard})


async def test_a_client_tells_its_own_steps(tmp_path: Path) -> None:
    """In the thread that makes them, and as nobody's runtime."""
    jobs, heard = declared(), list[tuple[Event, int]]()
    jobs.on_event(lambda event: heard.append((event, threading.get_ident())))

    def visit() -> int:
        with jobs.client(tmp_path / "jobs.db") as client:
            run_id = client.enqueue("work", delay=5).run_id
            client.runs.cancel(run_id)
            client.runs.replay(run_id)
        return threading.get_ident()

    thread = await trio.to_thread.run_sync(visit)

    assert [("enqueued", None), ("canceled", None), ("replayed", None)] == [(e.kind, e.boot_id) for e, _ in heard]
    assert {thread} == {where for _, where in heard}
    assert {"default/j"} == {e.jobs for e, _ in heard}


async def test_what_a_listener_makes_happen_is_told_after_what_it_heard(tmp_path: Path) -> None:
    """Two listeners hear the same events in the same order, also when the first of them requests runs."""
    jobs, first, second = declared(), list[str](), list[str]()

    def visit() -> None:
        with jobs.client(tmp_path / "jobs.db") as client:

            def follow(event: Event) -> None:
                first.append(event.run_id)
                if event.run_id == "a":
                    client.enqueue("work", run_id="b")

            jobs.on_event(follow)
            jobs.on_event(lambda event: second.append(event.run_id))
            client.enqueue("work", run_id="a")

    await trio.to_thread.run_sync(visit)

    assert ["a", "b"] == first == second


async def test_nobody_listens_and_nothing_is_made(
    autojump_clock: trio.abc.Clock, memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default only what ends badly is looked at: a commit of anything else makes nothing at all."""
    jobs, made = declared(), list[Event]()
    monkeypatch.setattr(told, "Event", lambda *args, **kwargs: made.append(Event(*args, **kwargs)) or made[-1])

    async with open_house(memory, jobs) as runtime:
        await jobs.enqueue_many([jobs.entry("work", n) for n in range(10)])
        await runtime.until_idle()
        assert [] == made
        await jobs.enqueue("work", "bad")
        await runtime.until_idle()

    assert ["retrying", "dead_lettered"] == [e.kind for e in made]


# ---------------------------------------------------------------- streams


async def test_a_task_reads_events_until_the_runtime_closes(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """What was told before the end comes before the end, also what closing itself does."""
    jobs, heard = declared(), list[Event]()

    async def read(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with jobs.events() as events:
            task_status.started()
            async for event in events:
                heard.append(event)
            assert 0 == events.lost

    async with trio.open_nursery() as nursery, open_house(place, jobs, grace=0) as runtime:
        await nursery.start(read)
        await jobs.enqueue("work")
        await runtime.until_idle()
        await jobs.enqueue("work", "bad")
        await settle()

    assert [*STEPS, "enqueued", "started", "failed", "retrying"] == [e.kind for e in heard]


async def test_a_full_buffer_reports_its_loss(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """The oldest go, and are counted; runs do not wait for a reader."""
    jobs = declared()

    async with open_house(memory, jobs) as runtime, jobs.events(limit=4) as events:
        for n in range(3):
            await jobs.enqueue("work", run_id=f"run-{n}")
            await runtime.until_idle()
        lost = events.lost
        read = [await anext(events) for _ in range(4)]

    assert 5 == lost
    assert ["succeeded", *STEPS] == [e.kind for e in read]


async def test_a_stream_has_the_kinds_it_asks_for(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """What is not asked for takes no room."""
    jobs = declared()

    async with open_house(memory, jobs) as runtime, jobs.events(limit=1, kinds=["succeeded"]) as events:
        await jobs.enqueue("work")
        await runtime.until_idle()
        event = await anext(events)

    assert ("succeeded", 0) == (event.kind, events.lost)


async def test_a_stream_is_of_the_runtime_that_it_was_opened_in(autojump_clock: trio.abc.Clock) -> None:
    """Two runtimes of one declaration, on two stores: each stream has its own; a listener has both."""
    jobs, all_of_them = declared(), list[Event]()
    jobs.on_event(all_of_them.append)

    async with simulate(jobs) as one:
        async with one.runtime.witness.events(jobs.bus) as events:
            async with open_house(":memory:", jobs):  # type: ignore[arg-type]
                await jobs.enqueue("work")
            await trio.sleep(1)
        left = [event async for event in events]

    assert [] == left
    assert "enqueued" in [e.kind for e in all_of_them]


async def test_a_killed_process_ends_its_streams(mock_clock: trio.abc.Clock) -> None:
    """Whoever reads on comes to the end, and finds nothing of the next life there."""
    jobs = declared()

    async with simulate(jobs) as world:
        async with jobs.events() as events:
            await jobs.enqueue("work")
            await world.crash()
            heard = [event.kind async for event in events]
        await world.restart()
        await world.until_idle()

    assert ["enqueued"] == heard


@pytest.mark.parametrize("limit", [0, -1, 100_001, 1.5, "10", True, None])
async def test_a_limit_out_of_its_bounds_is_refused(autojump_clock: trio.abc.Clock, memory: Place, limit: Any) -> None:
    """1 to 100,000: a stream is never without one."""
    jobs = declared()

    async with open_house(memory, jobs):
        with pytest.raises(InvalidOption, match="limit: must be an int from 1 to 100,000"):
            async with jobs.events(limit=limit):
                pass


async def test_without_a_runtime_there_is_nothing_to_read() -> None:
    """Nothing would ever come: that is said at once."""
    with pytest.raises(NotOpen):
        jobs_events = declared().events()
        async with jobs_events:
            pass


async def test_whoever_may_not_read_gets_no_stream(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Of guarded Jobs: the policy is asked as for a snapshot; listeners are the program's own, and it is not asked."""
    jobs, heard = Jobs("j", policy=lambda access: access.action is not Action.READ), list[Event]()
    jobs.task("work")(declared().tasks["work"].handler)
    jobs.on_event(heard.append)

    async with open_house(memory, jobs):
        with pytest.raises(PolicyDenied):
            jobs.events()
        await jobs.enqueue("work")

    assert heard


async def test_a_script_is_told_as_its_handler_would_be(mock_clock: trio.abc.Clock) -> None:
    """Tests of users hear of scripted attempts too."""
    jobs, heard = declared(), list[Event]()
    jobs.on_event(heard.append, kinds=["failed"])

    async with simulate(jobs) as world:
        world.script("work", [Raise(OSError("scripted")), Return()])
        await jobs.enqueue("work")
        await world.until_idle()

    assert ["scripted"] == [e.error.message for e in heard if e.error]


async def test_a_log_that_breaks_harms_nobody(
    autojump_clock: trio.abc.Clock, memory: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A filter that raises is the log's trouble: listeners hear everything, and runs go on."""
    jobs, heard = declared(), list[Event]()
    jobs.on_event(heard.append)

    def breaks(_: logging.LogRecord) -> bool:
        raise ValueError("a filter")

    log = logging.getLogger("callsheet.run")
    caplog.set_level(logging.INFO, log.name)
    log.addFilter(breaks)
    try:
        async with open_house(memory, jobs) as runtime:
            await jobs.enqueue("work")
            await runtime.until_idle()
    finally:
        log.removeFilter(breaks)

    assert STEPS == [e.kind for e in heard]
