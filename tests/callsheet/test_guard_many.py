"""A policy over many runs: lists and their pages, requests of many, bulk, and whoever looks at everything."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import callsheet.runs as runs_module
from callsheet import (
    Access,
    Action,
    Context,
    IdempotencyConflict,
    Jobs,
    PolicyDenied,
    Queue,
    RunNotFinished,
    RunNotFound,
    acting_as,
)
from callsheet import bulk as bulk_module
from callsheet.monitor.desk import carry_out
from callsheet.monitor.feed import Feed
from callsheet.monitor.messages import ShowRun
from callsheet.testing import run as run_in_virtual_time
from callsheet.testing import simulate

from .house import Place, open_house, settle
from .stage_door import USER, Doorkeeper, a_run_of_each, guarded, open_stage

# ---------------------------------------------------------------- looking at many


def every_third(access: Access) -> bool:
    """May be read: one run of three, by the number that is its trace id; neither the first nor the last."""
    return access.run is None or int(access.run.trace_id or 0) % 3 == 1


async def thirty(jobs: Jobs) -> list[str]:
    """Waiting runs, newest first; the second of three may be read, see above."""
    entries = [jobs.entry("ok", n, trace_id=str(n), delay=3600) for n in range(30)]
    return [each.run_id for each in await jobs.enqueue_many(entries)][::-1]


@pytest.mark.parametrize("limit", [1, 2, 7, 10, 30, 500])
async def test_a_list_has_what_may_be_read_each_once_over_its_pages(
    autojump_clock: trio.abc.Clock, place: Place, limit: int
) -> None:
    """Pages are full; what is left out is not seen in a cursor either."""
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(place, jobs):
        runs = await thirty(jobs)
        keeper.rule = every_third

        page = await jobs.runs.list(limit=limit)
        pages = [page]
        while page.next is not None:
            page = await jobs.runs.list(limit=limit, after=page.next)
            pages.append(page)

        assert runs[1::3] == [run.id for each in pages for run in each.runs]
        assert {limit} >= {len(each.runs) for each in pages[:-1]}
        assert {each.next for each in pages} <= {*runs[1::3], None}
        assert (10 + limit - 1) // limit == len(pages)


async def test_a_list_of_few_among_many_looks_at_so_many_and_says_where_to_go_on(
    autojump_clock: trio.abc.Clock, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that leaves nearly nothing does not make one call read the whole store."""
    monkeypatch.setattr(runs_module, "MAX_LOOKED", 10)
    monkeypatch.setattr(runs_module, "MAX_PAGE", 5)
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(place, jobs):
        runs = await thirty(jobs)
        keeper.rule = lambda access: access.run is None or access.run.id == runs[-1]

        pages: list[list[str]] = []
        after: str | None = None
        while not pages or after is not None:
            page = await jobs.runs.list(limit=2, after=after)
            pages.append([run.id for run in page.runs])
            after = page.next

        assert [runs[-1]] == [run for each in pages for run in each]
        assert 3 == len(pages)


async def test_a_snapshot_shows_the_runs_that_may_be_read(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Its counters are of all."""
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(place, jobs):
        runs = await thirty(jobs)
        keeper.rule = every_third

        snapshot = await jobs.snapshot()

        assert runs[1::3] == [run.id for run in snapshot.recent]
        assert 30 == snapshot.stats.total


async def test_who_may_not_read_is_shown_nothing_at_all(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """No list, however it is filtered, no counter, no queue, no runtime."""
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(memory, jobs):
        run = (await jobs.enqueue("ok", delay=60)).run_id
        keeper.rule = lambda access: access.action != Action.READ or access.run is not None
        for call in (
            jobs.runs.list,
            lambda: jobs.runs.list(task="ok"),
            jobs.snapshot,
            jobs.stats,
            jobs.runtimes,
            jobs.queues.list,
            jobs.queues.get,
        ):
            with pytest.raises(
                PolicyDenied, match=r"the program may not read runs of (default/j|task 'ok'): the policy"
            ):
                await call()

        assert run == (await jobs.runs.get(run)).run.id


async def test_what_is_said_of_a_run_comes_after_the_policy(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """That it has not ended, or failed, or is not there, is told to those only who may know."""
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(memory, jobs):
        waits = (await jobs.enqueue("ok", delay=60)).run_id
        calls = [
            (lambda: jobs.runs.result(waits), RunNotFinished),
            (lambda: jobs.runs.replay(waits), RunNotFinished),
            (lambda: jobs.runs.get("nobody"), RunNotFound),
            (lambda: jobs.runs.explain("nobody"), RunNotFound),
            (lambda: jobs.runs.wait("nobody"), RunNotFound),
            (lambda: jobs.runs.cancel("nobody"), RunNotFound),
            (lambda: jobs.runs.replay("nobody"), RunNotFound),
        ]
        for call, error in calls:
            keeper.rule = lambda _access: True
            with pytest.raises(error):
                await call()
            keeper.rule = lambda _access: False
            with pytest.raises(PolicyDenied):
                await call()


async def test_whoever_waits_is_asked_for_again_before_the_end_is_told(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """A policy may have changed its mind meanwhile."""
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(memory, jobs):
        run = (await jobs.enqueue("ok", delay=60)).run_id
        keeper.rule = lambda access: access.run is None or access.run.status != "succeeded"

        with pytest.raises(PolicyDenied):
            await jobs.runs.wait(run)

        assert 60 == trio.current_time()


async def test_a_policy_knows_tasks_by_the_name_that_they_have_now(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """A run that was stored under an older one is none that it forgot."""
    before = Jobs("j")

    @before.task("old")
    async def old(payload: object, ctx: Context) -> None: ...

    async with open_house(memory, before):
        run = (await before.enqueue("old", delay=60)).run_id
    jobs = guarded(keeper := Doorkeeper(lambda access: access.task == "ok"))
    async with open_house(memory, jobs):
        await jobs.runs.cancel(run)

        assert [("ok", "old")] == [(access.task, access.run and access.run.task) for access in keeper.asked]


# ---------------------------------------------------------------- requesting


async def test_of_many_entries_one_that_is_denied_denies_all(autojump_clock: trio.abc.Clock, tmp_path: Path) -> None:
    """All or nothing; every one is asked for before anything is written."""
    async with open_stage(tmp_path / "jobs.db") as stage:
        jobs, before = stage.jobs, stage.contents()
        stage.keeper.rule = lambda access: access.task != "bad"

        with pytest.raises(PolicyDenied, match="may not enqueue task 'bad'"):
            await jobs.enqueue_many([jobs.entry("ok"), jobs.entry("ok"), jobs.entry("bad"), jobs.entry("ok")])

        assert before == stage.contents()
        assert ["ok", "ok", "bad"] == [access.task for access in stage.keeper.asked]


async def test_a_key_does_not_open_a_run_that_may_not_be_read(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Whoever asks for it again learns that it is there, by its id, and no more."""
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(place, jobs) as runtime:
        first = await jobs.enqueue("ok", "canary", idempotency_key="k", trace_id="canary")
        await runtime.until_idle()
        keeper.rule = lambda access: access.action == Action.ENQUEUE or "not yours"

        with acting_as(USER):
            again = await jobs.enqueue("ok", "guess", idempotency_key="k")
            several = await jobs.enqueue_many([jobs.entry("ok", "mine"), jobs.entry("ok", 1, run_id=first.run_id)])

        assert (first.run_id, True, False) == (again.run_id, again.deduped, again.payload_matches)
        for each in (again, again, several[1]):
            with pytest.raises(PolicyDenied, match=f"'user:7' may not read run '{first.run_id}': not yours"):
                _ = each.run
            assert "canary" not in repr(each) + str(each.denied)
        assert (b'"mine"', None) == (several[0].run.payload, several[0].denied)
        with acting_as(USER), pytest.raises(IdempotencyConflict) as conflict:
            await jobs.enqueue("ok", "guess", idempotency_key="k", on_conflict="raise")
        assert "canary" not in f"{conflict.value!r}{conflict.value}{vars(conflict.value)}"


async def test_a_replay_is_no_way_to_read(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """The new run has the payload of the old one."""
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(memory, jobs) as runtime:
        run = await jobs.enqueue("ok", "canary")
        await runtime.until_idle()
        keeper.rule = lambda access: access.action == Action.REPLAY

        replay = await jobs.runs.replay(run.run_id)

        with pytest.raises(PolicyDenied, match=f"may not read run '{replay.run_id}'"):
            _ = replay.run
        keeper.rule = lambda _access: True
        assert b'"canary"' == (await jobs.runs.replay(run.run_id)).run.payload
        await runtime.until_idle()


async def test_who_may_steer_a_queue_is_told_how_it_is(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """The answer belongs to the order; nothing is done and then denied."""
    jobs = guarded(Doorkeeper(lambda access: access.action == Action.STEER))
    async with open_house(memory, jobs):
        assert (await jobs.queues.pause()).paused
        assert 7 == (await jobs.queues.set(concurrency=7)).concurrency
        assert not (await jobs.queues.resume()).paused


async def test_a_policy_may_know_queues_apart(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """By the name that the caller uses."""
    jobs = Jobs("j", queues=[Queue("mail")], policy=lambda access: access.queue == "mail" or access.action == "read")
    async with open_house(memory, jobs):
        assert (await jobs.queues.pause("mail")).paused
        with pytest.raises(PolicyDenied, match="the program may not steer queue 'j-jobs'"):
            await jobs.queues.pause()
        assert ["j-jobs", "mail"] == [each.name for each in await jobs.queues.list()]
        assert [False, True] == [each.paused for each in await jobs.queues.list()]


async def test_a_task_is_not_unparked_for_everybody(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """It is steering too."""
    jobs = guarded(keeper := Doorkeeper(lambda access: "ask the operators"))
    async with open_house(memory, jobs) as runtime:
        with pytest.raises(PolicyDenied, match="the program may not steer task 'ok': ask the operators"):
            await runtime.unpark("ok")
        keeper.rule = lambda access: access.task == "ok"
        assert not await runtime.unpark("ok")


# ---------------------------------------------------------------- in bulk


def by_number(access: Access) -> bool | str:
    """Of three runs, the first may be read, to the next something may be done, and of the last nothing is known."""
    if access.run is None:
        return True
    n = int(access.run.trace_id or 0) % 3
    return n == 1 or (n == 2 and access.action == Action.READ) or "not yours"


async def thirty_ended(jobs: Jobs) -> list[str]:
    """As `thirty`, dead-lettered."""
    entries = [jobs.entry("bad", n, trace_id=str(n)) for n in range(30)]
    runs = [each.run_id for each in await jobs.enqueue_many(entries)][::-1]
    await jobs.runtime().until_idle()
    return runs


@pytest.mark.parametrize("limit", [1, 4, 10, 1000])
async def test_a_bulk_cancel_is_answered_run_by_run(autojump_clock: trio.abc.Clock, place: Place, limit: int) -> None:
    """Canceled, or denied; what may not even be read is left out, and what is denied keeps no call from the rest."""
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(place, jobs):
        runs = await thirty(jobs)
        keeper.asked.clear()
        keeper.rule = by_number
        canceled: list[str] = []
        more = True
        while more:
            result = await jobs.runs.cancel_all(limit=limit)
            denied = [each for each in result.answers if not each.done]
            canceled += [each.run_id for each in result.answers if each.done]
            more = result.more
            assert runs[0::3][: min(limit, len(denied))] == [each.run_id for each in denied]
            assert {("scheduled", "denied: not yours")} >= {(each.status, each.why) for each in denied}

        assert runs[1::3] == canceled
        assert (Action.CANCEL, None, None) == (keeper.asked[0].action, keeper.asked[0].task, keeper.asked[0].run)
        keeper.rule = lambda _access: True
        assert 20 == (await jobs.stats()).by_status["scheduled"]
        await jobs.runs.cancel_all()


async def test_a_bulk_cancel_asks_once_for_what_it_answers_as_denied(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """However often it goes over what may have moved meanwhile."""
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(memory, jobs):
        runs = await thirty(jobs)
        keeper.asked.clear()
        keeper.rule = by_number

        await jobs.runs.cancel_all()

        asked = Counter(each.run.id for each in keeper.asked if each.run is not None and each.action == Action.CANCEL)
        assert {1} == {asked[run] for run in runs[0::3]}
        keeper.rule = lambda _access: True
        await jobs.runs.cancel_all()


@pytest.mark.parametrize("limit", [1, 4, 20, 1000])
@pytest.mark.parametrize("page", [3, 100])
async def test_a_bulk_replay_is_answered_run_by_run(
    autojump_clock: trio.abc.Clock, place: Place, monkeypatch: pytest.MonkeyPatch, limit: int, page: int
) -> None:
    """Replayed, or denied; what may not even be read is left out, in the cursor and in `more` too."""
    monkeypatch.setattr(bulk_module, "REPLAYED", page)
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(place, jobs) as runtime:
        runs = await thirty_ended(jobs)
        await jobs.queues.pause()
        keeper.rule = by_number
        answers: list[bulk_module.Answered] = []
        after, calls = None, 0
        while calls == 0 or after is not None:
            result = await jobs.runs.replay_all(limit=limit, after=after)
            answers += result.answers
            after, calls = result.next, calls + 1
            assert result.more == (after is not None)
            assert after not in runs[2::3]

        assert [run for n, run in enumerate(runs) if n % 3 < 2] == [each.run_id for each in answers]
        assert [False, True] * 10 == [each.done for each in answers]
        assert {"denied: not yours"} == {each.why for each in answers if not each.done}
        assert (20 + limit - 1) // limit == calls
        keeper.rule = lambda _access: True
        assert 10 == (await jobs.stats()).by_status["queued"]
        await jobs.queues.resume()
        await runtime.until_idle()


@pytest.mark.parametrize("call", ["cancel_all", "replay_all"])
async def test_who_may_nothing_in_bulk_is_asked_for_once(
    autojump_clock: trio.abc.Clock, tmp_path: Path, call: str
) -> None:
    """Denied as a whole: nothing is looked at, nothing changed."""
    async with open_stage(tmp_path / "jobs.db") as stage:
        await a_run_of_each(stage)
        before, action = stage.contents(), call.partition("_")[0]
        stage.keeper.rule = lambda access: access.action != action

        with pytest.raises(PolicyDenied, match=f"the program may not {action} runs of (default/j|task 'ok'): "):
            await getattr(stage.jobs.runs, call)()
        with pytest.raises(PolicyDenied, match=f"the program may not {action} runs of task 'ok': "):
            await getattr(stage.jobs.runs, call)(task="ok")

        assert before == stage.contents()
        assert [None, None] == [access.run for access in stage.keeper.asked]


# ---------------------------------------------------------------- the same everywhere


async def seen_by(jobs: Jobs, runs: list[str], subject: object) -> dict[str, set[str]]:
    """What `subject` sees, by where it looks."""
    runtime = jobs.runtime()
    seen: dict[str, set[str]] = {"get": set(), "list": set(), "show": set()}
    with acting_as(subject):
        for run in runs:
            with suppress(PolicyDenied):
                seen["get"].add((await jobs.runs.get(run)).run.id)
            if (await carry_out(runtime, ShowRun(1, run), "peer"))["type"] == "done":
                seen["show"].add(run)
        page = await jobs.runs.list(limit=3)
        seen["list"] |= {run.id for run in page.runs}
        while page.next is not None:
            page = await jobs.runs.list(limit=3, after=page.next)
            seen["list"] |= {run.id for run in page.runs}
        seen["snapshot"] = {run.id for run in (await jobs.snapshot()).recent}
        frame = json.loads((await Feed(runtime).snapshot()).text)
        seen["feed"] = {run["id"] for run in frame["runs"]}
    return seen


@given(st.lists(st.tuples(st.sampled_from(["ok", "bad", "long"]), st.booleans(), st.booleans()), max_size=12))
def test_each_sees_exactly_what_the_policy_lets_it_see(story: list[tuple[str, bool, bool]]) -> None:
    """Whichever way it looks: one run, lists and their pages, the snapshot, the monitor's feed and its details."""

    async def main() -> None:
        jobs = guarded(keeper := Doorkeeper())
        async with simulate(jobs, seed=1):
            runs = [(await jobs.enqueue(task)).run_id for task, _, _ in story]
            await settle()
            for_user = {run for run, (_, user, _) in zip(runs, story, strict=True) if user}
            for_monitor = {run for run, (_, _, monitor) in zip(runs, story, strict=True) if monitor}
            allowed = {USER: for_user, "monitor": for_monitor}
            keeper.rule = lambda access: access.run is None or access.run.id in allowed.get(access.subject, ())

            user = await seen_by(jobs, runs, USER)

            assert {"get": for_user, "list": for_user, "snapshot": for_user} == {
                where: user[where] for where in ("get", "list", "snapshot")
            }
            assert {"show": for_monitor, "feed": for_monitor} == {where: user[where] for where in ("show", "feed")}
            keeper.rule = lambda _access: True
            await jobs.runs.cancel_all()

    run_in_virtual_time(main)
