"""
A queue as it is declared: where runs wait, and how many of them run at once.

Rule: data, checked when made. Not here: the actor that owns the slots (`callsheet.supervisor.queue`).
"""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

from .errors import InvalidOption, shown
from .names import check_name
from .store.policy import SECOND_US, seconds
from .supervisor.limits import QueueLimits

MAX_CONCURRENCY: Final = 1_000_000
MAX_BATCH: Final = 10_000
"""Runs in one claim: one commit makes them all durable."""


@frozen
class Queue:
    """
    Slots for runs.

    name: unique within its Jobs instance; None for the default queue, named `<name of the instance>-jobs`.
    concurrency: runs on stage at once in this process (1 … 1,000,000). batch_size: runs taken with one claim
    (1 … 10,000). visibility_timeout: the lease in seconds (1 … 86,400); it matters where several runtimes share a store.
    global_limit: runs that may be running at once in the whole store, whoever runs them (1 … 1,000,000); None: any number.

    Raises InvalidOption, InvalidName or TypeError that names the field.
    """

    name: str | None = None
    concurrency: int = field(default=100, kw_only=True)
    batch_size: int = field(default=10, kw_only=True)
    visibility_timeout: float = field(default=15.0, kw_only=True)
    global_limit: int | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name, "queue name")
        check_int(self.concurrency, "Queue(concurrency)", MAX_CONCURRENCY)
        check_int(self.batch_size, "Queue(batch_size)", MAX_BATCH)
        if self.global_limit is not None:
            check_int(self.global_limit, "Queue(global_limit)", MAX_CONCURRENCY)
        lease_s(self.visibility_timeout, "Queue(visibility_timeout)")

    @property
    def limits(self) -> QueueLimits:
        """What of it can be changed at run time."""
        lease_us = int(self.visibility_timeout * SECOND_US)
        return QueueLimits(self.concurrency, self.batch_size, lease_us, self.global_limit)


def lease_s(value: object, what: str) -> float:
    """A lease in seconds (1 … 86,400). Raises InvalidOption or TypeError, which name `what`."""
    try:
        return seconds(value, what, least=1, most=86_400)
    except ValueError as error:
        raise InvalidOption(what, str(error).removeprefix(f"{what} ")) from None


def check_int(value: object, what: str, most: int) -> None:
    """Raise InvalidOption, which names `what`, unless `value` is an int from 1 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidOption(what, f"must be an int, not {type(value).__name__}")
    if not 1 <= value <= most:
        raise InvalidOption(what, f"must be 1 to {most:,}, not {shown(value)}")
