"""A script that requests a report, without the code of the worker, and waits for it."""

import sys

from callsheet import Client, NoStore, NotPublished, RunFailed, WaitTimeout


def main(database: str, month: str) -> int:
    """The exit status."""
    with Client(database, jobs="example/reports") as client:
        try:
            receipt = client.enqueue("make-report", {"month": month}, idempotency_key=f"report:{month}")
            print(f"{month}: {'known already' if receipt.deduped else 'accepted'}")
            client.runs.wait(receipt.run_id, timeout=30)
            print(client.runs.result(receipt.run_id))
        except (NoStore, NotPublished) as error:  # no worker has ever run here: what can be requested is not known
            print(f"start a worker first: {error}", file=sys.stderr)
            return 1
        except (WaitTimeout, RunFailed) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
