"""
What callers were told, against the store.

Rule: as `oracle`. A call that was not answered promises nothing, except that it was not done twice or by half.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import define, field

from callsheet.store.records import History, Move, OutcomeKind, Status

from .evidence import Evidence
from .ledger import Line
from .oracle_store import plan_of, stored

NOTHING_STORED: Final = {"ShuttingDown", "Overloaded", "RunNotFinished", "RunNotFound", "StoreBusy"}
"""Refusals that promise that nothing was stored; after any other error the outcome is unknown."""


@define(eq=False)
class Call:
    """One call as the caller's ledger tells it."""

    ask: Line
    ack: Line | None = None
    refused: Line | None = None

    @property
    def sure_nothing(self) -> bool:
        """Whether the caller was told that nothing was stored."""
        return self.refused is not None and self.refused["why"] in NOTHING_STORED

    def __str__(self) -> str:
        return f"call {self.ask['id']}"


@define(eq=False)
class Told:
    """The caller's ledger, by kind of call."""

    enqueues: list[Call] = field(factory=list)
    manys: list[Call] = field(factory=list)
    cancels: list[Call] = field(factory=list)
    replays: list[Call] = field(factory=list)

    @classmethod
    def of(cls, lines: Iterable[Line]) -> Told:
        """Sort the lines."""
        told = cls()
        kinds = {"enqueue": told.enqueues, "many": told.manys, "cancel": told.cancels, "replay": told.replays}
        calls: dict[str, Call] = {}
        for line in lines:
            if line["say"] == "ask":
                call = calls[line["id"]] = Call(line)
                kinds[line["do"]].append(call)
            elif line["id"] not in calls:
                continue  # its question was cut in two by a kill: it could not be answered
            elif line["say"] == "ack":
                calls[line["id"]].ack = line
            else:
                calls[line["id"]].refused = line
        return told


# ---------------------------------------------------------------- kind by kind


def enqueued(evidence: Evidence, told: Told) -> Iterator[str]:
    """I1: every acknowledged run is there, and is what was asked for. I27: none began before its time."""
    for call in told.enqueues:
        if call.ack is None:
            continue
        history = evidence.runs.get(call.ack["run"])
        if history is None:
            yield f"I1 {call}: run {call.ack['run']} was acknowledged, and is not in the store"
            continue
        run, ask = history.run, call.ask
        same = plan_of(run) == ask["plan"] and run.lane.task == ask["task"]
        if call.ack["matches"] != same or not (same or call.ack["deduped"]):
            yield f"I1 {call}: run {run.id} has the plan {plan_of(run)}, asked for was {ask['plan']}"
        if run.idempotency_key != ask["options"].get("idempotency_key"):
            yield f"I1 {call}: run {run.id} has the key {run.idempotency_key}"
        if "run_id" in ask["options"] and run.id != ask["options"]["run_id"]:
            yield f"I1 {call}: run {run.id} was to be {ask['options']['run_id']}"
        if not call.ack["deduped"]:
            yield from _early(call, history)


def _early(call: Call, history: History) -> Iterator[str]:
    delay_us = int(call.ask["options"].get("delay", 0) * 1_000_000)
    starts = [each.at_us for each in history.transitions if each.move is Move.START]
    if starts and starts[0] < history.run.created_us + delay_us:
        yield f"I27 {call}: run {history.run.id} began {starts[0] - history.run.created_us} us after it was made"


def keyed(evidence: Evidence, told: Told) -> Iterator[str]:
    """I17: a key, or an id of the caller's own, means one run for ever, and one call made it."""
    by_key: dict[str, list[Call]] = defaultdict(list)
    for call in told.enqueues:
        options = call.ask["options"]
        if call.ack is not None and ("idempotency_key" in options or "run_id" in options):
            by_key[options.get("idempotency_key") or options["run_id"]].append(call)
    for key, calls in by_key.items():
        acks = [call.ack for call in calls if call.ack is not None]
        if len({ack["run"] for ack in acks}) > 1:
            yield f"I17 key {key} was answered with the runs {sorted({ack['run'] for ack in acks})}"
        if sum(not ack["deduped"] for ack in acks) > 1:
            yield f"I17 key {key} made a run more than once"
        first_ns = min(ack["t"] for ack in acks)
        for call in calls:
            if call.ack is not None and call.ask["t"] > first_ns and not call.ack["deduped"]:
                yield f"I17 {call}: key {key} had been answered, and made a run again"
    kept = Counter(run.idempotency_key for run in stored(evidence) if run.idempotency_key is not None)
    yield from (f"I17 {n} runs have the key {key}" for key, n in kept.items() if n > 1)


def batched(evidence: Evidence, told: Told) -> Iterator[str]:
    """I18: of a call with many runs, all are there or none; I1: all when it was acknowledged."""
    there = {plan_of(run)["n"]: run.id for run in stored(evidence) if run.replay_of is None}
    for call in told.manys:
        asked = [plan["n"] for plan in call.ask["plans"]]
        found = [there[n] for n in asked if n in there]
        if len(found) not in (0, len(asked)):
            yield f"I18 {call}: {len(found)} of {len(asked)} runs of one call are in the store"
        if call.ack is not None and found != call.ack["runs"]:
            yield f"I1 {call}: {call.ack['runs']} were acknowledged, {found} are in the store"


def invented(evidence: Evidence, told: Told) -> Iterator[str]:
    """I2: every run was asked for by a call that was not told that nothing was stored; no call made two."""
    asked = {call.ask["plan"]["n"] for call in told.enqueues if not call.sure_nothing}
    asked |= {plan["n"] for call in told.manys if not call.sure_nothing for plan in call.ask["plans"]}
    made = Counter(plan_of(run)["n"] for run in stored(evidence) if run.replay_of is None)
    for n, times in made.items():
        if n not in asked:
            yield f"I2 there is a run with the plan {n}, and nobody asked for it"
        if times > 1:
            yield f"I2 there are {times} runs with the plan {n}"


def canceled(evidence: Evidence, told: Told) -> Iterator[str]:
    """I15: an acknowledged cancel is final; what it said of an ended run stays true; nobody else cancels."""
    starts: dict[str, list[Line]] = defaultdict(list)
    for line in evidence.stage:
        if line["say"] == "start":
            starts[line["run"]].append(line)
    for call in told.cancels:
        history = evidence.runs.get(call.ask["of"])
        if call.ack is None or history is None:
            continue  # one that was acknowledged and is gone is reported by I1
        run, wanted = history.run, call.ack["status"]
        if run.status != wanted or not Status(wanted).is_final:
            yield f"I15 {call}: run {run.id} was said to be {wanted}, and is {run.status}"
        if not call.ack["canceled"]:
            continue
        for line in starts[run.id]:
            if line["t"] > call.ack["t"] and not _is_canceled_one(line, history):
                yield f"I15 {call}: run {run.id} was canceled, and began attempt {line['attempt']} after that"
    asked = {call.ask["of"] for call in told.cancels}
    for run in stored(evidence):
        if run.status is Status.CANCELED and run.id not in asked:
            yield f"I2 run {run.id} is canceled, and nobody asked for that"


def _is_canceled_one(start: Line, history: History) -> bool:
    """Whether it is the attempt that the cancel ended: its claim was made before, and its handler began late."""
    last = history.attempts[-1] if history.attempts else None
    return (
        last is not None
        and last.outcome is OutcomeKind.CANCELED
        and (start["attempt"], start["claim"]) == (last.n, last.claim_id.hex())
    )


def replayed(evidence: Evidence, told: Told) -> Iterator[str]:
    """I16: each replay is a new run that is linked to an ended one and equals it; the reason says which call made it."""
    asked = {f"replay {call.ask['id']}": call for call in told.replays}
    made: Counter[str] = Counter()
    for run in stored(evidence):
        if run.replay_of is None:
            continue
        call, old = asked.get(run.reason or ""), evidence.runs.get(run.replay_of)
        made[run.reason or ""] += 1
        if call is None or call.ask["of"] != run.replay_of or call.sure_nothing:
            yield f"I2 run {run.id} replays {run.replay_of} ({run.reason}), and nobody asked for that"
        if old is None or not old.run.status.is_final:
            yield f"I16 run {run.id} replays {run.replay_of}, which has not ended"
        elif (run.payload, run.lane, run.idempotency_key) != (old.run.payload, old.run.lane, None):
            yield f"I16 run {run.id} is not what run {old.run.id} was"
    yield from (f"I16 one call made {n} replays: {reason}" for reason, n in made.items() if n > 1)
    for call in told.replays:
        found = evidence.runs.get(call.ack["run"]) if call.ack is not None else None
        if call.ack is not None and (found is None or found.run.reason != f"replay {call.ask['id']}"):
            yield f"I1 {call}: replay {call.ack['run']} of {call.ask['of']} was acknowledged, and is not in the store"
