"""
For tests of your own jobs: the real runtime in virtual time, with scripted handlers, failing stores and killed processes.

Rule: what a test can see is what happens in production; a world puts nothing in the place of the runtime but time, chance
and trouble. Needs no test runner.
"""

from .clock import run as run
from .errors import NotRunning as NotRunning
from .errors import RealClock as RealClock
from .errors import StillBusy as StillBusy
from .errors import WrongBooks as WrongBooks
from .faults import Faults as Faults
from .faults import Happened as Happened
from .performing import Performed as Performed
from .script import Call as Call
from .script import Die as Die
from .script import Hang as Hang
from .script import Play as Play
from .script import Raise as Raise
from .script import Return as Return
from .script import Script as Script
from .script import Sleep as Sleep
from .script import Step as Step
from .script import Swallow as Swallow
from .simulation import simulate as simulate
from .world import World as World

__all__ = [
    "Call",
    "Die",
    "Faults",
    "Hang",
    "Happened",
    "NotRunning",
    "Performed",
    "Play",
    "Raise",
    "RealClock",
    "Return",
    "Script",
    "Sleep",
    "Step",
    "StillBusy",
    "Swallow",
    "World",
    "WrongBooks",
    "run",
    "simulate",
]
