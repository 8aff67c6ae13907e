"""
The two processes of the demonstration, for a test that signals one of them: a receiver that stays, workers that come and go.

Rule: it is the demonstration's own code that runs, in its own processes; who starts and ends them is another, and the
grace and the pace are.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attrs import define, field

from callsheet.demo.audit import Findings, audit
from callsheet.demo.books import Books
from callsheet.demo.ledger import STORE
from callsheet.demo.plan import Plan
from callsheet.store.records import History
from callsheet.store.sqlite.reader import SqliteReader

from .evidence import Evidence, every_run
from .lives import PATIENCE_S, ROOT, Stalled

WORKER: Final = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # before the runtime is open, and after it has closed
from callsheet.demo import worker
worker.GRACE_S = 0.6  # some deliveries hang for longer: this is the wait for each signal
worker.PER_SECOND = {per_second}
worker.main()
"""
PER_SECOND: Final = 60
"""Calls of a worker that is to be ended before it has made them all."""
POLL_S: Final = 0.002


@define(eq=False)
class Webhooks:
    """One folder, one plan."""

    folder: Path
    seed: int
    runs: int
    plan: Plan = field(init=False)
    books: Books = field(init=False)
    worker: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _receiver: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _url: str = field(default="", init=False)

    def __attrs_post_init__(self) -> None:
        self.plan = Plan.of(self.seed, self.runs)
        self.books = Books(self.folder, len(self.plan.calls), self.runs)

    def __enter__(self) -> Self:
        self._receiver = self._start("-m", "callsheet.demo.receiver", stdout=subprocess.PIPE)
        assert self._receiver.stdout is not None
        port = json.loads(self._receiver.stdout.readline())["port"]
        self._url = f"http://127.0.0.1:{port}/hooks"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self.worker, self._receiver):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()

    def _start(self, *program: str, stdout: int, url: str | None = None) -> subprocess.Popen[bytes]:
        options = [f"--folder={self.folder}", f"--seed={self.seed}", f"--runs={self.runs}"]
        with (self.folder / "stderr.txt").open("ab") as stderr:
            return subprocess.Popen(
                [sys.executable, "-W", "error", *program, *options, *([f"--url={url}"] if url else [])],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def start_worker(self, per_second: int = PER_SECOND) -> None:
        """The next life of the worker."""
        self.worker = self._start("-c", WORKER.format(per_second=per_second), stdout=subprocess.DEVNULL, url=self._url)

    def until(self, what: Callable[[], bool], why: str) -> None:
        """Read the books until `what()`, or until the worker has ended. Raises Stalled when neither comes."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not (self.is_over or what()):
            if time.monotonic() > give_up_s:
                raise Stalled(f"waited for {why}: {self.books}\n{self.said()}")
            time.sleep(POLL_S)
            self.books.look()

    @property
    def is_over(self) -> bool:
        """Whether the worker has ended."""
        return self.worker is not None and self.worker.poll() is not None

    def signal(self) -> None:
        """Send SIGTERM to the worker."""
        assert self.worker is not None
        if not self.is_over:
            self.worker.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The worker's exit status."""
        self.until(lambda: False, "the worker's end")
        assert self.worker is not None
        return self.worker.wait()

    def said(self) -> str:
        """What the processes printed to stderr."""
        return (self.folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")

    def store(self) -> Evidence:
        """What the store holds; the ledgers of these processes are of another kind, and `audit` reads them."""
        reader = SqliteReader(str(self.folder / STORE), busy_s=5.0)
        try:
            counters = {(count.lane, count.status): count.n for count in reader.counts()}
            return Evidence((), (), dict(every_run(reader)), counters, ended=False)
        finally:
            reader.close()

    def audit(self, histories: dict[str, History]) -> Findings:
        """The demonstration's own judgement."""
        self.books.look()
        return audit(self.plan.moods, self.books.caller, self.books.receiver, histories)
