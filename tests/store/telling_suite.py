"""
What every store promises of what running attempts tell, of the place that a run keeps in its queue, and of replays.

Mixed into a subclass of `StoreContract`, whose fixtures it takes.
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from callsheet.store.contract import Noted, NoteRunning, Settle, Settled
from callsheet.store.records import REPLAYS_TOLD, Claimed, Clock, Move, OutcomeKind, Status, Verdict

from .contract_suite import (
    BOOM,
    CRASH,
    HAND_BACK,
    HOOK,
    MAIL,
    SECOND,
    SLOW,
    START,
    SUCCEED,
    Desk,
    end_of,
    fail,
    run_id,
)


def note(desk: Desk, run: Claimed, **fields: Any) -> bool:
    """Tell something of a running attempt; whether it was kept."""
    changed = {name: fields.pop(name) for name in ("run_id", "attempt", "claim_id", "fence") if name in fields}
    command = NoteRunning(run.run_id, run.attempt, run.claim_id, run.fence, **fields)
    (answer,) = desk.do(evolve(command, **changed))
    assert isinstance(answer, Noted)
    return answer.held


class TellingContract:
    """The promises."""

    # ------------------------------------------------------------ what a running attempt tells

    def test_progress_is_kept(self, desk: Desk) -> None:
        """The latest is read; the run is otherwise as it was."""
        claimed = desk.start(1)
        before = desk.history(run_id(1))
        desk.later(1)

        held = [note(desk, claimed, progress=b"1"), note(desk, claimed, progress=b'{"a":"\xff"}')]

        assert held == [True, True]
        after = desk.history(run_id(1))
        assert after == evolve(before, run=evolve(before.run, progress=b'{"a":"\xff"}'))

    def test_a_stuck_attempt_is_marked(self, desk: Desk) -> None:
        """Since when; progress and the mark do not disturb each other, and a note of nothing changes nothing."""
        claimed = desk.start(1)

        note(desk, claimed, progress=b"1")
        note(desk, claimed, stuck_since_us=START + 5)
        note(desk, claimed)
        both = desk.history(run_id(1)).run
        note(desk, claimed, progress=b"", stuck_since_us=START + 6)
        again = desk.history(run_id(1)).run

        assert (both.progress, both.stuck_since_us) == (b"1", START + 5)
        assert (again.progress, again.stuck_since_us) == (b"", START + 6)

    @pytest.mark.parametrize(
        "change",
        [{"attempt": 2}, {"attempt": 0}, {"claim_id": b"x"}, {"fence": 2}, {"fence": 0}, {"run_id": "x"}],
    )
    def test_p2_each_part_of_the_guard_of_a_note_counts(self, desk: Desk, change: dict[str, Any]) -> None:
        """Another attempt, claim, fence or run than the running one keeps nothing, and is told so."""
        claimed = desk.start(1)
        before = desk.history(run_id(1))

        assert not note(desk, claimed, progress=b"1", stuck_since_us=1, **change)
        assert desk.history(run_id(1)) == before

    @pytest.mark.parametrize("end", ["settled", "canceled", "rescued", "claimed again"])
    def test_p2_a_note_of_an_attempt_that_has_ended_is_refused(self, desk: Desk, end: str) -> None:
        """However it ended."""
        old = desk.start(1)
        if end == "settled":
            desk.settle(old)
        elif end == "canceled":
            desk.cancel(run_id(1))
        else:
            desk.rescue("others")
        if end == "claimed again":
            desk.claim()
        before = desk.history(run_id(1))

        assert not note(desk, old, progress=b"1", stuck_since_us=1)
        assert desk.history(run_id(1)) == before

    @pytest.mark.parametrize("end", ["success", "failure", "hand-back", "cancel", "rescue"])
    def test_what_was_told_after_the_end(self, desk: Desk, end: str) -> None:
        """Progress stays, also for the next attempt; being stuck ends with the attempt."""
        claimed = desk.start(1)
        note(desk, claimed, progress=b"[1]", stuck_since_us=START)

        match end:
            case "success":
                desk.settle(claimed)
            case "failure":
                desk.settle(claimed, fail())
            case "hand-back":
                desk.settle(claimed, HAND_BACK)
            case "cancel":
                desk.cancel(run_id(1))
            case _:
                desk.rescue("others")
        ended = desk.history(run_id(1)).run
        desk.claim()
        after = desk.history(run_id(1)).run

        assert (ended.progress, ended.stuck_since_us) == (b"[1]", None)
        assert (after.progress, after.stuck_since_us) == (b"[1]", None)

    def test_a_settle_brings_the_last_progress(self, desk: Desk) -> None:
        """In one write with the end; None leaves what is there; a stale one brings nothing."""
        desk.insert(*(desk.new(n) for n in range(1, 7)))
        runs = desk.claim()
        for run in runs:
            note(desk, run, progress=b"old")
        verdicts = (SUCCEED, SUCCEED, fail(START), fail(START + 1), SUCCEED, HAND_BACK)
        brought = (b"1", None, b"", b"\xff\x00", b"5", None)
        desk.cancel(runs[4].run_id)

        settlements = zip(runs, verdicts, brought, strict=True)
        (answer,) = desk.do(Settle(tuple(evolve(end_of(run, v), progress=told) for run, v, told in settlements)))

        succeeded, retrying = Status.SUCCEEDED, Status.RETRYING
        assert answer == Settled((succeeded, succeeded, retrying, retrying, None, Status.QUEUED))
        kept = [desk.history(run.run_id).run.progress for run in runs]
        assert kept == [b"1", b"old", b"", b"\xff\x00", b"old", b"old"]

    def test_p3_the_first_of_two_settlements_brings_its_progress(self, desk: Desk) -> None:
        """The second one in the same command is stale, with all it says."""
        claimed = desk.start(1)
        one, two = (evolve(end_of(claimed), progress=told) for told in (b"1", b"2"))

        (answer,) = desk.do(Settle((one, two)))

        assert answer == Settled((Status.SUCCEEDED, None))
        assert desk.history(run_id(1)).run.progress == b"1"

    # ------------------------------------------------------------ its place

    @pytest.mark.parametrize("how", ["others", "expired", "own", "hand-back"])
    def test_p8_a_run_that_comes_back_keeps_its_place(self, desk: Desk, how: str) -> None:
        """Taken back or handed back, it starts before what became due after it, and after what was before it."""
        desk.add(2, due_us=START - 5)
        desk.add(3, SLOW, due_us=START - 4, clock=Clock.STEADY)
        desk.add(4, HOOK, due_us=START - 3, clock=Clock.WALL)
        came = desk.claim(owner="boot-a" if how != "own" else "boot-b")
        desk.add(1, due_us=START - 6)
        desk.add(5, HOOK, due_us=START - 4)
        desk.add(6, due_us=START)
        desk.later(60)

        if how == "hand-back":
            for run in came:
                desk.settle(run, HAND_BACK)
        else:
            rescued = desk.rescue(how).runs
            assert [(run.due_us, run.clock) for run in rescued] == [(START - due, Clock.AT_ONCE) for due in (5, 4, 3)]
        waiting = [desk.history(run.run_id).run for run in came]
        order = [int(run.run_id) for run in desk.claim()]

        assert [(run.due_us, run.clock) for run in waiting] == [(START - due, Clock.AT_ONCE) for due in (5, 4, 3)]
        assert order == [1, 2, 3, 5, 4, 6]

    def test_a_run_that_comes_back_is_due_whatever_the_clocks_say(self, desk: Desk) -> None:
        """It started, so it was due: a wall clock that was set back since does not keep it waiting."""
        desk.start(1, due_us=START, clock=Clock.WALL)
        desk.start(2, due_us=START, clock=Clock.STEADY)
        desk.rescue("others")
        desk.now = evolve(desk.now, wall_us=START - 3600 * SECOND, steady_us=START - 3600 * SECOND)

        assert [int(run.run_id) for run in desk.claim()] == [1, 2]

    def test_many_that_come_back_each_keep_their_own_place(self, desk: Desk) -> None:
        """Ended by one command, with one cause or with many."""
        desk.insert(*(desk.new(n, due_us=START - n) for n in range(1, 7)))
        one, two = desk.claim(3), desk.claim(3)

        desk.do(Settle(tuple(end_of(run, HAND_BACK) for run in one)))
        causes = zip(two, ("a", "b", "c"), strict=True)
        desk.do(Settle(tuple(end_of(run, evolve(CRASH, cause=cause)) for run, cause in causes)))

        assert [int(run.run_id) for run in desk.claim()] == [6, 5, 4, 3, 2, 1]

    @pytest.mark.parametrize(
        "verdict",
        [
            Verdict(Move.RETRY, OutcomeKind.FAILED, error=BOOM),
            Verdict(Move.SNOOZE, OutcomeKind.SNOOZED),
            evolve(HAND_BACK, due_us=START + 1, clock=Clock.STEADY),
            evolve(CRASH, due_us=START + 1, clock=Clock.STEADY),
        ],
    )
    def test_any_other_end_goes_behind(self, desk: Desk, verdict: Verdict) -> None:
        """A retry or a snooze without a time waits from now on; a verdict that names a time has it."""
        claimed = desk.start(1, due_us=START - 9)
        desk.now = evolve(desk.now, steady_us=START + 1)
        desk.settle(claimed, verdict)
        desk.add(2, due_us=START)

        assert desk.history(run_id(1)).run.due_us == START + 1
        assert [int(run.run_id) for run in desk.claim()] == [2, 1]

    # ------------------------------------------------------------ replays

    def test_a_history_names_its_replays(self, desk: Desk) -> None:
        """Oldest (smallest id) first, whatever became of them; not those of other runs."""
        desk.settle(desk.start(10, MAIL))
        for n in (30, 20, 25):
            desk.add(n, HOOK, replay_of=run_id(10))
        desk.add(40, replay_of=run_id(20))
        desk.cancel(run_id(25))

        assert desk.history(run_id(10)).replays == (run_id(20), run_id(25), run_id(30))
        assert desk.history(run_id(20)).replays == (run_id(40),)
        assert desk.history(run_id(30)).replays == ()

    def test_a_history_names_the_first_fifty_replays(self, desk: Desk) -> None:
        """A run that is replayed for ever does not grow."""
        desk.add(1)
        desk.insert(*(desk.new(n, replay_of=run_id(1)) for n in range(100, 160)))

        assert REPLAYS_TOLD == 50
        assert desk.history(run_id(1)).replays == tuple(run_id(n) for n in range(100, 150))

    def test_a_replay_that_was_not_stored_is_not_named(self, desk: Desk) -> None:
        """A repeated insert adds nothing, and one that was rolled back neither."""
        desk.add(1)
        desk.add(2, replay_of=run_id(1), idempotency_key="k", payload_hash=b"one")
        other = desk.new(3, replay_of=run_id(1), idempotency_key="k", payload_hash=b"two")

        desk.insert(desk.new(2, replay_of=run_id(1)), other)
        desk.insert(desk.new(4, replay_of=run_id(1)), other, strict=True)

        assert desk.history(run_id(1)).replays == (run_id(2),)
