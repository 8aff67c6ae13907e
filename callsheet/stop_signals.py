"""
Signals that end a runtime, where it is told to heed them: the first ends the block, every further one the grace too.

Rule: a library takes no signals unless it is told to; what nobody took is raised again.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio
from attrs import define

from .errors import InvalidOption

if TYPE_CHECKING:
    from .open_options import OpenOptions
    from .runtime import Runtime

_log = logging.getLogger("callsheet")

LATE_SIGNALS_S: Final = 0.001
"""How long signals that came when all was over are collected."""


@define(eq=False)
class Signals:
    """Those that end the runtime, one by one."""

    received: AsyncIterator[int]
    obeyed: bool = False
    """Whether one of them ended the block."""


@asynccontextmanager
async def stop_signals(options: OpenOptions) -> AsyncIterator[Signals | None]:
    """
    From before the store is opened until it is closed; None when signals are left to the host.

    Once one has been obeyed, a further one does not kill a process that is closing its store: trio would raise again what
    nobody took. One that comes while a block closes of itself is for the host, and is raised again then.
    """
    if not options.get("signals"):
        yield None
        return
    if threading.current_thread() is not threading.main_thread():
        raise InvalidOption("signals", "only the main thread receives signals: open it there, or without signals=True")
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        signals = Signals(received)
        try:
            yield signals
        finally:
            if signals.obeyed:
                with trio.move_on_after(LATE_SIGNALS_S, shield=True):
                    async for _ in received:
                        pass


async def obey(runtime: Runtime, signals: Signals) -> None:
    """The first signal ends the block, every further one the grace too."""
    async for number in signals.received:
        _log.info("%s: stopping%s", signal.Signals(number).name, " at once" if signals.obeyed else "")
        runtime.stop(grace=0 if signals.obeyed else None)
        signals.obeyed = True
