"""The oracle of time over a made-up story: it is silent over a good one, and names what is wrong with a bad one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from attrs import evolve

from callsheet.store.records import Clock, Did, Fired, History, Lane, Move, Schedule

from .ledger import Line
from .oracle_schedule import KEPT, Minutes
from .oracle_time import Story, Walls, untimely
from .test_oracle import LIVED, history, of_run, plan, told, without_attempt
from .timetable import BASE_US, CRONS, MINUTE_US, SECOND_US, Timing

TICKS: Final = Lane("real/time", "real/ticks", "tick", "1")
UNTIL_S: Final = 205


def us(s: float) -> int:
    """So many seconds after the beginning, on the wall clock of the plan."""
    return BASE_US + int(s * SECOND_US)


def timing(key: str, **facts: Any) -> Timing:
    """Every 10 s, or what its key says."""
    misfire, overlap, *step = key.split("-")
    step_us = int(step[0] if step else 10) * SECOND_US
    grid = {"step_us": step_us, "start_us": BASE_US, "anchor_us": BASE_US}
    return Timing(key, misfire, overlap, ms=1, fails=0, declared=not step, **grid, **facts)


def ran(run_id: str, what: str, start_s: float, end_s: float, *, born: Move = Move.ENQUEUE, **facts: Any) -> History:
    """A run that began and ended then."""
    one = history(run_id, plan(what), born, Move.START, Move.SUCCEED)
    ended = evolve(one.transitions[-1], at_us=us(end_s))
    attempt = evolve(one.attempts[0], started_us=us(start_s), ended_us=us(end_s))
    run = evolve(one.run, ended_us=us(end_s), **facts)
    return evolve(one, run=run, attempts=(attempt,), transitions=(*one.transitions[:-1], ended))


def tick(key: str, nominal_s: float, start_s: float, end_s: float) -> History:
    """A run of a schedule."""
    run_id = f"{key}@{nominal_s:g}"
    return ran(run_id, key, start_s, end_s, lane=TICKS, schedule_key=key, nominal_us=us(nominal_s))


def lines_of(*histories: History) -> list[Line]:
    """What handlers wrote down."""
    found: list[Line] = []
    for each in histories:
        (attempt,) = each.attempts
        me = {"run": each.run.id, "attempt": 1}
        claim = {"claim": attempt.claim_id.hex(), "fence": attempt.fence, "boot": attempt.owner}
        for say, at_us, facts in (("start", attempt.started_us, claim), ("end", attempt.ended_us, {"how": "returned"})):
            assert at_us is not None
            clocks = {"wall": at_us, "steady": at_us}
            found.append({"say": say, "t": (at_us - BASE_US) * 1_000, **me, **facts, **clocks})
    return found


def noted(nominal_s: float, at_s: float, did: Did, run: History | None = None, times: int = 1) -> Fired:
    """A line of a history."""
    return Fired(us(nominal_s), us(at_s), did, None if run is None else run.run.id, times)


def row(key: str, *, last_s: float, fired: int, skipped: int, waiting_s: float | None = None) -> Schedule:
    """As it stands in the end."""
    waiting_us, next_us = None if waiting_s is None else us(waiting_s), us(last_s) + timing(key).step_us
    return Schedule(
        "real/time", key, b"{}", next_us, next_us, waiting_us=waiting_us, last_us=us(last_s), fired=fired, skipped=skipped,
        created_us=us(1),
    )  # fmt: skip


def minutes(*lines: Fired) -> Minutes:
    """As they were read."""
    found = Minutes()
    found.read(lines)
    return found


def good() -> Story:
    """Two delayed runs, and four schedules of which some times are missed, overlapped, waited for or given up."""
    delayed, by_wall = (
        ran("D", "1.1.0", 5, 6, born=Move.SCHEDULE, due_us=us(5), clock=Clock.STEADY),
        ran("W", "1.1.1", 7, 8, born=Move.SCHEDULE),
    )
    plans, clocks = [plan("1.1.0"), plan("1.1.1")], {"wall": us(2), "steady": us(2)}
    caller = [
        {"say": "ask", "id": "1.1", "do": "many", "by": "steady", "t": 1, "plans": plans, "delays": [3, None],
         "ats": [None, us(7)], **clocks},
        {"say": "ack", "id": "1.1", "t": 2, "runs": ["D", "W"], **clocks},
    ]  # fmt: skip
    # "latest", and kept out by the run before; away from 20 to 55, paused from 60 to 95, gone on until 205
    lone = [tick("latest-skip", 10, 10, 25), tick("latest-skip", 50, 55, 56), tick("latest-skip", 100, 100, 101)]
    late = [tick("latest-skip", 200, 202, 203)]
    hand = evolve(tick("latest-skip", 102, 102, 103), run=evolve(tick("latest-skip", 102, 102, 103).run, id="hand"))
    # waits for the run before it, twice
    queued = [tick("all-queue", 10, 10, 25), tick("all-queue", 20, 26, 203)]
    # makes up for nothing that is late
    strict = [tick("skip-allow-90", 180, 201, 202)]
    # makes up for the last 40, side by side
    every = [tick("all-allow", n, 205, 205) for n in range(10, 201, 10)]
    ticks = [*lone, *late, hand, *queued, *strict, *every]
    requested = Did.REQUESTED
    said_so = {"misfire": "skip", "overlap": "allow", "step": 90 * SECOND_US, "jitter": 0}
    steered: list[Line] = [
        {"say": "make", "key": "skip-allow-90", "w0": us(1), "w1": us(2), "last": None, "next": us(90), **said_so},
        {
            "say": "edit",
            "key": "skip-allow-90",
            "w0": us(165),
            "w1": us(165),
            "last": us(90),
            "next": us(180),
            **said_so,
        },
        {"say": "pause", "key": "latest-skip", "w0": us(60), "w1": us(60), "t": 0},
        {"say": "resume", "key": "latest-skip", "w0": us(95), "w1": us(95), "t": 0, "last": us(50), "next": us(100)},
        {"say": "trigger", "key": "latest-skip", "w0": us(102), "w1": us(102), "t0": 102 * 10**9, "run": "hand"},
    ]
    return Story(
        told(caller, lines_of(delayed, by_wall, *ticks), delayed, by_wall, *ticks),
        {key: timing(key) for key in ("latest-skip", "all-queue", "skip-allow-90", "all-allow")},
        steered,
        Walls([(0, BASE_US)]),
        {
            "latest-skip": minutes(
                noted(10, 10, requested, lone[0]), noted(20, 20, Did.OVERLAPPED), noted(40, 55, Did.MISSED, times=2),
                noted(50, 55, requested, lone[1]), noted(100, 100, requested, lone[2]),
                noted(102, 102, Did.TRIGGERED, hand), noted(190, 202, Did.MISSED, times=9), noted(200, 202, requested, late[0]),
            ),
            "all-queue": minutes(
                noted(10, 10, requested, queued[0]), noted(20, 26, Did.WAITED, queued[1]),
                noted(190, 202, Did.MISSED, times=17),
            ),
            "skip-allow-90": minutes(
                noted(90, 161, Did.MISSED), noted(180, 201, requested, strict[0]),
            ),
            "all-allow": minutes(*[noted(n, 204, requested, run) for n, run in zip(range(10, 201, 10), every, strict=True)]),
        },
        {
            "latest-skip": row("latest-skip", last_s=200, fired=5, skipped=12),
            "all-queue": row("all-queue", last_s=200, fired=2, skipped=17, waiting_s=200),
            "skip-allow-90": row("skip-allow-90", last_s=180, fired=1, skipped=1),
            "all-allow": row("all-allow", last_s=200, fired=20, skipped=0),
        },
        {LIVED: (BASE_US, BASE_US)},
        us(UNTIL_S),
    )  # fmt: skip


# ---------------------------------------------------------------- what can be wrong

Spoil = Callable[[Story], Story]


def runs(change: Callable[[dict[str, History]], object]) -> Spoil:
    """Other runs are in the store, and just these ran."""

    def apply(story: Story) -> Story:
        found = dict(story.evidence.runs)
        change(found)
        stage = [line for line in story.evidence.stage if line["run"] in found]
        there = {line["run"] for line in stage}
        stage += lines_of(*[each for each in found.values() if each.run.id not in there and each.attempts])
        return evolve(story, evidence=told(list(story.evidence.caller), stage, *found.values()))

    return apply


def without(run_id: str) -> Spoil:
    """One is not there."""
    return runs(lambda found: found.pop(run_id))


def of(run_id: str, change: Callable[[History], History]) -> Spoil:
    """One is another."""
    return runs(lambda found: found.update({run_id: change(found[run_id])}))


def again(run_id: str, **facts: object) -> Spoil:
    """One more of the kind."""
    return runs(lambda found: found.update({"again": of_run(id="again", **facts)(renamed(found[run_id], "again"))}))


def renamed(one: History, run_id: str) -> History:
    """With its transitions and attempts."""
    return evolve(
        one,
        attempts=tuple(evolve(each, run_id=run_id) for each in one.attempts),
        transitions=tuple(evolve(each, run_id=run_id) for each in one.transitions),
    )


def stands(key: str, **facts: Any) -> Spoil:
    """The schedule stands otherwise."""
    return lambda story: evolve(story, schedules={**story.schedules, key: evolve(story.schedules[key], **facts)})


def notes(key: str, change: Callable[[Fired], Fired | None]) -> Spoil:
    """Other lines are noted."""

    def apply(story: Story) -> Story:
        lines = [changed for line in story.minutes[key].lines if (changed := change(line)) is not None]
        return evolve(story, minutes={**story.minutes, key: minutes(*lines)})

    return apply


def at(nominal_s: float, **facts: Any) -> Callable[[Fired], Fired]:
    """The line of that time is another."""
    return lambda line: evolve(line, **facts) if line.nominal_us == us(nominal_s) else line


def but(nominal_s: float) -> Callable[[Fired], Fired | None]:
    """There is no line of that time."""
    return lambda line: None if line.nominal_us == us(nominal_s) else line


def said(key: str, **facts: Any) -> Spoil:
    """It was said otherwise."""
    return lambda story: evolve(story, timings={**story.timings, key: evolve(story.timings[key], **facts)})


def began(run_id: str, **facts: Any) -> Spoil:
    """Its handler wrote down something else when it began."""

    def apply(story: Story) -> Story:
        stage = [
            {**line, **facts} if (line["run"], line["say"]) == (run_id, "start") else line
            for line in story.evidence.stage
        ]
        return evolve(story, evidence=evolve(story.evidence, stage=stage))

    return apply


def both(*spoils: Spoil) -> Spoil:
    """One after the other."""

    def apply(story: Story) -> Story:
        for spoil in spoils:
            story = spoil(story)
        return story

    return apply


def answered(what: str, **facts: Any) -> Spoil:
    """A change of a schedule was answered otherwise."""
    return lambda story: evolve(
        story, steered=[{**line, **facts} if line["say"] == what else line for line in story.steered]
    )


BAD: Final[dict[str, tuple[str, Spoil]]] = {
    "a time is doubled": ("I29 2 runs are of", again("all-allow@20")),
    "a time is lost, and nobody counted it": (
        "is lost",
        both(without("skip-allow-90@180"), notes("skip-allow-90", but(180)), stands("skip-allow-90", fired=0, skipped=2)),
    ),
    "a time is lost, and said to have its run": ("I30 it says that it requested", without("all-allow@20")),
    "a time was jumped over": ("I30 it says that 11 times", stands("latest-skip", skipped=11)),
    "times are said to be missed that were not": ("is accounted for 2 times", notes("latest-skip", at(190, times=10))),
    "a missed time is not noted": ("is lost", notes("latest-skip", at(40, times=1))),
    "a time that was kept out is not noted": ("is lost", notes("latest-skip", but(20))),
    "one that waits is forgotten": ("is lost", stands("all-queue", waiting_us=None, skipped=18)),
    "a run of no time": ("it has no such time", again("all-allow@20", nominal_us=us(20) + 1)),
    "a run that the store has for another time": ("it is noted that run", of("all-allow@20", of_run(nominal_us=us(30)))),
    "nothing is noted of a run": ("nothing is noted of run", notes("all-allow", but(20))),
    "an early delay": ("before its time on the steady clock", began("D", steady=us(5) - 1)),
    "an early run_at": ("before its time on the wall clock", began("W", wall=us(7) - 1)),
    "a time that was taken for past": (
        "run W was queued",
        runs(lambda found: found.update({"W": ran("W", "1.1.1", 7, 8)})),
    ),
    "a delay by the wrong clock": ("I27 call 1.1: run D is due", of("D", of_run(clock=Clock.WALL))),
    "a shortened delay": ("I27 call 1.1: run D is due", of("D", of_run(due_us=us(4)))),
    "an early tick": ("I27 run skip-allow-90@180 began before", began("skip-allow-90@180", t=179_999_999_999)),
    "an early request": ("was requested at", notes("latest-skip", at(10, at_us=us(10) - 1))),
    "a delayed run is lost": ("I1 call 1.1", without("D")),
    "one half of a call is lost": ("I18 call 1.1", without("W")),
    "a delayed run that nobody asked for": ("I2 there is a run", runs(lambda found: found.update({"X": ran("X", "x", 1, 2)}))),
    "a triggered run is lost": ("I1 run hand was triggered", without("hand")),
    "a schedule that nobody said": ("I2 it is there and was not said", lambda story: evolve(story, timings={})),
    "a schedule that is gone": ("I2 it is there and was not said", lambda story: evolve(story, schedules={})),
    "an attempt is left out": ("I12 its attempts are", of("latest-skip@10", without_attempt(1))),
    "made up for what is to be skipped": ("was late, and to be skipped", notes("skip-allow-90", at(180, at_us=us(241)))),
    "in time, and missed": (
        "came in time, and was missed",
        notes("skip-allow-90", at(90, at_us=us(150))),
    ),
    "more than the latest": ("latest makes up for 1, and 20 were", said("all-allow", misfire="latest")),
    "not even the latest": (
        "latest makes up for one at least",
        both(answered("make", misfire="latest"), answered("edit", misfire="latest")),
    ),
    "not all of them": (
        "all makes up for 20, and 19 were",
        both(without("all-allow@10"), notes("all-allow", at(10, did=Did.MISSED, run_id=None))),
    ),
    "one that had come is left": (
        "had come, and was left",
        both(without("all-allow@200"), notes("all-allow", but(200)), stands("all-allow", last_us=us(190))),
    ),
    "no next time": ("its next time is None", stands("all-allow", next_us=None)),
    "a next time that leaves one out": ("its next time is", stands("all-allow", next_us=us(220))),
    "not looked after until the end": ("was not looked after", lambda story: evolve(story, until_us=us(210))),
    "side by side": (
        "while run all-allow@10 was on stage",
        both(said("all-allow", overlap="skip"), began("all-allow@20", t=1)),
    ),
    "kept out by nobody": ("was dropped for a run, and none went on", notes("latest-skip", at(20, at_us=us(26)))),
    "given up before it came": ("was given up when a pause ended", answered("resume", w1=us(89))),
    "made, and begins late": ("is not its first time after", answered("make", w0=us(1), w1=us(2), next=us(180))),
    "made, and has no times": ("I30 after make it has no next time", answered("make", next=None)),
    "changed to no time of it": ("its next time after edit, is none of its grid", answered("edit", next=us(181))),
    "gone on at no time of it": ("is none of its grid", answered("resume", next=us(101))),
}  # fmt: skip


def test_a_story_in_which_everything_came_in_time_is_not_reported() -> None:
    """Missed, overlapped, waiting, triggered times and those of a pause are no violations, nor is a clock that is set."""
    assert [] == untimely(good())
    assert [] == untimely(evolve(good(), walls=Walls([(0, BASE_US), (204 * SECOND_US, BASE_US + 5), (10**9, BASE_US)])))


def test_times_before_a_change_are_none_of_what_holds_after_it() -> None:
    """A pause that ends before the first time of what was said last gives up none of the grid before that."""
    often = [{**line, "step": 60 * SECOND_US} if line["say"] == "edit" else line for line in good().steered]
    pause = {"say": "resume", "key": "skip-allow-90", "w0": us(95), "w1": us(95), "last": us(90), "next": us(180)}
    stood = stands("skip-allow-90", next_us=us(240))(good())

    assert [] == untimely(evolve(stood, steered=[*often, pause]))
    assert [] != untimely(evolve(stood, steered=[*often, {**pause, "next": us(240)}]))


@pytest.mark.parametrize("what", BAD)
def test_what_must_not_be_is_reported(what: str) -> None:
    """Each break of a promise about time is reported, in the sentence that is meant for it."""
    sentence, spoil = BAD[what]

    found = untimely(spoil(good()))

    assert [problem for problem in found if sentence in problem], found


def test_a_wall_clock_that_was_set_back_shows_a_time_twice() -> None:
    """And its latest time is not its present one."""
    walls = Walls([(0, 1_000), (50, 1_100), (100, 900)])

    assert [1_049, 1_150, 1_010] == [walls.at(49), walls.at(50), walls.at(110)]
    assert [1_049, 1_200, 1_200] == [walls.peak(49), walls.peak(100), walls.peak(110)]
    assert [[20, 120], [60, 260], [], [100, 300]] == [walls.moments(each) for each in (1_020, 1_160, 999, 1_200)]


def test_what_was_noted_and_forgotten_between_two_readings_is_known() -> None:
    """A history keeps so many lines; a reading that has none of the reading before may lack some."""
    of_all = [Fired(n, n, Did.OVERLAPPED) for n in range(3 * KEPT)]
    in_time, too_late = Minutes(), Minutes()
    for end in (KEPT // 2, KEPT, 2 * KEPT - 1):
        in_time.read(of_all[max(0, end - KEPT) : end])
    for end in (KEPT // 2, 2 * KEPT):
        too_late.read(of_all[max(0, end - KEPT) : end])

    assert (True, False) == (in_time.complete, too_late.complete)


def test_times_are_those_of_a_calendar() -> None:
    """The grid of the oracle: every so many seconds from its point, or the minutes that an expression names."""
    every = timing("all-allow")
    cron = evolve(every, step_us=0, start_us=None, cron="7,23,48 * * * *")

    assert [us(10), us(20)] == list(every.times(us(1), us(29)))
    assert us(10) == every.first_after(us(9))
    assert us(0) == every.first_after(us(-1_000))
    assert [us(60 * m) for m in (7, 23, 48, 67)] == list(cron.times(us(0), us(68 * 60)))
    assert BASE_US % (24 * 60 * MINUTE_US) == 8 * 60 * MINUTE_US
    assert {60, 720} == {len(CRONS["* * * * *"]) // 24, len(CRONS["*/2 * * * *"])}
