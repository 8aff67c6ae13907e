"""
Retrying: a provider that fails now and then, and says at times how long to leave it alone. To be copied.

    python examples/patterns/retrying.py
"""

import trio

from callsheet import Context, Custom, Discard, Jobs, Retry, RetryAfter

jobs = Jobs("providers", namespace="example", retry=Retry(attempts=3, backoff="fixed", initial_delay=0.1))
"""The policy of every task that says nothing else: in earnest seconds and minutes."""


@jobs.task("sync-provider", retry=Retry(attempts=4, backoff=Custom([0.05, 0.1, 0.2])), timeout=5)
async def sync_provider(provider: str, ctx: Context) -> int:
    """One attempt. To return is success; what is raised decides how it goes on."""
    match PROVIDERS[provider].pop(0):
        case "closed":
            raise Discard("the account is closed")  # no further attempt would help
        case "busy":
            raise RetryAfter(0.1, "asked us to wait")  # they know best when
        case "down":
            raise ConnectionError("no answer")  # as the policy says
        case answer:
            return len(answer)


PROVIDERS = {"bank": ["down", "busy", "3 accounts"], "shop": ["closed"], "post": ["down"] * 4}
"""What each provider answers, one time after the other: plays the network."""


async def main() -> None:
    """Each provider is a run of its own: none waits for another."""
    async with jobs.open(":memory:") as runtime:
        receipts = [(name, await sync_provider.enqueue(name)) for name in PROVIDERS]
        await runtime.until_idle()
        for name, receipt in receipts:
            details = await jobs.runs.get(receipt.run_id)
            print(f"{name}: {details.run.status} ({details.run.cause or details.result})")
            for attempt in details.attempts:
                raised = "" if attempt.error is None else f", {attempt.error.type}: {attempt.error.message}"
                print(f"  attempt {attempt.n}: {attempt.outcome}{raised}")


if __name__ == "__main__":
    trio.run(main)
