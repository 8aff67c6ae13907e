"""Schedules on the monitor: as they stand, read when one was changed and for nothing else, steered by whoever may."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import evolve

from callsheet import Access, Client, Context, Jobs, Monitor, Queue, Runtime, open_runtime
from callsheet.monitor.board import ENVELOPE, MAX_FRAME, encode
from callsheet.monitor.feed import changed_by
from callsheet.monitor.timetable import (
    MAX_BYTES,
    MAX_SCHEDULES,
    STEP_US,
    Posted,
    Rights,
    Said,
    Timetable,
    posted,
    schedule_row,
    schedules_part,
    soonest_first,
)
from callsheet.store.contract import ScheduleSet, SetSchedule
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.records import Clock, Lane, NewRun, Schedule

from .test_feed import feed_of, quiet
from .visitor import Watcher, watching

CANARY: Final = "canary-payload"
SECRET: Final = "canary-secret"
FAR: Final = "2099-01-04T00:00Z"
"""Nothing of what is scheduled from then on comes while a test runs."""
FAR_US: Final = int(datetime(2099, 1, 4, tzinfo=UTC).timestamp()) * 1_000_000
USUAL: Final = Said("act", "every 60 s")
ORDERS: Final = ("show_schedule", "pause_schedule", "resume_schedule", "trigger_schedule")


def make(name: str = "background", rule: Callable[[Access], Any] | None = None) -> Jobs:
    """Two tasks, one of which is secret; a run of either goes on."""
    jobs = Jobs(name, namespace="app", queue=Queue(concurrency=100, batch_size=100), policy=rule)

    async def act(payload: object, ctx: Context) -> None:
        if payload != "ok":
            await trio.sleep_forever()

    jobs.task("act")(act)
    jobs.task(SECRET)(act)
    return jobs


@pytest.fixture
def jobs() -> Jobs:
    """Without a policy."""
    return make()


@pytest.fixture
async def runtime(jobs: Jobs) -> AsyncIterator[Runtime]:
    """At work in memory, with a monitor."""
    async with jobs.open(":memory:", monitor=Monitor(), grace=0) as runtime:
        yield runtime


async def until_told(watcher: Watcher, condition: Callable[[], object]) -> None:
    with trio.fail_after(60):
        while not condition():
            await watcher.next()


def row_for(schedule: Schedule, *, is_here: bool = True, said: Said = USUAL) -> Any:
    """Its row."""
    return schedule_row(Posted(schedule, b"", said), Rights(), is_here=is_here)


# What is shown


async def test_schedules_are_told_as_they_stand_and_as_they_change(jobs: Jobs, runtime: Runtime) -> None:
    """Made before or after, changed, paused, triggered and deleted, the soonest first; their payloads stay here."""
    schedules = jobs.schedules
    await schedules.every("late", 60, "act", CANARY, start="2099-02-01T00:00Z")
    await schedules.cron("early", "2 9 * * mon-fri", "act", CANARY, tz="Europe/Berlin", start=FAR)
    async with watching(runtime) as watcher:
        assert ["early", "late"] == [*watcher.schedules]
        early = watcher.schedules["early"]
        assert {
            "jobs": "app/background", "key": "early", "version": 1, "task": "act", "cadence": "2 9 * * MON-FRI",
            "zone": "Europe/Berlin", "state": "on", "paused": False, "next_us": FAR_US + (32 * 60 + 2) * 60_000_000,
            "next_local": "2099-01-05T09:02:00+01:00".replace("T", " "), "last_us": None, "last_local": None,
            "due_us": FAR_US + (32 * 60 + 2) * 60_000_000, "fired": 0, "skipped": 0, "may_steer": True,
            "may_trigger": True,
        } == early  # fmt: skip
        assert ("every 60 s", None, None) == tuple(
            watcher.schedules["late"][name] for name in ("cadence", "zone", "next_local")
        )

        await schedules.pause("early")
        await until_told(watcher, lambda: watcher.schedules["early"]["state"] == "paused")
        assert (True, None) == tuple(watcher.schedules["early"][name] for name in ("paused", "next_us"))
        assert ["late", "early"] == [*watcher.schedules]
        await schedules.every("new", 60, "act", CANARY, start="2099-01-20T00:00Z")
        await until_told(watcher, lambda: "new" in watcher.schedules)
        await schedules.trigger("late")
        await until_told(watcher, lambda: watcher.schedules["late"]["fired"] == 1)
        await schedules.delete("early")
        await until_told(watcher, lambda: "early" not in watcher.schedules)
        async with watching(runtime) as fresh:
            assert ["new", "late"] == [*fresh.schedules]
            assert fresh.state["schedules"] == watcher.state["schedules"]
            assert CANARY not in "".join([*watcher.texts, *fresh.texts])
        assert 0 == watcher.resets


async def test_what_runs_do_reads_no_schedule(jobs: Jobs, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the time that passes; a change of one is one reading; and while nobody watches there is none."""
    readings: list[int] = []
    read = Timetable.read
    monkeypatch.setattr(Timetable, "read", lambda self, reader: (readings.append(1), read(self, reader))[1])
    await jobs.schedules.every("far", 60, "act", "ok", start=FAR)
    await jobs.schedules.pause("far")
    assert [] == readings
    async with watching(runtime) as watcher:
        assert [1] == readings
        looks = feed_of(runtime).looks
        for _ in range(5):
            last = (await jobs.enqueue("act", "ok")).run_id
            await until_told(watcher, lambda last=last: watcher.runs.get(last, {}).get("status") == "succeeded")
        assert looks < feed_of(runtime).looks
        assert [1] == readings

        await jobs.schedules.resume("far")
        await until_told(watcher, lambda: watcher.schedules["far"]["state"] == "on")
        assert [1, 1] == readings


async def test_a_schedule_that_another_program_changed_is_noticed(jobs: Jobs, tmp_path: Path) -> None:
    """It says nothing of what it wrote."""
    async with jobs.open(tmp_path / "jobs.db", monitor=Monitor(), grace=0) as runtime:
        await jobs.schedules.every("far", 60, "act", "ok", start=FAR)

        def pause() -> None:
            with Client(tmp_path / "jobs.db") as client:
                client.schedules.pause("far")

        async with watching(runtime) as watcher:
            assert "on" == watcher.schedules["far"]["state"]
            await trio.to_thread.run_sync(pause)
            await until_told(watcher, lambda: watcher.schedules["far"]["state"] == "paused")


async def test_a_store_that_could_not_be_read_is_asked_for_the_schedules_again(
    jobs: Jobs, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed meanwhile is not forgotten."""
    async with watching(runtime) as watcher:
        await quiet(runtime)
        read, failures = Timetable.read, []

        def fail_once(self: Timetable, reader: Any) -> Any:
            if not failures:
                failures.append(1)
                raise OSError("the disk is away")
            return read(self, reader)

        monkeypatch.setattr("callsheet.monitor.feed.RETRY_S", 0.01)
        monkeypatch.setattr(Timetable, "read", fail_once)
        await jobs.schedules.every("far", 60, "act", "ok", start=FAR)
        await until_told(watcher, lambda: "far" in watcher.schedules)
    assert [1] == failures


async def test_a_run_that_a_schedule_requested_is_seen_while_it_waits(jobs: Jobs, runtime: Runtime) -> None:
    """It is in the commit of the schedule; nobody has to start again for it."""
    await jobs.queues.pause()
    await jobs.schedules.every("far", 60, "act", "ok", start=FAR)
    async with watching(runtime) as watcher:
        run = await jobs.schedules.trigger("far")
        await until_told(watcher, lambda: watcher.runs.get(run, {}).get("status") == "queued")

        assert 0 == watcher.resets


def test_of_a_schedule_that_was_set_those_runs_are_told_that_were_made() -> None:
    """None where it was not done, or where another run goes on."""
    lane = Lane("app/background", "app/background-jobs", "act", 1)
    run = NewRun("01", lane, b"", created_us=1, due_us=1, clock=Clock.AT_ONCE, priority=5, max_attempts=1)
    schedule = Schedule("app/background", "k", b"", None, None)
    command = SetSchedule(1, schedule, runs=(run,), if_active=SetSchedule(1, schedule))

    assert ["01"] == [*changed_by(command, ScheduleSet(True, schedule))]
    assert [] == [*changed_by(command, ScheduleSet(True, schedule, active=True))]
    assert [] == [*changed_by(command, ScheduleSet(False, schedule))]


@pytest.mark.parametrize(
    ("changed", "is_here", "state"),
    [
        ({}, True, "on"),
        ({"waiting_us": 5}, True, "waits"),
        ({"next_us": None, "due_us": None}, True, "over"),
        ({"waiting_us": 5}, False, "no_task"),
        ({"paused": True, "waiting_us": 5}, False, "paused"),
        ({"paused": True, "orphaned": True}, False, "orphaned"),
    ],
)
def test_a_state_is_told_in_one_word(changed: dict[str, Any], is_here: bool, state: str) -> None:
    """Of several the one that somebody has to do something about."""
    row = row_for(evolve(Schedule("a/b", "k", b"", 9, 9), **changed), is_here=is_here)

    assert state == row["state"]
    assert (9 if state in ("on", "waits", "no_task") else None) == row["next_us"]
    assert encode(row)


def test_what_another_release_said_is_shown_by_its_key() -> None:
    """As unreadable, with what is known of it; its body stays where it is."""
    schedule = Schedule("a/b", "k", b'{"v": 99}', 9, 9, fired=3)
    found = posted(schedule)
    row = schedule_row(found, Rights(), is_here=True)

    assert ("unreadable", None, None, 3) == (row["state"], row["task"], row["cadence"], row["fired"])
    assert b"" == found.schedule.body


def test_a_schedule_that_moved_on_is_not_parsed_again() -> None:
    """One that was said anew is, though it was deleted and made again meanwhile, and so has the version that it had."""
    was = posted(Schedule("a/b", "k", b'{"v": 99}', 9, 9, version=1, created_us=5, updated_us=5))
    before = evolve(was, said=Said("as it was", "every 1 s"))

    same = Schedule("a/b", "k", b'{"v": 99}', 9, 9, version=1, created_us=5, updated_us=5)
    assert before is posted(same, before)
    fired = evolve(same, fired=1, version=2, updated_us=6)
    assert (1, b"", before.said) == ((it := posted(fired, before)).schedule.fired, it.schedule.body, it.said)
    assert posted(evolve(fired, body=b'{"v": 98}'), before).said is None
    assert posted(evolve(same, body=b'{"v": 98}', created_us=7, updated_us=7), before).said is None


def test_what_goes_out_is_bounded() -> None:
    """Rows and bytes: the soonest, and how many more there are; with names that are as long as they may be, too."""
    few = [row_for(Schedule("a/b", f"{n:03}", b"", n + 1, n + 1)) for n in range(MAX_SCHEDULES + 50)]
    made: list[int] = []
    part = schedules_part([lambda row=row: (made.append(1), row)[1] for row in few], 7)
    assert MAX_SCHEDULES == len(made)
    assert (7, 50, few[:MAX_SCHEDULES]) == (part["ahead_us"], part["more"], part["rows"])

    said = Said("\U0001f600" * 32, "\U0001f600" * 600 + " Europe/Berlin")
    long = [row_for(Schedule(f"a{n:03}" + "é" * 125, "ü" * 64, b"", n + 1, n + 1), said=said) for n in range(300)]
    part = schedules_part([lambda row=row: row for row in long], 0)
    assert 300 == part["more"] + len(part["rows"])
    assert len(part["rows"]) > 25
    assert MAX_BYTES // 2 < len(encode(part)) <= MAX_BYTES + ENVELOPE < MAX_FRAME


def test_the_soonest_come_first_and_those_that_never_come_last() -> None:
    """Then by Jobs and key."""
    keys = {"never": (None, False), "late": (9, False), "soon": (3, False), "also-late": (9, False), "held": (1, True)}
    found = [Posted(Schedule("a/b", key, b"", us, us, paused=paused), b"", None) for key, (us, paused) in keys.items()]

    assert ["soon", "also-late", "late", "held", "never"] == [
        each.schedule.key for each in sorted(found, key=soonest_first)
    ]


def test_a_wall_clock_that_is_set_is_news_and_one_that_drifts_is_none() -> None:
    """Clients count by another clock, and are told how far that is behind."""
    timetable = Timetable()
    hidden: frozenset[str] = frozenset()
    assert timetable.is_news(hidden, 0)
    assert [False, False, True, False, True] == [
        timetable.is_news(hidden, us) for us in (1, STEP_US - 1, STEP_US, STEP_US + 1, 0)
    ]
    assert 0 == timetable.ahead_us
    assert timetable.is_news(frozenset({"app/background"}), 0)


# Orders


async def test_schedules_are_looked_at_and_steered(
    jobs: Jobs, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is answered when it is durable, and what changes something is logged."""
    of = {"jobs": "app/background", "key": "nightly"}
    await jobs.schedules.cron("nightly", "30 2 * * *", "act", CANARY, tz="Europe/Berlin", start=FAR, jitter=9)
    async with watching(runtime) as watcher:
        with caplog.at_level(logging.INFO, "callsheet.monitor"):
            paused = await watcher.order(1, "pause_schedule", **of)
            assert (await jobs.schedules.get("nightly")).paused
            resumed = await watcher.order(2, "resume_schedule", **of)
            assert not (await jobs.schedules.get("nightly")).paused
            triggered = [await watcher.order(3, "trigger_schedule", **of) for _ in range(2)]
        shown = (await watcher.order(4, "show_schedule", **of))["result"]

    assert {"type": "done", "id": 1, "result": {**of, "paused": True}} == paused
    assert {**of, "paused": False} == resumed["result"]
    (run,) = (await jobs.runs.list(schedule_key="nightly")).runs
    assert [{"type": "done", "id": 3, "result": {**of, "run_id": run.id}}] * 2 == triggered
    assert ["pauses", "resumes", "triggers"] == [
        each.getMessage().split()[3] for each in caplog.records if each.name == "callsheet.monitor"
    ]
    assert [("triggered", run.id, 1)] == [(each["did"], each["run_id"], each["times"]) for each in shown["gone"]]
    assert ["2099-01-04 02:30:00+01:00", "2099-01-05 02:30:00+01:00"] == [each["local"] for each in shown["coming"][:2]]
    assert (5, "call", "skip", 9_000_000) == (
        len(shown["coming"]), *[shown[name] for name in ("origin", "overlap", "jitter_us")],
    )  # fmt: skip
    assert CANARY not in "".join(watcher.texts)


async def test_a_schedule_that_is_not_there_is_not_found(jobs: Jobs, runtime: Runtime) -> None:
    """Nor are Jobs that are nowhere; nothing changes, and the connection stays."""
    await jobs.schedules.every("far", 60, "act", "ok", start=FAR)
    async with watching(runtime) as watcher:
        for kind in ORDERS:
            for identity, key in (
                ("app/background", "no"), ("app/nowhere", "far"), ("nonsense", "far"), ("app/background", "\x1b\u202e"),
            ):  # fmt: skip
                answer = await watcher.order(f"{kind} {identity} {key!a}"[:64], kind, jobs=identity, key=key)
                assert ("error", "not_found") == (answer["type"], answer["code"])
        assert "done" == (await watcher.order("last", "trigger_schedule", jobs="app/background", key="far"))["type"]


# What may be seen and done


@pytest.mark.parametrize("kind", ORDERS)
async def test_an_order_that_is_denied_changes_nothing_and_tells_nothing(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Whether there is such a schedule or not; its task is not named, neither to the client nor in the log."""
    action = "read" if kind == "show_schedule" else "steer"
    jobs = make("jobs", lambda access: access.subject != "monitor" or access.action != action or "ask the operators")
    async with jobs.open(":memory:", monitor=Monitor(), grace=0) as runtime:
        await jobs.schedules.every("far", 60, SECRET, CANARY, start=FAR)
        await jobs.schedules.every("held", 60, SECRET, CANARY, start=FAR)
        await jobs.schedules.pause("held")
        tables: Tables = runtime.store.tables  # type: ignore[attr-defined]
        before = dict(tables.schedules)
        async with watching(runtime, snapshot=False) as watcher:
            with caplog.at_level(logging.INFO, "callsheet.monitor"):
                asked = [("app/jobs", "far"), ("app/jobs", "held"), ("app/jobs", "no"), ("app/nowhere", "far")]
                answers = [await watcher.order(n, kind, jobs=of, key=key) for n, (of, key) in enumerate(asked)]

        said = f"'monitor' may not {action} schedule '%s': ask the operators"
        assert [
            {"type": "error", "id": n, "code": "denied", "message": said % key} for n, (_, key) in enumerate(asked)
        ] == answers
        assert (before, {}) == (tables.schedules, tables.runs)
        assert SECRET not in json.dumps(answers) + caplog.text
        assert 4 == caplog.text.count("may not")


async def test_who_may_not_request_runs_may_not_trigger() -> None:
    """But pause, where that is allowed; and the page is told which of its buttons would do nothing."""
    jobs = make("jobs", lambda access: access.subject != "monitor" or access.action != "enqueue")
    async with jobs.open(":memory:", monitor=Monitor(), grace=0) as runtime, watching(runtime) as watcher:
        await jobs.schedules.every("far", 60, "act", CANARY, start=FAR)
        await until_told(watcher, lambda: "far" in watcher.schedules)
        triggered = await watcher.order(1, "trigger_schedule", jobs="app/jobs", key="far")
        paused = await watcher.order(2, "pause_schedule", jobs="app/jobs", key="far")

        assert "'monitor' may not enqueue runs of schedule 'far': the policy says no" == triggered["message"]
        assert ("denied", "done", ()) == (triggered["code"], paused["type"], (await jobs.runs.list()).runs)
        assert (True, False) == tuple(watcher.schedules["far"][name] for name in ("may_steer", "may_trigger"))


async def test_schedules_of_tasks_that_may_not_be_read_are_in_no_frame() -> None:
    """Neither in the snapshot nor in what follows, nor in the count of those that are not shown; nor what cannot be read."""
    jobs = make("jobs", lambda access: access.subject != "monitor" or access.task != SECRET)
    async with jobs.open(":memory:", monitor=Monitor(), grace=0) as runtime:
        for key, task in (("open", "act"), ("hidden-1", SECRET), ("odd", "act")):
            await jobs.schedules.every(key, 60, task, CANARY, start=FAR)
        tables: Tables = runtime.store.tables  # type: ignore[attr-defined]
        tables.schedules["app/jobs", "odd"] = evolve(tables.schedules["app/jobs", "odd"], body=b"{}")
        async with watching(runtime) as watcher:
            assert ["open"] == [*watcher.schedules]
            await jobs.schedules.every("hidden-2", 60, SECRET, CANARY, start=FAR)
            await jobs.schedules.pause("open")
            await until_told(watcher, lambda: watcher.schedules["open"]["state"] == "paused")

            assert ["open"] == [*watcher.schedules]
            assert 0 == watcher.state["schedules"]["more"]
            assert [] == [text for text in ("hidden-", "odd", CANARY) if text in "".join(watcher.texts)]


async def test_of_jobs_that_may_not_be_read_no_schedule_is_shown() -> None:
    """Though their tasks might be read; those of the others are there, and one that cannot be read is among them."""
    mine, theirs = make("mine"), make("theirs", lambda access: access.task is not None or access.subject is None)
    async with open_runtime(":memory:", mine, theirs, monitor=Monitor(), grace=0) as runtime:
        for jobs in (mine, theirs):
            await jobs.schedules.every(f"of-{jobs.name}", 60, "act", CANARY, start=FAR)
        await mine.schedules.every("odd", 60, "act", CANARY, start=FAR)
        tables: Tables = runtime.store.tables  # type: ignore[attr-defined]
        tables.schedules["app/mine", "odd"] = evolve(tables.schedules["app/mine", "odd"], body=b"{}")
        async with watching(runtime) as watcher:
            assert {"of-mine": "on", "odd": "unreadable"} == {
                key: each["state"] for key, each in watcher.schedules.items()
            }
            assert not watcher.schedules["odd"]["may_steer"]
            assert "theirs" not in "".join(watcher.texts)


@pytest.mark.parametrize("is_guarded", [True, False])
async def test_schedules_of_other_runtimes_are_shown_where_there_is_no_policy(*, is_guarded: bool) -> None:
    """Without buttons: whoever runs them steers them. Guarded ones are as if they were not there."""
    tables = Tables()
    theirs, ours = make("theirs", (lambda _access: True) if is_guarded else None), make("ours")
    async with open_runtime(MemoryStore(tables), theirs):
        await theirs.schedules.every("far", 60, SECRET, CANARY, start=FAR)
    async with open_runtime(MemoryStore(tables), ours, monitor=Monitor()) as runtime, watching(runtime) as watcher:
        answers = [await watcher.order(kind, kind, jobs="app/theirs", key="far") for kind in ORDERS]

        if is_guarded:
            assert {} == watcher.schedules
            assert ["not_found"] * 4 == [each["code"] for each in answers]
            assert "every 60 s" not in "".join(watcher.texts)
        else:
            row = watcher.schedules["far"]
            assert (SECRET, "on", False, False) == tuple(
                row[name] for name in ("task", "state", "may_steer", "may_trigger")
            )
            assert ["done", "not_here", "not_here", "not_here"] == [each.get("code", each["type"]) for each in answers]
    assert (1, False) == (len(tables.schedules), tables.schedules["app/theirs", "far"].paused)
    assert {} == tables.runs
