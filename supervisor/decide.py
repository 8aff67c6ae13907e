"""
What a supervisor does when a child ends: pure, data in and data out.

Rule: no task and no clock here; `now_s` is an argument, so a test can try every boundary.
Source: OTP's supervisor.erl (restart table, sliding window), except that giving up is an abnormal exit.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from ..actors.exits import Exit, is_abnormal
from .spec import ChildSpec, Intensity, Restart, Strategy


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


Decision: TypeAlias = Leave | RestartThese | Park | GiveUp


def wants_restart(restart: Restart, exit_: Exit) -> bool:
    """The table: permanent, transient, temporary by normal, shutdown, abnormal."""
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


def decide(
    child: ChildSpec, exit_: Exit, *, strategy: Strategy, order: tuple[str, ...], admitted: bool, parks: bool
) -> Decision:
    """What follows from `child`'s end; `order`: the names of all children that are not gone, in start order."""
    if not wants_restart(child.restart, exit_):
        return Leave()
    if not admitted:
        return Park() if parks else GiveUp()
    return RestartThese(affected(strategy, order, child.name))
