"""The client: what applications call, and the thread that sends."""
import atexit
import collections.abc
import datetime
import decimal
import gzip
import json
import logging
import numbers
import os
import secrets
import threading
import time
import uuid
import weakref
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Union

from .queue import DiskQueue, MemoryQueue
from .transport import Again, Done, Smaller, post

LOG = logging.getLogger("pulse_analytics")

# Of a user or the like: integers in most frameworks.
Id = Union[str, int]

MOST_EVENTS = 500
MOST_BYTES = 500_000
FIRST_RETRY = 1.0
LONGEST_RETRY = 300.0
LONGEST_AFTER = 3_600.0


@dataclass(frozen=True)
class Problem:
    """Something that was not sent, or not taken. Nothing is dropped without one."""

    code: str
    message: str
    event_id: Optional[str] = None


class Pulse:
    """Sends events to the pulse at `host` with a write key.

    An event waits for `flush_at` others or `flush_interval` seconds, in memory or in the file `disk`; of more than `max_queue` the
    newest are refused. `on_error` is told of each `Problem`, in whatever thread it is found; without it they are logged.
    """

    def __init__(
        self,
        key: str,
        host: str,
        *,
        flush_at: int = 100,
        flush_interval: float = 1.0,
        max_queue: int = 10_000,
        disk: Optional[str] = None,
        timeout: float = 15.0,
        on_error: Optional[Callable[[Problem], None]] = None,
    ):
        if not key or not host:
            raise ValueError("pulse: `key` and `host` are needed")
        self._key, self._url = key, f"{host.rstrip('/')}/v1/events"
        self._flush_at, self._flush_interval, self._max_queue = flush_at, flush_interval, max_queue
        self._timeout, self._on_error = timeout, on_error
        self._queue = MemoryQueue() if disk is None else DiskQueue(disk)
        self._begin()
        _CLIENTS.add(self)

    def _begin(self):
        """The state of a process; a child begins with its own."""
        # First: whatever fails after it, nobody waits for a lock that is held for ever.
        self._changed = threading.Condition(threading.Lock())
        self._sender = None
        self._is_closed = False
        self._wants_all = False
        # Whether somebody waits: a pause between attempts is over, or also one that the server has asked for, which ends then.
        self._urge = 0
        self._asked_until = 0.0
        self._failures = 0
        self._most = MOST_EVENTS
        self._trouble = None
        self._waiting = self._queue.count()
        self._due = None if self._waiting == 0 else time.monotonic()
        if self._waiting:
            self._start()

    # What applications call.

    def track(self, event: str, user_id: Optional[Id] = None, properties: Optional[Mapping[str, Any]] = None, **extra: Any) -> None:
        """An event. `extra`: `anonymous_id`, `session_id`, `timestamp`, `event_id`, `context`."""
        self._send(event, user_id, {"properties": properties}, extra)

    def page(self, user_id: Optional[Id] = None, properties: Optional[Mapping[str, Any]] = None, **extra: Any) -> None:
        """A page that was shown; its address is `context={"page": {"url": …}}`."""
        self._send("page", user_id, {"properties": properties}, extra)

    def identify(self, user_id: Id, traits: Optional[Mapping[str, Any]] = None, **extra: Any) -> None:
        """What is known of a user; with `anonymous_id`, also who that was."""
        self._send("identify", user_id, {"traits": traits}, extra)

    def group(self, user_id: Id, group_id: str, traits: Optional[Mapping[str, Any]] = None, **extra: Any) -> None:
        """To which group a user belongs."""
        self._send("group", user_id, {"properties": traits}, extra, {"groupId": group_id})

    def alias(self, previous_id: Id, user_id: Id, **extra: Any) -> None:
        """Says that two ids are one person."""
        self._send("alias", user_id, {"previousId": previous_id}, extra)

    def flush(self, timeout: float = 10.0) -> bool:
        """Sends what waits; whether all of it was sent in time. What was not is kept and sent later.

        In the beginning and shortly before the time is over that is tried at once, unless the server has asked to be left alone.
        """
        return self._flush(timeout, 1)

    def close(self, timeout: float = 10.0) -> bool:
        """Sends what waits and ends; whether all of it was sent in time. What was not is lost unless it is on disk.

        As `flush`, and before the end whatever the server has asked for.
        """
        is_sent = self._flush(timeout, 2)
        with self._changed:
            was_closed, self._is_closed = self._is_closed, True
            self._changed.notify_all()
            sender, waiting = self._sender, self._waiting
        if sender is not None and sender is not threading.current_thread():
            sender.join(self._timeout if is_sent else 0.1)
        with self._changed:
            try:
                self._queue.close()
            except Exception:
                LOG.exception("the queue cannot be closed")
        if not is_sent and not was_closed:
            place = "on disk" if isinstance(self._queue, DiskQueue) else "lost"
            self._report(Problem("not_sent", f"{waiting} events could not be sent: they are {place}"))
        _CLIENTS.discard(self)
        return is_sent

    # Inside.

    def _flush(self, timeout, last_urge):
        timeout = threading.TIMEOUT_MAX if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        until = time.monotonic() + timeout
        for urge, end in ((1, until - timeout / 5), (last_urge, until)):
            with self._changed:
                if self._is_closed:
                    # Nobody sends any more.
                    return self._waiting == 0
                if self._waiting and self._sender is None:
                    self._start()
                has_sender = self._sender is not None
                if has_sender or not self._waiting:
                    self._wants_all, self._urge = self._waiting > 0, urge
                    self._changed.notify_all()
                    if self._changed.wait_for(lambda: self._waiting == 0 or self._is_closed, max(0.0, end - time.monotonic())):
                        return self._waiting == 0
            if not has_sender and self._send_here(end, urge):
                return True
        return False

    def _send_here(self, until, urge):
        """Sends in the thread that asks for it; whether all of it was sent in time."""
        while self._waiting and not self._is_closed and (left := until - time.monotonic()) > 0:
            pause = self._send_waiting() if self._ends_pause(urge) else self._asked_until - time.monotonic()
            time.sleep(max(0.0, min(left, pause)))
        return self._waiting == 0

    def _ends_pause(self, urge):
        """Whether it ends a pause of our own making (1), or also one that the server has asked for (2)."""
        is_asked = time.monotonic() < self._asked_until
        return urge > 1 if is_asked else urge > 0

    def _send(self, name, user_id, what, extra, more=None):
        event_id = None
        try:
            event_id = str(extra.pop("event_id", None) or _new_id())
            event = {"type": name, "eventId": event_id, "userId": _id(user_id), "timestamp": extra.pop("timestamp", None)}
            for theirs, ours in (("anonymous_id", "anonymousId"), ("session_id", "sessionId")):
                event[ours] = _id(extra.pop(theirs, None))
            event["context"] = extra.pop("context", None)
            if extra:
                raise TypeError(f"`{next(iter(extra))}` is not known")
            if event["timestamp"] is None:
                event["timestamp"] = time.time_ns() // 1_000_000
            event.update(what)
            if "previousId" in event:
                event["previousId"] = _id(event["previousId"])
            if more:
                event["properties"] = {**(event["properties"] or {}), **more}
            text = json.dumps({key: value for key, value in event.items() if value is not None}, default=_plain, allow_nan=False)
        except Exception as problem:
            # Nothing of this may end what it is part of.
            return self._report(Problem("event_unreadable", str(problem), event_id))
        self._report(self._add(event_id, text.encode()))

    def _add(self, event_id, event):
        with self._changed:
            if self._is_closed:
                return Problem("closed", "the client is closed", event_id)
            if self._waiting >= self._max_queue:
                return Problem("queue_full", f"{self._max_queue} events wait already", event_id)
            try:
                self._queue.add(event_id, event)
            except Exception as problem:
                return Problem("not_kept", f"the queue takes nothing: {problem}", event_id)
            self._waiting += 1
            if self._due is None:
                self._due = time.monotonic() + self._flush_interval
            if self._sender is None:
                self._start()
            # Before, it would wake up for nothing.
            if self._waiting in (1, self._flush_at):
                self._changed.notify_all()
        return None

    def _start(self):
        sender = threading.Thread(target=self._run, name="pulse-sender", daemon=True)
        try:
            sender.start()
        except RuntimeError:
            # None starts while Python ends, or where there are too many: the next event asks again, and `flush` and `close` send.
            return
        self._sender = sender

    def _report(self, problem):
        if problem is None:
            return
        try:
            if self._on_error is not None:
                self._on_error(problem)
            else:
                LOG.warning("%s: %s%s", problem.code, problem.message, f" ({problem.event_id})" if problem.event_id else "")
        except Exception:
            LOG.exception("on_error raises")

    def _is_due(self):
        if self._is_closed or self._due is None:
            return self._is_closed
        return self._wants_all or self._waiting >= self._flush_at or time.monotonic() >= self._due

    def _run(self):
        while True:
            with self._changed:
                while not self._is_due():
                    self._changed.wait(None if self._due is None else max(0.0, self._due - time.monotonic()))
                if self._is_closed:
                    return
                self._urge = 0
            pause = self._send_waiting()
            with self._changed:
                if pause:
                    # The server may be back long before it is over, and those who wait may be about to end.
                    self._changed.wait_for(lambda: self._is_closed or self._ends_pause(self._urge), pause)

    def _send_waiting(self):
        """Sends until nothing waits; seconds to wait before the next attempt."""
        try:
            with self._changed:
                if not self._queue.try_claim():
                    return self._flush_interval
            try:
                while not self._is_closed:
                    if (pause := self._send_one()) is not None:
                        return pause
            finally:
                with self._changed:
                    self._queue.release()
        except Exception as problem:  # A disk that fails, say. The thread goes on.
            if self._is_closed:
                return 0
            self._report(Problem("not_sent", f"will be tried again: {problem!r}"))
            return FIRST_RETRY
        return 0

    def _send_one(self):
        """Sends a batch: `None` if it is settled, else seconds to wait before the next attempt."""
        with self._changed:
            batch = _cut(self._queue.first(self._most))
            if not batch:
                self._waiting, self._due, self._wants_all = 0, None, False
                self._changed.notify_all()
                return 0
        body = b'{"batch":[%s],"sentAt":%d}' % (b",".join(event for _, event in batch), time.time_ns() // 1_000_000)
        fate = post(self._url, self._key, gzip.compress(body, 5), self._timeout)
        if isinstance(fate, Smaller):
            if len(batch) > 1:
                self._most = (len(batch) + 1) // 2
                return None
            fate = Done([{"code": fate.code, "message": fate.message, "eventId": batch[0][0]}])
        if isinstance(fate, Again):
            return self._again(fate)
        with self._changed:
            self._queue.remove([event_id for event_id, _ in batch])
            self._waiting = self._queue.count()
            self._changed.notify_all()
        self._failures, self._trouble, self._most = 0, None, min(MOST_EVENTS, self._most * 2)
        for refused in fate.rejected:
            self._report(Problem(str(refused.get("code")), str(refused.get("message")), refused.get("eventId")))
        return None

    def _again(self, fate):
        if self._trouble != fate.message:
            self._trouble = fate.message
            self._report(Problem(fate.code, fate.message))
        # Full jitter: clients that failed together do not come back together.
        jitter = secrets.SystemRandom().random() * min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(self._failures, 30))
        self._failures += 1
        pause = min(fate.after, LONGEST_AFTER) + jitter
        self._asked_until = time.monotonic() + pause if fate.is_asked else 0.0
        return pause

    def _after_fork_in_child(self):
        try:
            self._queue.after_fork()
            self._begin()
        except Exception:
            LOG.exception("the queue cannot be opened in a child, whose events wait in memory")
            self._queue = MemoryQueue()
            self._begin()


def _cut(events):
    """As many as fit into a request, one at least."""
    size, batch = 0, []
    for event_id, event in events:
        size += len(event)
        if batch and size > MOST_BYTES:
            break
        batch.append((event_id, event))
    return batch


def _new_id():
    """A UUID of version 7: ids sort by the time at which they were made."""
    number = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=number))


def _id(value):
    """Text, which a number is not."""
    return str(value) if isinstance(value, numbers.Number) and not isinstance(value, bool) else value


def _plain(value):
    """What JSON has no word for."""
    if isinstance(value, datetime.datetime):
        return (value if value.tzinfo else value.astimezone()).isoformat()
    if isinstance(value, (datetime.date, uuid.UUID)):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, collections.abc.Mapping):
        return dict(value)
    # Numbers and arrays of numpy and its like.
    if callable(plain := getattr(value, "tolist", None)):
        return plain()
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"`{type(value).__name__}` is no JSON")


_CLIENTS: "weakref.WeakSet[Pulse]" = weakref.WeakSet()
# Held by the thread that forks: the locks of its clients are held as well, so that a child finds no queue half changed.
_FORKING = threading.Lock()
_HELD = []


def _before_fork():
    _FORKING.acquire()
    _HELD.extend(_CLIENTS)
    for client in _HELD:
        client._changed.acquire()


def _after_fork_in_parent():
    while _HELD:
        _HELD.pop()._changed.release()
    _FORKING.release()


def _after_fork_in_child():
    global _FORKING
    _FORKING = threading.Lock()
    while _HELD:
        _HELD.pop()._after_fork_in_child()


@atexit.register
def _close_all():
    for client in list(_CLIENTS):
        client.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
