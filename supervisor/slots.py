"""
The slots of a queue: how many runs it may have on stage, and which ones it has.

Rule: what is free is computed from who is there, never only counted; so neither a canceled, nor a stuck, nor a zombie
run is ever counted as gone while it lives. It outlives the queue actor and the task supervisors, like the runs it knows.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from ..actors.run import RunActor, StopReason
from ..store.records import QueueOverride
from .limits import QueueLimits
from .quarantine import Quarantine
from .room import Room


@define(eq=False)
class Slots:
    """Of one queue, by its identity `namespace/queue`."""

    queue: str
    declared: QueueLimits
    """As the code has it."""
    on_stage: dict[str, RunActor | None] = field(factory=dict)
    """By run id; None between its claim and the start of its actor."""
    reserved: int = 0
    """Slots that a claim under way may fill."""
    on_wake: Callable[[], object] = field(default=lambda: None)
    """Set by the queue actor; called once per `wake` until it has looked."""
    woken: bool = False
    quarantine: Quarantine = field(factory=Quarantine)
    """Shared by all queues of a runtime."""
    room: Room = field(factory=Room)
    """Shared by all queues of a runtime."""
    override: QueueOverride | None = field(default=None, init=False)
    """What was said at run time, as far as it is known here."""
    limits: QueueLimits = field(init=False)
    """In force."""
    changes: int = field(default=0, init=False)
    """How often they changed: what was read before the last change may be older than it. (Clocks of processes differ.)"""
    canceled: set[str] = field(factory=set)
    """Those of `on_stage` that were canceled before they had an actor: they are not to have one."""

    def __attrs_post_init__(self) -> None:
        self.limits = self.declared

    @property
    def free(self) -> int:
        """How many more runs may be claimed now; less than none after the limit was lowered."""
        return self.limits.concurrency - len(self.on_stage) - self.reserved

    @property
    def paused(self) -> bool:
        """Whether nothing more of the queue may start."""
        return self.override is not None and self.override.paused

    def adopt(self, override: QueueOverride) -> None:
        """This holds from now on. Whoever read it says it before anything else was said (`changes`)."""
        if override != self.override:
            self.changes += 1
            self.override, self.limits = override, self.declared.under(override)
            self.wake()

    def wake(self) -> None:
        """There may be something to claim, or room for it. Many wakes at once are one."""
        if not self.woken:
            self.woken = True
            self.on_wake()

    def leave(self, run_id: str) -> None:
        """A run's actor has ended, or will never start: its slot is free."""
        self.on_stage.pop(run_id, None)
        if self.canceled:
            self.canceled.discard(run_id)
        if self.quarantine.run_id is not None:
            self.quarantine.leave(run_id)
        self.wake()
        if self.room.limit is not None:
            self.room.freed()

    def cancel(self, run_id: str, claim_id: bytes | None = None) -> None:
        """This run was canceled, durably: stop its handler (of this claim, where given), or see that it never starts."""
        actor = self.on_stage.get(run_id)
        if actor is not None:
            if claim_id is None or actor.claimed.claim_id == claim_id:
                actor.stop(StopReason.CANCELED)
        elif run_id in self.on_stage:
            self.canceled.add(run_id)
