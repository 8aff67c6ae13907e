"""
An actor that cannot stay up: what its supervisors do about it, printed as it happens. To be copied.

    pip install .
    python examples/restart_storm.py

Each restart of the oven waits twice as long as the one before (backoff). After three of them its supervisor gives up
(intensity), and that is a crash of the supervisor: its own supervisor, the root, starts the kitchen once more (escalation).
When that does not help either the root gives up, and the program is told.
"""

import logging
from typing import assert_never

import trio
from attrs import frozen

from callsheet import (
    Actor,
    ActorSystem,
    Backoff,
    BecameZombie,
    ChildParked,
    ChildSpec,
    CouldNotStart,
    Delayed,
    Ended,
    GaveUp,
    Intensity,
    Report,
    Started,
    StopOverran,
    SupervisorSpec,
    SystemGaveUp,
    subtree,
)


@frozen
class Bake:
    """It is time to bake."""


class Oven(Actor[Bake]):
    """Starts well, and crashes over its first bread."""

    def on_start(self) -> None:
        """Called for each incarnation, before its first message."""
        self.alarms.after(0.01, Bake())

    def receive(self, message: Bake) -> None:
        """Raise: that is all a crash is."""
        raise RuntimeError("too hot")


class Waiter(Actor[Bake]):
    """Has nothing to do with all this."""


def tell(report: Report) -> None:
    """One line for each thing that a supervisor saw or did."""
    match report:
        case Started(path, generation):
            print(f"{path} has started, generation {generation}")
        case Ended(path, _, exit_, then):
            print(f"{path} {exit_}; {then}")
        case Delayed(path, delay_s):
            print(f"{path} waits {delay_s:g} s")
        case GaveUp(path):
            print(f"{path or 'the root'} gives up")
        case CouldNotStart() | StopOverran() | ChildParked() | BecameZombie():
            print(report)  # none of these here
        case _:
            assert_never(report)


KITCHEN = SupervisorSpec(
    (
        ChildSpec("oven", Oven, backoff=Backoff(first_s=0.1, max_s=1, factor=2)),
        ChildSpec("waiter", Waiter),
    ),
    intensity=Intensity(3, period_s=10),  # three restarts of any of these within ten seconds, and no more
)
ROOT = SupervisorSpec((subtree("kitchen", KITCHEN),), intensity=Intensity(1, period_s=60))


async def main() -> None:
    """A program that ends when its actors cannot go on."""
    logging.getLogger("callsheet").setLevel(logging.CRITICAL)  # it would say the same, with tracebacks
    try:
        async with ActorSystem(ROOT, prepare=lambda system: system.reports.listen(tell)):
            await trio.sleep_forever()  # cancelled when the root gives up
    except SystemGaveUp as gave_up:
        error: BaseException = gave_up
        while error.__cause__ is not None:  # from supervisor to supervisor, down to what went wrong
            print(f"{type(error).__name__}, because of")
            error = error.__cause__
        print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    trio.run(main)
