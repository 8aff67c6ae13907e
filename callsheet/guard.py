"""
Who may do what with the runs of a Jobs instance: its policy is asked, and what it does not clearly allow is denied.

Rule 1: whoever does or tells something asks here first: the calls of Jobs and of clients, handlers, the monitor.
Rule 2: it fails closed: True allows, and nothing else does, whatever the policy raises or answers.
Rule 3: what is denied tells nothing of what is stored: only what was asked for, by the name that the caller gave it.
Not here: who somebody is. The program knows, and says so with `acting_as`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio
from attrs import define, evolve, field, frozen

from .errors import PolicyDenied, shown
from .handler import function_of

if TYPE_CHECKING:
    from .jobs import Jobs
    from .store.records import Run
    from .task import Task

_log = logging.getLogger("callsheet.guard")

SAYS_NO: Final = "the policy says no"
FAILED: Final = "the policy failed"
NO_ANSWER: Final = "the policy gave no answer"
MAX_REASON: Final = 200
"""Characters of a policy's reason that are passed on."""
MAX_TOLD: Final = 100
"""Kinds of failures of one policy that are logged, each once: more of them tell nobody anything new."""

_subject: Final[ContextVar[object]] = ContextVar("callsheet_subject")
_NOBODY: Final = object()


class Action(StrEnum):
    """What somebody wants to do."""

    ENQUEUE = "enqueue"
    READ = "read"
    CANCEL = "cancel"
    REPLAY = "replay"
    STEER = "steer"
    """Pause, resume or limit a queue; unpark a task; make, change, pause, resume, trigger or delete a schedule."""


@frozen
class Access:
    """What a policy is asked: may the subject do this?"""

    subject: object
    """
    As `acting_as` or `client(subject=)` says; "task:<namespace>/<name>/<task>" in a handler, "monitor" for the monitor; None:
    the program itself, or whoever did not say.
    """
    action: Action
    jobs: str
    """`namespace/name`."""
    task: str | None
    """By the name that it has now. None: runs of any task, counters, queues; or a run that is not stored."""
    run: Run | None
    """As a list shows it, without its payload. None: a new one, several, or one that is not stored."""
    queue: str | None = None
    """The name, without the namespace, of a queue that is steered."""


Policy: TypeAlias = Callable[[Access], bool | str]
"""True allows; False denies; a text denies, and says why. A plain function that waits for nothing, called in any thread."""


# ---------------------------------------------------------------- on whose behalf


@contextmanager
def acting_as(subject: object) -> Iterator[None]:
    """Do what is in the block on behalf of `subject`: any value that the policy knows. Tasks started in it inherit it."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context than it was entered in, as fixtures are: that one is gone
            _subject.reset(token)


def as_task(task: Task[Any, Any]) -> AbstractContextManager[None]:
    """`acting_as` the handler of this task."""
    return acting_as(f"task:{task.jobs.identity}/{task.name}")


def subject_of() -> object:
    """On whose behalf we act; None: the program itself."""
    return _subject.get(None)


def is_acting() -> bool:
    """Whether it was said on whose behalf."""
    return _subject.get(_NOBODY) is not _NOBODY


# ---------------------------------------------------------------- asking


def require(
    jobs: Jobs,
    action: Action,
    *,
    task: str | None = None,
    run: Run | None = None,
    run_id: str | None = None,
    queue: str | None = None,
    schedule: str | None = None,
) -> None:
    """Raise PolicyDenied unless there is no policy, or it allows this; see `Guard.denial`."""
    if jobs.policy is not None:
        denied = jobs.policy.denial(action, task=task, run=run, run_id=run_id, queue=queue, schedule=schedule)
        if denied is not None:
            raise denied


def may_read(jobs: Jobs, run: Run) -> bool:
    """Whether whoever we act for may read this run of `jobs`."""
    return jobs.policy is None or jobs.policy.denial(Action.READ, run=run, run_id=run.id) is None


def may_see(jobs: Jobs, task: str) -> bool:
    """Whether whoever we act for may read what is stored of this task of `jobs`, beside its runs."""
    return may_do(jobs, Action.READ, task)


def may_do(jobs: Jobs, action: Action, task: str) -> bool:
    """Whether whoever we act for may do this with what is stored of this task of `jobs`, beside its runs."""
    return jobs.policy is None or jobs.policy.denial(action, task=task) is None


@define(eq=False)
class Guard:
    """The policy of one Jobs instance."""

    jobs: Jobs = field(repr=False)
    policy: Policy
    _told: set[str] = field(factory=set, init=False, repr=False)

    def denial(
        self,
        action: Action,
        *,
        task: str | None = None,
        run: Run | None = None,
        run_id: str | None = None,
        queue: str | None = None,
        schedule: str | None = None,
    ) -> PolicyDenied | None:
        """
        Why whoever we act for may not do this; None where it may.

        task, run_id, queue, schedule: as they were asked for; with a schedule the task is what is stored of it. run: what is
        stored of it, where it is.
        """
        subject, name = subject_of(), task if run is None else run.task
        known = self.jobs.aliases.get(name or "")
        bare = run if run is None or run.payload is None else evolve(run, payload=None)
        access = Access(subject, action, self.jobs.identity, name if known is None else known.name, bare, queue)
        reason, cause = self._answer(access)
        if reason is None:
            return None
        denied = PolicyDenied(subject, action, self._what(action, task, run_id, queue, schedule), reason)
        denied.__cause__ = cause
        return denied

    def _answer(self, access: Access) -> tuple[str | None, BaseException | None]:
        """Why not, and what the policy raised."""
        try:
            answer: object = self.policy(access)
            if answer is True:
                return None, None
            if answer is False:
                return SAYS_NO, None
            if isinstance(answer, str):
                return _one_line(answer) or SAYS_NO, None
            if inspect.iscoroutine(answer):
                answer.close()
        except BaseException as error:
            if _is_for_others(error):
                raise
            self._tell("raised", type(error), access, error)
            return FAILED, error
        self._tell("answered with", type(answer), access, None)
        return NO_ANSWER, None

    def _tell(self, did: str, what: type, access: Access, error: BaseException | None) -> None:
        kind = f"{did} {what.__module__}.{what.__qualname__}"
        if kind in self._told or len(self._told) >= MAX_TOLD:
            return
        self._told.add(kind)
        told = "the policy of %s %s when it was asked about %s: denied, as is all that it does not answer with a bool or a text"
        _log.error(told, access.jobs, kind, access.action, exc_info=error)

    def _what(
        self, action: Action, task: str | None, run_id: str | None, queue: str | None, schedule: str | None
    ) -> str:
        if run_id is not None:
            return f"run {shown(run_id)}"
        if queue is not None:
            return f"queue {shown(queue)}"
        if schedule is not None:
            of = f"schedule {shown(schedule)}"
            return f"runs of {of}" if action is Action.ENQUEUE else of
        of = self.jobs.identity if task is None else f"task {shown(task)}"
        return of if action in (Action.ENQUEUE, Action.STEER) else f"runs of {of}"


def _one_line(text: str) -> str:
    """What a person can read, and a log can hold."""
    line = "".join([each if each.isprintable() else ascii(each)[1:-1] for each in text[:MAX_REASON].strip()])
    return line if len(text) <= MAX_REASON else f"{line}…"


def _is_for_others(error: BaseException) -> bool:
    """Whether it is meant for whoever called, not for us: a cancellation, a Ctrl-C."""
    if isinstance(error, Exception):
        return False
    from asyncio import CancelledError  # an AsyncClient may be of that loop; it costs too much to load for nothing

    meant = (KeyboardInterrupt, trio.Cancelled, CancelledError)
    return error.subgroup(meant) is not None if isinstance(error, BaseExceptionGroup) else isinstance(error, meant)


# ---------------------------------------------------------------- declaring


def guard_of(jobs: Jobs, policy: Policy | None) -> Guard | None:
    """The guard of `jobs`. Raises TypeError unless `policy` is a plain function of one argument."""
    if policy is None:
        return None
    given: object = policy
    if isinstance(given, type) or not callable(given):
        raise TypeError(f"policy must be a function of (access), not {_kind(given)}")
    for each in (function_of(given), inspect.unwrap(function_of(given))):
        if inspect.iscoroutinefunction(each) or inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(
                "policy must be a plain function: nothing waits for what an async one, or a generator, answers"
            )
    try:
        signature = inspect.signature(given)
    except ValueError:  # it cannot be seen: what it raises when it is asked denies
        return Guard(jobs, policy)
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(f"policy must take (access), not {signature}") from None
    return Guard(jobs, policy)


def _kind(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
