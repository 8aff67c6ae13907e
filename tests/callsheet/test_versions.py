"""Tasks that change while runs of them wait: other names, other forms of their payloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from attrs import frozen

from callsheet import AlreadyDeclared, Context, Jobs, Queue, Status
from callsheet.store.contract import Insert
from callsheet.store.records import Lane, NewRun

from .house import NOON_NS, Place, check_books, open_house, read, settle, statuses

Seen = list[tuple[str, str, object]]


def release(name: str, seen: Seen, **options: Any) -> Jobs:
    """Jobs with one task, which writes down what it was given."""
    jobs = Jobs("j", queues=[Queue("mail")])

    @jobs.task(name, **options)
    async def work(payload: object, ctx: Context) -> None:
        seen.append((ctx.task, ctx.schema, payload))

    return jobs


async def leave_waiting(place: Place, name: str, payloads: Sequence[object], **options: Any) -> list[str]:
    """Runs that an older release stored, and never started."""
    jobs = release(name, [], **options)
    async with open_house(place, jobs, work=False):
        ids = [(await jobs.enqueue(name, each)).run_id for each in payloads]
        return [*ids, (await jobs.enqueue(name, "elsewhere", queue="mail")).run_id]


def lanes(place: Place) -> set[tuple[str, str]]:
    """The task and the schema of each run, as they are stored."""
    return {(run.lane.task, run.lane.schema) for run in read(place, check_books)}


async def test_runs_under_an_old_name_are_the_tasks_own(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """L21: after a task was renamed its waiting runs are handled under the new name, on each queue; they keep the old one."""
    ids = await leave_waiting(place, "send-mail", [1, 2])
    seen: Seen = []
    jobs = release("mail.send", seen, aliases=("send-mail", "mailer"))

    async with open_house(place, jobs) as runtime:
        await runtime.until_idle()
        assert [Status.SUCCEEDED] * 3 == await statuses(jobs, ids)
        assert 3 == len((await jobs.runs.list(task="send-mail")).runs)

    assert {("mail.send", "1", 1), ("mail.send", "1", 2), ("mail.send", "1", "elsewhere")} == set(seen)
    assert {("send-mail", "1")} == lanes(place)


async def test_a_renamed_task_is_still_the_same_one(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """L40: a key from before the rename has the same payload; lists by the new name have the old runs too."""
    before = release("old", [])
    async with open_house(place, before, work=False):
        first = await before.enqueue("old", {"n": 1}, idempotency_key="k")
    after = release("new", [], aliases=("old",))
    async with open_house(place, after) as runtime:
        again = await after.enqueue("new", {"n": 1}, idempotency_key="k", on_conflict="raise")
        other = await after.enqueue("new", {"n": 2}, idempotency_key="k")
        fresh = await after.enqueue("new", {"n": 3})
        await runtime.until_idle()

        listed = [(await after.runs.list(task=name)).runs for name in ("new", "old")]

    assert (first.run_id, True, True, False) == (
        again.run_id,
        again.deduped,
        again.payload_matches,
        other.payload_matches,
    )
    assert [{fresh.run_id, first.run_id}, {first.run_id}] == [{each.id for each in runs} for runs in listed]


async def test_an_old_name_requests_runs_of_the_new_one(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Whoever still enqueues by an alias gets a run of the current task."""
    seen: Seen = []
    jobs = release("mail.send", seen, aliases=["send-mail"])

    async with open_house(memory, jobs) as runtime:
        result = await jobs.enqueue("send-mail", 1)
        await jobs.enqueue_many([jobs.entry("send-mail", 2)])
        await runtime.until_idle()

    assert "mail.send" == result.run.lane.task
    assert jobs.task_named("send-mail") is jobs.task_named("mail.send")
    assert {("mail.send", "1", 1), ("mail.send", "1", 2)} == set(seen)
    assert {("mail.send", "1")} == lanes(memory)


async def test_a_parked_task_is_given_nothing_under_its_old_names(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """Runs of an alias wait for the supervisor of the task that has it, and go on once it is back."""
    seen: Seen = []
    jobs = release("new", seen, aliases=("old",))

    async with open_house(memory, jobs) as runtime:
        cell = runtime.system.stage.registry["/tasks/default/j/new"]
        for _ in range(4):
            cell.ref.tell_control("poison")
            await settle()
        assert cell.parked
        lane = Lane("default/j", "default/j-jobs", "old", "1")
        await runtime.write(Insert((NewRun("r", lane, b"1", NOON_NS // 1000),)))
        await trio.sleep(60)
        assert 0 == (await jobs.runs.get("r")).run.attempt
        assert await runtime.unpark("new")
        await runtime.until_idle()
        assert [Status.SUCCEEDED] == await statuses(jobs, ["r"])

    assert [("new", "1", 1)] == seen


async def test_a_task_reads_the_schemas_that_it_accepts_and_leaves_others(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """L22: a rolling deploy destroys nothing: a run in a schema that nobody here reads waits for somebody who does."""
    old = await leave_waiting(place, "work", ["v1"], schema="1")
    new = await leave_waiting(place, "work", ["v3"], schema="3")
    seen: Seen = []
    second = release("work", seen, schema="2", accepts=("1",))

    async with open_house(place, second) as runtime:
        await second.enqueue("work", "v2")
        await runtime.until_idle()
        assert [Status.SUCCEEDED] * 2 == await statuses(second, old)
        assert [Status.QUEUED] * 2 == await statuses(second, new)

    assert {("work", "1", "v1"), ("work", "1", "elsewhere"), ("work", "2", "v2")} == set(seen)
    third = release("work", seen, schema="3", accepts=["2", "1"])
    async with open_house(place, third) as runtime:
        await runtime.until_idle()
        assert [Status.SUCCEEDED] * 2 == await statuses(third, new)


async def test_a_task_that_nobody_here_knows_waits(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """G47: a run of an unknown task is neither discarded nor failed by a runtime without it."""
    ids = await leave_waiting(place, "new-in-the-next-release", [1])
    jobs = release("work", [])

    async with open_house(place, jobs) as runtime:
        await runtime.until_idle()
        await trio.sleep(3_600)
        assert [Status.QUEUED] * 2 == await statuses(jobs, ids)
        assert 0 == (await jobs.runs.get(ids[0])).run.attempt


async def test_a_payload_that_its_type_refuses_waits_for_somebody_who_reads_it(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """G46: a stored payload that does not fit is no failure of its run: unspent, tried again each minute, never discarded."""

    @frozen
    class Mail:
        to: str

    [run_id, *_] = await leave_waiting(place, "work", [{"to": 5}])
    jobs = Jobs("j")
    seen: list[Mail] = []

    async def work(mail: Mail, ctx: Context) -> None:
        seen.append(mail)

    work.__annotations__["mail"] = Mail
    jobs.task("work")(work)
    async with open_house(place, jobs):
        await trio.sleep(150)
        found = await jobs.runs.get(run_id)

    assert (Status.SCHEDULED, 3, 0) == (found.run.status, found.run.attempt, found.run.spent)
    assert ["unreadable"] * 3 == [str(each.outcome) for each in found.attempts]
    assert [] == seen


@pytest.mark.parametrize(
    ("name", "aliases"), [("new", ()), ("old", ()), ("third", ("new",)), ("third", ("old",)), ("third", ("x", "older"))]
)
def test_a_name_that_a_task_has_or_had_is_taken(name: str, aliases: tuple[str, ...]) -> None:
    """A name or alias used twice is refused, whichever of both it was; nothing is declared then."""
    jobs = release("new", [], aliases=("old", "older"))

    with pytest.raises(AlreadyDeclared, match=f"default/j: task '{name}' cannot be declared: "):
        jobs.task(name, aliases=aliases)(jobs.tasks["new"].handler)

    assert (["new"], ["old", "older"]) == (list(jobs.tasks), list(jobs.aliases))


def test_a_claim_looks_for_each_name_in_each_schema_on_each_queue() -> None:
    """And for nothing else: what a runtime can run is what its declarations say."""
    from callsheet.cast import lanes_of

    jobs = release("new", [], aliases=("old",), schema="2", accepts=("1",))

    queues, names, schemas = ("default/j-jobs", "default/mail"), ("new", "old"), ("2", "1")
    expected = [Lane("default/j", queue, name, schema) for queue in queues for name in names for schema in schemas]
    assert expected == lanes_of(jobs)
