"""
What survives. Knows nothing of actors, of trio, or of handlers.

Rule: a store is synchronous and small; it is told by commands and asked through a Reader (`contract`).
Read first: `records` (the nouns), `lifecycle` (the table), `policy` (what a failure leads to).
Not here: who calls it and when (`callsheet.actors`).
"""

if __name__ != "callsheet.store":
    raise ImportError(f"import callsheet.store, not {__name__}: loaded twice, its classes would not be the same ones")
