"""
Clients: the runs of Jobs, reached from programs that run none of them.

Rule: no event loop is needed, and none is started; what is written is a short transaction of the caller.
Read first: `client` (what users call), `direct` (how it reaches the store).
Not here: what the calls mean (`callsheet.runs`, `callsheet.requests`).
"""
