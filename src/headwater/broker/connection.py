"""One MQTT client's socket: bytes between the event loop and a `ServerSession`. Decides nothing about MQTT.

All connections read into one shared buffer: the loop runs one of them at a time, so only an unfinished packet has to
be kept per connection, and an idle one costs next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from headwater.errors import NotAuthenticated, StorageError
from headwater.logs import Log
from headwater.model.principal import KEY_ONLY, Principal
from headwater.mqtt.errors import MqttProtocolError
from headwater.mqtt.packets import SUBACK_FAILURE, Connect, ConnectReturnCode
from headwater.mqtt.session import PublishTarget, ServerSession

if TYPE_CHECKING:
    from headwater.broker.broker import Broker

FLUSH_BYTES = 65_536
"""A session's output is handed to the transport at the latest when it is this long: until then the transport cannot
say that its client does not read, and nothing is dropped."""
DROPPING_ENDS_S = 60.0
"""Messages for a client that are dropped again after so long are logged again."""

log = Log(__name__)


class Connection(asyncio.BufferedProtocol):
    """The handler of its session and the protocol of its transport.

    `asyncio.BufferedProtocol` has no `__slots__`, so slots here save no memory; attributes are few instead.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._transport: asyncio.Transport | None = None
        self.session = ServerSession(self, broker.session_limits)
        self.principal: Principal = KEY_ONLY
        self.subscriptions: dict[str, int] | None = None
        self.address = ""
        self.active_at_s = 0.0
        """When the last whole packet arrived (loop time); before CONNECT, when the connection was made."""
        self.write_paused_at_s: float | None = None
        self.closed_at_s: float | None = None
        """When we closed it (loop time); what the client has not read by then is still being sent."""
        self.waits_for_room = False
        """Not read from, because too much waits for the store."""
        self._held = b""
        """Read, but not taken in yet, for the same reason."""
        self._is_others_turn = False
        self._is_flush_due = False
        self._delivered_bytes = 0
        """Handed to the session since the last flush."""
        self._dropped_at_s: float | None = None

    # -- asyncio ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's transports are not of asyncio's classes
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"
        self.active_at_s = self._broker.loop.time()
        transport.set_write_buffer_limits(high=self._broker.settings.max_write_buffer_bytes)
        reason = self._broker.add(self)
        if reason is not None:
            self.abort(reason)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._broker.receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        broker = self._broker
        if self._transport is None or self.session.is_finished:
            return
        data = bytes(broker.receive_buffer[:nbytes])
        if broker.ingest.is_full:  # others read in the same turn of the loop have filled it: keep what is here already
            self._held += data
            self._wait_for_room()
        else:
            self._receive(data)
        if nbytes == len(broker.receive_buffer) and not self.session.is_finished:
            self._let_others_read()

    def _receive(self, data: bytes) -> None:
        broker, session, transport = self._broker, self.session, self._transport
        assert transport is not None
        try:
            if session.receive(data, time.time_ns()):
                self.active_at_s = broker.loop.time()
        except (MqttProtocolError, StorageError) as error:
            self.close(str(error))
            return
        output = session.take_output()
        if output:
            transport.write(output)
        if session.is_finished:
            self._shut(transport)
        elif broker.ingest.is_full:
            self._wait_for_room()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._held = b""
        self.session.finish()
        self._broker.remove(self)

    def pause_writing(self) -> None:
        """The client does not read what it is sent: take nothing more from it either."""
        self.write_paused_at_s = self._broker.loop.time()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.write_paused_at_s = None
        self._listen_again()

    def _let_others_read(self) -> None:
        """There is more to read: take it in the next turn of the loop. uvloop would read up to 32 buffers in this one
        while every other socket waits."""
        if self._transport is not None and not self._is_others_turn:
            self._is_others_turn = True
            self._transport.pause_reading()
            self._broker.loop.call_soon(self._others_had_their_turn)

    def _others_had_their_turn(self) -> None:
        self._is_others_turn = False
        self._resume_reading()

    def _wait_for_room(self) -> None:
        if self._transport is not None and not self.waits_for_room:
            self.waits_for_room = True
            self._transport.pause_reading()
            self._broker.ingest.when_room(self._room_made)

    def _room_made(self) -> None:
        self.waits_for_room = False
        if self._transport is None or self.session.is_finished:
            return
        held, self._held = self._held, b""
        if held:
            self._receive(held)
        self._listen_again()

    def _listen_again(self) -> None:
        self.active_at_s = self._broker.loop.time()  # nobody was listening: the silence was not the client's
        self._resume_reading()

    def _resume_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not (self.waits_for_room or self._is_others_turn or self.write_paused_at_s is not None):
            transport.resume_reading()

    # -- what the session asks (mqtt.session.SessionHandler) ---------------------------------------------

    def authenticate(self, connect: Connect) -> ConnectReturnCode:
        try:
            self.principal = self._broker.access.authenticate_mqtt(
                connect.client_id, connect.username, connect.password
            )
        except NotAuthenticated:
            return ConnectReturnCode.NOT_AUTHORIZED
        self._broker.take_over(self, connect.client_id)
        return ConnectReturnCode.ACCEPTED

    def resolve_publish(self, topic: str) -> PublishTarget:
        return self._broker.router.resolve_publish(self.principal, topic)

    def subscribe(self, topic_filter: str, qos: int) -> int:
        subscriptions = self.subscriptions
        if subscriptions is None:
            subscriptions = self.subscriptions = {}
        if topic_filter not in subscriptions and len(subscriptions) >= self._broker.settings.max_subscriptions:
            return SUBACK_FAILURE
        if not self._broker.router.subscribe(self.principal, topic_filter, self, qos):
            return SUBACK_FAILURE
        subscriptions[topic_filter] = qos
        return qos

    def unsubscribe(self, topic_filter: str) -> None:
        if self.subscriptions is not None and self.subscriptions.pop(topic_filter, None) is not None:
            self._broker.router.unsubscribe(self.principal, topic_filter, self)

    def output_ready(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._broker.flush_soon(self)

    def storing_failed(self, error: Exception) -> None:
        self.close(f"a message could not be stored: {error}")

    # -- what the broker asks ----------------------------------------------------------------------------

    def deliver(self, topic: bytes, payload: bytes, qos: int, rendered_qos0: bytes) -> None:
        """Send a message (broker.router.Subscriber). QoS 0 is dropped while the client does not read."""
        if qos:
            limit = self.session.deliver_qos1(topic, payload)
            if limit is not None:
                self._note_drop(limit)
        elif self.write_paused_at_s is not None:
            self.session.dropped_messages += 1
            self._note_drop("max_write_buffer_bytes")
            return
        else:
            self.session.deliver_qos0(rendered_qos0)
        self._delivered_bytes += len(rendered_qos0)
        if self._delivered_bytes > FLUSH_BYTES:
            self.flush()
        else:
            self.output_ready()

    def _note_drop(self, limit: str) -> None:
        now_s = self._broker.loop.time()
        if self._dropped_at_s is None or now_s - self._dropped_at_s > DROPPING_ENDS_S:
            log.warning(
                "messages for a slow client are dropped",
                client_id=self.session.client_id,
                address=self.address,
                limit=limit,
                dropped=self.session.dropped_messages,
            )
        self._dropped_at_s = now_s

    def flush_due(self) -> None:
        """The flush that `output_ready` asked for."""
        self._is_flush_due = False
        self.flush()

    def flush(self) -> None:
        """Write what the session has to say."""
        self._delivered_bytes = 0
        if self._transport is not None and not self._transport.is_closing():
            output = self.session.take_output()
            if output:
                self._transport.write(output)

    def apply_rights(self, principal: Principal) -> None:
        """Rights have changed: forget what was resolved, and end subscriptions that would not be granted now."""
        self.session.forget_targets()
        kept = self.subscriptions or {}
        lost = [f for f in kept if not self._broker.router.may_keep(principal, f)]
        for topic_filter in lost:
            self.unsubscribe(topic_filter)
        self.principal = principal

    def abort(self, reason: str) -> None:
        """Close at once; what the client has not read is lost."""
        if self._transport is not None:
            log.info("client dropped", reason=reason, address=self.address, client_id=self.session.client_id)
            self.session.finish()
            self._transport.abort()

    def close(self, reason: str) -> None:
        """Write what is left, then close."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        log.info("client closed", reason=reason, address=self.address, client_id=self.session.client_id)
        output = self.session.take_output()
        if output:
            transport.write(output)
        self._shut(transport)

    def _shut(self, transport: asyncio.Transport) -> None:
        self.session.finish()
        self.closed_at_s = self._broker.loop.time()
        transport.close()
