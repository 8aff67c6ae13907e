"""
`frozen` for what is made once for every run.

Rule: type checkers see attrs' `frozen`, and hold everybody to it; while the program runs nothing stands in the way. To set the
fields of an object that is frozen takes attrs four times as long: more than a microsecond for a record of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["frozen"]

if TYPE_CHECKING:
    from attrs import frozen
else:
    from functools import partial

    from attrs import define

    frozen = partial(define, unsafe_hash=True)
