"""
Who stands in the tree of a runtime, and what each of them is made of.

Rule: here the declarations (Jobs, tasks, queues) meet the actors; nothing here runs by itself.
Not here: opening and closing (`runtime`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .actors.calendar import Calendar
from .actors.journal import Journal
from .actors.mailbox import Mail
from .actors.run import RunActor, Unreadable
from .actors.scheduler import Scheduler
from .actors.undelivered import Why
from .context import Context
from .jobs import Jobs, current_runtime
from .store import codec
from .store.errors import PayloadInvalid
from .store.policy import SECOND_US
from .store.records import Clock, Due, Lane
from .supervisor.aftermath import Aftermath
from .supervisor.quarantine import Quarantine
from .supervisor.queue import QueueActor, QueuePlan
from .supervisor.room import Room
from .supervisor.slots import Slots
from .supervisor.spec import ChildSpec, Strategy, SupervisorSpec
from .supervisor.subtree import subtree
from .supervisor.system import CORE_BACKOFF, CORE_INTENSITY
from .supervisor.task import TaskPlan, TaskSupervisor, hand_back_undelivered
from .task import Task

if TYPE_CHECKING:
    from .monitor import Monitor
    from .runtime import Runtime

UNBOUNDED: Final = float("inf")
"""Budget of actors that bound their own start or stop."""


def lanes_of(jobs: Jobs) -> list[Lane]:
    """Every lane a run of these jobs may be in: each task on each queue."""
    return [
        Lane(jobs.identity, queue, task.name, task.lane.schema)
        for task in jobs.tasks.values()
        for queue in jobs.declared_queues
    ]


def cast(runtime: Runtime, monitor: Monitor | None) -> SupervisorSpec:
    """The tree of a runtime: what stands further down depends on what stands above it. Gives the runtime its slots."""
    children = _core(runtime)
    if runtime.works:
        children += _workers(runtime)
    if monitor is not None:
        children.append(_monitor_spec(runtime, monitor))
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


def _calendar(runtime: Runtime) -> Calendar:
    async def upcoming(clock: Clock, after_us: int, until_us: int, limit: int) -> tuple[Due, ...]:
        return await runtime.read(lambda reader: reader.upcoming(clock, after_us, until_us, limit))

    aftermath = Aftermath(runtime.system.stage, runtime.slots)
    return Calendar(upcoming, aftermath.wake, aftermath.wake_all)


def _jobs_spec(runtime: Runtime, jobs: Jobs) -> ChildSpec:
    specs = tuple(_task_spec(runtime, jobs, task) for task in jobs.tasks.values())
    return subtree(jobs.identity, SupervisorSpec(specs, parks=True))


def _task_spec(runtime: Runtime, jobs: Jobs, task: Task[Any, Any]) -> ChildSpec:
    plan = TaskPlan(jobs.identity, task.name, task.policy, partial(_perform, runtime, jobs, task))

    def hand_back(message: object, why: Why) -> None:
        hand_back_undelivered(runtime.system.stage, message, why)

    return ChildSpec(
        task.name,
        lambda: TaskSupervisor(plan),
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
            slots = Slots(identity, queue.concurrency, quarantine=quarantine, room=room)
            runtime.slots[identity] = slots
            room.queues.append(slots)
            lanes = tuple(lane for lane in lanes_of(jobs) if lane.queue == identity)
            plan = QueuePlan(slots, queue.batch_size, int(queue.visibility_timeout * SECOND_US), lanes)
            specs.append(
                ChildSpec(
                    identity,
                    partial(QueueActor, plan, runtime.boot_id),
                    kind="queue",
                    stop_budget_s=UNBOUNDED,  # it waits for one commit
                )
            )
    return tuple(specs)


async def _perform(runtime: Runtime, jobs: Jobs, task: Task[Any, Any], actor: RunActor) -> object:
    """One call of a handler, in a context of its own."""
    try:
        payload = codec.decode(actor.claimed.payload, task.payload_type)
    except PayloadInvalid as error:
        raise Unreadable from error
    current_runtime.set(runtime)
    return await task.handler(payload, Context(jobs, runtime.app, actor))
