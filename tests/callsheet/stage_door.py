"""
A guarded house for tests: jobs with a policy that notes what it is asked, and the ways in which somebody comes to them.

A `Surface` is one way in. All of them are put to the same table, so whoever makes a new one adds a row to `SURFACES`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import apsw
import trio
from attrs import define, field

from callsheet import Access, Action, Client, Context, Discard, Jobs, PolicyDenied, Queue, Runtime, acting_as
from callsheet.monitor.desk import carry_out
from callsheet.monitor.messages import CancelRun, Order, ReplayRun, ShowRun
from callsheet.store.sqlite import SqliteStore

from .house import Place, open_house

USER: Final = "user:7"
EVERYTHING: Final = frozenset(Action)


@define
class Doorkeeper:
    """A policy that says what it is told to say, and notes what it was asked."""

    rule: Callable[[Access], object] = lambda _access: True
    asked: list[Access] = field(factory=list)

    def __call__(self, access: Access) -> Any:
        self.asked.append(access)
        return self.rule(access)

    @property
    def questions(self) -> list[tuple[Any, ...]]:
        """What it was asked, for reading: subject, action, task, run id, queue."""
        return [(a.subject, str(a.action), a.task, a.run and a.run.id, a.queue) for a in self.asked]


def guarded(keeper: Doorkeeper | None, name: str = "j", **options: Any) -> Jobs:
    """Three tasks: one that ends well, one that fails for good, one that goes on."""
    jobs = Jobs(name, queue=Queue(concurrency=100), policy=keeper, **options)

    @jobs.task("ok", aliases=["old"])
    async def ok(payload: object, ctx: Context) -> object:
        return payload

    @jobs.task("bad")
    async def bad(payload: object, ctx: Context) -> None:
        raise Discard("no such address")

    @jobs.task("long")
    async def long(payload: object, ctx: Context) -> None:
        await trio.sleep_forever()

    return jobs


@define
class Stage:
    """A guarded house, open, on disk."""

    jobs: Jobs
    keeper: Doorkeeper
    runtime: Runtime
    path: Path

    def contents(self) -> dict[str, list[Any]]:
        """Everything that is stored."""
        db = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            names = [
                name for (name,) in db.execute("select name from sqlite_schema where type = 'table' order by name")
            ]
            return {name: sorted(db.execute(f'select * from "{name}"'), key=repr) for name in names}
        finally:
            db.close()


@asynccontextmanager
async def open_stage(path: Path, **options: Any) -> AsyncIterator[Stage]:
    """Its keeper lets everybody in until it is told otherwise."""
    keeper = Doorkeeper()
    jobs = guarded(keeper, **options)
    place: Place = lambda: SqliteStore(path)  # noqa: E731
    async with open_house(place, jobs) as runtime:
        yield Stage(jobs, keeper, runtime, path)


async def a_run_of_each(stage: Stage) -> tuple[str, str]:
    """One that waits, and one that has ended."""
    waits = await stage.jobs.enqueue(
        "ok", "canary-payload", delay=3600, idempotency_key="canary-key", trace_id="canary-trace"
    )
    first = await stage.jobs.enqueue("bad", "canary-payload", trace_id="canary-trace")
    await stage.jobs.runs.wait(first.run_id)
    ended = await stage.jobs.runs.replay(first.run_id, reason="canary-reason")
    await stage.jobs.runs.wait(ended.run_id)
    stage.keeper.asked.clear()
    return waits.run_id, ended.run_id


# ---------------------------------------------------------------- ways in


class Surface(Protocol):
    """A way in. Each call does it, or raises Refused with the text that whoever came is told."""

    subject: ClassVar[object]
    """Who comes."""
    can: ClassVar[frozenset[Action]]
    """What can be asked for here; the other calls are not made."""

    def __init__(self, stage: Stage) -> None: ...

    async def enqueue(self, task: str, payload: object) -> None: ...
    async def read(self, run_id: str) -> None: ...
    async def cancel(self, run_id: str) -> None: ...
    async def replay(self, run_id: str) -> None: ...
    async def steer(self) -> None: ...


class Refused(Exception):
    """Denied; the text is all that was told."""


async def told(call: Awaitable[object]) -> None:
    """What whoever calls is told."""
    try:
        await call
    except PolicyDenied as error:
        raise Refused(f"{error} {error!r} {error.args} {vars(error)}") from error


@define
class Api:
    """`jobs.…`, on behalf of a user."""

    stage: Stage
    subject: ClassVar[object] = USER
    can: ClassVar[frozenset[Action]] = EVERYTHING

    async def enqueue(self, task: str, payload: object) -> None:
        with acting_as(USER):
            await told(self.stage.jobs.enqueue(task, payload))

    async def read(self, run_id: str) -> None:
        with acting_as(USER):
            await told(self.stage.jobs.runs.get(run_id))

    async def cancel(self, run_id: str) -> None:
        with acting_as(USER):
            await told(self.stage.jobs.runs.cancel(run_id))

    async def replay(self, run_id: str) -> None:
        with acting_as(USER):
            await told(self.stage.jobs.runs.replay(run_id))

    async def steer(self) -> None:
        with acting_as(USER):
            await told(self.stage.jobs.queues.pause())


@define
class Page:
    """What the monitor's page asks for."""

    stage: Stage
    subject: ClassVar[object] = "monitor"
    can: ClassVar[frozenset[Action]] = frozenset({Action.READ, Action.CANCEL, Action.REPLAY})

    async def enqueue(self, task: str, payload: object) -> None:
        raise NotImplementedError

    async def steer(self) -> None:
        raise NotImplementedError

    async def read(self, run_id: str) -> None:
        await self._order(ShowRun(1, run_id))

    async def cancel(self, run_id: str) -> None:
        await self._order(CancelRun(1, run_id))

    async def replay(self, run_id: str) -> None:
        await self._order(ReplayRun(1, run_id))

    async def _order(self, order: Order) -> None:
        answer = await carry_out(self.stage.runtime, order, "peer")
        if answer["type"] == "error":
            assert "denied" == answer["code"], answer
            raise Refused(str(answer))


@define
class Remote:
    """A client in another program, on behalf of a user."""

    stage: Stage
    subject: ClassVar[object] = USER
    can: ClassVar[frozenset[Action]] = EVERYTHING

    async def enqueue(self, task: str, payload: object) -> None:
        await self._call(lambda client: client.enqueue(task, payload))

    async def read(self, run_id: str) -> None:
        await self._call(lambda client: client.runs.get(run_id))

    async def cancel(self, run_id: str) -> None:
        await self._call(lambda client: client.runs.cancel(run_id))

    async def replay(self, run_id: str) -> None:
        await self._call(lambda client: client.runs.replay(run_id))

    async def steer(self) -> None:
        await self._call(lambda client: client.queues.pause())

    async def _call(self, call: Callable[[Client], object]) -> None:
        async def made() -> object:
            with self.stage.jobs.client(self.stage.path, subject=USER) as client:
                return call(client)

        await told(made())


SURFACES: Final[tuple[type[Surface], ...]] = (Api, Page, Remote)
WAYS: Final = [(surface, action) for surface in SURFACES for action in Action if action in surface.can]
"""Each way in with each thing that can be asked for there."""
