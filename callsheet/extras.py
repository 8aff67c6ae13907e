"""
The optional parts: what each of them needs, asked for before it is used.

Rule: what is missing is one sentence that names the extra, and exit status 2; never a traceback.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

MISSING: Final = 2
"""Exit status when an extra is not installed."""


def require(extra: str, *modules: str) -> None:
    """End the program with a sentence unless all `modules`, which come with `extra`, are installed."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        sys.stderr.write(
            f"This command needs {' and '.join(missing)}, which the extra {extra!r} brings: "
            f"pip install 'callsheet[{extra}]'\n"
        )
        raise SystemExit(MISSING)
