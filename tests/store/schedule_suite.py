"""
What every store promises of schedules.

Mixed into a subclass of `StoreContract`, whose fixtures it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from callsheet.store.contract import Reader, ScheduleSet, SetSchedule
from callsheet.store.errors import MalformedCommand
from callsheet.store.records import (
    FIRES_KEPT,
    Clock,
    Did,
    Fired,
    Move,
    NewRun,
    OutcomeKind,
    Owner,
    RunFilter,
    Schedule,
    Verdict,
)

from .contract_suite import OTHER, SECOND, START, SUCCEED, Desk, Place, fail, run_id

EXHAUST = Verdict(Move.EXHAUST, OutcomeKind.FAILED)
NIGHTLY = Schedule("app/main", "nightly", b"{}", START + SECOND, START + 2 * SECOND)


def change(desk: Desk, was: int | None, schedule: Schedule = NIGHTLY, **fields: Any) -> ScheduleSet:
    (answer,) = desk.do(SetSchedule(was, schedule, **fields))
    assert isinstance(answer, ScheduleSet)
    return answer


def asked(desk: Desk, ask: Callable[[Reader], Any]) -> Any:
    reader = desk.store.reader()
    try:
        return ask(reader)
    finally:
        reader.close()


def schedules(desk: Desk, jobs: str | None = None) -> list[Schedule]:
    return list(asked(desk, lambda reader: reader.schedules(jobs)))


def fires(desk: Desk, key: str = "nightly", jobs: str = "app/main", limit: int = 1000) -> list[Fired]:
    return list(asked(desk, lambda reader: reader.fires(jobs, key, limit)))


def run(desk: Desk, n: int, **fields: Any) -> NewRun:
    """One of the schedule."""
    return desk.new(n, **{"schedule_key": "nightly", "nominal_us": START + n} | fields)


def fired(n: int, did: Did = Did.REQUESTED, at_us: int = START, **fields: Any) -> Fired:
    return Fired(START + n, at_us, did, **fields)


class ScheduleContract:
    """The promises."""

    def test_a_schedule_reads_back_as_it_was_said(self, desk: Desk) -> None:
        """But for its version and when it was made and changed: those the store keeps."""
        full = Schedule("app/main", "a/b", b'{"x":1}', 1, 2, True, True, 3, 4, 5, 6, 77, 88, 99)

        answer = change(desk, None, full)

        stored = evolve(full, version=1, created_us=START, updated_us=START)
        assert answer == ScheduleSet(True, stored)
        assert schedules(desk) == [stored]

    def test_a_change_counts_up_the_version(self, desk: Desk) -> None:
        """When it was made stays."""
        change(desk, None)
        desk.later(5)

        answer = change(desk, 1, evolve(NIGHTLY, next_us=None, due_us=None, fired=3))

        stored = Schedule("app/main", "nightly", b"{}", None, None, fired=3, version=2, created_us=START)
        assert answer == ScheduleSet(True, evolve(stored, updated_us=START + 5 * SECOND))
        assert schedules(desk) == [answer.schedule]

    @pytest.mark.parametrize("was", [None, 0, 1, 3])
    @pytest.mark.parametrize("delete", [False, True])
    def test_who_is_mistaken_about_it_changes_nothing(self, desk: Desk, was: int | None, delete: bool) -> None:
        """Neither the schedule, nor its history, and no run is requested; the answer says what there is."""
        change(desk, None)
        now = change(desk, 1, evolve(NIGHTLY, paused=True), fired=(fired(1),)).schedule

        answer = change(desk, was, NIGHTLY, runs=(run(desk, 5),), fired=(fired(5),), delete=delete)

        assert answer == ScheduleSet(False, now)
        assert schedules(desk) == [now]
        assert fires(desk) == [fired(1)]
        assert desk.ids() == []

    def test_nothing_is_there_yet_for_who_believes_otherwise(self, desk: Desk) -> None:
        """A schedule that was deleted does not come back by a late change."""
        answers = [change(desk, 1), change(desk, 1, delete=True)]

        assert answers == [ScheduleSet(False, None)] * 2
        assert schedules(desk) == []

    @pytest.mark.parametrize("delete", [False, True])
    def test_one_that_was_deleted_and_said_anew_is_another_one(self, desk: Desk, delete: bool) -> None:
        """Who read the one before may be told the same version by the one after; nothing of it is changed."""
        before = change(desk, None).schedule
        assert before is not None
        change(desk, 1, delete=True)
        desk.later(1)
        after = change(desk, None, evolve(NIGHTLY, body=b'{"x":1}')).schedule

        late = change(desk, before.version, evolve(before, paused=True), runs=(run(desk, 1),), delete=delete)

        assert after is not None
        assert (after.version, late) == (before.version, ScheduleSet(False, after))
        assert schedules(desk) == [after]
        assert desk.ids() == []

    def test_of_two_who_believe_the_same_one_is_done(self, desk: Desk) -> None:
        """In one write, as in two."""
        change(desk, None)

        one, two = desk.do(
            SetSchedule(1, evolve(NIGHTLY, fired=1), (run(desk, 1),), (fired(1),)),
            SetSchedule(1, evolve(NIGHTLY, fired=1), (run(desk, 2),), (fired(1),)),
        )

        assert isinstance(one, ScheduleSet)
        assert one.done
        assert two == ScheduleSet(False, one.schedule)
        assert desk.ids() == [1]

    def test_many_changes_in_one_write_are_judged_each_for_itself(self, desk: Desk) -> None:
        """Who is mistaken about one keeps no other from being done; runs are claimed in the order of the changes."""
        every = [evolve(NIGHTLY, key=f"k{n:02}") for n in range(30)]
        desk.do(*[SetSchedule(None, each) for each in every])

        answers = desk.do(
            *[
                SetSchedule(
                    2 if n % 3 == 0 else 1,
                    evolve(each, fired=1),
                    (run(desk, 100 + n, schedule_key=each.key),),
                    (fired(n),),
                )
                for n, each in enumerate(every)
            ]
        )

        done = [n for n in range(30) if n % 3]
        assert [n for n, each in enumerate(answers) if isinstance(each, ScheduleSet) and each.done] == done
        assert [each.fired for each in schedules(desk)] == [int(n in done) for n in range(30)]
        assert [int(each.run_id) for each in desk.claim(30)] == [100 + n for n in done]

    def test_two_processes_request_a_time_once(self, shared_place: Place) -> None:
        """Each has the store open; the slower one is told what the faster one made of it."""
        one, two = Desk(shared_place()), Desk(shared_place())
        for desk, boot_id in ((one, "a"), (two, "b")):
            desk.store.open(Owner(boot_id, 7, "host", START))
        change(one, None)
        seen = schedules(two)

        first = change(one, 1, evolve(NIGHTLY, fired=1), runs=(run(one, 1),), fired=(fired(1),))
        second = change(two, seen[0].version, evolve(NIGHTLY, fired=1), runs=(run(two, 2),), fired=(fired(1),))

        assert (first.done, second) == (True, ScheduleSet(False, first.schedule))
        assert two.ids() == [1]
        for desk in (one, two):
            desk.store.close()

    def test_what_says_nothing_new_changes_nothing(self, desk: Desk) -> None:
        """The version stays: nobody need look at it anew."""
        made = change(desk, None).schedule
        desk.later(5)
        assert made is not None

        answer = change(desk, 1, made)

        assert answer == ScheduleSet(True, made)
        assert schedules(desk) == [made]

    # ------------------------------------------------------------ runs

    def test_runs_are_requested_with_the_change(self, desk: Desk) -> None:
        """They name the schedule and the time, and are there to be claimed."""
        change(desk, None, runs=(run(desk, 1), run(desk, 2)), fired=(fired(1, run_id=run_id(1)),))

        claimed = desk.claim()

        assert [each.run_id for each in claimed] == [run_id(1), run_id(2)]
        found = desk.history(run_id(2)).run
        assert (found.schedule_key, found.nominal_us) == ("nightly", START + 2)
        assert fires(desk) == [fired(1, run_id=run_id(1))]

    def test_lists_of_the_runs_of_a_schedule(self, desk: Desk) -> None:
        """Newest first, and by other things too."""
        change(desk, None, runs=tuple([run(desk, n) for n in (1, 2, 3)]))
        desk.add(4)
        desk.add(5, schedule_key="hourly")
        desk.add(6, OTHER, schedule_key="nightly")

        found = [
            desk.ids(RunFilter(schedule_key="nightly")),
            desk.ids(RunFilter(schedule_key="nightly", jobs="app/main")),
            desk.ids(RunFilter(schedule_key="nightly"), limit=2, before=run_id(3)),
            desk.ids(RunFilter(schedule_key="none")),
        ]

        assert found == [[6, 3, 2, 1], [3, 2, 1], [2, 1], []]

    def test_p1_a_run_that_is_there_already_is_malformed(self, desk: Desk) -> None:
        """Nothing stays: neither the other runs, nor what was noted, nor the change, nor what else was to be written."""
        desk.add(1)
        made = change(desk, None, fired=(fired(1),)).schedule

        with pytest.raises(MalformedCommand):
            desk.do(
                SetSchedule(None, evolve(NIGHTLY, key="other")),
                SetSchedule(1, evolve(NIGHTLY, fired=1), (run(desk, 2), run(desk, 1)), (fired(2),)),
            )

        assert schedules(desk) == [made]
        assert fires(desk) == [fired(1)]
        assert desk.ids() == [1]

    @pytest.mark.parametrize("did", sorted(set(Did) - {Did.TRIGGERED}))
    def test_p1_a_time_noted_twice_is_malformed(self, desk: Desk, did: Did) -> None:
        """Whatever was done about it: nothing stays."""
        made = change(desk, None, fired=(fired(7, did),)).schedule

        for twice in [(fired(7, at_us=9),), (fired(8), fired(8, Did.MISSED))]:
            with pytest.raises(MalformedCommand):
                change(desk, 1, evolve(NIGHTLY, fired=1), runs=(run(desk, 2),), fired=twice)

        assert schedules(desk) == [made]
        assert fires(desk) == [fired(7, did)]
        assert desk.ids() == []

    def test_what_is_requested_by_hand_keeps_no_time_from_coming(self, desk: Desk) -> None:
        """By hand at the very instant of a time, twice, and before it was looked at."""
        made: list[Fired] = []
        for version, did in enumerate((Did.TRIGGERED, Did.TRIGGERED, Did.REQUESTED, Did.TRIGGERED)):
            made.append(fired(7, did, START + version))
            change(desk, version or None, evolve(NIGHTLY, fired=version), fired=(made[-1],))

        found = fires(desk)

        assert found == [made[3], made[1], made[0], made[2]]

    # ------------------------------------------------------------ overlap

    def test_an_active_run_makes_it_the_other_change(self, desk: Desk) -> None:
        """What was to be done otherwise is not: no run, nothing noted."""
        change(desk, None, runs=(run(desk, 1),))
        other = SetSchedule(99, evolve(NIGHTLY, skipped=1), fired=(fired(2, Did.OVERLAPPED),))

        answer = change(desk, 1, evolve(NIGHTLY, fired=1), runs=(run(desk, 2),), fired=(fired(2),), if_active=other)

        assert (answer.done, answer.active) == (True, True)
        (now,) = schedules(desk)
        assert (now.fired, now.skipped, now.version) == (0, 1, 2)
        assert now == answer.schedule
        assert fires(desk) == [fired(2, Did.OVERLAPPED)]
        assert desk.ids() == [1]

    def test_what_is_done_instead_is_of_the_same_schedule(self) -> None:
        """Refused before any store sees it."""
        with pytest.raises(ValueError, match="of another schedule: 'other', not 'nightly'"):
            SetSchedule(1, NIGHTLY, if_active=SetSchedule(1, evolve(NIGHTLY, key="other")))
        with pytest.raises(ValueError, match="of another schedule"):
            SetSchedule(1, NIGHTLY, if_active=SetSchedule(1, evolve(NIGHTLY, jobs="app/other")))

    def test_the_other_change_may_be_none(self, desk: Desk) -> None:
        """Who asks in vain whether a run has ended disturbs nobody: the version stays."""
        now = change(desk, None, runs=(run(desk, 1),)).schedule
        assert now is not None
        desk.later(1)

        answer = change(desk, 1, evolve(now, fired=1), runs=(run(desk, 2),), if_active=SetSchedule(1, now))

        assert answer == ScheduleSet(True, now, active=True)
        assert schedules(desk) == [now]

    @pytest.mark.parametrize(
        "state", ["queued", "scheduled", "running", "retrying", "succeeded", "dead_lettered", "canceled"]
    )
    def test_a_run_is_active_until_it_has_ended(self, desk: Desk, state: str) -> None:
        """One that is tried again later has not ended."""
        waits: dict[str, Any] = {"due_us": START + 99 * SECOND, "clock": Clock.WALL} if state == "scheduled" else {}
        change(desk, None, runs=(run(desk, 1, **waits),))
        if state in ("running", "retrying", "succeeded", "dead_lettered"):
            (claimed,) = desk.claim()
            verdicts = {"retrying": fail(START + 99 * SECOND), "succeeded": SUCCEED, "dead_lettered": EXHAUST}
            if state in verdicts:
                desk.settle(claimed, verdicts[state])
        elif state == "canceled":
            desk.cancel(run_id(1))

        answer = change(
            desk,
            1,
            evolve(NIGHTLY, fired=1),
            runs=(run(desk, 2),),
            if_active=SetSchedule(1, evolve(NIGHTLY, skipped=1)),
        )

        assert answer.active is (state in ("queued", "scheduled", "running", "retrying"))
        assert desk.ids() == ([1] if answer.active else [2, 1])

    def test_other_runs_are_not_its_own(self, desk: Desk) -> None:
        """Of other Jobs with the same key, of another key, of none."""
        change(desk, None)
        desk.add(1, OTHER, schedule_key="nightly")
        desk.add(2, schedule_key="hourly")
        desk.add(3)

        answer = change(desk, 1, runs=(run(desk, 4),), if_active=SetSchedule(1, evolve(NIGHTLY, skipped=1)))

        assert (answer.done, answer.active) == (True, False)
        assert desk.ids() == [4, 3, 2, 1]

    # ------------------------------------------------------------ history, deleting, reading

    def test_the_last_times_are_kept(self, desk: Desk) -> None:
        """By the time, not by when it was noted; as many as FIRES_KEPT, of each schedule."""
        change(desk, None, fired=tuple([fired(n) for n in range(0, FIRES_KEPT, 2)]))
        change(desk, None, evolve(NIGHTLY, key="other"), fired=(fired(0),))
        for version in range(1, 5):
            change(desk, version, evolve(NIGHTLY, fired=version), fired=(fired(1000 + version),))
        change(desk, 5, NIGHTLY, fired=tuple([fired(n) for n in range(1, FIRES_KEPT, 2)]))

        found = fires(desk)

        assert [each.nominal_us - START for each in found] == [1004, 1003, 1002, 1001, *range(99, 3, -1)]
        assert len(found) == FIRES_KEPT
        assert fires(desk, limit=2) == found[:2]
        assert fires(desk, "other") == [fired(0)]
        assert (fires(desk, "none"), fires(desk, jobs="app/other")) == ([], [])

    def test_what_was_by_hand_is_forgotten_like_the_rest(self, desk: Desk) -> None:
        """One at a time, also those of one instant."""
        for n in range(FIRES_KEPT + 3):
            change(desk, n or None, evolve(NIGHTLY, fired=n), fired=(fired(1, Did.TRIGGERED, START + n),))

        found = fires(desk)

        assert [each.at_us - START for each in found] == list(range(FIRES_KEPT + 2, 2, -1))

    def test_a_deleted_schedule_leaves_its_runs(self, desk: Desk) -> None:
        """Its history goes with it; a new one of the same key is new, and may come at the same times."""
        change(desk, None, runs=(run(desk, 1),), fired=(fired(1),))
        change(desk, None, evolve(NIGHTLY, key="other"), fired=(fired(1),))

        gone = change(desk, 1, delete=True)
        left = [each.key for each in schedules(desk)], fires(desk), fires(desk, "other")
        again = change(desk, None, fired=(fired(1),))

        assert gone == ScheduleSet(True, None)
        assert left == (["other"], [], [fired(1)])
        assert again.schedule is not None
        assert again.schedule.version == 1
        assert desk.ids(RunFilter(schedule_key="nightly")) == [1]

    def test_schedules_are_read_by_jobs_and_key(self, desk: Desk) -> None:
        """All of them, or those of one Jobs instance; whatever order they were made in."""
        for jobs, key in [("app/other", "a"), ("app/main", "b"), ("app/main", "a/z"), ("app/main", "a")]:
            change(desk, None, evolve(NIGHTLY, jobs=jobs, key=key))

        found = [[(each.jobs, each.key) for each in schedules(desk, jobs)] for jobs in (None, "app/main", "app/none")]

        mine = [("app/main", "a"), ("app/main", "a/z"), ("app/main", "b")]
        assert found == [[*mine, ("app/other", "a")], mine, []]

    def test_one_schedule_is_read_by_its_key(self, desk: Desk) -> None:
        """Of its Jobs instance; another's of the same key is another one."""
        places = [("app/main", "a"), ("app/other", "a"), ("app/main", "b")]
        made = [change(desk, None, evolve(NIGHTLY, jobs=jobs, key=key)).schedule for jobs, key in places]

        found = [asked(desk, lambda reader, at=at: reader.schedule(*at)) for at in (*places, ("app/other", "b"))]  # type: ignore[misc]

        assert found == [*made, None]

    def test_p8_schedules_outlive_the_process(self, desk: Desk, place: Place) -> None:
        """With their history."""
        now = change(desk, None, runs=(run(desk, 1),), fired=(fired(1, run_id=run_id(1)),)).schedule
        desk.store.close()
        desk.store = place()
        desk.store.open(Owner("boot-b", 7, "host", START))

        found = schedules(desk), fires(desk)

        assert found == ([now], [fired(1, run_id=run_id(1))])
