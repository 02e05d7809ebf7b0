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
        self._resume_reading()

    def _resume_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self.waits_for_room or self.write_paused_at_s is not None:
            return
        if self.session.is_connected:  # nobody was listening: the silence was not the client's
            self.active_at_s = self._broker.loop.time()
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
        self._broker.flush_soon(self)

    def storing_failed(self, error: Exception) -> None:
        self.close(f"a message could not be stored: {error}")

    # -- what the broker asks ----------------------------------------------------------------------------

    def deliver(self, topic: bytes, payload: bytes, qos: int, rendered_qos0: bytes) -> None:
        """Send a message (broker.router.Subscriber). QoS 0 is dropped while the client does not read."""
        if qos:
            self.session.deliver_qos1(topic, payload)
        elif self.write_paused_at_s is not None:
            self.session.dropped_messages += 1
            return
        else:
            self.session.deliver_qos0(rendered_qos0)
        self._broker.flush_soon(self)

    def flush(self) -> None:
        """Write what the session has to say."""
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
