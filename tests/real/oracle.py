"""
What must hold whatever happened, judged from outside: the ledgers against the store, and the store against itself.

Rule 1: pure; it returns sentences, one a violation, each with the number of its invariant and the run it is about.
Rule 2: it knows the promises, and nothing of how they are kept. The one thing it shares with the product is the table of
    legal moves.
Not here: the store against itself (`oracle_store`), callers (`oracle_calls`), handlers (`oracle_stage`).
The numbers are those that tests carry in their docstrings:

    I1 acknowledged is kept      I2 nothing was invented     I4 the counters are right     I10 legal, dense transitions
    I11 one ending               I12 attempts 1..n           I13 durable before it starts  I14 tries are counted
    I15 cancel is final          I16 a replay is linked      I17 one key, one run          I18 all or none
    I20 attempts do not overlap  I27 never early             I33 everything ends           I34 nothing is left running
"""

from __future__ import annotations

from collections import Counter

from callsheet.store.records import Move

from .evidence import Evidence
from .oracle_calls import Told, batched, canceled, enqueued, invented, keyed, replayed
from .oracle_stage import staged
from .oracle_store import counters, of_end, of_history


def violations(evidence: Evidence) -> list[str]:
    """Everything that must not be."""
    told = Told.of(evidence.caller)
    found: list[str] = []
    if evidence.integrity != "ok":
        found.append(f"I9 the database is damaged: {evidence.integrity}")
    found += counters(evidence)
    for history in evidence.runs.values():
        found += (f"{problem} (run {history.run.id})" for problem in of_history(history))
        found += (f"{problem} (run {history.run.id})" for problem in of_end(history, evidence))
    found += enqueued(evidence, told)
    found += keyed(evidence, told)
    found += batched(evidence, told)
    found += invented(evidence, told)
    found += canceled(evidence, told)
    found += replayed(evidence, told)
    found += staged(evidence)
    return found


def reached(evidence: Evidence) -> Counter[str]:
    """How often what the proof is about did happen: a proof that reached nothing proves nothing."""
    told = Told.of(evidence.caller)
    calls = [*told.enqueues, *told.manys, *told.cancels, *told.replays]
    answered = {
        do: [call for call in calls if call.ack and call.ask["do"] == do] for do in ("enqueue", "cancel", "replay")
    }
    count = Counter(
        {
            "acknowledged": sum(call.ack is not None for call in calls),
            "unanswered": sum(call.ack is None and call.refused is None for call in calls),
            "deduped": sum(call.ack["deduped"] for call in answered["enqueue"] if call.ack),
            "delayed": sum("delay" in call.ask["options"] for call in answered["enqueue"]),
            "cancels": sum(call.ack["canceled"] for call in answered["cancel"] if call.ack),
            "replays": len(answered["replay"]),
            "runs": len(evidence.runs),
            "handler starts": sum(line["say"] == "start" for line in evidence.stage),
        }
    )
    for history in evidence.runs.values():
        count[f"run {history.run.status}"] += 1
        count["poisoned"] += history.transitions[-1].move is Move.POISON
        for attempt in history.attempts:
            count[f"attempt {attempt.outcome}"] += 1
            count["late outcomes"] += attempt.late_outcome is not None
    return count
