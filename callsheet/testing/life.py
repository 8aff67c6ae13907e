"""
One process of a world, from its start to its end: a runtime, its store, the hand that writes.

Rule: a kill is a kill. From that moment nothing it does reaches the store, no time passes for it, and nobody is told
anything in order; what ignores its cancellation lives on as a ghost that nothing listens to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import trio
from attrs import define, field

from ..actors.cancellation import is_cancellation
from ..actors.seams import Seams
from ..jobs import Jobs
from ..opening import open_runtime
from ..runtime import Runtime, Understudy
from .errors import NotRunning
from .faults import Dead, FaultyStore, Later

T = TypeVar("T")


@define(eq=False)
class Life:
    """See the head of this file."""

    n: int
    """1 is the first."""
    store: FaultyStore
    understudy: Understudy
    runtime: Runtime = field(init=False)
    comes_back: bool = field(default=False, init=False)
    """Killed by a plan: the next one begins by itself."""
    settled: trio.Event = field(factory=trio.Event, init=False)
    """It has opened, or failed to, or died over it."""
    is_open: bool = field(default=False, init=False)
    killed: trio.Event = field(factory=trio.Event, init=False)
    leave: trio.Event = field(factory=trio.Event, init=False)
    gone: trio.Event = field(factory=trio.Event, init=False)
    """Nothing of it runs any more."""
    error: BaseException | None = field(default=None, init=False)
    """Why it could not open."""

    @property
    def is_dead(self) -> bool:
        """Whether it was killed."""
        return self.killed.is_set()

    async def live(self, jobs: tuple[Jobs, ...], seams: Seams, options: dict[str, Any]) -> None:
        """Open the runtime, and close it when `leave` is set. What it raises while it opens is kept as `error`."""
        seams.writer, seams.attend = Hand(self), self._attend
        try:
            async with open_runtime(self.store, *jobs, seams=seams, **options):
                self.is_open = True
                self.settled.set()
                await self.leave.wait()
        except BaseException as error:
            if self.settled.is_set() or is_cancellation(error):
                raise
            self.error = error  # whoever opened it is told, and not as a member of a group
        finally:
            self.is_open = False
            self.settled.set()
            self.gone.set()

    def _attend(self, runtime: Runtime) -> None:
        self.runtime = runtime
        runtime.understudy = self.understudy

    def kill(self) -> None:
        """Once it has a runtime. Synchronous, so that it can happen in the middle of a commit."""
        if not self.is_dead:
            self.killed.set()
            self.is_open = False
            self.settled.set()
            self.store.kill()
            self.runtime.vanish()

    def alive(self) -> Runtime:
        """Its runtime. Raises NotRunning when it was killed, and has closed."""
        if not self.is_open:
            raise NotRunning
        return self.runtime


@define(eq=False)
class Hand:
    """The hand that writes in a world: the caller's own, slow where a fault says so, and still once its process is dead."""

    life: Life

    async def call(self, what: Callable[[], T]) -> T:
        """See `Writer.call`."""
        await trio.lowlevel.cancel_shielded_checkpoint()
        value = await self._value(what)
        held_s = self.life.store.take_held_s()
        if held_s:
            await self._hold(held_s)
        return value

    async def _value(self, what: Callable[[], T]) -> T:
        while True:
            try:
                return what()
            except Later as later:
                await self._hold(later.wait_s)
            except Dead:
                await trio.sleep_forever()  # until the kill reaches us

    async def _hold(self, wait_s: float) -> None:
        with trio.move_on_after(wait_s, shield=True) as over:  # a commit that has begun is waited for
            await self.life.killed.wait()
        if not over.cancelled_caught:
            await trio.sleep_forever()

    def close(self) -> None:
        """See `Writer.close`."""
