"""
Who is told of the steps of one Jobs instance, in this process, whichever runtime or client makes them.

Rule 1: synchronous, after the commit, in the thread that made it. A listener that raises is dropped, and that is said once; the
others are told all the same.
Rule 2: what nobody wants to know costs one comparison for each commit. Whoever begins to listen, and whoever sets the level of
a logger, is heard from the next commit on.
Rule 3: no locks: it may be told in several threads at once, and in a child that was forked meanwhile.
Not here: what makes which event (`told`), the events of one runtime (`witness`).
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import define, field, frozen

from ..errors import MAX_SHOWN, InvalidOption
from ..store.codec import describe
from ..store.contract import Answer, Command, Insert
from .event import Event, EventKind
from .observability import Observability
from .records import Records
from .telemetry import metrics_for, tracing_for
from .told import MADE_BY, Teller

if TYPE_CHECKING:
    from ..port import Port
    from .otel import Tracing

_log = logging.getLogger("callsheet")

EVERY: Final = frozenset(EventKind)
DROPPED_KEPT: Final = 100
"""Listeners that were dropped and are still shown, the last ones."""

Listener: TypeAlias = Callable[[Event], None]


@frozen
class DroppedListener:
    """A listener that raised: it is told nothing more."""

    name: str
    """Of the function, or the type of the object."""
    error: str
    """What it raised, type and message."""
    event: Event
    """What it was told of then."""


@frozen(eq=False)
class _Ear:
    """One listener."""

    kinds: frozenset[EventKind]
    listener: Callable[[Event], object]
    boot_id: str | None
    """Of the one runtime that it listens to; None: to all, and to clients."""


@frozen
class _Wants:
    """What is to be looked at, as long as nobody begins or ends to listen and no level changes."""

    kinds: frozenset[EventKind]
    commands: frozenset[type]
    """Those that can make such events."""


@define(eq=False)
class Bus:
    """Of one Jobs instance."""

    jobs: str
    """`namespace/name`."""
    policy: Observability
    dropped: deque[DroppedListener] = field(factory=lambda: deque(maxlen=DROPPED_KEPT), init=False)
    tracing: Tracing | None = field(default=None, init=False)
    """Makes the spans, where somebody wants them; None where nobody does."""
    _records: Records = field(init=False)
    _ears: dict[object, _Ear] = field(factory=dict, init=False)
    """By a token of their own, so that one callable may listen twice."""
    _memo: dict[int | None, _Wants] = field(factory=dict, init=False)
    """What is wanted, by the lowest level of the log. Replaced as a whole, so that whoever fills an old one spoils nothing."""
    _telling: threading.local = field(factory=threading.local, init=False)
    _metrics: Callable[[], None] | None = field(default=None, init=False)
    """Ends them."""

    def __attrs_post_init__(self) -> None:
        self._records = Records(self.policy)

    def set_up(self) -> None:
        """A runtime or a client is about to open: see whether this program has set up OpenTelemetry by now."""
        self.tracing = tracing_for(self.policy, self.jobs)
        metrics, before = metrics_for(self.policy), self._metrics
        self._metrics = None if metrics is None else self.listen(metrics, metrics.kinds)
        if before is not None:
            before()

    def listen(
        self, listener: Listener, kinds: Iterable[EventKind | str] | None = None, *, boot_id: str | None = None
    ) -> Callable[[], None]:
        """Have it called with every event of these kinds, until the function that is returned is called. Raises TypeError."""
        if not callable(listener):
            raise TypeError(f"a listener is a function of one event, not {type(listener).__name__}")
        call = getattr(listener, "__call__", None)  # noqa: B004 -- not whether there is one, but which
        if inspect.iscoroutinefunction(inspect.unwrap(listener)) or inspect.iscoroutinefunction(call):
            raise TypeError("a listener is a plain function: nobody would wait for an async one; jobs.events() waits")
        token, ear = object(), _Ear(kinds_of(kinds), listener, boot_id)
        self._ears[token] = ear
        self._memo = {}

        def end() -> None:
            if self._ears.pop(token, None) is not None:
                self._memo = {}

        return end

    # -- traces

    async def write(self, port: Port, insert: Insert, *, replayed: str | None = None) -> tuple[Insert, Answer]:
        """
        Have it inserted, and its runs told which trace they are part of. Returns what was inserted, and the answer.

        replayed: the trace context of the run that is replayed.
        """
        if self.tracing is None:
            return insert, await port.write(insert)
        return await self.tracing.write(port, insert, replayed=replayed)

    def trace_context(self) -> str | None:
        """Of what goes on here; None where nobody traces it."""
        return None if self.tracing is None else self.tracing.context()

    # -- telling

    def told(
        self, commands: Sequence[Command], answers: Sequence[Answer | Exception], at_us: int, boot_id: str | None
    ) -> None:
        """
        These were made durable, at that time, by that runtime (None: by a client), with these answers.

        Raises nothing that a listener raises, but for what is no Exception: that is raised when all were told.
        """
        wants = self._wants()
        if wants.commands.isdisjoint(map(type, commands)):
            return
        teller = Teller(self.jobs, wants.kinds, at_us, boot_id)
        events: list[Event] = []
        for command, answer in zip(commands, answers, strict=True):
            if type(command) in wants.commands and not isinstance(answer, Exception):
                events += teller.events(command, answer)
        if events:
            self._tell(events)

    def _wants(self) -> _Wants:
        memo, lowest = self._memo, self._records.lowest()
        wants = memo.get(lowest)
        if wants is None:
            kinds = self._records.kinds(lowest).union(*[ear.kinds for ear in list(self._ears.values())])
            commands = frozenset(command for command, made in MADE_BY.items() if not made.isdisjoint(kinds))
            wants = memo[lowest] = _Wants(kinds, commands)
        return wants

    def _tell(self, events: Sequence[Event]) -> None:
        """What a listener itself makes happen waits until everybody has heard what came before it."""
        waiting: deque[Event] | None = getattr(self._telling, "waiting", None)
        if waiting is not None:
            waiting.extend(events)
            return
        waiting = self._telling.waiting = deque(events)
        raised: BaseException | None = None
        try:
            while waiting:
                raised = self._tell_all(waiting.popleft()) or raised
        finally:
            self._telling.waiting = None
        if raised is not None:
            raise raised

    def _tell_all(self, event: Event) -> BaseException | None:
        with suppress(Exception):  # a filter of the log raised: there is nowhere left to say so
            self._records.write(event)
        raised: BaseException | None = None
        for token, ear in list(self._ears.items()):
            if event.kind not in ear.kinds or token not in self._ears:  # one before it may have ended it
                continue
            if ear.boot_id is not None and ear.boot_id != event.boot_id:
                continue
            try:
                made = ear.listener(event)
                if made is not None and inspect.iscoroutine(made):
                    made.close()
                    raise TypeError("it returned a coroutine, which nobody waits for")
            except BaseException as error:  # noqa: BLE001 -- a stranger's code; dropped and said
                self._drop(token, ear, error, event)
                raised = raised if isinstance(error, Exception) else error
        return raised

    def _drop(self, token: object, ear: _Ear, error: BaseException, event: Event) -> None:
        if self._ears.pop(token, None) is None:
            return
        self._memo = {}
        name = getattr(ear.listener, "__qualname__", type(ear.listener).__qualname__)
        told = describe(error)
        self.dropped.append(DroppedListener(name, f"{told.type}: {told.message[:MAX_SHOWN]}", event))
        with suppress(Exception):  # the handlers of a log are strangers' code too
            _log.exception("a listener to events of %s raised, and is told nothing more: %s", self.jobs, name)


def kinds_of(kinds: Collection[EventKind | str] | Iterable[EventKind | str] | None) -> frozenset[EventKind]:
    """Those that are named; all where none are. Raises InvalidOption."""
    if kinds is None:
        return EVERY
    if isinstance(kinds, str):
        kinds = (kinds,)
    try:
        return frozenset(EventKind(kind) for kind in kinds)
    except (TypeError, ValueError) as error:
        raise InvalidOption("kinds", f"{error}; there are {', '.join(EventKind)}") from None
