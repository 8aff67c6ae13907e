"""What an actor system promises to the program that it stands in: its context, its signals, its other systems."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing
from attrs import frozen

from callsheet import (
    Actor,
    ActorDown,
    ActorSystem,
    AutoShutdown,
    ChildSpec,
    Intensity,
    PoolSpec,
    Ref,
    Request,
    Restart,
    Spawn,
    SupervisorSpec,
    spawn,
    subtree,
)

from .troupe import Player, Troupe, settle, tell

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 30
"""A program that is silent for so long hangs: the test fails, and says so."""

request: ContextVar[str] = ContextVar("request", default="none")


# ---------------------------------------------------------------- context variables


@frozen(eq=False)
class Look(Request[str]):
    """What is the value of the variable?"""


class Plain(Actor[Look]):
    """Needs no task: the dispatcher gives it its turn, or whoever asks it."""

    def __init__(self) -> None:
        self.at_start = ""

    def on_start(self) -> None:
        self.at_start = request.get()

    def receive(self, message: Look) -> None:
        message.reply.answer(f"{self.at_start}, {request.get()}")


class Waiting(Plain):
    """Has a task from its second message on."""

    def receive(self, message: Look) -> Any:
        return self.answer(message)

    async def answer(self, message: Look) -> None:
        await trio.lowlevel.checkpoint()
        message.reply.answer(f"{self.at_start}, {request.get()}")


class Tasked(Plain):
    """Has a task from its start on."""

    async def on_start(self) -> None:  # type: ignore[override]
        self.at_start = request.get()


@pytest.mark.parametrize("kind", [Plain, Waiting, Tasked])
@pytest.mark.parametrize("how", ["declared", "started", "asked of a pool", "spawned"])
async def test_every_actor_sees_the_context_of_the_opening(
    autojump_clock: trio.abc.Clock, kind: type[Plain], how: str
) -> None:
    """With or without a task, however and by whomever it is started, told or asked: never the caller's own variables."""
    request.set("opening")
    declared = (ChildSpec("declared", kind), subtree("pool", PoolSpec(kind)))
    async with ActorSystem(SupervisorSpec(declared)) as system:
        request.set("body")
        pool: Ref[Spawn] = system.stage.registry["/pool"].ref
        match how:
            case "declared":
                ref: Ref[Look] = system.stage.registry["/declared"].ref
            case "started":
                ref = await system.start_child(ChildSpec("started", kind))
            case "asked of a pool":
                ref = await pool.ask(Spawn(), timeout=1)
            case _:
                ref = spawn(pool)

        told, idle = Look(), Look()
        ref.tell(told)
        seen = [await told.reply.wait(), await ref.ask(idle, timeout=1)]

    assert ["opening, opening"] * 2 == seen


class Grower(Actor[Look]):
    """Starts another actor while it answers."""

    def __init__(self, pool: Ref[Spawn]) -> None:
        self.pool = pool

    def receive(self, message: Look) -> None:
        child: Ref[Look] = spawn(self.pool)
        child.tell(message)


async def test_an_actor_that_starts_another_while_it_is_asked_keeps_the_context(
    autojump_clock: trio.abc.Clock,
) -> None:
    """From inside the turn that an asker gave it: nothing is entered twice, and nothing leaks."""
    request.set("opening")
    async with ActorSystem() as system:
        request.set("body")
        pool: Ref[Spawn] = await system.start_child(subtree("pool", PoolSpec(Waiting)))
        grower: Ref[Look] = await system.start_child(ChildSpec("grower", lambda: Grower(pool)))

        seen = await grower.ask(Look(), timeout=1)

    assert "opening, opening" == seen


# ---------------------------------------------------------------- how a block ends


async def forever() -> None:
    """Until the block is ended by what the test is about."""
    await trio.sleep(3_600)
    pytest.fail("nobody ended the block")


class Slow(Player):
    """Needs a second to stop."""

    async def on_stop(self) -> None:
        await trio.sleep(1)
        await super().on_stop()


class Stubborn(Player):
    """Does not hear that it is told to stop."""

    async def run(self) -> None:
        await trio.sleep_forever()


def staff(troupe: Troupe) -> SupervisorSpec:
    """Slow ones and, between them, one that spends its budget of 3 s."""
    inner = SupervisorSpec((troupe.child("x", Slow), troupe.child("y", Stubborn, stop_budget_s=3)))
    return SupervisorSpec((troupe.child("a", Slow), subtree("inner", inner), troupe.child("z", Slow)))


STOPPED: Final = ["+a", "+x", "+y", "+z", "-z", "-y", "-x", "-a"]
STOPPING_S: Final = 1 + 3 + 1 + 1


@pytest.mark.parametrize("how", ["leave", "raise", "cancel", "stop", "swallow"])
async def test_a_block_stops_its_tree_in_reverse_within_its_budgets(
    autojump_clock: trio.abc.Clock, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However the block is left: one after the other, each with its own budget, and only then is it left."""
    troupe = Troupe()
    ended_s: list[float] = []
    caught: list[str] = []

    with trio.CancelScope() as host:
        try:
            async with ActorSystem(staff(troupe)) as system:
                match how:
                    case "raise":
                        raise LookupError("mine")
                    case "cancel":
                        host.cancel()
                        await forever()
                    case "swallow":
                        host.cancel()
                        with suppress(trio.Cancelled):  # what nobody should do
                            await forever()
                    case "stop":
                        system.stop()
                        await forever()
        except LookupError:
            caught.append("raised")
        finally:
            ended_s.append(trio.current_time())

    assert STOPPED == troupe.log
    assert [STOPPING_S] == ended_s
    assert (how in ("cancel", "swallow")) == host.cancelled_caught  # leaving a block is a checkpoint
    assert (["raised"] if how == "raise" else []) == caught
    assert ["/inner/y did not stop within 3 s"] == [each.getMessage() for each in caplog.records if each.levelno > 20]


async def test_a_host_that_is_cancelled_while_the_block_is_left_changes_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    """The cancellation comes in the middle of an orderly stop: the order and the budgets hold all the same."""
    troupe = Troupe()
    before_s = trio.current_time()

    with trio.move_on_after(2) as host:
        async with ActorSystem(staff(troupe)):
            pass
        await trio.lowlevel.checkpoint()

    assert STOPPED == troupe.log
    assert STOPPING_S == trio.current_time() - before_s
    assert host.cancelled_caught


async def test_an_error_of_the_body_wins_over_that_of_the_root(autojump_clock: trio.abc.Clock) -> None:
    """The root gives up, and the cancelled body fails in its cleanup: the body's error comes out, as ever."""
    troupe = Troupe()

    with pytest.raises(LookupError, match="mine"):
        async with ActorSystem(SupervisorSpec((troupe.child("a"),), intensity=Intensity(0))) as system:
            tell(system, "/a", ValueError("boom"))
            try:
                await forever()
            finally:
                raise LookupError("mine")


@pytest.mark.parametrize("auto", [AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT])
async def test_a_root_whose_significant_children_are_done_ends_the_block(
    autojump_clock: trio.abc.Clock, auto: AutoShutdown
) -> None:
    """The body is cancelled, the rest is stopped in reverse, and the program goes on behind the block: no error."""
    troupe = Troupe()
    main = troupe.child("main", restart=Restart.TRANSIENT, significant=True)

    async with ActorSystem(SupervisorSpec((troupe.child("a", Slow), main), auto_shutdown=auto)) as system:
        tell(system, "/main", "leave")
        await forever()

    assert ["+a", "+main", "-main", "-a"] == troupe.log


# ---------------------------------------------------------------- an actor that ends the program


class Ending(Actor[BaseException]):
    """Raises what it is given at one point of its life."""

    def __init__(self, where: str, error: BaseException) -> None:
        self.where, self.error = where, error

    def on_start(self) -> Awaitable[None] | None:
        self.reach("on_start")
        return self.later("later, on_start") if self.where == "later, on_start" else None

    def receive(self, message: BaseException) -> Awaitable[None] | None:
        self.reach("receive")
        return self.later("later, receive") if self.where == "later, receive" else None

    def on_stop(self) -> Awaitable[None] | None:
        self.reach("on_stop")
        return self.later("later, on_stop") if self.where == "later, on_stop" else None

    async def later(self, where: str) -> None:
        await trio.lowlevel.checkpoint()
        self.reach(where)

    def reach(self, where: str) -> None:
        if where == self.where:
            raise self.error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), BaseExceptionGroup("of", [SystemExit(4)])])
@pytest.mark.parametrize(
    "where", ["on_start", "receive", "on_stop", "later, on_start", "later, receive", "later, on_stop"]
)
async def test_an_actor_may_end_the_program(autojump_clock: trio.abc.Clock, where: str, error: BaseException) -> None:
    """A SystemExit or KeyboardInterrupt is mended by no supervisor: the tree stops in reverse, and it comes out."""
    troupe = Troupe()
    ending = ChildSpec("ending", lambda: Ending(where, error))

    with pytest.raises(type(error)) as caught:
        async with ActorSystem(SupervisorSpec((troupe.child("a", Slow), ending))) as system:
            tell(system, "/ending", "now")
            await settle()
            if "on_stop" in where:
                await system.stop_child("ending")
            await forever()

    assert error is caught.value
    assert ["+a", "-a"] == troupe.log


# ---------------------------------------------------------------- several systems, and tasks of a nursery


async def test_a_nursery_starts_a_system_and_ends_it(autojump_clock: trio.abc.Clock) -> None:
    """`nursery.start` gives the system once everything in it has started; cancelling the nursery stops it in order."""
    troupe = Troupe()

    async with trio.open_nursery() as nursery:
        system = await nursery.start(ActorSystem(staff(troupe)).serve)
        tell(system, "/a", "hello")
        await settle()
        nursery.cancel_scope.cancel()

    assert [*STOPPED[:4], "a:hello", *STOPPED[4:]] == troupe.log


async def test_stop_ends_a_system_in_a_nursery_and_nothing_else(autojump_clock: trio.abc.Clock) -> None:
    """`system.stop()` from anywhere: `serve` returns, and the nursery goes on without it."""
    troupe = Troupe()

    async with trio.open_nursery() as nursery:
        system = await nursery.start(ActorSystem(staff(troupe)).serve)
        system.stop()
        system.stop()  # twice does nothing
        await trio.sleep(STOPPING_S + 1)
        troupe.log.append("the others go on")

    assert [*STOPPED, "the others go on"] == troupe.log


async def test_a_nursery_hears_of_a_start_that_failed(autojump_clock: trio.abc.Clock) -> None:
    """What the first child that could not start raised comes out of `nursery.start`, in no group and no wrapping."""

    def unable() -> Actor[Any]:
        raise OSError("the port is in use")

    async with trio.open_nursery() as nursery:
        with pytest.raises(OSError, match="in use"):
            await nursery.start(ActorSystem(SupervisorSpec((ChildSpec("a", unable),))).serve)


async def test_a_system_is_opened_once(autojump_clock: trio.abc.Clock) -> None:
    """A second time is refused in a sentence, while it is open and afterwards; nothing of it is disturbed."""
    troupe = Troupe()
    system = ActorSystem(SupervisorSpec((troupe.child("a"),)))

    async with system:
        with pytest.raises(RuntimeError, match="opened once: make another"):
            await system.__aenter__()
        tell(system, "/a", "well?")
        await settle()
    with pytest.raises(RuntimeError, match="opened once: make another"):
        await system.__aenter__()

    assert ["+a", "a:well?", "-a"] == troupe.log


async def test_a_system_that_is_not_open_says_so(autojump_clock: trio.abc.Clock) -> None:
    """Before: what it is missing. Afterwards: whoever asks its root or an actor of it is told how that ended."""
    system = ActorSystem()
    with pytest.raises(AttributeError, match="is not open yet"):
        system.root  # noqa: B018
    with pytest.raises(AttributeError, match="is not open yet"):
        system.whereis("/a")
    with pytest.raises(AttributeError, match="is not open yet"):
        system.stop()

    async with system:
        pass

    with pytest.raises(ActorDown, match=r"^actor / did not answer: shutdown \(shutdown\)$"):
        await system.start_child(ChildSpec("late", Plain))
    system.stop()
    assert None is system.whereis("/scheduler")


async def test_a_message_to_the_root_that_nobody_handles_is_told_of_by_name(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The root has no path to be named by; a line of the log that ends in nothing would help nobody."""
    system = ActorSystem()
    async with system:
        pass

    system.root.tell(object())  # type: ignore[arg-type]

    assert ["1 message is undelivered (ended): sent to the root; a recent one is a object"] == caplog.messages


def test_systems_in_two_threads_share_nothing() -> None:
    """Two event loops, each with a system of the same names: messages, crashes and ends stay where they belong."""
    both_up = threading.Barrier(2, timeout=PATIENCE_S)
    both_told = threading.Barrier(2, timeout=PATIENCE_S)
    logs: dict[str, list[str]] = {}

    async def main(name: str) -> None:
        troupe = Troupe()
        logs[name] = troupe.log
        async with ActorSystem(SupervisorSpec((troupe.child("a", Slow),))) as system:
            both_up.wait()
            tell(system, "/a", ValueError("boom") if name == "one" else "hello")
            await trio.sleep(2)
            tell(system, "/a", name)
            await settle()
            both_told.wait()

    def run(name: str) -> None:
        trio.run(main, name, clock=trio.testing.MockClock(autojump_threshold=0))

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["+a", "-a", "+a", "a:one", "-a"] == logs["one"]
    assert ["+a", "a:hello", "a:two", "-a"] == logs["two"]


async def test_what_is_printed_of_a_system_is_short(autojump_clock: trio.abc.Clock) -> None:
    """A Ref in a message that is logged, or a system that is printed, does not print every actor there is."""
    system = ActorSystem()
    closed = repr(system)
    async with system:
        ref: Ref[Any] = await system.start_child(ChildSpec("a", Plain))
        shown = [repr(ref), repr(system)]

    assert "<ActorSystem, not open yet>" == closed
    assert ["Ref('/a')", "<ActorSystem with 3 actors>"] == shown


# ---------------------------------------------------------------- Ctrl-C


class Busy(Actor[Look]):
    """Is interrupted while it handles a message, or has just begun to wait."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def receive(self, message: Look) -> None:
        self.log.append("busy")
        signal.raise_signal(signal.SIGINT)
        self.log.append("still busy")
        message.reply.answer("done")

    def on_stop(self) -> None:
        self.log.append("-busy")


def test_ctrl_c_while_the_main_task_asks_reaches_it_after_the_answer() -> None:
    """An idle actor is run in the step of whoever asks it: that may be the main task, and it is no less protected."""
    log: list[str] = []
    answers: list[str] = []

    async def main() -> None:
        async with ActorSystem() as system:
            busy: Ref[Look] = await system.start_child(ChildSpec("busy", lambda: Busy(log)))
            answers.append(await busy.ask(Look(), timeout=1))
            await forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    assert ["busy", "still busy", "-busy"] == log
    assert ["done"] == answers


def test_ctrl_c_while_the_main_task_spawns_leaves_no_half_of_an_actor() -> None:
    """The signal that comes while a new actor starts reaches the main task when it is up."""
    log: list[str] = []

    class Starting(Busy):
        def on_start(self) -> None:
            signal.raise_signal(signal.SIGINT)
            self.log.append("+busy")

    async def main() -> None:
        async with ActorSystem() as system:
            pool: Ref[Spawn] = await system.start_child(subtree("pool", PoolSpec(Starting)))
            spawn(pool, log)
            await forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    assert ["+busy", "-busy"] == log


PROGRAM: Final = """
import sys, time
import trio
from callsheet import Actor, ActorSystem, ChildSpec, SupervisorSpec

class Player(Actor):
    def __init__(self, name): self.name = name
    def on_start(self): say(f"+{self.name}")
    async def on_stop(self):
        await trio.sleep(0)
        say(f"-{self.name}")

class Busy(Player):
    def receive(self, message):
        say("busy")
        sys.stdin.readline()  # blocks the whole program, as a long computation does
        say("done")

class Stubborn(Player):
    async def run(self):
        await trio.sleep_forever()
    def on_stop(self): say(f"-{self.name}")

def say(text): print(text, flush=True)

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(somebody_else)
        children = (
            ChildSpec("a", lambda: Player("a")),
            ChildSpec("stubborn", lambda: Stubborn("stubborn"), stop_budget_s=0.01),
            ChildSpec("busy", lambda: Busy("busy")),
        )
        async with ActorSystem(SupervisorSpec(children)) as system:
            try:
                if sys.argv[1] == "busy":
                    system.whereis("/busy").tell("work")
                else:
                    say("waiting")
                await trio.sleep_forever()
            finally:
                say("body ends")

async def somebody_else():
    try:
        await trio.sleep_forever()
    finally:
        say("somebody else ends")

try:
    trio.run(main)
except* KeyboardInterrupt:
    say("interrupted")
"""


@pytest.mark.parametrize("mode", ["busy", "waiting"])
def test_a_real_ctrl_c_stops_the_tree_and_comes_out(mode: str) -> None:
    """While an actor is busy, or nobody is: no handler is cut off, the tree stops in reverse, the program is interrupted."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            assert process.stdout is not None
            started = [process.stdout.readline().strip() for _ in range(4)]
            process.send_signal(signal.SIGINT)
            said = process.communicate("go on\n", timeout=PATIENCE_S)[0].splitlines()
        finally:
            process.kill()

    assert ["+a", "+stubborn", "+busy", mode] == started
    assert [*(["done"] if mode == "busy" else []), "body ends", "-busy", "-stubborn", "-a"] == [
        line for line in said if "else" not in line
    ][:-1]
    assert ("interrupted", 0) == (said[-1], process.returncode)
    assert "somebody else ends" in said
