"""
Delayed: a reminder that goes out some time from now, or at a time that was agreed. To be copied.

    python examples/patterns/delayed.py
"""

from datetime import UTC, datetime, timedelta

import trio

from callsheet import Context, Jobs

jobs = Jobs("reminders", namespace="example")


@jobs.task("send-reminder")
async def send_reminder(text: str, ctx: Context) -> None:
    """One attempt. It never begins before its time, also when the program was restarted meanwhile."""
    print(f"reminder: {text}")


async def main() -> None:
    """Three reminders, requested in another order than they are due in."""
    async with jobs.open(":memory:"):
        appointment = datetime.now(UTC) + timedelta(seconds=0.9)
        agreed = await send_reminder.enqueue("your appointment begins", run_at=appointment)
        soon = await send_reminder.enqueue("your appointment is near", delay=0.5)
        never = await send_reminder.enqueue("you have missed it", delay=timedelta(days=1))
        for receipt in (agreed, soon, never):
            details = await jobs.runs.get(receipt.run_id)
            print(f"{details.payload}: {details.run.status}, waits for {details.waiting_for}")

        await jobs.runs.cancel(never.run_id, reason="the appointment was kept")
        for receipt in (agreed, soon, never):
            run = await jobs.runs.wait(receipt.run_id)
            print(f"{run.status} after {run.attempt} attempts")


if __name__ == "__main__":
    trio.run(main)
