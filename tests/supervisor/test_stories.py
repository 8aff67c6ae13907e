"""
Random stories: a tree and what is done to it, drawn by hypothesis, played in virtual time and compared with a model.

Two ways. *In step*: one thing is done when everything that followed from the one before has happened; then states, generations,
messages, answers and news are those of the model. *In a crowd*: things are done at any moment, whatever else goes on. In both,
the history must be a possible one (`Witness.broken`), and nothing is left when the story is over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callsheet.supervisor.spec import AutoShutdown, Backoff, Intensity, Restart, Strategy

from .model import Role
from .story import ADVANCES_S, AT_FIRST, BACKOFFS, ENDS, LIMITS, OPS, PARTS, Op, play


@st.composite
def roles(draw: st.DrawFn, name: str, depth: int, *, may_end_it: bool = False) -> Role:
    """A child, with everybody below."""
    restart = draw(st.sampled_from([Restart.PERMANENT, Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY]))
    again = restart is not Restart.TEMPORARY
    role = Role(
        name,
        restart=restart,
        intensity=draw(st.sampled_from([None, None, *LIMITS])) if again else None,
        parks=again and draw(st.integers(0, 3)) == 3,
        backoff=draw(st.sampled_from(BACKOFFS)) if again else None,
        significant=may_end_it and restart is not Restart.PERMANENT and draw(st.booleans()),
        apart=draw(st.integers(0, 5)) == 5,
    )
    kind = draw(st.sampled_from(["actor", "actor", "supervisor", "pool"] if depth else ["actor"]))
    if kind == "actor":
        return evolve(
            role, part=PARTS[draw(st.integers(0, AT_FIRST - 1))], stop_budget_s=draw(st.sampled_from([5, 1, 0]))
        )
    if kind == "pool":
        part = PARTS[draw(st.sampled_from([0, 1, 3, 4, 6, 7]))]
        return evolve(role, kind=kind, part=part, stop_budget_s=1, limit=draw(st.sampled_from(LIMITS)))
    return draw(supervisors(role, depth))


@st.composite
def supervisors(draw: st.DrawFn, role: Role, depth: int) -> Role:
    """`role` as a supervisor."""
    auto_shutdown = draw(st.sampled_from([AutoShutdown.NEVER, *AutoShutdown]))
    may_end_it = auto_shutdown is not AutoShutdown.NEVER
    names = "abcd"[: draw(st.integers(1, 4))]
    return evolve(
        role,
        kind="supervisor",
        children=tuple(draw(roles(name, depth - 1, may_end_it=may_end_it)) for name in names),
        strategy=draw(st.sampled_from(Strategy)),
        limit=draw(st.sampled_from(LIMITS)),
        auto_shutdown=auto_shutdown,
        child_parks=draw(st.integers(0, 4)) == 4,
    )


ops = st.builds(Op, st.sampled_from(OPS), st.integers(0, 30), st.integers(0, 10))
kills = st.builds(Op, st.just("kill"), st.integers(0, 30), st.just(0))
trees = supervisors(Role("root"), 2)


@pytest.fixture(autouse=True)
def _quietly() -> Iterator[None]:
    """Crashes are on purpose: nobody reads their tracebacks, and they take longer than all the rest."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


in_step = given(trees, st.lists(ops, min_size=10, max_size=40), st.sampled_from(ENDS))
in_a_crowd = given(trees, st.lists(ops | kills, min_size=10, max_size=60), st.sampled_from(ENDS), st.integers(0, 1_000))


CRASH: Final = Op("crash", 0, 0)
AT_THE_EDGE: Final = Role("root", kind="supervisor", children=(Role("a"),), limit=Intensity(1, 2))
"""Two crashes two seconds apart are one too many."""
CALM: Final = evolve(AT_THE_EDGE, children=(Role("a", backoff=Backoff(0.5, 2)),), limit=Intensity(10, 1))
"""A child that lived for two seconds waits for half a second again."""

PARKS: Final = evolve(AT_THE_EDGE, children=(Role("a", parks=True, intensity=Intensity(1, 5)),))
"""A child that is parked has all its restarts again once somebody restarts it."""

BESIDES: Final = Role(
    "root", kind="supervisor", children=(Role("a"), Role("b"), Role("c", PARTS[3])), strategy=Strategy.ONE_FOR_ALL
)
"""The second may crash while the third is stopped for the first: it is started again with them, once."""


def after(seconds: float) -> Op:
    """Let time pass."""
    return Op("advance", 0, ADVANCES_S.index(seconds))


@settings(max_examples=150, report_multiple_bugs=False)
@example(AT_THE_EDGE, [CRASH, after(2), CRASH], "close")
@example(CALM, [CRASH, after(0.5), CRASH, after(1), after(2), CRASH, after(0.5), CRASH], "close")
@example(PARKS, [CRASH, CRASH, Op("restart", 0, 0), CRASH], "close")
@in_step
def test_one_thing_after_the_other_is_as_in_the_model(tree: Role, ops: list[Op], end: str) -> None:
    """States, generations, messages, answers and news are the model's after each operation; nothing is left at the end."""
    play(tree, ops, end, in_step=True)


@settings(max_examples=150, report_multiple_bugs=False)
@example(BESIDES, [CRASH, after(0.25), Op("crash", 1, 0), after(1)], "close", 1)
@example(AT_THE_EDGE, [Op("start", 0, 9)], "close", 0)
@in_a_crowd
def test_whatever_is_done_at_once_the_history_is_a_possible_one(tree: Role, ops: list[Op], end: str, seed: int) -> None:
    """Order, budgets, mail and waiters, whatever happens at any moment; nothing is left at the end."""
    play(tree, ops, end, in_step=False, seed=seed)


@pytest.mark.slow
@settings(max_examples=5_000)
@in_step
def test_many_stories_in_step(tree: Role, ops: list[Op], end: str) -> None:
    """As above, many more."""
    play(tree, ops, end, in_step=True)


@pytest.mark.slow
@settings(max_examples=5_000)
@in_a_crowd
def test_many_stories_in_a_crowd(tree: Role, ops: list[Op], end: str, seed: int) -> None:
    """As above, many more."""
    play(tree, ops, end, in_step=False, seed=seed)
