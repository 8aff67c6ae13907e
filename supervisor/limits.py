"""
The limits of a queue: as the code declares them, and as they are in force once something was said at run time.

Rule: pure data. What was said at run time wins, field by field, until it is reset.
Not here: who is on stage (`slots`), what is said (`callsheet.queues`), where that is kept (the store).
"""

from __future__ import annotations

from attrs import frozen

from ..store.records import NO_LIMIT, QueueOverride


@frozen
class QueueLimits:
    """Of one queue."""

    concurrency: int
    """Runs on stage at once in one runtime."""
    batch_size: int = 10
    """Runs per claim, at most."""
    lease_us: int = 15_000_000
    global_limit: int | None = None
    """Running rows in the whole store; None: any number."""

    def under(self, override: QueueOverride | None) -> QueueLimits:
        """These limits with what `override` says put over them."""
        if override is None:
            return self
        said = override.global_limit
        return QueueLimits(
            self.concurrency if override.concurrency is None else override.concurrency,
            self.batch_size if override.batch_size is None else override.batch_size,
            self.lease_us if override.visibility_us is None else override.visibility_us,
            self.global_limit if said is None else None if said == NO_LIMIT else said,
        )
