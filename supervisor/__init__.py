"""
Keeps actors alive: supervisors, the system they stand in, and the two supervisors of work: task and queue.

Rule: decisions are pure (`decide`: no task, no clock); one thin actor does what they say.
Read first: `spec`, `decide`, `supervisor`.
Not here: what an actor does (`callsheet.actors`) and what users call (`callsheet`).
"""

if __name__ != "callsheet.supervisor":  # another distribution owns the name `supervisor`; and nothing may load twice
    raise ImportError(
        f"this folder is the package callsheet.supervisor; import it by that name, not as {__name__}", name=__name__
    )
