"""
Who stands in the tree of a runtime, and what each of them is made of.

Rule: here the declarations (Jobs, tasks, queues) meet the actors; nothing here runs by itself.
Not here: opening and closing (`opening`).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .actors.calendar import Calendar
from .actors.journal import Journal
from .actors.mailbox import Mail
from .actors.run import RunActor, Unreadable
from .actors.scheduler import Scheduler
from .actors.undelivered import Why
from .context import Context
from .guard import as_task
from .jobs import Jobs, current_jobs, current_runtime
from .retention import kept_by
from .schedules.planner import Planner
from .store import codec
from .store.errors import PayloadInvalid
from .store.records import Clock, Due, Lane
from .supervisor.aftermath import Aftermath
from .supervisor.pruner import Pruner
from .supervisor.quarantine import Quarantine
from .supervisor.queue import QueueActor, QueuePlan
from .supervisor.room import Room
from .supervisor.slots import Slots
from .supervisor.spec import ChildSpec, Strategy, SupervisorSpec
from .supervisor.subtree import subtree
from .supervisor.system import CORE_BACKOFF, CORE_INTENSITY
from .supervisor.task import TaskPlan, TaskSupervisor, hand_back_undelivered
from .sync_context import SyncContext
from .task import Task

if TYPE_CHECKING:
    from .monitor import Monitor
    from .runtime import Runtime, Understudy

UNBOUNDED: Final = float("inf")
"""Budget of actors that bound their own start or stop."""


def lanes_of(jobs: Jobs) -> list[Lane]:
    """Every lane a run of these jobs may be in: each task, by each of its names and schemas, on each queue."""
    return [lane for task in jobs.tasks.values() for lane in lanes_of_task(task)]


def lanes_of_task(task: Task[Any, Any]) -> list[Lane]:
    """Those of one task; first that of its new runs."""
    queues = sorted(task.jobs.declared_queues, key=lambda queue: queue != task.lane.queue)
    return [
        Lane(task.lane.jobs, queue, name, schema) for queue in queues for name in task.names for schema in task.schemas
    ]


def _names_now(jobs: Jobs) -> Mapping[str, str]:
    """From the names that tasks had before to those they have."""
    return {alias: task.name for alias, task in jobs.aliases.items()}


def cast(runtime: Runtime, monitor: Monitor | None) -> SupervisorSpec:
    """The tree of a runtime: what stands further down depends on what stands above it. Gives the runtime its slots."""
    children = _core(runtime)
    if runtime.works:
        children += _workers(runtime)
    if monitor is not None:
        children.append(_monitor_spec(runtime, monitor))
    if runtime.works and any(jobs.retention.by_status for jobs in runtime.jobs):
        children.append(_retention_spec(runtime))
    return SupervisorSpec(tuple(children), Strategy.REST_FOR_ONE)


def _core(runtime: Runtime) -> list[ChildSpec]:
    return [
        ChildSpec("scheduler", Scheduler, kind="scheduler", intensity=CORE_INTENSITY, backoff=CORE_BACKOFF),
        ChildSpec(
            "journal",
            lambda: Journal(runtime.journal),
            kind="journal",
            intensity=CORE_INTENSITY,
            backoff=CORE_BACKOFF,
            stop_budget_s=UNBOUNDED,  # what is acknowledged must be written
        ),
    ]


def _workers(runtime: Runtime) -> list[ChildSpec]:
    return [
        ChildSpec(
            "calendar",
            lambda: _calendar(runtime),
            kind="calendar",
            intensity=CORE_INTENSITY,
            backoff=CORE_BACKOFF,
            start_budget_s=UNBOUNDED,  # it reads the store
        ),
        subtree("tasks", SupervisorSpec(tuple(_jobs_spec(runtime, each) for each in runtime.jobs), parks=True)),
        subtree("queues", SupervisorSpec(_queue_specs(runtime))),
        ChildSpec(
            "schedules",
            lambda: Planner(runtime),
            kind="schedules",
            intensity=CORE_INTENSITY,
            backoff=CORE_BACKOFF,
            start_budget_s=UNBOUNDED,  # it reads and writes the store
        ),
    ]


def _monitor_spec(runtime: Runtime, monitor: Monitor) -> ChildSpec:
    from .monitor.server import Door, MonitorServer

    door = Door(monitor)
    return ChildSpec(
        "monitor",
        lambda: MonitorServer(door, runtime),
        kind="monitor",
        stop_budget_s=1.0,
        parks=True,  # if it cannot stay up it is off; it never takes the rest down
    )


def _retention_spec(runtime: Runtime) -> ChildSpec:
    kept = [each for jobs in runtime.jobs for each in kept_by(jobs)]
    return ChildSpec(
        "retention",
        lambda: Pruner(kept),
        kind="retention",
        intensity=CORE_INTENSITY,
        backoff=CORE_BACKOFF,
        parks=True,  # a store that grows is no reason to stop working
    )


def _calendar(runtime: Runtime) -> Calendar:
    async def upcoming(clock: Clock, after_us: int, until_us: int, limit: int) -> tuple[Due, ...]:
        return await runtime.read(lambda reader: reader.upcoming(clock, after_us, until_us, limit))

    aftermath = Aftermath(runtime.system.stage, runtime.slots)
    return Calendar(upcoming, aftermath.wake, aftermath.wake_all, runtime.planned.look)


def _jobs_spec(runtime: Runtime, jobs: Jobs) -> ChildSpec:
    specs = tuple(_task_spec(runtime, jobs, task) for task in jobs.tasks.values())
    return subtree(jobs.identity, SupervisorSpec(specs, parks=True))


def _task_spec(runtime: Runtime, jobs: Jobs, task: Task[Any, Any]) -> ChildSpec:

    def hand_back(message: object, why: Why) -> None:
        hand_back_undelivered(runtime.system.stage, message, why)

    return ChildSpec(
        task.name,
        lambda: TaskSupervisor(plan_of(runtime, task)),
        kind="task",
        stop_budget_s=UNBOUNDED,  # it waits for its runs, within the grace
        mail=Mail(on_undelivered=hand_back),
    )


def _queue_specs(runtime: Runtime) -> tuple[ChildSpec, ...]:
    specs: list[ChildSpec] = []
    quarantine, room = Quarantine(), Room(runtime.max_running)
    for jobs in runtime.jobs:
        for identity, queue in jobs.declared_queues.items():
            if identity not in runtime.watched:
                continue
            slots = Slots(identity, queue.limits, quarantine=quarantine, room=room)
            runtime.slots[identity] = slots
            room.queues.append(slots)
            lanes = tuple(lane for lane in lanes_of(jobs) if lane.queue == identity)
            plan = QueuePlan(slots, lanes, _names_now(jobs))
            specs.append(
                ChildSpec(
                    identity,
                    partial(QueueActor, plan, runtime.boot_id),
                    kind="queue",
                    stop_budget_s=UNBOUNDED,  # it waits for one commit
                )
            )
    return tuple(specs)


def plan_of(runtime: Runtime, task: Task[Any, Any]) -> TaskPlan:
    """What the supervisor of a task is made of."""
    play = partial(_perform_in_thread if task.is_sync else _perform, runtime, task)
    if runtime.understudy is not None:
        play = partial(_stand_in, runtime.understudy, task, play)
    if task.jobs.bus.tracing is not None:
        play = partial(task.jobs.bus.tracing.attempt, task, play)
    if any(jobs.policy is not None for jobs in runtime.jobs):
        play = partial(_as_itself, task, play)
    return TaskPlan(task.jobs.identity, task.name, task.policy, play, task.stuck_after_s, runtime.wake_queues)


async def _stand_in(
    understudy: Understudy, task: Task[Any, Any], play: Callable[[RunActor], Awaitable[object]], actor: RunActor
) -> object:
    """One call of whoever stands in for a handler."""
    return await understudy(task, actor, _payload(task, actor), partial(play, actor))


async def _as_itself(task: Task[Any, Any], play: Callable[[RunActor], Awaitable[object]], actor: RunActor) -> object:
    """One call of a handler, which asks in its own name where somebody has a policy, not in that of whoever opened."""
    with as_task(task):
        return await play(actor)


async def _perform(runtime: Runtime, task: Task[Any, Any], actor: RunActor) -> object:
    """One call of a handler, in a context of its own."""
    payload = _payload(task, actor)
    current_runtime.set(runtime)
    current_jobs.set(task.jobs)
    return await task.handler(payload, Context(task, runtime.app, actor))


async def _perform_in_thread(runtime: Runtime, task: Task[Any, Any], actor: RunActor) -> object:
    """One call of a handler that is a plain function, in a copy of a context of its own."""
    payload = _payload(task, actor)
    current_runtime.set(runtime)
    current_jobs.set(task.jobs)
    call = partial(_call, task, payload, SyncContext(task, runtime.app, actor, runtime))
    return await runtime.threads.run(call, actor.stage)


def _call(task: Task[Any, Any], payload: object, ctx: SyncContext) -> object:
    """In a thread."""
    value = task.handler(payload, ctx)
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("the handler is a plain function that returned a coroutine: declare an async one")
    return value


def _payload(task: Task[Any, Any], actor: RunActor) -> Any:
    try:
        payload = codec.decode(actor.claimed.payload, task.payload_type)
    except PayloadInvalid as error:
        raise Unreadable from error
    if "job_retry_delay" in task.hooks:
        actor.retry_delay = payload.job_retry_delay
    return payload
