"""
The demonstration: 1,000 webhooks are delivered by a worker that is killed half-way, and the books are compared after it.

Three processes: a receiver of webhooks, a worker that requests and makes the deliveries, and the one that was started,
which kills the worker, starts it again, and audits. Nothing here is needed to use callsheet.

What to read first: `plan` (what will happen), `worker` (how an application uses callsheet), `audit` (what counts as lost).
"""
