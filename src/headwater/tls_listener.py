"""A listener that shakes hands: a bounded number of TLS handshakes at a time, each with a deadline, each failure with a
line in the log. Knows no protocol and no certificate.

asyncio shakes hands by itself when a server is given a context, but tells nobody how many it is at, nor which failed:
whoever opens connections and stays silent would use up the process's files, and no limit of connections would see it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Sequence

from headwater.logs import Log

log = Log(__name__)

MAX_ACCEPTED_AT_ONCE = 100
"""Then everybody else has a turn."""
ACCEPT_PAUSE_S = 1.0
"""When the system has no file left for another connection, as asyncio has it."""
EPISODE_S = 60.0
"""That a limit is reached is logged once in so long."""

Protocols = Callable[[], asyncio.BaseProtocol]


async def listen_with_tls(
    make_protocol: Protocols,
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    timeout_s: float,
    max_handshakes: int,
    backlog: int,
) -> TlsListener:
    """Like `loop.create_server`. Raises OSError.

    Args: `make_protocol` is asked when a client has connected, and what it makes is used once that client has shaken
    hands, for which it has `timeout_s`. When more than `max_handshakes` are under way, the oldest is ended: it had
    the most time.
    """
    # asyncio looks the host up and binds; its own sockets cannot be had, but what they are of can.
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
    sockets = [socket.socket(fileno=os.dup(bound.fileno())) for bound in server.sockets]
    server.close()
    listener = TlsListener(make_protocol, sockets, context, timeout_s=timeout_s, max_handshakes=max_handshakes)
    try:
        listener.start(backlog)
    except OSError:
        listener.close()
        raise
    return listener


class TlsListener:
    """What `listen_with_tls` opens."""

    def __init__(
        self,
        make_protocol: Protocols,
        sockets: Sequence[socket.socket],
        context: ssl.SSLContext,
        *,
        timeout_s: float,
        max_handshakes: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make_protocol = make_protocol
        self.sockets = tuple(sockets)
        self._context = context
        self._timeout_s = timeout_s
        self._max_handshakes = max_handshakes
        self._handshakes: dict[asyncio.Task[None], None] = {}
        """In the order of their beginning."""
        self._is_closed = False
        self._logged_at_s: dict[str, float] = {}

    @property
    def handshakes(self) -> int:
        """How many are under way."""
        return len(self._handshakes)

    def start(self, backlog: int) -> None:
        """Accept. Raises OSError."""
        for listening in self.sockets:
            listening.setblocking(False)
            listening.listen(backlog)
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def close(self) -> None:
        """Accept nobody more, and end the handshakes under way. Whoever is in, stays."""
        self._is_closed = True
        for listening in self.sockets:
            if listening.fileno() >= 0:
                self._loop.remove_reader(listening.fileno())
                listening.close()
        for handshake in tuple(self._handshakes):
            handshake.cancel()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(MAX_ACCEPTED_AT_ONCE):
            try:
                accepted, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._log_once("no more connections can be accepted for now", reason=str(error.strerror))
                self._loop.remove_reader(listening.fileno())
                self._loop.call_later(ACCEPT_PAUSE_S, self._accept_again, listening)
                return
            accepted.setblocking(False)
            self._begin(accepted, str(peer[0]))

    def _accept_again(self, listening: socket.socket) -> None:
        if not self._is_closed:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _begin(self, accepted: socket.socket, address: str) -> None:
        handshake = self._loop.create_task(self._shake_hands(accepted, address))
        self._handshakes[handshake] = None
        handshake.add_done_callback(lambda _: self._handshakes.pop(handshake, None))
        if len(self._handshakes) > self._max_handshakes:
            self._log_once("TLS handshakes are ended before their time", limit="tls.max_handshakes")
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()

    async def _shake_hands(self, accepted: socket.socket, address: str) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make_protocol, accepted, ssl=self._context, ssl_handshake_timeout=self._timeout_s
            )
        except OSError as error:  # among them all of ssl's
            log.info("TLS handshake failed", reason=_reason_of(error), address=address)

    def _log_once(self, event: str, **fields: str) -> None:
        now_s = self._loop.time()
        if now_s - self._logged_at_s.get(event, -EPISODE_S) >= EPISODE_S:
            self._logged_at_s[event] = now_s
            log.warning(event, **fields)


def _reason_of(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"client certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return error.reason or "the client broke off"
    return str(error) or "the client broke off"
