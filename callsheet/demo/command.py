"""
`callsheet demo`: its options, and what becomes of its exit status.

Rule: this is the only file of the demonstration that knows the command line. What it plays is imported when it is called:
`callsheet --help` has no use for it.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import trio
import typer
from rich.console import Console

from ..extras import require

SEEDS: Final = 1_000_000
MAX_RUNS: Final = 5_000
"""What can be done within the time limit."""


def demo(
    seed: Annotated[
        int | None, typer.Option(min=0, help="Repeat the plan of an earlier run.", show_default="random")
    ] = None,
    runs: Annotated[int, typer.Option(min=10, max=MAX_RUNS, help="How many webhooks to deliver.")] = 1_000,
    monitor: Annotated[bool, typer.Option("--monitor", help="Serve the monitor's page, until Ctrl-C.")] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Leave the database and the ledgers in this new folder.", show_default="removed")
    ] = None,
    answer_early: Annotated[
        float,
        typer.Option(
            min=0,
            max=1_000,
            metavar="MS",
            hidden=True,
            help="Let the store answer so many milliseconds before its commit, to show that the check can fail.",
        ),
    ] = 0.0,
) -> None:
    """
    Deliver 1,000 webhooks, kill the worker half-way, and count what was lost.

    A receiver answers over real HTTP: mostly 200, but also 500, 503, 410, or nothing at all. A worker process
    requests the deliveries (some twice, some delayed) and makes them. When half are acknowledged and many are under way it is
    killed with SIGKILL and started again. At the end the caller's ledger, the receiver's ledger and the store are compared.

    Exit status: 0 when nothing that was acknowledged is missing, 1 when something is or when the demonstration failed.
    """
    require("demo", "httpx")
    with _folder(keep) as folder:
        status = trio.run(partial(_played, folder, seed, runs=runs, monitor=monitor, answer_early_ms=answer_early))
    raise typer.Exit(status)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where everything lives: a temporary folder, or `keep`."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="callsheet-demo-") as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        used = any(keep.iterdir())
    except OSError as error:
        raise typer.BadParameter(f"{keep} cannot be used: {error.strerror}", param_hint="'--keep'") from None
    if used:
        raise typer.BadParameter(f"{keep} is not empty: name a new folder", param_hint="'--keep'")
    Console().print(
        f"The store, the ledgers and the logs are kept in {keep}", markup=False, highlight=False, soft_wrap=True
    )
    yield keep.resolve()


async def _played(folder: Path, seed: int | None, **wishes: Any) -> int:
    """The exit status of one demonstration."""
    from ..actors.seams import Seams
    from .child import DemoFailed
    from .play import Play, Setting
    from .show import Show

    if seed is None:
        seed = int(Seams.real().draw() * SEEDS)
    show = Show(Console())
    setting = Setting(seed, **wishes)
    show.say(f"{setting.runs:,} webhooks; the worker will be killed half-way. --seed {seed} repeats the plan.")
    play = Play(setting, folder, show)
    signals: list[signal.Signals] = []
    failed = ""
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_cancel_on_signal, nursery.cancel_scope, signals)
            await play.run()
            nursery.cancel_scope.cancel()
    except* DemoFailed as group:
        failed = str(_leaf(group))
    if failed:
        Console(stderr=True).print(f"The demonstration failed: {failed}", markup=False, highlight=False, soft_wrap=True)
        return 1
    if play.found is None:
        show.say(f"Stopped by {signals[0].name}; the worker and the receiver have ended.")
        return 128 + signals[0]
    return 0 if play.found.is_clean else 1


async def _cancel_on_signal(
    scope: trio.CancelScope,
    signals: list[signal.Signals],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for number in received:
            signals.append(signal.Signals(number))
            scope.cancel()


def _leaf(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
