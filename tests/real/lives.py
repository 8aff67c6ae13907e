"""
The lives of one runtime on one store, each a process of its own, and how they end.

Rule: what is known of a life is read from its ledger; nothing is asked of it, so nothing delays it.
Not here: what a life does (`worker.py`), what must hold afterwards (`oracle.py`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attrs import define, field

from .ledger import LedgerReader, Line, now_ns

ROOT: Final = Path(__file__).parents[2]
WORKER: Final = Path(__file__).with_name("worker.py")
POLL_S: Final = 0.0005
PATIENCE_S: Final = 60.0
"""How long anything may take before the test fails. Nothing is measured by it."""


class Stalled(AssertionError):
    """What was waited for did not come."""


@define(eq=False)
class Life:
    """One process. It waits for its orders before it touches the store."""

    number: int
    process: subprocess.Popen[bytes]
    stderr: Path
    boot: str | None = None
    began_ns: int = 0
    """When it had loaded its code and got its orders."""
    on_stage: dict[str, Line] = field(factory=dict)
    """By run id: attempts that began and have not ended."""
    started: set[str] = field(factory=set)
    """Runs of which a handler began in this life."""
    first_ns: int = 0
    """When the first of them did."""
    opened: bool = False
    closed: bool = False

    def end(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        self.process.send_signal(number)

    def said(self) -> str:
        """What it printed to stderr."""
        return f"life {self.number} said: {self.stderr.read_text(encoding='utf-8', errors='replace')}"


@define(eq=False)
class Lives:
    """One folder, one store, one life after the other."""

    folder: Path
    seed: int
    python: tuple[str, ...] = (sys.executable, "-W", "error")
    worker: Path = WORKER
    poll_s: float = POLL_S
    patience_s: float = PATIENCE_S
    number: int = 0
    current: Life | None = None
    _next: subprocess.Popen[bytes] | None = None
    _stage: LedgerReader = field(init=False)
    killed: set[str] = field(factory=set)
    """Boot ids of the lives that were killed."""
    began_ns: dict[str, int] = field(factory=dict)
    """When each life had loaded its code and got its orders, by boot id."""

    def __attrs_post_init__(self) -> None:
        self._stage = LedgerReader(self.folder / "stage.jsonl")

    def __enter__(self) -> Self:
        self._prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self._next, self.current.process if self.current else None):
            if process is not None:
                process.kill()
                process.wait()
                assert process.stdin is not None
                process.stdin.close()

    def _prepare(self) -> None:
        """Start the next process ahead of time, so that its imports cost nobody's time."""
        with self._stderr(self.number + 1).open("wb") as stderr:
            self._next = subprocess.Popen(
                [*self.python, self.worker, self.folder],
                stdin=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": str(ROOT)},  # this tree, whatever is installed
            )

    def _stderr(self, number: int) -> Path:
        return self.folder / f"stderr-{number}.txt"

    def begin(self, **orders: object) -> Life:
        """Give the next life its orders."""
        process, self._next = self._next, None
        assert process is not None
        assert process.stdin is not None
        self.number += 1
        self.current = life = Life(self.number, process, self._stderr(self.number))
        process.stdin.write(json.dumps({"life": life.number, "seed": self.seed, **orders}).encode() + b"\n")
        process.stdin.close()
        return life

    def prepare_next(self) -> None:
        """See `_prepare`; call it when the current life is under way."""
        self._prepare()

    def look(self) -> None:
        """Read what the current life wrote down since the last look."""
        life = self.current
        assert life is not None
        for line in self._stage.read():
            match line["say"]:
                case "awake":
                    life.began_ns = line["t"]
                case "open":
                    self._name(life, line["boot"])
                    life.opened = True
                case "closed":
                    life.closed = True
                case "start":
                    self._name(life, line["boot"])
                    life.on_stage[line["run"]] = line
                    life.started.add(line["run"])
                    life.first_ns = life.first_ns or line["t"]
                case "end":
                    life.on_stage.pop(line["run"], None)

    def _name(self, life: Life, boot: str) -> None:
        life.boot = boot
        self.began_ns[boot] = life.began_ns

    def until(self, what: Callable[[], bool], why: str) -> None:
        """Look until `what()`. Raises Stalled, with what the life said, when it does not come or the life has ended."""
        give_up_ns = now_ns() + int(self.patience_s * 1e9)
        life = self.current
        assert life is not None
        while True:
            gone = life.process.poll() is not None
            self.look()
            if what():
                return
            if gone or now_ns() > give_up_ns:
                ending = f"ended with {life.process.returncode}" if gone else "went on without it"
                raise Stalled(f"life {life.number}: waited for {why}, and it {ending}\n{life.said()}")
            time.sleep(self.poll_s)

    @property
    def is_over(self) -> bool:
        """Whether the current life has ended."""
        return self.current is not None and self.current.process.poll() is not None

    def said(self) -> str:
        """What the current life printed to stderr."""
        return self.current.said() if self.current is not None else ""

    def wait(self) -> int:
        """Wait until the current life has ended: its exit status."""
        life = self.current
        assert life is not None
        try:
            status = life.process.wait(self.patience_s)
        except subprocess.TimeoutExpired:
            raise Stalled(f"life {life.number} does not end\n{life.said()}") from None
        self.look()
        return status

    def kill(self) -> Life:
        """End the current life with SIGKILL. What was on stage then is in its `on_stage`."""
        life = self.current
        assert life is not None
        life.end(signal.SIGKILL)
        status = self.wait()
        if status == 0 and life.closed:
            return life  # it was told to stop, and had
        assert status == -signal.SIGKILL, f"life {life.number} had ended with {status}\n{life.said()}"
        if life.boot is not None:
            self.killed.add(life.boot)
        return life
