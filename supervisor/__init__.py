"""
Keeps actors alive: starts them in order, watches them, restarts them, stops them in reverse.

Rule: deciding is pure (no task, no clock, no I/O); one thin part acts on the decision. A child's exception is
an exit that its supervisor judges; it never reaches the nursery.

Not here: what an actor does (`callsheet.actors`), and the life of a run as data (`callsheet.store`).
"""

if __name__ != "callsheet.supervisor":  # loaded twice, its classes would not be the same ones
    raise ImportError(
        f"this folder is callsheet.supervisor: import it by that name, not as {__name__}", name=__name__
    )
