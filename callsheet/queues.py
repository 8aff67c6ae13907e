"""
Steering queues while they work: pause, resume, other limits. What is said here is durable, and holds for all processes.

Rule: it is put over what the code declares, never mixed with it: both are shown, and `reset` takes it away.
Not here: what a queue is declared as (`queue`), who obeys (`supervisor.slots`, the store's claim).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from . import guard
from .errors import InvalidOption
from .guard import Action
from .queue import MAX_BATCH, MAX_CONCURRENCY, Queue, check_int, lease_s
from .store.contract import Reader, SetQueue
from .store.policy import SECOND_US
from .store.records import NO_LIMIT, Count, QueueOverride, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .jobs import Jobs
    from .port import Port
    from .supervisor.slots import Slots


@frozen
class QueueState:
    """A queue as it works now. The limits are those in force; `declared` has the code's, `override` what was said since."""

    name: str
    paused: bool
    """Whether nothing of it is started. What runs goes on."""
    concurrency: int
    """Slots in each runtime."""
    batch_size: int
    global_limit: int | None
    """Runs that may be running in the whole store; None: any number."""
    visibility_timeout: float
    """Seconds."""
    declared: Queue
    override: QueueOverride | None
    """What was said at run time, field by field; None where nothing was."""
    running: int
    """Rows that are running, whoever runs them."""
    available: int
    """How many more could start here now; 0 where this runtime does not watch the queue."""
    waiting: Mapping[Status, int]
    """Rows that are queued, scheduled, retrying."""


class Queues:
    """
    The queues of one Jobs instance. `name`: of a declared one; None: the default one.

    Every call raises PolicyDenied for what the policy of guarded Jobs does not allow; nothing was changed then. Who may steer a
    queue is answered with its state.
    """

    def __init__(self, jobs: Jobs, reach: Callable[[], Port]) -> None:
        self._jobs = jobs
        self._reach = reach

    async def pause(self, name: str | None = None) -> QueueState:
        """Start nothing more of it, in any process, until `resume`; what runs goes on. Raises UnknownQueue."""
        return await self._say(SetQueue(self._identity(name), paused=True))

    async def resume(self, name: str | None = None) -> QueueState:
        """End a pause. Raises UnknownQueue."""
        return await self._say(SetQueue(self._identity(name), paused=False))

    async def set(
        self,
        name: str | None = None,
        *,
        concurrency: int | None = None,
        batch_size: int | None = None,
        global_limit: int | None = None,
        visibility_timeout: float | None = None,
    ) -> QueueState:
        """
        Put these limits over the declared ones, in all processes, until `reset`. What is left out stays as it is.

        concurrency: 1 … 1,000,000, in each runtime; a lower one ends nothing that runs. batch_size: 1 … 10,000. global_limit:
        1 … 1,000,000, or 0 for none although the code declares one. visibility_timeout: seconds, 1 … 86,400.

        Raises InvalidOption, TypeError, UnknownQueue: nothing was changed.
        """
        if concurrency is None is batch_size is global_limit is visibility_timeout:
            raise InvalidOption("set", "name at least one limit; reset() takes them away")
        if concurrency is not None:
            check_int(concurrency, "concurrency", MAX_CONCURRENCY)
        if batch_size is not None:
            check_int(batch_size, "batch_size", MAX_BATCH)
        if global_limit is not None and (global_limit != NO_LIMIT or isinstance(global_limit, bool)):
            check_int(global_limit, "global_limit", MAX_CONCURRENCY)
        lease_us = (
            None if visibility_timeout is None else int(lease_s(visibility_timeout, "visibility_timeout") * SECOND_US)
        )
        said = SetQueue(
            self._identity(name),
            concurrency=concurrency,
            batch_size=batch_size,
            global_limit=global_limit,
            visibility_us=lease_us,
        )
        return await self._say(said)

    async def reset(self, name: str | None = None) -> QueueState:
        """Let the declared limits hold again. A pause stays. Raises UnknownQueue."""
        return await self._say(SetQueue(self._identity(name), reset=True))

    async def get(self, name: str | None = None) -> QueueState:
        """As it works now. Raises UnknownQueue."""
        identity = self._identity(name)
        guard.require(self._jobs, Action.READ)
        return await self._state(identity)

    async def list(self) -> tuple[QueueState, ...]:
        """All of them, the default one first."""
        guard.require(self._jobs, Action.READ)
        return await self._states()

    def _identity(self, name: str | None) -> str:
        return next(iter(self._jobs.declared_queues)) if name is None else self._jobs.queue_named(name)

    async def _say(self, said: SetQueue) -> QueueState:
        guard.require(self._jobs, Action.STEER, queue=_short(said.queue))
        await self._reach().write(said)
        return await self._state(said.queue)

    async def _state(self, identity: str) -> QueueState:
        return next(each for each in await self._states() if each.name == _short(identity))

    async def _states(self) -> tuple[QueueState, ...]:
        port = self._reach()

        def look(reader: Reader) -> tuple[Sequence[Count], Sequence[QueueOverride]]:
            snapshot = reader.snapshot(limit=0)
            return snapshot.counts, snapshot.queues

        counts, overrides = await port.read(look)
        return states(self._jobs, counts, overrides, port.slots)


def states(
    jobs: Jobs, counts: Sequence[Count], overrides: Sequence[QueueOverride], slots: Mapping[str, Slots]
) -> tuple[QueueState, ...]:
    """The queues of `jobs`, from one reading of the store and the slots of this runtime."""
    said = {each.queue: each for each in overrides}
    return tuple(
        [
            _state(identity, queue, counts, said.get(identity), slots.get(identity))
            for identity, queue in jobs.declared_queues.items()
        ]
    )


def _state(
    identity: str, queue: Queue, counts: Sequence[Count], override: QueueOverride | None, slots: Slots | None
) -> QueueState:
    limits = queue.limits.under(override)
    rows = dict.fromkeys(Status, 0)
    for count in counts:
        if count.lane.queue == identity:
            rows[count.status] += count.n
    paused = override is not None and override.paused
    free = 0 if slots is None or paused else max(0, slots.free)
    if slots is not None and slots.room.limit is not None:
        free = max(0, min(free, slots.room.free))
    if limits.global_limit is not None:
        free = max(0, min(free, limits.global_limit - rows[Status.RUNNING]))
    return QueueState(
        name=_short(identity),
        paused=paused,
        concurrency=limits.concurrency,
        batch_size=limits.batch_size,
        global_limit=limits.global_limit,
        visibility_timeout=limits.lease_us / SECOND_US,
        declared=queue,
        override=override,
        running=rows[Status.RUNNING],
        available=free,
        waiting={status: rows[status] for status in Status if status.is_waiting},
    )


def _short(identity: str) -> str:
    return identity.partition("/")[2]
