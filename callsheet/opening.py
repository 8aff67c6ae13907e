"""
Opening a runtime and closing it: the store, its thread, the tree, and all of it taken down in reverse.

Rule: here nothing is decided; what opens is closed in the same function, whatever happens between.
Not here: what an open runtime can do (`runtime`), who stands in its tree (`cast`), which options there are (`open_options`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import Token
from functools import partial
from typing import Final, Unpack

import trio

from . import __version__
from .actors.journal import JournalState, LookAround
from .actors.readers import Readers
from .actors.seams import Seams
from .actors.writer import InlineWriter, ThreadWriter, Writer
from .cast import cast
from .client.published import publish
from .errors import RuntimeGaveUp, ShuttingDown
from .jobs import Jobs, current_runtime
from .observe.witness import Witness
from .open_options import OpenOptions, check_options, watched_queues
from .runtime import Runtime
from .stop_signals import Signals, obey, stop_signals
from .store.contract import Store
from .store.memory import MemoryStore
from .store.records import Owner
from .stores import store_at
from .supervisor import paths
from .supervisor.aftermath import Aftermath
from .supervisor.system import ActorSystem, SystemGaveUp
from .wake import Bell, Ear, path_of

INTRODUCE_S: Final = 1.0
"""How long opening waits until the store says what runs here, so that whoever is told that it is open finds it there."""


@asynccontextmanager
async def open_runtime(
    store: str | os.PathLike[str] | Store, *jobs: Jobs, **options: Unpack[OpenOptions]
) -> AsyncIterator[Runtime]:
    """
    Run `jobs` on `store` while the block runs.

    store: the path of a SQLite database (made when it is not there; `sqlite:///…` works too), ":memory:", or a Store.
    For the options see `OpenOptions`.

    Every unfinished run of a process that died goes on. Leaving the block stops claiming, lets work in hand end within
    `grace`, cancels and hands back the rest, and returns when nothing of it runs any more.

    Raises StoreHeld, CannotOpen, ForeignDatabase, NewerSchema, DamagedStore, SettingRefused: nothing was changed;
    InvalidOption, UnknownQueue; RuntimeGaveUp, after the block was cancelled, when the runtime cannot keep itself alive.
    """
    grace_s = check_options(jobs, options)
    watched, works = watched_queues(jobs, options.get("queues")), bool(options.get("work", True))
    seams = options.get("seams") or Seams.real()
    place = store_at(store, exclusive=works)
    inline = isinstance(place, MemoryStore) or not seams.threads
    writer = seams.writer or _writer(inline=inline)
    owner = _owner(jobs, watched, seams)
    try:
        async with stop_signals(options) as signals:
            await writer.call(lambda: place.open(owner))
            try:
                runtime = Runtime(
                    jobs,
                    place,
                    seams,
                    owner,
                    Readers(place, inline=inline),
                    app=options.get("app"),
                    works=works,
                    watched=watched,
                    max_running=options.get("max_running"),
                )
                runtime.journal = JournalState(
                    place,
                    writer,
                    owner,
                    works=works,
                    has_neighbours=_has_neighbours(place, seams),
                    published=tuple(publish(each) for each in jobs) if works else (),
                )
                runtime.witness = Witness(tuple(each.bus for each in jobs), runtime.journal)
                runtime.bell = Bell(None if inline else path_of(place.name))
                seams.attend(runtime)
                async with _heard(runtime), _working(runtime, options, grace_s, signals):
                    yield runtime
            finally:
                runtime.readers.close()
                await _close(writer, place)
    finally:
        writer.close()


def _owner(jobs: tuple[Jobs, ...], watched: tuple[str, ...], seams: Seams) -> Owner:
    return Owner(
        boot_id=seams.ids.boot_id(),
        pid=os.getpid(),
        host=socket.gethostname(),
        started_us=seams.clock.wall_us(),
        version=__version__,
        tasks=tuple(f"{each.identity}/{name}" for each in jobs for task in each.tasks.values() for name in task.names),
        queues=watched,
    )


def _has_neighbours(store: Store, seams: Seams) -> bool:
    """Whether other processes may write to it. Those of a simulation know of each other."""
    return not (store.exclusive and (isinstance(store, MemoryStore) or not seams.threads))


def _writer(*, inline: bool) -> Writer:
    return InlineWriter() if inline else ThreadWriter("callsheet-journal")


async def _close(writer: Writer, store: Store) -> None:
    await writer.call(store.close)


@asynccontextmanager
async def _working(
    runtime: Runtime, options: OpenOptions, grace_s: float, signals: Signals | None
) -> AsyncIterator[None]:
    previous = current_runtime.set(runtime)
    prepare = partial(_prepare, runtime)
    spec = cast(runtime, options.get("monitor"))
    try:
        await runtime.neighbours.first_look()
        async with ActorSystem(spec, seams=runtime.seams, grace_s=grace_s, prepare=prepare):
            for each in runtime.jobs:
                each._open.append(runtime)  # noqa: SLF001 -- the two know each other
            if signals is not None:
                runtime.system.stage.spawn(partial(obey, runtime, signals), "signals")
            if runtime.ear is not None:
                # what is new is claimed first; whatever else was written may wait until that is under way
                stage = runtime.system.stage
                listen = partial(runtime.ear.listen, stage.waits, runtime.wake_queues, partial(_look_around, runtime))
                stage.spawn(listen, "wake")
            with trio.move_on_after(INTRODUCE_S, shield=True):  # a block that is cancelled already begins all the same
                await runtime.journal.introduced.wait()
            yield
    except SystemGaveUp as error:
        raise RuntimeGaveUp(error.exit) from error.__cause__
    finally:
        runtime.is_open = runtime.vanished  # what is left of a killed one shall find it, and none that follows
        runtime.journal.give_up(ShuttingDown(runtime.jobs[0].identity))
        runtime.hub.close()
        _forget(runtime, previous)


def _prepare(runtime: Runtime, system: ActorSystem) -> None:
    """Before the first actor starts."""
    runtime.system, runtime.is_open = system, True
    aftermath = Aftermath(system.stage, runtime.slots)
    runtime.journal.on_committed += [aftermath, runtime.hub, runtime.witness]
    if not runtime.works:
        runtime.journal.on_committed.append(lambda _commands, _answers: runtime.bell.ring())
    runtime.journal.on_neighbours += [aftermath.others_wrote, runtime.neighbours.wrote]
    runtime.journal.on_neighbours_seldom.append(runtime.hub.others_wrote)
    if runtime.works:
        runtime.journal.on_committed.append(runtime.planned)
        runtime.journal.on_neighbours_seldom.append(runtime.planned.others_wrote)
    runtime.journal.on_stage = lambda: frozenset(
        run_id for slots in runtime.slots.values() for run_id in slots.on_stage
    )


def _look_around(runtime: Runtime) -> None:
    """Somebody wrote, perhaps."""
    journal = runtime.system.stage.registry.get(paths.JOURNAL)
    if journal is not None and not (journal.stopping or journal.closed):  # others write on while we close
        journal.ref.tell_control(LookAround())


def _forget(runtime: Runtime, previous: Token[Runtime]) -> None:
    runtime._leave_jobs()  # noqa: SLF001 -- one thing in two halves
    with suppress(ValueError):  # closed from another context than it was opened in, as fixtures are: that one is gone
        current_runtime.reset(previous)


@asynccontextmanager
async def _heard(runtime: Runtime) -> AsyncIterator[None]:
    """While other processes can tell the one runtime that works here that they wrote, and we can tell it."""
    path = runtime.bell.path
    runtime.ear = Ear.at(path) if runtime.works and runtime.store.exclusive else None
    try:
        yield
    finally:
        runtime.bell.close()
        if runtime.ear is not None:
            runtime.ear.close()
