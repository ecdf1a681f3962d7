"""Keeps JSON records and their items: in the memory of this process, or in a file that processes share.

A record stands under a key and owns a list of items, each with an id.
All of it is kept as JSON text, so that no caller can change what another one stored.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import tenacity

from allos.errors import ConfigurationError

__all__ = ["FileStore", "Item", "MemoryStore", "Store", "open_store"]

MOST_RECORDS = 1_000
MOST_BYTES = 64 * 2**20
_PATIENCE = 10.0  # seconds that one writer waits for the others

JSON = dict[str, Any]


class Item(NamedTuple):
    """One item of a record, as it was said, and the id that it is known by."""

    id: str
    data: JSON


class Store(Protocol):
    """Where records are kept. Every method is safe to call from any thread, and whole or not at all."""

    def get(self, key: str) -> JSON | None:
        """The record under this key."""

    def put(self, key: str, record: Mapping[str, Any], items: Sequence[Item] = ()) -> None:
        """Keep a record with its items in place of what stood under the key."""

    def change(self, key: str, record: Mapping[str, Any]) -> bool:
        """Keep another record and the same items; False where there is none to change."""

    def delete(self, key: str) -> bool:
        """Forget a record and its items; False where there is none."""

    def items(self, key: str) -> list[Item]:
        """The record's items, oldest first."""

    def append(self, key: str, items: Sequence[Item]) -> bool:
        """Add items to a record; False where there is none."""

    def remove(self, key: str, item_id: str) -> bool:
        """Forget one item of a record; False where there is none."""

    def find(self, item_id: str) -> Item | None:
        """The item with that id, whichever record owns it."""


def open_store(path: str | os.PathLike[str] | None = None) -> Store:
    """The store in a file, or the one in this process's memory where no path is given.

    The memory store is one for the whole process and holds 1,000 records or 64 MiB, whichever is reached first:
    what was not used for longest goes first.
    A file keeps everything until it is deleted there, may be used by many processes at once, and is made readable
    for its owner only. Raises `ConfigurationError` for a file that can't be used.
    """
    if not path:
        return _MEMORY
    place = os.path.abspath(os.path.expanduser(os.fspath(path)))
    with _FILES_LOCK:
        store = _FILES.get(place)
        if store is None:
            store = _FILES[place] = FileStore(place)
        return store


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))  # ASCII: one character is one byte, and any text survives


@dataclass(slots=True)
class _Entry:
    record: str
    items: list[tuple[str, str]]
    size: int


class MemoryStore:
    """Keeps records until there are too many of them; the newest one always stays."""

    def __init__(self, *, most_records: int = MOST_RECORDS, most_bytes: int = MOST_BYTES) -> None:
        self.lock = threading.Lock()
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._bytes = 0
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first

    def get(self, key: str) -> JSON | None:
        """See `Store.get`."""
        with self.lock:
            entry = self._used(key)
        return None if entry is None else json.loads(entry.record)

    def put(self, key: str, record: Mapping[str, Any], items: Sequence[Item] = ()) -> None:
        """See `Store.put`."""
        entry = _Entry(_dump(record), [], 0)
        with self.lock:
            self._forget(key)
            self._entries[key] = entry
            self._grow(entry, len(entry.record))
            self._extend(entry, items)

    def change(self, key: str, record: Mapping[str, Any]) -> bool:
        """See `Store.change`."""
        text = _dump(record)
        with self.lock:
            entry = self._used(key)
            if entry is not None:
                self._grow(entry, len(text) - len(entry.record))
                entry.record = text
        return entry is not None

    def delete(self, key: str) -> bool:
        """See `Store.delete`."""
        with self.lock:
            return self._forget(key)

    def items(self, key: str) -> list[Item]:
        """See `Store.items`."""
        with self.lock:
            entry = self._used(key)
            found = [] if entry is None else list(entry.items)
        return [Item(item_id, json.loads(text)) for item_id, text in found]

    def append(self, key: str, items: Sequence[Item]) -> bool:
        """See `Store.append`."""
        with self.lock:
            entry = self._used(key)
            if entry is not None:
                self._extend(entry, items)
        return entry is not None

    def remove(self, key: str, item_id: str) -> bool:
        """See `Store.remove`."""
        with self.lock:
            entry = self._used(key)
            gone = [] if entry is None else [pair for pair in entry.items if pair[0] == item_id]
            if entry is not None and gone:
                entry.items = [pair for pair in entry.items if pair[0] != item_id]
                self._grow(entry, -sum(len(text) for _, text in gone))
        return bool(gone)

    def find(self, item_id: str) -> Item | None:
        """See `Store.find`."""
        with self.lock:
            for entry in reversed(self._entries.values()):
                for known, text in reversed(entry.items):
                    if known == item_id:
                        return Item(item_id, json.loads(text))
        return None

    def _used(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def _forget(self, key: str) -> bool:
        entry = self._entries.pop(key, None)
        self._bytes -= entry.size if entry is not None else 0
        return entry is not None

    def _extend(self, entry: _Entry, items: Sequence[Item]) -> None:
        new = [(item.id, _dump(item.data)) for item in items]
        entry.items += new
        self._grow(entry, sum(len(text) for _, text in new))

    def _grow(self, entry: _Entry, size: int) -> None:
        entry.size += size
        self._bytes += size
        while len(self._entries) > 1 and (len(self._entries) > self._most_records or self._bytes > self._most_bytes):
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.size


_VERSION = 1
_SCHEMA = (
    "CREATE TABLE records (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE items (number INTEGER PRIMARY KEY, key TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL)",
    "CREATE INDEX items_by_key ON items (key, number)",
    "CREATE INDEX items_by_id ON items (id, number)",
    f"PRAGMA user_version = {_VERSION}",
)


class FileStore:
    """Keeps records in an SQLite file, which threads and processes may write at the same time.

    Each process has one connection: a forked child opens its own, because SQLite allows no other use.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connect()

    def get(self, key: str) -> JSON | None:
        """See `Store.get`."""
        with self._connection() as database:
            row = database.execute("SELECT body FROM records WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, record: Mapping[str, Any], items: Sequence[Item] = ()) -> None:
        """See `Store.put`."""
        with self._transaction() as database:
            database.execute("DELETE FROM items WHERE key = ?", (key,))
            database.execute("INSERT OR REPLACE INTO records (key, body) VALUES (?, ?)", (key, _dump(record)))
            self._insert(database, key, items)

    def change(self, key: str, record: Mapping[str, Any]) -> bool:
        """See `Store.change`."""
        with self._transaction() as database:
            changed = database.execute("UPDATE records SET body = ? WHERE key = ?", (_dump(record), key))
            return changed.rowcount > 0

    def delete(self, key: str) -> bool:
        """See `Store.delete`."""
        with self._transaction() as database:
            database.execute("DELETE FROM items WHERE key = ?", (key,))
            return database.execute("DELETE FROM records WHERE key = ?", (key,)).rowcount > 0

    def items(self, key: str) -> list[Item]:
        """See `Store.items`."""
        with self._connection() as database:
            rows = database.execute("SELECT id, body FROM items WHERE key = ? ORDER BY number", (key,)).fetchall()
        return [Item(item_id, json.loads(text)) for item_id, text in rows]

    def append(self, key: str, items: Sequence[Item]) -> bool:
        """See `Store.append`."""
        with self._transaction() as database:
            if database.execute("SELECT 1 FROM records WHERE key = ?", (key,)).fetchone() is None:
                return False
            self._insert(database, key, items)
            return True

    def remove(self, key: str, item_id: str) -> bool:
        """See `Store.remove`."""
        with self._transaction() as database:
            return database.execute("DELETE FROM items WHERE key = ? AND id = ?", (key, item_id)).rowcount > 0

    def find(self, item_id: str) -> Item | None:
        """See `Store.find`."""
        with self._connection() as database:
            query = "SELECT body FROM items WHERE id = ? ORDER BY number DESC LIMIT 1"
            row = database.execute(query, (item_id,)).fetchone()
        return None if row is None else Item(item_id, json.loads(row[0]))

    @staticmethod
    def _insert(database: sqlite3.Connection, key: str, items: Sequence[Item]) -> None:
        rows = ((key, item.id, _dump(item.data)) for item in items)
        database.executemany("INSERT INTO items (key, id, body) VALUES (?, ?, ?)", rows)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._process != os.getpid():
            _INHERITED.append(self._database)  # not even to be closed: that would touch the parent's locks
            self._connect()
        with self._lock, self._explained():
            yield self._database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        # IMMEDIATE, because a transaction that begins to write later is refused at once where another one writes.
        with self._connection() as database, database:
            database.execute("BEGIN IMMEDIATE")
            yield database

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            fix = "Free some space" if is_full else "Move it away"
            raise ConfigurationError(
                f"The state file {self._path!r} can't be used: {error}. {fix}, or name another in ALLOS_STATE."
            ) from error

    def _connect(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        with self._explained():
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its side files the same mode
            self._database = sqlite3.connect(
                self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, _close, self._database, self._process)
            self._prepare(self._database)

    @classmethod
    def _prepare(cls, database: sqlite3.Connection) -> None:
        is_new = cls._is_new(database)
        for attempt in tenacity.Retrying(**_WHILE_BUSY):  # SQLite itself does not wait for others that switch just now
            with attempt:
                database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        if is_new:
            with database:
                database.execute("BEGIN IMMEDIATE")
                if cls._is_new(database):  # another process may have been faster
                    for statement in _SCHEMA:
                        database.execute(statement)

    @staticmethod
    def _is_new(database: sqlite3.Connection) -> bool:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if tables and (version != _VERSION or not tables >= {"records", "items"}):
            raise sqlite3.DatabaseError("it is a database of another program or of a newer Allos")
        return not tables


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


_WHILE_BUSY: Mapping[str, Any] = {
    "retry": tenacity.retry_if_exception(_is_busy),
    "wait": tenacity.wait_random(0.01, 0.1),
    "stop": tenacity.stop_after_delay(_PATIENCE),
    "reraise": True,
}


def _close(database: sqlite3.Connection, process: int) -> None:
    if process == os.getpid():
        database.close()


_INHERITED: list[sqlite3.Connection] = []
_FILES: weakref.WeakValueDictionary[str, FileStore] = weakref.WeakValueDictionary()
_FILES_LOCK = threading.Lock()
_MEMORY = MemoryStore()
if hasattr(os, "register_at_fork"):
    for _lock in (_FILES_LOCK, _MEMORY.lock):  # a child must not inherit a lock that nobody will release
        os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
