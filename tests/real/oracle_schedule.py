"""
What became of the times of one schedule.

Rule: as `oracle_time`. Each time that came is found by walking over the grid, and is looked for among the runs, in what was
noted, and in what is left to wait.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, Protocol

from attrs import define, evolve, field, frozen

from callsheet.store.records import Did, Fired, Run, Schedule

from .ledger import Line
from .timetable import CAP, MINUTE_US, Timing
from .wall import us_of

IN_TIME_US: Final = MINUTE_US
"""A time that was looked after within a minute came in time."""
KEPT: Final = 100
"""Lines of its history that a schedule keeps."""


class Wall(Protocol):
    """What the wall clock showed; see `Walls`."""

    def at(self, t_us: int) -> int:
        """Then."""

    def peak(self, t_us: int) -> int:
        """The latest by then."""

    def moments(self, wall_us: int) -> list[int]:
        """When it showed that."""


@define(eq=False)
class Minutes:
    """What was noted of the times of one schedule, read again and again: only so many lines are kept of it."""

    _lines: dict[tuple[int, Did, str | None], Fired] = field(factory=dict)
    complete: bool = True
    """Whether nothing was noted and forgotten between two readings."""

    @property
    def lines(self) -> Iterable[Fired]:
        """All that were read."""
        return self._lines.values()

    def read(self, lines: Sequence[Fired]) -> None:
        """What is kept now."""
        known = [each for each in lines if self._place(each) in self._lines]
        steady = [each for each in known if each.did not in (Did.TRIGGERED, Did.WAITED)]
        if len(lines) >= KEPT and not steady:
            self.complete = False
        self._lines |= {self._place(each): each for each in lines}

    def _place(self, line: Fired) -> tuple[int, Did, str | None]:
        return line.nominal_us, line.did, line.run_id


@frozen
class Tale:
    """All that is known of one schedule. Moments (`began`, `said_last`, `ended`) are on the clock of the ledgers."""

    key: str
    timing: Timing | None
    schedule: Schedule | None
    runs: Sequence[Run]
    steered: Sequence[Line]
    minutes: Minutes
    walls: Wall
    began: Mapping[str, int]
    """When a handler of the run wrote its first line, by run id."""
    said_last: Mapping[str, int]
    """When one wrote its last."""
    ended: Mapping[str, int | None]
    """When it ended, at the latest; None where that cannot be told."""
    until_us: int


@frozen
class Era:
    """While it was said in one way: its times from the one to the other, both included, were looked after."""

    timing: Timing
    from_us: int
    to_us: int

    @property
    def times(self) -> list[int]:
        """Each of them."""
        return list(self.timing.times(self.from_us, self.to_us))


def told_of(tale: Tale) -> Iterator[str]:
    """Everything that must not be."""
    if tale.timing is None or tale.schedule is None:
        yield f"I2 it is there and was not said, or was said and is not there: {len(tale.runs)} runs"
        return
    by_hand = {line["run"] for line in tale.steered if line["say"] == "trigger"}
    regular = [run for run in tale.runs if run.id not in by_hand]
    yield from _by_hand(tale, by_hand)
    yield from (f"I29 {n} runs are of {us}" for us, n in Counter(run.nominal_us for run in regular).items() if n > 1)
    for run in regular:
        if run.id in tale.began and run.nominal_us is not None and tale.walls.peak(tale.began[run.id]) < run.nominal_us:
            yield f"I27 run {run.id} began before its time, {run.nominal_us}"
    if tale.schedule.last_us is None:
        if regular or tale.schedule.skipped:
            yield "I30 none of its times has come, and it has runs"
        return
    problems: list[str] = []
    eras = list(_eras(tale, tale.timing, tale.schedule, problems))
    yield from problems
    yield from _all_there(tale, tale.schedule, regular, eras)
    yield from _as_told(tale, tale.schedule, regular, eras)
    yield from _alone(tale, regular, eras)


# ---------------------------------------------------------------- which times there were


def _eras(tale: Tale, timing: Timing, schedule: Schedule, problems: list[str]) -> Iterator[Era]:
    """From one change of what is said to the next. What came in between, and nobody had looked after, was given up."""
    assert schedule.last_us is not None
    from_us: int | None = None
    if timing.declared:
        timing, from_us = _declared(tale, timing, schedule)
    for line in tale.steered:
        if line["say"] not in ("make", "edit", "resume"):
            continue
        next_us, last_us = line["next"], line["last"]
        if next_us is None:
            problems.append(f"I30 after {line['say']} it has no next time")
            continue
        if from_us is not None:
            if last_us is not None:
                yield Era(timing, from_us, last_us)
            if line["say"] == "resume":
                problems += _given_up(timing, max(from_us, (last_us or 0) + 1), line)
        if line["say"] != "resume":
            timing = _said(timing, line, next_us)
        problems += _is_next(timing, line)
        from_us = next_us
    if from_us is None:
        problems.append("I30 nobody said when it begins")
        return
    yield Era(timing, from_us, schedule.last_us)
    if schedule.next_us != timing.first_after(max(schedule.last_us, from_us - 1)):
        problems.append(f"I30 after {schedule.last_us} its next time is {schedule.next_us}")
    if schedule.next_us is not None and schedule.next_us + timing.jitter_us <= tale.until_us:
        problems.append(f"I30 {schedule.next_us} has come, and was not looked after")


def _given_up(timing: Timing, from_us: int, line: Line) -> Iterator[str]:
    """When a pause ends, what came meanwhile is; nothing else."""
    for us in timing.times(from_us, line["next"] - 1):
        if us > line["w1"]:
            yield f"I30 {us} was given up when a pause ended, and had not come"


def _is_next(timing: Timing, line: Line) -> Iterator[str]:
    """Whether a change was answered with a next time that is one; of a new schedule, with the first to come."""
    next_us = line["next"]
    if next_us != timing.first_after(next_us - 1):
        yield f"I30 {next_us}, its next time after {line['say']}, is none of its grid"
    if line["say"] == "make" and not line["w0"] < next_us <= timing.first_after(line["w1"]):
        yield f"I30 {next_us} is not its first time after {line['w0']} … {line['w1']}"


def _declared(tale: Tale, timing: Timing, schedule: Schedule) -> tuple[Timing, int]:
    """As the code says it: its grid, and its first time, the next one after it was stored."""
    if timing.step_us and timing.anchor_us is None:
        timing = evolve(timing, anchor_us=_anchor_us(schedule))
    said_us = schedule.created_us
    first_us = timing.first_after(said_us)
    # it is said by one reading of the clock and stored by a later one: a time in between is its first
    before = [us for us in timing.times(said_us - MINUTE_US, said_us) if _was_done(us, tale, timing)]
    return timing, min([first_us, *before])


def _was_done(us: int, tale: Tale, timing: Timing) -> bool:
    """Whether it has its run, or was noted as the first of some."""
    if any(run.nominal_us == us for run in tale.runs):
        return True
    noted = [line for line in tale.minutes.lines if line.did in (Did.OVERLAPPED, Did.MISSED)]
    return any(len(list(timing.times(us, line.nominal_us))) == line.times for line in noted)


def _anchor_us(schedule: Schedule) -> int:
    """The point of its grid where nobody named one: when it was stored first."""
    return int(json.loads(schedule.body)["anchor_us"])


def _said(timing: Timing, line: Line, next_us: int) -> Timing:
    """What it is after it was said anew; where its times are other ones, its grid begins with the first of them."""
    said = evolve(
        timing, misfire=line["misfire"], overlap=line["overlap"], step_us=line["step"], jitter_us=line["jitter"]
    )
    if not said.step_us or timing.start_us is not None:
        return said
    same = line["say"] == "edit" and (said.step_us, said.jitter_us) == (timing.step_us, timing.jitter_us)
    return said if same else evolve(said, anchor_us=next_us)


# ---------------------------------------------------------------- nothing lost, nothing twice


def _all_there(tale: Tale, schedule: Schedule, regular: Sequence[Run], eras: Sequence[Era]) -> Iterator[str]:
    """I30: each time is one that has its run, one that waits, or one that is noted as dropped; and the sums are those."""
    times = [us for era in eras for us in era.times]
    became: Counter[int] = Counter(run.nominal_us for run in regular if run.nominal_us is not None)
    yield from (f"I30 there is a run of {us}, and it has no such time" for us in became.keys() - set(times))
    if schedule.waiting_us is not None:
        became[schedule.waiting_us] += 1
    kept = sum(became.values())
    triggered = len(tale.runs) - len(regular)
    if schedule.fired != len(tale.runs):
        yield f"I30 it says that it requested {schedule.fired} runs, and {len(regular)} + {triggered} by hand are there"
    if schedule.skipped != len(times) - kept:
        yield f"I30 it says that {schedule.skipped} times came to nothing, of {len(times)} times {kept} did not"
    if not tale.minutes.complete:
        return
    for line in tale.minutes.lines:
        if line.did is Did.OVERLAPPED:
            became[line.nominal_us] += 1
        elif line.did is Did.MISSED:
            last = bisect_right(times, line.nominal_us)
            became.update(times[max(0, last - line.times) : last])
    for us in times:
        if became[us] != 1:
            yield f"I30 {us} is {'lost' if not became[us] else f'accounted for {became[us]} times'}"


def _by_hand(tale: Tale, by_hand: set[str]) -> Iterator[str]:
    there = {run.id for run in tale.runs}
    yield from (f"I1 run {run} was triggered, and is not in the store" for run in by_hand - there)


# ---------------------------------------------------------------- as its policies say


def _as_told(tale: Tale, schedule: Schedule, regular: Sequence[Run], eras: Sequence[Era]) -> Iterator[str]:
    """I30: what was done at each look is what the policy of misfire says, and the lines are true."""
    by_id = {run.id: run for run in tale.runs}
    looks: dict[int, list[Fired]] = defaultdict(list)
    for line in tale.minutes.lines:
        if line.run_id is not None:
            run = by_id.get(line.run_id)
            if run is None or (run.nominal_us, run.schedule_key) != (line.nominal_us, tale.key):
                yield f"I30 it is noted that run {line.run_id} is of {line.nominal_us}, and it is not"
        if line.at_us < line.nominal_us:
            yield f"I27 {line.nominal_us} was {line.did} at {line.at_us}"
        if line.did in (Did.REQUESTED, Did.OVERLAPPED, Did.MISSED):
            looks[line.at_us].append(line)
    noted = {line.run_id for line in tale.minutes.lines}
    for run in regular:
        if tale.minutes.complete and run.id not in noted and "queue" not in {era.timing.overlap for era in eras}:
            yield f"I30 nothing is noted of run {run.id} of {run.nominal_us}"
    waited = {line.nominal_us for line in tale.minutes.lines if line.did is Did.WAITED}
    waited |= {run.nominal_us for run in regular if run.nominal_us is not None and run.id not in noted}
    if schedule.waiting_us is not None:
        waited.add(schedule.waiting_us)
    for at_us, lines in looks.items():
        last_us = max(line.nominal_us for line in lines)
        era = next((each for each in eras if each.from_us <= last_us <= each.to_us), None)
        if era is not None:
            yield from (f"I30 at {at_us}: {problem}" for problem in _look(at_us, lines, era, waited))


def _look(at_us: int, lines: Sequence[Fired], era: Era, waited: set[int]) -> Iterator[str]:
    """What was done at one look."""
    policy = era.timing
    done = sorted(line.nominal_us for line in lines if line.did is not Did.MISSED)
    missed = [line for line in lines if line.did is Did.MISSED]
    last_us = max(line.nominal_us for line in lines)
    following_us = policy.first_after(last_us)
    # one that waits is not noted before it goes
    if not done and policy.overlap == "queue" and following_us in waited and following_us <= at_us:
        done, last_us, following_us = [following_us], following_us, policy.first_after(following_us)
    if following_us + policy.jitter_us <= at_us:
        yield f"{following_us} had come, and was left"
    late_us = at_us - last_us
    if not done:
        if policy.misfire != "skip":
            yield f"{policy.misfire} makes up for one at least, and none of {missed[0].times} was"
        elif late_us <= IN_TIME_US:
            yield f"{last_us} came in time, and was missed"
        return
    if policy.misfire == "skip" and late_us > IN_TIME_US + policy.jitter_us:
        yield f"{last_us} was late, and to be skipped"
    all_of_them = policy.misfire == "all" and policy.overlap == "allow"
    wanted = min(CAP, len(done) + sum(line.times for line in missed)) if all_of_them else 1
    if len(done) != wanted:
        yield f"{policy.misfire} makes up for {wanted}, and {len(done)} were"


def _alone(tale: Tale, regular: Sequence[Run], eras: Sequence[Era]) -> Iterator[str]:
    """I30: unless it is allowed, no run begins before the one before it has ended; none is kept out by one that had ended."""
    starts = [era.from_us for era in eras]

    def overlap(us: int) -> str:
        return eras[max(0, bisect_left(starts, us + 1) - 1)].timing.overlap

    inorder = sorted((run.nominal_us, run.id) for run in regular if run.nominal_us is not None)
    for (_, before), (us, after) in pairwise(inorder):
        if overlap(us) == "allow" or after not in tale.began or before not in tale.said_last:
            continue
        if tale.began[after] < tale.said_last[before]:
            yield f"run {after} of {us} began while run {before} was on stage"
    hands_us = {line["run"]: us_of(line["t0"]) for line in tale.steered if line["say"] == "trigger"}
    for line in tale.minutes.lines:
        if line.did is not Did.OVERLAPPED:
            continue
        moment_us = min(tale.walls.moments(line.at_us), default=0)
        others = [run.id for run in regular if run.nominal_us is not None and run.nominal_us < line.nominal_us]
        others += [run_id for run_id, asked_us in hands_us.items() if asked_us <= moment_us]
        ended = [tale.ended.get(run_id) for run_id in others]
        if all(each is not None and each < moment_us for each in ended):
            yield f"I30 {line.nominal_us} was dropped for a run, and none went on at {line.at_us}"
