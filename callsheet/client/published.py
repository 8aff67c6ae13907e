"""
What a runtime says in the store of the Jobs that it runs, for clients that do not have their code.

Rule 1: plain JSON with a version; whoever reads a newer one says so, and reads no part of it.
Rule 2: what comes back is a declaration without handlers: it names, checks and shows, and can run nothing.
Not here: when it is said (`opening`), where it is kept (the store).
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from attrs import asdict, evolve

from ..config import Definition, definition_of
from ..enqueue import Entry
from ..errors import NotPublished, shown
from ..handler import Form
from ..jobs import Jobs
from ..options import Declared
from ..queue import Queue
from ..retention import Retention
from ..store.errors import CallsheetError
from ..store.policy import Custom, RetryPolicy
from ..store.records import Published
from ..task import Task

VERSION: Final = 1
_RETRY: Final = ("attempts", "initial_delay", "max_delay", "bounded", "jitter")


def publish(jobs: Jobs) -> Published:
    """What is said of `jobs`."""
    config = jobs.config
    told = {
        "v": VERSION,
        "name": jobs.name,
        "namespace": jobs.namespace,
        "guarded": jobs.policy is not None,
        "max_payload": jobs.max_payload,
        "stuck_after": jobs.stuck_after_s,
        "retention": asdict(jobs.retention),
        "timeout_us": jobs.timeout_us,
        "retry": _retry_told(jobs.retry_policy),
        "queues": [_queue_told(queue) for queue in config.queues],
        "tasks": [_task_told(jobs.tasks[name]) for name in sorted(jobs.tasks)],
    }
    return Published(jobs.identity, json.dumps(told, separators=(",", ":")).encode())


def _queue_told(queue: Queue) -> dict[str, Any]:
    return {
        "name": queue.name,
        "concurrency": queue.concurrency,
        "batch_size": queue.batch_size,
        "visibility_timeout": queue.visibility_timeout,
        "global_limit": queue.global_limit,
    }


def _task_told(task: Task[Any, Any]) -> dict[str, Any]:
    plan, shown = task.declared, definition_of(task)
    return {
        "name": plan.name,
        "queue": shown.queue,
        "schema": plan.schema,
        "accepts": list(plan.accepts),
        "aliases": list(plan.aliases),
        "retry": _retry_told(plan.policy),
        "timeout_us": plan.timeout_us,
        "on_crash": plan.on_crash,
        "stuck_after": plan.stuck_after_s,
        "handler": shown.handler,
        "is_job": shown.is_job,
        "payload_type": shown.payload_type,
    }


def _retry_told(policy: RetryPolicy) -> dict[str, Any]:
    """Without the classes of `on` and `never`: whoever has no code cannot raise them."""
    backoff = list(policy.backoff.delays) if isinstance(policy.backoff, Custom) else policy.backoff
    return {name: getattr(policy, name) for name in _RETRY} | {"backoff": backoff}


def is_guarded(published: Published) -> bool:
    """Whether a policy decides who may see these Jobs. What this release cannot read counts as guarded."""
    try:
        told = json.loads(published.body)
    except ValueError:
        return True
    return not isinstance(told, dict) or told.get("guarded") is not False


class PublishedJobs(Jobs):
    """A declaration as it was published."""

    shown: dict[str, Definition]
    guarded: bool

    def definitions(self) -> tuple[Definition, ...]:
        """See `Jobs.definitions`."""
        return tuple(self.shown[name] for name in sorted(self.shown))


def declared_by(published: Published, store: str) -> PublishedJobs:
    """The declaration that was published in `store`. Raises NotPublished for what this release cannot read."""
    try:
        told = json.loads(published.body)
        form = told["v"]
        if form == VERSION:
            return _declared_as(told)
    except (ValueError, LookupError, TypeError, AttributeError, CallsheetError) as error:
        raise NotPublished(store, published.jobs, "what was published of it cannot be read") from error
    why = f"it was published by another release of callsheet (form {shown(form)}, this one reads {VERSION})"
    raise NotPublished(store, published.jobs, why)


def _declared_as(told: dict[str, Any]) -> PublishedJobs:
    queues = [Queue(**each) for each in told["queues"]]
    jobs = PublishedJobs(
        told["name"],
        namespace=told["namespace"],
        queue=queues[0],
        queues=queues[1:],
        max_payload=told["max_payload"],
        stuck_after=told["stuck_after"],
        retention=Retention(**told["retention"]),
    )
    jobs.retry_policy, jobs.timeout_us = _policy(told["retry"]), told["timeout_us"]
    jobs.guarded = told["guarded"]
    jobs.shown = {}
    for each in told["tasks"]:
        task: Task[Any, Any] = Task(jobs, _no_code, _declared(jobs, each), Form(each["handler"], None), each["is_job"])
        jobs.add(task)
        jobs.shown[task.name] = evolve(definition_of(task), payload_type=each["payload_type"])
    return jobs


def as_known_now(jobs: Jobs, entry: Entry) -> Entry:
    """The same entry, also when it was made before the definitions of `jobs` were read again. Raises UnknownTask."""
    theirs = entry.task.jobs
    if theirs is jobs or not isinstance(theirs, PublishedJobs) or theirs.identity != jobs.identity:
        return entry
    return evolve(entry, task=jobs.task_named(entry.task.name))


def _declared(jobs: Jobs, told: dict[str, Any]) -> Declared:
    return Declared(
        told["name"],
        jobs.queue_named(told["queue"]),
        told["schema"],
        tuple(told["accepts"]),
        tuple(told["aliases"]),
        _policy(told["retry"]),
        told["timeout_us"],
        told["on_crash"],
        told["stuck_after"],
    )


def _policy(told: dict[str, Any]) -> RetryPolicy:
    return RetryPolicy(backoff=_backoff(told), **{name: told[name] for name in _RETRY})


def _backoff(told: dict[str, Any]) -> Any:
    return Custom(told["backoff"]) if isinstance(told["backoff"], list) else told["backoff"]


def _no_code(_payload: object, _ctx: object) -> NoReturn:
    raise AssertionError("a client runs no handlers")
