"""A store that refuses for a while, as whoever looks at the runtime sees it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from callsheet import Context, Jobs, Node, StoreBusy
from callsheet.actors.seams import Seams
from callsheet.store.contract import Answer, Command
from callsheet.store.memory import MemoryStore
from callsheet.store.records import Now

from .house import settle


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
