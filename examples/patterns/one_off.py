"""
One-off: something that need not be done while the customer waits. To be copied.

    python examples/patterns/one_off.py
"""

import trio
from attrs import frozen

from callsheet import Context, Jobs

jobs = Jobs("images", namespace="example")


@frozen
class Picture:
    """The payload: stored as JSON, checked when it is requested, and given back as this class."""

    path: str
    width: int


@jobs.task("resize-image")
async def resize_image(picture: Picture, ctx: Context) -> str:
    """One attempt. What is returned is kept as the result."""
    await trio.sleep(0.05)  # plays the work
    return f"{picture.path} at {picture.width} pixels"


async def main() -> None:
    """A program that has pictures to resize, among other things."""
    async with jobs.open(":memory:") as runtime:  # in earnest a file, "images.db", so that it outlives the process
        receipt = await resize_image.enqueue(Picture("anna.jpg", 320))
        print(f"requested: {receipt.run.status}")
        await runtime.until_idle()  # only to have something to show: a service would go on with its day
        run = (await jobs.runs.get(receipt.run_id)).run
        print(f"{run.status} after {run.attempt} attempt: {await jobs.runs.result(receipt.run_id)}")


if __name__ == "__main__":
    trio.run(main)
