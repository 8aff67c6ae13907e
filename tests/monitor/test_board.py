"""What clients look at: newer values only, in bounded frames, and an honest start when too much was missed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from callsheet.monitor.board import MAX_CHANGED, MAX_FRAME, Board, Frame


class Follower:
    """A client as simple as can be: it folds what it is sent."""

    def __init__(self) -> None:
        self.rev: int | None = None
        self.runs: dict[str, Any] = {}
        self.parts: dict[str, Any] = {}
        self.restarts = 0

    def take(self, frame: Frame) -> None:
        message = json.loads(frame.text)
        assert message["rev"] == frame.rev
        assert len(frame.text.encode()) <= MAX_FRAME
        if message["type"] == "snapshot":
            self.runs.clear()
            self.restarts += 1
        else:
            assert self.rev is not None
            assert frame.rev >= self.rev
        self.rev = frame.rev
        self.runs.update({row["id"]: row for row in message["runs"]})
        self.parts.update({name: message[name] for name in ("tree", "stats") if name in message})

    def catch_up(self, board: Board, truth: dict[str, Any]) -> None:
        while self.rev is None or self.rev < board.rev:
            before = self.rev
            if before is None or before < board.floor:
                self.take(board.snapshot(board.recent(list(truth.values())), 0))
            else:
                self.take(board.delta(before, 0))
            assert self.rev is not None
            assert before is None or self.rev > before


def row(run: int, value: int, size: int = 0) -> dict[str, Any]:
    """A run in some state."""
    return {"id": str(run), "value": value, "text": "x" * size}


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("size", [0, 3_000])
def test_whoever_catches_up_knows_what_is_true(seed: int, size: int) -> None:
    """I40: followers that look often, seldom or never, over small rows and large, end with the same state."""
    chance = random.Random(seed)
    board, truth, part = Board(), {}, 0
    followers = [Follower() for _ in range(3)]
    for _ in range(chance.randrange(100)):
        match chance.choice(["put", "put", "put", "part", "look", "look", "look", "forget"]):
            case "put":
                ids = chance.choices(range(chance.choice([10, 100, 2 * MAX_CHANGED])), k=chance.choice([1, 5, 100]))
                changed = {str(run): row(run, chance.randrange(4), size) for run in ids}
                truth.update(changed)
                board.put_runs(changed.values())
            case "part":
                part = chance.randrange(4)
                board.put_part("stats", {"n": part})
            case "look":
                followers[min(chance.randrange(6), chance.randrange(6)) % 3].catch_up(board, truth)
            case _ if chance.random() < 0.2:
                board.forget_runs()
            case _:
                pass

    board.put_part("stats", {"n": part})
    for each in followers:
        each.catch_up(board, truth)
        assert each.parts == {"stats": {"n": part}}
        assert each.runs == {run: truth[run] for run in each.runs}


def test_only_what_changed_is_news() -> None:
    """A run that is as it was is not sent again."""
    board = Board()
    board.put_runs([row(1, 1), row(2, 1)])
    board.put_part("tree", {"a": 1})
    rev = board.rev

    board.put_runs([row(1, 1), row(2, 2)])
    board.put_part("tree", {"a": 1})

    frame = json.loads(board.delta(rev, 7).text)
    assert {"type": "delta", "rev": rev + 1, "now_us": 7, "runs": [row(2, 2)]} == frame


def test_a_delta_that_does_not_fit_goes_on_in_the_next_one() -> None:
    """Nothing is left out, oldest first, and each frame keeps its limit."""
    board, follower = Board(), Follower()
    follower.catch_up(board, {})
    follower.take(board.snapshot(board.recent([]), 0))
    truth = {str(n): row(n, 1, 5_000) for n in range(200)}
    board.put_runs(truth.values())
    frames = 0

    while follower.rev != board.rev:
        assert follower.rev is not None
        follower.take(board.delta(follower.rev, 0))
        frames += 1

    assert 4 <= frames <= 5
    assert truth == follower.runs


def test_a_snapshot_that_does_not_fit_keeps_the_newest() -> None:
    """Its rows come newest first."""
    board = Board()
    recent = board.recent([row(n, 1, 5_000) for n in range(200, 0, -1)])

    frame = board.snapshot(recent, 0)

    ids = [each["id"] for each in json.loads(frame.text)["runs"]]
    assert [str(n) for n in range(200, 200 - len(ids), -1)] == ids
    assert len(ids) > 40
    assert len(frame.text) <= MAX_FRAME


def test_what_is_kept_is_bounded() -> None:
    """However many runs change."""
    board = Board()
    for n in range(10_000):
        board.put_runs([row(n, 1)])

    assert MAX_CHANGED == len(board._runs)
    assert 10_000 - MAX_CHANGED == board.floor


def test_texts_that_are_no_unicode_are_sent_all_the_same() -> None:
    """A lone surrogate in somebody's error message must not end the feed."""
    board = Board()
    board.put_runs([{"id": "1", "error": "\ud800 \u2028 </script>"}])

    text = board.delta(0, 0).text

    assert text.isascii()
    assert json.loads(text)["runs"][0]["error"] == "\ud800 \u2028 </script>"
