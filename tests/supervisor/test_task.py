"""A task supervisor and a queue that die, are parked or are stopped with runs in their hands: none is lost, none ends twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from callsheet import Context, Jobs, Queue, Retry, Runtime, Status
from callsheet.actors.journal import send, write
from callsheet.actors.reply import Reply
from callsheet.actors.run import RunActor, StopReason
from callsheet.actors.stage import Stage
from callsheet.store.contract import Cancel, Claim, ClaimedRuns
from callsheet.store.errors import OutcomeUnknown
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.policy import RetryPolicy
from callsheet.store.records import Claimed, Lane, Outcome, OutcomeKind
from callsheet.supervisor import paths
from callsheet.supervisor.limits import QueueLimits
from callsheet.supervisor.settling import RunEnded
from callsheet.supervisor.slots import Slots
from callsheet.supervisor.task import Place, StageRuns, TaskSupervisor, hand_back_undelivered

from ..callsheet.house import Place as Make
from ..callsheet.house import moves_of, open_house, outcomes_of, settle, statuses

PATH = "/tasks/default/j/work"
QUEUE = "default/j-jobs"
LANE = Lane("default/j", QUEUE, "work", "1")


def working(handler: Callable[[Any, Context], Awaitable[object]], **options: Any) -> Jobs:
    """Jobs with one task."""
    jobs = Jobs("j", **options)
    jobs.task("work")(handler)  # type: ignore[arg-type]
    return jobs


async def idle(payload: Any, ctx: Context) -> None:
    """A handler that returns at once."""


@pytest.fixture
def memory() -> Make:
    """Makes a store over the same data each time."""
    tables = Tables()
    return lambda: MemoryStore(tables)


async def claim(runtime: Runtime, limit: int) -> tuple[Slots, tuple[Claimed, ...]]:
    """As the queue does it, for slots of which it knows nothing."""
    journal = runtime.system.stage.registry[paths.JOURNAL].ref
    answer = await write(journal, Claim(runtime.boot_id, b"by hand", (LANE,), limit, 1_000_000))
    assert isinstance(answer, ClaimedRuns)
    slots = Slots(QUEUE, QueueLimits(100))
    slots.on_stage |= dict.fromkeys([run.run_id for run in answer.runs])
    return slots, answer.runs


async def finish(runtime: Runtime) -> None:
    """Wait until all has ended, or fail when something never will."""
    with trio.fail_after(600):
        await runtime.until_idle()


def closed() -> Jobs:
    """Jobs whose queue has no slot to give: what is claimed by hand stays in our hands."""
    return working(idle, queue=Queue(concurrency=1))


# ---------------------------------------------------------------- messages that nobody will handle


async def test_runs_that_nobody_will_start_wait_again_at_once(autojump_clock: trio.abc.Clock, memory: Make) -> None:
    """P2: those without an actor are handed back, unspent, and their slots are free; one on stage is left alone."""
    jobs = closed()
    async with open_house(memory, jobs, zombies=1) as runtime:
        runtime.slots[QUEUE].limits = QueueLimits(0)
        runs = [(await jobs.enqueue("work", n)).run_id for n in range(3)]
        slots, claimed = await claim(runtime, 3)
        actor = object()
        slots.on_stage[runs[1]] = actor  # type: ignore[assignment]
        message = StageRuns(claimed, slots)

        hand_back_undelivered(runtime.system.stage, message, "parked")
        hand_back_undelivered(runtime.system.stage, message, "ended")  # to be told twice changes nothing
        await settle()

        assert [Status.QUEUED, Status.RUNNING, Status.QUEUED] == await statuses(jobs, runs)
        assert ["interrupted"] == await outcomes_of(jobs, runs[0])
        assert {runs[1]: actor} == slots.on_stage


async def test_an_end_that_nobody_heard_of_is_settled(autojump_clock: trio.abc.Clock, memory: Make) -> None:
    """P3: the end of a handler that waits in a mailbox nobody reads any more is written."""
    jobs = closed()
    async with open_house(memory, jobs) as runtime:
        runtime.slots[QUEUE].limits = QueueLimits(0)
        run = await jobs.enqueue("work")
        slots, (claimed,) = await claim(runtime, 1)
        stage = runtime.system.stage
        place = Place(stage.registry[PATH], slots, None)  # type: ignore[arg-type]
        actor = RunActor(claimed, None, jobs.tasks["work"].policy, stage, place)  # type: ignore[arg-type]

        hand_back_undelivered(stage, RunEnded(actor, Outcome(OutcomeKind.SUCCEEDED, result=b"1")), "parked")
        await settle()

        assert 1 == (await jobs.runs.get(run.run_id)).result


async def test_a_message_of_another_kind_is_no_concern_of_ours(
    autojump_clock: trio.abc.Clock, memory: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever else is left in such a mailbox is left to the count; after the journal's end nothing can be written."""
    jobs = closed()
    async with open_house(memory, jobs) as runtime:
        stage = runtime.system.stage
        hand_back_undelivered(stage, "poison", "crashed_over")

    hand_back_undelivered(stage, StageRuns((), Slots(QUEUE, QueueLimits(1))), "ended")
    assert "StageRuns came after the end of the journal: the next open takes its runs back" in caplog.text


# ---------------------------------------------------------------- deaths


async def test_a_supervisor_that_cleans_up_is_given_nothing(autojump_clock: trio.abc.Clock, memory: Make) -> None:
    """While handlers end after a crash of their supervisor, its waiting runs are not claimed and handed back over and over."""
    starts: list[int] = []

    async def stubborn(n: int, ctx: Context) -> None:
        starts.append(n)
        with trio.CancelScope(shield=n < 2):
            await trio.sleep(3)

    jobs = working(stubborn, queue=Queue(concurrency=4))
    async with open_house(memory, jobs) as runtime:
        first = [(await jobs.enqueue("work", n)).run_id for n in range(2)]
        await settle()
        runtime.journal.on_committed.append(lambda *_: runtime.journal.commits < 200 or runtime.stop(grace=0))
        runtime.system.stage.registry[PATH].ref.tell_control("poison")
        await settle()
        later = [(await jobs.enqueue("work", n)).run_id for n in range(2, 12)]
        await finish(runtime)

        assert [["succeeded"]] * 10 == [await outcomes_of(jobs, each) for each in later]
        assert [["interrupted", "succeeded"]] * 2 == [await outcomes_of(jobs, each) for each in first]
    assert [0, 0, 1, 1, *range(2, 12)] == sorted(starts)


async def test_a_handler_that_outlives_its_supervisor_is_settled_when_it_ends(
    autojump_clock: trio.abc.Clock, memory: Make
) -> None:
    """One that ignores its cancellation for longer than anybody waits runs alone until then, holds its slot, and goes on."""
    log: list[str] = []

    async def stubborn(_: object, ctx: Context) -> str:
        log.append(f"start {ctx.attempt}")
        with trio.CancelScope(shield=ctx.attempt == 1):
            await trio.sleep(30)
        log.append(f"end {ctx.attempt}")
        return "done"

    for path in ("/tasks", "/tasks/default/j", PATH):
        log.clear()
        jobs = working(stubborn)
        async with open_house(memory, jobs) as runtime:
            run = await jobs.enqueue("work")
            await trio.sleep(1)
            runtime.system.stage.registry[path].ref.tell_control("poison")
            await trio.sleep(20)
            assert ([Status.RUNNING], 1) == (await statuses(jobs, [run.run_id]), runtime.on_stage)
            await finish(runtime)

            assert ["interrupted", "succeeded"] == await outcomes_of(jobs, run.run_id)
        assert ["start 1", "end 1", "start 2", "end 2"] == log


async def test_a_supervisor_that_is_killed_while_it_stops_cancels_its_handlers(
    autojump_clock: trio.abc.Clock, memory: Make
) -> None:
    """P9: killed in the grace, it leaves no handler that nobody stops."""
    ends: list[float] = []

    async def long(_: object, ctx: Context) -> None:
        try:
            await trio.sleep(100)
        finally:
            ends.append(trio.current_time())

    jobs = working(long)
    async with open_house(memory, jobs, grace=50) as runtime:
        run = await jobs.enqueue("work")
        await settle()
        supervisor = runtime.system.stage.registry[PATH]

        async def kill() -> None:
            await trio.sleep(2)
            supervisor.kill()

        runtime.system.stage.spawn(kill, "kill")
        began_s = trio.current_time()
    async with open_house(memory, jobs) as runtime:
        outcomes = await outcomes_of(jobs, run.run_id)

    assert [2.0] == [each - began_s for each in ends[:1]]
    assert "interrupted" == outcomes[0]


async def test_a_start_that_fails_hands_back_what_was_not_started(
    autojump_clock: trio.abc.Clock, memory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch whose second run cannot be put on stage, that one and those behind it wait again."""
    started: list[int] = []
    real, calls = RunActor.start, []

    def start(actor: RunActor) -> None:
        calls.append(actor)
        if len(calls) == 2:
            raise RuntimeError("no room")
        real(actor)

    async def work(n: int, ctx: Context) -> None:
        started.append(n)
        await trio.sleep(1)

    monkeypatch.setattr(RunActor, "start", start)
    jobs = working(work, queue=Queue(batch_size=4))
    async with open_house(memory, jobs) as runtime:
        results = await jobs.enqueue_many([jobs.tasks["work"].entry(n) for n in range(4)])
        await finish(runtime)

        assert [Status.SUCCEEDED] * 4 == await statuses(jobs, [each.run_id for each in results])
        assert 2 == runtime.system.stage.registry[PATH].generation
    assert {0, 1, 2, 3} == set(started)


async def test_a_policy_that_fails_costs_its_own_say_only(
    autojump_clock: trio.abc.Clock, memory: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A retry policy that raises is replaced by the default one, and the ends that came with it are settled."""
    real = RetryPolicy.delay_s

    def delay_s(policy: RetryPolicy, *arguments: Any) -> float:
        if policy.backoff == "fixed":
            raise ZeroDivisionError("a policy of its own")
        return real(policy, *arguments)

    monkeypatch.setattr(RetryPolicy, "delay_s", delay_s)

    async def fail(n: int, ctx: Context) -> None:
        if n and ctx.attempt == 1:
            raise ValueError

    jobs = working(fail, retry=Retry(backoff="fixed"))
    async with open_house(memory, jobs) as runtime:
        results = await jobs.enqueue_many([jobs.tasks["work"].entry(n) for n in range(3)])
        await trio.sleep(10)
        await finish(runtime)

        assert [Status.SUCCEEDED] * 3 == await statuses(jobs, [each.run_id for each in results])
        assert 1 == runtime.system.stage.registry[PATH].generation
    assert "a policy of its own" in caplog.text


# ---------------------------------------------------------------- queues


async def test_runs_that_a_queue_was_given_when_it_died_wait_again(
    autojump_clock: trio.abc.Clock, memory: Make
) -> None:
    """A claim is answered, and the queue dies before it has looked: nothing stays running that nobody runs."""
    jobs = working(idle)
    async with open_house(memory, jobs) as runtime:
        queue = runtime.system.stage.registry[f"/queues/{QUEUE}"]
        for how in (queue.kill, lambda: queue.ref.tell_control("poison")):
            dead: list[object] = []

            def die(commands: Any, _answers: Any, how: Callable[[], None] = how, dead: list[object] = dead) -> None:
                if not dead and any(isinstance(each, Claim) for each in commands):
                    dead.append(how())

            runtime.journal.on_committed.append(die)
            results = await jobs.enqueue_many([jobs.tasks["work"].entry(n) for n in range(30)])
            await finish(runtime)

            assert [Status.SUCCEEDED] * 30 == await statuses(jobs, [each.run_id for each in results])
            assert (0, 0) == (runtime.on_stage, runtime.slots[QUEUE].reserved)
            await trio.sleep(10)


async def test_runs_for_a_task_that_went_down_meanwhile_wait_again(
    autojump_clock: trio.abc.Clock, memory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task's supervisor dies between the claim and its answer: its runs are handed back, and run when it is back."""
    jobs = working(idle)
    async with open_house(memory, jobs) as runtime:
        supervisor = runtime.system.stage.registry[PATH]
        results = []

        def die(commands: Any, _answers: Any) -> None:
            if any(isinstance(each, Claim) for each in commands) and isinstance(supervisor.actor, TaskSupervisor):
                supervisor.actor.is_closing = supervisor.generation == 1
                supervisor.ref.tell_control("poison")
                runtime.journal.on_committed.remove(die)

        runtime.journal.on_committed.append(die)
        results = await jobs.enqueue_many([jobs.tasks["work"].entry(n) for n in range(5)])
        await finish(runtime)

        assert [["interrupted", "succeeded"]] * 5 == [await outcomes_of(jobs, each.run_id) for each in results]


# ---------------------------------------------------------------- cancels


async def test_a_cancel_between_a_handlers_end_and_its_settle_keeps_what_it_did(
    autojump_clock: trio.abc.Clock, memory: Make
) -> None:
    """P5: the cancel was first and stays; what the handler did is noted with the attempt."""

    async def work(how: str, ctx: Context) -> str | None:
        journal = stage.registry[paths.JOURNAL].ref
        send(journal, Cancel(ctx.run_id), Reply())  # it is in the journal's mailbox before our end is
        if how == "raise":
            raise LookupError
        return "done" if how == "value" else None

    jobs = working(work)
    async with open_house(memory, jobs) as runtime:
        stage: Stage = runtime.system.stage
        runs = {how: (await jobs.enqueue("work", how)).run_id for how in ("value", "raise", "nothing")}
        await finish(runtime)
        await settle()

        ended = {how: await jobs.runs.get(run_id) for how, run_id in runs.items()}
    assert {Status.CANCELED} == {each.run.status for each in ended.values()}
    late = {how: each.attempts[0].late_outcome for how, each in ended.items()}
    assert {"value": "returned a value", "raise": "raised LookupError", "nothing": None} == late


@pytest.mark.parametrize("dies", [False, True])
async def test_a_run_that_is_canceled_before_its_start_never_starts(autojump_clock: trio.abc.Clock, dies: bool) -> None:
    """P5: a cancel that is durable while the claimed run is on its way to its supervisor, also when that one dies."""
    started: list[int] = []

    class Canceling(MemoryStore):
        """Has the first run that is claimed canceled, as it were in the same commit."""

        claimed: ClaimedRuns | None = None

        def write(self, commands: Any, now: Any) -> Any:
            answers = super().write(commands, now)
            for each in answers:
                if isinstance(each, ClaimedRuns) and each.runs and self.claimed is None:
                    self.claimed = each
                    super().write([Cancel(each.runs[0].run_id)], now)
            return answers

    async def work(n: int, ctx: Context) -> None:
        started.append(n)
        await trio.sleep(1)

    store = Canceling()
    jobs = working(work)
    async with open_house(store, jobs) as runtime:
        slots = runtime.slots[QUEUE]
        told: list[str] = []

        def tell(_commands: Any, _answers: Any) -> None:
            if store.claimed is not None and not told:
                run = store.claimed.runs[0]
                told.append(run.run_id)
                slots.cancel(run.run_id, run.claim_id)
                if dies:
                    runtime.system.stage.registry[PATH].kill()

        runtime.journal.on_committed.append(tell)
        results = await jobs.enqueue_many([jobs.tasks["work"].entry(n) for n in range(3)])
        await finish(runtime)

        assert told == [results[0].run_id]
        ended = await statuses(jobs, [each.run_id for each in results])
        assert [Status.CANCELED, Status.SUCCEEDED, Status.SUCCEEDED] == ended
        assert (set(), {}) == (slots.canceled, slots.on_stage)
    assert [1, 2] == sorted(started)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [(StopReason.CANCELED, OutcomeKind.CANCELED), (StopReason.INTERRUPTED, OutcomeKind.INTERRUPTED)],
)
async def test_a_run_that_is_stopped_before_its_first_turn_never_starts(
    autojump_clock: trio.abc.Clock, memory: Make, reason: StopReason, outcome: OutcomeKind
) -> None:
    """P5: not one line of the handler runs once the stop is known, although its task was made already."""
    called: list[str] = []
    ended: list[OutcomeKind] = []

    class Parent:
        def run_ended(self, _actor: RunActor, how: Outcome) -> None:
            ended.append(how.kind)

    async def perform(actor: RunActor) -> None:
        called.append(actor.claimed.run_id)

    jobs = closed()
    async with open_house(memory, jobs) as runtime:
        runtime.slots[QUEUE].limits = QueueLimits(0)
        run = await jobs.enqueue("work")
        _, (claimed,) = await claim(runtime, 1)
        actor = RunActor(claimed, perform, jobs.tasks["work"].policy, runtime.system.stage, Parent())

        actor.start()
        actor.stop(reason)
        await settle()

        assert ([], [outcome]) == (called, ended)
        await jobs.runs.cancel(run.run_id)


async def test_a_cancel_reaches_the_attempt_it_is_about(autojump_clock: trio.abc.Clock, memory: Make) -> None:
    """The handler of another claim is left alone; a run that is not on stage is nobody's business."""

    async def long(_: object, ctx: Context) -> None:
        await trio.sleep(1)

    jobs = working(long)
    async with open_house(memory, jobs) as runtime:
        run = await jobs.enqueue("work")
        await settle()
        slots = runtime.slots[QUEUE]

        slots.cancel(run.run_id, b"another claim")
        slots.cancel("nothing", b"another claim")
        await finish(runtime)

        assert set() == slots.canceled
        assert ["succeeded"] == await outcomes_of(jobs, run.run_id)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cancel_in_doubt_stops_the_handler(autojump_clock: trio.abc.Clock, memory: Make, when: str) -> None:
    """P5: a cancel whose commit failed with an unknown outcome stops the running handler once it is known."""
    stopped: list[str] = []

    class Moody(MemoryStore):
        trouble: str | None = None

        def write(self, commands: Any, now: Any) -> Any:
            trouble, self.trouble = self.trouble, None
            answers = super().write([] if trouble == "before" else commands, now)
            if trouble:
                raise OutcomeUnknown("x", "disk I/O error")
            return answers

    async def long(_: object, ctx: Context) -> None:
        try:
            await trio.sleep(100)
        finally:
            stopped.append(ctx.run_id)

    store = Moody()
    jobs = working(long)
    async with open_house(store, jobs) as runtime:
        run = await jobs.enqueue("work")
        await settle()
        store.trouble = when
        answer = await jobs.runs.cancel(run.run_id)
        await settle()

        assert answer.canceled
        assert [run.run_id] == stopped
        assert ["queued", "running", "canceled"] == await moves_of(jobs, run.run_id)
        assert 0 == runtime.on_stage
