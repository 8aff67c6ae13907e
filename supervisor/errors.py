"""What a supervisor raises when it cannot go on."""

from __future__ import annotations

from attrs import define

from ..actors.errors import ActorError
from ..actors.exits import Exit


class SupervisionError(ActorError):
    """Base of what the supervisor layer raises."""


@define(slots=False)
class IntensityExceeded(SupervisionError):
    """A supervisor gave up: its children ended more often than its intensity allows. The cause is the last of them."""

    path: str
    child: str
    exit: Exit
    restarts: int
    period_s: float

    def __str__(self) -> str:
        return (
            f"supervisor {self.path or '/'} gave up: {self.child} ended more than {self.restarts} times "
            f"in {self.period_s:g} s; last: {self.exit}"
        )


@define(slots=False)
class ChildStartFailed(SupervisionError):
    """A child could not start; the siblings started before it were stopped in reverse. The cause is what it raised."""

    path: str
    exit: Exit

    def __str__(self) -> str:
        return f"{self.path} {self.exit}"
