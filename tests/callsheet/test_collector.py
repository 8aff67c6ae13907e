from __future__ import annotations

import gc

import pytest

from callsheet import InvalidOption, calm_gc


def test_full_collections_are_rarer_inside_and_as_before_outside() -> None:
    """The two younger generations are left alone; what was set before comes back, also when the block raises."""
    before = gc.get_threshold()

    with pytest.raises(KeyError), calm_gc(50):
        inside = gc.get_threshold()
        raise KeyError

    assert (before[0], before[1], before[2] * 50) == inside
    assert before == gc.get_threshold()


@pytest.mark.parametrize("rarer", [0, -1, 1.5, 1_000_001])
def test_a_senseless_factor_is_refused(rarer: int) -> None:
    """A sentence, and nothing is changed."""
    before = gc.get_threshold()

    with pytest.raises(InvalidOption, match="rarer"), calm_gc(rarer):
        pass

    assert before == gc.get_threshold()
