"""
Worlds in which commits fail, stall, lose their answers, and processes are killed at any of them: what was acknowledged is kept.

A failure names its seed; `run(partial(story, seed, store))` tells that story again.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any, Final

import pytest
import trio

from callsheet import CallsheetError, Context, Jobs, Queue, Retry, Status
from callsheet.testing import World, run, simulate

FATES: Final = ("ok", "fails once", "fails always", "slow")


def make_jobs() -> Jobs:
    jobs = Jobs(
        "j", queue=Queue(concurrency=3, batch_size=2), retry=Retry(attempts=3, backoff="fixed", initial_delay=5)
    )

    @jobs.task("work", timeout=20)
    async def work(fate: str, ctx: Context) -> str:
        await trio.sleep(7 if fate == "slow" else 0.5)
        if fate == "fails always" or (fate == "fails once" and ctx.spent == 0):
            raise ValueError(fate)
        return fate

    return jobs


async def user(jobs: Jobs, world: World, chance: random.Random, acked: dict[str, str], canceled: set[str]) -> None:
    """Enqueues, repeats what may not have been done, and cancels now and then."""
    for n in range(8):
        fate, key = chance.choice(FATES), f"{chance.random()}"
        while True:
            try:
                result = await jobs.enqueue("work", fate, idempotency_key=key, delay=chance.choice([0, 0, 3]))
                break
            except CallsheetError:  # refused, unknown, or not there just now: the key makes a repeat safe
                await trio.sleep(chance.uniform(0, 2))
        acked[result.run_id] = fate
        if n % 3 == 2:
            run_id = chance.choice(list(acked))
            try:
                if (await jobs.runs.cancel(run_id)).canceled:
                    canceled.add(run_id)
            except CallsheetError:
                acked.pop(run_id, None)  # it may have been canceled
        await trio.sleep(chance.uniform(0, 3))


async def settles(jobs: Jobs, world: World, acked: dict[str, str], canceled: set[str], *, users: int) -> None:
    """With nothing going wrong any more, everything ends as it must."""
    await world.until_idle()
    await world.advance(seconds=10)
    await world.until_idle()
    runs = {each.id: each for each in world.runs()}
    for run_id, fate in acked.items():
        expected = Status.DEAD_LETTERED if fate == "fails always" else Status.SUCCEEDED
        if runs[run_id].cause is not None and "poisoned" in str(runs[run_id].cause):
            expected = Status.DEAD_LETTERED
        assert (Status.CANCELED if run_id in canceled else expected) is runs[run_id].status
    assert len(runs) == 8 * users  # each key made one run, however often it was repeated
    assert {True} == {each.status.is_final for each in runs.values()}


async def story(seed: int, store: Any) -> int:
    chance, jobs = random.Random(seed), make_jobs()
    acked: dict[str, str] = {}
    canceled: set[str] = set()
    async with simulate(jobs, seed=seed, store=store) as world:
        world.faults.random(chance.choice([0.05, 0.2, 0.4]))
        with world.flowing():
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(user, jobs, world, chance, acked, canceled)
        world.faults.heal()
        await settles(jobs, world, acked, canceled, users=3)
        return len(world.faults.happened)


async def crashes_at(commit: int, when: Any, store: Any) -> int:
    """One user's story in which the process is killed at one commit; returns how many there were from its beginning on."""
    chance, jobs = random.Random(3), make_jobs()
    acked: dict[str, str] = {}
    canceled: set[str] = set()
    async with simulate(jobs, seed=3, store=store) as world:
        began = world.faults.commits
        if commit:
            world.faults.crash(commit, when=when)
        with world.flowing():
            await user(jobs, world, chance, acked, canceled)
        await settles(jobs, world, acked, canceled, users=1)
        assert (1 if commit else 0) == len(world.faults.happened)
        return world.faults.commits - began


def told(what: Any, note: str) -> int:
    try:
        n: int = run(what)
    except BaseException as error:
        error.add_note(note)
        raise
    return n


@pytest.mark.parametrize(("store", "seeds"), [("memory", range(30)), ("sqlite", range(100, 104))])
def test_what_is_acknowledged_survives_a_failing_store(store: str, seeds: range) -> None:
    """P1, P3, P5, I1, I2, I6, I17: refused, lost, stalled and killed by chance, in one world after another."""
    faults = sum(told(partial(story, seed, store), f"this was seed {seed}") for seed in seeds)

    assert faults > 10 * len(seeds)


@pytest.mark.parametrize("store", ["memory", pytest.param("sqlite", marks=pytest.mark.slow)])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_commit_loses_nothing(when: str, store: str) -> None:
    """F1: one story for each of its commits, each with a kill at another one."""
    commits = told(partial(crashes_at, 0, when, store), "without a kill")

    for commit in range(1, commits + 1):
        told(partial(crashes_at, commit, when, store), f"killed {when} commit {commit}")

    assert commits > 30


@pytest.mark.slow
def test_what_is_acknowledged_survives_a_store_that_fails_in_a_thousand_worlds() -> None:
    """The same for a thousand seeds, some over SQLite."""
    for seed in range(10_000, 11_000):
        told(partial(story, seed, "sqlite" if seed % 20 == 0 else "memory"), f"this was seed {seed}")
