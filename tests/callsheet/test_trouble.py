"""A store that refuses for a while, as whoever looks at the runtime sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import trio

from callsheet import Context, Jobs, Node, Status, StoreBusy
from callsheet.actors.journal import CLOSE_S, RETRY_S
from callsheet.actors.seams import Seams
from callsheet.store.contract import Answer, Command
from callsheet.store.memory import MemoryStore
from callsheet.store.records import Now

from .house import read, settle


class Locked(MemoryStore):
    """Refuses while somebody else holds it."""

    is_locked = False

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        if self.is_locked:
            raise StoreBusy("here", 5.0)
        return super().write(commands, now)


def journal(tree: Node) -> Node:
    return next(node for node in tree.children if node.name == "journal")


async def test_p10_a_busy_store_is_shown_and_heals(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """While another process holds it, the tree says so, new work is refused and ends wait; then everything goes on."""
    store, jobs = Locked(), Jobs("j")

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> str:
        await trio.sleep(1)
        return "done"

    async with jobs.open(store, seams=Seams.seeded(1)) as runtime:
        run = await work.enqueue(1)
        await trio.sleep(0.5)
        store.is_locked = True
        await trio.sleep(1)

        assert "StoreBusy" in str(journal(runtime.tree()).why)
        with pytest.raises(StoreBusy):
            await work.enqueue(2)
        store.is_locked = False
        await runtime.until_idle()
        await settle()

        assert None is journal(runtime.tree()).why
        assert 1 == caplog.text.count("cannot claim")
        assert "done" == (await jobs.runs.get(run.run_id)).result


# ---------------------------------------------------------------- a system that stops while the store refuses


class Refusing(Locked):
    """Refuses from when it is told to, until `heals_s` on trio's clock; counts its refusals, and may do something then."""

    heals_s = math.inf
    refusals = 0

    def __init__(self) -> None:
        super().__init__()
        self.on_refusal: dict[int, Callable[[], object]] = {}

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        if self.is_locked and trio.current_time() < self.heals_s:
            self.refusals += 1
            self.on_refusal.get(self.refusals, lambda: None)()
        elif self.is_locked:
            self.is_locked = False
        return super().write(commands, now)


@pytest.mark.parametrize(
    ("scheduler", "left"),
    [
        ("lives", Status.SUCCEEDED),
        ("dies as a try fails", Status.SUCCEEDED),
        ("dies between two tries", Status.SUCCEEDED),
        (
            "died before",
            Status.QUEUED,
        ),  # so its handler is told to stop, and the journal with it: then the block is left
    ],
)
@pytest.mark.parametrize("heals_after_s", [3.0, math.inf])
async def test_p9_a_store_that_refuses_cannot_hang_the_end(
    autojump_clock: trio.abc.Clock,
    caplog: pytest.LogCaptureFixture,
    scheduler: str,
    left: Status,
    heals_after_s: float,
) -> None:
    """The journal tries on while the system stops, and gives up loudly; also when nobody is left who pumps the wheel."""
    store, jobs = Refusing(), Jobs("j")

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        async with jobs.open(store, seams=Seams.seeded(1), grace=2) as runtime:
            stage = runtime.system.stage

            async def give_up() -> None:  # a test that hangs says less than one that fails
                await trio.sleep(100)
                runtime.system.vanish()

            nursery.start_soon(give_up)

            def die() -> None:
                stage.registry["/scheduler"].ref.tell("poison")

            async def die_soon() -> None:
                await trio.sleep(RETRY_S / 2)
                die()

            run = await work.enqueue(1)
            await trio.sleep(0.5)
            store.is_locked, store.heals_s = True, trio.current_time() + heals_after_s
            if scheduler == "died before":
                die()
                await settle()
            elif scheduler == "dies as a try fails":
                store.on_refusal[3] = die
            elif scheduler == "dies between two tries":
                store.on_refusal[3] = lambda: stage.nursery.start_soon(die_soon)
            left_s = trio.current_time()
        took_s = trio.current_time() - left_s
        nursery.cancel_scope.cancel()

    history = read(lambda: store, lambda reader: reader.get(run.run_id))
    assert history is not None
    if heals_after_s == math.inf:
        assert 2 + CLOSE_S < took_s <= 2 + CLOSE_S + 2 * RETRY_S
        assert "could not be written before the end" in caplog.text
        assert Status.RUNNING is history.run.status
    else:
        assert heals_after_s <= took_s < heals_after_s + RETRY_S
        assert left is history.run.status
    assert took_s > RETRY_S * (store.refusals - 2)  # it does not try all the time
