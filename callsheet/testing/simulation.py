"""
A world for one test: opened, played in, closed in order, and its books compared.

Rule: whatever the block raises comes out as it was, and everything that a world puts in the way of others is taken away again.
Not here: what can be done in a world (`world`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias, Unpack

import trio

from ..actors.cancellation import raise_as_it_was, single, without_cancelled
from ..actors.seams import Seams
from ..errors import InvalidOption
from ..jobs import Jobs
from ..open_options import OpenOptions
from ..store.contract import Store
from ..store.memory import MemoryStore
from ..store.memory_tables import Tables
from .clock import NOON, Time
from .faults import Faults
from .order import repeatable
from .silence import the_dead_are_silent
from .world import World

StoreChoice: TypeAlias = Literal["memory", "sqlite"] | Callable[[], Store]


@asynccontextmanager
async def simulate(
    *jobs: Jobs,
    seed: int = 1,
    store: StoreChoice = "memory",
    start: datetime = NOON,
    **options: Unpack[OpenOptions],
) -> AsyncIterator[World]:
    """
    Run `jobs` in virtual time while the block runs, for tests.

    seed: everything that happens follows from it and from what the test does, ids and jitter included. store: "memory",
    "sqlite" (a database of its own, which is deleted afterwards), or what makes a Store over the same data each time it is
    called. start: what the wall clock shows, an aware datetime. options: those of `open`, but for `seams` and `signals`.

    Use it in a test that has pytest-trio's `mock_clock` (time stands still unless the world is asked to move it) or
    `autojump_clock` (it goes on whenever the test waits), or inside `callsheet.testing.run`.

    Leaving the block closes the runtime in order, and then looks at the books as `World.check` does. A block that raises is
    left at once. Raises RealClock, WrongBooks, and what `open` raises.
    """
    for taken in ("seams", "signals"):
        if taken in options:
            raise InvalidOption(taken, "belongs to the world, and cannot be given to simulate")
    time = Time.of_this_run(start)
    chance = Seams.seeded(-seed)
    raised: BaseException | None = None
    with ExitStack() as stack:
        place = _place(store, stack)
        stack.enter_context(repeatable(seed))
        stack.enter_context(the_dead_are_silent())
        try:
            async with trio.open_nursery() as nursery:
                world = World(Faults(chance.draw), jobs, seed, place, options, time, nursery)
                try:
                    await world._begin()  # noqa: SLF001 -- one thing in two halves
                    yield world
                    await world._end()  # noqa: SLF001
                except BaseException as error:  # noqa: BLE001 -- raised below: the nursery would wrap it, and copy groups
                    raised = error
                    world._give_up()  # noqa: SLF001
                stack.enter_context(time.flowing())  # whoever outlived its process needs time to end
        except BaseException as error:  # noqa: BLE001 -- all but a cancellation is raised, and that follows below
            own = without_cancelled(error)
            if own is not None:
                raise single(own) from raised
    if raised is not None:
        raise_as_it_was(raised)


def _place(store: StoreChoice, stack: ExitStack) -> Callable[[], Store]:
    if store == "memory":
        tables = Tables()
        return lambda: MemoryStore(tables)
    if store == "sqlite":
        from ..store.sqlite import SqliteStore

        folder = stack.enter_context(TemporaryDirectory(prefix="callsheet-"))
        return lambda: SqliteStore(Path(folder) / "jobs.db")
    if not callable(store):
        raise InvalidOption("store", f'is "memory", "sqlite", or what makes a Store, not {store!r}')
    return store
