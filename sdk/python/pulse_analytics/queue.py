"""Where events wait, by ids that sort by time. Not safe by itself: the client holds its lock around each call."""
import itertools
import os
import sqlite3

try:
    import fcntl
except ImportError:  # Not on this system: what two processes send counts once all the same.
    fcntl = None


class MemoryQueue:
    """In memory, and gone with the process."""

    def __init__(self):
        self._events = {}

    def add(self, event_id, event):
        self._events[event_id] = event

    def first(self, count):
        return list(itertools.islice(self._events.items(), count))

    def remove(self, ids):
        for event_id in ids:
            self._events.pop(event_id, None)

    def count(self):
        return len(self._events)

    def try_claim(self):
        return True

    def release(self):
        pass

    def after_fork(self):
        """The parent sends what it had."""
        self._events = {}

    def close(self):
        pass


class DiskQueue:
    """In a SQLite file that processes may share: of them one sends at a time."""

    # Connections of the parent. SQLite must neither use nor close them in a child.
    _of_parents = []

    def __init__(self, path):
        self._path = os.fspath(path)
        self._lock_file = None
        self._open()

    def _open(self):
        # Written from several threads, one at a time.
        self._connection = sqlite3.connect(self._path, timeout=10, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, event BLOB NOT NULL) WITHOUT ROWID")

    def add(self, event_id, event):
        self._connection.execute("INSERT OR REPLACE INTO events VALUES (?, ?)", (event_id, event))

    def first(self, count):
        return self._connection.execute("SELECT id, event FROM events ORDER BY id LIMIT ?", (count,)).fetchall()

    def remove(self, ids):
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany("DELETE FROM events WHERE id = ?", [(event_id,) for event_id in ids])
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def count(self):
        return self._connection.execute("SELECT count(*) FROM events").fetchone()[0]

    def try_claim(self):
        """Whether this process may send now. The claim ends with the process, however it ends."""
        if fcntl is None:
            return True
        if self._lock_file is None:
            self._lock_file = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def release(self):
        if fcntl is not None and self._lock_file is not None:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def after_fork(self):
        self._of_parents.append(self._connection)
        if self._lock_file is not None:
            # Closed and not unlocked: the parent may be sending.
            lock_file, self._lock_file = self._lock_file, None
            os.close(lock_file)
        self._open()

    def close(self):
        self._connection.close()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None
