"""
A logical actor: what stays the same while its incarnations come and go.

Rule 1: a child's exception never reaches the nursery; it becomes an Exit, and the parent is told after all cleanup.
Rule 2: the parent is a protocol (`Parent`); this file knows no supervisor.
Rule 3: an incarnation whose functions are all plain has no task: the dispatcher gives it its turn. It gets a task when
    one of them returns something to await, and keeps it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio
from attrs import define, field

from .actor import BATCH, LOOK_EVERY, SLICE_S, Actor
from .alarms import Alarms, Tick
from .checked import declared
from .errors import ActorDown, StartTimeout
from .exits import NORMAL, SHUTDOWN, Crashed, Exit, Killed, StartFailed, ends_program, error_of
from .incarnation import First, crashed_after, live
from .mailbox import UNBOUNDED, Mail, Mailbox
from .ref import Ref
from .refusal import refuse
from .reply import Reply, reply_of
from .states import CellState, Parent
from .undelivered import Why
from .watch import Down, Monitor, Restarted, is_news_for

if TYPE_CHECKING:
    from .stage import Stage

M = TypeVar("M")

_log = logging.getLogger("callsheet.actors")


@define(eq=False, repr=False)
class Cell(Generic[M]):
    """One logical actor: path, mailbox, and at most one living incarnation."""

    stage: Stage
    path: str
    """`/tasks/app/background/deliver-webhook`: unique while it lives."""
    name: str
    """What its siblings are told apart by; it may contain "/"."""
    factory: Callable[[], Actor[M]]
    parent: Parent
    kind: str = "actor"
    """For whoever looks at the tree: supervisor, task, queue, ..."""
    mail: Mail = UNBOUNDED
    mailbox: Mailbox[M] = field(init=False)
    ref: Ref[M] = field(init=False)
    state: CellState = field(default=CellState.DOWN, init=False)
    generation: int = field(default=0, init=False)
    """Counts incarnations."""
    actor: Actor[M] | None = field(default=None, init=False)
    task: trio.lowlevel.Task | None = field(default=None, init=False)
    """Of the incarnation, where it has one."""
    started_s: float = field(default=-math.inf, init=False)
    """When the last incarnation had started, on `Clock.mono_s`."""
    _has_run: bool = field(default=False, init=False)
    """Whether the last incarnation got through its start."""
    healthy: bool = field(default=False, init=False)
    """The last incarnation said that it is well."""
    stopping: bool = field(default=False, init=False)
    closed: bool = field(default=False, init=False)
    """Nothing is put into the mailbox any more."""
    exit: Exit | None = field(default=None, init=False)
    """Of the last incarnation that ended."""
    _former: Exit = field(default=SHUTDOWN, init=False)
    """Of the incarnation before the one that lives."""
    parked: bool = field(default=False, init=False)
    """Its supervisor gave up on it; what is sent to it waits."""
    shelved: bool = field(default=False, init=False)
    """It is down, and nobody starts it again unless asked to."""
    accepts: tuple[type, ...] | None = field(default=None, init=False)
    """In checked mode: the messages that its actor declares."""
    _leaving: Exit | None = field(default=None, init=False)
    """How it ends by itself, once it wants to."""
    _killed: bool = field(default=False, init=False)
    _draining: bool = field(default=False, init=False)
    _scope: trio.CancelScope | None = field(default=None, init=False)
    """Around the incarnation's task, where it has one."""
    _settled: trio.Event | None = field(default=None, init=False)
    """Set when the incarnation has started, or failed to."""
    _gone: trio.Event | None = field(default=None, init=False)
    """Set when the incarnation has ended, cleanup included."""
    _ended: trio.Event | None = field(default=None, init=False)
    _alarms: Alarms[M] | None = field(default=None, init=False)
    _asks: dict[Reply[Any], None] | None = field(default=None, init=False)
    _watchers: dict[Monitor, None] | None = field(default=None, init=False)
    _watching: dict[Monitor, None] | None = field(default=None, init=False)
    _tries: tuple[object, int, int] | None = field(default=None, init=False)
    """The message that was redelivered last, how often, and after which generation; starts that failed count as one with it."""

    def __attrs_post_init__(self) -> None:
        self.mailbox = Mailbox(self.mail) if self.mail is UNBOUNDED else Mailbox(self.mail, self.refuse)
        self.ref = Ref(self)

    def __repr__(self) -> str:
        return f"<Cell {self.path or '/'}: {self.state}>"  # what it holds leads to all others

    # -- what a supervisor does with it

    async def start(self, budget_s: float = math.inf) -> Exit | None:
        """
        Begin an incarnation and wait until its `on_start` returned: None, or the exit of one that did not get there.

        One that takes longer than `budget_s` is killed; this returns when it is gone, or ignores that for as long again.
        """
        if self.begin() or budget_s == math.inf:
            return await self.wait_settled()
        with trio.move_on_after(budget_s):
            return await self.wait_settled()
        self.kill()
        with trio.move_on_after(budget_s):
            await self.wait_gone()
        self.exit = StartFailed(StartTimeout(self.path, budget_s))
        return self.exit

    async def wait_settled(self) -> Exit | None:
        """Return when the incarnation has started (None), or how it failed to; at once when that is known."""
        if self.is_alive and not self._has_run:
            if self._settled is None:
                self._settled = trio.Event()
            await self._settled.wait()
        return None if self._has_run else self.exit or SHUTDOWN

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C belongs to the main task, whatever runs when it comes
    def begin(self) -> bool:
        """Begin an incarnation; whether it has started, or failed to, at once."""
        assert self.state is CellState.DOWN, f"{self.path} is {self.state}"
        if self.generation and not self.mail.keep:  # not at the end of the former one: no restart may have followed
            self._refuse_all(Why.RESTART)
        self.generation += 1
        self.state, self._former, self.exit = CellState.STARTING, self.exit or SHUTDOWN, None
        self.stopping = self._killed = self._draining = self.healthy = self.closed = False
        self.parked = self.shelved = False
        self._has_run, self._leaving = False, None
        made: object = ...
        try:
            made = actor = self.factory()
            other = getattr(actor, "cell", None)
            if other is not None and other.actor is actor:
                raise ValueError(
                    f"what makes {self.path} must return a new Actor each time: this one lives as {other.path}"
                )
            self.actor = actor
            actor.cell = self
            if self.stage.checked:
                self.accepts = declared(type(actor))  # type: ignore[arg-type]  # a class is hashable, whatever its type parameter
            starting = actor.on_start()
        except BaseException as error:  # noqa: BLE001 -- its supervisor judges it
            self.finish(StartFailed(self._no_actor(made) or error))
            return True
        if starting is None and actor.is_plain:
            self.has_started()
            self._next()
            return True
        self._spawn(actor, starting=starting)
        return False

    def _no_actor(self, made: object) -> TypeError | None:
        """What to say instead of "has no attribute"; asked when the start has failed, so that one that has not pays nothing."""
        if made is ... or isinstance(made, Actor):
            return None
        return TypeError(f"what makes {self.path} must return an Actor, not {made!r}")

    def request_stop(self, *, drain: bool = False) -> None:
        """
        Ask it to stop: it handles the message in hand, runs `on_stop`, and ends. Twice does nothing.

        drain: take nothing more, and handle what waits first. Whoever has a `run` of its own is only asked to stop.
        """
        if self.state not in (CellState.STARTING, CellState.RUNNING):
            return
        self.state = CellState.STOPPING
        if drain and self.actor is not None and type(self.actor).run is Actor.run:
            self._draining = self.closed = True
            self.mailbox.wake()
            return
        self._stop()
        if self.actor is not None:
            self.actor.told_to_stop()

    def _stop(self) -> None:
        self.stopping = self.mailbox.urgent = True
        if not self._finish_idle():
            self.mailbox.wake()

    def is_drained(self) -> None:
        """Nothing waits: if that is what the stop waited for, stop."""
        if self._draining:
            self.stopping = True

    def leave(self, exit_: Exit | None = None) -> None:
        """End by itself, after the message in hand: normally, or as `exit_` says."""
        if self.actor is not None and not self.stopping:
            self._leaving = exit_ or NORMAL
            self._stop()

    def kill(self) -> None:
        """Cancel it where it stands."""
        if self.state in (CellState.DOWN, CellState.ENDED):
            return
        self._killed = True
        if self._scope is not None:
            self._scope.cancel()
        else:
            self._stop()

    async def wait_gone(self) -> None:
        """Return when the incarnation has ended; at once when there is none."""
        if self.state in (CellState.DOWN, CellState.ENDED):
            return
        if self._gone is None:
            self._gone = trio.Event()
        await self._gone.wait()

    def park(self) -> None:
        """Its supervisor gave up on it. Whoever asked to hear of undelivered messages gets what waits and what comes."""
        self.parked = self.shelved = True
        if self.mail.on_undelivered is not None:
            self.closed = True
            self.mailbox.close(self.down)
            self._refuse_all(Why.PARKED)
        else:
            self.shelve()

    def shelve(self) -> None:
        """Nobody knows when it comes back: what was told can wait for that, whoever asked hears at once."""
        self.shelved = True
        if self._asks:
            asks = self._asks
            self.mailbox.discard(lambda each: reply_of(each) in asks)
            self._fail_asks()

    def leave_behind(self) -> None:
        """It ignores its cancellation: its supervisor goes on without it, and whoever waits for its answer hears of that."""
        self.state = CellState.ZOMBIE
        self.shelve()

    def end(self) -> None:
        """No incarnation will follow: the name is free, every waiting request fails, whoever watches is told."""
        if self.state is CellState.ENDED:
            return
        self.state, self.closed = CellState.ENDED, True
        self.stage.registry.pop(self.path, None)
        self.mailbox.close(self.down)  # first, or those who wait to send would be let in where nobody reads any more
        self._refuse_all(Why.ENDED)
        for monitor in list(self._watchers or ()):
            monitor.tell(Down(monitor, self.exit or SHUTDOWN))
        if self._ended is not None:
            self._ended.set()

    async def wait_ended(self) -> Exit:
        """Return when no incarnation will follow."""
        if self.state is not CellState.ENDED:
            if self._ended is None:
                self._ended = trio.Event()
            await self._ended.wait()
        else:
            await trio.lowlevel.checkpoint()
        return self.exit or SHUTDOWN

    @property
    def is_alive(self) -> bool:
        """Whether an incarnation lives, or is on its way up."""
        return self.state in (CellState.STARTING, CellState.RUNNING, CellState.STOPPING)

    # -- messages

    def down(self) -> ActorDown:
        """Why it does not answer."""
        zombie = self.state is CellState.ZOMBIE
        return ActorDown(self.path, Killed("it ignores that") if zombie else self.exit or SHUTDOWN)

    def refuse(self, message: object, why: Why = Why.ENDED, error: BaseException | None = None) -> None:
        """This message is handled by nobody, or died with us by `error`."""
        refuse(self, message, why, error)

    def crashed_over(self, message: M, error: BaseException) -> None:
        """`message` was in hand when we crashed: the next incarnation gets it again, or it is undelivered."""
        if type(message) is Tick:
            return
        former, tries, generation = self._tries or (None, 0, 0)
        if former is not message or generation + 1 != self.generation:  # the same object may be told many times
            tries = 0
        if tries < self.mail.redeliver:
            self._tries = (message, tries + 1, self.generation)
            self.mailbox.put_back([message])
        else:
            self._tries = None
            self.refuse(message, Why.CRASHED_OVER, error)

    def _refuse_all(self, why: Why) -> None:
        for message in self.mailbox.take_now():
            self.refuse(message, why)

    @property
    def asks(self) -> dict[Reply[Any], None]:
        """Where answers are waited for."""
        if self._asks is None:
            self._asks = {}
        return self._asks

    def _fail_asks(self) -> None:
        """Whoever waits for an answer of this incarnation gets none; what still waits in the mailbox has its chance."""
        waiting = {reply_of(each) for each in self.mailbox}
        for reply in [each for each in self._asks or () if each not in waiting]:
            reply.fail(self.down())

    # -- alarms and monitors

    @property
    def alarms(self) -> Alarms[M]:
        """Of this incarnation."""
        if self._alarms is None:
            deliver: Callable[[Any], object] = self.mailbox.put_control
            self._alarms = Alarms(self.stage.timers, self.stage.seams.clock, deliver, self.path)
        return self._alarms

    def ring(self, tick: Any) -> Awaitable[None] | None:
        """Handle what an alarm sent, unless it was cancelled since."""
        if not tick.live or self.actor is None:
            return None
        return self.actor.receive(tick.message)

    def monitor(self, ref: Ref[Any], *, incarnation: bool) -> Monitor:
        """See `Actor.monitor`."""
        target: Cell[Any] = ref._cell  # noqa: SLF001 -- a Ref and its cell are one thing
        monitor = Monitor(target, self, incarnation)
        if target.state is CellState.ENDED or (incarnation and not target.is_alive):
            monitor.tell(Down(monitor, target.exit or SHUTDOWN))
        else:
            target.watchers[monitor] = None
            self.watching[monitor] = None
        return monitor

    @property
    def watchers(self) -> dict[Monitor, None]:
        """Who monitors us."""
        if self._watchers is None:
            self._watchers = {}
        return self._watchers

    @property
    def watching(self) -> dict[Monitor, None]:
        """Whom this incarnation monitors."""
        if self._watching is None:
            self._watching = {}
        return self._watching

    def opened(self, messages: list[Any]) -> list[Any]:
        """The same, with what alarms sent in place of their ticks."""
        if self._alarms is None:
            return messages
        return [each.message if type(each) is Tick else each for each in messages if _is_live(each)]

    def _forget_own(self) -> None:
        """What only this incarnation could make use of: its alarms and monitors, and what they sent."""
        if self._alarms is not None:
            self._alarms.cancel_all()
            self._alarms = None
        for monitor in list(self._watching or ()):
            monitor.forget()
        self.mailbox.discard(self._is_own)

    def _is_own(self, message: object) -> bool:
        return type(message) is Tick or is_news_for(self, message)

    # -- an incarnation without a task

    def wake(self) -> None:
        """See `Wakeable.wake`."""
        self.stage.dispatch(self)

    @property
    def is_idle(self) -> bool:
        """Whether it lives without a task, has nothing in hand, and nothing waits."""
        return self.mailbox.is_read_by(self) and not self.closed

    @trio.lowlevel.enable_ki_protection  # whoever asks may be the main task
    def handle_now(self, message: Any) -> None:
        """Take an idle actor's turn at once, for one message: as the dispatcher would, and in its context."""
        self.mailbox.forget_reader()
        self.mailbox.put_news(message)
        self.stage.run_in_context(self.pump)

    def pump(self) -> None:
        """Handle a batch. Called by the dispatcher, never twice at a time."""
        actor, mailbox = self.actor, self.mailbox
        if actor is None or self.stopping:
            self._next()
            return
        messages, done = mailbox.take(BATCH), 0
        receive, now_s = actor.receive, self.stage.seams.clock.mono_s
        until_s = now_s() + SLICE_S if len(messages) >= LOOK_EVERY else 0.0
        try:
            for message in messages:
                done += 1
                waiting = receive(message) if type(message) is not Tick else self.ring(message)
                if waiting is not None:
                    mailbox.put_back(messages[done:])
                    self._spawn(actor, handling=waiting, message=message)
                    return
                if mailbox.urgent or (not done % LOOK_EVERY and now_s() > until_s):
                    break
        except BaseException as error:  # noqa: BLE001 -- its supervisor judges it
            mailbox.put_back(messages[done:])
            self.crashed_over(messages[done - 1], error)
            self._stop_plain(Crashed(error))
            return
        if done < len(messages):
            mailbox.put_back(messages[done:])
        self._next()

    def _next(self) -> None:
        """Between two batches of an incarnation without a task."""
        if self.actor is None:
            return
        if self._draining and not len(self.mailbox):
            self.stopping = True
        if self.stopping:
            self._stop_plain(self.own_exit())
        elif not self.mailbox.wait_with(self):
            self.stage.dispatch(self)

    def _finish_idle(self) -> bool:
        """End now, if there is no task and nothing in hand."""
        if not self.mailbox.is_read_by(self):
            return False
        self.mailbox.forget_reader()
        self._stop_plain(self.own_exit())
        return True

    def _stop_plain(self, exit_: Exit) -> None:
        assert self.actor is not None, "it has not ended yet"
        self.state = CellState.STOPPING
        try:
            cleaning = self.actor.on_stop()
        except BaseException as error:  # noqa: BLE001 -- its supervisor judges it
            cleaning, exit_ = None, crashed_after(exit_, error)
        if cleaning is None:
            self.finish(exit_)
        else:
            self._spawn(self.actor, cleaning=cleaning, exit_=exit_)

    # -- an incarnation with a task

    def _spawn(self, actor: Actor[M], **first: Any) -> None:
        self._scope = trio.CancelScope()
        if self._killed:
            self._scope.cancel()
        self.stage.spawn(live, self.path, self, self._scope, actor, First(**first))

    # -- its beginning and its end

    def own_exit(self) -> Exit:
        """How an incarnation that has not crashed ends."""
        return self._leaving or (SHUTDOWN if self.stopping else NORMAL)

    def has_started(self) -> None:
        """Its start is over, and it lives."""
        if self.state is CellState.STARTING:
            self.state = CellState.RUNNING
        self._has_run = True
        self.started_s = self.stage.seams.clock.mono_s()
        if self._watchers and self.generation > 1:
            for monitor in list(self._watchers):
                if not monitor.incarnation:
                    monitor.tell(Restarted(monitor, self.generation, self._former))
        if self._settled is not None:
            self._settled.set()

    def is_stopping(self) -> None:
        """It handles nothing more, and cleans up."""
        if self.state is not CellState.ZOMBIE:  # a zombie that comes round is one until it has ended
            self.state = CellState.STOPPING

    def finish(self, exit_: Exit) -> None:
        """The incarnation is over: everything of it goes, what is the actor's stays."""
        if self._killed:
            exit_ = Killed()
        if self._tries is not None and not self._has_run:
            self._tries = (*self._tries[:2], self.generation)
        self.actor = self.task = self._scope = None
        self.exit, self.state = exit_, CellState.DOWN
        if self._alarms is not None or self._watching is not None:
            self._forget_own()
        if self._watchers:
            for monitor in [each for each in self._watchers if each.incarnation]:
                monitor.tell(Down(monitor, exit_))
        if self._asks:
            self._fail_asks()
        if self._settled is not None:
            self._settled.set()
        if self._gone is not None:
            self._gone.set()
        self._settled = self._gone = None
        error = error_of(exit_)
        if error is not None and ends_program(error):
            self.stage.on_fatal(error)  # no supervisor shall mend that
        self.parent.child_exited(self, exit_)


def _is_live(message: object) -> bool:
    return not isinstance(message, Tick) or message.live
