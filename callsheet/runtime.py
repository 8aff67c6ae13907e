"""
What runs one or more Jobs on one store, in one process, between open and close.

Rule: what whoever holds an open runtime can do, and what its actors and the facade need of it.
Not here: opening and closing (`opening`), who stands in the tree (`cast`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import trio
from attrs import define, field

from . import guard
from .actors.batch import Write
from .actors.calendar import PAGE
from .actors.errors import ActorDown
from .actors.journal import JournalState, send, write
from .actors.readers import Readers
from .actors.ref import Ref
from .actors.reply import Reply
from .actors.seams import Seams
from .cast import lanes_of
from .errors import InvalidOption, NotOpen, ShuttingDown, UnknownTask
from .hub import Hub
from .jobs import Jobs
from .neighbours import Neighbours
from .observe.witness import Witness
from .open_options import MAX_GRACE_S
from .port import Until
from .schedules.planned import Planned
from .store.contract import Answer, Command, Reader, Store
from .store.errors import CallsheetError, OutcomeUnknown
from .store.policy import seconds
from .store.records import Clock, Now, Owner, Status
from .supervisor import paths
from .supervisor.errors import ChildIsUp
from .supervisor.requests import RestartChild
from .supervisor.slots import Slots
from .supervisor.system import ActorSystem
from .task import Task
from .threads import Threads
from .tree import Node, picture
from .wake import Bell, Ear

if TYPE_CHECKING:
    from .actors.run import RunActor

T = TypeVar("T")
Understudy: TypeAlias = (
    "Callable[[Task[Any, Any], RunActor, object, Callable[[], Awaitable[object]]], Awaitable[object]]"
)

_log = logging.getLogger("callsheet")

LOOK_S: Final = 1.0
"""How often whoever waits for quiet looks though nothing was said: a wake-up may be lost."""


@define(eq=False)
class Runtime:
    """Jobs at work. Made by `jobs.open` or `open_runtime`."""

    jobs: tuple[Jobs, ...]
    store: Store
    seams: Seams
    owner: Owner
    readers: Readers
    app: Any = None
    works: bool = True
    """Whether it runs anything."""
    watched: tuple[str, ...] = ()
    """The queues that it takes runs from, by identity."""
    max_running: int | None = None
    delays_by: Clock = field(init=False)
    """The clock of the delays that are enqueued here: the steady one where we run them ourselves."""
    hub: Hub = field(factory=Hub)
    slots: dict[str, Slots] = field(factory=dict)
    """By queue identity."""
    threads: Threads = field(factory=Threads)
    planned: Planned = field(factory=Planned)
    journal: JournalState = field(init=False)
    witness: Witness = field(init=False)
    """Tells the Jobs of what is durable."""
    ear: Ear | None = field(default=None, init=False)
    """Where we are told of what others write, if there is such a place."""
    bell: Bell = field(init=False)
    """Tells the runtime that works on this store of what we write; to find out where it listens, if we are that one."""
    system: ActorSystem = field(init=False)
    is_open: bool = field(default=False, init=False)
    """Whether its actors live: handlers may use it before the block has begun, and until the last of them has ended."""
    neighbours: Neighbours = field(init=False)
    monitor_url: str | None = field(default=None, init=False)
    """The page's link, with its secret, while there is a monitor."""
    understudy: Understudy | None = field(default=None, init=False)
    """Called in place of every handler, with the call that it stands in for. For simulations."""
    vanished: bool = field(default=False, init=False)
    """Whether it ended as a killed process does."""
    token: trio.lowlevel.TrioToken = field(factory=trio.lowlevel.current_trio_token, init=False)

    def __attrs_post_init__(self) -> None:
        self.delays_by = Clock.STEADY if self.works else Clock.WALL
        self.neighbours = Neighbours(self)

    @property
    def boot_id(self) -> str:
        """Random; who we are in the store until close."""
        return self.owner.boot_id

    async def until_idle(self) -> None:
        """Return when nothing this runtime could run is queued, running, retrying or due."""
        await self._until_idle(LOOK_S)

    async def _until_idle(self, look_s: float) -> None:
        looked = False
        while True:
            if self.vanished:
                raise self._killed()
            moved = self.hub.activity
            quiet = not self._busy() and await self.read(self._is_quiet)
            if quiet and (looked or not await self.read(partial(self._is_due, self.seams.now()))):
                return
            if quiet:  # what is due may be of a task that nobody here knows: then a look brings nothing
                self.wake_queues()
            looked = quiet
            with self.system.stage.waits.move_on_after(look_s, owner="until_idle"):
                await moved.wait()

    async def forever(self) -> None:
        """Never return: work until the block is cancelled."""
        await trio.sleep_forever()

    def stop(self, *, grace: float | None = None) -> None:
        """End the block: it is cancelled, and leaving it does what it always does. `grace` replaces the runtime's."""
        self.system.request_stop(grace_s=None if grace is None else seconds(grace, "grace", most=MAX_GRACE_S))
        self.system.cancel_body()

    def tree(self) -> Node:
        """The supervision tree as it stands. Raises NotOpen once all of it has ended."""
        if not self.system.stage.registry:
            raise NotOpen(self.jobs[0].identity)
        return picture(self.system.stage)

    async def unpark(self, task: Task[Any, Any] | str) -> bool:
        """
        Start a task again whose supervisor gave up, with its restart budget whole; its runs go on.

        Returns whether it was parked. Raises UnknownTask, PolicyDenied, ShuttingDown, InvalidOption where `work=False` runs no
        tasks; ChildStartFailed when it cannot start.
        """
        jobs, name = self._declared(task)
        guard.require(jobs, guard.Action.STEER, task=name)
        if not self.works:
            raise InvalidOption(
                "work", "a runtime that was opened with work=False runs no tasks: unpark it where it runs"
            )
        cell = self.system.stage.registry.get(paths.task(jobs.identity, name))
        if cell is None:
            raise ShuttingDown(jobs.identity)
        if not cell.parked:
            return False
        supervisor = self.system.stage.registry[paths.jobs(jobs.identity)].ref
        try:
            await supervisor.ask(RestartChild(cell.ref), timeout=math.inf)
        except ChildIsUp:  # somebody else did, meanwhile
            return False
        except ActorDown as error:
            raise ShuttingDown(jobs.identity) from error
        return True

    def _declared(self, task: Task[Any, Any] | str) -> tuple[Jobs, str]:
        if not isinstance(task, str | Task):
            raise TypeError(f"a task is named by its name or by itself, not by {task!r}")
        if not isinstance(task, str):
            task.jobs.task_named(task.name)
            if task.jobs in self.jobs:
                return task.jobs, task.name
        for jobs in self.jobs:
            found = jobs.tasks.get(str(task)) or jobs.aliases.get(str(task))
            if found is not None:
                return jobs, found.name
        known = tuple(name for jobs in self.jobs for name in jobs.tasks)
        raise UnknownTask(self.jobs[0].identity, task if isinstance(task, str) else task.name, known)

    @property
    def on_stage(self) -> int:
        """How many runs are on stage."""
        return sum(len(slots.on_stage) for slots in self.slots.values())

    # -- for the facade and its actors: see `Port`

    @property
    def trouble(self) -> Exception | None:
        """What the store refuses writes with, while it does."""
        return self.journal.trouble

    @property
    def wake_path(self) -> str | None:
        """Where the runtime that works here is told of writes; None where there is no such place, or nobody listens."""
        return self.bell.heard_at

    def is_parked(self, jobs: str, task: str) -> bool:
        """Whether the supervisor of a task gave up, here."""
        cell = self.system.stage.registry.get(paths.task(jobs, task))
        return cell is not None and cell.parked

    @contextmanager
    def watch(self, run_id: str) -> Iterator[Until]:
        """See `Port.watch`."""
        with ExitStack() as watching:
            ended = watching.enter_context(self.hub.watch(run_id))

            async def until(until_s: float) -> None:
                nonlocal ended
                with self.system.stage.waits.move_on_at(until_s, owner="runs.wait"):
                    await ended.wait()
                watching.close()  # an event is set once: watch anew before anybody looks
                ended = watching.enter_context(self.hub.watch(run_id))

            yield until

    def wake_queues(self) -> None:
        """Have every queue look."""
        for slots in self.slots.values():
            slots.wake()

    async def write(self, command: Command) -> Answer:
        """Have the journal do it. Raises ShuttingDown when the journal takes nothing more."""
        try:
            return await write(self._journal_ref(), command)
        except ActorDown as error:
            raise ShuttingDown(self.jobs[0].identity) from error

    async def write_all(self, commands: Sequence[Command]) -> list[Answer | Exception]:
        """Have the journal do them, at once, each for itself; an error stands where its answer would."""
        ref = self._journal_ref()
        replies: list[Reply[Answer]] = [Reply() for _ in commands]
        for command, reply in zip(commands, replies, strict=True):
            send(ref, command, reply)
        answers: list[Answer | Exception] = []
        for reply in replies:
            try:
                answers.append(await reply.wait())
            except ActorDown:
                answers.append(ShuttingDown(self.jobs[0].identity))
            except CallsheetError as error:
                answers.append(error)
        return answers

    def _journal_ref(self) -> Ref[Any]:
        if self.vanished:
            raise self._killed()
        ref = self.system.stage.whereis(paths.JOURNAL)
        if ref is None:
            raise ShuttingDown(self.jobs[0].identity)
        return ref

    async def read(self, what: Callable[[Reader], T]) -> T:
        """Read what is committed."""
        if self.vanished:
            raise self._killed()
        return await self.readers.read(what)

    def vanish(self) -> None:
        """
        End as a killed process does: its tasks are cancelled at once, nothing is stopped in order or handed back. For
        simulations, which have seen to it that nothing reaches the store any more.

        Whoever waits for an answer from outside is told that the outcome is unknown.
        """
        self.vanished = True
        self.journal.introduced.set()
        self._leave_jobs()
        journal = self.system.stage.registry.get(paths.JOURNAL)
        waiting = [] if journal is None else journal.mailbox.take_now()
        for each in [*self.journal.hand.drop(len(self.journal.hand)), *waiting]:
            if isinstance(each, Write) and isinstance(each.reply, Reply):
                each.reply.fail(self._killed())
        self.hub.close()
        self.system.vanish()

    def _killed(self) -> OutcomeUnknown:
        return OutcomeUnknown(self.store.name, "its process was killed")

    def _leave_jobs(self) -> None:
        self.witness.close()
        for each in self.jobs:
            if self in each._open:  # noqa: SLF001 -- the two know each other
                each._open.remove(self)  # noqa: SLF001

    def _busy(self) -> bool:
        return self.planned.is_behind or any(
            slots.on_stage or slots.reserved or slots.woken for slots in self.slots.values()
        )

    def _serves(self, queue: str) -> bool:
        return queue in self.slots and not self.slots[queue].paused

    def _is_quiet(self, reader: Reader) -> bool:
        mine = {lane for jobs in self.jobs for lane in lanes_of(jobs) if self._serves(lane.queue)}
        waiting = {Status.QUEUED, Status.RUNNING, Status.RETRYING}
        return not any(count.status in waiting and count.lane in mine for count in reader.counts())

    def _is_due(self, now: Now, reader: Reader) -> bool:
        for clock, until_us in ((Clock.STEADY, now.steady_us), (Clock.WALL, now.wall_us)):
            after_us = -1
            while page := reader.upcoming(clock, after_us, until_us, PAGE):
                if any(self._serves(due.queue) for due in page):
                    return True
                after_us = page[-1].due_us
        return False
