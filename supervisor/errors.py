"""What a supervisor raises when it cannot go on."""

from __future__ import annotations

from attrs import define

from ..actors.errors import ActorError
from ..actors.exits import Exit, error_of


class SupervisionError(ActorError):
    """Base of what the supervisor layer raises."""


@define(slots=False)
class InvalidSpec(SupervisionError, ValueError):
    """A spec contradicts itself; every rule that it breaks is named. Nothing was started."""

    what: str
    broken: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.what}: {'; '.join(self.broken)}"


@define(slots=False)
class DuplicateChild(SupervisionError):
    """A supervisor has a child of this name already (perhaps stopped or parked); nothing was started."""

    path: str
    state: str

    def __str__(self) -> str:
        return f"{self.path} is there already ({self.state}): restart, remove or replace it, or use another name"


@define(slots=False)
class NotMyChild(SupervisionError):
    """A supervisor was asked to do something to an actor that is not its child; nothing was done."""

    path: str
    child: str
    children: int

    def __str__(self) -> str:
        return f"supervisor {self.path or '/'} has no child {self.child} ({self.children} others): ask the one that started it"


@define(slots=False)
class ChildIsUp(SupervisionError):
    """A child was to be restarted or removed that is up; nothing was done."""

    path: str
    state: str

    def __str__(self) -> str:
        if self.state == "zombie":
            return f"{self.path} is a zombie: it has been told to stop, and can be restarted when it has"
        return f"{self.path} is {self.state}: stop it first"


@define(slots=False)
class NeededByAll(SupervisionError):
    """The scheduler was to be stopped or replaced: nothing that waits in time would ever come. Nothing was done."""

    path: str

    def __str__(self) -> str:
        return f"{self.path} cannot be stopped by itself: whoever waits in time would wait for ever; stop the system instead"


@define(slots=False)
class PoolFull(SupervisionError):
    """A pool has as many children as it may have; nothing was started."""

    path: str
    limit: int

    def __str__(self) -> str:
        return f"pool {self.path} has its {self.limit:,} children: nothing was started, try again when one has ended"


@define(slots=False)
class IntensityExceeded(SupervisionError):
    """A supervisor gave up: its children ended more often than its intensity allows. The cause is the last of them."""

    path: str
    child: str
    exit: Exit
    restarts: int
    period_s: float

    def __attrs_post_init__(self) -> None:
        self.__cause__ = error_of(self.exit)

    def __str__(self) -> str:
        times = "once" if self.restarts == 1 else f"{self.restarts} times"
        return (
            f"supervisor {self.path or '/'} gave up: {self.child} ended more than {times} in {self.period_s:g} s; "
            f"last: {self.exit}"
        )


@define(slots=False)
class ChildStartFailed(SupervisionError):
    """A child could not start; the siblings started before it were stopped in reverse. The cause is what it raised."""

    path: str
    exit: Exit

    def __attrs_post_init__(self) -> None:
        self.__cause__ = error_of(self.exit)

    def __str__(self) -> str:
        return f"{self.path} {self.exit}"
