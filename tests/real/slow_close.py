"""
A program whose store takes its time to close, for `test_signals`: it says `open`, `closing`, `closed`, `after`.

    python slow_close.py PATH forever|once
"""

from __future__ import annotations

import os
import sys
import time

import trio

from callsheet import Jobs, open_runtime
from callsheet.store.sqlite import SqliteStore

jobs = Jobs("proof", namespace="real")


@jobs.task("work")
async def work(payload: object, ctx: object) -> None:
    """Does nothing."""


def say(word: str) -> None:
    """One line."""
    os.write(1, f"{word}\n".encode())


class SlowStore(SqliteStore):
    """As after a busy day, with a long log to copy."""

    def close(self) -> None:
        """Copy it."""
        say("closing")
        time.sleep(0.5)
        super().close()
        say("closed")


async def main(path: str, how_long: str) -> None:
    """One block."""
    async with open_runtime(SlowStore(path), jobs, signals=True) as runtime:
        say("open")
        if how_long == "forever":
            await runtime.forever()
    say("after")


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
