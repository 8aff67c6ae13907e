"""
What attempts do instead of calling their handler.

Rule: a step is a frozen value; one attempt takes one step, in the order in which attempts start.
Not here: when it is asked (`cast.plan_of` puts the world's understudy in the place of handlers).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeAlias, assert_never

import trio
from attrs import define, field, frozen

from ..actors.batch import own_copy
from ..store.policy import Seconds
from ..store.policy import seconds as seconds_of


@frozen
class Return:
    """The handler returns `value`."""

    value: object = None


def _exception(given: BaseException | type[BaseException]) -> BaseException:
    if isinstance(given, type) and issubclass(given, BaseException):
        given = given()
    if not isinstance(given, BaseException):
        raise TypeError(f"Raise takes an exception, not {given!r}")
    return given


@frozen
class Raise:
    """The handler raises `error` (an exception or its class): also Snooze, RetryAfter and Discard."""

    error: BaseException = field(converter=_exception)


@frozen
class Play:
    """The real handler."""


@frozen
class Hang:
    """The handler waits until it is cancelled, for ever if nobody does."""


def _seconds(given: Seconds) -> float:
    return seconds_of(given, "a step")


@frozen
class Sleep:
    """The handler works for that many seconds, and ends at once when it is cancelled; then it does as the step `then` says."""

    seconds: float = field(converter=_seconds)
    then: Step = field(factory=Return)


@frozen
class Swallow:
    """The handler works for that many seconds whether it is cancelled or not; then it does as the step `then` says."""

    seconds: float = field(converter=_seconds)
    then: Step = field(factory=Return)


@frozen
class Die:
    """The process is killed under it, as kill -9 does, and starts again at once."""


Step: TypeAlias = Return | Raise | Play | Hang | Sleep | Swallow | Die
_STEPS = (Return, Raise, Play, Hang, Sleep, Swallow, Die)


@frozen
class Call:
    """One attempt that began."""

    run_id: str
    attempt: int
    payload: object
    """As the handler is given it."""
    at: datetime
    """By the world's wall clock."""
    step: Step
    """What it did; `Play` once the script was used up."""


@define(eq=False)
class Script:
    """What the attempts of one task are to do, and what became of that. After the last step the real handler plays."""

    task: str
    left: list[Step]
    """Steps that no attempt has taken yet."""
    calls: list[Call] = field(factory=list)
    """Every attempt since the script was given, also those after its last step."""

    @property
    def payloads(self) -> list[object]:
        """Of all calls."""
        return [each.payload for each in self.calls]

    def take(self, run_id: str, attempt: int, payload: object, at: datetime) -> Step:
        """The step of an attempt that begins."""
        step: Step = self.left.pop(0) if self.left else Play()
        self.calls.append(Call(run_id, attempt, payload, at, step))
        return step


def checked(steps: Sequence[Step] | Step) -> list[Step]:
    """The steps as a list, also of a single one. Raises TypeError for what is no step."""
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        steps = [steps]
    for each in steps:
        if not isinstance(each, _STEPS):
            known = ", ".join(kind.__name__ for kind in _STEPS)
            raise TypeError(f"a script is made of {known}, not of {each!r}")
    return list(steps)


async def perform(
    step: Step, play: Callable[[], Awaitable[object]], die: Callable[[], object], dead: trio.Event
) -> object:
    """
    Do as `step` says. play: calls the real handler. die: kills the process. dead: set when that has happened, which ends
    what no cancellation would.
    """
    match step:
        case Return(value):
            return value
        case Raise(error):
            raise own_copy(error)
        case Play():
            return await play()
        case Hang():
            return await _for_ever()
        case Sleep(seconds_, then):
            await trio.sleep(seconds_)
            return await perform(then, play, die, dead)
        case Swallow(seconds_, then):
            with trio.move_on_after(seconds_, shield=True):
                await dead.wait()
                return None
            return await perform(then, play, die, dead)
        case Die():
            die()
            return await _for_ever()
        case _:
            assert_never(step)


async def _for_ever() -> object:
    await trio.sleep_forever()
