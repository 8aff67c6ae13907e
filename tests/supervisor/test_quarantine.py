from __future__ import annotations

from attrs import evolve

from callsheet.store.records import Claimed, Lane
from callsheet.supervisor.quarantine import Quarantine

INNOCENT = Claimed("i", Lane("j", "q", "t", "1"), 1, 0, 2, 5, None, 5, b"c", 1, 0, 0, b"1", None, None)
SUSPECT = evolve(INNOCENT, run_id="s", deaths=3)


def test_one_claim_at_a_time_may_bring_a_suspect() -> None:
    """While the ticket is out the others claim without; they are woken when it comes back unused, once each."""
    quarantine, woken = Quarantine(), list[str]()

    assert 1 == quarantine.ask(lambda: woken.append("a"))
    wake_b = lambda: woken.append("b")  # noqa: E731 -- the same one twice
    assert [0, 0] == [quarantine.ask(wake_b), quarantine.ask(wake_b)]
    quarantine.answer(0, (INNOCENT,))
    assert [] == woken
    quarantine.answer(1, (INNOCENT,))

    assert ["b"] == woken
    assert 1 == quarantine.ask(wake_b)


def test_a_suspect_on_stage_keeps_the_others_waiting_until_it_leaves() -> None:
    """Also when other runs leave."""
    quarantine, woken = Quarantine(), list[str]()
    quarantine.answer(quarantine.ask(lambda: None), (INNOCENT, SUSPECT))

    assert 0 == quarantine.ask(lambda: woken.append("b"))
    quarantine.leave("i")
    assert [] == woken
    quarantine.leave("s")

    assert ["b"] == woken
    assert 1 == quarantine.ask(lambda: None)


def test_a_claim_that_failed_gives_its_ticket_back() -> None:
    """A store that refuses for a while must not keep suspects waiting for ever."""
    quarantine = Quarantine()

    quarantine.answer(quarantine.ask(lambda: None), ())

    assert 1 == quarantine.ask(lambda: None)
