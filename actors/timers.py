"""
All waiting, as data: what is to be called at which time.

Rule 1: synchronous, and reads no clock; the scheduler actor pumps it, and a new scheduler goes on with what the old one left.
Rule 2: never early, not by a rounding: times are rounded up to ticks, and a tick is over only when its time is.
Not here: how timers are kept (`wheel`), who sleeps until the next (`scheduler`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from attrs import define, field

from .errors import ActorError
from .wheel import Entry, Wheel

TICKS_PER_S: Final = 1000
"""A timer fires at most one tick late, beside what the event loop is late; a finer tick would share less work."""
MOST: Final = 10_000_000
"""Timers that may be pending: about 1 GB of them. Whoever wants more has lost count, or should keep them in the store."""


@define(slots=False)
class TooManyTimers(ActorError):
    """As many timers are pending as may be: something makes them and never cancels them."""

    pending: int
    owner: str | None

    def __str__(self) -> str:
        whose = "" if self.owner is None else f" for {self.owner}"
        return f"no timer{whose}: {self.pending:,} are pending, which is the limit; `counts()` tells who made them"


@define(eq=False)
class Account:
    """Whose timers they are: one object that all of them point to."""

    timers: Timers
    owner: str | None
    pending: int = 0


class Timer(Entry):
    """One call at one time; made by `Timers.at`."""

    __slots__ = ("account", "call")

    account: Account
    call: Callable[[], object] | None
    """None from the moment it is called or cancelled, so that nothing is kept alive."""

    def cancel(self) -> bool:
        """Make sure that it is not called from now on; False when it was called or cancelled before."""
        account = self.account
        if not account.timers.wheel.cancel(self):
            return False
        self.call = None
        if account.owner is not None:
            account.timers._settle(account)  # noqa: SLF001 -- the two are one structure
        return True

    def reschedule(self, when_s: float) -> bool:
        """Have it called at `when_s` instead; False when it was called or cancelled before. To a later time: next to free."""
        return self.account.timers._reschedule(self, when_s)  # noqa: SLF001 -- the two are one structure


@define(eq=False)
class Timers:
    """Timers by time, then by the order in which they were added. Times are seconds on `Clock.mono_s`."""

    on_earlier: Callable[[float], object] = field(default=lambda _when_s: None)
    """Called with the new time when a timer is earlier than what `arm` last answered: the scheduler moves its deadline."""
    limit: int = MOST
    """How many may be pending."""
    wheel: Wheel = field(factory=Wheel, init=False)
    _nobody: Account = field(init=False)
    _accounts: dict[str, Account] = field(factory=dict, init=False)
    _armed: float = field(default=math.inf, init=False)
    """The tick that the scheduler sleeps until."""

    def __attrs_post_init__(self) -> None:
        self._nobody = Account(self, None)

    def __len__(self) -> int:
        """Timers that are still to be called."""
        return self.wheel.pending

    def counts(self) -> Mapping[str, int]:
        """How many timers each named owner has pending; owners without any are left out."""
        return {owner: account.pending for owner, account in self._accounts.items()}

    def at(self, when_s: float, call: Callable[[], object], *, owner: str | None = None) -> Timer:
        """
        Have `call` called at `when_s`, never earlier; never from inside this call, even when that is in the past.

        `owner` is whom `counts` names for it. Raises TooManyTimers; ValueError when `when_s` is no finite number.
        """
        try:  # `to_tick`, in place: a call would be a tenth of what a timer costs
            tick = int(when_s * 1000.0)
        except (OverflowError, ValueError):
            tick = to_tick(when_s)
        if tick / 1000.0 < when_s:
            tick += 1
        wheel = self.wheel
        if wheel.pending >= self.limit:
            raise TooManyTimers(wheel.pending, owner)
        timer = Timer()
        timer.call = call
        timer.account = self._nobody if owner is None else self._charge(owner)
        wheel.add(timer, tick)
        if tick < self._armed:
            self._earlier(tick)
        return timer

    def next_s(self) -> float:
        """When to look again: never later than the earliest timer, rarely earlier (`Wheel.next_tick`); infinity without any."""
        tick = self.wheel.next_tick()
        return math.inf if tick is None else tick / TICKS_PER_S

    def arm(self) -> float:
        """`next_s`, for whoever sleeps until then: from now on `on_earlier` is called for a timer that is earlier."""
        tick = self.wheel.next_tick()
        self._armed = math.inf if tick is None else tick
        return self._armed / TICKS_PER_S

    def advance(self, now_s: float, budget: int, run: Callable[[Callable[[], object]], object]) -> bool:
        """Give `run` each call that is due at `now_s`, in order, within `budget` (`Wheel.advance`); True: do it again soon."""

        def fire(timer: Timer) -> None:
            call, timer.call = timer.call, None
            assert call is not None, "a pending timer has its call"
            if timer.account.owner is not None:
                self._settle(timer.account)
            run(call)

        self._armed = -math.inf  # whoever pumps is awake
        return self.wheel.advance(past_tick(now_s), budget, fire)

    def _reschedule(self, timer: Timer, when_s: float) -> bool:
        tick = to_tick(when_s)
        if not self.wheel.reschedule(timer, tick):
            return False
        if tick < self._armed:
            self._earlier(tick)
        return True

    def _earlier(self, tick: int) -> None:
        self._armed = tick
        self.on_earlier(tick / TICKS_PER_S)

    def _charge(self, owner: str) -> Account:
        account = self._accounts.get(owner)
        if account is None:
            account = self._accounts[owner] = Account(self, owner)
        account.pending += 1
        return account

    def _settle(self, account: Account) -> None:
        account.pending -= 1
        if not account.pending and account.owner is not None:
            del self._accounts[account.owner]


def to_tick(when_s: float) -> int:
    """The first tick that is not before `when_s`. Raises ValueError when that is no finite number."""
    try:
        tick = int(when_s * TICKS_PER_S)
    except (OverflowError, ValueError):
        raise ValueError(f"a timer needs a finite time, in seconds: not {when_s!r}") from None
    return tick + 1 if tick / TICKS_PER_S < when_s else tick


def past_tick(now_s: float) -> int:
    """The last tick that is not after `now_s`: the exact counterpart of `to_tick`, so that who sleeps to a tick is there."""
    tick = math.floor(now_s * TICKS_PER_S)
    if (tick + 1) / TICKS_PER_S <= now_s:
        return tick + 1
    return tick - 1 if tick / TICKS_PER_S > now_s else tick
