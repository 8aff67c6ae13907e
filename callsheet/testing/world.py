"""
A world for tests: jobs at work in virtual time, on a store that can fail, in a process that can die.

Rule 1: time moves only when it is asked to, and everything that happens follows from the seed.
Rule 2: the runtime is the real one. What is put around it is the clock, the ids, the store's failures, and what a script
    has attempts do instead of calling their handler.
Not here: what goes wrong (`faults`), what a process is (`life`), what the books must say (`books`, `ledger`), opening
and closing it (`simulation`).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import trio
import trio.testing
from attrs import define, field

from ..actors.calendar import Look
from ..actors.run import RunActor
from ..actors.seams import Seams
from ..enqueue import EnqueueOptions
from ..errors import InvalidOption, RunNotFound, UnknownTask
from ..job import Job
from ..jobs import Jobs
from ..open_options import OpenOptions
from ..runs import RunDetails, details_of
from ..runtime import Runtime
from ..store import codec
from ..store.contract import Command, Reader, Store, Unregister
from ..store.records import Clock, Now, Owner, Run, RunFilter, Status, instant
from ..supervisor import paths
from ..task import Task
from . import books
from .clock import Time, as_seconds, us_of
from .errors import NotRunning, StillBusy, WrongBooks
from .faults import Faults, FaultyStore
from .ledger import Ledger
from .life import Life
from .performing import Performed, performed
from .script import Script, Step, checked
from .script import perform as perform_step

T = TypeVar("T")

DAY_S: Final = 86_400.0
"""How much virtual time `until_idle` and `perform` let go by, unless they are told otherwise."""
LOOK_S: Final = 20.0
"""
Virtual seconds between looks that are taken though nothing was said: no wake-up is lost here, and days of virtual time shall
cost little.
"""
SHOWN: Final = 20
"""Lines of a failure message, at most."""
_OBSERVER: Final = Owner("observer", os.getpid(), "here", 0)
_ANY: Final[Any] = object()

TaskChoice: TypeAlias = str | Task[Any, Any] | type[Any]


@define(eq=False)
class World:
    """Made by `simulate`."""

    faults: Faults
    """What goes wrong with the store."""
    _jobs: tuple[Jobs, ...]
    _seed: int
    _place: Callable[[], Store]
    _options: OpenOptions
    _time: Time
    _nursery: trio.Nursery
    _ledger: Ledger = field(factory=Ledger, init=False)
    _scripts: dict[Task[Any, Any], Script] = field(factory=dict, init=False)
    _life: Life = field(init=False)
    _lives: int = field(default=0, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)
    """Set when another life begins."""
    _closing: bool = field(default=False, init=False)

    # -- time

    @property
    def now(self) -> datetime:
        """The wall clock."""
        return instant(self._time.wall_us)

    def set_wall(self, when: datetime) -> None:
        """Set the wall clock, as an administrator or a time server does; delays and timeouts go on as before."""
        self._time.set_wall(us_of(when))
        calendar = self._life.runtime.system.stage.whereis(paths.CALENDAR) if self._life.is_open else None
        if calendar is not None:
            calendar.tell_control(Look())  # what a second would do
            self._life.runtime.planned.look()

    def step_wall(self, seconds: float | timedelta) -> None:
        """Set the wall clock forward, or back where it is negative."""
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not (number or isinstance(seconds, timedelta)):
            raise TypeError(f"step_wall takes a number of seconds or a timedelta, not {type(seconds).__name__}")
        self.set_wall(self.now + (seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)))

    async def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """
        Let this much time go by: everything that falls due meanwhile happens at its own time. What needs no more time has
        happened when this returns.
        """
        total_s = as_seconds(days=days, hours=hours, minutes=minutes, seconds=seconds)
        with self._time.flowing():
            await trio.sleep(total_s)
        await self.settle()

    def flowing(self) -> AbstractContextManager[None]:
        """
        While this block runs, time goes on by itself whenever nothing else is left to do, as under an autojump clock: for a
        test that waits for something which takes time (`runs.wait`, a commit that stalls).
        """
        return self._time.flowing()

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        await trio.testing.wait_all_tasks_blocked()
        while self._is_on_its_way:
            await self._living()
            await trio.testing.wait_all_tasks_blocked()

    @property
    def _is_on_its_way(self) -> bool:
        """Whether a process is starting, or will by itself."""
        life = self._life
        return not life.settled.is_set() or (life.is_dead and life.comes_back)

    async def until_idle(self, *, limit: float | timedelta = DAY_S) -> None:
        """
        Let time go by until nothing is queued, running, retrying or due.

        limit: of virtual time, in seconds or as a timedelta. Raises StillBusy, which lists what has not ended; NotRunning in
        a world that has crashed.
        """
        limit_s = limit.total_seconds() if isinstance(limit, timedelta) else limit
        with self._time.flowing(), trio.move_on_after(limit_s) as over:
            while True:
                runtime, life = await self._living(), self._life
                try:
                    await runtime._until_idle(LOOK_S)  # noqa: SLF001 -- the same, with fewer looks
                    break
                except Exception:
                    if not life.is_dead:
                        raise  # else it was killed meanwhile, and we look whether another life follows
        if over.cancelled_caught:
            raise StillBusy(limit_s, tuple(self._waiting()[:10]))
        await self.settle()

    def _waiting(self) -> list[str]:
        now = self._now()
        return [
            f"{_shown(run)}, attempt {run.attempt}"
            if run.status is Status.RUNNING
            else f"{_shown(run)}, {_due(run, now)}"
            for run in self.runs()
            if not run.status.is_final
        ]

    def _now(self) -> Now:
        return self._life.runtime.seams.now()

    # -- what there is

    @property
    def runtime(self) -> Runtime:
        """The runtime at work. Raises NotRunning in a world that has crashed."""
        return self._life.alive()

    def runs(self) -> list[Run]:
        """All runs, oldest first, without payloads."""
        return list(reversed(self._look(lambda reader: reader.list(RunFilter(), limit=books.ALL))))

    def history(self, run_id: str) -> RunDetails:
        """The run with its payload, attempts and transitions. Raises RunNotFound."""
        history = self._look(lambda reader: reader.get(run_id))
        if history is None:
            raise RunNotFound(run_id)
        return details_of(history, self._now())

    def enqueued(
        self,
        task: TaskChoice | None = None,
        *,
        payload: object = _ANY,
        queue: str | None = None,
        status: Status | str | None = None,
    ) -> list[RunDetails]:
        """The runs that were ever enqueued and match everything given, oldest first. queue: with or without its namespace."""
        lanes = None if task is None else {each.lane for each in self._found(task)}
        names = None if lanes is None else {(lane.jobs, lane.task) for lane in lanes}
        wanted = None if payload is _ANY else codec.decode(codec.encode(payload), None)
        chosen = None if status is None else Status(status)
        matching = [
            run.id
            for run in self.runs()
            if (names is None or (run.lane.jobs, run.lane.task) in names)
            and (queue is None or queue in (run.lane.queue, run.lane.queue.partition("/")[2]))
            and (chosen is None or run.status is chosen)
        ]
        found = [self.history(run_id) for run_id in matching]
        return found if payload is _ANY else [each for each in found if each.payload == wanted]

    def assert_enqueued(
        self,
        task: TaskChoice | None = None,
        *,
        count: int | None = None,
        payload: object = _ANY,
        queue: str | None = None,
        status: Status | str | None = None,
    ) -> list[RunDetails]:
        """
        At least one run (with `count`, exactly so many) was enqueued that matches everything given; returns them.

        Raises AssertionError, which shows what there is instead.
        """
        __tracebackhide__ = True
        found = self.enqueued(task, payload=payload, queue=queue, status=status)
        if len(found) == count if count is not None else found:
            return found
        given = {"task": _name(task), "queue": queue, "status": None if status is None else str(status)}
        wanted = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        if payload is not _ANY:
            wanted.append(f"payload={payload!r}")
        number = ("no run", "1 run")[len(found)] if len(found) < 2 else f"{len(found)} runs"
        were = "was" if len(found) < 2 else "were"
        expected = "" if count is None else f", not {count}"
        here = [f"{_shown(each)} with payload {self.history(each.id).payload!r}" for each in self.runs()]
        lines = "".join(f"\n  {each}" for each in here[:SHOWN])
        more = f"\n  and {len(here) - SHOWN} more" if len(here) > SHOWN else ""
        raise AssertionError(
            f"{number} with {', '.join(wanted) or 'any payload'} {were} enqueued{expected}; there "
            + (f"are {len(here)} in all:{lines}{more}" if here else "are none at all")
        )

    def _look(self, what: Callable[[Reader], T]) -> T:
        """Read what is durable, whether a runtime has the store open or not."""
        if self._life.store.is_open:
            return _reading(self._life.store.inner, what)
        store = self._place()
        store.open(_OBSERVER)
        try:
            return _reading(store, what)
        finally:
            store.close()

    # -- handlers

    async def perform(
        self,
        task: TaskChoice | Job,
        payload: object = None,
        *,
        attempt: int = 1,
        spent: int | None = None,
        max_attempts: int | None = None,
        timeout: float | None = None,
        app: Any = _ANY,
        trace_id: str | None = None,
        limit: float | timedelta = DAY_S,
    ) -> Performed:
        """
        Call the real handler once, as attempt number `attempt` of a run that is not stored, and say what came of it.

        task: as for `enqueue`; a job is its own payload. spent: tries that earlier attempts used up; None: all of them.
        max_attempts, timeout, trace_id: as for `enqueue`.
        app: as for `simulate`, which is also where it comes from. limit: of the virtual time that goes by meanwhile.
        Raises what `enqueue` raises for a payload or an option, StillBusy, NotRunning.
        """
        if isinstance(task, Job):
            if payload is not None:
                raise TypeError("a job is its own payload: perform takes no other one with it")
            task, payload = type(task), task
        found = self._task(task)
        options: EnqueueOptions = {}
        if max_attempts is not None:
            options["max_attempts"] = max_attempts
        if timeout is not None:
            options["timeout"] = timeout
        if trace_id is not None:
            options["trace_id"] = trace_id
        runtime, life = await self._living(), self._life
        limit_s = limit.total_seconds() if isinstance(limit, timedelta) else limit
        result: Performed | None = None
        with self._time.flowing(), trio.move_on_after(limit_s):
            result = await performed(
                runtime,
                found,
                payload,
                options,
                attempt=attempt,
                spent=spent,
                app=runtime.app if app is _ANY else app,
            )
        if life.is_dead:
            raise NotRunning
        if result is None:
            raise StillBusy(limit_s, (f"the handler of {found.name}, which was called by perform",))
        return result

    def script(self, task: TaskChoice, steps: Sequence[Step] | Step) -> Script:
        """
        From now on each attempt of this task takes the next of these steps instead of calling its handler; after the last
        one the real handler plays. Another script replaces this one. Returns what tells what became of it.
        """
        found = self._task(task)
        script = self._scripts[found] = Script(found.name, checked(steps))
        return script

    async def _understudy(
        self,
        life: Life,
        task: Task[Any, Any],
        actor: RunActor,
        payload: object,
        play: Callable[[], Awaitable[object]],
    ) -> object:
        if life.is_dead:  # a task that had been started when the process was killed, and has its first turn now
            await trio.sleep_forever()
        run = actor.claimed
        played = self._ledger.begins(run.run_id, run.attempt, task.name)
        try:
            script = self._scripts.get(task)
            if script is None:
                return await play()
            step = script.take(run.run_id, run.attempt, payload, self.now)
            return await perform_step(step, play, partial(self._kill, life, comes_back=True), life.killed)
        finally:
            self._ledger.ends(played)

    def _task(self, task: TaskChoice) -> Task[Any, Any]:
        found = self._found(task)
        if len(found) > 1:
            raise InvalidOption("task", f"several Jobs of this world have a task {_name(task)!r}: give the Task itself")
        return found[0]

    def _found(self, task: TaskChoice) -> list[Task[Any, Any]]:
        """All tasks that are meant. Raises UnknownTask when there is none."""
        declared = [each for jobs in self._jobs for each in jobs.tasks.values()]
        if isinstance(task, str):
            found = [each for each in declared if each.name == task]
        elif isinstance(task, Task):
            found = [each for each in declared if each is task]
        else:
            found = [each for each in declared if each.payload_type is task]
        if not found:
            raise UnknownTask(self._jobs[0].identity, str(_name(task)), tuple(each.name for each in declared))
        return found

    # -- processes

    async def crash(self) -> None:
        """
        Kill the process, as kill -9 does: no time goes by, nothing is handed back, and nothing that its handlers still do
        reaches the store. It stays down until `restart`.

        Whoever waits for an answer of its runtime gets OutcomeUnknown. A handler that shields itself from cancellation
        goes on, and nobody listens to it. Raises NotRunning when it is down already.
        """
        life = self._life
        life.alive()
        self._kill(life, comes_back=False)
        await self._buried(life)

    async def restart(self) -> None:
        """
        Start a new process on what the store kept; where the old one lives, it is first closed as leaving `open` closes it.
        Time goes by for that. A crash that was planned (a fault, a `Die`) needs no restart: it is followed by one at once.
        """
        if self._life.comes_back:
            await self._living()
        if not self._life.is_dead:
            await self._leave()
        await self._begin()

    def _kill(self, life: Life, *, comes_back: bool) -> None:
        if life.is_dead:
            return
        life.comes_back = comes_back and not self._closing
        life.kill()
        self._ledger.all_over()
        if life.comes_back:
            self._nursery.start_soon(self._bring_back, life)

    async def _bring_back(self, dead: Life) -> None:
        await self._buried(dead)
        if not self._closing:
            await self._begin()

    async def _buried(self, dead: Life) -> None:
        """Return when all of it has ended that will end by itself."""
        if not dead.gone.is_set():
            await trio.testing.wait_all_tasks_blocked()

    async def _begin(self) -> None:
        self._lives += 1
        n = self._lives
        life: Life

        def written(commands: Sequence[Command]) -> None:
            if any(isinstance(each, Unregister) for each in commands):
                self._ledger.signed_off()

        store = FaultyStore(self._place(), self.faults, lambda: self._kill(life, comes_back=True), written)
        life = self._life = Life(n, store, lambda *a: self._understudy(life, *a))
        seams = Seams.seeded(self._seed * 1_000_003 + n, wall_ns=self._time.wall_ns)
        seams.look_s = LOOK_S
        self._nursery.start_soon(life.live, self._jobs, seams, dict(self._options), name=f"process {n}")
        news, self._news = self._news, trio.Event()
        news.set()
        await life.settled.wait()
        if life.error is not None:
            raise life.error

    async def _living(self) -> Runtime:
        """The runtime, once one is there. Raises NotRunning when none comes by itself."""
        while True:
            life, news = self._life, self._news
            await life.settled.wait()
            if not (life.is_dead and life.comes_back):
                return life.alive()
            await news.wait()

    async def _leave(self) -> None:
        """Close the process in order."""
        life = self._life
        life.leave.set()
        with self._time.flowing():
            await life.gone.wait()

    # -- the books

    async def check(self) -> None:
        """
        Compare what the store keeps with itself, and with what the handlers saw: called at the end of the block too.

        Every run has moved as runs can, ended once, and has all its attempts; each of them has an outcome, and is durable
        before its handler began; two of one run never overlapped; the counters agree with the rows. Raises WrongBooks.
        """
        await self.settle()
        self._check()

    def _check(self, *, closed: bool = False) -> None:
        wrongs = self._look(lambda reader: [*books.wrongs(reader), *self._ledger.wrongs(reader)])
        if closed:
            wrongs += [
                f"{_shown(run)} though its process has closed, and no handler outlived that"
                for run in self.runs()
                if run.status is Status.RUNNING and run.id not in self._ledger.zombies
            ]
        if wrongs:
            raise WrongBooks(tuple(wrongs[:SHOWN]))

    async def _end(self) -> None:
        """The end of the block: close in order what lives, and look at the books."""
        await self.settle()
        self.faults.heal()
        self._closing = True
        is_alive = not self._life.is_dead
        if is_alive:
            await self._leave()
        self._check(closed=is_alive)

    def _give_up(self) -> None:
        """The block has failed: nothing is left to find out."""
        self._closing = True
        if self._life.is_open:
            self._kill(self._life, comes_back=False)
        else:
            self._nursery.cancel_scope.cancel()


def _reading(store: Store, what: Callable[[Reader], T]) -> T:
    reader = store.reader()
    try:
        return what(reader)
    finally:
        reader.close()


def _name(task: TaskChoice | None) -> str | None:
    if task is None or isinstance(task, str):
        return task
    return task.name if isinstance(task, Task) else task.__name__


def _shown(run: Run) -> str:
    return f"run {run.id} of {run.lane.task} on {run.lane.queue} is {run.status}"


def _due(run: Run, now: Now) -> str:
    wait_us = run.due_us - (now.wall_us if run.clock is Clock.WALL else now.steady_us)
    return "due" if run.clock is Clock.AT_ONCE or wait_us <= 0 else f"due in {wait_us / 1e6:g} s"
