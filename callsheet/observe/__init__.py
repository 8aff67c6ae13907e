"""
What others are told of runs: events, records of the log, spans and metrics, and the text that Prometheus reads.

Rule: told after the commit, by the process that made it; whoever listens can neither slow nor break what runs by more than
the call takes, and what nobody wants to know is not even looked at.
Not here: what supervisors report of actors (`callsheet.actors.events`), what the monitor shows (`callsheet.monitor`).
"""
