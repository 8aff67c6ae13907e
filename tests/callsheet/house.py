"""
A theatre for tests: jobs on a store, in virtual time, with the books checked when it closes.

What every run's history must say, whatever happened, stands in `callsheet.testing.books`; `open_house` looks.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import trio
import trio.testing
from attrs import define, field

from callsheet import Jobs, Run, Runtime, Status, open_runtime
from callsheet.actors.seams import Seams
from callsheet.store.contract import Command, Reader, Store
from callsheet.store.records import Now, Owner, RunFilter
from callsheet.testing import WrongBooks
from callsheet.testing.books import wrongs

T = TypeVar("T")

NOON_NS: Final = 1_800_000_000_000_000_000
"""Where wall clocks begin."""

_seeds = itertools.count(1)

Place = Callable[[], Store]
"""Makes a store over the same data each time."""


@define(eq=False)
class Wall:
    """A wall clock that follows virtual time until somebody sets it."""

    offset_s: float = 0.0
    _from_s: float = field(factory=trio.current_time)

    def __call__(self) -> int:
        return NOON_NS + round((trio.current_time() - self._from_s + self.offset_s) * 1e6) * 1000


@asynccontextmanager
async def open_house(
    place: Place | Store,
    *jobs: Jobs,
    wall: Wall | None = None,
    seed: int | None = None,
    zombies: int = 0,
    **options: Any,
) -> AsyncIterator[Runtime]:
    """
    `open_runtime` in virtual time.

    seed: each opening has another one, as each has another boot id. zombies: rows that may be left running when it closed.
    """
    make = place if callable(place) else lambda: place
    seams = Seams.seeded(next(_seeds) if seed is None else seed, wall_ns=wall or Wall())
    try:
        async with open_runtime(make(), *jobs, seams=seams, **options) as runtime:
            yield runtime
    finally:
        if callable(place):
            runs = read(place, check_books)
            assert zombies == sum(run.status is Status.RUNNING for run in runs)


OBSERVER: Final = Owner("observer", 1, "here", 0)


def read(place: Place, what: Callable[[Reader], T]) -> T:
    """Look into the store while no runtime has it open."""
    store = place()
    store.open(OBSERVER)
    reader = store.reader()
    try:
        return what(reader)
    finally:
        reader.close()
        store.close()


def write(place: Place, owner: Owner, *commands: Command, at_us: int = NOON_NS // 1000) -> list[Any]:
    """Do as `owner` would, and vanish without a word."""
    store = place()
    store.open(owner)
    try:
        return list(store.write(commands, Now(at_us, at_us)))
    finally:
        store.close()


def check_books(reader: Reader) -> list[Run]:
    """All runs, of a store whose books are as they must be."""
    if found := list(wrongs(reader)):
        raise WrongBooks(tuple(found))
    return list(reader.list(RunFilter(), limit=1_000_000))


@contextmanager
def folder() -> Iterator[Path]:
    """Where there is no disk in the way, if there is such a place: what is tried here is not durability."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


async def settle() -> None:
    """Let everything happen that needs no time."""
    await trio.testing.wait_all_tasks_blocked()


async def statuses(jobs: Jobs, run_ids: Sequence[str]) -> list[Status]:
    return [(await jobs.runs.get(each)).run.status for each in run_ids]


async def moves_of(jobs: Jobs, run_id: str) -> list[str]:
    """The statuses that a run has had, in order."""
    return [str(each.now) for each in (await jobs.runs.get(run_id)).transitions]


async def outcomes_of(jobs: Jobs, run_id: str) -> list[str | None]:
    """How its attempts ended, in order."""
    return [None if each.outcome is None else str(each.outcome) for each in (await jobs.runs.get(run_id)).attempts]
