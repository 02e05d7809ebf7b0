"""MQTT over WebSocket: takes connections over from the HTTP listeners and is the transport of a broker's connection.

Knows nothing of MQTT's packets: they may be split and joined across frames in any way [MQTT-6.0.0-2], so payloads are
handed on as they come. Frames are `websockets`' business; sockets, back-pressure and deadlines are this module's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SEND_EOF, Protocol, Side, State

from headwater.broker.websocket_handshake import PATHS, RawHeaders, answer_handshake, is_for_mqtt
from headwater.logs import Log
from headwater.settings import MqttSettings

if TYPE_CHECKING:
    from headwater.broker.connection import Connection

log = Log(__name__)

SEVERAL_PACKETS_BYTES = 65_536
"""A frame or message may be larger than the largest packet by this much: clients put several packets into one."""
FIRST_FRAMES_BYTES = 131_072
"""The largest message until the broker has said something. A frame is held until it is whole, and who has not signed
in yet shall not have us hold much; CONNECT fits with room for what may follow it."""
CLOSE_TIMEOUT_S = 2.0
"""How long a client may take to answer the close frame, or to read the last bytes after breaking a rule."""


class WebSockets:
    """The entrance for all HTTP listeners (`web.upgrade.Upgrade`).

    Args: `new_connection` makes the broker's connection, given the name of the transport; `origins` as in
    `setting_kinds.parse_origin`.
    """

    paths = PATHS

    def __init__(
        self, new_connection: Callable[[str], Connection], origins: Collection[str], settings: MqttSettings
    ) -> None:
        self._new_connection = new_connection
        self._origins = frozenset(origins)
        self.max_message_bytes = settings.max_packet_bytes + SEVERAL_PACKETS_BYTES
        self.receive_buffer = memoryview(bytearray(settings.bytes_per_turn))
        """Shared by all: the loop runs one connection at a time."""
        self.close_code = CloseCode.NORMAL_CLOSURE

    def going_away(self) -> None:
        """The server stops: nobody new is taken over, and whoever is closed from here on is told so."""
        self.close_code = CloseCode.GOING_AWAY

    def wants(self, path: str, headers: RawHeaders) -> bool:
        """Whether a request for an upgrade to WebSocket is meant for MQTT."""
        return self.close_code is not CloseCode.GOING_AWAY and is_for_mqtt(path, headers)

    def take_over(
        self, transport: asyncio.Transport, path: str, http_version: str, headers: RawHeaders, received: bytes
    ) -> bool:
        """Answer the handshake. True: the transport has a new protocol, and `received` (what came after the request)
        has gone there. False: the answer was a refusal, and the transport is closing."""
        answer = answer_handshake(path, http_version, headers, self._origins)
        transport.write(answer.serialize())
        if answer.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            peer = transport.get_extra_info("peername")
            log.info("WebSocket refused", status=answer.status_code, address=str(peer[0]) if peer else "unknown")
            transport.close()
            return False
        is_tls = transport.get_extra_info("sslcontext") is not None
        socket = WebSocketTransport(self, transport)
        transport.pause_reading()  # uvloop looks at what the protocol can do when reading starts
        transport.set_protocol(socket)
        transport.resume_reading()
        socket.start(self._new_connection("secure websocket" if is_tls else "websocket"), received)
        return True


class WebSocketTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """One connection, with two faces: the protocol of the socket's transport, and the transport of the broker's
    connection. One write becomes one binary frame."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_entrance",
        "_frames",
        "_has_answered",
        "_held",
        "_is_closing",
        "_is_others_turn",
        "_is_paused",
        "_is_reading",
        "_is_stuck",
        "_loop",
        "_socket",
    )

    def __init__(self, entrance: WebSockets, socket: asyncio.Transport) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._entrance = entrance
        self._socket = socket
        self._connection: Connection
        self._frames = Protocol(Side.SERVER, state=State.OPEN, max_size=FIRST_FRAMES_BYTES)
        self._has_answered = False
        self._is_closing = False
        self._is_reading = True
        """Whether the socket is read. It is not while one of the next three says so."""
        self._is_paused = False
        """The broker's connection wants nothing more for now."""
        self._is_stuck = False
        """The client does not read; then neither its packets nor its pings are read, which would be answered."""
        self._is_others_turn = False
        self._held = b""
        """Read from the socket all the same."""
        self._deadline: asyncio.TimerHandle | None = None

    def start(self, connection: Connection, received: bytes) -> None:
        self._connection = connection
        connection.connection_made(self)
        if received:
            self._take(received)

    # -- the socket's transport calls -----------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._entrance.receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        buffer = self._entrance.receive_buffer
        if nbytes == len(buffer):  # there is more to read: take it in the next turn of the loop
            self._is_others_turn = True
            self._read_or_not()
            self._loop.call_soon(self._others_had_their_turn)
        self._take(bytes(buffer[:nbytes]))

    def eof_received(self) -> None:
        self._connection.eof_received()  # the socket's transport closes itself after this

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._held = b""
        if self._deadline is not None:
            self._deadline.cancel()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._is_stuck = True
        self._read_or_not()
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        if self._is_stuck:  # and not since before the connection was taken over
            self._is_stuck = False
            self._read_or_not()
            self._connection.resume_writing()

    # -- the broker's connection calls ----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        frames = self._frames
        if frames.state is not State.OPEN:
            return
        if not self._has_answered:
            self._has_answered = True
            frames.max_message_size = self._entrance.max_message_bytes
        frames.send_binary(data)
        self._write_queued()

    def can_write_eof(self) -> bool:
        """No: `close` itself waits for the client's answer."""
        return False

    def close(self) -> None:
        """Say goodbye, and close when the client has answered or has taken too long."""
        if self._is_closing:
            return
        self._is_closing = True
        self._held = b""
        if self._frames.state is not State.OPEN:
            self._socket.close()
            return
        self._frames.send_close(self._entrance.close_code)
        self._write_queued()
        # What the client has not read by then is still being sent: for how long is the broker's to say.
        self._deadline = self._loop.call_later(CLOSE_TIMEOUT_S, self._socket.close)
        self._read_or_not()

    def abort(self) -> None:
        self._is_closing = True
        self._socket.abort()

    def is_closing(self) -> bool:
        return self._is_closing or self._socket.is_closing()

    def pause_reading(self) -> None:
        self._is_paused = True
        self._read_or_not()

    def resume_reading(self) -> None:
        self._is_paused = False
        if self._held:
            self._loop.call_soon(self._take_held)
        else:
            self._read_or_not()

    def is_reading(self) -> bool:
        return not self._is_paused and not self.is_closing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._socket.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._socket.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket.get_extra_info(name, default)

    # -- between the two ------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        if self._held or (self._is_paused and not self._is_closing):
            self._held += data
            return
        frames = self._frames
        frames.receive_data(data)
        payloads: list[bytes] = []
        for frame in frames.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.BINARY or frame.opcode is Opcode.CONT:
                payloads.append(bytes(frame.data))
            elif frame.opcode is Opcode.TEXT:
                frames.fail(CloseCode.UNSUPPORTED_DATA, "MQTT needs binary frames")  # [MQTT-6.0.0-1]
                break
        if payloads and not self._is_closing:  # what came before the end counts
            self._connection.data_received(payloads[0] if len(payloads) == 1 else b"".join(payloads))
        self._write_queued()

    def _take_held(self) -> None:
        if self._is_paused or not self._held:
            return
        held, self._held = self._held, b""
        self._take(held)
        self._read_or_not()

    def _write_queued(self) -> None:
        """Write what the frames' machine has to say: frames, and at the end that this is all."""
        queued = self._frames.data_to_send()
        if not queued or self._socket.is_closing():
            return
        if data := b"".join(queued):
            self._socket.write(data)
        if queued[-1] == SEND_EOF:
            self._end()

    def _end(self) -> None:
        """Both sides have said goodbye, or the client has broken a rule and was told which."""
        close = self._frames.close_sent
        if self._frames.parser_exc is not None or (close is not None and close.code == CloseCode.UNSUPPORTED_DATA):
            peer = self.get_extra_info("peername")
            log.info("WebSocket failed", reason=str(close), address=str(peer[0]) if peer else "unknown")
        if self._deadline is not None:
            self._deadline.cancel()
        self._socket.close()
        self._deadline = self._loop.call_later(CLOSE_TIMEOUT_S, self._socket.abort)

    def _others_had_their_turn(self) -> None:
        self._is_others_turn = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        """Read the socket unless somebody is against it. Closing, only the client's answer is waited for."""
        is_paused = self._is_paused and not self._is_closing
        wanted = not (is_paused or self._held or self._is_stuck or self._is_others_turn)
        if wanted == self._is_reading or self._socket.is_closing():
            return
        self._is_reading = wanted
        if wanted:
            self._socket.resume_reading()
        else:
            self._socket.pause_reading()
