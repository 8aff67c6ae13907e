"""
A store in one SQLite file.

Rule: nothing outside this folder knows SQL or apsw.
Read first: `schema` (the tables), `store` (open, write, close), then a file for each kind of command.
Not here: what the commands mean (`..contract`).
"""

from .store import SqliteStore

__all__ = ["SqliteStore"]
