"""
What the facade refuses, or has to say: one sentence each, the facts as fields.

Rule: an error says what was asked of what, why not, and what would do. Unless its docstring says otherwise, nothing was
stored and nothing changed. Errors of the layers below (`PayloadInvalid`, `StoreHeld`, ...) come through as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from attrs import define

from .actors.exits import Exit
from .store.errors import CallsheetError
from .store.records import Error, Status

if TYPE_CHECKING:
    from .guard import Action

MAX_SHOWN: Final = 200
"""Characters of a value that an error shows: any name that is allowed, and of all else the beginning."""


def shown(value: object) -> str:
    """A value as an error shows it: one line of ASCII, cut off where it is long."""
    try:
        text = ascii(value)
    except Exception:  # noqa: BLE001 -- whatever its `__repr__` raises, or an integer of too many digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


@define(slots=False)
class InvalidName(CallsheetError, ValueError):
    """A name, key or id that is empty, too long, or holds characters that could hide what it is."""

    what: str
    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} {self.value[:80]!a} is not allowed: {self.why}"


@define(slots=False)
class InvalidSchedule(CallsheetError, ValueError):
    """A delay, a time or a cadence that cannot be meant: both given, naive, negative, not finite, more than 10 years away."""

    field: str
    why: str

    def __str__(self) -> str:
        return f"{self.field}: {self.why}"


@define(slots=False)
class InvalidOption(CallsheetError, ValueError):
    """An option of `enqueue` or of a declaration that is out of its bounds."""

    option: str
    why: str

    def __str__(self) -> str:
        return f"{self.option}: {self.why}"


@define(slots=False)
class UnknownTask(CallsheetError, LookupError):
    """No task of this name is declared on the Jobs instance."""

    jobs: str
    task: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.jobs} has no task {shown(self.task)}; {_suggest(self.task, self.known)}"


@define(slots=False)
class UnknownQueue(CallsheetError, LookupError):
    """No queue of this name is declared on the Jobs instance."""

    jobs: str
    queue: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.jobs} has no queue {shown(self.queue)}; {_suggest(self.queue, self.known)}"


def _suggest(given: str, known: Iterable[str]) -> str:
    names = sorted(known)
    if not names:
        return "it has none yet"
    if given in names:  # it was given itself
        return "it has another one of this name"
    close = get_close_matches(given, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(repr, names[:10]))}"


@define(slots=False)
class AlreadyDeclared(CallsheetError, ValueError):
    """A name of a task (or an alias, or a kind) or queue is used twice on one Jobs instance, or one is open meanwhile."""

    jobs: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.jobs}: {self.what} cannot be declared: {self.why}"


@define(slots=False)
class NotRegistered(CallsheetError, LookupError):
    """The class of a job is not registered on the Jobs instance, or its kind belongs to another class there."""

    jobs: str
    job: str
    """The class."""
    why: str

    def __str__(self) -> str:
        return f"{self.jobs} does not know the class {self.job}: {self.why}"


@define(slots=False)
class NotInHandler(CallsheetError):
    """`Jobs.current()` was called where no handler runs."""

    def __str__(self) -> str:
        return "Jobs.current() is the instance whose handler runs: there is none here"


@define(slots=False)
class NotOpen(CallsheetError):
    """The Jobs instance has no open runtime in this trio program."""

    jobs: str

    def __str__(self) -> str:
        return f"{self.jobs} is not open here: use it inside `async with jobs.open(...)`"


@define(slots=False)
class AmbiguousRuntime(CallsheetError):
    """Several open runtimes run this Jobs instance, and nothing says which is meant."""

    jobs: str
    n: int

    def __str__(self) -> str:
        return f"{self.jobs} is open {self.n} times here: call it from inside the block of the one you mean"


@define(slots=False)
class ShuttingDown(CallsheetError):
    """The runtime is stopping: its journal takes nothing new."""

    jobs: str

    def __str__(self) -> str:
        return f"{self.jobs} is shutting down: nothing was stored"


@define(slots=False)
class ScheduleNotFound(CallsheetError, LookupError):
    """No schedule with this key is stored for this Jobs instance."""

    jobs: str
    key: str

    def __str__(self) -> str:
        return f"{self.jobs} has no schedule {shown(self.key)}"


@define(slots=False)
class RunNotFound(CallsheetError, LookupError):
    """No run with this id is stored for this Jobs instance."""

    run_id: str

    def __str__(self) -> str:
        return f"there is no run {shown(self.run_id)}"


@define(slots=False)
class RunNotFinished(CallsheetError):
    """What was asked needs a run that has ended: `replay`, `result`."""

    run_id: str
    status: Status
    asked: str = "can be replayed"

    def __str__(self) -> str:
        return f"run {self.run_id} is {self.status}: only a run that has ended {self.asked}"


@define(slots=False)
class RunFailed(CallsheetError):
    """`runs.result` of a run that did not succeed. `error`: what its last attempt raised, where it raised something."""

    run_id: str
    status: Status
    cause: str | None
    error: Error | None

    def __str__(self) -> str:
        why = self.cause or "no cause is known"
        raised = (
            "" if self.error is None else f"; its last attempt raised {self.error.type}: {self.error.message[:200]}"
        )
        return f"run {self.run_id} has no result: it is {self.status} ({why}){raised}"


@define(slots=False)
class ResultNotKept(CallsheetError):
    """`runs.result` of a run that succeeded with a value that could not be kept: too large, or not JSON."""

    run_id: str
    why: str

    def __str__(self) -> str:
        return f"run {self.run_id} succeeded, but what it returned was not kept: {self.why}"


@define(slots=False)
class WaitTimeout(CallsheetError, TimeoutError):
    """`runs.wait` gave up; the run goes on."""

    run_id: str
    status: Status
    timeout_s: float

    def __str__(self) -> str:
        return f"run {self.run_id} is still {self.status} after {self.timeout_s:g} s"


@define(slots=False)
class IdempotencyConflict(CallsheetError):
    """The key, or the id, belongs to a run with another payload or task (`on_conflict="raise"`)."""

    idempotency_key: str | None
    """None: only the id was given."""
    run_id: str

    def __str__(self) -> str:
        if self.idempotency_key is None:
            return f"run {shown(self.run_id)} is there already, with another payload or task"
        return (
            f"idempotency key {self.idempotency_key!a} belongs to run {self.run_id}, which has another payload or task"
        )


@define(slots=False)
class PolicyDenied(CallsheetError):
    """
    The policy of the Jobs instance does not allow it: nothing was changed.

    It tells what was asked for, as the caller named it, and nothing of what is stored. What the policy raised is chained.
    """

    subject: object
    """On whose behalf it was asked; None: the program itself."""
    action: Action
    what: str
    reason: str
    """The policy's, or what was wrong with its answer."""

    def __str__(self) -> str:
        who = "the program" if self.subject is None else shown(self.subject)
        return f"{who} may not {self.action} {self.what}: {self.reason}"


@define(slots=False)
class TooMany(CallsheetError, ValueError):
    """More runs in one `enqueue_many` than the limit."""

    n: int
    limit: int

    def __str__(self) -> str:
        return f"{self.n:,} runs in one call, the limit is {self.limit:,}: split them"


@define(slots=False)
class RuntimeGaveUp(CallsheetError):
    """The runtime could not keep itself alive, so the block that opened it was cancelled. The causes are chained."""

    exit: Exit

    def __str__(self) -> str:
        return f"the runtime gave up: {self.exit}; every acknowledged run is kept and goes on at the next open"


@define(slots=False)
class NotPublished(CallsheetError, LookupError):
    """A Client without the code asked for Jobs that no runtime has published in this store, or not in a form it can read."""

    store: str
    jobs: str | None
    """None: it did not say which, and there is not exactly one."""
    why: str

    def __str__(self) -> str:
        which = "which Jobs are meant is not clear" if self.jobs is None else f"no definition of {shown(self.jobs)}"
        return f"{self.store}: {which}: {self.why}"
