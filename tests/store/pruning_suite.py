"""
What every store promises of ended runs that are forgotten, and of what is published.

Mixed into a subclass of `StoreContract`, whose fixtures it takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, evolve

from callsheet.store.contract import Conflict, Insert, Inserted, NoteLate, Prune, Pruned, Publish, Reader
from callsheet.store.records import (
    FINAL,
    Clock,
    Count,
    Lane,
    Move,
    Now,
    OutcomeKind,
    Owner,
    Published,
    RunFilter,
    Status,
    Verdict,
)
from callsheet.store.sqlite.timely import stamp

from .contract_suite import HOOK, MAIL, OTHER, SECOND, SLOW, START, SUCCEED, Desk, Place, fail, run_id

DISCARD = Verdict(Move.DISCARD, OutcomeKind.DISCARDED)
EVER = START + 3600 * SECOND
Named = Callable[[int], str]


def prune(desk: Desk, before_us: int = EVER, *, limit: int = 1000, after: str = "", **fields: Any) -> Pruned:
    command = Prune("app/main", Status.SUCCEEDED, before_us, limit, after)
    (answer,) = desk.do(evolve(command, **fields))
    assert isinstance(answer, Pruned)
    return answer


def pages(desk: Desk, before_us: int = EVER, **fields: Any) -> list[int]:
    """How many were forgotten by each command, until nothing is left to look at."""
    pruned = prune(desk, before_us, **fields)
    forgotten = [pruned.n]
    while pruned.next is not None:
        pruned = prune(desk, before_us, after=pruned.next, **fields)
        forgotten.append(pruned.n)
    return forgotten


def asked(desk: Desk, ask: Callable[[Reader], Any]) -> Any:
    reader = desk.store.reader()
    try:
        return ask(reader)
    finally:
        reader.close()


def pruned_counts(desk: Desk) -> dict[Any, int]:
    """What the store says that it forgot."""
    counts: tuple[Count, ...] = asked(desk, lambda reader: reader.snapshot(limit=1).pruned)
    return {(each.lane, each.status): each.n for each in counts}


def stored(desk: Desk) -> list[str]:
    """The ids of all runs."""
    return sorted(run.id for run in asked(desk, lambda reader: reader.list(RunFilter(), limit=1000)))


@define
class Graves:
    """Makes runs that have ended."""

    desk: Desk
    named: Named

    def bury(self, n: int, status: Status = Status.SUCCEEDED, lane: Lane = MAIL, **fields: Any) -> str:
        """A run that was created at START and ends now."""
        desk = self.desk
        new = desk.new(n, lane, **{"created_us": START, "due_us": START} | fields)
        run = self.named(n)
        assert desk.insert(evolve(new, id=run)) == Inserted((None,))
        if status is Status.CANCELED:
            desk.cancel(run)
        else:
            (claimed,) = desk.claim(lanes=(lane,))
            desk.settle(claimed, SUCCEED if status is Status.SUCCEEDED else DISCARD)
        return run


class PruningContract:
    """The promises."""

    @pytest.fixture(params=["our-ids", "any-ids"])
    def named(self, request: pytest.FixtureRequest) -> Named:
        """Ids that tell when their run was created (at START), or tell nothing."""
        return (lambda n: f"{stamp(START)}{n:016d}") if request.param == "our-ids" else run_id

    @pytest.fixture
    def graves(self, desk: Desk, named: Named) -> Graves:
        return Graves(desk, named)

    # ------------------------------------------------------------ forgetting

    @pytest.mark.parametrize("status", sorted(FINAL))
    def test_a_run_that_ended_long_ago_is_forgotten(self, desk: Desk, graves: Graves, status: Status) -> None:
        """It is counted; what ended later, or otherwise, stays."""
        runs: dict[str, tuple[Status, int]] = {}
        numbers = itertools.count()
        for at_s, lane, has in itertools.product(range(3), (MAIL, SLOW), sorted(FINAL)):
            desk.now = Now(START + at_s * SECOND, START + at_s * SECOND)
            runs[graves.bury(next(numbers), has, lane)] = has, at_s

        pruned = prune(desk, START + 2 * SECOND, status=status)

        assert pruned == Pruned(4, None)
        assert stored(desk) == sorted(run for run, (has, at_s) in runs.items() if has is not status or at_s == 2)
        assert pruned_counts(desk) == {(MAIL, status): 2, (SLOW, status): 2}

    def test_p3_only_what_has_ended_is_forgotten(self, desk: Desk, graves: Graves) -> None:
        """Whatever waits or runs stays, also when a command names its status."""
        graves.bury(1)
        desk.start(2, SLOW)
        desk.settle(desk.start(3, SLOW), fail(EVER))
        desk.add(4, due_us=EVER, clock=Clock.WALL)
        desk.add(5)
        desk.later(1)

        pruned = {status: pages(desk, status=status) for status in Status}

        assert pruned == {status: [1 if status is Status.SUCCEEDED else 0] for status in Status}
        assert stored(desk) == [run_id(n) for n in (2, 3, 4, 5)]

    def test_nothing_is_left_of_it(self, desk: Desk, graves: Graves) -> None:
        """A run of the same id is a new one, with nothing of the old one's."""
        run = graves.bury(1, payload=b"x" * 5000, trace_id="t", trace_context="00-c")
        desk.do(NoteLate(run, 1, b"claim-0", "late"))

        prune(desk)
        gone = asked(desk, lambda reader: (reader.get(run), reader.list(RunFilter(trace_id="t"), limit=9)))
        desk.insert(evolve(desk.new(1, payload=b"y"), id=run))

        assert gone == (None, ())
        again = desk.history(run)
        assert (again.attempts, len(again.transitions)) == ((), 1)
        assert (again.run.payload, again.run.trace_id, again.run.attempt) == (b"y", None, 0)

    def test_p6_the_key_of_a_forgotten_run_is_free_again(self, desk: Desk, graves: Graves) -> None:
        """Until then it is taken; afterwards it makes a new run, and no conflict."""
        old = graves.bury(1, idempotency_key="k", payload_hash=b"1")
        new = desk.new(2, idempotency_key="k", payload_hash=b"2")
        taken = desk.insert(new, strict=True)

        prune(desk)

        assert isinstance(taken, Conflict)
        assert taken.existing.id == old
        assert desk.insert(new, strict=True) == Inserted((None,))
        assert stored(desk) == [new.id]

    def test_the_replay_of_a_forgotten_run_stays(self, desk: Desk, graves: Graves) -> None:
        """It still says what it replays, and counts as its replay."""
        old = graves.bury(1, Status.DEAD_LETTERED)
        replay = desk.add(2, SLOW, replay_of=old)

        prune(desk, status=Status.DEAD_LETTERED)

        assert desk.history(replay).run.replay_of == old
        assert desk.ids(RunFilter(replay_of=old)) == [2]
        (again,) = desk.do(Insert((desk.new(3, SLOW, replay_of=old),), once=True))
        assert isinstance(again, Inserted)
        assert [each and each.id for each in again.existing] == [replay]

    def test_a_forgotten_replay_is_none(self, desk: Desk, graves: Graves) -> None:
        """What it replayed does not name it any more, and may be replayed as if for the first time."""
        old = graves.bury(1, Status.DEAD_LETTERED)
        graves.bury(2, replay_of=old)

        prune(desk)

        assert desk.history(old).replays == ()
        assert desk.do(Insert((desk.new(3, SLOW, replay_of=old),), once=True)) == [Inserted((None,))]

    def test_other_instances_keep_their_runs(self, desk: Desk, graves: Graves) -> None:
        """And their keys, and their counts."""
        graves.bury(1, idempotency_key="k")
        other = graves.bury(2, lane=OTHER, idempotency_key="k")

        pruned = prune(desk), prune(desk, jobs="app/unknown")

        assert pruned == (Pruned(1, None), Pruned(0, None))
        assert stored(desk) == [other]
        assert pruned_counts(desk) == {(MAIL, Status.SUCCEEDED): 1}
        (there,) = desk.existing(desk.new(3, OTHER, idempotency_key="k"))
        assert there is not None
        assert there.id == other

    # ------------------------------------------------------------ a page at a time

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 20])
    def test_a_command_forgets_no_more_than_its_limit(self, desk: Desk, graves: Graves, limit: int) -> None:
        """Those that follow do the rest, over all lanes."""
        for n in range(14):
            graves.bury(n, lane=(MAIL, HOOK, SLOW)[n % 3])

        forgotten = pages(desk, limit=limit)

        assert sum(forgotten) == 14
        assert max(forgotten) <= limit
        assert len(forgotten) <= 14 // limit + 2
        assert stored(desk) == []
        assert pruned_counts(desk) == {
            (MAIL, Status.SUCCEEDED): 5,
            (HOOK, Status.SUCCEEDED): 5,
            (SLOW, Status.SUCCEEDED): 4,
        }

    @pytest.mark.parametrize("limit", [1, 2, 5])
    def test_what_has_to_stay_is_passed_over(self, desk: Desk, graves: Graves, limit: int) -> None:
        """However much of it there is before the first that may go."""
        desk.later(9)
        young = [graves.bury(n) for n in range(8)]
        desk.later(-5)
        for n in range(8, 12):
            graves.bury(n)

        forgotten = pages(desk, START + 5 * SECOND, limit=limit)

        assert sum(forgotten) == 4
        assert stored(desk) == sorted(young)

    def test_what_ends_meanwhile_is_found_by_whoever_begins_again(self, desk: Desk, graves: Graves) -> None:
        """Each walk begins with the first."""
        for n in (3, 4, 5):
            graves.bury(n)
        first = prune(desk, limit=2)
        late = graves.bury(1)

        assert first.next is not None
        assert sum(pages(desk, limit=2)) == 2
        assert late not in stored(desk)

    def test_mixed_ids(self, desk: Desk) -> None:
        """Some tell when their run was created, some do not, on the same lane."""
        ours, any_id = Graves(desk, lambda n: f"{stamp(START)}{n:016d}"), Graves(desk, lambda n: f"z{n}")
        lower = Graves(desk, run_id)
        for n in range(4):
            ours.bury(n)
            any_id.bury(n)
            lower.bury(n)
        desk.later(1)
        young = [each.bury(9) for each in (ours, any_id, lower)]

        forgotten = pages(desk, START + 1, limit=5)

        assert sum(forgotten) == 12
        assert max(forgotten) <= 5
        assert stored(desk) == sorted(young)

    # ------------------------------------------------------------ with the rest

    def test_a_prune_in_a_batch_that_fails_forgot_nothing(self, desk: Desk, graves: Graves) -> None:
        """The run is there with all that belongs to it, and not counted."""
        run = graves.bury(1, idempotency_key="k")
        before = desk.history(run)
        with pytest.raises(ValueError, match="a new run is queued or scheduled"):
            desk.do(
                Prune("app/main", Status.SUCCEEDED, EVER, 9),
                Insert((evolve(desk.new(2), status=Status.RUNNING),)),
            )

        assert desk.history(run) == before
        assert pruned_counts(desk) == {}
        (there,) = desk.existing(desk.new(2, idempotency_key="k"))
        assert there is not None
        assert there.id == run

    def test_in_one_batch_with_others(self, desk: Desk, graves: Graves) -> None:
        """Commands before it and after it see what it did not, and did."""
        graves.bury(1, idempotency_key="k")
        again, command = desk.new(2, idempotency_key="k"), Prune("app/main", Status.SUCCEEDED, EVER, 9)

        before, pruned, after = desk.do(Insert((again,)), command, Insert((again,)))

        assert isinstance(before, Inserted)
        assert before.existing[0] is not None
        assert (pruned, after) == (Pruned(1, None), Inserted((None,)))

    def test_what_was_forgotten_is_counted_ever_since(self, place: Place, named: Named) -> None:
        """Over a close, and over all commands."""
        for n in range(3):
            store = place()
            store.open(Owner("boot-a", 7, "host", START))
            desk = Desk(store)
            Graves(desk, named).bury(n)
            prune(desk)
            counted = pruned_counts(desk)
            store.close()

        assert counted == {(MAIL, Status.SUCCEEDED): 3}

    # ------------------------------------------------------------ what is published

    def test_nothing_was_published(self, desk: Desk) -> None:
        """Nobody did."""
        assert asked(desk, lambda reader: reader.published()) == ()

    def test_the_last_that_was_published_is_kept(self, desk: Desk) -> None:
        """Of each instance, with the time; by name."""
        body = b'{"tasks":[]}' * 1000
        desk.do(Publish((Published("app/other", b"{}", 99), Published("app/main", b"1"))), Publish(()))
        desk.later(1)

        (answer,) = desk.do(Publish((Published("app/main", body),)))

        assert answer is None
        assert asked(desk, lambda reader: reader.published()) == (
            Published("app/main", body, START + SECOND),
            Published("app/other", b"{}", START),
        )

    def test_what_was_published_is_there_after_reopening(self, place: Place) -> None:
        """Whoever opens the store next can read it."""
        store = place()
        store.open(Owner("boot-a", 7, "host", START))
        Desk(store).do(Publish((Published("app/main", b"{}"),)))
        store.close()
        store.open(Owner("boot-b", 7, "host", START))

        found = asked(Desk(store), lambda reader: reader.published())

        assert found == (Published("app/main", b"{}", START),)
        store.close()
