"""
What a type checker makes of the actor layer. This file is checked (`make check`), never run.

Rule: use the package as a user would, and say with `assert_type` what must come out. What must be an error has its ignore,
which fails when it is none.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Never, assert_never, assert_type

from attrs import frozen

from callsheet import (
    Actor,
    ActorSystem,
    AutoShutdown,
    Backoff,
    BecameZombie,
    ChildParked,
    ChildSpec,
    CouldNotStart,
    Crashed,
    Delayed,
    Down,
    Ended,
    Exit,
    GaveUp,
    Intensity,
    Killed,
    Mail,
    Normal,
    Overflow,
    Pool,
    PoolSpec,
    Ref,
    Report,
    Request,
    Restarted,
    Shutdown,
    Spawn,
    StartChild,
    Started,
    StartFailed,
    StopOne,
    StopOverran,
    Strategy,
    Supervisor,
    SupervisorSpec,
    Why,
    spawn,
    subtree,
)


@frozen
class Add:
    """Count on."""

    n: int


@frozen(eq=False)
class Total(Request[int]):
    """How much is it?"""


@frozen(eq=False, kw_only=True)
class Name(Request[str | None]):
    """How is it called?"""

    polite: bool


class Counter(Actor[Add | Total | Name]):
    """Takes three kinds of messages; plain functions and coroutine functions, as each likes."""

    def __init__(self, start: int = 0) -> None:
        self.total = start

    async def on_start(self) -> None:
        assert_type(self.ref, Ref[Add | Total | Name])
        self.alarms.after(1.5, Add(1))
        self.alarms.every(1, Add(1), key="often", missed="skip")
        self.alarms.after(1, "add")  # type: ignore[arg-type]

    def receive(self, message: Add | Total | Name) -> None:
        match message:
            case Add(n):
                self.total += n
            case Total():
                message.reply.answer(self.total)
                message.reply.answer("much")  # type: ignore[arg-type]
            case Name(polite=polite):
                message.reply.answer("sir" if polite else None)
            case _:
                assert_never(message)


class Forgetful(Actor[Add | Total]):
    """Its match does not know all that it takes."""

    async def receive(self, message: Add | Total) -> None:
        match message:
            case Add():
                pass
            case _:
                assert_never(message)  # type: ignore[arg-type]


class Deaf(Actor[Add | Total]):
    """Declares more than its `receive` takes."""

    def receive(self, message: Add) -> None:  # type: ignore[override]
        del message


class Watcher(Actor[Add | Down | Restarted]):
    """Hears of others."""

    def __init__(self, other: Ref[Add]) -> None:
        self.other = other

    def on_start(self) -> None:
        monitor = self.monitor(self.other)
        assert_type(monitor.cancel(), None)

    def receive(self, message: Add | Down | Restarted) -> Awaitable[None] | None:
        match message:
            case Down(exit=exit_):
                assert_type(exit_, Exit)
                self.describe(exit_)
            case Restarted(generation=generation):
                assert_type(generation, int)
            case Add():
                return self.later()
            case _:
                assert_never(message)
        return None

    async def later(self) -> None:
        """What a message starts may wait."""

    def describe(self, exit_: Exit) -> None:
        """Exits are a closed union."""
        match exit_:
            case Normal() | Shutdown() | Killed():
                self.healthy()
            case Crashed(error) | StartFailed(error):
                assert_type(error, BaseException)
            case _:
                assert_never(exit_)


class Servant(Actor[Never]):
    """Takes nothing, and lives by its `run`."""

    async def run(self) -> None:
        self.leave()


async def messages(counter: Ref[Add | Total | Name]) -> None:
    """Telling and asking."""
    counter.tell(Add(1))
    counter.tell(Total())
    counter.tell("add")  # type: ignore[arg-type]
    await counter.send(Add(1))
    await counter.send(1)  # type: ignore[arg-type]
    counter.send(Add(1))  # type: ignore[unused-coroutine]
    assert_type(await counter.ask(Total(), timeout=1), int)
    assert_type(await counter.ask(Name(polite=True), timeout=1), str | None)
    await counter.ask(Total())  # type: ignore[call-arg]
    await counter.ask(Add(1), timeout=1)  # type: ignore[arg-type]
    perhaps: int | None = await counter.ask(Total(), timeout=1)
    several: tuple[object, int] = (await counter.ask(Total(), timeout=1), await counter.ask(Total(), timeout=1))
    print(perhaps, several, await counter.ask(Total(), timeout=1))  # noqa: T201 -- an argument of type object
    assert_type(await counter.stopped(), Exit)


def whom(counter: Ref[Add | Total | Name], adder: Ref[Add], servant: Ref[Never]) -> None:
    """Who takes more does where less is wanted; not the other way round."""
    wanted: Ref[Add] = counter
    wanted = servant  # type: ignore[assignment]
    everything: Ref[Add | Total] = adder  # type: ignore[assignment]
    Watcher(counter)
    Watcher(servant)  # type: ignore[arg-type]
    nobody: Ref[Never] = adder
    del wanted, everything, nobody


def declarations() -> SupervisorSpec:
    """A tree as data."""
    ChildSpec("counter", Counter)
    ChildSpec("counter", partial(Counter, 5))
    ChildSpec("counter", Counter())  # type: ignore[arg-type]
    ChildSpec("counter", Counter, restart="permanent")  # type: ignore[arg-type]
    ChildSpec("counter", Counter, stop_budget=1)  # type: ignore[call-arg]
    PoolSpec(Counter, of_all=Intensity(10, 60), mail=Mail(capacity=10, overflow=Overflow.DROP_OLDEST))
    make: Callable[[], Supervisor] = partial(Supervisor, SupervisorSpec())
    return SupervisorSpec(
        (
            subtree("pool", PoolSpec(Counter), parks=True),
            ChildSpec("by hand", make, backoff=Backoff(0.1, 5, jitter=0.2)),
            ChildSpec("another", partial(Pool, PoolSpec(Counter))),
        ),
        strategy=Strategy.ONE_FOR_ALL,
        auto_shutdown=AutoShutdown.NEVER,
    )


async def use() -> None:
    """A program with a system in it."""
    async with ActorSystem(declarations(), checked=True, grace_s=3) as system:
        assert_type(system, ActorSystem)
        system.stpo()  # type: ignore[attr-defined]
        assert_type(system.whereis("/counter"), Ref[Any] | None)
        counter: Ref[Add | Total] = await system.start_child(ChildSpec("counter", Counter))
        await system.start_child(Counter)  # type: ignore[arg-type]
        pool: Ref[Spawn | StopOne] = await system.start_child(subtree("counters", PoolSpec(Counter)))
        child: Ref[Add] = spawn(pool, 5, name="five")
        spawn(counter)  # type: ignore[arg-type]
        assert_type(await pool.ask(Spawn((5,)), timeout=1), Ref[Any])
        await pool.ask(StopOne(child), timeout=1)
        team: Ref[StartChild] = await system.start_child(subtree("team", SupervisorSpec()))
        await system.start_child(ChildSpec("late", Counter), under=team)
        await system.start_child(ChildSpec("late", Counter), under=child)  # type: ignore[arg-type]
        system.reports.listen(sentence)
        async with system.reports.subscribe() as reports:
            async for report in reports:
                assert_type(report, Report)


def sentence(report: Report) -> str:
    """Reports are a closed union."""
    match report:
        case Ended(path=path, exit=exit_):
            return f"{path}: {exit_}"
        case Delayed(delay_s=delay_s):
            assert_type(delay_s, float)
            return ""
        case Started() | CouldNotStart() | StopOverran() | ChildParked() | BecameZombie() | GaveUp():
            return report.path
        case _:
            assert_never(report)


def lost(message: object, why: Why) -> None:
    """For `Mail.on_undelivered`."""
    del message
    assert_type(why.value, str)


Mail(on_undelivered=lost)
Mail(on_undelivered=lambda message: None)  # type: ignore[misc, arg-type]
