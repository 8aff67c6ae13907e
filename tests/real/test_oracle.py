"""The oracle over made-up evidence: it is silent over a good story, and names what is wrong with a bad one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Final

import pytest
from attrs import evolve

from callsheet.store.lifecycle import BIRTHS, MOVES
from callsheet.store.records import Attempt, Clock, History, Lane, Move, OutcomeKind, Run, Status, Transition

from .evidence import Evidence
from .ledger import Line
from .oracle import violations
from .oracle_store import ENDED_BY, SPENDS

LANE: Final = Lane("real/proof", "real/proof-jobs", "work", "1")
DIED, LIVED = "boot-1", "boot-2"
AS_USUAL: Final = {
    Move.RETRY: OutcomeKind.FAILED,
    Move.EXHAUST: OutcomeKind.FAILED,
    Move.RESCUE: OutcomeKind.CRASHED,
}
HOW: Final = {OutcomeKind.SUCCEEDED: "returned", OutcomeKind.FAILED: "Flop", OutcomeKind.CANCELED: "stopped"}


def plan(n: str, *, fails: int = 0) -> Line:
    """A payload."""
    return {"n": n, "ms": 1, "fails": fails, "by": "raising", "then": "return"}


def history(run_id: str, what: Line, *moves: Move, key: str | None = None, of: str | None = None) -> History:
    """The run that these moves make; the attempts up to one that crashed were those of the process that died."""
    clock, status = count(1_000, 1_000), BIRTHS[moves[0]]
    transitions = [Transition(run_id, 1, None, status, moves[0], 0, 0)]
    attempts: list[Attempt] = []
    for seq, move in enumerate(moves[1:], 2):
        was, status, at_us = status, MOVES[status][move], next(clock)
        if move is Move.START:
            n = len(attempts) + 1
            attempts.append(Attempt(run_id, n, at_us, None, None, None, bytes([n]) * 16, n, LIVED))
        elif was is Status.RUNNING:
            outcome = AS_USUAL.get(move) or min(ENDED_BY[move])
            attempts[-1] = evolve(attempts[-1], ended_us=at_us, outcome=outcome)
            if outcome is OutcomeKind.CRASHED:
                attempts = [evolve(each, owner=DIED) for each in attempts]
        transitions.append(Transition(run_id, seq, was, status, move, at_us, len(attempts)))
    spent = sum(each.outcome in SPENDS for each in attempts)
    ended_us = transitions[-1].at_us if status.is_final else None
    result = json.dumps({"n": what["n"], "attempt": len(attempts)}).encode() if status is Status.SUCCEEDED else None
    run = Run(
        run_id, LANE, status, 0, Clock.AT_ONCE, 5, len(attempts), spent, 0, 4, None, 0, 0, ended_us, None, key, None,
        None, of, None, None, None, False, None, None, len(attempts), None, None, None, json.dumps(what).encode(), result,
        None, None,
    )  # fmt: skip
    return History(run, tuple(attempts), tuple(transitions))


def played(*histories: History) -> list[Line]:
    """What handlers wrote down, had they done what the store says."""
    lines: list[Line] = []
    times = count(1)
    for each in histories:
        for attempt in each.attempts:
            me = {"run": each.run.id, "attempt": attempt.n}
            claim = {"claim": attempt.claim_id.hex(), "fence": attempt.fence, "boot": attempt.owner}
            lines.append({"say": "start", "t": next(times), **me, **claim})
            if attempt.outcome in HOW:
                lines.append({"say": "end", "t": next(times), **me, "how": HOW[attempt.outcome]})
    return lines


def asked(number: int, do: str, answer: Line | None, **facts: object) -> list[Line]:
    """One call and its answer."""
    ask = {"say": "ask", "id": f"1.{number}", "do": do, "t": 1_000 + 10 * number, **facts}
    return [ask] if answer is None else [ask, {"id": ask["id"], "t": ask["t"] + 1, **answer}]


def enqueued(number: int, what: Line, run_id: str, *, deduped: bool = False, **options: object) -> list[Line]:
    """One acknowledged enqueue."""
    answer = {"say": "ack", "run": run_id, "deduped": deduped, "matches": True}
    return asked(number, "enqueue", answer, task="work", plan=what, options=options)


def good() -> Evidence:
    """A story in which everything went right, and much happened."""
    enqueue, start = Move.ENQUEUE, Move.START
    retried = [enqueue, start, Move.RETRY, start, Move.RESCUE, start, Move.SUCCEED]
    one, two = plan("one", fails=1), plan("two")
    runs = [
        history("A", one, *retried, key="k"),
        history("B", two, enqueue, start, Move.CANCEL),
        history("C", plan("three"), Move.SCHEDULE, Move.CANCEL),
        history("M1", plan("m1"), enqueue, start, Move.SUCCEED, key="key:m1"),
        history("M2", plan("m2"), enqueue, start, Move.SUCCEED, key="key:m2"),
    ]
    again = history("R", one, *retried, of="A")
    runs.append(evolve(again, run=evolve(again.run, reason="replay 1.7")))
    canceled = {"say": "ack", "canceled": True, "status": "canceled"}
    caller = [
        *enqueued(1, one, "A", idempotency_key="k"),
        *enqueued(2, two, "B"),
        *enqueued(3, plan("three"), "C", delay=0.5),
        *asked(4, "cancel", canceled, of="B"),
        *asked(5, "cancel", canceled, of="C"),
        *enqueued(6, one, "A", deduped=True, idempotency_key="k"),
        *asked(7, "replay", {"say": "ack", "run": "R"}, of="A"),
        *asked(8, "replay", {"say": "refused", "why": "RunNotFinished"}, of="B"),
        *asked(9, "many", {"say": "ack", "runs": ["M1", "M2"]}, plans=[plan("m1"), plan("m2")]),
        *asked(10, "enqueue", None, task="work", plan=plan("lost"), options={}),
    ]
    return told(caller, played(*runs), *runs)


def told(caller: list[Line], stage: list[Line], *runs: History) -> Evidence:
    """Evidence whose counters are right."""
    counters = Counter((each.run.lane, each.run.status) for each in runs)
    return Evidence(caller, stage, {each.run.id: each for each in runs}, counters, killed={DIED})


# ---------------------------------------------------------------- what can be wrong


def changed(run_id: str, change: Callable[[History], History]) -> Callable[[Evidence], Evidence]:
    """The same story, but for one run as the store has it."""

    def apply(evidence: Evidence) -> Evidence:
        runs = {**evidence.runs, run_id: change(evidence.runs[run_id])}
        return told(list(evidence.caller), list(evidence.stage), *runs.values())

    return apply


def lost(run_id: str) -> Callable[[Evidence], Evidence]:
    """The same story, but one run is not in the store, and its handler never ran."""

    def apply(evidence: Evidence) -> Evidence:
        stage = [line for line in evidence.stage if line["run"] != run_id]
        return told(list(evidence.caller), stage, *(each for each in evidence.runs.values() if each.run.id != run_id))

    return apply


def also(*runs: History) -> Callable[[Evidence], Evidence]:
    """The same story with further runs, which really ran."""
    return lambda evidence: told(
        list(evidence.caller), [*evidence.stage, *played(*runs)], *evidence.runs.values(), *runs
    )


def called(*lines: Line) -> Callable[[Evidence], Evidence]:
    """The same story with further calls."""
    return lambda evidence: evolve(evidence, caller=[*evidence.caller, *lines])


def staged(change: Callable[[list[Line]], list[Line]]) -> Callable[[Evidence], Evidence]:
    """The same story, but handlers wrote down something else."""
    return lambda evidence: evolve(evidence, stage=change([dict(line) for line in evidence.stage]))


def of_run(**facts: object) -> Callable[[History], History]:
    """Another row."""
    return lambda history: evolve(history, run=evolve(history.run, **facts))


def of_attempt(n: int, **facts: object) -> Callable[[History], History]:
    """Another row of one attempt."""
    return lambda history: evolve(
        history, attempts=tuple(evolve(each, **facts) if each.n == n else each for each in history.attempts)
    )


def of_last(**facts: object) -> Callable[[History], History]:
    """Another last transition."""
    return lambda history: evolve(
        history, transitions=(*history.transitions[:-1], evolve(history.transitions[-1], **facts))
    )


def twice_ended(history: History) -> History:
    """One more ending after the last."""
    last = history.transitions[-1]
    more = Transition(last.run_id, last.seq + 1, last.now, Status.SUCCEEDED, Move.SUCCEED, last.at_us, last.attempt)
    row = evolve(history.run, status=Status.SUCCEEDED, result=b'{"n":"two","attempt":1}')
    return evolve(history, run=row, transitions=(*history.transitions, more))


def without_attempt(n: int) -> Callable[[History], History]:
    """One attempt is missing."""
    return lambda history: evolve(history, attempts=tuple(each for each in history.attempts if each.n != n))


def start_of(run_id: str, attempt: int, **facts: object) -> Line:
    """A line of a handler that begins."""
    line = {
        "say": "start",
        "t": 9_999,
        "run": run_id,
        "attempt": attempt,
        "claim": "ff" * 16,
        "fence": 9,
        "boot": LIVED,
    }
    return {**line, **facts}


def in_the_end(lines: list[Line], run_id: str, how: str) -> list[Line]:
    """The handler's last word was another."""
    for line in lines:
        if line["say"] == "end" and line["run"] == run_id:
            line["how"] = how
    return lines


ENQUEUE, START, CANCEL = Move.ENQUEUE, Move.START, Move.CANCEL
DEAD: Final = [Move.RESCUE, START] * 4

BAD: Final[dict[str, tuple[str, Callable[[Evidence], Evidence]]]] = {
    "an acknowledged run is not there": ("I1", lost("C")),
    "an acknowledged run has another payload": ("I1", changed("B", of_run(payload=json.dumps(plan("two", fails=1)).encode()))),
    "an acknowledged replay is not there": ("I1", lost("R")),
    "a run of an acknowledged batch is not there": ("I1", lost("M2")),
    "a run nobody asked for": ("I2", also(history("X", plan("x"), ENQUEUE, START, Move.SUCCEED))),
    "a call that was told `nothing was stored` stored a run": (
        "I2",
        lambda evidence: called(
            *asked(20, "enqueue", {"say": "refused", "why": "ShuttingDown"}, task="work", plan=plan("x"), options={})
        )(also(history("X", plan("x"), ENQUEUE, START, Move.SUCCEED))(evidence)),
    ),
    "a call made two runs": ("I2", also(history("X", plan("two"), ENQUEUE, START, Move.SUCCEED))),
    "a replay nobody asked for": ("I2", also(history("X", plan("one", fails=1), ENQUEUE, START, CANCEL, of="A"))),
    "a cancel nobody asked for": ("I2", lambda evidence: evolve(evidence, caller=evidence.caller[:6])),
    "a counter is off by one": (
        "I4",
        lambda evidence: evolve(evidence, counters={**evidence.counters, (LANE, Status.SUCCEEDED): 1}),
    ),
    "a counter was forgotten": ("I4", lambda evidence: evolve(evidence, counters={})),
    "the database is damaged": ("I9", lambda evidence: evolve(evidence, integrity="row 3 missing from index ready")),
    "a transition is missing": ("I10", changed("B", lambda history: evolve(history, transitions=history.transitions[1:]))),
    "a transition that the table does not have": ("I10", changed("C", of_last(was=Status.RETRYING))),
    "the run is not what its last transition says": ("I10", changed("A", of_run(status=Status.DEAD_LETTERED))),
    "two endings": ("I11", changed("B", twice_ended)),
    "it ended at another time than its last transition": ("I11", changed("A", of_run(ended_us=1))),
    "an attempt is forgotten": ("I12", changed("A", without_attempt(2))),
    "the last attempt is forgotten": ("I12", changed("B", without_attempt(1))),
    "an attempt has no outcome": ("I12", changed("A", of_attempt(2, outcome=None, ended_us=None))),
    "an attempt has another outcome than its move": ("I12", changed("A", of_attempt(1, outcome=OutcomeKind.CRASHED))),
    "an attempt began twice": ("I12", staged(lambda lines: [*lines, lines[0]])),
    "a handler began without a run": ("I13", staged(lambda lines: [*lines, start_of("Z", 1)])),
    "a handler began without its attempt": ("I13", staged(lambda lines: [*lines, start_of("A", 4)])),
    "a handler began under another claim": ("I13", changed("B", of_attempt(1, claim_id=b"x" * 16))),
    "a handler began under another fence": ("I13", changed("B", of_attempt(1, fence=7))),
    "a try was not counted": ("I14", changed("A", of_run(spent=0))),
    "a crash was counted as a try": ("I14", changed("A", of_run(spent=2))),
    "a death was not counted": (
        "I14",
        lambda evidence: evolve(also(history("X", plan("x"), ENQUEUE, START, Move.RESCUE))(evidence), ended=False),
    ),
    "it was poisoned after four deaths": ("I14", also(history("X", plan("x"), ENQUEUE, START, *DEAD[:6], Move.POISON))),
    "a canceled run succeeded": ("I15", changed("B", of_run(status=Status.SUCCEEDED))),
    "a canceled run began again": (
        "I15",
        staged(lambda lines: [*lines, start_of("B", 2)]),
    ),
    "a canceled run began after all": ("I15", staged(lambda lines: [*lines, start_of("C", 1)])),
    "a cancel was told of another status": (
        "I15",
        called(*asked(20, "cancel", {"say": "ack", "canceled": False, "status": "dead_lettered"}, of="A")),
    ),
    "a replay is of a run that has not ended": (
        "I16",
        lambda evidence: evolve(changed("A", of_run(status=Status.RETRYING))(evidence), ended=False),
    ),
    "a replay has another payload": ("I16", changed("R", of_run(payload=json.dumps(plan("one")).encode()))),
    "a replay took over the key": ("I16", changed("R", of_run(idempotency_key="k"))),
    "one call made two replays": (
        "I16",
        also(evolve(good().runs["R"], run=evolve(good().runs["R"].run, id="R2"))),
    ),
    "one key was answered with two runs": ("I17", called(*enqueued(20, plan("two"), "B", idempotency_key="k"))),
    "one key made a run twice": ("I17", called(*enqueued(20, plan("one", fails=1), "A", idempotency_key="k"))),
    "two runs have one key": ("I17", changed("B", of_run(idempotency_key="k"))),
    "half of a batch": (
        "I18",
        lambda evidence: lost("M2")(evolve(evidence, caller=[line for line in evidence.caller if line.get("runs") is None])),
    ),
    "two attempts at once": (
        "I20",
        staged(lambda lines: [line for line in lines if (line["say"], line["run"], line["attempt"]) != ("end", "A", 1)]),
    ),
    "a claim that is not new": ("I21", changed("A", of_attempt(3, fence=2))),
    "it began before its time": (
        "I27",
        called(*enqueued(20, plan("two"), "B", delay=0.5)),
    ),
    "it never ended": (
        "I33",
        lambda evidence: called(
            *asked(20, "enqueue", None, task="work", plan=plan("x"), options={})
        )(also(history("X", plan("x"), ENQUEUE))(evidence)),
    ),
    "it ended otherwise than its handler": ("I33", changed("A", of_run(payload=json.dumps(plan("one", fails=9)).encode()))),
    "it is left running": ("I34", also(history("X", plan("x"), ENQUEUE, START))),
    "its handler never ran": ("I3", staged(lambda lines: [line for line in lines if line["run"] != "M1"])),
    "its handler failed": ("I3", staged(lambda lines: in_the_end(lines, "M1", "Flop"))),
    "it has the result of another attempt": ("I3", changed("A", of_run(result=b'{"n":"one","attempt":2}'))),
    "it crashed under a process that was not killed": ("P9", lambda evidence: evolve(evidence, killed=())),
}  # fmt: skip


def test_a_story_in_which_everything_went_right_is_not_reported() -> None:
    """Retries, crashes, cancels, replays, repeated keys, batches and unanswered calls are no violations."""
    assert [] == violations(good())


@pytest.mark.parametrize("what", BAD)
def test_what_must_not_be_is_reported(what: str) -> None:
    """Each break of a promise is reported with the number of its invariant."""
    invariant, spoil = BAD[what]

    found = {problem.split()[0] for problem in violations(spoil(good()))}

    assert invariant in found
