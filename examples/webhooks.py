"""
Webhooks that arrive: what fails is tried again, what is hopeless is given up, nothing is forgotten. To be copied.

    pip install '.[demo]'            # callsheet, and the HTTP client httpx
    python examples/webhooks.py      # leaves webhooks.db in the current folder

Run it twice: the second time every delivery is known already. Kill it in the middle: the next one goes on where it was.
"""

from functools import partial
from typing import Any

import httpx
import trio
from attrs import frozen

from callsheet import Context, Custom, Discard, Jobs, Queue, Retry, RetryAfter

# A declaration: what can be done, and how. It is opened below; nothing runs before that.
jobs = Jobs("webhooks", namespace="example", queue=Queue(concurrency=50))


@frozen
class Delivery:
    """The payload: stored as JSON, checked when it is requested, and given back as this class."""

    endpoint: str
    event_id: str
    body: dict[str, Any]


@jobs.task(
    "deliver-webhook",
    retry=Retry(attempts=4, backoff=Custom([0.1, 0.2, 0.4])),  # in seconds; in earnest rather [10, 60, 600]
    timeout=5,  # for one attempt: then it is cancelled, and tried again
)
async def deliver_webhook(payload: Delivery, ctx: Context) -> None:
    """One attempt. To return is success; what is raised decides how it goes on."""
    client: httpx.AsyncClient = ctx.app
    # It can happen that a delivery is made and the process dies before that is recorded: it is then made again.
    # The run's id is the same for all attempts, so a receiver can tell.
    headers = {"Webhook-Id": ctx.run_id, "Webhook-Attempt": str(ctx.attempt)}
    answer = await client.post(payload.endpoint, json=payload.body, headers=headers)
    if answer.status_code == httpx.codes.GONE:
        raise Discard("the endpoint is gone")  # no further attempt: dead-lettered
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise RetryAfter(float(answer.headers["Retry-After"]))  # they know best when
    answer.raise_for_status()  # any other error: tried again as the policy above says


async def send(endpoint: str, number: int, delay: float = 0) -> str:
    """Request a delivery; when this returns it is on disk, and will be made whatever happens to this process."""
    event_id = f"evt-{number}"
    receipt = await deliver_webhook.enqueue(
        Delivery(endpoint, event_id, {"order": number, "status": "shipped"}),
        idempotency_key=f"webhook:{endpoint}:{event_id}",  # requested again, it is still delivered once
        delay=delay,
    )
    print(f"{event_id} to {endpoint}: {'known already' if receipt.deduped else 'accepted'}")
    return receipt.run_id


async def main() -> None:
    """A program that has webhooks to send, among other things."""
    async with trio.open_nursery() as nursery:
        receiver = partial(trio.serve_tcp, answer_as_told, port=0, host="127.0.0.1")
        port = (await nursery.start(receiver))[0].socket.getsockname()[1]
        # What handlers share is passed as `app`; it is opened before the jobs and closed after them.
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
            jobs.open("webhooks.db", app=client),
        ):
            run_ids = [
                await send("/fine", 1),
                await send("/flaky", 2),
                await send("/busy", 3),
                await send("/gone", 4),
                await send("/later", 5, delay=0.5),
            ]
            await send("/fine", 1)
            for run_id in run_ids:  # only to have something to show: a service would go on with its day
                run = await jobs.runs.wait(run_id)
                details = await jobs.runs.get(run_id)
                attempts = ", ".join(str(attempt.outcome) for attempt in details.attempts)
                print(f"{run.idempotency_key}: {run.status} ({attempts})")
        nursery.cancel_scope.cancel()


# Everything below plays the receiver. An application has none.

ANSWERS = {"/fine": [200], "/flaky": [500, 500, 200], "/busy": [503, 200], "/gone": [410], "/later": [200]}


async def answer_as_told(stream: trio.SocketStream) -> None:
    """One request per connection, answered with the next status for its path. No model for a server."""
    received = b""
    while not received.endswith(b"}"):
        received += await stream.receive_some() or b"}"
    answers = ANSWERS[received.split()[1].decode()]
    status = answers.pop(0) if len(answers) > 1 else answers[0]
    await stream.send_all(
        b"HTTP/1.1 %d told\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
    )


if __name__ == "__main__":
    trio.run(main)
