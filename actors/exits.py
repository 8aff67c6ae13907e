"""
How an incarnation of an actor ended: data that a supervisor judges.

Rule: `Normal` and `Shutdown` are normal ends; everything else is abnormal, giving up included (OTP's supervisors exit
with `shutdown` there, and a transient parent then loses the subtree in silence).
"""

from __future__ import annotations

from typing import Final, TypeAlias

from attrs import frozen


@frozen
class Normal:
    """It returned by itself."""

    def __str__(self) -> str:
        return "normal"


@frozen
class Shutdown:
    """It was told to stop, and did; or the scope around it was cancelled."""

    reason: str = "shutdown"

    def __str__(self) -> str:
        return f"shutdown ({self.reason})"


@frozen(eq=False)
class Crashed:
    """It raised."""

    error: BaseException

    def __str__(self) -> str:
        return f"crashed: {_told(self.error)}"


@frozen(eq=False)
class StartFailed:
    """Its `on_start` raised: it never ran."""

    error: BaseException

    def __str__(self) -> str:
        return f"could not start: {_told(self.error)}"


@frozen(eq=False)
class Killed:
    """It did not stop within its budget and was cancelled."""

    reason: str = "stop budget spent"

    def __str__(self) -> str:
        return f"killed ({self.reason})"


NORMAL: Final = Normal()
SHUTDOWN: Final = Shutdown()
"""Made once: every end of every actor is one of the two, as a rule."""

MAX_WITHIN: Final = 4
"""Exits within exits that are told of: each supervisor that gives up names the one below it, and a tree may be deep."""

Exit: TypeAlias = Normal | Shutdown | Crashed | StartFailed | Killed


def is_abnormal(exit_: Exit) -> bool:
    """Whether a transient child is restarted after it."""
    return not isinstance(exit_, Normal | Shutdown)


def error_of(exit_: Exit) -> BaseException | None:
    """The exception behind an exit, where there is one."""
    return exit_.error if isinstance(exit_, Crashed | StartFailed) else None


def ends_program(error: BaseException | None) -> bool:
    """Whether somebody wants the program to end: a SystemExit or KeyboardInterrupt, perhaps in the group of a nursery."""
    waiting = [error]
    while waiting:  # not `split`, which recurses: a group may be very deep
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        elif isinstance(each, SystemExit | KeyboardInterrupt):
            return True
    return False


def _told(error: BaseException) -> str:
    """An error in words: with all that it says of the exits within it, or else with the last of them alone."""
    innermost, within = error, 0
    while (inner := _inner(innermost)) is not None:
        innermost, within = inner, within + 1
    name = type(error).__name__
    if within <= MAX_WITHIN:
        return f"{name}: {error}"
    return f"{name}, {within - 1} more within it, and {type(innermost).__name__}: {innermost}"


def _inner(error: BaseException) -> BaseException | None:
    """The error behind the exit that `error` is about."""
    exit_ = getattr(error, "exit", None)
    return exit_.error if isinstance(exit_, Crashed | StartFailed) else None
