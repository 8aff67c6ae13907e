"""The table of moves, in full."""

from __future__ import annotations

import pytest

from callsheet.store.errors import IllegalMove
from callsheet.store.lifecycle import BIRTHS, MOVES, birth, step
from callsheet.store.records import FINAL, WAITING, Move, Status

TABLE = """
                queued     scheduled  running        retrying   succeeded  dead_lettered  canceled
    enqueue     -          -          -              -          -          -              -
    schedule    -          -          -              -          -          -              -
    start       running    running    -              running    -          -              -
    succeed     -          -          succeeded      -          -          -              -
    retry       -          -          retrying       -          -          -              -
    exhaust     -          -          dead_lettered  -          -          -              -
    discard     -          -          dead_lettered  -          -          -              -
    poison      -          -          dead_lettered  -          -          -              -
    cancel      canceled   canceled   canceled       canceled   -          -              -
    snooze      -          -          scheduled      -          -          -              -
    hand_back   -          -          queued         -          -          -              -
    rescue      -          -          retrying       -          -          -              -
"""
HEAD, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
CELLS = [(was, row[0], now) for row in ROWS for was, now in zip(HEAD, row[1:], strict=True)]


def test_p3_the_table_of_this_test_names_every_status_and_move() -> None:
    """A new status or move cannot be forgotten here."""
    assert [Status(name) for name in HEAD] == list(Status)
    assert [Move(row[0]) for row in ROWS] == list(Move)


@pytest.mark.parametrize(("was", "move", "now"), CELLS)
def test_p3_every_cell_of_the_table(was: str, move: str, now: str) -> None:
    """A move leads where the table says; where it says nothing, it is refused in a sentence with the facts."""
    if now != "-":
        assert step("01J", Status(was), Move(move)) is Status(now)
        return

    with pytest.raises(IllegalMove) as refused:
        step("01J", Status(was), Move(move))

    error = refused.value
    assert (error.run_id, error.was, error.move) == ("01J", Status(was), Move(move))
    assert error.possible == tuple(MOVES[Status(was)])
    assert str(error).startswith(f"run 01J is {was}: it cannot {move} (possible: ")


def test_p3_nothing_leads_out_of_a_final_status() -> None:
    """Final is final, and only what is final has no way out."""
    assert {was for was, moves in MOVES.items() if not moves} == FINAL
    assert str(IllegalMove("01J", Status.SUCCEEDED, Move.CANCEL, ())) == (
        "run 01J is succeeded: it cannot cancel (possible: nothing can: it is final)"
    )


def test_whatever_waits_can_start_and_nothing_else() -> None:
    """What a claim may take is what has a start."""
    assert {was for was, moves in MOVES.items() if Move.START in moves} == WAITING
    assert {status for status in Status if status.is_waiting} == WAITING
    assert {status for status in Status if status.is_final} == FINAL


def test_p5_a_cancel_is_possible_wherever_something_is() -> None:
    """Only a final status refuses it."""
    assert {was for was, moves in MOVES.items() if Move.CANCEL not in moves} == FINAL


def test_a_run_is_born_queued_or_scheduled() -> None:
    """No other status is a beginning."""
    assert {Move.ENQUEUE: Status.QUEUED, Move.SCHEDULE: Status.SCHEDULED} == BIRTHS
    assert [birth(status) for status in BIRTHS.values()] == list(BIRTHS)
    for status in set(Status) - set(BIRTHS.values()):
        with pytest.raises(ValueError, match=f"queued or scheduled, not {status}"):
            birth(status)
