"""
The life of a run.

Rule 1: every change of `Run.status` in the whole system is a row of `MOVES`.
Rule 2: this file does no I/O and reads no clock, so a test can try the table in full.
"""

from __future__ import annotations

from typing import Final

from .errors import IllegalMove
from .records import Move, Status

BIRTHS: Final[dict[Move, Status]] = {
    Move.ENQUEUE: Status.QUEUED,
    Move.SCHEDULE: Status.SCHEDULED,  # it has a future run_at
}

MOVES: Final[dict[Status, dict[Move, Status]]] = {
    Status.QUEUED: {Move.START: Status.RUNNING, Move.CANCEL: Status.CANCELED},
    Status.SCHEDULED: {Move.START: Status.RUNNING, Move.CANCEL: Status.CANCELED},
    Status.RUNNING: {
        Move.SUCCEED: Status.SUCCEEDED,
        Move.RETRY: Status.RETRYING,
        Move.EXHAUST: Status.DEAD_LETTERED,
        Move.DISCARD: Status.DEAD_LETTERED,
        Move.POISON: Status.DEAD_LETTERED,
        Move.CANCEL: Status.CANCELED,
        Move.SNOOZE: Status.SCHEDULED,  # its own wish, or a payload nobody here can read
        Move.HAND_BACK: Status.QUEUED,  # stopped by us: not its fault
        Move.RESCUE: Status.RETRYING,  # its process died, or its lease was lost: due at once
    },
    Status.RETRYING: {Move.START: Status.RUNNING, Move.CANCEL: Status.CANCELED},
    Status.SUCCEEDED: {},  # final; replay makes a new run
    Status.CANCELED: {},
    Status.DEAD_LETTERED: {},
}


def step(run_id: str, was: Status, move: Move) -> Status:
    """
    The status that `move` leads to from `was`.

    Raises IllegalMove when the table has no such row.
    """
    try:
        return MOVES[was][move]
    except KeyError:
        raise IllegalMove(run_id=run_id, was=was, move=move, possible=tuple(MOVES[was])) from None


def birth(status: Status) -> Move:
    """
    The move that makes a new run with `status`.

    Raises ValueError when no run begins like that.
    """
    for move, born in BIRTHS.items():
        if born is status:
            return move
    raise ValueError(f"a new run is queued or scheduled, not {status}")
