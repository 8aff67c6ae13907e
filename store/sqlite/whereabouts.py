"""
Folders in which no SQLite database is safe: on a network file system, and where everybody may replace its files.

Rule: looked at before anything is touched; where the system does not tell, nothing is refused.
Not here: the file itself (`place`).
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from ..errors import CannotOpen

MOUNTS: Final = Path("/proc/self/mountinfo")
"""Of Linux; others do not have it."""
NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)
"""Their locks and shared memory do not reach other machines, or not reliably: https://www.sqlite.org/wal.html"""


def check_folder(path: str, folder: Path) -> None:
    """Raises CannotOpen when a database in `folder` could be damaged or replaced by others."""
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise CannotOpen(
            path,
            f"everybody may replace files in {folder} (chmod o-w, or open it with SqliteStore(path, anywhere=True))",
        )
    kind = _file_system(folder)
    if kind in NETWORK:
        raise CannotOpen(
            path,
            f"{folder} is on a network file system ({kind}), where SQLite's log is not safe; if only this machine uses it, "
            "open it with SqliteStore(path, anywhere=True)",
        )


def _file_system(folder: Path) -> str | None:
    """The type of the file system that holds an absolute path; None where that is not told."""
    try:
        lines = MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return None
    longest, kind = -1, None
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields = before.split()
        if not separator or len(fields) < 5:
            continue
        mounted = Path(fields[4].replace("\\040", " "))
        if (mounted == folder or mounted in folder.parents) and len(mounted.parts) >= longest:  # the last one is on top
            longest, kind = len(mounted.parts), after.split()[0]
    return kind
