"""
What runs one or more Jobs on one store, in one process, between open and close.

Rule: this file opens and closes; who stands in the tree is in `cast`, what they do in the layers below.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import Token
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict, TypeVar, Unpack

import trio
from attrs import define, field

from . import __version__, guard
from .actors.batch import Write
from .actors.calendar import PAGE
from .actors.errors import ActorDown
from .actors.journal import JournalState, LookAround, send, write
from .actors.readers import Readers
from .actors.ref import Ref
from .actors.reply import Reply
from .actors.seams import Seams
from .actors.writer import InlineWriter, ThreadWriter, Writer
from .cast import cast, lanes_of
from .client.published import publish
from .errors import InvalidOption, NotOpen, RuntimeGaveUp, ShuttingDown, UnknownQueue, UnknownTask
from .hub import Hub
from .jobs import Jobs, current_runtime
from .neighbours import Neighbours
from .observe.witness import Witness
from .port import Until
from .queue import MAX_CONCURRENCY, check_int
from .store.contract import Answer, Command, Reader, Store
from .store.errors import CallsheetError, OutcomeUnknown
from .store.memory import MemoryStore
from .store.policy import seconds
from .store.records import Clock, Now, Owner, Status
from .stores import store_at
from .supervisor import paths
from .supervisor.aftermath import Aftermath
from .supervisor.errors import ChildIsUp
from .supervisor.requests import RestartChild
from .supervisor.slots import Slots
from .supervisor.system import ActorSystem, SystemGaveUp
from .task import Task
from .threads import Threads
from .tree import Node, picture
from .wake import Bell, Ear, path_of

if TYPE_CHECKING:
    from .actors.run import RunActor
    from .monitor import Monitor

T = TypeVar("T")
Understudy: TypeAlias = (
    "Callable[[Task[Any, Any], RunActor, object, Callable[[], Awaitable[object]]], Awaitable[object]]"
)

_log = logging.getLogger("callsheet")

GRACE_S: Final = 8.0
"""Default for how long work in hand may go on once a runtime stops."""
MAX_GRACE_S: Final = 86_400.0
LOOK_S: Final = 1.0
"""How often whoever waits for quiet looks though nothing was said: a wake-up may be lost."""
INTRODUCE_S: Final = 1.0
"""How long opening waits until the store says what runs here, so that whoever is told that it is open finds it there."""
LATE_SIGNALS_S: Final = 0.001
"""How long signals that came when all was over are collected."""


class OpenOptions(TypedDict, total=False):
    """What `open`, `serve` and `open_runtime` take beside the store."""

    app: Any
    """Handed to every handler as `ctx.app`."""
    grace: float
    """Seconds that work in hand may go on once the block is left (0 … 86,400, default 8); then it is cancelled."""
    monitor: Monitor | None
    """Watch and steer it through a page and a websocket."""
    signals: bool
    """SIGTERM and SIGINT end the block; a second one ends the grace too. Main thread only."""
    queues: Sequence[str]
    """Run only what waits in these queues, by name or `namespace/name`; all tasks and queues can still be enqueued to."""
    max_running: int | None
    """Runs on stage at once in all queues together (1 … 1,000,000); None: as many as the queues have slots."""
    work: bool
    """False: run nothing, only enqueue, read and steer, beside a runtime in another process."""
    seams: Seams
    """Clock, chance and ids, for simulations."""


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
            with trio.move_on_after(look_s):
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
                with trio.move_on_at(until_s):
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
        return any(slots.on_stage or slots.reserved or slots.woken for slots in self.slots.values())

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


# ---------------------------------------------------------------- putting it together


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
    grace_s = _check(jobs, options)
    watched, works = _watched(jobs, options.get("queues")), bool(options.get("work", True))
    seams = options.get("seams") or Seams.real()
    place = store_at(store, exclusive=works)
    inline = isinstance(place, MemoryStore) or not seams.threads
    writer = seams.writer or _writer(inline=inline)
    owner = _owner(jobs, watched, seams)
    try:
        async with _signals(options) as signals:
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


def _check(jobs: tuple[Jobs, ...], options: OpenOptions) -> float:
    unknown = options.keys() - OpenOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"open has no option {min(unknown)!r}; it has {', '.join(OpenOptions.__annotations__)}")
    if not jobs:
        raise InvalidOption("jobs", "open needs at least one Jobs instance")
    _check_types(jobs, options)
    identities = [each.identity for each in jobs]
    if len(set(identities)) < len(identities):
        raise InvalidOption("jobs", "two of them have the same namespace and name")
    for each in jobs:
        for other in jobs:
            twice = each.declared_queues.keys() & other.declared_queues.keys()
            if each is not other and twice:
                raise InvalidOption("jobs", f"two of them declare the queue {min(twice)}")
    if options.get("max_running") is not None:
        check_int(options["max_running"], "max_running", MAX_CONCURRENCY)
    try:
        return seconds(options.get("grace", GRACE_S), "grace", most=MAX_GRACE_S)
    except ValueError as error:
        raise InvalidOption("grace", str(error).removeprefix("grace ")) from None


def _check_types(jobs: tuple[Jobs, ...], options: OpenOptions) -> None:
    for each in jobs:
        if not isinstance(each, Jobs):
            raise TypeError(f"open_runtime takes a store and then Jobs instances, not {type(each).__name__}")
    for name in ("work", "signals"):
        if not isinstance(options.get(name, False), bool):  # "no" and "false" would count as True
            raise TypeError(f"{name} must be True or False, not {type(options.get(name)).__name__}")
    monitor = options.get("monitor")
    if monitor is not None and not hasattr(monitor, "port"):
        raise TypeError(f"monitor must be a Monitor, as in monitor=Monitor(), not {type(monitor).__name__}")


def _watched(jobs: tuple[Jobs, ...], names: Sequence[str] | None) -> tuple[str, ...]:
    """The identities of the queues that `names` tells, of all where it tells none."""
    known = [queue for each in jobs for queue in each.declared_queues]
    if names is None:
        return tuple(known)
    if not isinstance(names, Sequence | AbstractSet) or isinstance(names, str | bytes) or not names:
        raise InvalidOption("queues", "give a list with at least one name, or leave it out to watch every queue")
    found: dict[str, None] = {}
    for name in names:
        meant = [queue for queue in known if name in (queue, queue.partition("/")[2])]
        if not meant:
            raise UnknownQueue(jobs[0].identity, str(name), tuple(queue.partition("/")[2] for queue in known))
        found.update(dict.fromkeys(meant))
    return tuple(found)


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
    runtime: Runtime, options: OpenOptions, grace_s: float, signals: _Signals | None
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
                runtime.system.stage.spawn(partial(_obey, runtime, signals), "signals")
            if runtime.ear is not None:
                runtime.system.stage.spawn(partial(runtime.ear.listen, partial(_look_around, runtime)), "wake")
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
    runtime.journal.on_stage = lambda: frozenset(
        run_id for slots in runtime.slots.values() for run_id in slots.on_stage
    )


def _look_around(runtime: Runtime) -> None:
    """Somebody wrote, perhaps."""
    journal = runtime.system.stage.whereis(paths.JOURNAL)
    if journal is not None:
        journal.tell_control(LookAround())


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


@define(eq=False)
class _Signals:
    """Those that end the runtime, one by one."""

    received: AsyncIterator[int]
    obeyed: bool = False
    """Whether one of them ended the block."""


@asynccontextmanager
async def _signals(options: OpenOptions) -> AsyncIterator[_Signals | None]:
    """
    From before the store is opened until it is closed; None when signals are left to the host.

    Once one has been obeyed, a further one does not kill a process that is closing its store: trio would raise again what
    nobody took. One that comes while a block closes of itself is for the host, and is raised again then.
    """
    if not options.get("signals"):
        yield None
        return
    if threading.current_thread() is not threading.main_thread():
        raise InvalidOption("signals", "only the main thread receives signals: open it there, or without signals=True")
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        signals = _Signals(received)
        try:
            yield signals
        finally:
            if signals.obeyed:
                with trio.move_on_after(LATE_SIGNALS_S, shield=True):
                    async for _ in received:
                        pass


async def _obey(runtime: Runtime, signals: _Signals) -> None:
    """The first signal ends the block, every further one the grace too."""
    async for number in signals.received:
        _log.info("%s: stopping%s", signal.Signals(number).name, " at once" if signals.obeyed else "")
        runtime.stop(grace=0 if signals.obeyed else None)
        signals.obeyed = True
