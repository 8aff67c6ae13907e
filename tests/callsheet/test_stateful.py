"""
Random stories told to the public API and to the reference: every status, move, time and outcome is that of the reference.

A story is a list of commands, told inside one trio run in virtual time. At its end stand the books: legal moves (I10), one
ending (I11), attempts without gaps (I12) that were durable before they began (I13), bounded tries (I14), final cancels (I15),
replays that leave the old run as it was (I16), one run a key (I17), all or nothing (I18), and no overlap (I20).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, Literal

import pytest
import trio
from attrs import define, field, frozen
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import callsheet.testing
from callsheet import (
    Context,
    Discard,
    Jobs,
    OutcomeUnknown,
    PayloadInvalid,
    Queue,
    Retry,
    RunNotFinished,
    Snooze,
)
from callsheet.testing import World, simulate

from .reference import LAST, POISON, SLOTS, SNOOZE_S, TIMEOUT_S, TRIES, WAIT_S, Model, Modelled, Part

BEFORE_S: Final = 0.2137
"""Time before each command: odd, so that few of them fall on the edge of a moment."""
NEAR_S: Final = 0.05
DRAIN_S: Final = 3_000.0
Store = Literal["memory", "sqlite"]


@frozen
class Enqueue:
    parts: tuple[Part, ...]
    delay_s: float = 0
    priority: int = 5
    key: str | None = None


@frozen
class EnqueueMany:
    """Two runs with one commit; `spoiled`: and a third whose payload cannot be stored."""

    parts: tuple[Part, ...]
    spoiled: bool = False


@frozen
class Cancel:
    n: int


@frozen
class Replay:
    n: int
    delay_s: float = 0


@frozen
class Advance:
    seconds: float


@frozen
class Restart:
    pass


@frozen
class Crash:
    down_s: float = 0


@frozen
class CrashAt:
    """The process dies over an enqueue, before or after it is durable, and starts again at once."""

    when: Literal["before", "after"]


Command = Enqueue | EnqueueMany | Cancel | Replay | Advance | Restart | Crash | CrashAt

parts = st.lists(
    st.builds(
        Part, st.sampled_from([1.1, 2.3, 3.7, 9.0]), st.sampled_from(["ok", "fail", "fail", "discard", "snooze"])
    ),
    max_size=4,
).map(tuple)
delays = st.sampled_from([0, 0, 0, 2.9, 17.3])
which = st.integers(0, 11)
enqueues = st.builds(
    Enqueue, parts, delays, st.sampled_from([5, 5, 1, 9]), st.sampled_from([None, None, None, "a", "b"])
)
commands = st.one_of(
    enqueues,
    enqueues,
    enqueues,
    st.builds(EnqueueMany, parts, st.booleans()),
    st.builds(Cancel, which),
    st.builds(Replay, which, delays),
    st.builds(Advance, st.sampled_from([0.31, 1.7, 5.9, 23.3])),
    st.builds(Restart),
    st.builds(Crash, st.sampled_from([0, 0, 3.3])),
    st.builds(CrashAt, st.sampled_from(["before", "after"])),
)
stories = st.lists(commands, min_size=3, max_size=25)

LONG: Final = (Part(3.7, "ok"),) * 9
BY_PRIORITY: Final[list[Command]] = [
    Enqueue(LONG),
    Enqueue(LONG),
    *[Enqueue(LONG, priority=each) for each in (9, 5, 1)],
    Replay(0),
    Advance(1.7),
]
"""More than there are slots: the last that came is the first to start."""
SUSPECTS: Final[list[Command]] = [Enqueue(LONG), Enqueue(LONG), *[Crash()] * 3, Enqueue((LAST,)), Advance(23.3)]
"""The process dies three times under two runs: then they are on stage one at a time, beside others."""


# ---------------------------------------------------------------- the story, in theory


def tell(model: Model, command: Command) -> object:
    """What the command must answer."""
    model.advance(BEFORE_S)
    match command:
        case Enqueue(wanted, delay_s, priority, key):
            return model.enqueue(wanted, delay_s=delay_s, priority=priority, key=key)
        case EnqueueMany(wanted, spoiled):
            return None if spoiled else [model.enqueue(wanted), model.enqueue(wanted)]
        case Cancel(n):
            return model.cancel(n) if n < len(model.runs) else None
        case Replay(n, delay_s):
            return model.replay(n, delay_s) if n < len(model.runs) else None
        case Advance(seconds):
            return model.advance(seconds)
        case Restart():
            return model.restart()
        case Crash(down_s):
            model.crash()
            model.advance(down_s)
            return model.starts()
        case CrashAt(when):
            model.crash()
            if when == "after":
                model.enqueue((LAST,))
            return model.starts()


def is_clear(story: list[Command]) -> bool:
    model = Model()
    for command in [*story, Advance(DRAIN_S)]:
        tell(model, command)
    return not model.is_ambiguous


# ---------------------------------------------------------------- and in the world


def make_jobs() -> Jobs:
    jobs = Jobs(
        "j",
        queue=Queue(concurrency=SLOTS, batch_size=SLOTS),
        retry=Retry(attempts=TRIES, backoff="fixed", initial_delay=WAIT_S),
    )

    @jobs.task("work", timeout=TIMEOUT_S)
    async def work(payload: list[Any], ctx: Context) -> None:
        work_s, then = payload[ctx.attempt - 1] if ctx.attempt <= len(payload) else (LAST.work_s, LAST.then)
        await trio.sleep(work_s)
        match then:
            case "fail":
                raise ValueError("as it was told")
            case "discard":
                raise Discard
            case "snooze":
                raise Snooze(SNOOZE_S)

    return jobs


@define(eq=False)
class Play:
    """One story in a world, beside the reference."""

    world: World
    jobs: Jobs
    model: Model = field(factory=Model)
    ids: list[str] = field(factory=list)
    """Of the runs of the model, in its order."""

    async def does(self, command: Command) -> None:
        await self.world.advance(seconds=BEFORE_S)
        answer = tell(self.model, command)
        match command:
            case Enqueue(parts, delay_s, priority, key):
                keyed: dict[str, Any] = {} if key is None else {"idempotency_key": key}
                result = await self.jobs.enqueue(
                    "work",
                    payload(parts),
                    delay=delay_s,
                    priority=priority,
                    **keyed,
                )
                self._knows(answer, result.run_id, deduped=result.deduped)
            case EnqueueMany(parts, spoiled):
                await self._enqueues_many(parts, answer, spoiled=spoiled)
            case Cancel() | Replay() if command.n >= len(self.ids):
                pass
            case Cancel(n):
                result = await self.jobs.runs.cancel(self.ids[n])
                assert answer == (result.canceled, str(result.status))
            case Replay(n, delay_s):
                await self._replays(self.ids[n], delay_s, answer)
            case Advance(seconds):
                await self.world.advance(seconds=seconds)
            case Restart():
                await self.world.restart()
            case Crash(down_s):
                await self.world.crash()
                await self.world.advance(seconds=down_s)
                await self.world.restart()
            case CrashAt(when):
                await self._dies(when)
        await self.world.settle()
        seen = [str(self.world.history(run_id).run.status) for run_id in self.ids]
        assert [each.status for each in self.model.runs] == seen

    async def _enqueues_many(self, parts: tuple[Part, ...], answer: Any, *, spoiled: bool) -> None:
        task = self.jobs.tasks["work"]
        entries = [task.entry(payload(parts)), task.entry(payload(parts))]
        if not spoiled:
            for run, result in zip(answer, await self.jobs.enqueue_many(entries), strict=True):
                self._knows(run, result.run_id)
            return
        with pytest.raises(PayloadInvalid):
            await self.jobs.enqueue_many([*entries, task.entry([float("nan")])])

    async def _replays(self, run_id: str, delay_s: float, answer: object) -> None:
        before = self.world.history(run_id)
        if answer is None:
            with pytest.raises(RunNotFinished):
                await self.jobs.runs.replay(run_id, delay=delay_s)
            return
        result = await self.jobs.runs.replay(run_id, delay=delay_s)
        self._knows(answer, result.run_id)
        after = self.world.history(run_id)
        assert (before.run, before.attempts, before.transitions) == (after.run, after.attempts, after.transitions)

    async def _dies(self, when: Literal["before", "after"]) -> None:
        self.world.faults.crash(on="enqueue", when=when)
        with pytest.raises(OutcomeUnknown):
            await self.jobs.enqueue("work", payload((LAST,)), run_id=f"over-{len(self.ids)}")
        if when == "after":
            self.ids.append(f"over-{len(self.ids)}")

    def _knows(self, run: Any, run_id: str, *, deduped: bool = False) -> None:
        assert isinstance(run, Modelled)
        assert deduped is (run.n < len(self.ids))
        if deduped:
            assert self.ids[run.n] == run_id
        else:
            self.ids.append(run_id)

    def ends(self) -> None:
        """Every move at its time, every outcome, every number."""
        assert len(self.model.runs) == len(self.world.runs())
        for run, run_id in zip(self.model.runs, self.ids, strict=True):
            details = self.world.history(run_id)
            epoch_us = self.world.history(self.ids[0]).run.created_us - self.model.runs[0].moves[0][1] * 1e6
            times_s = [(each.at_us - epoch_us) / 1e6 for each in details.transitions]
            assert [status for status, _ in run.moves] == [str(each.now) for each in details.transitions]
            assert [at_s for _, at_s in run.moves] == pytest.approx(times_s, abs=NEAR_S)
            assert run.outcomes == [str(each.outcome) for each in details.attempts]
            assert (run.spent, run.deaths) == (details.run.spent, details.run.deaths)
            assert (None if run.replay_of is None else self.ids[run.replay_of]) == details.run.replay_of
            unspent = sum(each in ("crashed", "interrupted", "snoozed", "canceled") for each in run.outcomes)
            assert len(details.attempts) <= TRIES + unspent
            assert details.run.deaths <= POISON


def payload(parts: tuple[Part, ...]) -> list[Any]:
    return [[each.work_s, each.then] for each in parts]


async def play(story: list[Command], store: Store) -> None:
    jobs = make_jobs()
    async with simulate(jobs, store=store, grace=0) as world:
        told = Play(world, jobs)
        for command in [*story, Advance(DRAIN_S)]:
            await told.does(command)
        assert {each.is_final for each in told.model.runs} <= {True}
        told.ends()


def run(story: list[Command], store: Store) -> None:
    assume(is_clear(story))
    callsheet.testing.run(partial(play, story, store))


def test_the_stories_that_are_always_told_are_clear() -> None:
    """Else they would be left out without a word."""
    assert is_clear(BY_PRIORITY)
    assert is_clear(SUSPECTS)


@settings(max_examples=70)
@given(stories)
@example(BY_PRIORITY)
@example(SUSPECTS)
def test_a_story_ends_as_the_reference_says(story: list[Command]) -> None:
    """I10 - I18, I20: enqueue, key, priority, delay, fail, snooze, time out, cancel, replay, time, restart and kill."""
    run(story, "memory")


@settings(max_examples=12)
@given(stories)
@example(BY_PRIORITY)
@example(SUSPECTS)
def test_a_story_ends_as_the_reference_says_on_disk(story: list[Command]) -> None:
    """The same over SQLite."""
    run(story, "sqlite")


@pytest.mark.slow
@settings(max_examples=1_500)
@given(st.lists(commands, min_size=3, max_size=60))
def test_many_long_stories_end_as_the_reference_says(story: list[Command]) -> None:
    """The same for thousands of longer stories."""
    run(story, "memory")


@pytest.mark.slow
@settings(max_examples=150)
@given(st.lists(commands, min_size=3, max_size=60))
def test_many_long_stories_end_as_the_reference_says_on_disk(story: list[Command]) -> None:
    """The same over SQLite."""
    run(story, "sqlite")
