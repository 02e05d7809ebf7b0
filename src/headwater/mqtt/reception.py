"""A QoS 2 message of a client on its way to the store of somebody else: what its PUBREC waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headwater.errors import RequestError

if TYPE_CHECKING:
    from headwater.mqtt.session import Session


class Reception:
    """A QoS 2 message of a persistent session's client that goes into another store than the session's record.

    First the message, then its identifier: were the identifier written down first, a crash in between would make us
    acknowledge a message that nobody has. It belongs to the session, because the client may be cut off meanwhile, come
    back and send the message again: then it waits for the same.
    """

    __slots__ = ("_callbacks", "_error", "_is_settled", "_keeps_refused", "_packet_id", "_session")

    def __init__(self, session: Session, packet_id: int, keeps_refused: bool) -> None:
        self._session = session
        self._packet_id = packet_id
        self._keeps_refused = keeps_refused
        self._callbacks: list[Callable[[Exception | None], None]] = []
        self._is_settled = False
        self._error: Exception | None = None

    def add_callback(self, callback: Callable[[Exception | None], None]) -> None:
        """See `publishing.Pending`."""
        if self._is_settled:
            callback(self._error)
        else:
            self._callbacks.append(callback)

    def taken(self, error: Exception | None) -> None:
        """The other store has the message, or has not. A message that was refused for what it says counts as taken
        where its sender cannot be told (`keeps_refused`)."""
        session, record = self._session, self._session.record
        self._error = error
        if error is not None and not (self._keeps_refused and isinstance(error, RequestError)):
            session.forget_received(self._packet_id)
            self._settle(None)
            return
        written = None
        if record is not None:
            record.save_received(self._packet_id)
            written = record.written()
        if written is None:
            self._settle(None)
        else:
            written.add_callback(self._settle)

    def _settle(self, error: Exception | None) -> None:
        self._error = self._error or error
        self._is_settled = True
        if self._session.receiving is not None:
            self._session.receiving.pop(self._packet_id, None)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self._error)
