"""The worker: the one process that runs what all the others request. Ctrl-C ends it."""

import sys

import trio
from reports import jobs


async def main(database: str) -> None:
    """Run what is requested until a signal comes; what is under way then ends first."""
    async with jobs.open(database, signals=True) as runtime:
        print("working", flush=True)
        await runtime.forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
