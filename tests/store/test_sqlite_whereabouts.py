"""Folders in which no database is opened or made."""

from __future__ import annotations

from pathlib import Path

import pytest

from callsheet.store.errors import CannotOpen
from callsheet.store.records import Owner
from callsheet.store.sqlite import SqliteStore, whereabouts

OWNER = Owner("boot-a", 1, "h", 1)


def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """What the system says of its file systems."""
    told = tmp_path / "mountinfo"
    told.write_text("".join(f"{n} 1 0:1 / {line}\n" for n, line in enumerate(lines)))
    monkeypatch.setattr(whereabouts, "MOUNTS", told)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_s2_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, exclusive: bool
) -> None:
    """With its type, and what would do; nothing was made. Whoever knows better may say so."""
    folder = tmp_path / "my share" / "deep"
    folder.mkdir(parents=True)
    shared = str(tmp_path / "my share").replace(" ", "\\040")
    mounts(
        tmp_path,
        monkeypatch,
        "/ rw - ext4 /dev/x rw",
        f"{shared} rw shared:1 - {kind} host:/x rw",
        "/proc rw - proc p rw",
    )

    with pytest.raises(CannotOpen, match=rf"is on a network file system \({kind}\).*anywhere=True"):
        SqliteStore(folder / "jobs.db", exclusive=exclusive).open(OWNER)

    assert [] == [*folder.iterdir()]
    store = SqliteStore(folder / "jobs.db", exclusive=exclusive, anywhere=True)
    store.open(OWNER)
    store.close()


def test_s2_what_is_mounted_on_top_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk inside of a share, or over it, is a disk."""
    mounts(
        tmp_path,
        monkeypatch,
        "/ rw - nfs host:/ rw",
        "garbage",
        f"{tmp_path} rw - nfs host:/y rw",
        f"{tmp_path} rw - ext4 /dev/y rw",
    )

    store = SqliteStore(tmp_path / "jobs.db")
    store.open(OWNER)
    store.close()


def test_s2_where_the_system_tells_nothing_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system without /proc."""
    monkeypatch.setattr(whereabouts, "MOUNTS", tmp_path / "none")

    store = SqliteStore(tmp_path / "jobs.db")
    store.open(OWNER)
    store.close()


def test_s2_a_folder_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    """Anybody could put another file in the place of the database; a folder like /tmp, where nobody can, is taken."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)

    with pytest.raises(CannotOpen, match=r"everybody may replace files in .*chmod o-w"):
        SqliteStore(folder / "jobs.db").open(OWNER)

    assert [] == [*folder.iterdir()]
    folder.chmod(0o1777)
    store = SqliteStore(folder / "jobs.db")
    store.open(OWNER)
    store.close()
