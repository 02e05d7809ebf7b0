"""One MQTT client's socket: bytes between the event loop and a `ServerProtocol`. Decides nothing about MQTT.

The event loop reads into one buffer for all connections (uvloop) or makes the bytes for each read (asyncio), so an idle
connection holds no buffer, and only an unfinished packet has to be kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast

from headwater.broker.pace import Pace
from headwater.broker.requests import Requests
from headwater.certificates import common_name
from headwater.errors import HeadwaterError, StorageError
from headwater.logs import Log
from headwater.model.principal import Principal
from headwater.mqtt.errors import MqttProtocolError
from headwater.mqtt.limits import COPIES_PER_TURN
from headwater.mqtt.packets import Connect
from headwater.mqtt.protocol import ServerProtocol
from headwater.mqtt.reason_codes import ReasonCode

if TYPE_CHECKING:
    from headwater.broker.broker import Broker

LINGER_S = 1.0
"""How long a client that was told why its connection ends may take to close it. A socket that is closed at once answers
whatever the client still sends with a reset, and a client that is busy sending fails before it has read the reason."""

NOT_STORED = "a message could not be stored"

log = Log(__name__)


class Connection(Requests, asyncio.Protocol):
    """The handler of its `ServerProtocol` and the protocol of its transport."""

    __slots__ = (
        "__weakref__",
        "_has_left",
        "_held",
        "_is_others_turn",
        "_pace",
        "_signing_in",
        "_taken_at_s",
        "_taken_bytes",
        "_transport",
        "active_at_s",
        "address",
        "connected_at_ns",
        "number",
        "received_bytes",
        "sent_bytes",
        "transport_name",
        "waits_for_room",
    )

    def __init__(self, broker: Broker, transport_name: str = "tcp") -> None:
        super().__init__(broker)
        self._transport: asyncio.Transport | None = None
        self.protocol = ServerProtocol(self, broker.protocol_limits, broker.turn)
        self.transport_name = transport_name
        self.number = 0
        self.address = ""
        self.connected_at_ns = 0
        self.active_at_s = 0.0
        """When the last whole packet arrived (loop time), or when we listened again; before CONNECT, when the
        connection was made."""
        self.received_bytes = 0
        self.sent_bytes = 0
        self._taken_bytes = 0
        self._taken_at_s = 0.0
        """See `unread_s`."""
        self.waits_for_room = False
        """Not read from, because too much waits for the disk."""
        self._held = b""
        """Read, but not taken in yet. Invariant: while there is some, `_must_wait` is true and the socket is not read;
        whatever makes `_must_wait` false calls `_go_on`, which takes this in before it reads on."""
        self._is_others_turn = False
        self._has_left = False
        self._signing_in: asyncio.Task[None] | None = None
        self._pace: Pace | None = None

    @property
    def is_here(self) -> bool:
        """Whether it has not been closed, by whomever."""
        return not self._has_left

    @property
    def _must_wait(self) -> bool:
        """Why the socket is not read: there is no room on the disk, others have their turn (or the client was faster
        than it may), it is being found out who the client is, or the client does not read what it is sent."""
        is_ours = self.waits_for_room or self._is_others_turn or self._signing_in is not None
        return is_ours or self.protocol.is_congested

    @property
    def certificate_name(self) -> str | None:
        """The common name of the client's certificate, if it showed one that was verified."""
        transport = self._transport
        return None if transport is None else common_name(transport.get_extra_info("peercert"))

    # -- asyncio ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's transports are not of asyncio's classes
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"
        self.active_at_s = self._broker.loop.time()
        self.connected_at_ns = time.time_ns()
        settings = self._broker.settings
        transport.set_write_buffer_limits(high=settings.max_write_buffer_bytes)
        if settings.max_messages_per_second or settings.max_bytes_per_second:
            self._pace = Pace(settings.max_messages_per_second, settings.max_bytes_per_second)
        reason = self._broker.add(self)
        if reason is not None:
            self.abort(reason)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self.protocol.is_finished:
            return
        broker = self._broker
        self.received_bytes += len(data)
        is_full = broker.ingest.is_full or broker.journal.is_full
        if is_full or self._must_wait:
            # Others read in the same turn of the loop have filled it, or there is something left to do first: keep
            # what is here already.
            self._held += data
            if is_full:
                self._wait_for_room()
        elif len(data) > broker.bytes_per_turn or self._pace is not None:
            self._held = data
            self._receive_held()
        else:
            self._receive(data)

    def _receive_held(self) -> None:
        """Take in as much as one client may in its turn."""
        held, most = self._held, self._broker.bytes_per_turn
        if self._pace is not None:
            most = min(most, self._pace.portion_bytes(self._broker.loop.time()))
        self._held = held[most:]
        self._receive(held[:most])
        self._let_others_read()

    def _receive(self, data: bytes) -> None:
        broker, protocol, transport = self._broker, self.protocol, self._transport
        assert transport is not None
        broker.turn.left = COPIES_PER_TURN
        try:
            if protocol.receive(data, time.time_ns()):
                self.active_at_s = broker.loop.time()
        except (MqttProtocolError, StorageError) as error:
            self._close_for(error)
            return
        output = protocol.take_output()
        if output:
            self.sent_bytes += len(output)
            transport.write(output)
        if protocol.is_finished:
            self._shut(transport)
        elif broker.ingest.is_full or broker.journal.is_full:
            self._wait_for_room()
        elif self._pace is not None:
            taken_bytes = self.received_bytes - len(self._held)
            self._let_others_read(self._pace.pause_s(broker.loop.time(), protocol.received_messages, taken_bytes))
        elif protocol.is_stalled:
            self._let_others_read()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._held = b""
        self._leave()
        self._broker.remove(self)

    def pause_writing(self) -> None:
        """The client does not read what it is sent: take nothing more from it either."""
        self._await_progress()
        self.protocol.is_congested = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.protocol.is_congested = False
        self.protocol.go_on()
        self._listen_again()

    def _await_progress(self) -> None:
        """From now on, the client is expected to read."""
        self._taken_at_s = self._broker.loop.time()

    def unread_s(self, now_s: float) -> float:
        """For how long the client has taken nothing of what waits for it, as far as the last looks could tell."""
        waiting_bytes = 0 if self._transport is None else self._transport.get_write_buffer_size()
        taken_bytes = self.sent_bytes - waiting_bytes
        if taken_bytes > self._taken_bytes:
            self._taken_at_s = now_s
        self._taken_bytes = taken_bytes
        return now_s - self._taken_at_s

    def _let_others_read(self, pause_s: float = 0.0) -> None:
        """There is more to do: in the next turn of the loop. uvloop would read up to 32 buffers in this one while every
        other socket waits."""
        if self._transport is not None and not self._is_others_turn and not self.protocol.is_finished:
            self._is_others_turn = True
            self._transport.pause_reading()
            if pause_s:
                if self.protocol.is_connected:  # until then nobody listens: the silence is not the client's
                    self.active_at_s = self._broker.loop.time() + pause_s
                self._broker.loop.call_later(pause_s, self._others_had_their_turn)
            else:
                self._broker.loop.call_soon(self._others_had_their_turn)

    def _others_had_their_turn(self) -> None:
        self._is_others_turn = False
        self._go_on()

    def _wait_for_room(self) -> None:
        if self._transport is not None and not self.waits_for_room:
            self.waits_for_room = True
            self._transport.pause_reading()
            self._broker.when_room(self._room_made)

    def _room_made(self) -> None:
        self.waits_for_room = False
        self._listen_again()

    def _listen_again(self) -> None:
        if self.protocol.is_connected:  # nobody was listening: the silence was not the client's
            self.active_at_s = self._broker.loop.time()
        self._go_on()

    def _go_on(self) -> None:
        """Take in what is here already, then read on."""
        transport = self._transport
        if transport is None or self.protocol.is_finished or self._must_wait:
            return
        if self._held or self.protocol.is_stalled:
            self._receive_held()  # which comes back here after the others' turn
        elif not transport.is_closing():
            transport.resume_reading()

    # -- what the protocol asks (mqtt.answers.ProtocolHandler) ---------------------------------------------

    def authenticate(self, connect: Connect) -> None:
        checking = self._broker.sign_in.begin(self, connect)
        if checking is not None and self._transport is not None:
            self._transport.pause_reading()
            self._signing_in = self._broker.loop.create_task(self._finish_sign_in(connect, checking))

    async def _finish_sign_in(self, connect: Connect, checking: Awaitable[Principal]) -> None:
        try:
            await self._broker.sign_in.finish(self, connect, checking)
        except HeadwaterError as error:
            self._signing_in = None
            self._close_for(error)
            return
        self._signing_in = None
        self.flush()
        self._listen_again()

    def output_ready(self) -> None:
        self._broker.flush_soon(self)

    def now_s(self) -> float:
        return self._broker.loop.time()

    def storing_failed(self, error: Exception) -> None:
        detail = f"{NOT_STORED}: {error}"
        self.close(NOT_STORED, ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, detail=detail)

    # -- what the broker asks ----------------------------------------------------------------------------

    def flush_due(self) -> None:
        """The flush that `output_ready` asked for."""
        self.protocol.has_output_due = False
        if self.protocol.waiting_retained:
            self.protocol.pump_retained()
        self.flush()

    def flush(self) -> None:
        """Write what the protocol has to say."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        output = self.protocol.take_output()
        if output:
            self.sent_bytes += len(output)
            transport.write(output)

    def abort(self, reason: str, *, is_fault: bool = True) -> None:
        """Close at once; what the client has not read is lost. See `close`."""
        if self._transport is not None:
            log.info("client dropped", reason=reason, address=self.address, client_id=self.protocol.client_id)
            if is_fault and not self._has_left:
                self._broker.figures.count_end(reason)
            self._leave()
            self._transport.abort()

    def close(
        self, reason: str, reason_code: ReasonCode | None = None, *, detail: str = "", is_fault: bool = True
    ) -> None:
        """Write what is left (with a DISCONNECT that says why, where the client's MQTT has it), then close.

        Args: `reason` is one of a few fixed texts, by which faults are counted; `detail` is said instead of it.
        """
        transport = self._transport
        if transport is None:
            return
        if transport.is_closing() or self._has_left:
            self._leave()  # reset by the client, which the transport tells later: whoever takes its place needs it gone
            return
        told = detail or reason
        log.info("client closed", reason=told, address=self.address, client_id=self.protocol.client_id)
        if is_fault:
            self._broker.figures.count_end(reason)
        if reason_code is not None:
            self.protocol.disconnect(reason_code, told)
        written_bytes = self.sent_bytes
        self.flush()
        self._shut(transport, lingers=self.sent_bytes > written_bytes)

    def _close_for(self, error: HeadwaterError) -> None:
        """The protocol has said to the client what there is to say."""
        self.close(_reason_of(error), detail=str(error))

    def _shut(self, transport: asyncio.Transport, *, lingers: bool = False) -> None:
        self._leave()
        self._await_progress()
        if not lingers or not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # the client is gone already
            transport.close()
            return
        transport.resume_reading()  # what still comes is read and forgotten
        self._broker.loop.call_later(LINGER_S, transport.close)

    def _leave(self) -> None:
        """The client is not here any more, whatever its socket still has to do."""
        if not self._has_left:
            self._has_left = True
            if self._signing_in is not None:
                self._signing_in.cancel()
            self._broker.left(self)
            self.protocol.finish()


def _reason_of(error: HeadwaterError) -> str:
    """What an end is counted as: never by texts, which hold what a stranger has sent."""
    if isinstance(error, MqttProtocolError):
        return ReasonCode(error.reason_code).name.lower().replace("_", " ")
    return NOT_STORED if isinstance(error, StorageError) else "an internal fault"
