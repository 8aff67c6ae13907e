"""
P1 to P6 and P10 with real processes: four clients call as fast as they can beside one worker, one of them is killed inside a
transaction and one is stopped inside one; judged by ledgers outside the store.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest
from attrs import define, field, frozen

from .chance import some_seed
from .evidence import Evidence, gather
from .ledger import LedgerReader, Line, now_ns
from .lives import PATIENCE_S, ROOT, Stalled
from .oracle import reached, violations
from .oracle_calls import Told
from .oracle_store import plan_of

HERE: Final = Path(__file__).parent
POLL_S: Final = 0.002
SAID: Final = ("the store refuses writes", "the store takes writes again")
"""What a worker logs when its store does no longer, and when it does again."""
KILLED, STOPPED = 12, 13
CLIENTS: Final = (11, KILLED, STOPPED, 14)


@define(eq=False)
class Smithy:
    """One folder, one worker, and those who hammer at it."""

    folder: Path
    python: tuple[str, ...] = (sys.executable, "-W", "error")
    processes: dict[int, subprocess.Popen[bytes]] = field(factory=dict)
    said: list[Line] = field(factory=list)
    """What stands in `stage.jsonl`."""
    wal_kib: int = 0
    """How long the log became."""
    _stage: LedgerReader = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._stage = LedgerReader(self.folder / "stage.jsonl")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()

    def start(self, program: str, number: int) -> None:
        """Start a process; it has loaded its code before it reads its orders."""
        with (self.folder / f"stderr-{number}.txt").open("wb") as stderr:
            self.processes[number] = subprocess.Popen(
                [*self.python, HERE / program, self.folder, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def order(self, number: int, **orders: object) -> None:
        """What it is to do."""
        process = self.processes[number]
        assert process.stdin is not None
        process.stdin.write(json.dumps(orders).encode() + b"\n")
        process.stdin.flush()

    def stderr(self, name: int) -> str:
        """What a process printed there."""
        return (self.folder / f"stderr-{name}.txt").read_text(encoding="utf-8", errors="replace")

    def look(self) -> None:
        """Read what was written down since the last look."""
        self.said += self._stage.read()
        wal = self.folder / "jobs.db-wal"
        self.wal_kib = max(self.wal_kib, wal.stat().st_size // 1024 if wal.exists() else 0)

    def until(self, what: Callable[[], Any], why: str, name: int, patience_s: float = PATIENCE_S) -> None:
        """Look until `what()`. Raises Stalled, with what the process said, when it does not come or the process has ended."""
        give_up_ns = now_ns() + int(patience_s * 1e9)
        while True:
            gone = self.processes[name].poll() is not None
            self.look()
            if what():
                return
            if gone or now_ns() > give_up_ns:
                raise Stalled(f"waited for {why}; process {name} said: {self.stderr(name)}")
            time.sleep(POLL_S)

    def lines(self, say: str, **facts: object) -> list[Line]:
        """What was written down of a kind."""
        return [line for line in self.said if line["say"] == say and facts.items() <= line.items()]

    def since(self, then_ns: int, say: str, **facts: object) -> list[Line]:
        """The same, after then."""
        return [line for line in self.lines(say, **facts) if line["t"] > then_ns]

    def wait(self, name: int, patience_s: float = PATIENCE_S) -> str:
        """Wait until a process has ended by itself, and well: what it printed."""
        self.until(lambda: self.processes[name].poll() is not None, "its end", name, patience_s)
        out, _ = self.processes[name].communicate()
        assert self.processes[name].returncode == 0, self.stderr(name)
        return out.decode()


@frozen
class Story:
    """How long it takes, and when who is hit, in seconds."""

    lasts_s: float
    kill_s: float
    stop_s: float
    busy_s: float


SHORT: Final = Story(lasts_s=8, kill_s=1.5, stop_s=3, busy_s=0.5)
MINUTE: Final = Story(lasts_s=60, kill_s=15, stop_s=30, busy_s=5)


@pytest.mark.parametrize(
    "story", [pytest.param(SHORT, id="short"), pytest.param(MINUTE, id="minute", marks=pytest.mark.slow)]
)
def test_clients_at_full_speed_lose_nothing(story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    I1 to I33 and P10: what four clients were told holds, although one was killed and one was stopped inside a transaction;
    the worker shows that the store is busy, goes on when it is not, and restarts none of its actors.
    """
    seed = some_seed()
    with Smithy(tmp_path) as smithy:
        smithy.start("anvil.py", 1)
        for name in CLIENTS:
            smithy.start("hammering.py", name)
        smithy.order(1, busy_s=story.busy_s)
        smithy.until(lambda: smithy.lines("open"), "the worker to open", 1)
        for name in CLIENTS:
            smithy.until(lambda: smithy.lines("awake", name=name), "it to be ready", name)  # noqa: B023 -- called at once
        began_ns = now_ns()
        hit_ns = {KILLED: began_ns + int(story.kill_s * 1e9), STOPPED: began_ns + int(story.stop_s * 1e9)}
        until_ns = began_ns + int(story.lasts_s * 1e9)
        for name in CLIENTS:
            inside_ns = hit_ns.get(name, 0)
            smithy.order(name, seed=seed, until_ns=until_ns, inside_ns=inside_ns, busy_s=story.busy_s)

        smithy.until(lambda: smithy.lines("inside", name=KILLED), "a transaction of the one to be killed", KILLED)
        smithy.processes[KILLED].kill()
        smithy.until(lambda: smithy.lines("inside", name=STOPPED), "a transaction of the one to be stopped", STOPPED)
        smithy.processes[STOPPED].send_signal(signal.SIGSTOP)
        stopped_ns = now_ns()
        # what is shown now, whenever it began: a busy machine may let it be shown before the process is stopped
        smithy.until(lambda: [*map(is_busy, smithy.lines("trouble")[-1:])] == [True], "trouble to be shown", 1)
        shown = smithy.lines("trouble")[-1]
        (tmp_path / "go").touch()
        smithy.processes[STOPPED].send_signal(signal.SIGCONT)
        smithy.until(lambda: smithy.since(shown["t"], "trouble", trouble=None), "the trouble to end", 1)
        healed_ns = now_ns()

        for name in set(CLIENTS) - {KILLED}:
            smithy.wait(name, story.lasts_s + PATIENCE_S)
        ended_ns = now_ns()
        (tmp_path / "finish").touch()
        told = json.loads(smithy.wait(1, 2 * PATIENCE_S))
        smithy.look()
    evidence = gather(tmp_path, (), ended=True)

    held = stopped_ns - int(story.busy_s * 1e9), healed_ns
    with capsys.disabled():
        sys.stdout.write(f"\nhammer: CALLSHEET_SEED={seed}\n")
        sys.stdout.write(figures(smithy, evidence.caller, held, (began_ns, ended_ns)))
        sys.stdout.write(f"  {dict(sorted(reached(evidence).items()))}\n")
    assert [] == violations(evidence)
    assert [] == left_by(evidence, KILLED)
    assert ([], "None") == (told["restarted"], told["trouble"])
    assert [told["boot"]] == [line["boot"] for line in smithy.lines("open")]
    assert {told["boot"]} == {attempt.owner for history in evidence.runs.values() for attempt in history.attempts}
    assert f"{tmp_path / 'jobs.db'} was locked by another transaction" in shown["trouble"]
    assert "The store takes no writes now" in shown["text"]
    logged = [each for line in smithy.stderr(1).splitlines() if "the store" in line for each in SAID if each in line]
    assert logged
    assert [*SAID] * (len(logged) // 2) == logged


def is_busy(trouble: Line) -> bool:
    """Whether the worker was shown to wait for somebody else's transaction."""
    return bool(trouble["reason"] == "store_busy")


def left_by(evidence: Evidence, name: int) -> list[str]:
    """What is in the store of the call that a killed client was not answered: it was killed before the commit."""
    told = Told.of(line for line in evidence.caller if line["id"].startswith(f"{name}."))
    calls = [*told.enqueues, *told.manys, *told.cancels, *told.replays]
    (last,) = [call.ask for call in calls if call.ack is None and call.refused is None]
    plans = last.get("plans") or [last["plan"]] if "of" not in last else []
    names = {plan["n"] for plan in plans} - {call.ask["plan"]["n"] for call in told.enqueues if call.ack}
    return [
        history.run.id
        for history in evidence.runs.values()
        if history.run.reason == f"replay {last['id']}" or plan_of(history.run)["n"] in names
    ]


def figures(smithy: Smithy, calls: Sequence[Line], held: tuple[int, int], lasted: tuple[int, int]) -> str:
    """How fast it was, for people."""
    shown = []
    for name in CLIENTS:
        asks = {line["id"]: line for line in calls if line["say"] == "ask" and line["id"].startswith(f"{name}.")}
        ends = [line for line in calls if line["say"] != "ask" and line["id"] in asks]
        took = sorted(
            (line["t"] - asks[line["id"]]["t"]) / 1e6 for line in ends if not held[0] < asks[line["id"]]["t"] < held[1]
        )
        whys = Counter(line["why"] for line in ends if line["say"] == "refused")
        first, last = asks[next(iter(asks))]["t"], ends[-1]["t"]
        free_s = (last - first - max(0, min(last, held[1]) - held[0])) / 1e9
        shown.append(
            f"  client {name}: {len(took) / free_s:.0f} calls/s, p50 {took[len(took) // 2]:.1f} ms, "
            f"p99 {took[len(took) * 99 // 100]:.1f} ms, max {took[-1]:.0f} ms; refused {dict(whys)}\n"
        )
    starts = [line["t"] for line in smithy.lines("start") if lasted[0] < line["t"] < lasted[1]]
    gaps = sorted((b - a) / 1e6 for a, b in pairwise(starts) if not held[0] < a < held[1])
    states = smithy.lines("state")
    shown.append(
        f"  worker: {len(starts) / (lasted[1] - lasted[0]) * 1e9:.0f} attempts/s meanwhile, longest pause {gaps[-1]:.0f} ms, "
        f"{states[0]['rss_kib'] // 1024} → {states[-1]['rss_kib'] // 1024} MiB, log up to {smithy.wal_kib // 1024} MiB\n"
    )
    return "".join(shown)
