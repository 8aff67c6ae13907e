"""
A web application on threads that requests reports and shows how far they are, beside a worker in another process.

    pip install callsheet flask
    python examples/clients/web_threads.py reports.db 8000
    curl -X POST localhost:8000/reports -H 'Content-Type: application/json' -d '{"month": "May"}'

One client serves all threads, and goes on working in processes that a server forks from this one.
"""

import sys

from flask import Flask, request
from reports import Report, jobs, make_report

from callsheet import PayloadInvalid, RunNotFound, StoreBusy


def application(database: str) -> Flask:
    """Nothing is opened before the first request."""
    app = Flask("reports")
    client = jobs.client(database)

    @app.post("/reports")
    def request_report() -> tuple[dict[str, object], int]:
        asked = request.get_json()
        try:
            receipt = client.enqueue(
                make_report, Report(asked.get("month")), idempotency_key=f"report:{asked.get('month')}"
            )
        except PayloadInvalid as error:
            return {"error": str(error)}, 422
        except StoreBusy as error:  # nothing was stored
            return {"error": str(error)}, 503
        return {"id": receipt.run_id, "known": receipt.deduped}, 202

    @app.get("/reports/<run_id>")
    def show_report(run_id: str) -> tuple[dict[str, object], int]:
        try:
            found = client.runs.get(run_id)
        except RunNotFound as error:
            return {"error": str(error)}, 404
        return {"status": found.run.status, "progress": found.progress, "result": found.result}, 200

    @app.delete("/reports/<run_id>")
    def cancel_report(run_id: str) -> dict[str, object]:
        done = client.runs.cancel(run_id, "by its owner")
        return {"canceled": done.canceled, "status": done.status}

    return app


if __name__ == "__main__":
    application(sys.argv[1]).run(port=int(sys.argv[2]), threaded=True)
