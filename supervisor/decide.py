"""
What a supervisor does when a child ends: pure, data in and data out.

Rule: no task and no clock here; `now_s` is an argument, so a test can try every boundary.
Source: OTP's supervisor.erl (restart table, sliding window), except that giving up is an abnormal exit.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from attrs import frozen

from ..actors.exits import Exit, ends_program, error_of, is_abnormal
from .spec import AutoShutdown, Backoff, ChildSpec, Intensity, Restart, Strategy


@frozen
class Leave:
    """Nothing is restarted; the child is down for good."""


@frozen
class RestartThese:
    """Stop those of `names` that live, in reverse; then start them all in this order."""

    names: tuple[str, ...]


@frozen
class Park:
    """The child spent its own intensity: leave it down and show it."""


@frozen
class GiveUp:
    """The intensity is spent: stop every child and exit abnormally."""


@frozen
class ShutDown:
    """A significant child has ended: stop every other child and end, normally."""


Decision: TypeAlias = Leave | RestartThese | Park | GiveUp | ShutDown


def wants_restart(restart: Restart, exit_: Exit) -> bool:
    """The table: permanent, transient, temporary by normal, shutdown, abnormal; nothing mends what shall end the program."""
    if ends_program(error_of(exit_)):
        return False
    match restart:
        case Restart.PERMANENT:
            return True
        case Restart.TRANSIENT:
            return is_abnormal(exit_)
        case Restart.TEMPORARY:
            return False


def affected(strategy: Strategy, order: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Which children are restarted when `name` is, in start order."""
    match strategy:
        case Strategy.ONE_FOR_ONE:
            return (name,)
        case Strategy.ONE_FOR_ALL:
            return order
        case Strategy.REST_FOR_ONE:
            return order[order.index(name) :]


def admit(times_s: tuple[float, ...], now_s: float, intensity: Intensity) -> tuple[tuple[float, ...], bool]:
    """The restarts within the window that ends now, this one included, and whether they are still within the limit."""
    recent = (*(each for each in times_s if each >= now_s - intensity.period_s), now_s)
    return recent[-(intensity.restarts + 1) :], len(recent) <= intensity.restarts


def wait_s(backoff: Backoff | None, step: int, draw: float) -> float:
    """
    How long the restart number `step` (from 0) in a row waits; `draw`: 0 <= x < 1.

    Jitter is taken off, never added: no delay is longer than `max_s` (Pekko's may be: it adds after bounding).
    """
    if backoff is None:
        return 0.0
    grown = math.exp(min(700.0, step * math.log(backoff.factor)))  # beyond that, a float cannot hold it
    return min(backoff.max_s, backoff.first_s * grown) * (1 - backoff.jitter * draw)


def is_calm(backoff: Backoff, lived_s: float, *, healthy: bool) -> bool:
    """Whether an incarnation was well enough for the delays to begin anew."""
    return healthy or lived_s >= (backoff.max_s if backoff.reset_after_s is None else backoff.reset_after_s)


def decide(
    child: ChildSpec,
    exit_: Exit,
    *,
    strategy: Strategy,
    order: tuple[str, ...],
    admitted: bool,
    parks: bool,
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    significant_left: int = 0,
) -> Decision:
    """
    What follows from `child`'s end.

    order: the names of all children that a restart may take down, in start order. admitted: whether its restart is within
    the intensity. significant_left: how many other significant children there still are.
    """
    if not wants_restart(child.restart, exit_):
        ends_all = auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not significant_left
        return ShutDown() if child.significant and ends_all else Leave()
    if not admitted:
        return Park() if parks else GiveUp()
    return RestartThese((child.name,) if child.apart else affected(strategy, order, child.name))
