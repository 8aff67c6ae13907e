"""Schedules from a shell: made, looked at, steered and forgotten, beside a runtime or without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import apsw
import pytest
import trio

from callsheet import Client, Context, Jobs, open_runtime

from . import callboard
from .shell import Done, call, said


def typed(store: Path, *arguments: str) -> Done:
    """`callsheet schedules …`."""
    return call("schedules", *arguments, "--store", store)


async def answer(payload: object, ctx: Context) -> None:
    """A handler."""


def document(store: Path, *arguments: str) -> Any:
    """What programs are given."""
    return typed(store, *arguments, "--json").json


def edited(store: Path, statement: str, *values: object) -> None:
    """Somebody changed rows by hand."""
    db = apsw.Connection(str(store))
    db.execute(statement, values).fetchall()
    db.execute("pragma wal_checkpoint(truncate)").fetchall()
    db.close()


def test_a_schedule_is_made_and_changed(store: Path) -> None:
    """All of its options; what was said before under this key is no more, but for what was counted."""
    made = document(
        store, "every", "hourly", "1h", "echo", '{"n": 1}', "--start", "2026-01-01T00:30Z", "--end", "2999-01-01T00:00Z",
        "--jitter", "5m", "--misfire", "all", "--misfire-cap", "7", "--overlap", "queue", "--queue", "mail",
        "--priority", "2", "--timeout", "2m", "--max-attempts", "9",
    )  # fmt: skip
    run = call(
        "runs", "show", typed(store, "trigger", "hourly").out.strip(), "--store", store, "--payload", "--json"
    ).json
    changed = document(store, "cron", "hourly", "0 9 * * mon-fri", "fail", '"x"', "--tz", "Europe/Berlin")

    assert {
        "key": "hourly", "state": "on", "task": "echo", "queue": "mail", "cadence": "every 3600 s", "origin": "call",
        "misfire": "all", "misfire_cap": 7, "overlap": "queue", "jitter": 300.0, "start": "2026-01-01T00:30:00.000000Z",
        "end": "2999-01-01T00:00:00.000000Z", "fired": 0, "skipped": 0, "waiting_at": None, "last_at": None,
    }.items() <= made.items()  # fmt: skip
    assert made["next_at"] <= made["due_at"]
    assert made["next_at"].endswith(":30:00.000000Z")
    assert ("echo", {"n": 1}, "mail", 2, 9, 120.0, "hourly") == tuple(
        run[name] for name in ("task", "payload", "queue", "priority", "max_attempts", "timeout", "schedule")
    )
    assert ("fail", "0 9 * * MON-FRI Europe/Berlin", 1, made["created_at"]) == tuple(
        changed[name] for name in ("task", "cadence", "fired", "created_at")
    )


def test_schedules_are_shown_and_steered(store: Path) -> None:
    """A table for people; the payload where it is asked for."""
    nothing = typed(store, "list")
    typed(store, "every", "mails/late", "15m", "send", '"secret"', "--start", "2999-01-01T00:00Z")
    listed = typed(store, "list").out.splitlines()
    paused = typed(store, "pause", "mails/late").out.splitlines()[1]
    shown = typed(store, "show", "mails/late").out
    with_payload = typed(store, "show", "mails/late", "--payload").out
    resumed = typed(store, "resume", "mails/late").out.splitlines()[1]
    snapshot = call("snapshot", "--store", store).out

    assert (0, "", "there are no schedules\n") == (nothing.status, nothing.out, nothing.err)
    assert ["SCHEDULE", "STATE", "TASK", "NEXT", "LAST", "RUNS", "SKIPPED", "CADENCE"] == listed[0].split()
    row = ["mails/late", "on", "send", "2999-01-01", "00:00:00.000Z", "0", "0", "every", "900", "s"]
    assert (row, row) == (listed[1].split(), resumed.split())
    assert ["mails/late", "paused", "send", "0", "0", "every", "900", "s"] == paused.split()
    assert "secret" not in shown + "\n".join([*listed, snapshot])
    assert 'payload   "secret"\n' in with_payload
    assert "state     paused\n" in shown
    assert "so far    0 runs, 0 times skipped\n" in shown
    assert "Schedules\nSCHEDULE" in snapshot
    assert ["mails/late"] == [each["key"] for each in call("snapshot", "--store", store, "--json").json["schedules"]]


def test_without_a_command_they_are_listed(store: Path) -> None:
    """As by `list`; an option that another command would not see is refused."""
    typed(store, "every", "hourly", "1h", "echo", "--start", "2999-01-01T00:00Z")
    misplaced = call("schedules", "--store", store, "pause", "hourly")

    assert typed(store, "list").out == typed(store).out
    assert ["hourly"] == [each["key"] for each in document(store)["schedules"]]
    assert 2 == misplaced.status
    assert said(misplaced, "it goes after pause")
    assert "on" == document(store, "show", "hourly")["state"]


def test_times_are_told_by_the_clocks_of_the_schedule_too(store: Path) -> None:
    """Where those are not UTC; programs are given UTC alone."""
    typed(store, "cron", "berlin", "30 2 * * *", "echo", "--tz", "Europe/Berlin", "--start", "2099-03-28T00:00Z")
    typed(store, "cron", "utc", "30 2 * * *", "echo", "--start", "2099-01-01T00:00Z")
    listed = typed(store).out.splitlines()
    shown = typed(store, "show", "berlin").out

    assert ["NEXT", "LOCAL", "LAST"] == listed[0].split()[3:6]
    assert ["2099-03-28", "01:30:00.000Z", "2099-03-28", "02:30:00+01:00", "0"] == listed[1].split()[3:8]
    assert ["2099-01-01", "02:30:00.000Z", "0"] == listed[2].split()[3:6]
    assert "next      2099-03-28 01:30:00.000Z (2099-03-28 02:30:00+01:00)\n" in shown
    assert "start     2099-03-28 00:00:00.000Z (2099-03-28 01:00:00+01:00)\n" in shown
    assert [
        "2099-03-28 01:30:00.000Z (2099-03-28 02:30:00+01:00)",
        "2099-03-29 01:00:00.000Z (2099-03-29 03:00:00+02:00)",
    ] == (typed(store, "preview", "berlin", "-n", "2").out.splitlines())
    assert "+01:00" not in typed(store, "show", "utc").out
    assert "2099-03-28T01:30:00.000000Z" == document(store, "show", "berlin")["next_at"]


def test_times_to_come_and_times_gone(store: Path) -> None:
    """Preview tells the next ones, history what became of the last ones; runs are found by their schedule."""
    typed(store, "cron", "yearly", "0 12 24 12 *", "send", "--start", "2998-01-01T00:00Z")
    times = typed(store, "preview", "yearly", "--times", "2").out.splitlines()
    untold = typed(store, "history", "yearly")
    run_id = typed(store, "trigger", "yearly").out.strip()

    assert ["2998-12-24 12:00:00.000Z", "2999-12-24 12:00:00.000Z"] == times
    assert {"key": "yearly", "times": ["2998-12-24T12:00:00.000000Z"]} == document(
        store, "preview", "yearly", "-n", "1"
    )
    assert (0, "", "none of its times has come yet\n") == (untold.status, untold.out, untold.err)
    (fired,) = document(store, "history", "yearly")["history"]
    assert ("triggered", run_id, 1, fired["at"]) == tuple(
        fired[name] for name in ("did", "run_id", "times", "nominal_at")
    )
    assert ["TIME", "AT", "DONE", "TIMES", "RUN"] == typed(store, "history", "yearly").out.splitlines()[0].split()
    (run,) = call("runs", "list", "--schedule", "yearly", "--store", store, "--json").lines
    assert (run_id, "yearly", fired["nominal_at"]) == (run["id"], run["schedule"], run["nominal_at"])
    assert said(call("runs", "cancel", "--all", "--schedule", "no", "--yes", "--store", store), "no runs match")


def test_what_is_forgotten_is_gone_but_for_its_runs(store: Path) -> None:
    """Deleting says so, and finds nothing the second time: status 1."""
    typed(store, "every", "hourly", "1h", "send")
    run_id = typed(store, "trigger", "hourly").out.strip()
    done, again = typed(store, "delete", "hourly"), typed(store, "delete", "hourly")

    assert (0, "hourly deleted\n") == (done.status, done.out)
    assert (1, "") == (again.status, again.out)
    assert said(again, "has no schedule 'hourly'")
    assert run_id == call("runs", "show", run_id, "--store", store, "--json").json["id"]


def test_a_schedule_of_the_code_is_not_changed_here(store: Path) -> None:
    """Status 2; it may be paused. One that the code has dropped is told apart, and may be deleted."""
    declared = Jobs("board", namespace="app")
    declared.task("echo")(answer)
    declared.every("hourly", 3_600, "echo")

    async def open_once(jobs: Jobs) -> None:
        async with open_runtime(store, jobs):
            pass

    trio.run(open_once, declared)
    refused = typed(store, "every", "hourly", "2h", "echo")
    paused = document(store, "pause", "hourly")
    trio.run(open_once, callboard.jobs)
    dropped = typed(store, "show", "hourly").out

    assert 2 == refused.status
    assert said(refused, "'hourly' is declared by the code: change it there")
    assert ("code", "paused", "every 3600 s") == (paused["origin"], paused["state"], paused["cadence"])
    assert "orphaned: its code declares it no more\n" in dropped
    assert 0 == typed(store, "delete", "hourly").status


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["every", "k", "often", "echo"], "'often' is no duration"),
        (["every", "k", "0", "echo"], "every: must be"),
        (["every", "", "1h", "echo"], "schedule key '' is not allowed: it is empty"),
        (["every", "k" * 200, "1h", "echo"], "schedule key"),
        (["every", "k", "1h", "ecko"], "did you mean 'echo'?"),
        (["every", "k", "1h", "echo", "--first", "soon"], 'must be "next" or "now"'),
        (["every", "k", "1h", "echo", "--overlap", "some"], "'some' is none of skip, allow, queue"),
        (["every", "k", "1h", "echo", "--misfire", "some"], "'some' is none of skip, latest, all"),
        (["every", "k", "1h", "echo", "--misfire-cap", "3"], "it goes with --misfire all"),
        (["every", "k", "1h", "echo", "--jitter", "45m"], "jitter: must be"),
        (
            ["every", "k", "1h", "echo", "--start", "2027-01-01T00:00Z", "--end", "2026-01-01T00:00Z"],
            "before its start",
        ),
        (["every", "k", "1h", "echo", "--end", "2026-01-01"], "end"),
        (["cron", "k", "0 9 * *", "echo"], "needs 5 fields"),
        (["cron", "k", "61 9 * * *", "echo"], "'61' is no minute"),
        (["cron", "k", "0 0 30 2 *", "echo"], "never fires"),
        (["cron", "k", "0 9 * * *", "echo", "--tz", "Berlin"], "is no time zone that is known here"),
        (["history", "k", "--limit", "0"], "limit: must be an int from 1 to 100"),
    ],
)
def test_what_is_typed_wrong_makes_no_schedule(store: Path, arguments: list[str], told: str) -> None:
    """Status 2 and a sentence; nothing is stored."""
    done = typed(store, *arguments)

    assert 2 == done.status
    assert said(done, told)
    with Client(store) as client:
        assert () == client.schedules.list()


FAR_US: Final = 9_000_000_000_000_000


def test_the_doctor_looks_at_schedules(store: Path) -> None:
    """What cannot be read is broken; what is late is a warning, where a runtime is open that should have seen it."""
    typed(store, "every", "hourly", "1h", "echo")
    fine = call("doctor", "--store", store).out
    edited(store, "update schedules set due_us = 1")
    alone = call("doctor", "--store", store)
    edited(store, "update owners set closed = 0, seen_us = ?", 9_000_000_000_000_000)
    late = call("doctor", "--store", store)
    edited(store, "update schedules set due_us = ?1, last_us = ?1", FAR_US)
    ahead = call("doctor", "--store", store)
    edited(store, "update schedules set body = ?", b'{"half')
    unread = call("doctor", "--store", store)

    assert "ok       schedules: all can be read: there are 1\n" in fine
    assert "ok       schedules: " in alone.out
    assert "warning  schedules: schedule hourly of app/board (since 1970-01-01 00:00:00.000001+00:00)" in late.out
    assert "warning  schedules: schedule hourly of app/board: it has been at 2255-03-14 16:00:00+00:00" in ahead.out
    assert (1, True) == (unread.status, "broken   schedules: what was said of schedule hourly" in unread.out)
