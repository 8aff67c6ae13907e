"""
What must hold of time, whatever happened: every delayed run once and never early, every time of every schedule accounted for.

Rule 1: as `oracle`: pure, sentences, each with its number. Rule 2: it walks over the grid of each schedule time by time, and
    shares nothing with the code that decides.
Not here: what a schedule's times became (`oracle_schedule`), the store against itself (`oracle_store`).

    I1 acknowledged is kept   I2 nothing was invented   I27 never early, each by its own clock   I29 a time, a run at most
    I30 each time has its run, or is what its policy drops: nothing lost, counted as told      I33 everything ends
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from attrs import evolve, field, frozen

from callsheet.store.records import Clock, Move, Run, Schedule

from .evidence import Evidence
from .ledger import Line
from .oracle_calls import Told, batched, invented
from .oracle_schedule import Minutes, Tale, told_of
from .oracle_stage import staged
from .oracle_store import counters, of_end, of_history, plan_of
from .timetable import SECOND_US, Timing
from .wall import us_of


@frozen
class Walls:
    """What the wall clock showed at each moment of the ledgers' clock, microseconds both."""

    steps: Sequence[tuple[int, int]]
    """(from when, by how much it was ahead), the oldest first."""

    def at(self, t_us: int) -> int:
        """What it showed then."""
        return t_us + next((ahead for since, ahead in reversed(self.steps) if since <= t_us), self.steps[0][1])

    def peak(self, t_us: int) -> int:
        """The latest that it had shown by then."""
        ends = [*(since for since, _ in self.steps[1:]), t_us]
        shown = [min(end, t_us) + ahead for (since, ahead), end in zip(self.steps, ends, strict=True) if since <= t_us]
        return max(shown)

    def moments(self, wall_us: int) -> list[int]:
        """When it showed that: several times, where it was set back."""
        ends = [*(since for since, _ in self.steps[1:]), 1 << 62]
        return [
            wall_us - ahead
            for (since, ahead), end in zip(self.steps, ends, strict=True)
            if since <= wall_us - ahead <= end
        ]


@frozen
class Story:
    """All that is known of it."""

    evidence: Evidence
    timings: Mapping[str, Timing]
    """As they were said first, by key."""
    steered: Sequence[Line]
    """What the parent did to schedules, and what it was answered."""
    walls: Walls
    minutes: Mapping[str, Minutes]
    """What was noted of the times of each schedule, as far as it was read in time."""
    schedules: Mapping[str, Schedule]
    """As they stand in the end."""
    lives: Mapping[str, tuple[int, int]] = field(factory=dict)
    """By boot id: between which bounds its steady clock is ahead of that of the ledgers."""
    until_us: int = 0
    """The wall time by which every time must have been looked after."""


def untimely(story: Story) -> list[str]:
    """Everything that must not be."""
    evidence = story.evidence
    unscheduled = {id_: each for id_, each in evidence.runs.items() if each.run.schedule_key is None}
    called = evolve(evidence, runs=unscheduled)
    told = Told.of(evidence.caller)
    found = [] if evidence.integrity == "ok" else [f"I9 the database is damaged: {evidence.integrity}"]
    found += counters(evidence)
    for history in evidence.runs.values():
        found += (f"{problem} (run {history.run.id})" for problem in of_history(history))
        found += (f"{problem} (run {history.run.id})" for problem in of_end(history, evidence))
    found += batched(called, told)
    found += invented(called, told)
    found += staged(evidence)
    found += early(called, told)
    for tale in tales(story):
        found += (f"{problem} (schedule {tale.key})" for problem in told_of(tale))
    return found


def early(called: Evidence, told: Told) -> Iterator[str]:
    """I27: no delayed run is due, or began, before the time that it was asked for, by the clock that this time is of."""
    there = {plan_of(each.run)["n"]: each for each in called.runs.values()}
    began = {line["run"]: line for line in called.stage if line["say"] == "start" and line["attempt"] == 1}
    for call in told.manys:
        ask, ack = call.ask, call.ack
        for plan, delay, at_us in zip(ask["plans"], ask["delays"], ask["ats"], strict=True):
            history = there.get(plan["n"])
            if history is None:
                continue  # one that was acknowledged and is gone is reported by I1
            run, clock = history.run, "wall" if at_us is not None else ask["by"]
            due_us = ask[clock] + int(delay * SECOND_US) if at_us is None else at_us
            start = began.get(run.id)
            if (
                history.transitions and history.transitions[0].move is Move.ENQUEUE
            ):  # its time had come when it was made
                if ack is not None and ack[clock] < due_us:
                    yield f"I27 {call}: run {run.id} was queued {due_us - ack[clock]} us before its time"
            elif start is not None and start[clock] < due_us:
                yield f"I27 {call}: run {run.id} began {due_us - start[clock]} us before its time on the {clock} clock"
            if run.attempt == 1 and ack is not None and at_us is None:
                latest_us = ack[clock] + int(delay * SECOND_US)
                if not due_us <= run.due_us <= latest_us or run.clock is not Clock[clock.upper()]:
                    yield f"I27 {call}: run {run.id} is due at {run.due_us} {run.clock}, not {due_us} … {latest_us} {clock}"


def tales(story: Story) -> Iterator[Tale]:
    """What is known of each schedule."""
    starts: dict[str, list[Line]] = defaultdict(list)
    ends: dict[str, Line] = {}
    for line in story.evidence.stage:
        if line["say"] == "start":
            starts[line["run"]].append(line)
        elif line["say"] == "end":
            ends[line["run"]] = line
    runs: dict[str, list[Run]] = defaultdict(list)
    for history in story.evidence.runs.values():
        if history.run.schedule_key is not None:
            runs[history.run.schedule_key].append(history.run)
    steered: dict[str, list[Line]] = defaultdict(list)
    for line in story.steered:
        if "key" in line:
            steered[line["key"]].append(line)
    for key in story.timings.keys() | runs.keys() | story.schedules.keys():
        yield Tale(
            key=key,
            timing=story.timings.get(key),
            schedule=story.schedules.get(key),
            runs=runs[key],
            steered=steered[key],
            minutes=story.minutes.get(key, Minutes()),
            walls=story.walls,
            began={run.id: us_of(starts[run.id][0]["t"]) for run in runs[key] if starts[run.id]},
            said_last={run.id: us_of(ends[run.id]["t"]) for run in runs[key] if run.id in ends},
            ended={run.id: _ended_us(run.id, story) for run in runs[key]},
            until_us=story.until_us,
        )


def _ended_us(run_id: str, story: Story) -> int | None:
    """The last moment at which it may have ended, on the clock of the ledgers; None where that cannot be told."""
    history = story.evidence.runs[run_id]
    if not history.attempts or history.run.ended_us is None or history.transitions[-1].move is Move.POISON:
        return None
    life = story.lives.get(history.attempts[-1].owner)
    return None if life is None else history.run.ended_us - life[0]


def reached_in_time(story: Story) -> Counter[str]:
    """How often what the proof is about did happen."""
    told = Told.of(story.evidence.caller)
    count = Counter(
        {
            "delayed runs": sum(len(call.ack["runs"]) for call in told.manys if call.ack),
            "calls unanswered": sum(call.ack is None for call in told.manys),
            "fired": sum(each.fired for each in story.schedules.values()),
            "skipped": sum(each.skipped for each in story.schedules.values()),
            "histories read in time": sum(each.complete for each in story.minutes.values()),
            "clock set back": sum(
                later[1] < one[1] for one, later in zip(story.walls.steps, story.walls.steps[1:], strict=False)
            ),
            "starts while the clocks differed": _apart(story),
        }
    )
    for minutes in story.minutes.values():
        for line in minutes.lines:
            count[str(line.did)] += line.times
    for line in story.steered:
        count[line["say"]] += 1
    for history in story.evidence.runs.values():
        for attempt in history.attempts:
            count[f"attempt {attempt.outcome}"] += 1
        count["poisoned"] += history.transitions[-1].move is Move.POISON
    return count


def _apart(story: Story) -> int:
    """Handlers that began while the two clocks of their life showed different times."""
    return sum(
        line["say"] == "start" and abs(line["wall"] - line["steady"]) > SECOND_US for line in story.evidence.stage
    )
