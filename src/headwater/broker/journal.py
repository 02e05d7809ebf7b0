"""Group commit of the broker's state: changes from the event loop's thread, one transaction for many, and promises.

Strategy: a change is appended to the open batch. When the first of it has waited `flush_interval_s` and the writer is
idle, the batch is sealed and a writer thread stores it in one transaction while the next one fills. A message that is
saved and deleted again in the same open batch never gets to the disk: a connected subscriber mostly acknowledges
before the batch is sealed.

When the disk refuses, those who wait are told, but nothing is given up: the state in memory has moved on, so its
changes are kept in order and tried again together with newer ones.

Knows no protocol: what has to be stored before something is acknowledged is the caller's to know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from headwater.errors import StorageError
from headwater.logs import Log, Trouble
from headwater.persistence import (
    Change,
    ChangeKind,
    SessionStore,
    StoredOutgoing,
    StoredRetained,
    StoredSession,
    StoredSubscription,
    StoredWill,
)
from headwater.services.promise import Promise

log = Log(__name__)

CHANGE_BYTES = 200
"""What a change counts as beside its payload, properties and topic: about what its objects take."""


@dataclass(frozen=True, slots=True)
class JournalLimits:
    flush_interval_s: float = 0.002
    retry_interval_s: float = 1.0
    max_changes: int = 200_000
    """Changes that may wait for the disk before producers should pause."""
    max_bytes: int = 64 * 2**20
    """The same, by how much memory they hold."""


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What one transaction stores."""

    changes: list[Change]
    size_bytes: int
    promises: list[Promise]
    """Of this batch, behind those of earlier ones that the disk has refused."""


class Journal:
    """Takes changes in; call everything from the event loop's thread, with that loop running."""

    def __init__(self, store: SessionStore, limits: JournalLimits) -> None:
        self._store = store
        self._limits = limits
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal-writer")
        self._open: dict[int, Change] = {}
        """The open batch by running number: in order, and a change in the middle can be taken out."""
        self._open_bytes = 0
        self._opened_at_s = 0.0
        self._last_number = 0
        self._open_messages: dict[tuple[int, int], list[int]] = {}
        """Where messages that were saved in the open batch are saved and marked in it, by session and packet id."""
        self._kept: list[Change] = []
        """What the disk has refused. It goes before the open batch."""
        self._kept_bytes = 0
        self._owed: list[Promise] = []
        """What was promised of that."""
        self._attempts: list[Callable[[], None]] = []
        """Who wants to know when the disk was asked the next time."""
        self._committing: _Sealed | None = None
        self._promise: Promise | None = None
        """Of the open batch, once somebody has asked for it."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_urgent = False
        self._is_closed = False
        self._room_listeners: deque[Callable[[], None]] = deque()
        self._trouble = Trouble(
            log, "storing the broker's state failed and is tried again", "storing the broker's state works again"
        )
        self.is_full = False
        """Whether producers should pause. Nothing is refused, because a change that was left out would make the
        disk contradict the memory: whoever reads from sockets has to look here. Kept up to date as changes come and
        go, because it is looked at for every read of every socket."""
        self._full_at_changes = limits.max_changes
        self._full_at_bytes = limits.max_bytes
        """What makes the open batch full, beside what waits elsewhere."""
        self.stored_changes = 0
        self.commits = 0

    # -- what may be known ------------------------------------------------------------------------------------

    @property
    def is_failing(self) -> bool:
        """Whether the disk refused the last batch."""
        return self._trouble.is_on

    @property
    def recorded(self) -> int:
        """How many changes were taken in so far; that it has grown says that something was recorded meanwhile."""
        return self._last_number

    @property
    def pending_changes(self) -> int:
        committing = len(self._committing.changes) if self._committing is not None else 0
        return len(self._open) + len(self._kept) + committing

    @property
    def pending_bytes(self) -> int:
        committing = self._committing.size_bytes if self._committing is not None else 0
        return self._open_bytes + self._kept_bytes + committing

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` after a commit that makes room, in the order of asking and while there is room."""
        self._room_listeners.append(callback)

    def written(self) -> Promise | None:
        """The promise that everything recorded so far is on disk, or None when it is. All who ask for one batch
        share one promise. While the disk refuses, it stays open; it breaks only when the server ends before the disk
        has taken the changes: nobody is told of a failure that is about to be made good."""
        if self._open or self._kept:
            if self._promise is None:
                self._promise = Promise()
            return self._promise
        return self._committing.promises[-1] if self._committing is not None else None

    # -- changes ----------------------------------------------------------------------------------------------

    def save_session(self, session: StoredSession) -> None:
        size_bytes = CHANGE_BYTES + len(session.client_id)
        if session.will is not None:
            size_bytes += _size_of(session.will)
        self._record((ChangeKind.SAVE_SESSION, session), size_bytes)

    def delete_session(self, session_id: int) -> None:
        """Delete the session and everything of it."""
        self._record((ChangeKind.DELETE_SESSION, session_id))

    def save_subscription(self, subscription: StoredSubscription) -> None:
        self._record((ChangeKind.SAVE_SUBSCRIPTION, subscription), CHANGE_BYTES + len(subscription.topic_filter))

    def delete_subscription(self, session_id: int, topic_filter: str) -> None:
        self._record((ChangeKind.DELETE_SUBSCRIPTION, (session_id, topic_filter)), CHANGE_BYTES + len(topic_filter))

    def save_outgoing(self, message: StoredOutgoing) -> None:
        """The packet id must be free: no message of this session has it, or that one was deleted before."""
        number = self._record((ChangeKind.SAVE_OUTGOING, message), _size_of(message))
        self._open_messages.setdefault((message.session_id, message.packet_id), []).append(number)

    def mark_sent(self, session_id: int, packet_id: int) -> None:
        self._mark(ChangeKind.MARK_SENT, (session_id, packet_id))

    def mark_released(self, session_id: int, packet_id: int) -> None:
        self._mark(ChangeKind.MARK_RELEASED, (session_id, packet_id))

    def delete_outgoing(self, session_id: int, packet_id: int) -> None:
        """Delete a message; one that is in the open batch only is forgotten, with its marks."""
        key = session_id, packet_id
        numbers = self._open_messages.pop(key, None)
        if numbers is None:
            self._record((ChangeKind.DELETE_OUTGOING, key))
            return
        for number in numbers:
            kind, value = self._open.pop(number)
            self._open_bytes -= _size_of(value) if kind is ChangeKind.SAVE_OUTGOING else CHANGE_BYTES
        if self.is_full:
            self._recount()

    def save_received(self, session_id: int, packet_id: int) -> None:
        self._record((ChangeKind.SAVE_RECEIVED, (session_id, packet_id)))

    def delete_received(self, session_id: int, packet_id: int) -> None:
        self._record((ChangeKind.DELETE_RECEIVED, (session_id, packet_id)))

    def save_retained(self, message: StoredRetained) -> None:
        self._record((ChangeKind.SAVE_RETAINED, message), _size_of(message))

    def delete_retained(self, tree: str, topic: str) -> None:
        self._record((ChangeKind.DELETE_RETAINED, (tree, topic)), CHANGE_BYTES + len(topic))

    def _mark(self, kind: ChangeKind, key: tuple[int, int]) -> None:
        number = self._record((kind, key))
        numbers = self._open_messages.get(key)
        if numbers is not None:
            numbers.append(number)

    def _record(self, change: Change, size_bytes: int = CHANGE_BYTES) -> int:
        """Append a change and answer its number."""
        if not self._open:
            self._begin_batch()
        number = self._last_number = self._last_number + 1
        self._open[number] = change
        self._open_bytes += size_bytes
        if self._open_bytes >= self._full_at_bytes or len(self._open) >= self._full_at_changes:
            self.is_full = True
        return number

    def _recount(self) -> None:
        """Something other than the open batch has grown or shrunk; or the batch has shrunk."""
        self._full_at_changes = self._limits.max_changes - (self.pending_changes - len(self._open))
        self._full_at_bytes = self._limits.max_bytes - (self.pending_bytes - self._open_bytes)
        self.is_full = len(self._open) >= self._full_at_changes or self._open_bytes >= self._full_at_bytes

    def _make_room(self) -> None:
        self._recount()
        while self._room_listeners and not self.is_full:
            self._room_listeners.popleft()()

    def _begin_batch(self) -> None:
        if self._is_closed:
            raise StorageError("The broker's state takes no more changes: the server is shutting down.")
        loop = asyncio.get_running_loop()
        self._opened_at_s = loop.time()
        if self._committing is None and self._timer is None:
            self._timer = loop.call_later(self._limits.flush_interval_s, self._flush)

    # -- commits ----------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Seal what waits and hand it to the writer thread, unless that is busy."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._committing is not None:
            return
        promise, self._promise = self._promise or Promise(), None
        self._is_urgent = False
        changes = [*self._kept, *self._open.values()]
        if not changes:  # all of it was taken back
            promise.resolve(None)
            self._make_room()
            return
        sealed = self._committing = _Sealed(changes, self._kept_bytes + self._open_bytes, [*self._owed, promise])
        self._kept, self._kept_bytes, self._owed = [], 0, []
        self._open, self._open_bytes, self._open_messages = {}, 0, {}
        self._recount()
        loop = asyncio.get_running_loop()
        future = self._writer.submit(_store, self._store, changes)
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._committed, sealed, done))

    def _committed(self, sealed: _Sealed, future: Future[None]) -> None:
        self._committing = None
        failure = future.exception()
        if failure is None:
            self.stored_changes += len(sealed.changes)
            self.commits += 1
            self._trouble.end()
        else:
            self._kept, self._kept_bytes, self._owed = sealed.changes, sealed.size_bytes, sealed.promises
            self._trouble.begin(failure)
        self._schedule_next()
        if failure is None:
            for promise in sealed.promises:
                promise.resolve(None)
        attempts, self._attempts = self._attempts, []
        for tell in attempts:
            tell()
        self._make_room()

    def _schedule_next(self) -> None:
        if not (self._open or self._kept or self._promise):
            return
        loop = asyncio.get_running_loop()
        due_s = self._opened_at_s + self._limits.flush_interval_s
        if self._trouble.is_on:
            due_s = loop.time() + self._limits.retry_interval_s
        if self._is_urgent or due_s <= loop.time():
            self._flush()
        else:
            self._timer = loop.call_at(due_s, self._flush)

    async def drain(self) -> None:
        """Return when everything recorded so far is on disk, or the disk has refused it once more."""
        for _ in range(2):  # what is being written now, and what has come since
            if not (self._open or self._kept or self._committing):
                return
            self._is_urgent = True
            self._flush()
            if self._committing is not None:
                asked = asyncio.Event()
                self._attempts.append(asked.set)
                await asked.wait()

    async def close(self) -> None:
        """Take no more changes, and store what was taken in. Leaves the store open."""
        self._is_closed = True
        await self.drain()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        owed, self._owed = self._owed, []
        if self._promise is not None:
            owed.append(self._promise)
            self._promise = None
        for promise in owed:
            promise.resolve(StorageError("The broker's state could not be stored before the server ended."))
        if self._kept:
            log.error("changes of the broker's state are lost, the disk refused them", changes=len(self._kept))
            self._kept, self._kept_bytes = [], 0
        self._writer.shutdown(wait=True)


def _store(store: SessionStore, changes: Sequence[Change]) -> None:
    """Store changes, in one transaction unless one of them can never be stored: that one is found by halving and left
    out, because it must not keep all others from the disk for ever. Runs on the writer thread."""
    try:
        store.apply(changes)
    except StorageError:
        raise
    except Exception as error:
        if len(changes) == 1:
            # By type only: the text of the error may quote the value.
            log.error(
                "a change of the broker's state is unfit to be stored", kind=changes[0][0].name, error=type(error)
            )
            return
        # If the second half fails, the first is stored already, and will be again: that changes nothing.
        middle = len(changes) // 2
        _store(store, changes[:middle])
        _store(store, changes[middle:])


def _size_of(message: StoredOutgoing | StoredRetained | StoredWill) -> int:
    return CHANGE_BYTES + len(message.topic) + len(message.payload) + len(message.properties)
