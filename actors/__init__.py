"""
A trio task with a mailbox, and the cast: scheduler, journal, calendar, run.

Rule: an actor owns its state; others reach it by messages only. It knows a parent as a protocol and a store
by its contract, never by their classes.

Not here: who starts, watches and restarts an actor (`callsheet.supervisor`); what stays (`callsheet.store`).
"""

if __name__ != "callsheet.actors":  # loaded twice, its classes would not be the same ones
    raise ImportError(f"this folder is callsheet.actors: import it by that name, not as {__name__}", name=__name__)
