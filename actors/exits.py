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
        return f"crashed: {type(self.error).__name__}: {self.error}"


@frozen(eq=False)
class StartFailed:
    """Its `on_start` raised: it never ran."""

    error: BaseException

    def __str__(self) -> str:
        return f"could not start: {type(self.error).__name__}: {self.error}"


@frozen(eq=False)
class Killed:
    """It did not stop within its budget and was cancelled."""

    reason: str = "stop budget spent"

    def __str__(self) -> str:
        return f"killed ({self.reason})"


NORMAL: Final = Normal()
SHUTDOWN: Final = Shutdown()
"""Made once: every end of every actor is one of the two, as a rule."""

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
