"""The journal: one commit for many changes, promises that tell the truth, and nothing given up when the disk fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gated_store import DEADLINE_S, until
from headwater.broker.journal import CHANGE_BYTES, Journal, JournalLimits
from headwater.errors import StorageError
from headwater.persistence import Change, LoadedState, PacketKey
from headwater.persistence import ChangeKind as Kind
from headwater.persistence.memory import MemorySessionStore
from headwater.persistence.sqlite import open_sqlite_session_store
from headwater.services.promise import Promise
from stored_values import WILL, outgoing, retained, session, subscription

NEVER_S = 3600.0
"""An interval that does not end while a test runs."""
SOON_S = 0.001
FULL = "The broker's state cannot be stored: database or disk is full."


class GatedSessionStore(MemorySessionStore):
    """A memory store behind a gate; open until a test shuts it."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[list[Change]] = []
        """What each call was given, also when it failed."""
        self.failures: list[Exception] = []
        """What the next calls raise, one each."""
        self.is_broken = False
        self.unfit: object = None
        """A value that no call can store."""
        self.threads: set[str] = set()
        self._gate = threading.Event()
        self._gate.set()

    def shut(self) -> None:
        self._gate.clear()

    def open(self) -> None:
        self._gate.set()

    def apply(self, changes: Sequence[Change]) -> None:
        self.applied.append(list(changes))
        self.threads.add(threading.current_thread().name)
        assert self._gate.wait(DEADLINE_S), "the test never opened the gate"
        if self.is_broken:
            raise StorageError(FULL)
        if self.failures:
            raise self.failures.pop(0)
        if self.unfit is not None and any(value is self.unfit for _, value in changes):
            raise TypeError("type 'object' is not supported")
        super().apply(changes)


class Plant(Journal):
    """A journal over a gated store."""

    def __init__(self, limits: JournalLimits) -> None:
        self.store = GatedSessionStore()
        super().__init__(self.store, limits)

    def promise(self) -> Promise:
        promise = self.written()
        assert promise is not None
        return promise


@asynccontextmanager
async def open_plant(**limits: Any) -> AsyncIterator[Plant]:
    plant = Plant(JournalLimits(**{"flush_interval_s": SOON_S, "retry_interval_s": SOON_S} | limits))
    try:
        yield plant
    finally:
        plant.store.open()
        await plant.close()


def outcome_of(promise: Promise) -> list[Exception | None]:
    outcomes: list[Exception | None] = []
    promise.add_callback(outcomes.append)
    return outcomes


# -- group commit -----------------------------------------------------------------------------------------------------


async def test_each_change_reaches_the_store_in_order() -> None:
    message, kept, topics = outgoing(1, 1), retained("a"), subscription(1, "a/#")
    async with open_plant() as plant:
        plant.save_session(session(1, will=WILL))
        plant.delete_session(2)
        plant.save_subscription(topics)
        plant.delete_subscription(1, "b")
        plant.delete_outgoing(1, 1)
        plant.save_outgoing(message)
        plant.mark_sent(1, 1)
        plant.mark_released(1, 1)
        plant.save_received(1, 7)
        plant.delete_received(1, 8)
        plant.save_retained(kept)
        plant.delete_retained("account:5", "b")
        await plant.promise().wait()
        assert plant.store.applied == [
            [
                (Kind.SAVE_SESSION, session(1, will=WILL)),
                (Kind.DELETE_SESSION, 2),
                (Kind.SAVE_SUBSCRIPTION, topics),
                (Kind.DELETE_SUBSCRIPTION, (1, "b")),
                (Kind.DELETE_OUTGOING, (1, 1)),
                (Kind.SAVE_OUTGOING, message),
                (Kind.MARK_SENT, (1, 1)),
                (Kind.MARK_RELEASED, (1, 1)),
                (Kind.SAVE_RECEIVED, (1, 7)),
                (Kind.DELETE_RECEIVED, (1, 8)),
                (Kind.SAVE_RETAINED, kept),
                (Kind.DELETE_RETAINED, ("account:5", "b")),
            ]
        ]
        assert plant.store.load() == LoadedState(
            [session(1, will=WILL)],
            [topics],
            [outgoing(1, 1, is_sent=True, is_released=True)],
            [PacketKey(1, 7)],
            [kept],
        )
        assert plant.store.threads == {"journal-writer_0"}
        assert (plant.stored_changes, plant.commits) == (12, 1)


async def test_one_promise_for_all_of_a_batch_and_none_when_all_is_on_disk() -> None:
    async with open_plant() as plant:
        assert plant.written() is None
        plant.save_received(1, 1)
        first = plant.promise()
        plant.save_received(1, 2)
        assert plant.promise() is first
        await first.wait()
        assert len(plant.store.applied) == 1
        assert plant.written() is None
        assert (plant.pending_changes, plant.pending_bytes) == (0, 0)


async def test_changes_during_a_commit_go_with_the_next_one() -> None:
    async with open_plant() as plant:
        plant.store.shut()
        plant.save_received(1, 1)
        first = plant.promise()
        await until(lambda: plant.store.applied)
        assert plant.written() is first, "nothing newer waits, so the running commit is the promise"
        plant.save_received(1, 2)
        plant.save_received(1, 3)
        second = plant.promise()
        assert second is not first
        assert plant.pending_changes == 3
        outcomes = outcome_of(second)
        await asyncio.sleep(10 * SOON_S)
        assert len(plant.store.applied) == 1, "one commit at a time"
        plant.store.open()
        await first.wait()
        assert outcomes == []
        await second.wait()
        assert [len(batch) for batch in plant.store.applied] == [1, 2]


async def test_a_commit_waits_for_more_as_long_as_it_may() -> None:
    async with open_plant(flush_interval_s=NEVER_S) as plant:
        plant.save_received(1, 1)
        outcomes = outcome_of(plant.promise())
        await asyncio.sleep(10 * SOON_S)
        assert plant.store.applied == []
        await plant.drain()
        assert outcomes == [None]


# -- what was taken back ----------------------------------------------------------------------------------------------


async def test_a_message_that_is_acknowledged_at_once_never_gets_to_the_disk() -> None:
    async with open_plant(flush_interval_s=NEVER_S) as plant:
        plant.save_received(1, 1)
        plant.save_outgoing(outgoing(1, 1))
        plant.save_outgoing(outgoing(1, 2))
        plant.mark_sent(1, 1)
        plant.mark_sent(1, 2)
        plant.mark_released(1, 1)
        plant.delete_outgoing(1, 1)
        plant.save_outgoing(outgoing(1, 1, 3))
        assert plant.pending_changes == 4
        await plant.drain()
        assert plant.store.applied == [
            [
                (Kind.SAVE_RECEIVED, (1, 1)),
                (Kind.SAVE_OUTGOING, outgoing(1, 2)),
                (Kind.MARK_SENT, (1, 2)),
                (Kind.SAVE_OUTGOING, outgoing(1, 1, 3)),
            ]
        ]
        assert plant.pending_bytes == 0


async def test_a_message_that_is_on_its_way_to_the_disk_is_deleted_there() -> None:
    async with open_plant() as plant:
        plant.store.shut()
        plant.save_session(session(1))
        plant.save_outgoing(outgoing(1, 1))
        await until(lambda: plant.store.applied)
        plant.mark_sent(1, 1)
        plant.delete_outgoing(1, 1)
        plant.store.open()
        await plant.drain()
        assert plant.store.applied[1] == [(Kind.MARK_SENT, (1, 1)), (Kind.DELETE_OUTGOING, (1, 1))]
        assert plant.store.load().outgoing == []


async def test_the_next_message_with_a_packet_id_does_not_take_the_deletion_of_the_last_along() -> None:
    async with open_plant(flush_interval_s=NEVER_S) as plant:
        plant.save_session(session(1))
        plant.save_outgoing(outgoing(1, 1))
        await plant.drain()
        plant.delete_outgoing(1, 1)
        plant.save_outgoing(outgoing(1, 1, 2))
        plant.delete_outgoing(1, 1)
        await plant.drain()
        assert plant.store.applied[1] == [(Kind.DELETE_OUTGOING, (1, 1))]
        assert plant.store.load().outgoing == []


async def test_a_promise_is_kept_when_all_it_was_for_was_taken_back() -> None:
    async with open_plant() as plant:
        plant.save_outgoing(outgoing(1, 1))
        promise = plant.promise()
        plant.delete_outgoing(1, 1)
        assert plant.written() is None
        assert (plant.pending_changes, plant.pending_bytes) == (0, 0)
        await promise.wait()
        assert plant.store.applied == []


async def test_a_promise_of_what_was_taken_back_during_a_commit_is_kept_after_it() -> None:
    async with open_plant() as plant:
        plant.store.shut()
        plant.save_received(1, 1)
        await until(lambda: plant.store.applied)
        running = plant.promise()
        plant.save_outgoing(outgoing(1, 1))
        later = plant.promise()
        outcomes = outcome_of(later)
        plant.delete_outgoing(1, 1)
        assert plant.written() is running
        await asyncio.sleep(10 * SOON_S)
        assert outcomes == []
        plant.store.open()
        await later.wait()
        assert len(plant.store.applied) == 1


# -- a disk that fails ------------------------------------------------------------------------------------------------


async def test_what_the_disk_refused_is_kept_and_goes_first(caplog: pytest.LogCaptureFixture) -> None:
    async with open_plant() as plant:
        plant.store.is_broken = True
        plant.save_session(session(1))
        plant.save_outgoing(outgoing(1, 1))
        outcomes = outcome_of(plant.promise())
        await until(lambda: plant.is_failing)
        plant.delete_outgoing(1, 1)
        later = outcome_of(plant.promise())
        await until(lambda: len(plant.store.applied) > 5)
        assert (outcomes, later) == ([], []), "nobody is told of a failure that will be made good"
        assert plant.pending_changes == 3
        assert plant.pending_bytes > 3 * CHANGE_BYTES
        plant.store.is_broken = False
        await until(lambda: not plant.is_failing)
        assert (outcomes, later) == ([None], [None])
        assert plant.store.applied[-1] == [
            (Kind.SAVE_SESSION, session(1)),
            (Kind.SAVE_OUTGOING, outgoing(1, 1)),
            (Kind.DELETE_OUTGOING, (1, 1)),
        ]
        assert plant.store.load() == LoadedState(sessions=[session(1)])
        assert (plant.pending_changes, plant.pending_bytes, plant.written()) == (0, 0, None)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert told == ["storing the broker's state failed and is tried again"]


async def test_each_episode_of_failing_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with open_plant() as plant:
        for _ in range(2):
            plant.store.failures = [StorageError(FULL)] * 3
            plant.save_received(1, 1)
            await until(lambda: plant.pending_changes == 0)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert told == ["storing the broker's state failed and is tried again"] * 2


async def test_the_disk_is_not_tried_more_often_than_it_should_be() -> None:
    async with open_plant(retry_interval_s=NEVER_S) as plant:
        plant.store.failures = [StorageError(FULL)]
        plant.save_received(1, 1)
        await until(lambda: plant.is_failing)
        plant.save_received(1, 2)
        outcomes = outcome_of(plant.promise())
        await asyncio.sleep(10 * SOON_S)
        assert outcomes == []
        assert len(plant.store.applied) == 1
        await plant.drain()
        assert outcomes == [None]
        assert plant.store.applied[1] == [(Kind.SAVE_RECEIVED, (1, 1)), (Kind.SAVE_RECEIVED, (1, 2))]


async def test_a_change_that_can_never_be_stored_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async with open_plant() as plant:
        plant.save_session(session(1))
        for packet_id in range(1, 20):
            plant.save_outgoing(outgoing(1, packet_id))
        plant.store.unfit = unfit = outgoing(1, 20, payload=b"a secret")
        plant.save_outgoing(unfit)
        for packet_id in range(21, 40):
            plant.save_outgoing(outgoing(1, packet_id))
        await plant.promise().wait()
        assert not plant.is_failing
        found = [message.packet_id for message in plant.store.load().outgoing]
        assert found == [packet_id for packet_id in range(1, 40) if packet_id != 20]
    assert "a change of the broker's state is unfit to be stored" in caplog.text
    assert "secret" not in caplog.text


# -- back-pressure ----------------------------------------------------------------------------------------------------


async def test_producers_pause_while_too_many_changes_wait() -> None:
    async with open_plant(max_changes=3) as plant:
        plant.store.shut()
        plant.save_received(1, 1)
        await until(lambda: plant.store.applied)
        plant.save_received(1, 2)
        assert not plant.is_full
        plant.save_received(1, 3)
        assert plant.is_full
        told: list[str] = []
        plant.when_room(lambda: told.append("first"))
        plant.when_room(lambda: told.append("second"))
        await asyncio.sleep(10 * SOON_S)
        assert told == []
        plant.store.open()
        await until(lambda: told == ["first", "second"])
        assert not plant.is_full


async def test_producers_pause_while_too_many_bytes_wait() -> None:
    async with open_plant(flush_interval_s=NEVER_S, max_bytes=10_000) as plant:
        plant.save_retained(retained("a", payload=b"x" * 9000))
        assert not plant.is_full
        plant.save_outgoing(outgoing(1, 1, payload=b"x" * 600))
        assert plant.is_full
        plant.delete_outgoing(1, 1)
        assert not plant.is_full
        plant.save_session(session(1, will=WILL._replace(payload=b"x" * 600)))
        assert plant.is_full


async def test_only_as_many_producers_go_on_as_there_is_room_for() -> None:
    async with open_plant(max_changes=2) as plant:
        plant.store.shut()
        plant.save_received(1, 1)
        plant.save_received(1, 2)
        told: list[int] = []

        def produce(number: int) -> None:
            told.append(number)
            plant.save_received(2, number)

        for number in range(5):
            plant.when_room(lambda number=number: produce(number))
        await until(lambda: plant.store.applied)
        plant.store.open()
        await until(lambda: len(told) == 5)
        assert told == [0, 1, 2, 3, 4]
        await plant.drain()
        assert max(len(batch) for batch in plant.store.applied) <= 2


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_closing_stores_what_was_taken_in_and_takes_no_more() -> None:
    async with open_plant(flush_interval_s=NEVER_S) as plant:
        plant.save_session(session(1))
        await plant.close()
        assert plant.store.load().sessions == [session(1)]
        with pytest.raises(StorageError, match="shutting down"):
            plant.save_session(session(2))
        await plant.close()


async def test_closing_waits_for_a_running_commit_and_for_what_came_meanwhile() -> None:
    async with open_plant() as plant:
        plant.store.shut()
        plant.save_session(session(1))
        await until(lambda: plant.store.applied)
        plant.save_session(session(2))
        closing = asyncio.create_task(plant.close())
        await asyncio.sleep(10 * SOON_S)
        assert not closing.done()
        plant.store.open()
        await closing
        assert [value.session_id for value in plant.store.load().sessions] == [1, 2]


async def test_closing_with_a_failing_disk_tells_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    async with open_plant(retry_interval_s=NEVER_S) as plant:
        plant.store.is_broken = True
        plant.save_session(session(1))
        outcomes = outcome_of(plant.promise())
        await plant.close()
        assert len(outcomes) == 1
        assert isinstance(outcomes[0], StorageError)
        assert "changes of the broker's state are lost" in caplog.text
        plant.store.is_broken = False


async def test_drain_of_an_idle_journal_returns_at_once() -> None:
    async with open_plant() as plant:
        await plant.drain()
        assert plant.store.applied == []


# -- over the real file -----------------------------------------------------------------------------------------------

PACKETS = st.tuples(st.integers(1, 2), st.integers(1, 4))
STEPS = st.one_of(
    st.tuples(st.sampled_from(["save", "sent", "released", "delete"]), PACKETS),
    st.tuples(st.sampled_from(["flush", "wait"]), st.none()),
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEPS, max_size=60))
def test_the_file_holds_what_was_recorded(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    path = tmp_path_factory.mktemp("journal") / "broker.db"
    expected = asyncio.run(record(path, steps))
    with closing(open_sqlite_session_store(path)) as store:
        assert {(message.session_id, message.packet_id): message for message in store.load().outgoing} == expected


async def record(path: Path, steps: list[Any]) -> dict[tuple[int, int], Any]:
    """Take the steps that are possible, as a broker would. Answers the messages that remain."""
    messages: dict[tuple[int, int], Any] = {}
    position = 0
    with closing(open_sqlite_session_store(path)) as store:
        journal = Journal(store, JournalLimits(flush_interval_s=0.0005))
        for session_id in (1, 2):
            journal.save_session(session(session_id))
        for step, packet in steps:
            if step == "flush":
                await journal.drain()
                assert journal.written() is None
            elif step == "wait":
                await asyncio.sleep(0.001)
            elif step == "save" and packet not in messages:
                position += 1
                messages[packet] = outgoing(*packet, position)
                journal.save_outgoing(messages[packet])
            elif step == "sent" and packet in messages:
                messages[packet] = messages[packet]._replace(is_sent=True)
                journal.mark_sent(*packet)
            elif step == "released" and packet in messages:
                messages[packet] = messages[packet]._replace(is_released=True)
                journal.mark_released(*packet)
            elif step == "delete" and packet in messages:
                del messages[packet]
                journal.delete_outgoing(*packet)
        await journal.close()
        assert (journal.pending_changes, journal.pending_bytes) == (0, 0)
    return messages
