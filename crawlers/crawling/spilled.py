"""Sets and maps that may grow to every model of the hub: small ones live in memory, large ones on disk.

Each is a temporary SQLite database of this process: its pages stay in a cache of fixed size until they no longer fit,
only then does a file appear in the system's temporary folder, and it is gone with the process, however that ends.
What they hold can be read again from the crawl's own files, so nothing of them has to survive.
"""

import hashlib
import sqlite3
import threading

_CACHE_KIB = 4096


class SpilledSet:
    """A set of texts, of which only eight bytes' hash is kept: one error in a million entries is a 1 : 10⁷ chance."""

    def __init__(self) -> None:
        self._database = _database("CREATE TABLE entries (hash INTEGER PRIMARY KEY)")

    def add(self, text: str) -> bool:
        """Return whether the text is new."""
        return self._database.execute("INSERT OR IGNORE INTO entries VALUES (?)", (_hash(text),)).rowcount == 1

    def __contains__(self, text: str) -> bool:
        found = self._database.execute("SELECT 1 FROM entries WHERE hash = ?", (_hash(text),))
        return found.fetchone() is not None

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM entries").fetchone()[0])


class SpilledMap:
    """A map from text to text. Safe to share between threads."""

    def __init__(self) -> None:
        self._database = _database("CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._lock = threading.Lock()

    def get(self, key: str) -> str | None:
        """Return the value, None for a key that is not there."""
        with self._lock:
            found = self._database.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        return found[0] if found is not None else None

    def __setitem__(self, key: str, value: str) -> None:
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (key, value))

    def setdefault(self, key: str, value: str) -> str:
        """Return the value that was there first."""
        with self._lock:
            self._database.execute("INSERT OR IGNORE INTO entries VALUES (?, ?)", (key, value))
            found = self._database.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        return str(found[0])


class SpilledCounter:
    """Counts texts."""

    def __init__(self) -> None:
        self._database = _database("CREATE TABLE entries (key TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID")

    def add(self, key: str) -> None:
        self._database.execute(
            "INSERT INTO entries VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET value = value + 1", (key,)
        )

    def __getitem__(self, key: str) -> int:
        found = self._database.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        return int(found[0]) if found is not None else 0


def _database(table: str) -> sqlite3.Connection:
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    database.execute(table)
    database.execute("BEGIN")  # never ended: nothing is to be kept, and each statement alone would be a transaction
    return database


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
