"""Of guarded Jobs a monitor shows and does what their policies let it, and not a word more."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, Final

import pytest
import trio

from callsheet import Access, Discard, Jobs, Monitor, Queue, open_runtime
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables

from .visitor import Watcher, settled, watching

Rule = Callable[[Access], Any]

SECRET: Final = "canary-secret"


def make(name: str, rule: Rule | None) -> Jobs:
    """Two tasks, one of which is secret; their runs go on, end well, or fail, as their payload says."""
    jobs = Jobs(name, namespace="app", queue=Queue(concurrency=50), policy=rule)

    async def act(payload: object, ctx: object) -> None:
        match payload:
            case "hang":
                await trio.sleep_forever()
            case "bad":
                raise Discard("no such address")

    jobs.task("open")(act)
    jobs.task(SECRET)(act)
    return jobs


def no_secrets(access: Access) -> bool:
    """May read all but the runs of one task."""
    return access.action != "read" or access.task != SECRET


async def until_told(watcher: Watcher, condition: Callable[[], object]) -> None:
    while not condition():
        await watcher.next()


def parts(watcher: Watcher) -> str:
    """The counters, queues and tree that it was told, as text."""
    return json.dumps(watcher.state)


async def test_runs_that_it_may_not_read_are_in_no_frame() -> None:
    """Neither in the snapshot nor in what follows; those beside them are."""
    jobs = make("jobs", no_secrets)
    async with jobs.open(":memory:", monitor=Monitor(), grace=0) as runtime:
        before = [(await jobs.enqueue(task, "bad")).run_id for task in ("open", SECRET)]
        await runtime.until_idle()
        async with watching(runtime) as watcher:
            assert {before[0]} == {*watcher.runs}
            after = [(await jobs.enqueue(task, "hang")).run_id for task in (SECRET, "open")]
            await until_told(watcher, lambda: watcher.runs.get(after[1], {}).get("status") == "running")
            last = [(await jobs.enqueue(task, "ok")).run_id for task in (SECRET, "open")]
            await until_told(watcher, lambda: watcher.runs.get(last[1], {}).get("status") == "succeeded")

            assert {before[0], after[1], last[1]} == {*watcher.runs}
            said = "".join(watcher.texts)
            assert [] == [run for run in (before[1], after[0], last[0]) if run in said]
            # who may read at all is shown the counters, of all runs, and what there is
            assert 2 == watcher.state["stats"]["running"]
            assert SECRET in parts(watcher)


async def test_of_jobs_that_it_may_not_read_nothing_is_shown() -> None:
    """No run, though it might be read by its id, no counter, no queue, no task; the other Jobs are there whole."""
    mine, theirs = make("mine", None), make("theirs", None)
    async with open_runtime(":memory:", mine, theirs, monitor=Monitor(), grace=0) as runtime:
        shown = [(await mine.enqueue("open", payload)).run_id for payload in ("ok", "hang")]
        hidden = [(await theirs.enqueue("open", payload)).run_id for payload in ("ok", "hang")]
        await settled()
        theirs.policy = make("theirs", lambda access: access.run is not None).policy
        async with watching(runtime) as watcher:
            await until_told(watcher, lambda: watcher.state["stats"]["running"] == 1)

            assert {*shown} == {*watcher.runs}
            said = "".join(watcher.texts)
            assert [] == [text for text in (*hidden, "theirs") if text in said]
            assert ["app/mine-jobs"] == [each["queue"] for each in watcher.state["queues"]]
            assert 2 == sum(watcher.state["stats"].values())
            assert "app/mine" in parts(watcher)


async def test_a_policy_that_fails_hides_its_jobs_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The monitor stays up for the others."""

    def broken(access: Access) -> bool:
        raise SystemExit(1)

    mine, theirs = make("mine", None), make("theirs", broken)
    async with (
        open_runtime(":memory:", mine, theirs, monitor=Monitor(), grace=0) as runtime,
        watching(runtime) as watcher,
    ):
        run = (await mine.enqueue("open", "hang")).run_id
        await until_told(watcher, lambda: run in watcher.runs)

        assert "theirs" not in "".join(watcher.texts)
        assert "running" == runtime.tree().children[-1].state
    assert 1 == sum(record.name == "callsheet.guard" for record in caplog.records)


async def test_the_policy_is_asked_for_the_monitor_and_only_while_somebody_watches() -> None:
    """By its own name, once for the Jobs and once for each run that is read."""
    asked: list[Access] = []

    def notes(access: Access) -> bool:
        asked.append(access)
        return True

    jobs = make("jobs", notes)
    async with jobs.open(":memory:", monitor=Monitor(), grace=0) as runtime:
        runs = [(await jobs.enqueue("open", "ok")).run_id for _ in range(3)]
        await runtime.until_idle()
        assert {"enqueue"} == {str(access.action) for access in asked}
        asked.clear()
        async with watching(runtime):
            pass

        assert {("monitor", "read", "app/jobs")} == {(each.subject, str(each.action), each.jobs) for each in asked}
        assert {None, *runs} == {access.run and access.run.id for access in asked}


@pytest.mark.parametrize("kind", ["show", "cancel", "replay"])
async def test_an_order_that_is_denied_is_answered_and_changes_nothing(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """With a code and the reason; it is logged, the client stays, and nothing of the run is told."""
    action = {"show": "read"}.get(kind, kind)
    jobs = make("jobs", lambda access: access.action != action or "ask the operators")
    async with jobs.open(":memory:", monitor=Monitor(), grace=0) as runtime:
        waits = (await jobs.enqueue(SECRET, delay=3600)).run_id
        ended = (await jobs.enqueue(SECRET, "bad")).run_id
        await settled()
        tables = runtime.store.tables  # type: ignore[attr-defined]
        before = dict(tables.runs)
        async with watching(runtime, snapshot=False) as watcher:
            with caplog.at_level(logging.INFO, "callsheet.monitor"):
                answers = [await watcher.order(run, kind, run_id=run) for run in (waits, ended, "nobody")]

        expected = f"'monitor' may not {action} run '%s': ask the operators"
        assert [
            {"type": "error", "id": run, "code": "denied", "message": expected % run}
            for run in (waits, ended, "nobody")
        ] == answers
        assert before == tables.runs
        said = [
            each.getMessage() for each in caplog.records if each.name != "callsheet.run"
        ]  # which is the program's own
        assert 3 == sum("may not" in line for line in said)
        assert SECRET not in "".join(said)
        if kind == "show":
            assert SECRET not in "".join(watcher.texts)


async def test_an_order_that_is_allowed_is_done_though_nothing_may_be_read() -> None:
    """Each action for itself: the answer is about the order."""
    jobs = make("jobs", lambda access: access.action != "read" or access.subject != "monitor")
    async with jobs.open(":memory:", monitor=Monitor(), grace=0) as runtime, watching(runtime) as watcher:
        waits = (await jobs.enqueue("open", delay=3600)).run_id
        ended = (await jobs.enqueue("open", "bad")).run_id
        await jobs.runs.wait(ended)
        canceled = await watcher.order(1, "cancel", run_id=waits)
        replayed = await watcher.order(2, "replay", run_id=ended)

        assert {"run_id": waits, "canceled": True, "status": "canceled"} == canceled["result"]
        assert (ended, "queued") == (replayed["result"]["replay_of"], replayed["result"]["status"])
        assert (await watcher.order(3, "show", run_id=waits))["code"] == "denied"
        assert {} == watcher.runs


async def test_an_unknown_run_is_as_one_of_the_jobs_that_may_not_be_touched() -> None:
    """Of several Jobs: whoever may do nothing to some of them is not told which runs those have."""
    mine, theirs = make("mine", None), make("theirs", lambda access: access.subject != "monitor")
    async with open_runtime(":memory:", mine, theirs, monitor=Monitor(), grace=0) as runtime:
        run = (await theirs.enqueue("open", delay=60)).run_id
        ours = (await mine.enqueue("open", delay=60)).run_id
        async with watching(runtime) as watcher:
            for kind in ("show", "cancel", "replay"):
                known, unknown = [await watcher.order(f"{kind} {each}", kind, run_id=each) for each in (run, "nobody")]
                assert known["message"].replace(run, "ID") == unknown["message"].replace("nobody", "ID")
                assert "denied" == known["code"] == unknown["code"]
            assert "done" == (await watcher.order("a", "cancel", run_id=ours))["type"]


@pytest.mark.parametrize("by", ["a runtime", "nobody"])
async def test_guarded_jobs_of_other_runtimes_are_as_if_they_were_not_there(by: str) -> None:
    """Their policy is not here. Neither are those shown of which nobody has said that they have none."""
    tables = Tables()
    theirs = make("theirs", (lambda _access: True) if by == "a runtime" else None)
    ours = make("ours", None)
    async with open_runtime(MemoryStore(tables), theirs, work=by == "a runtime"):
        run = (await theirs.enqueue("open", delay=3600)).run_id
    async with open_runtime(MemoryStore(tables), ours, monitor=Monitor()) as runtime, watching(runtime) as watcher:
        mine = (await ours.enqueue("open", delay=3600)).run_id
        await until_told(watcher, lambda: mine in watcher.runs)

        assert {mine} == {*watcher.runs}
        assert 1 == sum(watcher.state["stats"].values())
        answers = [await watcher.order(kind, kind, run_id=run) for kind in ("show", "cancel", "replay")]
        assert ["not_found"] * 3 == [each["code"] for each in answers]
        assert "theirs" not in "".join(watcher.texts)
    assert "scheduled" == tables.runs[run].status
