"""What every store of the broker's state promises, run on each engine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import StorageError
from headwater.persistence import (
    MAX_SESSION_ID,
    Change,
    LoadedState,
    PacketKey,
    SessionStore,
    StoredOutgoing,
    StoredRetained,
    StoredSession,
    StoredSubscription,
    StoredWill,
)
from headwater.persistence import ChangeKind as Kind
from headwater.persistence.memory import MemorySessionStore
from headwater.persistence.sqlite import open_sqlite_session_store
from stored_values import WILL, outgoing, retained, session, subscription


class Engine:
    """One engine's store, which can be closed and opened again where it keeps its state."""

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None else directory / "broker.db"
        self.store: SessionStore = self._open()

    def _open(self) -> SessionStore:
        return MemorySessionStore() if self._path is None else open_sqlite_session_store(self._path)

    def reopen(self) -> None:
        """Close and open again, if the engine outlives its process."""
        if self._path is not None:
            self.store.close()
            self.store = self._open()

    def reload(self) -> LoadedState:
        """What the next start finds."""
        self.reopen()
        return self.store.load()


@contextmanager
def opened(name: str) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(None if name == "memory" else Path(directory))
        try:
            yield engine
        finally:
            engine.store.close()


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with opened(request.param) as engine:
        yield engine


def test_a_new_store_is_empty(engine: Engine) -> None:
    assert engine.store.load() == LoadedState()
    engine.store.apply([])
    assert engine.reload() == LoadedState()


def test_every_value_comes_back_as_it_was(engine: Engine) -> None:
    sessions = [
        session(1),
        session(2, "", owner="anonymous", expiry_s=2**32 - 1, disconnected_at_ns=2**62),
        session(3, "Grüße 🌦", will=WILL),
        session(4, will=WILL._replace(payload=b"", properties=b"", retain=False)),
        session(MAX_SESSION_ID, "client-1", owner="device:7"),
    ]
    subscriptions = [
        subscription(1, "home/+/temperature", options=0x2E, identifier=268_435_455),
        subscription(3, "$share/group/home/#"),
        subscription(MAX_SESSION_ID, '"quoted", [1]', identifier=1),
    ]
    messages = [
        outgoing(1, 65_535, 7, payload=bytes(range(256)), qos=2, retain=True, properties=b"\x26\x00", is_sent=True),
        outgoing(1, 1, 8, payload=b"", subscription_ids=(1,), expires_at_ns=2**62),
        outgoing(3, 1, 1, payload=b"x" * 300_000, subscription_ids=(3, 268_435_455), qos=2, is_released=True),
        outgoing(MAX_SESSION_ID, 65_535, topic="ß" * 100),
    ]
    kept = [
        retained("home/porch", payload=b"\x00\xff" * 5000, properties=b"\x01\x01", expires_at_ns=2**62),
        retained("home/porch", tree="anonymous", payload=b"", qos=0),
    ]
    received = [PacketKey(1, 1), PacketKey(1, 65_535), PacketKey(MAX_SESSION_ID, 65_535)]
    engine.store.apply(
        [(Kind.SAVE_SESSION, value) for value in sessions]
        + [(Kind.SAVE_SUBSCRIPTION, value) for value in subscriptions]
        + [(Kind.SAVE_OUTGOING, value) for value in messages]
        + [(Kind.SAVE_RETAINED, value) for value in kept]
        + [(Kind.SAVE_RECEIVED, tuple(value)) for value in received]
    )
    state = engine.reload()
    assert state.sessions == sessions
    assert state.subscriptions == subscriptions
    assert state.outgoing == messages
    assert state.received == received
    assert sorted(state.retained, key=lambda message: message.tree) == kept
    for message in state.outgoing:
        assert {type(flag) for flag in (message.retain, message.is_released, message.is_sent)} == {bool}


def test_outgoing_messages_come_in_the_order_of_their_positions(engine: Engine) -> None:
    engine.store.apply([(Kind.SAVE_SESSION, session(2)), (Kind.SAVE_SESSION, session(1))])
    for packet_id, position in ((1, 900), (2, 3), (65_535, 20)):
        engine.store.apply([(Kind.SAVE_OUTGOING, outgoing(number, packet_id, position)) for number in (2, 1)])
    found = [(message.session_id, message.packet_id) for message in engine.reload().outgoing]
    assert found == [(1, 2), (1, 65_535), (1, 1), (2, 2), (2, 65_535), (2, 1)]


def test_saving_again_replaces(engine: Engine) -> None:
    first: list[Change] = [
        (Kind.SAVE_SESSION, session(1, will=WILL)),
        (Kind.SAVE_SUBSCRIPTION, subscription(1, "a", 1)),
        (Kind.SAVE_OUTGOING, outgoing(1, 1, is_sent=True, is_released=True)),
        (Kind.SAVE_RETAINED, retained("a", payload=b"old")),
        (Kind.SAVE_RECEIVED, (1, 1)),
    ]
    second: list[Change] = [
        (Kind.SAVE_SESSION, session(1, disconnected_at_ns=5)),
        (Kind.SAVE_SUBSCRIPTION, subscription(1, "a", 2)),
        (Kind.SAVE_OUTGOING, outgoing(1, 1, 50, payload=b"new")),
        (Kind.SAVE_RETAINED, retained("a", payload=b"new", expires_at_ns=9)),
        (Kind.SAVE_RECEIVED, (1, 1)),
    ]
    expected = LoadedState(
        [session(1, disconnected_at_ns=5)],
        [subscription(1, "a", 2)],
        [outgoing(1, 1, 50, payload=b"new")],
        [PacketKey(1, 1)],
        [retained("a", payload=b"new", expires_at_ns=9)],
    )
    engine.store.apply(first)
    engine.store.apply(second)
    assert engine.reload() == expected
    engine.store.apply(first + second)
    assert engine.reload() == expected


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_a_deleted_session_takes_everything_with_it(engine: Engine, is_one_batch: bool) -> None:
    saved: list[Change] = []
    for session_id in (1, 2, 3):
        saved.append((Kind.SAVE_SESSION, session(session_id)))
        saved += [(Kind.SAVE_SUBSCRIPTION, subscription(session_id, topic)) for topic in ("a", "b/#")]
        saved += [(Kind.SAVE_OUTGOING, outgoing(session_id, packet_id)) for packet_id in (1, 65_535)]
        saved += [(Kind.SAVE_RECEIVED, (session_id, packet_id)) for packet_id in (1, 65_535)]
    saved.append((Kind.SAVE_RETAINED, retained("a")))
    deleted: list[Change] = [(Kind.DELETE_SESSION, 2)]
    for batch in [saved + deleted] if is_one_batch else [saved, deleted]:
        engine.store.apply(batch)
    state = engine.reload()
    for part in (state.sessions, state.subscriptions, state.outgoing, state.received):
        assert {value.session_id for value in part} == {1, 3}
    assert (len(state.subscriptions), len(state.outgoing), len(state.received)) == (4, 4, 4)
    assert len(state.retained) == 1


def test_a_session_that_takes_the_place_of_another_starts_without_its_parts(engine: Engine) -> None:
    engine.store.apply([(Kind.SAVE_SESSION, session(1, "porch")), (Kind.SAVE_OUTGOING, outgoing(1, 1))])
    engine.store.apply([(Kind.SAVE_SESSION, session(2, "porch")), (Kind.SAVE_SESSION, session(3, "porch", owner="x"))])
    state = engine.reload()
    assert [value.session_id for value in state.sessions] == [2, 3]
    assert state.outgoing == []


def test_parts_without_a_session_are_left_out_for_good(engine: Engine) -> None:
    engine.store.apply(
        [
            (Kind.DELETE_SESSION, 1),
            (Kind.SAVE_OUTGOING, outgoing(1, 1)),
            (Kind.SAVE_RECEIVED, (1, 1)),
            (Kind.SAVE_SUBSCRIPTION, subscription(1, "a")),
        ]
    )
    assert engine.reload() == LoadedState()
    engine.store.apply([(Kind.SAVE_SESSION, session(1))])
    assert engine.reload() == LoadedState(sessions=[session(1)])


def test_marks_are_kept_and_what_is_not_there_is_not_marked(engine: Engine) -> None:
    engine.store.apply([(Kind.SAVE_SESSION, session(1)), (Kind.SAVE_OUTGOING, outgoing(1, 1))])
    engine.store.apply([(Kind.MARK_SENT, (1, 1)), (Kind.MARK_SENT, (1, 2)), (Kind.MARK_RELEASED, (9, 1))])
    assert engine.reload().outgoing == [outgoing(1, 1, is_sent=True)]
    engine.store.apply(
        [
            (Kind.MARK_RELEASED, (1, 1)),
            (Kind.SAVE_OUTGOING, outgoing(1, 2)),
            (Kind.MARK_SENT, (1, 2)),
            (Kind.MARK_RELEASED, (1, 2)),
        ]
    )
    assert engine.reload().outgoing == [outgoing(1, packet_id, is_sent=True, is_released=True) for packet_id in (1, 2)]


def test_a_mark_of_the_last_message_is_not_one_of_the_next_with_its_packet_id(engine: Engine) -> None:
    engine.store.apply([(Kind.SAVE_SESSION, session(1)), (Kind.SAVE_OUTGOING, outgoing(1, 1))])
    engine.store.apply(
        [
            (Kind.MARK_SENT, (1, 1)),
            (Kind.MARK_RELEASED, (1, 1)),
            (Kind.DELETE_OUTGOING, (1, 1)),
            (Kind.MARK_SENT, (1, 1)),
            (Kind.SAVE_OUTGOING, outgoing(1, 1, 2)),
        ]
    )
    assert engine.reload().outgoing == [outgoing(1, 1, 2)]


def test_deleting_what_is_not_there_changes_nothing(engine: Engine) -> None:
    engine.store.apply([(Kind.SAVE_SESSION, session(1)), (Kind.SAVE_RETAINED, retained("a"))])
    engine.store.apply(
        [
            (Kind.DELETE_SESSION, 2),
            (Kind.DELETE_SUBSCRIPTION, (1, "a")),
            (Kind.DELETE_OUTGOING, (1, 1)),
            (Kind.DELETE_RECEIVED, (1, 1)),
            (Kind.DELETE_RETAINED, ("account:6", "a")),
        ]
    )
    assert engine.reload() == LoadedState(sessions=[session(1)], retained=[retained("a")])


@pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 1500])
def test_batches_of_any_size_are_stored_whole(engine: Engine, count: int) -> None:
    engine.store.apply([(Kind.SAVE_SESSION, session(1))])
    messages = [outgoing(1, packet_id) for packet_id in range(1, count + 1)]
    kept = [retained(f"t/{number}") for number in range(count)]
    subscriptions = [subscription(1, f"t/{number:05}") for number in range(count)]
    engine.store.apply(
        [(Kind.SAVE_OUTGOING, value) for value in messages]
        + [(Kind.SAVE_RETAINED, value) for value in kept]
        + [(Kind.SAVE_SUBSCRIPTION, value) for value in subscriptions]
        + [(Kind.SAVE_RECEIVED, (1, value.packet_id)) for value in messages]
    )
    state = engine.reload()
    assert state.outgoing == messages
    assert sorted(state.retained) == sorted(kept)
    assert state.subscriptions == subscriptions
    assert len(state.received) == count
    engine.store.apply(
        [(Kind.DELETE_OUTGOING, (1, value.packet_id)) for value in messages]
        + [(Kind.DELETE_RECEIVED, (1, value.packet_id)) for value in messages]
        + [(Kind.DELETE_RETAINED, (value.tree, value.topic)) for value in kept]
        + [(Kind.DELETE_SUBSCRIPTION, (1, value.topic_filter)) for value in subscriptions]
    )
    assert engine.reload() == LoadedState(sessions=[session(1)])


def test_a_closed_store_says_so(engine: Engine) -> None:
    engine.store.close()
    engine.store.close()
    with pytest.raises(StorageError, match="closed"):
        engine.store.load()
    with pytest.raises(StorageError, match="closed"):
        engine.store.apply([(Kind.SAVE_RETAINED, retained("a"))])


# -- any sequence of changes ----------------------------------------------------------------------------------------


class Model:
    """The contract in dictionaries."""

    def __init__(self) -> None:
        self.sessions: dict[int, StoredSession] = {}
        self.subscriptions: dict[tuple[int, str], StoredSubscription] = {}
        self.outgoing: dict[tuple[int, int], StoredOutgoing] = {}
        self.received: set[tuple[int, int]] = set()
        self.retained: dict[tuple[str, str], StoredRetained] = {}

    def apply(self, kind: Kind, value: Any) -> None:
        match kind:
            case Kind.SAVE_SESSION:
                self.sessions[value.session_id] = value
            case Kind.DELETE_SESSION:
                self.sessions.pop(value, None)
                self.subscriptions = {key: item for key, item in self.subscriptions.items() if key[0] != value}
                self.outgoing = {key: item for key, item in self.outgoing.items() if key[0] != value}
                self.received = {key for key in self.received if key[0] != value}
            case Kind.SAVE_SUBSCRIPTION:
                self.subscriptions[value.session_id, value.topic_filter] = value
            case Kind.DELETE_SUBSCRIPTION:
                self.subscriptions.pop(value, None)
            case Kind.SAVE_OUTGOING:
                self.outgoing[value.session_id, value.packet_id] = value
            case Kind.MARK_SENT | Kind.MARK_RELEASED:
                mark = "is_sent" if kind is Kind.MARK_SENT else "is_released"
                if value in self.outgoing:
                    self.outgoing[value] = self.outgoing[value]._replace(**{mark: True})
            case Kind.DELETE_OUTGOING:
                self.outgoing.pop(value, None)
            case Kind.SAVE_RECEIVED:
                self.received.add(value)
            case Kind.DELETE_RECEIVED:
                self.received.discard(value)
            case Kind.SAVE_RETAINED:
                self.retained[value.tree, value.topic] = value
            case Kind.DELETE_RETAINED:
                self.retained.pop(value, None)

    def forget_orphans(self) -> None:
        for session_id in {key[0] for key in [*self.subscriptions, *self.outgoing, *self.received]}:
            if session_id not in self.sessions:
                self.apply(Kind.DELETE_SESSION, session_id)

    def check(self, state: LoadedState) -> None:
        assert state.sessions == [self.sessions[session_id] for session_id in sorted(self.sessions)]
        assert sorted(state.subscriptions) == sorted(self.subscriptions.values())
        assert [value.session_id for value in state.subscriptions] == sorted(key[0] for key in self.subscriptions)
        assert state.outgoing == sorted(self.outgoing.values(), key=lambda value: (value.session_id, value.position))
        assert state.received == sorted(self.received)
        assert sorted(state.retained, key=key_of) == sorted(self.retained.values(), key=key_of)


def key_of(message: StoredRetained) -> tuple[str, str]:
    return message.tree, message.topic


SESSION_IDS = st.integers(1, 3)
PACKETS = st.tuples(SESSION_IDS, st.integers(1, 3))
FILTERS = st.sampled_from(["a", "a/#", "+/b", "5"])
FILTER_KEYS = st.tuples(SESSION_IDS, FILTERS)
RETAINED_KEYS = st.tuples(st.sampled_from(["account:5", "anonymous", "5"]), FILTERS)
BYTES = st.binary(max_size=8)
TIMES = st.none() | st.integers(0, 2**63 - 1)
FLAGS = st.booleans()
POSITIONS = st.integers(0, 2**63 - 1)


@st.composite
def messages(draw: st.DrawFn) -> StoredOutgoing:
    session_id, packet_id = draw(PACKETS)
    # A position of its own for each packet id, so that the order is defined.
    position = draw(st.integers(0, 1000)) * 4 + packet_id
    ids = tuple(draw(st.lists(st.integers(1, 2**28 - 1), max_size=3)))
    topic = draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8))
    values = draw(st.tuples(BYTES, st.integers(1, 2), FLAGS, BYTES, TIMES))
    return StoredOutgoing(session_id, packet_id, position, topic, *values, ids, draw(FLAGS), draw(FLAGS))


WILLS = st.none() | st.builds(StoredWill, FILTERS, BYTES, st.integers(0, 2), FLAGS, BYTES)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(
        lambda session_id, will, at_ns: (
            Kind.SAVE_SESSION,
            session(session_id, will=will, disconnected_at_ns=at_ns),
        ),
        SESSION_IDS,
        WILLS,
        TIMES,
    ),
    st.tuples(st.just(Kind.DELETE_SESSION), SESSION_IDS),
    st.builds(
        lambda key, options: (Kind.SAVE_SUBSCRIPTION, subscription(*key, options)), FILTER_KEYS, st.integers(0, 63)
    ),
    st.tuples(st.just(Kind.DELETE_SUBSCRIPTION), FILTER_KEYS),
    st.tuples(st.just(Kind.SAVE_OUTGOING), messages()),
    st.tuples(
        st.sampled_from(
            [
                Kind.MARK_SENT,
                Kind.MARK_RELEASED,
                Kind.DELETE_OUTGOING,
                Kind.SAVE_RECEIVED,
                Kind.DELETE_RECEIVED,
            ]
        ),
        PACKETS,
    ),
    st.builds(
        lambda key, payload: (Kind.SAVE_RETAINED, retained(key[1], key[0], payload=payload)), RETAINED_KEYS, BYTES
    ),
    st.tuples(st.just(Kind.DELETE_RETAINED), RETAINED_KEYS),
)


@pytest.mark.parametrize("name", ["memory", "sqlite"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=st.lists(st.tuples(st.lists(CHANGES, max_size=40), st.booleans(), st.booleans()), max_size=6))
def test_any_changes_leave_what_they_leave_one_by_one(
    name: str, batches: list[tuple[list[Change], bool, bool]]
) -> None:
    model = Model()
    with opened(name) as engine:
        for changes, is_reopened, is_repeated in batches:
            for kind, value in changes:
                model.apply(kind, value)
            engine.store.apply(changes)
            if is_repeated:  # as after a failure of which it is not known how far it got
                engine.store.apply(changes[: len(changes) // 2])
                engine.store.apply(changes)
            if is_reopened:
                model.forget_orphans()
                model.check(engine.reload())
        model.forget_orphans()
        model.check(engine.reload())
