"""
Opens a store as somebody else and says what came of it: a program for `test_wrong_database`.

    python opener.py PATH [UID]      {"error": name, "said": sentence}, or {} when it could be opened
    python opener.py PATH hold       says {} when it is open, and keeps it until its input ends
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial

import trio

from callsheet import CallsheetError, Jobs

jobs = Jobs("proof", namespace="real")


@jobs.task("work")
async def work(payload: object, ctx: object) -> None:
    """Does nothing."""


async def open_it(path: str, *, hold: bool) -> dict[str, str]:
    """What came of it."""
    try:
        async with jobs.open(path) as runtime:
            await jobs.enqueue("work")
            await runtime.until_idle()
            if hold:
                os.write(1, b"{}\n")
                await trio.to_thread.run_sync(sys.stdin.read)
    except CallsheetError as error:
        return {"error": type(error).__name__, "said": str(error)}
    return {}


def main() -> None:
    """See the module."""
    path, who = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    if who.isdecimal():
        trio.run(partial(open_it, ":memory:", hold=False))  # load everything while we may read it
        os.setgroups([])
        os.setgid(int(who))
        os.setuid(int(who))
    os.write(1, json.dumps(trio.run(partial(open_it, path, hold=who == "hold"))).encode() + b"\n")


if __name__ == "__main__":
    main()
