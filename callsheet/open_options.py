"""
What opening takes beside the store, checked before anything is opened.

Rule: whoever gave a wrong option is told which, and nothing was changed. Not here: opening (`opening`).
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final, TypedDict

from .actors.seams import Seams
from .errors import InvalidOption, UnknownQueue
from .jobs import Jobs
from .queue import MAX_CONCURRENCY, check_int
from .store.policy import seconds

if TYPE_CHECKING:
    from .monitor import Monitor

GRACE_S: Final = 8.0
"""Default for how long work in hand may go on once a runtime stops."""
MAX_GRACE_S: Final = 86_400.0


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


def check_options(jobs: tuple[Jobs, ...], options: OpenOptions) -> float:
    """The grace in seconds. Raises InvalidOption or TypeError that says what of the rest cannot be."""
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


def watched_queues(jobs: tuple[Jobs, ...], names: Sequence[str] | None) -> tuple[str, ...]:
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
