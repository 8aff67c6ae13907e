"""
A runtime with a monitor, for the tests of the page: it does what it is told through its standard input, line by line.

    python -m tests.real.page_worker DATABASE PORT TOKEN

It prints the page's link, and then the id of each run it was told to enqueue. Lines: `enqueue TASK`, `release`, `park`,
`schedule`, which makes two that do not come while a test runs, and `schedule KEY`, which makes one that comes before them.
"""

from __future__ import annotations

import sys
from typing import Final

import trio

from callsheet import Discard, Jobs, Monitor, Queue, Runtime

EVIL: Final = "<script>window.stolen = 1</script><img src=x onerror='window.stolen = 1'>"
EVIL_ERROR: Final = (
    "</td></title><script>window.stolen = 1</script> {{7*7}} javascript:alert(1) \u2028 \u202e \x1b[31m \U0001f600"
)

FAR: Final = "2099-03-28T00:00Z"

jobs: Final = Jobs(
    "page", namespace="test", queue=Queue(concurrency=5), queues=[Queue(f"{EVIL[:60]}".replace("/", "|"))]
)
released = trio.Event()
"""There from the first moment: what a killed process left goes on before the block has begun."""


@jobs.task("wait")
async def wait(payload: object, ctx: object) -> None:
    """Until released."""
    await released.wait()


@jobs.task("fail")
async def fail(payload: object, ctx: object) -> None:
    """For good."""
    raise Discard("no such address")


@jobs.task(EVIL.replace("/", "|"))
async def evil(payload: object, ctx: object) -> None:
    """With an error that would like to be markup."""
    raise Discard(EVIL_ERROR)


def say(text: object) -> None:
    """To whoever started us."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def obey(runtime: Runtime) -> None:
    """Do what the lines say, until they end."""
    global released  # noqa: PLW0603 -- a program of one file
    heard = b""
    async with trio.lowlevel.FdStream(0) as stdin:
        while data := await stdin.receive_some():
            *lines, heard = (heard + data).split(b"\n")
            for line in lines:
                match line.decode().split(" ", 1):
                    case ["enqueue", "evil"]:
                        say((await evil.enqueue(None)).run_id)
                    case ["enqueue", task]:
                        say((await jobs.enqueue(task)).run_id)
                    case ["schedule"]:
                        await jobs.schedules.every("hourly", 3_600, "fail", EVIL, start=FAR)
                        await jobs.schedules.cron(EVIL, "30 2 * * *", evil, EVIL, tz="Europe/Berlin", start=FAR)
                    case ["schedule", key]:
                        await jobs.schedules.every(key, 3_600, "fail", start="2099-01-01T00:00Z")
                    case ["release"]:
                        released.set()
                        released = trio.Event()
                    case ["park"]:
                        cell = runtime.system.stage.registry["/tasks/test/page/fail"]
                        while not cell.parked:
                            cell.ref.tell("nonsense")
                            await trio.sleep(0.01)


async def main() -> None:
    """The process."""
    database, port, token = sys.argv[1:]
    monitor = Monitor(port=int(port), token=token)
    async with jobs.open(database, monitor=monitor, grace=0) as runtime:
        say(runtime.monitor_url)
        await obey(runtime)


if __name__ == "__main__":
    trio.run(main)
