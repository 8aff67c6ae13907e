"""
The timer wheel: what is due at which tick, and nothing else.

Two tiers. What is due within the next two coarse slots is *near*: a list for each tick. The rest is *far*: a dict for each
coarse slot. Both are sparse, and a heap holds the keys of each: thousands of keys instead of a million timers, no tick
without a timer, and no end of the wheel to wrap around. (Kafka's heap of buckets, with Erlang's soon and later wheels.)

Rule 1: pure and synchronous. A tick is an int that somebody else reads from a clock; so a test can try every boundary.
Rule 2: an entry is pending exactly while `Entry.slot` is set; whatever a slot still holds beside those is dead.
Rule 3: no call does more than its budget: what one advance leaves over, the next goes on with.
Not here: seconds, what an entry stands for, who waits for the next tick (`timers`, `scheduler`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any, Final

from attrs import define, field

BITS: Final = 8
"""
A coarse slot is 2**8 ticks. Measured with 1,000,000 timers over a minute and over an hour: 2**10 adds as fast and 15 % faster,
but its worst advance is 3.5 and 1.9 ms instead of 1.5 and 1.2 ms, and its offsets would need a table to cost no memory.
"""
SPAN: Final = 1 << BITS
_OFFSET: Final = SPAN - 1

SLOT_COST: Final = 1
MOVE_COST: Final = 2
FIRE_COST: Final = 8
"""In units of about 0.2 us: filing an entry takes twice as long as taking up a slot, and what is fired has work of its own."""

SLACK: Final = 64
"""Dead entries in a near slot, and empty far slots, that are not worth a sweep."""
EXACT: Final = 64
"""Up to so many entries of a far slot are looked through for the earliest; a larger slot gives a lower bound."""


class Entry:
    """
    Something that is pending at a tick, or was. The caller makes it and adds it once.

    It has no `__init__` on purpose: one more call in Python would be a sixth of what adding a timer costs.
    """

    __slots__ = ("later", "slot")

    slot: Near | Far | None
    """Where it is filed; None when it was fired or cancelled."""
    later: int | None
    """Put off to this tick: it is filed again when its slot comes due."""


class Near(list[Entry]):
    """The entries of one tick, in the order in which they came; those whose `slot` is not this one are dead."""

    __slots__ = ("dead", "tick")

    def __init__(self, tick: int) -> None:
        self.tick = tick
        self.dead = 0

    @property
    def is_live(self) -> bool:
        """Whether it holds anything but dead entries."""
        return len(self) > self.dead

    def leave(self) -> None:
        """One entry is dead from now on."""
        self.dead += 1
        if self.dead > len(self) - self.dead + SLACK:
            live = [entry for entry in self if entry.slot is self]
            self[:] = dict.fromkeys(live)  # once each: one may have left and come back
            self.dead = 0


class Far(dict[Entry, int]):
    """The entries of one coarse slot, each with its offset in it (below 257: ints that CPython never allocates)."""

    __slots__ = ("base",)

    def __init__(self, base: int) -> None:
        self.base = base


@define(eq=False)
class Wheel:
    """Entries by tick. Within a tick they fire in the order in which they came, unless a budget cut their move in two."""

    now: int = 0
    """The latest tick that it was advanced to."""
    pending: int = field(default=0, init=False)
    """How many entries are."""
    _near: dict[int, Near] = field(factory=dict, init=False)
    _near_ticks: list[int] = field(factory=list, init=False)
    """A heap of the keys of `_near`."""
    _far: dict[int, Far] = field(factory=dict, init=False)
    _far_keys: list[int] = field(factory=list, init=False)
    """A heap of the keys of `_far`."""
    _emptied: int = field(default=0, init=False)
    """How often a far slot became empty since the last sweep."""
    _limit: int = field(init=False)
    """What is due before this is near."""
    _moving: Far | None = field(default=None, init=False)
    """The far slot whose entries are being filed near; nothing is added to it or deleted from it any more."""
    _unmoved: Iterator[tuple[Entry, int]] = field(init=False)
    _ripe: Near = field(init=False)
    """The tick whose entries are being fired: the last in the list is the next."""
    _at_once: Near = field(init=False)
    """What was due already when it was added: fired by the next advance, never from inside `add`."""
    _advancing: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._limit = self._horizon(2)
        self._unmoved = iter(())
        self._ripe = Near(self.now)
        self._at_once = Near(self.now)

    # -- what callers do with an entry

    def add(self, entry: Entry, tick: int) -> None:
        """Have `entry` fired by an advance to `tick` or beyond; one in the past, by the next advance, as if due now."""
        self.pending += 1
        entry.later = None
        if tick <= self.now:  # asked first: after a budget ran out, `_limit` may lag behind the time
            self._at_once.append(entry)
            entry.slot = self._at_once
        elif tick >= self._limit:  # `_file` in place: the call would be a tenth of it, and most timers start far away
            far = self._far.get(tick >> BITS)
            if far is None:
                far = self._open_far(tick >> BITS)
            far[entry] = tick & _OFFSET
            entry.slot = far
        else:
            self._file(entry, tick)

    def cancel(self, entry: Entry) -> bool:
        """Make sure that `entry` is not fired; False when it is not pending. A far one leaves no trace at all."""
        slot = entry.slot
        if slot is None:
            return False
        self._leave(entry, slot)
        self.pending -= 1
        return True

    def reschedule(self, entry: Entry, tick: int) -> bool:
        """Have a pending `entry` fired at `tick` instead; False when it is not pending. Putting it off is one write."""
        slot = entry.slot
        if slot is None:
            return False
        tick = max(tick, self.now)
        filed = slot.base + slot[entry] if isinstance(slot, Far) else slot.tick
        if tick >= filed:
            entry.later = tick
            return True
        self._leave(entry, slot)
        self.pending -= 1
        self.add(entry, tick)
        return True

    # -- what the pump does

    def next_tick(self) -> int | None:
        """
        When to advance next; None when nothing is pending.

        Never later than the earliest entry. Earlier only when that one was put off, or waits in a far slot of more than
        `EXACT`; then an advance to here brings it nearer.
        """
        near, ticks = self._near, self._near_ticks
        if self._ripe.is_live:
            return self._ripe.tick
        while ticks and not near[ticks[0]].is_live:
            del near[heapq.heappop(ticks)]
        soon = ticks[:1]
        if self._at_once.is_live:
            soon.append(self._at_once.tick)
        if self._moving is not None:
            soon.append(self._moving.base)
        return min(soon) if soon else self._next_far()

    def advance(self, now: int, budget: int, fire: Callable[[Any], object]) -> bool:
        """
        Fire what is due at `now`, in order of time, within `budget` units of work; True when there is more to do.

        `fire` may add, cancel and reschedule; what it adds for now or the past is left to the next advance. What it raises
        comes out of here, and nothing but the entry that it was given is lost. A `now` that went back counts as the last.
        """
        assert not self._advancing, "the wheel was advanced by what it fired"
        self._advancing = True
        try:
            self._turn(max(now, self.now))
            budget = self._move(self._horizon(1), budget)  # what may be due
            budget = self._fire(budget, fire)
            budget = self._move(self._horizon(2), budget)  # ahead of time, so that it need not be done at once
        finally:
            self._advancing = False
        due = self.next_tick()
        return budget <= 0 or (due is not None and due <= self.now)

    # -- filing

    def _file(self, entry: Entry, tick: int) -> None:
        entry.later = None
        if tick < self._limit:
            near = self._near.get(tick)
            if near is None:
                near = self._near[tick] = Near(tick)
                heapq.heappush(self._near_ticks, tick)
            near.append(entry)
            entry.slot = near
        else:
            far = self._far.get(tick >> BITS)
            if far is None:
                far = self._open_far(tick >> BITS)
            far[entry] = tick & _OFFSET
            entry.slot = far

    def _open_far(self, key: int) -> Far:
        heapq.heappush(self._far_keys, key)
        far = self._far[key] = Far(key << BITS)
        return far

    def _leave(self, entry: Entry, slot: Near | Far) -> None:
        entry.slot = None
        if not isinstance(slot, Far):
            slot.leave()
        elif slot is not self._moving:
            del slot[entry]
            if not slot:
                slot.clear()  # a dict keeps its table when its last key is deleted
                self._emptied += 1
                if self._emptied > len(self._far) // 2 + SLACK:
                    self._sweep()

    def _sweep(self) -> None:
        self._far = {key: slot for key, slot in self._far.items() if slot}
        self._far_keys = sorted(self._far)  # a sorted list is a heap
        self._emptied = 0

    def _horizon(self, slots: int) -> int:
        return ((self.now >> BITS) + slots) << BITS

    # -- turning

    def _turn(self, now: int) -> None:
        """Set the time, and file what was due at once at the time that it was added."""
        late = self._at_once
        self.now = now
        if not late:
            late.tick = now
            return
        self._at_once = Near(now)
        if late.tick in self._near:  # left over by a budget
            for entry in late:
                if entry.slot is late:
                    entry.slot = self._near[late.tick]
                    entry.slot.append(entry)
        else:
            self._near[late.tick] = late
            heapq.heappush(self._near_ticks, late.tick)

    def _move(self, limit: int, budget: int) -> int:
        """File near what is due before `limit`; the budget that is left."""
        while budget > 0 and self._starts_moving(limit):
            budget = self._move_some(budget - SLOT_COST)
        return budget

    def _starts_moving(self, limit: int) -> bool:
        if self._moving is None:
            while self._far_keys and self._far_keys[0] << BITS < limit and self._moving is None:
                slot = self._far.pop(heapq.heappop(self._far_keys))
                if slot:
                    self._moving, self._unmoved = slot, iter(slot.items())
                    self._limit = slot.base + SPAN
            if self._moving is None:
                self._limit = max(self._limit, limit)
        return self._moving is not None and self._moving.base < limit

    def _move_some(self, budget: int) -> int:
        slot = self._moving
        assert slot is not None
        base = slot.base
        for entry, offset in self._unmoved:
            if entry.slot is slot:
                later = entry.later
                self._file(entry, base + offset if later is None else later)
            budget -= MOVE_COST
            if budget <= 0:
                return budget
        self._moving, self._unmoved = None, iter(())
        return budget

    def _fire(self, budget: int, fire: Callable[[Any], object]) -> int:
        """Fire near ticks up to now; the budget that is left."""
        while budget > 0 and (ripe := self._ripest()):
            budget -= SLOT_COST
            while ripe:
                entry = ripe.pop()
                if entry.slot is not ripe:
                    ripe.dead -= 1
                    budget -= MOVE_COST
                elif entry.later is not None and entry.later > ripe.tick:
                    self._file(entry, entry.later)
                    budget -= MOVE_COST
                else:
                    entry.slot = None
                    self.pending -= 1
                    budget -= FIRE_COST
                    fire(entry)
                if budget <= 0:  # asked last: the smallest budget gets on by one entry
                    break
        return budget

    def _ripest(self) -> Near | None:
        while not self._ripe and self._near_ticks and self._near_ticks[0] <= self.now:
            self._ripe = self._near.pop(heapq.heappop(self._near_ticks))
            self._ripe.reverse()
        return self._ripe or None

    def _next_far(self) -> int | None:
        while self._far_keys:
            slot = self._far[self._far_keys[0]]
            if slot:
                return slot.base + (min(slot.values()) if len(slot) <= EXACT else 0)
            del self._far[heapq.heappop(self._far_keys)]
        return None
