"""
What survives: the records of runs, the rules by which they change, and the places that keep them.

Rule: nothing here knows of actors, trio, or a running event loop. A store is a small synchronous contract, so that every
implementation can be tried by one suite and called from one thread.

Not here: who may write and when (`callsheet.actors`, the journal), and what a user types (`callsheet`).
"""

if __name__ != "callsheet.store":  # a second copy under another name would have classes of its own that match nothing
    raise ImportError(f"this folder is the package callsheet.store; import it by that name, not as {__name__}", name=__name__)
