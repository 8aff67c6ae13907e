"""
A set of figures: how they are gathered over repeats, and shown.

Rule: every figure has a unit, and is the median of its repeats with their range.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apsw
import trio
from attrs import define, field, frozen

import callsheet

DURABILITY = "SQLite on disk, journal_mode=WAL, synchronous=FULL: every transaction is durable"


@frozen
class Figure:
    """One measured quantity."""

    unit: str
    values: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Median and range."""
        return {
            "median": _short(statistics.median(self.values)),
            "min": _short(min(self.values)),
            "max": _short(max(self.values)),
            "unit": self.unit,
        }

    @property
    def median(self) -> float:
        """Of all repeats."""
        return statistics.median(self.values)


@define(eq=False)
class Report:
    """Of one benchmark: its figures, the floors from the same run, and ratios between the two."""

    benchmark: str
    n: int
    figures: dict[str, Figure] = field(factory=dict)
    floors: dict[str, Figure] = field(factory=dict)
    ratios: dict[str, tuple[str, str]] = field(factory=dict)
    """{name: (figure, floor)}: the first divided by the second."""
    durability: str = DURABILITY

    def as_json(self) -> dict[str, Any]:
        """In the shape that is compared over time."""
        return {
            "benchmark": self.benchmark,
            "versions": versions(),
            "durability": self.durability,
            "n": self.n,
            "figures": {name: each.as_json() for name, each in self.figures.items()},
            "floors": {name: each.as_json() for name, each in self.floors.items()},
            "ratios": {
                name: _short(self.figures[above].median / self.floors[below].median)
                for name, (above, below) in self.ratios.items()
            },
        }

    def as_text(self) -> str:
        """For people."""
        shown = self.as_json()
        width = max(map(len, [*self.figures, *self.floors])) + 2
        lines = [f"{self.benchmark}, n = {self.n:,}", f"  {self.durability}", f"  {json.dumps(versions())}"]
        for title in ("figures", "floors"):
            lines.append(f"  {title}")
            for name, each in shown[title].items():
                spread = f"{each['min']:,} … {each['max']:,}"
                lines.append(f"    {name:<{width}}{each['median']:>14,} {each['unit']:<10} ({spread})")
        lines += [f"    {name:<{2 * width}}{value:>8}" for name, value in shown["ratios"].items()]
        return "\n".join(lines)


def gather(repeat: int, measure: Callable[[], Mapping[str, float]], units: Mapping[str, str]) -> dict[str, Figure]:
    """Call `measure` `repeat` times; every name it returns becomes a Figure."""
    rounds: Sequence[Mapping[str, float]] = [measure() for _ in range(repeat)]
    return {name: Figure(unit, tuple(each[name] for each in rounds)) for name, unit in units.items()}


def versions() -> dict[str, str]:
    """What was measured."""
    return {
        "callsheet": callsheet.__version__,
        "python": platform.python_version(),
        "trio": trio.__version__,
        "apsw": apsw.apsw_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _short(value: float) -> float:
    return round(value) if abs(value) >= 1000 else float(f"{value:.3g}")
