from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.events import (
    BecameZombie,
    ChildParked,
    CouldNotStart,
    Delayed,
    Ended,
    GaveUp,
    Report,
    Reports,
    Started,
    StopOverran,
    Stream,
    Then,
)
from callsheet.actors.exits import Crashed, Exit, Killed, Normal, Shutdown, StartFailed
from callsheet.actors.reported import exit_data, log_report, report_data, sentence


def started(n: int) -> Started:
    return Started(f"/{n}", 1)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def raised(error: BaseException) -> BaseException:
    """With a traceback, as it comes in life."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 -- it is what we are asked for
        return caught


# What is kept


def test_the_last_reports_are_kept_with_their_numbers() -> None:
    """Whoever comes late can read what happened, and see from the numbers whether something is missing."""
    reports = Reports(kept=3)
    for n in range(1, 6):
        reports.publish(started(n))

    assert 5 == reports.last
    assert ((3, started(3)), (4, started(4)), (5, started(5))) == reports.recent()
    assert ((5, started(5)),) == reports.recent(after=4)
    assert () == reports.recent(after=5)


def test_a_system_keeps_two_hundred_reports() -> None:
    """What is kept is bounded without anybody asking for it."""
    reports = Reports()
    for n in range(1_000):
        reports.publish(started(n))

    assert (200, 1_000) == (len(reports.recent()), reports.last)


# Listeners


def test_a_listener_hears_every_report_until_it_is_ended() -> None:
    """It is called at once, in order; ending it twice does nothing; another that is the same function goes on."""
    reports, heard = Reports(), list[Report]()
    unlisten = reports.listen(heard.append)
    reports.listen(heard.append)

    reports.publish(started(1))
    unlisten()
    unlisten()
    reports.publish(started(2))

    assert [started(1), started(1), started(2)] == heard


@pytest.mark.parametrize("error", [ValueError("listener"), SystemExit(1), Unprintable()])
def test_a_listener_that_raises_is_dropped_and_harms_nobody(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The supervisor and the other listeners go on; the log says so once, with the traceback."""
    reports, heard, calls = Reports(), list[Report](), list[Report]()

    def bad(report: Report) -> None:
        calls.append(report)
        raise error

    reports.listen(bad)
    reports.listen(heard.append)

    reports.publish(started(1))
    reports.publish(started(2))

    assert ([started(1)], [started(1), started(2)]) == (calls, heard)
    assert [("ERROR", "a listener to supervision reports raised and is dropped: function")] == [
        (each.levelname, each.getMessage()) for each in caplog.records
    ]
    assert caplog.records[0].exc_info is not None
    assert error is caplog.records[0].exc_info[1]


def test_a_log_that_raises_harms_nobody_either() -> None:
    """A handler of the log is a stranger's code too: publishing survives it."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no")

    logger, broken = logging.getLogger("callsheet.supervisor"), Broken()
    reports, heard = Reports(), list[Report]()
    reports.listen(log_report)
    reports.listen(heard.append)
    parked = ChildParked("/a", Normal())

    logger.addHandler(broken)
    try:
        reports.publish(parked)
    finally:
        logger.removeHandler(broken)

    assert [parked] == heard


def test_what_a_listener_publishes_comes_after_what_it_heard() -> None:
    """Everybody hears everything in the order of the numbers."""
    reports, heard = Reports(), list[Report]()

    def answering(report: Report) -> None:
        if report == started(1):
            reports.publish(started(2))

    reports.listen(answering)
    reports.listen(heard.append)

    reports.publish(started(1))

    assert [started(1), started(2)] == heard == [report for _, report in reports.recent()]


def test_a_listener_that_is_ended_by_another_hears_no_more() -> None:
    """Not even the report that is being given out."""
    reports, heard = Reports(), list[Report]()
    reports.listen(lambda _report: unlisten())
    unlisten = reports.listen(heard.append)

    reports.publish(started(1))

    assert [] == heard


# Subscribers


async def read(stream: Stream, into: list[Report]) -> None:
    into.extend([report async for report in stream])


@pytest.fixture
def reports() -> Reports:
    return Reports()


async def test_subscribers_read_every_report_from_then_on(reports: Reports, autojump_clock: trio.abc.Clock) -> None:
    """Each subscriber has a stream of its own, in order; what was published before is not in it."""
    first, second = list[Report](), list[Report]()
    reports.publish(started(0))

    async with reports.subscribe() as one, reports.subscribe() as two, trio.open_nursery() as nursery:
        nursery.start_soon(read, one, first)
        await trio.testing.wait_all_tasks_blocked()
        reports.publish(started(1))
        nursery.start_soon(read, two, second)
        reports.publish(started(2))
        await trio.testing.wait_all_tasks_blocked()
        reports.publish(started(3))
        reports.close()

    assert [started(1), started(2), started(3)] == first == second
    assert 0 == one.lost


async def test_a_slow_subscriber_loses_the_oldest_and_is_told_how_many(reports: Reports) -> None:
    """A full stream keeps what is newest and counts what it dropped; another one is not touched by it."""
    got, all_of_them = list[Report](), list[Report]()

    async with reports.subscribe(limit=2) as stream, reports.subscribe(limit=5) as roomy:
        for n in range(1, 6):
            reports.publish(started(n))
        reports.close()
        await read(stream, got)
        await read(roomy, all_of_them)

    assert ([started(4), started(5)], 3) == (got, stream.lost)
    assert ([started(n) for n in range(1, 6)], 0) == (all_of_them, roomy.lost)


async def test_closing_the_system_ends_every_iteration(reports: Reports, autojump_clock: trio.abc.Clock) -> None:
    """What waits is still read, whoever waits is woken, and a subscription after that ends at once."""
    got, late = list[Report](), list[Report]()

    async with reports.subscribe() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(read, stream, got)
        await trio.testing.wait_all_tasks_blocked()
        reports.publish(started(1))
        await trio.testing.wait_all_tasks_blocked()
        reports.close()
    async with reports.subscribe() as stream:
        await read(stream, late)

    assert ([started(1)], []) == (got, late)


async def test_leaving_the_block_ends_the_iteration(reports: Reports) -> None:
    """Outside its block a stream gets nothing any more, and reading it ends."""
    got = list[Report]()
    async with reports.subscribe() as stream:
        reports.publish(started(1))
    reports.publish(started(2))

    await read(stream, got)

    assert [started(1)] == got


async def test_a_cancelled_reader_takes_nothing_with_it(reports: Reports, autojump_clock: trio.abc.Clock) -> None:
    """A report is either returned or still there for the next reader."""
    got = list[Report]()
    woken = trio.CancelScope()

    async def read_one() -> None:
        with woken:
            got.append(await anext(stream))

    async with reports.subscribe() as stream, trio.open_nursery() as nursery:
        with trio.move_on_after(1) as waiting:
            await anext(stream)
        nursery.start_soon(read_one)
        await trio.testing.wait_all_tasks_blocked()
        reports.publish(started(1))
        woken.cancel()  # it is on its way with the report
        reports.publish(started(2))
        with trio.CancelScope() as not_begun:
            not_begun.cancel()
            await anext(stream)
        await trio.testing.wait_all_tasks_blocked()
        got.append(await anext(stream))

    assert waiting.cancelled_caught
    assert not_begun.cancelled_caught
    assert [started(1), started(2)] == got


async def test_reading_lets_others_run(reports: Reports) -> None:
    """Each report that is read is a checkpoint, also when many wait and at the end."""
    async with reports.subscribe() as stream:
        reports.publish(started(1))
        with trio.testing.assert_checkpoints():
            await anext(stream)
        reports.close()
        with trio.testing.assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_stream_without_room_is_refused(reports: Reports) -> None:
    """A limit below 1 is an error with the number in it."""
    with pytest.raises(ValueError, match=r"subscribe\(limit\) must be 1 or more, not 0"):
        async with reports.subscribe(limit=0):
            pass


# As data and in the log

ERROR = raised(ValueError("broken"))
CRASHED = Crashed(ERROR)
ERROR_DATA = {"type": "ValueError", "message": "broken"}
CRASHED_DATA = {"kind": "crashed", "abnormal": True, "error": ERROR_DATA}

SHOWN: list[tuple[Report, dict[str, Any], str, str]] = [
    (
        Started("/a", 2),
        {"type": "started", "path": "/a", "generation": 2},
        "DEBUG",
        "/a has started (generation 2)",
    ),
    (
        Ended("/a", 2, Normal(), Then.LEFT),
        {
            "type": "ended",
            "path": "/a",
            "generation": 2,
            "exit": {"kind": "normal", "abnormal": False},
            "then": "left",
        },
        "DEBUG",
        "/a (generation 2) ended: normal; it is not restarted",
    ),
    (
        Ended("/a", 1, CRASHED, Then.RESTARTED),
        {"type": "ended", "path": "/a", "generation": 1, "exit": CRASHED_DATA, "then": "restarted"},
        "WARNING",
        "/a (generation 1) ended: crashed: ValueError: broken; it is restarted",
    ),
    (
        Ended("/a", 1, CRASHED, Then.LEFT),
        {"type": "ended", "path": "/a", "generation": 1, "exit": CRASHED_DATA, "then": "left"},
        "WARNING",
        "/a (generation 1) ended: crashed: ValueError: broken; it is not restarted",
    ),
    (
        Ended("/a", 1, Shutdown("closing"), Then.RESTARTED_LATER),
        {
            "type": "ended",
            "path": "/a",
            "generation": 1,
            "exit": {"kind": "shutdown", "abnormal": False, "reason": "closing"},
            "then": "restarted_later",
        },
        "WARNING",
        "/a (generation 1) ended: shutdown (closing); it is restarted after a delay",
    ),
    (
        Ended("/a", 1, Shutdown(), Then.STOPPED),
        {
            "type": "ended",
            "path": "/a",
            "generation": 1,
            "exit": {"kind": "shutdown", "abnormal": False, "reason": "shutdown"},
            "then": "stopped",
        },
        "DEBUG",
        "/a (generation 1) ended: shutdown (shutdown); it is not restarted: it was told to stop",
    ),
    (
        Ended("/a", 1, CRASHED, Then.PARKED),
        {"type": "ended", "path": "/a", "generation": 1, "exit": CRASHED_DATA, "then": "parked"},
        "INFO",
        "/a (generation 1) ended: crashed: ValueError: broken; it is parked",
    ),
    (
        Ended("/a", 1, CRASHED, Then.GAVE_UP),
        {"type": "ended", "path": "/a", "generation": 1, "exit": CRASHED_DATA, "then": "gave_up"},
        "INFO",
        "/a (generation 1) ended: crashed: ValueError: broken; it is not restarted: its supervisor gives up",
    ),
    (
        Ended("/a", 4, CRASHED, Then.GIVEN_UP),
        {"type": "ended", "path": "/a", "generation": 4, "exit": CRASHED_DATA, "then": "given_up"},
        "WARNING",
        "/a (generation 4) ended: crashed: ValueError: broken; it is not restarted: it has ended too often",
    ),
    (
        CouldNotStart("/a", 1, ERROR),
        {"type": "could_not_start", "path": "/a", "generation": 1, "error": ERROR_DATA},
        "ERROR",
        "/a (generation 1) could not start: ValueError: broken",
    ),
    (
        StopOverran("/a", 5.0),
        {"type": "stop_overran", "path": "/a", "budget_s": 5.0, "exit": None, "count": 1},
        "WARNING",
        "/a did not stop within 5 s",
    ),
    (
        StopOverran("/pool", float("inf"), CRASHED, 1_200),
        {"type": "stop_overran", "path": "/pool", "budget_s": None, "exit": CRASHED_DATA, "count": 1_200},
        "WARNING",
        "/pool (1,200 children) was told to stop and ended otherwise: crashed: ValueError: broken",
    ),
    (
        Delayed("/a", 0.25, 3),
        {"type": "delayed", "path": "/a", "delay_s": 0.25, "generation": 3},
        "INFO",
        "/a is started again in 0.25 s (generation 3)",
    ),
    (
        ChildParked("/a", StartFailed(ERROR)),
        {
            "type": "child_parked",
            "path": "/a",
            "exit": {"kind": "start_failed", "abnormal": True, "error": ERROR_DATA},
        },
        "ERROR",
        "/a is parked: start failed: ValueError: broken",
    ),
    (
        BecameZombie("/a", 4),
        {"type": "became_zombie", "path": "/a", "generation": 4},
        "ERROR",
        "/a (generation 4) ignores cancellation: left behind as a zombie",
    ),
    (
        GaveUp("", ERROR),
        {"type": "gave_up", "path": "", "error": ERROR_DATA},
        "ERROR",
        "supervisor the root gave up: ValueError: broken",
    ),
]


@pytest.mark.parametrize(("report", "data", "level", "text"), SHOWN)
def test_a_report_is_json_and_one_line_of_the_log(
    report: Report, data: dict[str, Any], level: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every kind of report has its plain form, its sentence and its level; an error comes with its traceback, once."""
    caplog.set_level("DEBUG", logger="callsheet.supervisor")

    log_report(report)

    assert data == report_data(report) == json.loads(json.dumps(report_data(report), allow_nan=False))
    assert text == sentence(report)
    (record,) = caplog.records
    assert (level, text, "callsheet.supervisor") == (record.levelname, record.getMessage(), record.name)
    with_error = level != "INFO" and ("error" in data or "error" in (data.get("exit") or {}))
    assert (ERROR if with_error else None) is (record.exc_info[1] if record.exc_info else None)


def test_what_nobody_would_read_is_not_written(caplog: pytest.LogCaptureFixture) -> None:
    """A level that is off costs no sentence: 100,000 starts are silent."""
    caplog.set_level("INFO", logger="callsheet.supervisor")

    log_report(Started("/a", 1))

    assert [] == caplog.records


@pytest.mark.parametrize("exit_", [Crashed(Unprintable()), StartFailed(Unprintable())])
def test_an_error_that_cannot_be_printed_is_shown_all_the_same(exit_: Exit, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever an exception does when it is looked at, its report has a plain form and a line in the log."""
    report = Ended("/a", 1, exit_, Then.RESTARTED)

    log_report(report)

    assert {"type": "Unprintable", "message": "<unprintable Unprintable>"} == exit_data(exit_)["error"]
    assert "<unprintable Unprintable>" in caplog.text


def test_a_long_error_is_clipped() -> None:
    """A report holds at most 1,000 bytes of a message and of a reason."""
    data = exit_data(Crashed(ValueError("x" * 100_000)))
    killed = exit_data(Killed("y" * 100_000))

    assert 1_000 >= len(data["error"]["message"].encode())
    assert 1_000 >= len(killed["reason"].encode())
