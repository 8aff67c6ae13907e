"""
The SQLite store: open, write, tidy up, close.

Rule 1: one connection writes, each batch in one `begin immediate … commit`, flushed to disk before it is
    answered.
Rule 2: whether a commit that failed is durable is never guessed: the connection is closed, and the next write
    opens another.
Not here: the commands (a file each), reading (`reader`), what may be opened (`place`), who may (`lock`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final, assert_never

import apsw

from ..contract import (
    Answer,
    Cancel,
    Claim,
    Command,
    Insert,
    NoteLate,
    NoteRunning,
    Prune,
    Publish,
    Register,
    Renew,
    Rescue,
    SetQueue,
    SetSchedule,
    Settle,
    Unregister,
)
from ..errors import OutcomeUnknown, StoreClosed, StoreHeld
from ..records import Now, Owner
from . import forks, place
from .claim import claim
from .connection import check_version, translate, translated, writer
from .definitions import publish
from .insert import insert
from .ledger import Ledger
from .lock import OwnerLock
from .log import Log
from .migration import migrate
from .owners import register, renew, rescue, unregister
from .patience import Patience
from .prune import prune
from .queues import set_queue
from .reader import SqliteReader
from .schedules import set_schedule
from .settle import cancel, note_late, note_running, settle

BUSY_S: Final = 5.0
"""How long somebody else's transaction is waited for."""


class SqliteStore:
    """
    A store in one file.

    name: a path, or `sqlite:///path`. exclusive: take the owner lock, as a runtime does that runs jobs; without it the store
    can be read and written, but others may run its jobs meanwhile. create: make a database where there is none.
    busy_s: how long to wait for somebody else's transaction. anywhere: also on a network file system, and in a folder where
    everybody may replace files; at your own risk.
    """

    def __init__(
        self,
        name: str | os.PathLike[str],
        *,
        exclusive: bool = True,
        create: bool = True,
        busy_s: float = BUSY_S,
        anywhere: bool = False,
    ) -> None:
        self._name = os.fspath(name)
        self._exclusive = exclusive
        self._create = create
        self._patience = Patience(busy_s)
        self._reading_s = busy_s
        self._anywhere = anywhere
        self._path = self._name
        self._pid = 0
        self._lock: OwnerLock | None = None
        self._ledger: Ledger | None = None
        self._log: Log | None = None
        self.turn = threading.Lock()
        forks.watch(self)

    @property
    def name(self) -> str:
        """The path of the database, absolute once it is open."""
        return self._path

    @property
    def exclusive(self) -> bool:
        """Whether it takes the owner lock."""
        return self._exclusive

    @property
    def busy_s(self) -> float:
        """How long it waits for somebody else's transaction. To set it changes nothing for readers."""
        return self._patience.most_s

    @busy_s.setter
    def busy_s(self, seconds: float) -> None:
        self._patience.most_s = seconds

    # ---------------------------------------------------------------- open and close

    def open(self, owner: Owner) -> None:
        """
        Lock it for `owner`, check it, create it where there is none, migrate an older one, and take it into use.

        Raises CannotOpen, StoreHeld, ForeignDatabase, NewerSchema, OlderSchema, DamagedStore, SettingRefused, and
        StoreBusy when an older one is being written all the time; nothing was changed then.
        """
        with self.turn:
            self._open(owner)

    def _open(self, owner: Owner) -> None:
        if self._is_open:
            raise StoreHeld(self._path, owner.pid, None)
        self._path = place.resolve(self._name)
        check_version(self._path)
        forks.check(self._path)
        there = place.check(self._path, make=self._create, anywhere=self._anywhere)
        with contextlib.ExitStack() as undo:
            lock = None
            if self._exclusive or not there:
                lock = OwnerLock.take(self._path, owner)
                undo.callback(lock.release)
            if not (there and place.look(self._path)):
                place.make(self._path)
            self._ledger = self._connect(partial(migrate, self._path, owner=owner, locked=lock is not None))
            if not self._exclusive:
                undo.close()
                lock = None
            self._lock = lock
            self._pid = os.getpid()
            undo.pop_all()

    def close(self) -> None:
        """Copy the log into the database, release the lock and the connection; twice does nothing."""
        with self.turn:
            if self._is_open:  # else it is that of a parent process
                self._disconnect()
                if self._lock is not None:
                    self._lock.release()
                self._lock = None
                self._pid = 0

    def rest(self) -> None:
        """Close the connection, before a fork; the next call opens another."""
        self._drop()

    @property
    def _is_open(self) -> bool:
        return self._pid == os.getpid()

    def _connect(self, prepare: Callable[[apsw.Connection], None] | None = None) -> Ledger:
        with translated(self._path, self.busy_s):
            db = writer(self._path, self._patience)
            try:
                place.refuse_newer(self._path, db)
                if prepare is not None:
                    prepare(db)
                ledger = Ledger(db)
                ledger.fresh()
                self._log = Log(db, self._patience)
            except BaseException:
                db.close()
                raise
        return ledger

    def _disconnect(self) -> None:
        """Close the connection; the last one of a database copies its log, and takes it away."""
        if self._ledger is None:
            return
        db, self._ledger, self._log = self._ledger.db, None, None
        with contextlib.suppress(apsw.Error):
            if self._exclusive:
                db.set_busy_handler(None)
                db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with contextlib.suppress(apsw.Error):
            db.close(True)

    def _drop(self) -> None:
        """
        Close a connection, and leave the log as it is.

        After a commit or rollback that failed, to copy it would flush it once more, and a flush that succeeds after one that
        failed proves nothing.
        """
        if self._ledger is None:
            return
        db, self._ledger, self._log = self._ledger.db, None, None
        with contextlib.suppress(apsw.Error):
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.close(True)

    def _in_use(self) -> Ledger:
        if not self._is_open:
            raise StoreClosed(self._path)
        if self._ledger is None:  # the last commit failed, or the process was forked
            self._ledger = self._connect()
            self._ledger.may_have_missed()
        return self._ledger

    # ---------------------------------------------------------------- write

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """
        Do all of it in one durable transaction, and answer each; when something raises, nothing was stored.
        """
        with self.turn:
            return self._write(commands, now)

    def _write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        ledger = self._in_use()
        if self._log is not None and self._log.is_long:
            self._copy_log()
        with translated(self._path, self.busy_s):
            try:
                ledger.db.execute("begin immediate")
                ledger.fresh()
                answers = _apply(ledger, commands, now)
                ledger.flush()
            except BaseException:
                self._roll_back(ledger)
                raise
        self._finish(ledger)
        return answers

    def _finish(self, ledger: Ledger) -> None:
        try:
            self._commit(ledger.db)
        except (apsw.BusyError, apsw.FullError) as error:  # refused before anything was durable
            self._roll_back(ledger)
            raise translate(error, self._path, self.busy_s) from error
        except apsw.Error as error:
            self._drop()
            raise OutcomeUnknown(self._path, str(error) or type(error).__name__) from error
        except BaseException:
            self._drop()
            raise

    def _commit(self, db: apsw.Connection) -> None:
        """Make it durable. In a method of its own so that a test or a demonstration can fail around it."""
        db.execute("commit")

    def _roll_back(self, ledger: Ledger) -> None:
        try:
            if ledger.db.in_transaction:
                ledger.db.execute("rollback")
            ledger.forget()
        except apsw.Error:
            self._drop()

    def changed(self) -> bool:
        """Whether another connection wrote since this was last asked."""
        with self.turn, translated(self._path, self.busy_s):
            return self._in_use().others_wrote()

    def reader(self) -> SqliteReader:
        """A new Reader on a connection of its own. Raises StoreClosed."""
        if not self._is_open:
            raise StoreClosed(self._path)
        return SqliteReader(self._path, self._reading_s)

    def idle(self) -> None:
        """Copy the log into the database when it has grown."""
        with self.turn:
            if self._log is not None and self._log.is_worth_copying:
                self._in_use()
                self._copy_log()

    def _copy_log(self) -> None:
        if self._log is not None:
            with translated(self._path, self.busy_s):
                self._log.copy()


def _apply(ledger: Ledger, commands: Sequence[Command], now: Now) -> list[Answer]:
    answers: list[Answer] = []
    for kind, group in groupby(commands, type):
        some: Any = list(group)
        if kind is Insert:
            answers.extend(insert(ledger, some))
        elif kind is Settle:
            answers.extend(settle(ledger, some, now))
        else:
            answers.extend(_one(ledger, command, now) for command in some)
    return answers


def _one(ledger: Ledger, command: Command, now: Now) -> Answer:
    match command:
        case Claim():
            return claim(ledger, command, now)
        case Cancel():
            return cancel(ledger, command, now)
        case NoteRunning():
            return note_running(ledger, command)
        case SetQueue():
            return set_queue(ledger, command, now)
        case Renew():
            return renew(ledger, command, now)
        case Rescue():
            return rescue(ledger, command, now)
        case Prune():
            return prune(ledger, command)
        case SetSchedule():
            return set_schedule(ledger, command, now)
        case NoteLate() | Register() | Unregister() | Publish():
            _hear(ledger, command, now)
            return None
        case Insert() | Settle():
            raise AssertionError("these come in groups")
        case _:
            assert_never(command)


def _hear(ledger: Ledger, command: NoteLate | Register | Unregister | Publish, now: Now) -> None:
    """What is answered with None."""
    match command:
        case NoteLate():
            note_late(ledger, command)
        case Register():
            register(ledger, command.owner, now)
        case Unregister():
            unregister(ledger, command.boot_id)
        case Publish():
            publish(ledger, command, now)
        case _:
            assert_never(command)
