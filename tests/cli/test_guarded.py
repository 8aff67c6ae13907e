"""A policy is asked about what is typed, on behalf of whoever typed it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from callsheet import open_runtime

from . import guarded_board
from .shell import HERE, Done, call, said


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Calls with the code of guarded jobs, on a store that has one run."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(sys, "path", [*sys.path])

    async def request() -> None:
        async with open_runtime(tmp_path / "jobs.db", guarded_board.jobs):
            await guarded_board.jobs.enqueue("note", run_id="first", delay=3_600)
            await guarded_board.jobs.schedules.every("daily", 86_400, "note")

    trio.run(request)
    return lambda *arguments: call(
        *arguments, CALLSHEET_STORE=str(tmp_path / "jobs.db"), CALLSHEET_JOBS="guarded_board:jobs"
    )


CHANGES = [
    ["enqueue", "note"],
    ["runs", "cancel", "first"],
    ["runs", "cancel", "--all", "--yes"],
    ["queues", "pause", "guarded-jobs"],
    ["schedules", "every", "hourly", "1h", "note"],
    ["schedules", "pause", "daily"],
    ["schedules", "trigger", "daily"],
    ["schedules", "delete", "daily"],
]
READS = [
    ["runs", "list"],
    ["runs", "show", "first"],
    ["runs", "why", "first"],
    ["queues"],
    ["snapshot"],
    ["schedules", "list"],
    ["schedules", "show", "daily"],
    ["schedules", "history", "daily"],
    ["schedules", "preview", "daily"],
]


def test_who_may_look_may_not_change(typed: Callable[..., Done]) -> None:
    """Denied is status 77, with the reason; nothing was changed."""
    statuses = [typed(*each, "--subject", "cli:bob").status for each in READS]
    done = [typed(*each, "--subject", "cli:bob") for each in CHANGES]

    assert [0] * 9 == statuses
    assert [77] * 8 == [each.status for each in done]
    assert said(done[0], "cli:bob", "only ada changes anything")
    assert said(done[2], "only ada changes anything")
    assert ["scheduled"] == [each["status"] for each in typed("runs", "list", "--json").lines]


def test_who_may_do_nothing_is_told_nothing(typed: Callable[..., Done]) -> None:
    """Not even whether a run is there."""
    for command in [*READS, *CHANGES, ["runs", "show", "nobody"]]:
        done = typed(*command, "--subject", "cli:eve")
        assert (77, "") == (done.status, done.out)
        assert "scheduled" not in done.err


def test_who_may_do_everything_does(typed: Callable[..., Done]) -> None:
    """The subject is the one that is named."""
    assert [0] * 8 == [typed(*each, "--subject", "cli:ada").status for each in CHANGES]


def test_what_may_not_be_canceled_is_told_once(typed: Callable[..., Done], tmp_path: Path) -> None:
    """However many steps the others take."""
    with guarded_board.jobs.client(tmp_path / "jobs.db") as client:
        client.enqueue("note", run_id="stays", trace_id="t", delay=60)
        client.enqueue_many([client.entry("note", run_id=f"z-{each}", delay=60) for each in range(1_100)])

    done = typed("runs", "cancel", "--all", "--yes", "--subject", "cli:max")

    assert (0, "1,101 runs canceled, 1 left as they are\n") == (done.status, done.err)
    assert ["stays left as it is: denied: that one stays"] == [line for line in done.out.splitlines() if "left" in line]


def test_without_the_code_guarded_jobs_are_refused(typed: Callable[..., Done], tmp_path: Path) -> None:
    """Who has not the policy cannot ask it."""
    done = call("runs", "list", "--store", tmp_path / "jobs.db")

    assert 77 == done.status
    assert said(done, "default/guarded")
