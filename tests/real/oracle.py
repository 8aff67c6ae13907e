"""
What must hold whatever happened, judged from outside: the ledgers against the store, and the store against itself.

Rule 1: pure; it returns sentences, one a violation, each with the number of its invariant and the run it is about.
Rule 2: it knows the promises (`docs`), and nothing of how they are kept. The one thing it shares with the product is
    the table of legal moves.
Source of the numbers: the invariants of the reliability study, named in the tests too.

    I1 acknowledged is kept      I2 nothing was invented     I4 the counters are right     I10 legal, dense transitions
    I11 one ending               I12 attempts 1..n           I13 durable before it starts  I14 tries are counted
    I15 cancel is final          I16 a replay is linked      I17 one key, one run          I18 all or none
    I20 attempts do not overlap  I27 never early             I33 everything ends           I34 nothing is left running
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, Final

from attrs import asdict, define, field

from callsheet.store import codec
from callsheet.store.lifecycle import BIRTHS, MOVES
from callsheet.store.records import Attempt, History, Move, OutcomeKind, Run, Status, Transition

from .evidence import Evidence
from .ledger import Line

SPENDS: Final = {OutcomeKind.FAILED, OutcomeKind.TIMED_OUT}
KEEPS_DEATHS: Final = {OutcomeKind.INTERRUPTED, OutcomeKind.LEASE_LOST}
POISON: Final = 5
"""Deaths in a row that may dead-letter a run."""
NOTHING_STORED: Final = {"ShuttingDown", "Overloaded", "RunNotFinished", "RunNotFound"}
"""Refusals that promise that nothing was stored; after any other error the outcome is unknown."""

ENDED_BY: Final[dict[Move, set[OutcomeKind]]] = {
    Move.SUCCEED: {OutcomeKind.SUCCEEDED},
    Move.RETRY: SPENDS,
    Move.EXHAUST: SPENDS,
    Move.DISCARD: {OutcomeKind.DISCARDED},
    Move.POISON: {OutcomeKind.CRASHED},
    Move.CANCEL: {OutcomeKind.CANCELED},
    Move.SNOOZE: {OutcomeKind.SNOOZED},
    Move.HAND_BACK: {OutcomeKind.INTERRUPTED},
    Move.RESCUE: {OutcomeKind.CRASHED, OutcomeKind.LEASE_LOST},
}
"""How an attempt may have ended, by the move that ended it."""

SAID: Final[dict[OutcomeKind, set[str]]] = {
    OutcomeKind.SUCCEEDED: {"returned"},
    OutcomeKind.FAILED: {"Flop", "RetryAfter"},
    OutcomeKind.DISCARDED: {"Discard"},
    OutcomeKind.SNOOZED: {"Snooze"},
    OutcomeKind.TIMED_OUT: {"stopped", "late", "returned", "Flop", "RetryAfter", "Discard", "Snooze"},
}
"""What a handler must have written down at its end, by the outcome that the store has."""


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


# ---------------------------------------------------------------- the store against itself


def counters(evidence: Evidence) -> Iterator[str]:
    """I4: the counters are what counting gives."""
    counted = Counter((history.run.lane, history.run.status) for history in evidence.runs.values())
    for lane, status in counted.keys() | evidence.counters.keys():
        says, is_ = evidence.counters.get((lane, status), 0), counted[lane, status]
        if says != is_:
            yield f"I4 {lane.task} on {lane.queue}: {says} are said to be {status}, and {is_} are"


def of_history(history: History) -> Iterator[str]:
    """I10, I11, I12, I14: one run, its attempts and its transitions tell one story."""
    run, attempts, transitions = history.run, history.attempts, history.transitions
    yield from _transitions(run, transitions)
    if [each.n for each in attempts] != list(range(1, run.attempt + 1)):
        yield f"I12 its attempts are {[each.n for each in attempts]}, and it says it had {run.attempt}"
    starts = [each.attempt for each in transitions if each.move is Move.START]
    if starts != [each.n for each in attempts]:
        yield f"I12 it was started as {starts}, and its attempts are {[each.n for each in attempts]}"
    yield from _endings(run, attempts, transitions)
    for one, two in pairwise(attempts):
        if two.fence <= one.fence or two.claim_id == one.claim_id:
            yield f"I21 attempt {two.n} has not a new claim: fence {one.fence} → {two.fence}"
    yield from _tries(run, attempts)


def _transitions(run: Run, transitions: tuple[Transition, ...]) -> Iterator[str]:
    if not transitions:
        yield "I10 it has no transition"
        return
    if [each.seq for each in transitions] != list(range(1, len(transitions) + 1)):
        yield f"I10 its transitions are numbered {[each.seq for each in transitions]}"
    first, last = transitions[0], transitions[-1]
    if first.was is not None or BIRTHS.get(first.move) is not first.now:
        yield f"I10 it was born by {first.move} from {first.was} as {first.now}"
    for before, after in pairwise(transitions):
        if before.now.is_final:
            yield f"I11 it had ended as {before.now}, and became {after.now} by {after.move}"
        if after.was is not before.now or MOVES[before.now].get(after.move) is not after.now:
            yield f"I10 it was {before.now}, and went from {after.was} by {after.move} to {after.now}"
    if (last.now, last.attempt, last.cause) != (run.status, run.attempt, run.cause):
        yield f"I10 it is {run.status} in attempt {run.attempt}, its last transition made it {last.now} in {last.attempt}"
    if run.ended_us != (last.at_us if last.now.is_final else None):
        yield f"I11 it ended at {run.ended_us}, its last transition was at {last.at_us}"


def _endings(run: Run, attempts: tuple[Attempt, ...], transitions: tuple[Transition, ...]) -> Iterator[str]:
    """Each attempt but one that is running has one outcome, and one move that gave it."""
    ends: dict[int, list[Transition]] = defaultdict(list)
    for each in transitions:
        if each.was is Status.RUNNING:
            ends[each.attempt].append(each)
    for each in attempts:
        running = run.status is Status.RUNNING and each.n == run.attempt
        moves = [end.move for end in ends.pop(each.n, [])]
        if running:
            if moves or each.outcome is not None:
                yield f"I12 attempt {each.n} is running, and has ended by {moves} as {each.outcome}"
        elif each.outcome is None or each.ended_us is None:
            yield f"I12 attempt {each.n} has no outcome"
        elif len(moves) != 1 or each.outcome not in ENDED_BY[moves[0]]:
            yield f"I12 attempt {each.n} ended as {each.outcome} by {moves}"
    for n in ends:
        yield f"I12 attempt {n} ended, and there is none"


def _tries(run: Run, attempts: tuple[Attempt, ...]) -> Iterator[str]:
    spent = sum(each.outcome in SPENDS for each in attempts)
    if run.spent != spent or spent > run.max_attempts:
        yield f"I14 it says it spent {run.spent} of {run.max_attempts} tries, its attempts spent {spent}"
    deaths = 0
    for each in attempts:
        if each.outcome is OutcomeKind.CRASHED:
            deaths += 1
        elif each.outcome is not None and each.outcome not in KEEPS_DEATHS:
            deaths = 0
        if deaths > POISON:
            yield f"I14 it was started again after {POISON} deaths in a row, as attempt {each.n}"
    if run.deaths != deaths:
        yield f"I14 it says its process died {run.deaths} times in a row, its attempts say {deaths}"


# ---------------------------------------------------------------- how it ended


def of_end(history: History, evidence: Evidence) -> Iterator[str]:
    """I33, I34 and what the payload asked for: it ended, and as planned, unless it was canceled or poisoned."""
    run = history.run
    if run.status is Status.RUNNING:
        yield "I34 it is still running"
    if not run.status.is_final:
        if evidence.ended:
            yield f"I33 it is still {run.status}"
        return
    plan = plan_of(run)
    poisoned = run.status is Status.DEAD_LETTERED and history.transitions[-1].move is Move.POISON
    if poisoned and run.deaths < POISON:
        yield f"I14 it was poisoned after {run.deaths} deaths in a row"
    if poisoned or run.status is Status.CANCELED or _stalled(plan, history.attempts):
        return
    exhausted = plan["fails"] >= run.max_attempts
    dead = exhausted or plan["then"] == "discard"
    if run.status is not (Status.DEAD_LETTERED if dead else Status.SUCCEEDED):
        yield f"I33 it ended as {run.status}, its plan was {plan}"
    if run.spent != (run.max_attempts if exhausted else plan["fails"]):
        yield f"I14 it spent {run.spent} tries, its plan was {plan}"
    if run.status is Status.SUCCEEDED:
        wanted = {"n": plan["n"], "attempt": run.attempt}
        result = None if run.result is None else codec.decode(run.result, None)
        if result != wanted:
            yield f"I3 its result is {result}, its last attempt returned {wanted}"


def _stalled(plan: Line, attempts: tuple[Attempt, ...]) -> bool:
    """Whether a timeout hit a try that does not hang: the machine stood still, and the plan means nothing then."""
    return sum(each.outcome is OutcomeKind.TIMED_OUT for each in attempts) > (
        plan["fails"] if plan["by"] == "hanging" else 0
    )


def plan_of(run: Run) -> Line:
    """The payload of a run."""
    assert run.payload is not None
    plan: Any = codec.decode(run.payload, None)
    return dict(plan)


# ---------------------------------------------------------------- what callers were told


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
    stored = Counter(run.idempotency_key for run in _stored(evidence) if run.idempotency_key is not None)
    yield from (f"I17 {n} runs have the key {key}" for key, n in stored.items() if n > 1)


def batched(evidence: Evidence, told: Told) -> Iterator[str]:
    """I18: of a call with many runs, all are there or none; I1: all when it was acknowledged."""
    there = {plan_of(run)["n"]: run.id for run in _stored(evidence) if run.replay_of is None}
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
    made = Counter(plan_of(run)["n"] for run in _stored(evidence) if run.replay_of is None)
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
    for run in _stored(evidence):
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
    for run in _stored(evidence):
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


def _stored(evidence: Evidence) -> Iterator[Run]:
    return (history.run for history in evidence.runs.values())


# ---------------------------------------------------------------- what handlers did


def staged(evidence: Evidence) -> Iterator[str]:
    """I13: no handler began without its attempt; I12: none twice; I20: no two of a run at once; I3: and none invented."""
    begun: dict[tuple[str, int], Line] = {}
    ended: dict[tuple[str, int], str] = {}
    last: dict[str, Line] = {}
    for line in evidence.stage:
        if line["say"] not in ("start", "end"):
            continue
        me = line["run"], line["attempt"]
        if line["say"] == "end":
            ended[me] = line["how"]
            continue
        yield from (f"{problem} (run {me[0]})" for problem in _durable(line, evidence.runs.get(me[0])))
        if me in begun:
            yield f"I12 attempt {me[1]} of run {me[0]} began twice"
        before = last.get(me[0])
        if before is not None and before["boot"] == line["boot"] and (me[0], before["attempt"]) not in ended:
            yield f"I20 attempt {me[1]} of run {me[0]} began while attempt {before['attempt']} was on stage"
        begun[me] = last[me[0]] = line
    for history in evidence.runs.values():
        for each in history.attempts:
            yield from (
                f"{problem} (run {history.run.id})"
                for problem in _played(each, (history.run.id, each.n) in begun, ended.get((history.run.id, each.n)))
            )
            if each.outcome is OutcomeKind.CRASHED and each.owner not in evidence.killed:
                yield f"P9 attempt {each.n} of run {history.run.id} crashed under {each.owner}, which was not killed"


def _durable(start: Line, history: History | None) -> Iterator[str]:
    if history is None:
        yield f"I13 attempt {start['attempt']} began, and its run is not in the store"
        return
    wanted = start["attempt"], start["claim"], start["fence"], start["boot"]
    if wanted not in ((each.n, each.claim_id.hex(), each.fence, each.owner) for each in history.attempts):
        yield f"I13 attempt {start['attempt']} with claim {start['claim']} began, and is not in the store"


def _played(attempt: Attempt, begun: bool, how: str | None) -> Iterator[str]:
    wanted = SAID.get(attempt.outcome) if attempt.outcome is not None else None
    if wanted is not None and (not begun or how not in wanted):
        yield f"I3 attempt {attempt.n} is {attempt.outcome}, its handler {f'said {how}' if begun else 'never began'}"


# ---------------------------------------------------------------- what was reached


def reached(evidence: Evidence) -> Counter[str]:
    """How often what the proof is about did happen: a proof that reached nothing proves nothing."""
    told = Told.of(evidence.caller)
    count: Counter[str] = Counter()
    count["acknowledged"] = sum(
        call.ack is not None for calls in asdict(told, recurse=False).values() for call in calls
    )
    count["unanswered"] = sum(
        call.ack is None and call.refused is None for calls in asdict(told, recurse=False).values() for call in calls
    )
    acks: Callable[[list[Call]], list[Line]] = lambda calls: [call.ack for call in calls if call.ack is not None]  # noqa: E731
    count["runs"] = len(evidence.runs)
    count["deduped"] = sum(ack["deduped"] for ack in acks(told.enqueues))
    count["delayed"] = sum("delay" in call.ask["options"] for call in told.enqueues if call.ack is not None)
    count["cancels"] = sum(ack["canceled"] for ack in acks(told.cancels))
    count["replays"] = len(acks(told.replays))
    for history in evidence.runs.values():
        count[f"run {history.run.status}"] += 1
        count["poisoned"] += history.transitions[-1].move is Move.POISON
        for attempt in history.attempts:
            count[f"attempt {attempt.outcome}"] += 1
            count["late outcomes"] += attempt.late_outcome is not None
    count["handler starts"] = sum(line["say"] == "start" for line in evidence.stage)
    return count
