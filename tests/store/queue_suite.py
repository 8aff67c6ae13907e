"""
What every store promises of queues that are steered at run time: pauses, limits, and claims that heed them.

Mixed into a subclass of `StoreContract`, whose fixtures it takes.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from attrs import evolve

from callsheet.store.contract import Claim, ClaimedRuns, Insert, SetQueue
from callsheet.store.records import NO_LIMIT, Claimed, Lane, Now, Owner, QueueOverride, Status

from .contract_suite import (
    ALL,
    HAND_BACK,
    HOOK,
    LEASE,
    MAIL,
    OTHER,
    SECOND,
    SLOW,
    START,
    SUCCEED,
    Desk,
    Place,
    run_id,
)

MAIN = MAIL.queue
LANES = (MAIL, HOOK)
"""Both of that queue."""


def said(desk: Desk, queue: str = MAIN, **fields: Any) -> QueueOverride:
    """Say something of a queue."""
    (answer,) = desk.do(SetQueue(queue, **fields))
    assert isinstance(answer, QueueOverride)
    return answer


def claimed(desk: Desk, limit: int = 10, *, owner: str = "boot-a", **fields: Any) -> ClaimedRuns:
    """Claim from a queue."""
    fields = {"queue": MAIN, **fields}
    (answer,) = desk.do(desk.claim_command(limit, fields.pop("lanes", LANES), owner, **fields))
    assert isinstance(answer, ClaimedRuns)
    return answer


def numbers(answer: ClaimedRuns) -> list[int]:
    return [int(run.run_id) for run in answer.runs]


def fill(desk: Desk, *ns: int, lane: Lane = MAIL) -> None:
    desk.insert(*(desk.new(n, lane) for n in ns))


def overrides(desk: Desk) -> tuple[QueueOverride, ...]:
    reader = desk.store.reader()
    try:
        assert reader.snapshot(limit=0).queues == reader.queues()
        return reader.queues()
    finally:
        reader.close()


class QueueContract:
    """The promises. A subclass also names a place whose stores may be open at the same time."""

    @pytest.fixture
    def shared_place(self) -> Place:
        raise NotImplementedError

    # ------------------------------------------------------------ what is said

    def test_nothing_was_said(self, desk: Desk) -> None:
        """A queue works as the code says until somebody says otherwise."""
        fill(desk, 1)

        answer = claimed(desk)

        assert (numbers(answer), answer.override, answer.held) == ([1], None, None)
        assert overrides(desk) == ()

    def test_what_is_said_is_kept(self, desk: Desk) -> None:
        """Each field is stored and read back; what a later word leaves out stays as it is."""
        one = said(desk, concurrency=5, batch_size=3, visibility_us=9 * SECOND)
        desk.later(1)
        two = said(desk, paused=True, global_limit=7, batch_size=4)
        other = said(desk, SLOW.queue, global_limit=NO_LIMIT)

        assert one == QueueOverride(MAIN, False, 5, 3, None, 9 * SECOND, START)
        assert two == QueueOverride(MAIN, True, 5, 4, 7, 9 * SECOND, START + SECOND)
        assert other == QueueOverride(SLOW.queue, False, None, None, NO_LIMIT, None, START + SECOND)
        assert overrides(desk) == (two, other)

    def test_saying_nothing_is_told_what_holds(self, desk: Desk) -> None:
        """Resuming a queue that was never paused is fine."""
        new = said(desk, paused=False)
        before = said(desk, concurrency=2)
        desk.later(1)

        assert new == QueueOverride(MAIN, updated_us=START)
        assert said(desk) == evolve(before, updated_us=START + SECOND)

    def test_a_reset_forgets_limits_but_not_a_pause(self, desk: Desk) -> None:
        """And what is said along with it holds."""
        said(desk, paused=True, concurrency=1, batch_size=2, global_limit=3, visibility_us=4)

        one = said(desk, reset=True)
        said(desk, concurrency=1, global_limit=3)
        two = said(desk, reset=True, paused=False, batch_size=6)

        assert one == QueueOverride(MAIN, paused=True, updated_us=START)
        assert two == QueueOverride(MAIN, batch_size=6, updated_us=START)

    def test_overrides_stand_by_queue(self, desk: Desk) -> None:
        """In one order, whoever was spoken of first."""
        for queue in ("b/x", "a/z", "a/é", "a/b"):
            said(desk, queue, paused=True)

        assert [each.queue for each in overrides(desk)] == ["a/b", "a/z", "a/é", "b/x"]

    def test_what_was_said_is_there_after_reopening(self, desk: Desk, place: Place) -> None:
        """A pause outlives every process, and holds for the next one at once."""
        override = said(desk, paused=True, concurrency=4)
        fill(desk, 1)
        desk.store.close()

        desk.store = place()
        desk.store.open(Owner("boot-z", 8, "host", START))

        assert overrides(desk) == (override,)
        assert claimed(desk) == ClaimedRuns((), override, "paused")

    def test_a_word_in_a_batch_that_fails_was_not_said(self, desk: Desk) -> None:
        """Neither is it stored, nor does the next claim heed it."""
        said(desk, SLOW.queue, global_limit=1)
        before = overrides(desk)
        fill(desk, 1)
        malformed = Insert((desk.new(2, status=Status.RUNNING),))

        with pytest.raises(ValueError, match="a new run is queued or scheduled"):
            desk.do(SetQueue(MAIN, paused=True), SetQueue(SLOW.queue, global_limit=2), malformed)

        assert overrides(desk) == before
        assert claimed(desk).override is None
        assert claimed(desk, queue=SLOW.queue).override == before[0]

    # ------------------------------------------------------------ pauses

    def test_a_paused_queue_gives_nothing(self, desk: Desk) -> None:
        """What waits goes on waiting, what runs goes on running; resumed, it gives again."""
        fill(desk, 1, 2)
        (running,) = claimed(desk, 1).runs
        paused = said(desk, paused=True)

        held = claimed(desk)
        settled = desk.settle(running)
        resumed = said(desk, paused=False)
        given = claimed(desk)

        assert held == ClaimedRuns((), paused, "paused")
        assert settled is Status.SUCCEEDED
        assert (numbers(given), given.override, given.held) == ([2], resumed, None)

    def test_a_pause_holds_for_its_own_queue(self, desk: Desk) -> None:
        """Others, and claims that name no queue, do not notice."""
        said(desk, paused=True)
        fill(desk, 1, lane=SLOW)
        fill(desk, 2)

        other = claimed(desk, lanes=(SLOW,), queue=SLOW.queue)
        unnamed = claimed(desk, queue=None, global_limit=1)

        assert (numbers(other), other.override, other.held) == ([1], None, None)
        assert (numbers(unnamed), unnamed.override, unnamed.held) == ([2], None, None)

    def test_a_pause_holds_from_its_place_in_the_batch_on(self, desk: Desk) -> None:
        """A claim before it gives, one behind it does not; so does a resume."""
        fill(desk, 1, 2, 3)
        claim = Claim("boot-a", b"c", LANES, 1, LEASE, queue=MAIN)

        answers = desk.do(claim, SetQueue(MAIN, paused=True), claim, SetQueue(MAIN, paused=False), claim)

        given = [numbers(each) for each in answers if isinstance(each, ClaimedRuns)]
        assert given == [[1], [], [2]]

    # ------------------------------------------------------------ the global limit

    def test_a_global_limit_counts_running_rows_of_the_queue(self, desk: Desk) -> None:
        """Of all its lanes and all owners; not those of other queues, nor those that wait or have ended."""
        fill(desk, 1, 2, 3, 4)
        fill(desk, 5, 6, lane=HOOK)
        fill(desk, 7, 8, lane=SLOW)
        fill(desk, 9, lane=OTHER)
        desk.claim(3, lanes=(SLOW, OTHER))

        first = claimed(desk, 2, global_limit=3, lanes=(MAIL,))
        second = claimed(desk, 2, global_limit=3, owner="boot-b", lanes=(HOOK,))
        third = claimed(desk, 2, global_limit=3)
        desk.settle(first.runs[0])
        fourth = claimed(desk, 2, global_limit=3)

        assert [numbers(each) for each in (first, second, third, fourth)] == [[1, 2], [5], [], [3]]
        assert [each.held for each in (first, second, third, fourth)] == [None] + ["global_limit"] * 3

    def test_held_says_only_what_held(self, desk: Desk) -> None:
        """Where all that was asked for was given, or no more was due, the limit held nothing."""
        fill(desk, 1, 2, 3)

        asked = claimed(desk, 2, global_limit=2)
        desk.settle(asked.runs[0])
        desk.settle(asked.runs[1])
        emptied = claimed(desk, 10, global_limit=2)
        none = claimed(desk, 0, global_limit=1)

        assert [(numbers(each), each.held) for each in (asked, emptied, none)] == [
            ([1, 2], None),
            ([3], None),
            ([], None),
        ]

    def test_every_end_makes_room(self, desk: Desk) -> None:
        """Success, failure, hand-back, cancel and rescue."""
        fill(desk, 1, 2, 3, 4)
        one, two, three, _ = claimed(desk, 10, global_limit=4).runs

        room = []
        for end in (
            lambda: desk.settle(one),
            lambda: desk.settle(two, HAND_BACK),
            lambda: desk.cancel(three.run_id),
            lambda: desk.rescue("others"),
        ):
            full = claimed(desk, global_limit=1)
            end()
            room.append(full.held)
        last = claimed(desk, global_limit=1)

        assert room == ["global_limit"] * 4
        assert (numbers(last), last.held) == ([2], "global_limit")

    def test_what_was_said_wins_over_the_claim(self, desk: Desk) -> None:
        """A limit that was said, more or less than the code's; NO_LIMIT is none; forgotten, the code's holds again."""
        fill(desk, *range(1, 20))
        given = []
        for fields in (
            {"global_limit": 1},
            {"global_limit": 3},
            {"paused": False},
            {"reset": True},
            {"global_limit": NO_LIMIT},
        ):
            override = said(desk, **fields)
            answer = claimed(desk, 4, global_limit=5)
            assert answer.override == override
            given.append((len(answer.runs), answer.held))

        assert given == [
            (1, "global_limit"), (2, "global_limit"), (0, "global_limit"), (2, "global_limit"), (4, None),
        ]  # fmt: skip

    def test_a_claim_may_have_no_limit(self, desk: Desk) -> None:
        """None and NO_LIMIT are the same in a claim."""
        fill(desk, *range(1, 7))

        assert len(claimed(desk, 3, global_limit=None).runs) == 3
        assert len(claimed(desk, 3, global_limit=NO_LIMIT).runs) == 3

    def test_a_lowered_limit_touches_nothing_that_runs(self, desk: Desk) -> None:
        """There may be more than it for a while; nothing new starts until there are fewer."""
        fill(desk, *range(1, 8))
        running = claimed(desk, 5).runs
        said(desk, global_limit=2)

        given = []
        for run in running:
            given.append(numbers(claimed(desk)))
            assert desk.settle(run) is Status.SUCCEEDED
        given.append(numbers(claimed(desk)))

        assert given == [[], [], [], [], [6], [7]]

    def test_a_limit_takes_the_first_of_the_order(self, desk: Desk) -> None:
        """Priority, due and id decide who has the room; suspects count in it."""
        desk.add(1, priority=1)
        for _ in range(3):
            claimed(desk)
            desk.rescue("others")
        desk.add(2, HOOK, priority=0)
        desk.add(3, priority=2)

        one = claimed(desk, suspects=1, global_limit=2)

        assert (numbers(one), one.held) == ([2, 1], "global_limit")

    @pytest.mark.parametrize("seed", range(12))
    def test_running_rows_never_exceed_the_limit(self, desk: Desk, seed: int) -> None:
        """Two claimants, limits that change, ends of every kind: no claim brings the queue over what holds then."""
        rng = random.Random(seed)
        running: set[str] = set()
        held: list[Claimed] = []
        limit: int | None = None
        paused = False
        last = 0

        def give(answer: object, most: int) -> None:
            assert isinstance(answer, ClaimedRuns)
            assert not (paused and answer.runs)
            assert len(answer.runs) <= max(most - len(running), 0)
            held.extend(answer.runs)
            running.update(run.run_id for run in answer.runs)

        for _ in range(80):
            kind = rng.randrange(7)
            if kind == 0:
                count = rng.randrange(5)
                fill(desk, *range(last + 1, last + count + 1), lane=rng.choice((*LANES, SLOW)))
                last += count
            elif kind == 1:
                limit, paused = rng.choice([(None, False), (1, False), (3, False), (6, False), (limit, True)])
                said(desk, reset=True, global_limit=limit, paused=paused)
            elif kind == 2 and held:
                one = held.pop(rng.randrange(len(held)))
                if desk.settle(one, rng.choice((SUCCEED, HAND_BACK))) is not None:
                    running.discard(one.run_id)
            elif kind == 3:
                one_id = run_id(rng.randint(1, last + 1))
                desk.cancel(one_id)
                running.discard(one_id)
            elif kind == 4 and rng.random() < 0.3:
                gone = desk.rescue("own", owner=rng.choice(("boot-a", "boot-b")), limit=2)
                running -= {run.run_id for run in gone.runs}
            else:  # both in one commit, as two runtimes on one store might
                asked = [
                    desk.claim_command(rng.randrange(5), LANES, owner, queue=MAIN, global_limit=4)
                    for owner in ("boot-a", "boot-b")
                ]
                for answer in desk.do(*asked):
                    give(answer, 4 if limit is None else limit)

        counted = [each.n for each in desk.counts() if each.lane in LANES and each.status is Status.RUNNING]
        assert sum(counted) == len(running)

    def test_a_claim_by_another_process_counts(self, shared_place: Place) -> None:
        """What a second store over the same data started, paused or limited is known at once."""
        one, two = shared_place(), shared_place()
        now = Now(START, START)
        for store, boot in ((one, "boot-a"), (two, "boot-b")):
            store.open(Owner(boot, 1, "h", START))
        here, there = Desk(one, now), Desk(two, now)
        fill(here, *range(1, 10))

        answers = [claimed(here, 2, global_limit=3), claimed(there, 2, global_limit=3, owner="boot-b")]
        override = said(there, global_limit=4)
        answers += [claimed(here, 5, global_limit=3), claimed(there, 5, global_limit=3)]
        said(here, paused=True)
        answers += [claimed(there, 5)]

        assert [numbers(each) for each in answers] == [[1, 2], [3], [4], [], []]
        assert [each.held for each in answers] == [None, *["global_limit"] * 3, "paused"]
        assert answers[2].override == override
        assert here.store.changed()
        one.close()
        two.close()

    def test_every_lane_of_all_queues_has_its_own_sum(self, desk: Desk) -> None:
        """Queues of one name in two namespaces are two."""
        fill(desk, 1, 2)
        fill(desk, 3, 4, lane=OTHER)

        desk.claim(10, lanes=ALL)
        fill(desk, 5)
        fill(desk, 6, lane=OTHER)

        assert claimed(desk, global_limit=2).held == "global_limit"
        assert numbers(claimed(desk, global_limit=3, lanes=(OTHER,), queue=OTHER.queue)) == [6]
