"""What follows when a time of a schedule has come: by tables, and against a reference that goes through every time."""

from __future__ import annotations

from functools import cache
from itertools import count, pairwise, takewhile
from typing import Any, Final

import pytest
from attrs import define, evolve, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callsheet.schedules import decide
from callsheet.schedules.cadence import MAX_TIMES, Cadence, Cron, Every
from callsheet.schedules.plan import Misfire, Overlap, Plan, from_body, to_body
from callsheet.store.contract import SetSchedule
from callsheet.store.records import Did, Fired, Lane, NewRun, Schedule

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
NOON: Final = 1_774_699_200_000_000
"""2026-03-28T12:00:00Z: in the night that follows, Europe changes its clocks."""
FALL: Final = 1_792_843_200_000_000
"""2026-10-24T12:00:00Z: as above."""


def a_plan(cadence: Cadence | None = None, **fields: Any) -> Plan:
    told: dict[str, Any] = {
        "key": "k", "task": "t", "queue": "app/q", "schema": "1", "payload": b"{}", "priority": 5, "max_attempts": 3,
        "timeout_us": None, "trace_id": None, "at_most_once": False, "anchor_us": NOON, "start_us": None, "end_us": None,
        "jitter_us": 0, "misfire": Misfire.LATEST, "misfire_cap": 100, "overlap": Overlap.ALLOW,
    }  # fmt: skip
    return Plan(cadence=cadence or Every(60), **told | fields)


_ids = count()


def a_run(nominal_us: int) -> NewRun:
    return NewRun(f"run-{next(_ids)}", Lane("app/main", "app/q", "t", "1"), b"{}", 0, nominal_us=nominal_us)


def minutes(us: int | None) -> float | None:
    return None if us is None else (us - NOON) / MINUTE


def turned(was: Schedule, plan: Plan, at_minute: float) -> tuple[list[float | None], list[tuple[Any, ...]], Schedule]:
    """Minutes of the runs that are requested, what is noted, and how the schedule stands then."""
    command = decide.turn(was, plan, NOON + round(at_minute * MINUTE), a_run)
    assert command is not None
    noted = [(str(each.did), minutes(each.nominal_us), each.times) for each in command.fired]
    return [minutes(each.nominal_us) for each in command.runs], noted, command.schedule


# ---------------------------------------------------------------- the first time


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1),
        ({"first": "now"}, 0),
        ({"start_us": NOON, "anchor_us": NOON}, 0),
        ({"start_us": NOON - 90 * SECOND, "anchor_us": NOON - 90 * SECOND}, 0.5),
        ({"start_us": NOON - 90 * SECOND, "anchor_us": NOON - 90 * SECOND, "first": "now"}, 0),
        ({"start_us": NOON + 5 * MINUTE, "anchor_us": NOON + 5 * MINUTE}, 5),
        ({"start_us": NOON + 5 * MINUTE, "anchor_us": NOON + 5 * MINUTE, "first": "now"}, 5),
        ({"end_us": NOON + MINUTE}, 1),
        ({"end_us": NOON + MINUTE - 1}, None),
        ({"end_us": NOON - 1, "first": "now"}, None),
        ({"end_us": NOON, "first": "now"}, 0),
    ],
)
def test_the_first_time(fields: dict[str, Any], expected: float | None) -> None:
    """The next one of its grid, or at once; not before its start, which is one itself, and not after its end."""
    plan = a_plan(**fields)

    schedule = decide.born(plan, "app/main", NOON)

    assert expected == minutes(schedule.next_us) == minutes(schedule.due_us)


def test_at_once_is_one_time_more_than_the_grid() -> None:
    """What follows is the grid, that one left out."""
    plan = a_plan(Every(600), anchor_us=NOON + 3 * MINUTE - 10 * MINUTE, first="now")
    schedule = decide.born(plan, "app/main", NOON)

    runs, noted, after = turned(schedule, plan, 0)
    late = turned(after, plan, 25)

    assert ([0], [("requested", 0, 1)], 3) == (runs, noted, minutes(after.next_us))
    assert ([23], [("missed", 13, 2), ("requested", 23, 1)]) == late[:2]
    assert 33 == minutes(late[2].next_us)


# ---------------------------------------------------------------- what was missed


@pytest.mark.parametrize(
    ("misfire", "overlap", "at", "runs", "missed"),
    [
        ("latest", "allow", 1, [1], 0),
        ("latest", "allow", 5, [5], 4),
        ("latest", "allow", 5.9, [5], 4),
        ("skip", "allow", 5.9, [5], 4),
        ("all", "allow", 5, [3, 4, 5], 2),
        ("all", "allow", 3, [1, 2, 3], 0),
        ("all", "skip", 5, [5], 4),
        ("all", "queue", 5, [5], 4),
        ("skip", "allow", 1e6 + 0.5, [1e6], 1e6 - 1),
        ("latest", "skip", 1e6 + 0.5, [1e6], 1e6 - 1),
        ("all", "allow", 1e6, [1e6 - 2, 1e6 - 1, 1e6], 1e6 - 3),
    ],
)
def test_what_was_missed_follows_the_policy(
    misfire: str, overlap: str, at: float, runs: list[float], missed: int
) -> None:
    """To the one; those that come to nothing are noted together."""
    plan = a_plan(misfire=Misfire(misfire), overlap=Overlap(overlap), misfire_cap=3)

    requested, noted, after = turned(decide.born(plan, "app/main", NOON), plan, at)

    assert runs == requested
    assert (len(runs), missed) == (after.fired, after.skipped)
    together = [("missed", runs[0] - 1, missed)] if missed else []
    assert [*together, *[("requested", each, 1) for each in runs]] == noted
    assert minutes(after.next_us) == minutes(after.last_us) + 1 == runs[-1] + 1  # type: ignore[operator]


@pytest.mark.parametrize(("late_s", "runs"), [(0, [10]), (60, [10]), (60.000001, [])])
def test_a_time_within_a_minute_was_not_missed(late_s: float, runs: list[float]) -> None:
    """misfire="skip" is about times at which nobody was there, not about a look that comes a little late."""
    plan = a_plan(Every(600), misfire=Misfire.SKIP)

    requested, noted, after = turned(decide.born(plan, "app/main", NOON), plan, 10 + late_s / 60)

    assert runs == requested
    assert [("requested", 10, 1)] * len(runs) or [("missed", 10, 1)] == noted
    assert (20, 10) == (minutes(after.next_us), minutes(after.last_us))


def test_the_end_comes_while_nobody_looks() -> None:
    """No time after it is made up for; the last one before it is."""
    plan = a_plan(end_us=NOON + 3 * MINUTE + SECOND)

    requested, noted, after = turned(decide.born(plan, "app/main", NOON), plan, 500)

    assert ([3], [("missed", 2, 2), ("requested", 3, 1)]) == (requested, noted)
    assert (None, None) == (after.next_us, after.due_us)
    assert decide.turn(after, plan, NOON + 999 * MINUTE, a_run) is None


def test_a_cron_expression_that_missed_many_times_is_counted_to_a_thousand() -> None:
    """The one that is made up for is the last one all the same."""
    plan = a_plan(Cron("* * * * *"))

    requested, noted, after = turned(decide.born(plan, "app/main", NOON), plan, 50_000)

    assert ([50_000], [("missed", 49_999, 1000), ("requested", 50_000, 1)]) == (requested, noted)
    assert 50_001 == minutes(after.next_us)


# ---------------------------------------------------------------- overlap


def test_a_time_waits_for_the_run_before_it() -> None:
    """One does, and is requested when that run has ended; those that come meanwhile come to nothing."""
    plan = a_plan(overlap=Overlap.QUEUE)
    first = decide.turn(decide.born(plan, "app/main", NOON), plan, NOON + 3 * MINUTE, a_run)
    assert first is not None
    assert first.if_active is not None
    waits = first.if_active.schedule

    second = decide.turn(waits, plan, NOON + 4 * MINUTE, a_run)
    released = decide.release(waits, NOON + 5 * MINUTE, a_run)

    assert (3, 4, 0, 2) == (minutes(waits.waiting_us), minutes(waits.next_us), waits.fired, waits.skipped)
    assert second is not None
    assert ((), (Fired(NOON + 4 * MINUTE, NOON + 4 * MINUTE, Did.OVERLAPPED),)) == (second.runs, second.fired)
    assert released is not None
    (run,) = released.runs
    assert NOON + 3 * MINUTE == run.nominal_us
    assert (Fired(NOON + 3 * MINUTE, NOON + 5 * MINUTE, Did.WAITED, run.id),) == released.fired
    assert (None, 1) == (released.schedule.waiting_us, released.schedule.fired)
    assert SetSchedule(waits.version, waits) == released.if_active


@pytest.mark.parametrize("state", [{"paused": True}, {"orphaned": True}])
def test_nothing_is_requested_of_what_is_stopped(state: dict[str, Any]) -> None:
    """Neither a time that comes, nor one that waits."""
    plan = a_plan(overlap=Overlap.QUEUE)
    was = evolve(decide.born(plan, "app/main", NOON), waiting_us=NOON, **state)

    requested = decide.turn(was, plan, NOON + DAY, a_run), decide.release(was, NOON + DAY, a_run)

    assert (None, None) == requested


# ---------------------------------------------------------------- changes


def test_what_is_said_again_keeps_its_next_time() -> None:
    """Another payload or policy does not move it; not even the grid of one that is declared anew at each start."""
    plan = a_plan(first="now")
    was = decide.turn(decide.born(plan, "app/main", NOON), plan, NOON, a_run)
    assert was is not None
    again = evolve(plan, anchor_us=NOON + 30 * SECOND, payload=b"[]", misfire=Misfire.ALL)

    after, holds = decide.said_again(was.schedule, plan, again, NOON + 30 * SECOND)

    assert evolve(was.schedule, body=to_body(holds)) == after
    assert (NOON, b"[]", Misfire.ALL) == (holds.anchor_us, holds.payload, holds.misfire)


@pytest.mark.parametrize("first", ["next", "now"])
def test_no_time_comes_again_by_a_change_after_the_clock_was_set_back(first: Any) -> None:
    """A change begins after the last time that anything was done about, wherever the clock is."""
    plan = a_plan()
    command = decide.turn(decide.born(plan, "app/main", NOON), plan, NOON + 90 * MINUTE, a_run)
    assert command is not None

    after, _ = decide.said_again(command.schedule, plan, a_plan(Every(1800), first=first), NOON + 5 * MINUTE)

    assert NOON + 90 * MINUTE < (after.next_us or 0)
    assert {"next": 120, "now": 90 + 1 / MINUTE}[first] == minutes(after.next_us)


@pytest.mark.parametrize("paused", [False, True])
def test_what_was_orphaned_goes_on_as_it_was(paused: bool) -> None:
    """With its next time, and paused if it was."""
    plan = a_plan()
    was = evolve(decide.born(plan, "app/main", NOON), orphaned=True, paused=paused)

    after, _ = decide.said_again(was, plan, plan, NOON + 90 * SECOND)

    assert (2, False, paused) == (minutes(after.next_us), after.orphaned, after.paused)


def test_a_time_that_waits_survives_a_change() -> None:
    """It has come, and still has its run."""
    plan = a_plan(overlap=Overlap.QUEUE)
    was = evolve(decide.born(plan, "app/main", NOON), waiting_us=NOON, last_us=NOON)

    after, _ = decide.said_again(was, plan, a_plan(Every(7)), NOON + SECOND)

    assert NOON == after.waiting_us


# ---------------------------------------------------------------- jitter

ZONED = [
    Cron("* * * * *", "Europe/Berlin"),
    Cron("*/20 */2 * * *", "America/New_York"),
    Cron("30 2,3 * * *", "Europe/Berlin"),
    Cron("15 1 * * *", "Australia/Lord_Howe"),
    Cron("0,30 * * * *", "Asia/Kathmandu"),
]


@pytest.mark.parametrize("cadence", [*ZONED, Every(60), Every(90.5)], ids=str)
def test_jitter_keeps_the_order_of_times(cadence: Cadence) -> None:
    """A run is never requested before its time, nor as late as the next one, however long the jitter is."""
    jitter_us = DAY if isinstance(cadence, Cron) else cadence.interval_us // 2
    plan = a_plan(cadence, jitter_us=jitter_us)
    times = grid(plan, NOON, NOON + 2 * DAY)

    dues = [plan.due_us(us) for us in times]

    assert all(one <= due < two for (one, two), due in zip(pairwise(times), dues, strict=False))
    assert dues == [from_body(to_body(plan)).due_us(us) for us in times]
    assert len({due - us for due, us in zip(dues, times, strict=True)}) == len(times)


# ---------------------------------------------------------------- any story


PAGE: Final = 8 * DAY


@cache
def cron_page(cadence: Cron, n: int) -> list[int]:
    """All its times of eight days."""
    return list(takewhile(lambda us: us < (n + 1) * PAGE, cadence.times(n * PAGE - 1)))


def grid(plan: Plan, from_us: int, until_us: int) -> list[int]:
    """Its times from the one until the other, found the slow way."""
    if isinstance(plan.cadence, Cron):
        pages = [cron_page(plan.cadence, n) for n in range(from_us // PAGE, until_us // PAGE + 1)]
        return [us for page in pages for us in page if from_us <= us <= until_us]
    found, us = [], plan.anchor_us
    while us >= from_us:
        us -= plan.cadence.interval_us
    while us <= until_us:
        if us >= from_us:
            found.append(us)
        us += plan.cadence.interval_us
    return found


@define
class Reference:
    """What a schedule must do, time by time, by going through all of them."""

    plan: Plan
    ahead_us: int = 16 * DAY
    """How far it looks: further than any story goes."""
    coming: list[int] = field(factory=list)
    """Its times from the next one on."""
    did: dict[int, Did] = field(factory=dict)
    """What was done about each."""
    skipped: int = 0
    waiting: int | None = None
    paused: bool = False
    orphaned: bool = False

    def say(self, plan: Plan, now_us: int) -> None:
        begins = max(now_us, plan.start_us or 0)
        floor = max(self.did, default=0)
        last = plan.end_us or begins + self.ahead_us
        self.plan = plan
        self.coming = [
            us
            for us in grid(plan, begins, begins + self.ahead_us)
            if us > floor and (us > now_us or us == plan.start_us)
        ]
        if plan.first == "now":
            begins = max(begins, floor + 1)
            self.coming = [begins, *[us for us in self.coming if us > begins]]
        self.coming = [us for us in self.coming if us <= last]

    def go_on(self, now_us: int) -> None:
        self.coming = [us for us in self.coming if self.plan.due_us(us) > now_us]

    def look(self, now_us: int, active: bool) -> tuple[list[int], bool]:
        """The times that have their runs now, and whether one waits from now on."""
        if self.paused or self.orphaned:
            return [], False
        due = [us for us in self.coming if self.plan.due_us(us) <= now_us]
        if not due:
            return [], False
        self.coming = self.coming[len(due) :]
        wanted = due[-1:]
        if self.plan.misfire is Misfire.ALL and self.plan.overlap is Overlap.ALLOW:
            wanted = due[-self.plan.misfire_cap :]
        if self.plan.misfire is Misfire.SKIP and now_us - self.plan.due_us(due[-1]) > MINUTE:
            wanted = []
        counted = len(due) if isinstance(self.plan.cadence, Every) else min(len(due), MAX_TIMES + 1)
        self.skipped += counted - len(wanted)
        for us in due:
            self.note(us, Did.REQUESTED if us in wanted else Did.MISSED)
        kept_out = bool(wanted) and active and self.plan.overlap is not Overlap.ALLOW
        if not kept_out:
            return wanted, False
        (us,) = wanted
        self.did[us] = Did.OVERLAPPED
        if self.plan.overlap is Overlap.QUEUE and self.waiting is None:
            self.did[us] = Did.WAITED
            self.waiting = us
        else:
            self.skipped += 1
        return [], True

    def note(self, us: int, did: Did) -> None:
        assert us not in self.did, "the reference itself does something twice"
        self.did[us] = did


@define
class Stage:
    """A schedule in a store that does one thing at a time."""

    schedule: Schedule
    active: bool = False
    runs: list[int] = field(factory=list)
    fired: list[Fired] = field(factory=list)

    def do(self, command: SetSchedule | None) -> list[int]:
        """The times of the runs that are requested."""
        if command is None:
            return []
        assert command.was == self.schedule.version
        doing = command.if_active if self.active and command.if_active is not None else command
        assert (doing.schedule.last_us or 0) >= (self.schedule.last_us or 0)
        self.schedule = evolve(doing.schedule, version=self.schedule.version + 1)
        self.fired += doing.fired
        times = [each.nominal_us or 0 for each in doing.runs]
        self.runs += times
        self.active = self.active or bool(times)
        return times


cadences = st.one_of(st.sampled_from(ZONED), st.sampled_from([60.0, 61.5, 90.0, 420.0, 3600.0, 90_000.0]).map(Every))


ZONES: Final = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "UTC")
EXPRESSIONS: Final = ("30 2 * * *", "15 1,2,3 * * *", "0 */5 * * *", "59 23 * * sun", "0 0 1 * *")
rare_cadences = st.one_of(
    st.builds(Cron, st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES)),
    st.sampled_from([90_000.0, 604_800.0]).map(Every),
)


@st.composite
def plans(draw: st.DrawFn, now_us: int, cadences: st.SearchStrategy[Cadence] = cadences) -> Plan:
    cadence = draw(cadences)
    start_us = draw(st.sampled_from([None, None, 0, -HOUR, -7 * SECOND, HOUR, DAY]))
    end_us = draw(st.sampled_from([None, None, 1, HOUR, 2 * DAY]))
    start = None if start_us is None else now_us + start_us
    most_us = cadence.interval_us // 2 if isinstance(cadence, Every) else 3 * HOUR
    return a_plan(
        cadence,
        anchor_us=now_us if start is None else start,
        start_us=start,
        end_us=None if end_us is None else (start or now_us) + end_us,
        jitter_us=draw(st.sampled_from([0, 0, SECOND, most_us])),
        misfire=draw(st.sampled_from(Misfire)),
        misfire_cap=draw(st.sampled_from([1, 2, 100])),
        overlap=draw(st.sampled_from(Overlap)),
        first=draw(st.sampled_from(["next", "next", "now"])),
    )


STEPS = (
    "look",
    "look",
    "look",
    "look",
    "ended",
    "ended",
    "pause",
    "resume",
    "orphan",
    "again",
    "edit",
    "move",
    "set",
    "trigger",
)
WAITS = [0, 1, SECOND, 59 * SECOND, 61 * SECOND, 5 * MINUTE, 47 * MINUTE, HOUR, 14 * HOUR]
SETS = [-DAY, -HOUR, -MINUTE, -1, 1, HOUR, 14 * HOUR]


@define
class Story:
    """What happens to a schedule, and what the reference says to it."""

    data: st.DataObject
    now_us: int
    stage: Stage
    reference: Reference
    cadences: st.SearchStrategy[Cadence] = cadences
    triggered: int = 0

    @property
    def plan(self) -> Plan:
        """As after a restart, each time."""
        return from_body(self.stage.schedule.body)

    def change(self, schedule: Schedule) -> None:
        self.stage.schedule = evolve(schedule, version=self.stage.schedule.version + 1)

    def look(self) -> None:
        plan = self.plan
        requested = self.stage.do(decide.turn(self.stage.schedule, plan, self.now_us, a_run))
        active = self.stage.active and not requested
        expected, waits = self.reference.look(self.now_us, active)
        assert expected == requested
        assert all(plan.due_us(us) <= self.now_us for us in requested)
        assert not waits or active

    def ended(self) -> None:
        self.stage.active = False
        released = self.stage.do(decide.release(self.stage.schedule, self.now_us, a_run))
        stopped = self.reference.paused or self.reference.orphaned
        assert ([] if stopped or self.reference.waiting is None else [self.reference.waiting]) == released
        self.reference.waiting = self.reference.waiting if stopped else None

    def pause(self) -> None:
        self.change(evolve(self.stage.schedule, paused=True))
        self.reference.paused = True

    def resume(self) -> None:
        if self.reference.paused:
            self.change(decide.going_on(self.stage.schedule, self.plan, self.now_us))
            self.reference.paused = False
            self.reference.go_on(self.now_us)

    def orphan(self) -> None:
        self.change(evolve(self.stage.schedule, orphaned=True))
        self.reference.orphaned = True

    def again(self) -> None:
        plan = self.plan
        self.say(evolve(plan, anchor_us=self.now_us if plan.start_us is None else plan.start_us))

    def edit(self) -> None:
        self.say(self.data.draw(plans(self.now_us, self.cadences)))

    def move(self) -> None:
        """The same times, on the clocks of another zone."""
        plan = self.plan
        if isinstance(plan.cadence, Cron):
            zone = self.data.draw(st.sampled_from(ZONES))
            self.say(evolve(plan, cadence=Cron(plan.cadence.expression, zone), first="next"))

    def say(self, said: Plan) -> None:
        before = self.plan
        schedule, holds = decide.said_again(self.stage.schedule, before, said, self.now_us)
        self.change(schedule)
        if not said.comes_as(before):
            self.reference.say(said, self.now_us)
        elif self.reference.orphaned:
            self.reference.go_on(self.now_us)
        self.reference.plan, self.reference.orphaned = holds, False

    def set(self) -> None:
        self.now_us += self.data.draw(st.sampled_from(SETS))

    def trigger(self) -> None:
        before = self.stage.schedule
        self.stage.do(decide.triggered(before, self.now_us, a_run))
        self.stage.runs.pop()
        self.triggered += 1
        after = self.stage.schedule
        assert (before.next_us, before.last_us) == (after.next_us, after.last_us)

    def agree(self) -> None:
        now, reference = self.stage.schedule, self.reference
        assert (reference.coming[0] if reference.coming else None) == now.next_us
        assert (None if now.next_us is None else self.plan.due_us(now.next_us)) == now.due_us
        assert (reference.waiting, reference.paused, reference.orphaned) == (now.waiting_us, now.paused, now.orphaned)
        assert now.next_us is None or now.last_us is None or now.next_us > now.last_us


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), begin_us=st.sampled_from([NOON, FALL]))
def test_a_schedule_does_what_going_through_every_time_says(data: st.DataObject, begin_us: int) -> None:
    """
    Whatever is paused, changed, moved to another zone, orphaned and said again, and wherever the wall clock is set meanwhile.

    Each time is requested once at most and never early, by its policies exactly; counts and history say the same.
    """
    plan = data.draw(plans(begin_us))
    stage, reference = Stage(decide.born(plan, "app/main", begin_us)), Reference(plan)
    story = Story(data, begin_us, stage, reference)

    tell(story, data.draw(st.lists(st.sampled_from(STEPS), max_size=25)), WAITS)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), begin_us=st.sampled_from([NOON, FALL]))
def test_a_schedule_does_so_over_years(data: st.DataObject, begin_us: int) -> None:
    """As above, in zones that change their clocks both ways meanwhile, and with months in which nobody looks."""
    plan = data.draw(plans(begin_us, rare_cadences))
    stage, reference = Stage(decide.born(plan, "app/main", begin_us)), Reference(plan, ahead_us=1_300 * DAY)
    story = Story(data, begin_us, stage, reference, rare_cadences)

    tell(story, data.draw(st.lists(st.sampled_from(STEPS), max_size=10)), LONG_WAITS)


LONG_WAITS = [HOUR, DAY, 6 * DAY, 40 * DAY, 110 * DAY]


def tell(story: Story, steps: list[str], waits: list[int]) -> None:
    stage, reference = story.stage, story.reference
    reference.say(story.plan, story.now_us)
    for step in steps:
        story.now_us += story.data.draw(st.sampled_from(waits))
        getattr(story, step)()
        story.agree()

    now = stage.schedule
    done = [us for us, did in reference.did.items() if did in (Did.REQUESTED, Did.WAITED) and us != reference.waiting]
    assert sorted(done) == sorted(stage.runs)
    assert len(set(stage.runs)) == len(stage.runs)
    assert (len(done) + story.triggered, reference.skipped) == (now.fired, now.skipped)
    noted = [each for each in stage.fired if each.did is not Did.TRIGGERED]
    assert len({each.nominal_us for each in noted}) == len(noted)
    assert now.fired == sum(each.run_id is not None for each in stage.fired)
    assert now.skipped == sum(each.times for each in stage.fired if each.run_id is None)
    assert all(reference.did[each.nominal_us] is each.did for each in noted)
