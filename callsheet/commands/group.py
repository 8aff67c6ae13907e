"""
How a command ends: whatever happens becomes one sentence on stderr and an exit status.

Rule: a mistake of the user is never a traceback; a mistake of ours always is.
Not here: which status (`statuses`).
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

from ..store.errors import CallsheetError
from .paper import drop_stdout, note
from .statuses import INTERRUPTED, IO, OK, SOFTWARE, USAGE, status_of

_Told: Final = next(each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException")
"""What typer raises for wrong use; it has no public name in every release."""


class Group(TyperGroup):
    """All commands of the program."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one, and end the process with its status."""
        _write_anything()

        def called() -> Any:
            return super(Group, self).main(
                args, prog_name, complete_var, standalone_mode=False, windows_expand_args=windows_expand_args, **extra
            )

        if not standalone_mode:
            return called()
        raise SystemExit(_flushed(_ended(called)))


def _write_anything() -> None:
    """Also a character that the terminal's encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _ended(called: Any) -> int:
    try:
        status = called()
    except typer.Abort:  # Ctrl-C, or the end of what was asked for at a prompt
        return INTERRUPTED
    except CallsheetError as error:
        note(f"callsheet: {error}")
        return status_of(error)
    except OSError as error:
        note(f"callsheet: {error.filename or 'input or output'}: {error.strerror or error}")
        return IO
    except Exception as error:  # noqa: BLE001 -- told below, whole where it is ours
        if isinstance(error, _Told):
            return _misused(error)
        note(traceback.format_exc())
        note("callsheet: this is a mistake in callsheet itself; please report it, with what stands above")
        return SOFTWARE
    return status if isinstance(status, int) else OK


def _misused(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help, unless that was shown already
        if error.message:
            typer.echo(error.message)
        return USAGE
    context = getattr(error, "ctx", None)
    if context is not None:
        note(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.")
    note(f"Error: {error.format_message()}")
    return int(getattr(error, "exit_code", USAGE))


def _flushed(status: int) -> int:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
    except OSError as error:
        drop_stdout()
        note(f"callsheet: standard output: {error.strerror or error}")
        return status or IO
    return status
