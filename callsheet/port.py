"""
What the calls of users go through to a store: a runtime, or a client that has none.

Rule: calls are written once, against this; who reaches the store through an event loop and a journal, and who does it in
short transactions of its own, is not their business.
Not here: the two that there are (`runtime`, `client.direct`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from .store.contract import Answer, Command, Reader
from .store.records import Clock

if TYPE_CHECKING:
    from .actors.seams import Seams
    from .supervisor.slots import Slots

T = TypeVar("T")

Until: TypeAlias = Callable[[float], Awaitable[object]]
"""Wait until something may have happened, or until then on the monotonic clock."""


class Port(Protocol):
    """One way to one store."""

    @property
    def seams(self) -> Seams:
        """Clock and ids."""

    @property
    def delays_by(self) -> Clock:
        """The clock of the delays that are requested through it."""

    @property
    def boot_id(self) -> str:
        """Who it is in the store; empty for a client, which is nobody there."""

    @property
    def is_open(self) -> bool:
        """Whether it can still be used."""

    @property
    def works(self) -> bool:
        """Whether it runs anything itself."""

    @property
    def slots(self) -> Mapping[str, Slots]:
        """Of the queues that it takes runs from, by identity."""

    @property
    def trouble(self) -> Exception | None:
        """What the store refuses writes with, while it does."""

    @property
    def wake_path(self) -> str | None:
        """Where the running runtime hears of writes at once, as far as is known here; None where it only looks."""

    def is_parked(self, jobs: str, task: str) -> bool:
        """Whether the supervisor of a task gave up, here."""

    def watch(self, run_id: str) -> AbstractContextManager[Until]:
        """While this is entered, nothing that happens to the run is missed by what it gives."""

    async def write(self, command: Command) -> Answer:
        """Have it done, durably."""

    async def write_all(self, commands: Sequence[Command]) -> list[Answer | Exception]:
        """Have them done, each for itself; an error stands where its answer would."""

    async def read(self, what: Callable[[Reader], T]) -> T:
        """Read what is committed."""
