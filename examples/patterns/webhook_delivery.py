"""
Webhook delivery: each event to each endpoint once, tried until it is taken, given up where nobody lives. To be copied.

    pip install '.[demo]'       # callsheet, and the HTTP client httpx
    python examples/patterns/webhook_delivery.py
"""

from functools import partial
from typing import Any

import httpx
import trio
from attrs import define, field, frozen

from callsheet import Context, Custom, Jobs, Retry

jobs = Jobs("webhooks", namespace="example")


@frozen
class Delivery:
    """The payload: one event for one endpoint."""

    endpoint: str
    event_id: str
    body: dict[str, Any]


@define
class Services:
    """What handlers share, passed as `app=`."""

    client: httpx.AsyncClient
    disabled: set[str] = field(factory=set)
    """Endpoints that are gone; in earnest a column of the application's database."""


@jobs.task("deliver-webhook", retry=Retry(attempts=4, backoff=Custom([0.1, 0.2, 0.4])), timeout=5)
async def deliver_webhook(delivery: Delivery, ctx: Context) -> None:
    """One attempt: what the receiver says is success, the end of the endpoint, or another try."""
    services: Services = ctx.app
    # The same for all attempts of a run: a receiver that has seen the delivery id need not act twice.
    headers = {"Webhook-Event-Id": delivery.event_id, "Webhook-Delivery-Id": ctx.run_id}
    answer = await services.client.post(delivery.endpoint, json=delivery.body, headers=headers)
    if answer.status_code == httpx.codes.GONE:
        services.disabled.add(delivery.endpoint)
        return  # nothing more to do: the run has succeeded
    answer.raise_for_status()  # anything else that is not well: tried again as the policy says


async def deliver(endpoint: str, event_id: str) -> None:
    """Request a delivery. However often the event is announced, there is one for each endpoint."""
    receipt = await deliver_webhook.enqueue(
        Delivery(endpoint, event_id, {"status": "shipped"}), idempotency_key=f"webhook:{endpoint}:{event_id}"
    )
    print(f"{event_id} to {endpoint}: {'known already' if receipt.deduped else receipt.run.status}")


async def main() -> None:
    """A program whose events others want to hear of."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, receive, port=0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            services = Services(client)
            async with jobs.open(":memory:", app=services) as runtime:
                for endpoint in ("/fine", "/flaky", "/gone", "/broken", "/fine"):
                    await deliver(endpoint, "evt-1")
                await runtime.until_idle()  # only to have something to show: a service would go on with its day
                for run in reversed((await jobs.runs.list(task="deliver-webhook")).runs):
                    requests = [run_id for key, run_id in RECEIVED if key == run.idempotency_key]
                    print(f"{run.idempotency_key}: {run.status}, {len(requests)} requests, all of this run:", end=" ")
                    print(set(requests) == {run.id})
        print(f"disabled: {services.disabled}")
        nursery.cancel_scope.cancel()


# Everything below plays the receivers. An application has none, and this is no model for a server.

ANSWERS = {"/fine": [200], "/flaky": [500, 503, 200], "/gone": [410], "/broken": [500]}
RECEIVED: list[tuple[str, str]] = []


async def receive(stream: trio.SocketStream) -> None:
    """One request per connection, answered with the next status for its path."""
    received = b""
    while not received.endswith(b"}"):
        received += await stream.receive_some() or b"}"
    line, *lines = received.decode().partition("\r\n\r\n")[0].split("\r\n")
    path, headers = line.split()[1], dict(each.split(": ", 1) for each in lines)
    RECEIVED.append((f"webhook:{path}:{headers['Webhook-Event-Id']}", headers["Webhook-Delivery-Id"]))
    answers = ANSWERS[path]
    status = answers.pop(0) if len(answers) > 1 else answers[0]
    await stream.send_all(b"HTTP/1.1 %d told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)


if __name__ == "__main__":
    trio.run(main)
