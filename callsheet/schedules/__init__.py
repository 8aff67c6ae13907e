"""
Schedules: runs that are asked for again and again, by the clock.

Rule: when a schedule fires follows from values alone (`cadence`); what is due is read from the store, never from memory.
Read first: `cadence` (which times).
"""
