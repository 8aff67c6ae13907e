"""
callsheet: durable background jobs as supervised actors, inside a trio program.

Rule: a public name is one row of `_HOME`, and one line for type checkers above it; a test compares the two.
Names load when first used, so that `import callsheet.actors` brings the actor layer alone.

Not here: any code that does something.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

__version__ = "0.1.0"

if TYPE_CHECKING:
    # One line a name, in the order of the table: from .jobs import Jobs as Jobs
    pass

# {public name: the module that defines it}, for example "Jobs": "callsheet.jobs"
_HOME: Final[dict[str, str]] = {}

if not TYPE_CHECKING:  # a type checker that saw a module __getattr__ would accept every misspelt name
    __all__ = ["__version__"]
    __all__ += list(_HOME)

    def __getattr__(name: str) -> object:
        if name not in _HOME:  # with `obj`, the interpreter adds "Did you mean" for a misspelt name
            problem = f"module 'callsheet' has no attribute {name!r}"
            raise AttributeError(problem, name=name, obj=sys.modules[__name__])
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value  # from here on an ordinary attribute: the next use costs nothing
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOME})
