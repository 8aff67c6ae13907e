"""
callsheet: durable background jobs as supervised actors, inside a trio program.

Rule: a public name is one row of `_HOME`, and one line for type checkers above it; a test compares the two.
Names load when first used, so that `import callsheet.actors` brings the actor layer alone.

Not here: any code that does something.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

__version__ = "0.1.0"

if TYPE_CHECKING:
    # One line a name, in the order of the table
    from .actors.actor import Actor as Actor
    from .actors.control import AttemptStopped as AttemptStopped
    from .actors.control import Discard as Discard
    from .actors.control import RetryAfter as RetryAfter
    from .actors.control import Snooze as Snooze
    from .actors.errors import ActorDown as ActorDown
    from .actors.errors import ActorError as ActorError
    from .actors.errors import AskedItself as AskedItself
    from .actors.errors import AskedTwice as AskedTwice
    from .actors.errors import AskTimeout as AskTimeout
    from .actors.errors import MailboxFull as MailboxFull
    from .actors.errors import MessageDropped as MessageDropped
    from .actors.errors import NameTaken as NameTaken
    from .actors.errors import StartTimeout as StartTimeout
    from .actors.errors import WrongMessage as WrongMessage
    from .actors.events import BecameZombie as BecameZombie
    from .actors.events import ChildParked as ChildParked
    from .actors.events import CouldNotStart as CouldNotStart
    from .actors.events import Delayed as Delayed
    from .actors.events import Ended as Ended
    from .actors.events import GaveUp as GaveUp
    from .actors.events import Report as Report
    from .actors.events import Started as Started
    from .actors.events import StopOverran as StopOverran
    from .actors.events import Then as Then
    from .actors.exits import Crashed as Crashed
    from .actors.exits import Exit as Exit
    from .actors.exits import Killed as Killed
    from .actors.exits import Normal as Normal
    from .actors.exits import Shutdown as Shutdown
    from .actors.exits import StartFailed as StartFailed
    from .actors.journal import Overloaded as Overloaded
    from .actors.mailbox import Mail as Mail
    from .actors.mailbox import Overflow as Overflow
    from .actors.ref import Ref as Ref
    from .actors.reply import Request as Request
    from .actors.seams import Seams as Seams
    from .actors.stream import Stream as Stream
    from .actors.undelivered import Why as Why
    from .actors.watch import Down as Down
    from .actors.watch import Restarted as Restarted
    from .bulk import Answered as Answered
    from .bulk import BulkResult as BulkResult
    from .client.aio import AsyncClient as AsyncClient
    from .client.client import Client as Client
    from .collector import calm_gc as calm_gc
    from .config import Definition as Definition
    from .config import JobsConfig as JobsConfig
    from .context import Context as Context
    from .enqueue import EnqueueOptions as EnqueueOptions
    from .enqueue import EnqueueResult as EnqueueResult
    from .enqueue import Entry as Entry
    from .errors import AlreadyDeclared as AlreadyDeclared
    from .errors import AmbiguousRuntime as AmbiguousRuntime
    from .errors import IdempotencyConflict as IdempotencyConflict
    from .errors import InvalidName as InvalidName
    from .errors import InvalidOption as InvalidOption
    from .errors import InvalidSchedule as InvalidSchedule
    from .errors import NotInHandler as NotInHandler
    from .errors import NotOpen as NotOpen
    from .errors import NotPublished as NotPublished
    from .errors import NotRegistered as NotRegistered
    from .errors import PolicyDenied as PolicyDenied
    from .errors import ResultNotKept as ResultNotKept
    from .errors import RunFailed as RunFailed
    from .errors import RunNotFinished as RunNotFinished
    from .errors import RunNotFound as RunNotFound
    from .errors import RuntimeGaveUp as RuntimeGaveUp
    from .errors import ScheduleNotFound as ScheduleNotFound
    from .errors import ShuttingDown as ShuttingDown
    from .errors import TooMany as TooMany
    from .errors import UnknownQueue as UnknownQueue
    from .errors import UnknownTask as UnknownTask
    from .errors import WaitTimeout as WaitTimeout
    from .explain import Explanation as Explanation
    from .explain import Reason as Reason
    from .guard import Access as Access
    from .guard import Action as Action
    from .guard import Policy as Policy
    from .guard import acting_as as acting_as
    from .job import Job as Job
    from .jobs import Jobs as Jobs
    from .monitor import CannotListen as CannotListen
    from .monitor import Monitor as Monitor
    from .observe.bus import DroppedListener as DroppedListener
    from .observe.event import Event as Event
    from .observe.event import EventKind as EventKind
    from .observe.observability import Observability as Observability
    from .observe.prometheus import prometheus_text as prometheus_text
    from .open_options import OpenOptions as OpenOptions
    from .opening import open_runtime as open_runtime
    from .options import TaskOptions as TaskOptions
    from .queue import Queue as Queue
    from .queues import Queues as Queues
    from .queues import QueueState as QueueState
    from .retention import Retention as Retention
    from .runs import CancelResult as CancelResult
    from .runs import Page as Page
    from .runs import RunDetails as RunDetails
    from .runs import RunQuery as RunQuery
    from .runs import Runs as Runs
    from .runtime import Runtime as Runtime
    from .schedules.plan import Misfire as Misfire
    from .schedules.plan import Overlap as Overlap
    from .schedules.plan import ScheduleOptions as ScheduleOptions
    from .schedules.schedules import FiredTime as FiredTime
    from .schedules.schedules import Schedules as Schedules
    from .schedules.schedules import ScheduleState as ScheduleState
    from .snapshot import JobsSnapshot as JobsSnapshot
    from .snapshot import Stats as Stats
    from .store.errors import CallsheetError as CallsheetError
    from .store.errors import CannotOpen as CannotOpen
    from .store.errors import DamagedStore as DamagedStore
    from .store.errors import ForeignDatabase as ForeignDatabase
    from .store.errors import NewerSchema as NewerSchema
    from .store.errors import NoStore as NoStore
    from .store.errors import OlderSchema as OlderSchema
    from .store.errors import OutcomeUnknown as OutcomeUnknown
    from .store.errors import PayloadInvalid as PayloadInvalid
    from .store.errors import PayloadTooLarge as PayloadTooLarge
    from .store.errors import SettingRefused as SettingRefused
    from .store.errors import StoreBusy as StoreBusy
    from .store.errors import StoreClosed as StoreClosed
    from .store.errors import StoreError as StoreError
    from .store.errors import StoreFull as StoreFull
    from .store.errors import StoreHeld as StoreHeld
    from .store.errors import StoreUnavailable as StoreUnavailable
    from .store.policy import Custom as Custom
    from .store.policy import Retry as Retry
    from .store.policy import RetryPolicy as RetryPolicy
    from .store.records import Attempt as Attempt
    from .store.records import Did as Did
    from .store.records import Owner as Owner
    from .store.records import QueueOverride as QueueOverride
    from .store.records import Run as Run
    from .store.records import Status as Status
    from .store.records import Transition as Transition
    from .supervisor.errors import ChildIsUp as ChildIsUp
    from .supervisor.errors import ChildStartFailed as ChildStartFailed
    from .supervisor.errors import DuplicateChild as DuplicateChild
    from .supervisor.errors import IntensityExceeded as IntensityExceeded
    from .supervisor.errors import InvalidSpec as InvalidSpec
    from .supervisor.errors import NeededByAll as NeededByAll
    from .supervisor.errors import NotMyChild as NotMyChild
    from .supervisor.errors import PoolFull as PoolFull
    from .supervisor.errors import SupervisionError as SupervisionError
    from .supervisor.pool import Pool as Pool
    from .supervisor.pool import PoolSpec as PoolSpec
    from .supervisor.pool import Spawn as Spawn
    from .supervisor.pool import StopOne as StopOne
    from .supervisor.pool import spawn as spawn
    from .supervisor.requests import RemoveChild as RemoveChild
    from .supervisor.requests import ReplaceChild as ReplaceChild
    from .supervisor.requests import RestartChild as RestartChild
    from .supervisor.requests import StartChild as StartChild
    from .supervisor.requests import StopChild as StopChild
    from .supervisor.spec import AutoShutdown as AutoShutdown
    from .supervisor.spec import Backoff as Backoff
    from .supervisor.spec import ChildSpec as ChildSpec
    from .supervisor.spec import Intensity as Intensity
    from .supervisor.spec import Restart as Restart
    from .supervisor.spec import Strategy as Strategy
    from .supervisor.spec import SupervisorSpec as SupervisorSpec
    from .supervisor.subtree import subtree as subtree
    from .supervisor.supervisor import Supervisor as Supervisor
    from .supervisor.system import ActorSystem as ActorSystem
    from .supervisor.system import SystemGaveUp as SystemGaveUp
    from .sync_context import SyncContext as SyncContext
    from .task import Task as Task
    from .tree import Node as Node

# {public name: the module that defines it}
_HOME: Final[dict[str, str]] = {
    "Jobs": "callsheet.jobs",
    "Task": "callsheet.task",
    "TaskOptions": "callsheet.options",
    "Job": "callsheet.job",
    "Queue": "callsheet.queue",
    "Queues": "callsheet.queues",
    "Client": "callsheet.client.client",
    "AsyncClient": "callsheet.client.aio",
    "QueueState": "callsheet.queues",
    "Retention": "callsheet.retention",
    "calm_gc": "callsheet.collector",
    "JobsConfig": "callsheet.config",
    "Definition": "callsheet.config",
    "Context": "callsheet.context",
    "SyncContext": "callsheet.sync_context",
    "Entry": "callsheet.enqueue",
    "EnqueueOptions": "callsheet.enqueue",
    "EnqueueResult": "callsheet.enqueue",
    "Runtime": "callsheet.runtime",
    "open_runtime": "callsheet.opening",
    "OpenOptions": "callsheet.open_options",
    "RunDetails": "callsheet.runs",
    "Page": "callsheet.runs",
    "CancelResult": "callsheet.runs",
    "Answered": "callsheet.bulk",
    "BulkResult": "callsheet.bulk",
    "Explanation": "callsheet.explain",
    "Reason": "callsheet.explain",
    "Runs": "callsheet.runs",
    "Schedules": "callsheet.schedules.schedules",
    "ScheduleState": "callsheet.schedules.schedules",
    "FiredTime": "callsheet.schedules.schedules",
    "Did": "callsheet.store.records",
    "ScheduleOptions": "callsheet.schedules.plan",
    "Misfire": "callsheet.schedules.plan",
    "Overlap": "callsheet.schedules.plan",
    "JobsSnapshot": "callsheet.snapshot",
    "RunQuery": "callsheet.runs",
    "Stats": "callsheet.snapshot",
    "Node": "callsheet.tree",
    "Monitor": "callsheet.monitor",
    "Observability": "callsheet.observe.observability",
    "Event": "callsheet.observe.event",
    "EventKind": "callsheet.observe.event",
    "DroppedListener": "callsheet.observe.bus",
    "prometheus_text": "callsheet.observe.prometheus",
    "CannotListen": "callsheet.monitor",
    "Access": "callsheet.guard",
    "Action": "callsheet.guard",
    "Policy": "callsheet.guard",
    "acting_as": "callsheet.guard",
    "Retry": "callsheet.store.policy",
    "Custom": "callsheet.store.policy",
    "RetryPolicy": "callsheet.store.policy",
    "Discard": "callsheet.actors.control",
    "RetryAfter": "callsheet.actors.control",
    "Snooze": "callsheet.actors.control",
    "AttemptStopped": "callsheet.actors.control",
    "Overloaded": "callsheet.actors.journal",
    "Run": "callsheet.store.records",
    "Owner": "callsheet.store.records",
    "QueueOverride": "callsheet.store.records",
    "Attempt": "callsheet.store.records",
    "Transition": "callsheet.store.records",
    "Status": "callsheet.store.records",
    "CallsheetError": "callsheet.store.errors",
    "PayloadInvalid": "callsheet.store.errors",
    "PayloadTooLarge": "callsheet.store.errors",
    "StoreError": "callsheet.store.errors",
    "StoreHeld": "callsheet.store.errors",
    "StoreBusy": "callsheet.store.errors",
    "StoreClosed": "callsheet.store.errors",
    "StoreFull": "callsheet.store.errors",
    "StoreUnavailable": "callsheet.store.errors",
    "CannotOpen": "callsheet.store.errors",
    "NoStore": "callsheet.store.errors",
    "ForeignDatabase": "callsheet.store.errors",
    "NewerSchema": "callsheet.store.errors",
    "DamagedStore": "callsheet.store.errors",
    "SettingRefused": "callsheet.store.errors",
    "OlderSchema": "callsheet.store.errors",
    "OutcomeUnknown": "callsheet.store.errors",
    "InvalidName": "callsheet.errors",
    "InvalidSchedule": "callsheet.errors",
    "InvalidOption": "callsheet.errors",
    "UnknownTask": "callsheet.errors",
    "UnknownQueue": "callsheet.errors",
    "AlreadyDeclared": "callsheet.errors",
    "NotOpen": "callsheet.errors",
    "NotPublished": "callsheet.errors",
    "NotInHandler": "callsheet.errors",
    "NotRegistered": "callsheet.errors",
    "AmbiguousRuntime": "callsheet.errors",
    "ShuttingDown": "callsheet.errors",
    "RunNotFound": "callsheet.errors",
    "RunNotFinished": "callsheet.errors",
    "ResultNotKept": "callsheet.errors",
    "ScheduleNotFound": "callsheet.errors",
    "RunFailed": "callsheet.errors",
    "WaitTimeout": "callsheet.errors",
    "IdempotencyConflict": "callsheet.errors",
    "PolicyDenied": "callsheet.errors",
    "TooMany": "callsheet.errors",
    "RuntimeGaveUp": "callsheet.errors",
    "Actor": "callsheet.actors.actor",
    "ActorDown": "callsheet.actors.errors",
    "ActorError": "callsheet.actors.errors",
    "AskedItself": "callsheet.actors.errors",
    "AskedTwice": "callsheet.actors.errors",
    "AskTimeout": "callsheet.actors.errors",
    "MailboxFull": "callsheet.actors.errors",
    "MessageDropped": "callsheet.actors.errors",
    "NameTaken": "callsheet.actors.errors",
    "StartTimeout": "callsheet.actors.errors",
    "WrongMessage": "callsheet.actors.errors",
    "BecameZombie": "callsheet.actors.events",
    "ChildParked": "callsheet.actors.events",
    "CouldNotStart": "callsheet.actors.events",
    "Delayed": "callsheet.actors.events",
    "Ended": "callsheet.actors.events",
    "GaveUp": "callsheet.actors.events",
    "Report": "callsheet.actors.events",
    "Started": "callsheet.actors.events",
    "StopOverran": "callsheet.actors.events",
    "Then": "callsheet.actors.events",
    "Crashed": "callsheet.actors.exits",
    "Exit": "callsheet.actors.exits",
    "Killed": "callsheet.actors.exits",
    "Normal": "callsheet.actors.exits",
    "Shutdown": "callsheet.actors.exits",
    "StartFailed": "callsheet.actors.exits",
    "Mail": "callsheet.actors.mailbox",
    "Overflow": "callsheet.actors.mailbox",
    "Ref": "callsheet.actors.ref",
    "Request": "callsheet.actors.reply",
    "Seams": "callsheet.actors.seams",
    "Stream": "callsheet.actors.stream",
    "Why": "callsheet.actors.undelivered",
    "Down": "callsheet.actors.watch",
    "Restarted": "callsheet.actors.watch",
    "ChildIsUp": "callsheet.supervisor.errors",
    "ChildStartFailed": "callsheet.supervisor.errors",
    "DuplicateChild": "callsheet.supervisor.errors",
    "IntensityExceeded": "callsheet.supervisor.errors",
    "InvalidSpec": "callsheet.supervisor.errors",
    "NeededByAll": "callsheet.supervisor.errors",
    "NotMyChild": "callsheet.supervisor.errors",
    "PoolFull": "callsheet.supervisor.errors",
    "SupervisionError": "callsheet.supervisor.errors",
    "Pool": "callsheet.supervisor.pool",
    "PoolSpec": "callsheet.supervisor.pool",
    "Spawn": "callsheet.supervisor.pool",
    "StopOne": "callsheet.supervisor.pool",
    "spawn": "callsheet.supervisor.pool",
    "RemoveChild": "callsheet.supervisor.requests",
    "ReplaceChild": "callsheet.supervisor.requests",
    "RestartChild": "callsheet.supervisor.requests",
    "StartChild": "callsheet.supervisor.requests",
    "StopChild": "callsheet.supervisor.requests",
    "AutoShutdown": "callsheet.supervisor.spec",
    "Backoff": "callsheet.supervisor.spec",
    "ChildSpec": "callsheet.supervisor.spec",
    "Intensity": "callsheet.supervisor.spec",
    "Restart": "callsheet.supervisor.spec",
    "Strategy": "callsheet.supervisor.spec",
    "SupervisorSpec": "callsheet.supervisor.spec",
    "subtree": "callsheet.supervisor.subtree",
    "Supervisor": "callsheet.supervisor.supervisor",
    "ActorSystem": "callsheet.supervisor.system",
    "SystemGaveUp": "callsheet.supervisor.system",
}

if not TYPE_CHECKING:  # a type checker that saw a module __getattr__ would accept every misspelt name
    __all__ = ["__version__"]
    __all__ += list(_HOME)

    def __getattr__(name: str) -> object:
        if name not in _HOME:  # with `obj`, the interpreter adds "Did you mean" for a misspelt name
            problem = f"module 'callsheet' has no attribute {name!r}"
            raise AttributeError(problem, name=name, obj=sys.modules[__name__])
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value  # from here on an ordinary attribute: the next use costs nothing
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOME})
