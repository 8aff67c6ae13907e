"""
An actor through any story: what was taken is handled once or reported once, and nobody waits for ever.

Rule: a story is a list of moves that hypothesis makes up; what must hold is asked at its end.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import trio
import trio.testing
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet.actors.cell import Cell, CellState
from callsheet.actors.errors import ActorDown, AskTimeout, MailboxFull, MessageDropped
from callsheet.actors.mailbox import Mail, Overflow
from callsheet.actors.undelivered import Why

from .roles import Keep, Kind, Role, Tasked
from .world import Ask, World, open_world, settle

MAILS: Final = [
    Mail(),
    Mail(keep=False),
    Mail(redeliver=1),
    Mail(capacity=2),
    Mail(capacity=2, overflow=Overflow.DROP_OLDEST),
    Mail(capacity=2, overflow=Overflow.DROP_NEWEST, keep=False),
    Mail(coalesce=lambda message: message % 3 if isinstance(message, int) else None),
    Mail(
        capacity=2,
        overflow=Overflow.DROP_OLDEST,
        coalesce=lambda message: message % 3 if isinstance(message, int) else None,
    ),
]
MOVES: Final = [
    *("tell", "tell", "tell", "send", "ask", "keep", "slow", "crash", "hang", "leave", "alarm"),
    *("settle", "sleep", "settle", "restart", "restart", "stop", "drain", "kill", "park", "shelve"),
]


@define(eq=False)
class Story:
    """One actor, what was sent to it, and what became of that."""

    world: World
    cell: Cell[Any]
    nursery: trio.Nursery
    log: list[Any]
    lost: list[tuple[Any, Why]]
    taken: list[int] = field(factory=list)
    asked: int = 0
    answered: list[Any] = field(factory=list)
    number: int = 0

    def tell(self) -> None:
        self.number += 1
        try:
            self.cell.ref.tell(self.number)
        except MailboxFull:
            return
        self.taken.append(self.number)

    def send(self) -> None:
        self.number += 1
        self.nursery.start_soon(self._send, self.number)

    async def _send(self, number: int) -> None:
        try:
            await self.cell.ref.send(number)
        except ActorDown:
            return
        self.taken.append(number)

    def ask(self) -> None:
        self._ask(Ask())

    def keep(self) -> None:
        self._ask(Keep())

    def _ask(self, request: Any) -> None:
        self.asked += 1
        self.nursery.start_soon(self._wait, request, math.inf if self.asked % 2 else 3)

    async def _wait(self, request: Any, timeout_s: float) -> None:
        try:
            self.answered.append(await self.cell.ref.ask(request, timeout=timeout_s))
        except (ActorDown, AskTimeout, MessageDropped, MailboxFull) as error:
            self.answered.append(error)

    def slow(self) -> None:
        async def sleep(_role: Role) -> None:
            await trio.sleep(1)

        self._do(sleep)

    def hang(self) -> None:
        async def hang(_role: Role) -> None:
            await trio.sleep_forever()

        self._do(hang)

    def crash(self) -> None:
        self._do(ValueError("boom"))

    def leave(self) -> None:
        self._do(Role.leave)

    def alarm(self) -> None:
        self._do(lambda role: role.alarms.every(0.7, "tick", key="k") and None)

    def _do(self, what: object) -> None:
        with suppress(MailboxFull):
            self.cell.ref.tell(what)

    def stop(self) -> None:
        self.cell.request_stop()

    def drain(self) -> None:
        self.cell.request_stop(drain=True)

    def kill(self) -> None:
        self.cell.kill()

    def park(self) -> None:
        if self.cell.state is CellState.DOWN:
            self.cell.park()

    def shelve(self) -> None:
        if self.cell.state is CellState.DOWN:
            self.cell.shelve()

    async def settle(self) -> None:
        await settle()

    async def sleep(self) -> None:
        await trio.sleep(1)

    async def restart(self) -> None:
        if self.cell.state is CellState.DOWN:
            await self.cell.start()

    async def end(self) -> None:
        self.cell.kill()
        await self.cell.wait_gone()
        self.cell.end()


async def tell_story(kind: Kind, mail: Mail, reports: bool, moves: list[str]) -> Story:
    log: list[Any] = []
    lost: list[tuple[Any, Why]] = []
    on_undelivered: Callable[[Any, Why], object] | None = (lambda *each: lost.append(each)) if reports else None
    mail = evolve(mail, on_undelivered=on_undelivered)
    async with open_world() as world:
        cell = await world.start("a", partial(kind, log), mail)
        with trio.fail_after(10_000):
            async with trio.open_nursery() as nursery:
                story = Story(world, cell, nursery, log, lost)
                for move in moves:
                    waiting = getattr(story, move)()
                    if waiting is not None:
                        await waiting
                await story.end()
        assert 0 == len(world.stage.timers), "nothing is left in the wheel"
    return story


@settings(max_examples=1_000)
@given(
    st.sampled_from([Role, Tasked]),
    st.sampled_from(MAILS),
    st.booleans(),
    st.lists(st.sampled_from(MOVES), max_size=40),
)
def test_whatever_happens_to_an_actor_nothing_is_lost(kind: Kind, mail: Mail, reports: bool, moves: list[str]) -> None:
    """
    Each message that was taken is handled once, or reported once; what was refused is neither. Each ask ends, once.

    What is handled keeps its order; no incarnation overlaps another.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)
    story = trio.run(tell_story, kind, mail, reports, moves, clock=clock)

    handled = [each for each in story.log if isinstance(each, int)]
    lost = [each for each, _ in story.lost if isinstance(each, int)]
    assert story.asked == len(story.answered)
    assert set(handled) <= set(story.taken)
    assert all(n == 1 for n in Counter(handled).values())
    if reports:
        assert Counter(story.taken) == Counter(handled) + Counter(lost)
    lives = [each for each in story.log if isinstance(each, str) and each != "tick"]
    assert [f"{what} {n}" for n in range(1, len(lives) // 2 + 1) for what in ("start", "stop")] == lives
    if "send" not in moves and mail.coalesce is None:
        assert sorted(handled) == handled
