"""
The demonstration from start to end: receiver and worker are started, the worker is killed and started again, the books
are compared.

Rule: it steers by the books alone, and whatever it started ends with it, however it ends itself.
Not here: what is shown (`show`), what counts as lost (`audit`), what the two processes do.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import trio
from attrs import define, field, frozen

from ..actors.seams import Seams
from ..store.records import History, RunFilter
from ..store.sqlite.reader import SqliteReader
from .audit import Findings, audit
from .books import Books
from .child import Child, DemoFailed, start
from .ledger import STORE
from .plan import Plan
from .show import Show, Times

LIMIT_S: Final = 120.0
"""It is done within this time, or fails."""
LOOK_S: Final = 0.01
"""How often the books are read: the kill comes at most so long after its moment."""
FREEZE_S: Final = 0.02
"""How long a process is given to stop after SIGSTOP."""
PAGE: Final = 500


@frozen
class Setting:
    """What the user asked for."""

    seed: int
    runs: int = 1_000
    monitor: bool = False
    answer_early_ms: float = 0.0


@define(eq=False)
class Play:
    """One demonstration; `folder` is empty, and its own. Make it inside `trio.run`."""

    setting: Setting
    folder: Path
    show: Show
    found: Findings | None = field(default=None, init=False)
    """Once the table is there."""
    _plan: Plan = field(init=False)
    _books: Books = field(init=False)
    _seams: Seams = field(factory=Seams.real, init=False)
    _began_s: float = field(init=False)
    _token: str = field(init=False)
    """The monitor's secret: with the same one, and on the same port, the link stays good in both lives of the worker."""
    _page: str | None = field(default=None, init=False)
    """The link."""

    def __attrs_post_init__(self) -> None:
        self._plan = Plan.of(self.setting.seed, self.setting.runs)
        self._books = Books(self.folder, len(self._plan.calls), self._plan.deliverable)
        self._began_s = self._seams.clock.mono_s()
        self._token = self._seams.ids.token()

    async def run(self) -> None:
        """
        Play it and show what came of it. With a monitor it then goes on until it is cancelled.

        Raises DemoFailed (in a group), when it cannot be played.
        """
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(LIMIT_S) as limit, self.show.live():
                found, times = await self._acts(nursery)
            if limit.cancelled_caught:
                raise DemoFailed(f"it was not done after {LIMIT_S:.0f} seconds: {self._books}{self._unfinished()}")
            self.show.table(found, times, self._page)
            self.found = found
            if self._page is not None:
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()

    async def _acts(self, nursery: trio.Nursery) -> tuple[Findings, Times]:
        seed, runs = self.setting.seed, self.setting.runs
        receiver = await start(nursery, "the receiver", "receiver", self.folder, seed=seed, runs=runs)
        url = f"http://127.0.0.1:{await receiver.word('port')}/hooks"
        worker = await self._start_worker(nursery, url)
        self.show.phase = "delivering"
        await self._until(lambda: self._books.is_half_way)
        if self.setting.answer_early_ms:
            await self._freeze_in_debt(worker)
        await worker.end(signal.SIGKILL)
        self._books.look()
        self.show.say(self._obituary())

        restarted_us = self._seams.clock.wall_us()
        worker = await self._start_worker(nursery, url)
        self.show.phase = "restarted"
        await self._until(lambda: len(self._books.caller) >= self._books.calls or "done" in worker.said)
        self.show.phase = "retrying"
        await self._until(lambda: "done" in worker.said)
        if not self.setting.monitor:  # with one, both stay: runs can still be replayed
            await worker.ended()
            await receiver.end(signal.SIGTERM)
        self._books.look()
        found = audit(
            self._plan.moods,
            self._books.caller,
            self._books.receiver,
            await self._histories(),
            steered=self.setting.monitor,
        )
        opening_us = await worker.word("opening_us")
        return found, Times(
            total_s=self._passed_s(),
            recovery_s=None if found.resumed_us is None else (found.resumed_us - restarted_us) / 1e6,
            python_s=(opening_us - restarted_us) / 1e6,
        )

    async def _start_worker(self, nursery: trio.Nursery, url: str) -> Child:
        worker = await start(
            nursery,
            "the worker",
            "worker",
            self.folder,
            token=self._token,
            url=url,
            seed=self.setting.seed,
            runs=self.setting.runs,
            monitor=self._port if self.setting.monitor else None,
            answer_early=self.setting.answer_early_ms or None,
        )
        if self.setting.monitor and self._page is None:
            self._page = await worker.word("monitor")
            self.show.say(f"Watch it live; the link stays good when the worker is killed: {self._page}")
        return worker

    @property
    def _port(self) -> int:
        return 0 if self._page is None else urlsplit(self._page).port or 0

    async def _until(self, what: Callable[[], bool]) -> None:
        """Keep reading the books, and showing what they say, until `what` is so."""
        while not what():
            self._books.look()
            self.show.tick(self._books, self._passed_s())
            await trio.sleep(LOOK_S)

    async def _freeze_in_debt(self, worker: Child) -> None:
        """
        Stop a worker whose store answers early while it owes a commit for something acknowledged: its death then loses that.

        A commit that is under way when the process stops was announced before, and does not count.
        """
        while True:
            worker.process.send_signal(signal.SIGSTOP)
            await trio.sleep(FREEZE_S)
            self._books.look()
            if self._books.has_debts:
                return
            worker.process.send_signal(signal.SIGCONT)
            await trio.sleep(LOOK_S)

    async def _histories(self) -> dict[str, History]:
        """Everything that the store holds, read by somebody who had no part in writing it."""
        reader = SqliteReader(str(self.folder / STORE), busy_s=5.0)
        histories: dict[str, History] = {}
        before: str | None = None
        try:
            while page := reader.list(RunFilter(), limit=PAGE, before=before):
                await trio.lowlevel.checkpoint()
                before = page[-1].id
                found = [reader.get(run.id) for run in page]
                histories.update({history.run.id: history for history in found if history is not None})
        finally:
            reader.close()
        return histories

    def _unfinished(self) -> str:
        """What the store says of the runs that should have ended by now."""
        if not (self.folder / STORE).exists():
            return ""
        reader = SqliteReader(str(self.folder / STORE), busy_s=5.0)
        try:
            left = [f"{count.n:,} {count.status}" for count in reader.counts() if not count.status.is_final]
        finally:
            reader.close()
        return f"; the store has {', '.join(left) or 'nothing unfinished'}"

    def _obituary(self) -> str:
        books = self._books
        return (
            f"Killed the worker (SIGKILL) after {self._passed_s():.1f} s: "
            f"{len(books.caller):,}/{books.calls:,} acknowledged, {books.in_flight} in flight."
        )

    def _passed_s(self) -> float:
        return self._seams.clock.mono_s() - self._began_s
