"""A policy decides who may do what, whichever way somebody comes, and what it denies neither happens nor tells anything."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from callsheet import (
    Access,
    Action,
    Client,
    Context,
    Jobs,
    PolicyDenied,
    SyncContext,
    acting_as,
    open_runtime,
)
from callsheet.guard import MAX_REASON, subject_of
from callsheet.testing import simulate

from .house import Place, open_house, settle
from .stage_door import WAYS, Doorkeeper, Refused, Surface, a_run_of_each, guarded, open_stage

CANARIES: Final = [
    "canary-payload",
    "canary-key",
    "canary-trace",
    "canary-reason",
    "scheduled",
    "dead_lettered",
    "bad",
    "ok",
]
"""What is stored of the runs in `a_run_of_each`, and what nobody is told who is denied."""


async def ask(way: Surface, action: Action, waits: str, ended: str) -> None:
    """Do it, with one that waits or one that has ended."""
    match action:
        case Action.ENQUEUE:
            await way.enqueue("long", "canary-payload")
        case Action.READ:
            await way.read(waits)
        case Action.CANCEL:
            await way.cancel(waits)
        case Action.REPLAY:
            await way.replay(ended)
        case Action.STEER:
            await way.steer()


def object_of(action: Action, waits: str, ended: str) -> str:
    """How it is called in a denial."""
    return {
        Action.ENQUEUE: "task 'long'",
        Action.READ: f"run '{waits}'",
        Action.CANCEL: f"run '{waits}'",
        Action.REPLAY: f"run '{ended}'",
        Action.STEER: "queue 'j-jobs'",
    }[action]


async def test_schedules_are_guarded_by_their_task(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Whoever may not read or steer a task is neither told of its schedules nor has any changed, or made."""
    keeper = Doorkeeper()
    jobs = guarded(keeper)
    async with open_house(memory, jobs) as runtime:
        await jobs.schedules.every("mine", 3_600, "ok", "canary-payload")
        await jobs.schedules.every("theirs", 3_600, "long", "canary-payload")
        keeper.rule = lambda access: access.task in (None, "ok")
        before = await runtime.read(lambda reader: reader.schedules())

        schedules = jobs.schedules
        for call in (
            lambda: schedules.get("theirs"),
            lambda: schedules.history("theirs"),
            lambda: schedules.preview("theirs"),
            lambda: schedules.pause("theirs"),
            lambda: schedules.resume("theirs"),
            lambda: schedules.trigger("theirs"),
            lambda: schedules.delete("theirs"),
            new := lambda: schedules.every("new", 60, "long"),
            lambda: schedules.every("theirs", 60, "ok"),  # whose it was counts too
        ):
            with pytest.raises(PolicyDenied) as told:
                await call()
            assert "'theirs'" in str(told.value) or "task 'long'" in str(told.value)
            assert ("'long'" in str(told.value)) == (call is new)  # only where the caller named it

        assert before == await runtime.read(lambda reader: reader.schedules())
        assert ["mine"] == [each.key for each in await schedules.list()]
        assert [("mine", None)] == [(each.key, each.payload) for each in (await jobs.snapshot()).schedules]
        keeper.rule = lambda access: access.action == Action.ENQUEUE
        with pytest.raises(PolicyDenied):
            await schedules.every("mine", 60, "ok")
        keeper.rule = lambda access: access.action == Action.STEER
        with pytest.raises(PolicyDenied):
            await schedules.trigger("mine")
        keeper.rule = lambda _access: True


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize(("way", "action"), WAYS)
async def test_what_the_policy_allows_is_done(
    autojump_clock: trio.abc.Clock, tmp_path: Path, way: type[Surface], action: Action
) -> None:
    """It allows this one action and nothing else, and that is enough."""
    async with open_stage(tmp_path / "jobs.db") as stage:
        waits, ended = await a_run_of_each(stage)
        before = stage.contents()
        stage.keeper.rule = lambda access: access.action == action

        await ask(way(stage), action, waits, ended)

        assert (before == stage.contents()) == (action is Action.READ)
        assert {(way.subject, str(action))} == {each[:2] for each in stage.keeper.questions if each[1] == action}
        stage.keeper.rule = lambda _access: True
        await stage.jobs.runs.cancel_all()


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (lambda _access: False, "the policy says no"),
        (lambda _access: "it is the crown's", "it is the crown's"),
        (lambda _access: None, "the policy gave no answer"),
        (lambda access: access.no_such_thing, "the policy failed"),
    ],
    ids=["no", "why not", "nothing", "raises"],
)
@pytest.mark.parametrize(("way", "action"), WAYS)
async def test_what_the_policy_denies_is_not_done_and_tells_nothing(
    autojump_clock: trio.abc.Clock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    way: type[Surface],
    action: Action,
    rule: Callable[[Access], Any],
    reason: str,
) -> None:
    """It allows everything but this: the store is as it was, and all that is told is who, what, of what, and why."""
    caplog.set_level(logging.DEBUG, "callsheet")
    async with open_stage(tmp_path / "jobs.db") as stage:
        waits, ended = await a_run_of_each(stage)
        before = stage.contents()
        stage.keeper.rule = lambda access: access.action != action or rule(access)
        caplog.clear()

        with pytest.raises(Refused) as told:
            await ask(way(stage), action, waits, ended)

        assert before == stage.contents()
        assert f"{way.subject!r} may not {action} {object_of(action, waits, ended)}: {reason}" in str(told.value)
        heard = str(told.value) + "".join(record.getMessage() for record in caplog.records)
        assert [] == [canary for canary in CANARIES if canary in heard]


@pytest.mark.parametrize(
    ("way", "action"), [each for each in WAYS if each[1] in (Action.READ, Action.CANCEL, Action.REPLAY)]
)
async def test_who_may_do_nothing_cannot_tell_what_is_there(
    autojump_clock: trio.abc.Clock, tmp_path: Path, way: type[Surface], action: Action
) -> None:
    """An id that is not stored, and one that is, in whatever state: the same words but for the id."""
    async with open_stage(tmp_path / "jobs.db") as stage:
        waits, ended = await a_run_of_each(stage)
        stage.keeper.rule = lambda access: access.action != action
        texts = []
        for run_id in (waits, ended, "nobody"):
            with pytest.raises(Refused) as refused:
                await ask(way(stage), action, run_id, run_id)
            texts.append(str(refused.value).replace(run_id, "ID"))

        assert 1 == len(set(texts))
        assert [waits, ended, None] == [access.run and access.run.id for access in stage.keeper.asked]


# ---------------------------------------------------------------- what is asked


async def test_the_policy_is_told_who_wants_what_of_what(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """As `Access` says, for every call."""
    keeper = Doorkeeper()
    jobs = guarded(keeper)
    async with open_house(memory, jobs) as runtime:
        run = (await jobs.enqueue("old", "x")).run_id
        await runtime.until_idle()
        calls: list[tuple[Callable[[], Awaitable[object]], list[tuple[Any, ...]]]] = [
            (lambda: jobs.enqueue("old"), [("enqueue", "ok", None, None)]),
            (lambda: jobs.tasks["ok"].enqueue("x"), [("enqueue", "ok", None, None)]),
            (
                lambda: jobs.enqueue_many([jobs.entry("ok"), jobs.entry("bad")]),
                [("enqueue", "ok", None, None), ("enqueue", "bad", None, None)],
            ),
            (lambda: jobs.runs.get(run), [("read", "ok", run, None)]),
            (lambda: jobs.runs.result(run), [("read", "ok", run, None)]),
            (lambda: jobs.runs.wait(run), [("read", "ok", run, None)]),
            (lambda: jobs.runs.explain(run), [("read", "ok", run, None)]),
            (lambda: jobs.runs.cancel(run), [("cancel", "ok", run, None)]),
            (lambda: jobs.runs.list(task="old", limit=1, idempotency_key="k"), [("read", "ok", None, None)]),
            (lambda: jobs.runs.list(replay_of=run), [("read", None, None, None)]),
            (jobs.stats, [("read", None, None, None)]),
            (jobs.runtimes, [("read", None, None, None)]),
            (jobs.queues.get, [("read", None, None, None)]),
            (jobs.queues.list, [("read", None, None, None)]),
            (jobs.queues.pause, [("steer", None, None, "j-jobs")]),
            (lambda: jobs.queues.resume("j-jobs"), [("steer", None, None, "j-jobs")]),
            (lambda: jobs.queues.set(concurrency=5), [("steer", None, None, "j-jobs")]),
            (jobs.queues.reset, [("steer", None, None, "j-jobs")]),
            (lambda: runtime.unpark("old"), [("steer", "ok", None, None)]),
            (lambda: jobs.runs.cancel_all(idempotency_key="k"), [("cancel", None, None, None)]),
            (lambda: jobs.runs.replay_all(task="gone"), [("replay", "gone", None, None)]),
        ]
        for call, expected in calls:
            keeper.asked.clear()
            with acting_as(("any", "value")):
                await call()
            assert [(("any", "value"), *each) for each in expected] == keeper.questions
            assert {"default/j"} == {access.jobs for access in keeper.asked}
        await jobs.runs.cancel_all()


async def test_the_policy_sees_a_run_as_a_list_shows_it(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """The same for every call: stored as it is, without its payload."""
    keeper = Doorkeeper()
    jobs = guarded(keeper)
    async with open_house(place, jobs) as runtime:
        run = (await jobs.enqueue("ok", "x", idempotency_key="k")).run_id
        await runtime.until_idle()
        keeper.asked.clear()

        details = await jobs.runs.get(run)
        page = await jobs.runs.list()
        snapshot = await jobs.snapshot()
        await jobs.enqueue("ok", "x", idempotency_key="k")

        assert (b'"x"', (None,)) == (details.run.payload, tuple(each.payload for each in page.runs))
        assert [page.runs[0]] * 4 == [access.run for access in keeper.asked if access.run is not None]
        assert snapshot.recent == page.runs


async def test_no_policy_means_that_everybody_may_do_everything(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """And handlers have no name, since nobody asks for it."""
    jobs = Jobs("j")

    @jobs.task("who")
    async def who(payload: object, ctx: Context) -> object:
        return repr(subject_of())

    async with open_house(memory, jobs):
        run = await jobs.enqueue("who")
        await jobs.runs.wait(run.run_id)

        assert "None" == await jobs.runs.result(run.run_id)
        assert (None, False) == (jobs.policy, jobs.config.guarded)
    assert guarded(Doorkeeper()).config.guarded


# ---------------------------------------------------------------- failing closed


class Odd(BaseException):
    """Not an Exception."""


async def never() -> bool:
    return True


def raising(error: BaseException) -> Callable[[Access], bool]:
    def policy(access: Access) -> bool:
        raise error

    return policy


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (lambda _access: None, "the policy gave no answer"),
        (lambda _access: 1, "the policy gave no answer"),
        (lambda _access: [True], "the policy gave no answer"),
        (lambda _access: never(), "the policy gave no answer"),
        (lambda _access: never, "the policy gave no answer"),
        (lambda access: access.run.lane, "the policy failed"),
        (raising(OSError("the directory is away")), "the policy failed"),
        (raising(Odd("odd")), "the policy failed"),
        (raising(SystemExit(3)), "the policy failed"),
        (raising(BaseExceptionGroup("many", [Odd("odd")])), "the policy failed"),
        (lambda _access: "", "the policy says no"),
        (lambda _access: " no\n\x1b[2Jway \u202e ", "no\\n\\x1b[2Jway \\u202e"),
        (lambda _access: "wir schließen", "wir schließen"),
        (lambda _access: "x" * 10_000, "x" * MAX_REASON + "…"),
    ],
)
async def test_whatever_a_policy_does_but_say_true_it_denies(
    autojump_clock: trio.abc.Clock, memory: Place, rule: Callable[[Access], Any], reason: str
) -> None:
    """What it says is told in one line; what it raises is chained."""
    jobs = Jobs("j", policy=rule)

    @jobs.task("ok")
    async def ok(payload: object, ctx: Context) -> None: ...

    async with open_house(memory, jobs):
        with pytest.raises(PolicyDenied) as denied:
            await jobs.enqueue("ok")

    error = denied.value
    assert f"the program may not enqueue task 'ok': {reason}" == str(error)
    assert (None, Action.ENQUEUE, "task 'ok'", reason) == (error.subject, error.action, error.what, error.reason)
    assert (reason == "the policy failed") == (error.__cause__ is not None)


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        BaseExceptionGroup("both", [Odd(), BaseExceptionGroup("deep", [KeyboardInterrupt()])]),
    ],
)
async def test_what_is_meant_for_others_goes_past_a_policy(memory: Place, error: BaseException) -> None:
    """A Ctrl-C, and a cancellation, that happen to arrive in it: it is not done either."""
    jobs = guarded(Doorkeeper(raising(error)))
    async with open_house(memory, jobs):
        with pytest.raises(type(error)) as raised:
            await jobs.enqueue("ok")

        assert error is raised.value
        jobs.policy = None
        assert () == (await jobs.runs.list()).runs


async def test_a_cancellation_goes_past_a_policy(memory: Place) -> None:
    """Trio's too."""
    cancelled: list[trio.Cancelled] = []

    def rule(access: Access) -> bool:
        raise cancelled[0]

    jobs = guarded(Doorkeeper(rule))
    async with open_house(memory, jobs):
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                cancelled.append(error)
            await jobs.enqueue("ok")

        assert scope.cancelled_caught


async def test_a_policy_that_fails_is_reported_once_a_kind(
    autojump_clock: trio.abc.Clock, memory: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """With what it raised, at ERROR; an ordinary no is nobody's failure."""
    answers = [False, "no", None, None, OSError("one"), OSError("two"), KeyError("three"), 5]

    def rule(access: Access) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    jobs = guarded(Doorkeeper(rule))
    async with open_house(memory, jobs):
        for _ in range(len(answers)):
            with pytest.raises(PolicyDenied):
                await jobs.enqueue("ok")

    reports = [record for record in caplog.records if record.name == "callsheet.guard"]
    assert ["NoneType", "OSError", "KeyError", "int"] == [
        record.getMessage().partition("builtins.")[2].partition(" ")[0] for record in reports
    ]
    assert {logging.ERROR} == {record.levelno for record in reports}
    assert [None, "one", "'three'", None] == [record.exc_info and str(record.exc_info[1]) for record in reports]
    assert "the policy of default/j raised builtins.OSError when it was asked about enqueue" in reports[1].getMessage()


class ByMethod:
    def allows(self, access: Access) -> bool:
        return True

    def __call__(self, access: Access) -> bool:
        return True


class Waits:
    async def __call__(self, access: Access) -> bool:
        return True


async def coroutine_function(access: Access) -> bool:
    return True


@functools.wraps(coroutine_function)
def around(access: Access) -> Any:
    return coroutine_function(access)


def two(access: Access, more: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (coroutine_function, "must be a plain function: nothing waits"),
        (functools.partial(coroutine_function), "must be a plain function: nothing waits"),
        (Waits(), "must be a plain function: nothing waits"),
        (around, "must be a plain function: nothing waits"),
        (lambda _access: (yield), "must be a plain function: nothing waits"),
        (True, r"must be a function of \(access\), not bool"),
        ("allow", r"must be a function of \(access\), not str"),
        (ByMethod, r"must be a function of \(access\), not the class ByMethod"),
        (two, r"must take \(access\), not \(access: .*, more: .*\)"),
        (lambda: True, r"must take \(access\), not \(\)"),
    ],
)
def test_what_can_be_no_policy_is_refused_when_it_is_declared(policy: Any, says: str) -> None:
    """Not when somebody is at the door."""
    with pytest.raises(TypeError, match=says):
        Jobs("j", policy=policy)


@pytest.mark.parametrize(
    "policy",
    [lambda access: True, ByMethod(), ByMethod().allows, functools.partial(two, more=1), lambda *given: True, None],
)
def test_whatever_can_be_called_with_an_access_is_a_policy(policy: Any) -> None:
    """Functions, methods, objects, partials."""
    assert (policy is not None) == Jobs("j", policy=policy).config.guarded


# ---------------------------------------------------------------- on whose behalf


async def test_the_subject_is_of_the_block_and_of_the_tasks_that_it_starts(memory: Place) -> None:
    """Nobody else's, and gone when the block is left."""
    jobs = guarded(keeper := Doorkeeper())
    async with open_house(memory, jobs), trio.open_nursery() as nursery:
        with acting_as("outer"):
            nursery.start_soon(jobs.stats)
            with acting_as("inner"), pytest.raises(ZeroDivisionError):
                await jobs.stats()
                raise ZeroDivisionError
            await jobs.stats()
        await jobs.stats()
        await trio.to_thread.run_sync(lambda: trio.from_thread.run(jobs.stats))
        await settle()

    assert {"outer": 2, "inner": 1, None: 2} == Counter(access.subject for access in keeper.asked)


async def test_a_handler_acts_in_its_own_name(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Async or in a thread, also in a thread that it started; not as whoever enqueued, or opened."""
    keeper = Doorkeeper()
    jobs = guarded(keeper)

    @jobs.task("async")
    async def enqueues(payload: object, ctx: Context) -> None:
        await ctx.enqueue("ok")
        await jobs.stats()
        with acting_as("somebody"):
            await ctx.enqueue("ok")

    @jobs.task("sync")
    def blocks(payload: object, ctx: SyncContext) -> None:
        ctx.enqueue("ok")
        thread = threading.Thread(target=ctx.enqueue, args=["ok"])
        thread.start()
        thread.join()
        with acting_as("somebody"):
            ctx.enqueue("ok")

    with acting_as("host"):
        async with open_house(memory, jobs) as runtime:
            for task in ("async", "sync"):
                await jobs.enqueue(task)
                await runtime.until_idle()
                mine = f"task:default/j/{task}"
                assert ["host", mine, mine, "somebody"] == [access.subject for access in keeper.asked]
                assert "host" == subject_of()
                keeper.asked.clear()
    assert subject_of() is None


async def test_a_handler_of_unguarded_jobs_has_a_name_for_guarded_ones(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """It is not taken for the program."""
    theirs = guarded(keeper := Doorkeeper(lambda access: access.subject == "task:default/open/asks"), "theirs")
    ours = Jobs("open")

    @ours.task("asks")
    async def asks(payload: object, ctx: Context) -> None:
        await theirs.enqueue("ok")

    async with open_runtime(memory(), ours, theirs) as runtime:
        run = await ours.enqueue("asks")
        await runtime.until_idle()

        assert "succeeded" == (await ours.runs.wait(run.run_id)).status
        assert ["task:default/open/asks"] == [access.subject for access in keeper.asked]


async def test_a_denied_handler_fails_as_with_any_error(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """It may catch it; the text is kept with the attempt."""
    jobs = guarded(Doorkeeper(lambda access: access.task != "secret"))

    @jobs.task("secret")
    async def secret(payload: object, ctx: Context) -> None: ...

    @jobs.task("asks")
    async def asks(payload: object, ctx: Context) -> None:
        await ctx.enqueue("secret")

    async with open_house(memory, jobs):
        run = await jobs.enqueue("asks", max_attempts=1)
        await jobs.runs.wait(run.run_id)
        (attempt,) = (await jobs.runs.get(run.run_id)).attempts

    assert attempt.error is not None
    assert "'task:default/j/asks' may not enqueue task 'secret': the policy says no" == attempt.error.message


async def test_a_performed_handler_has_its_name_too(autojump_clock: trio.abc.Clock) -> None:
    """In a simulation, without a run."""
    jobs = guarded(keeper := Doorkeeper())

    @jobs.task("asks")
    async def asks(payload: object, ctx: Context) -> None:
        await ctx.enqueue("ok")

    async with simulate(jobs, seed=1) as world:
        await world.perform("asks", None)

    assert "task:default/j/asks" in [access.subject for access in keeper.asked]


# ---------------------------------------------------------------- clients


async def test_a_client_without_the_code_is_refused(autojump_clock: trio.abc.Clock, tmp_path: Path) -> None:
    """The policy is in the code: whoever has none can neither see nor do anything, whatever the policy would say."""
    async with open_stage(tmp_path / "jobs.db") as stage:
        waits, _ = await a_run_of_each(stage)
        before = stage.contents()
        client = Client(tmp_path / "jobs.db", subject="somebody")

        with client, pytest.raises(PolicyDenied) as read:
            client.runs.get(waits)
        with pytest.raises(PolicyDenied, match=r"use jobs\.client\(url\)"), Client(tmp_path / "jobs.db") as another:
            another.enqueue("ok", None)

        assert before == stage.contents()
        assert [] == stage.keeper.asked
        assert "'somebody' may not read default/j: " in str(read.value)


async def test_a_client_without_a_subject_acts_for_whoever_calls(
    autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    """One client serves all requests of a web application, each on behalf of its own user; its own subject goes before."""
    async with open_stage(tmp_path / "jobs.db") as stage:
        with stage.jobs.client(stage.path) as client, stage.jobs.client(stage.path, subject="batch") as own:
            with acting_as("anna"):
                client.stats()
                own.stats()
            client.stats()

    assert ["anna", "batch", None] == [access.subject for access in stage.keeper.asked]
