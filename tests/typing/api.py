"""
What a type checker makes of the public names. This file is checked (`make check`), never run.

Rule: use the package as a user would, and say with `assert_type` what must come out.
"""

from typing import assert_type

import callsheet

assert_type(callsheet.__version__, str)
callsheet.no_such_name  # type: ignore[attr-defined]  # although names load lazily
