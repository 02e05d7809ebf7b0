"""One HTTP connection: uvicorn's protocol with our heads of answers, limits and deadlines.

Knows no route and no listener. Whatever a client sends, withholds or does not read, a connection holds little memory
(one read, `MAX_PIPELINED` requests, one body's buffer) and always either waits for our own answer or has a deadline.
A request may ask for another protocol: then the connection is that protocol's (`upgrade.py`), and gone from here.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from enum import Enum
from typing import NamedTuple

import httptools
import uvicorn
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from headwater.logs import Log
from headwater.settings import WebSettings
from headwater.web.deadline import Deadline
from headwater.web.headers import Heads
from headwater.web.quick import MAX_BODY_BYTES, QuickAnswers
from headwater.web.request_line import completed, may_begin, mended
from headwater.web.upgrade import Upgrade

log = Log(__name__)

MAX_HEAD_BYTES = 65_536
"""Request line and headers together."""
MAX_PIPELINED = 16
"""Requests that may wait on one connection for the answer under way."""
MAX_FRAMING_BYTES = 8_192
"""Of a body: what may come without any byte of content (trailers, chunk extensions)."""
MAX_LENGTH_DIGITS = 18
"""Of a Content-Length, zeros before it included: the parser takes any number of those, and Python makes no number of
thousands of digits."""
MIN_BYTES_PER_S = 1_024
"""A client slower than this, in either direction, is cut off at its deadline."""

_HEAD_END = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*\r?\n", re.IGNORECASE)
_LINE_ENDS = (b"\n", b"\r\n")

Pipeline = deque[tuple[RequestResponseCycle, ASGI3Application]]


class Phase(Enum):
    """What a connection waits for. All but ANSWERING have a deadline."""

    HEAD = "head"
    BODY = "body"
    IDLE = "idle"
    ANSWERING = "answering"
    DRAINING = "draining"
    """The client has to read before anything goes on, be it the next part of an answer or the end."""


class Watch(NamedTuple):
    """What a deadline is for: with another phase or message, it is another deadline."""

    phase: Phase
    message: int


class HttpConnection(HttpToolsProtocol):
    """uvicorn's connection. Of uvicorn's timers none is used: one deadline at a time, by phase, does for all."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        settings: WebSettings,
        heads: Heads,
        quick: QuickAnswers,
        upgrade: Upgrade | None = None,
    ) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._settings = settings
        self._heads = heads
        self._quick = quick
        self._held: ASGI3Application | None = None
        """The application, while the request that runs may be answered without it once its body has come."""
        self._upgrade = upgrade
        self._is_upgrade = False
        """The newest request asks for the other protocol, and may have it."""
        self._running: RequestResponseCycle | None = None
        """The request that is being answered; `cycle` is the newest, which may still be waiting."""
        self._input = Phase.HEAD
        self._ignores_input = False
        self._is_lost = False
        self._messages = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._body_began_s = 0.0
        self._framing_bytes = 0
        self._watched: Watch | None = None
        self._deadline = Deadline(self.loop, self._overdue)
        self._undrained_bytes = 0
        self._begun_line: bytes | None = b""
        """What has come of a request's first line; None once it is past."""
        # For headers; the first line is mended here.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True, lenient_optional_cr_before_lf=True)

    @property
    def is_streaming(self) -> bool:
        """Whether an answer without a known length is under way."""
        return self._running is not None and bool(self._running.chunked_encoding)

    # -- the transport calls --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        if len(self.connections) > self._settings.max_connections:
            self._refuse(b"503 Service Unavailable", "too many connections; try again later")
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._deadline.close()
        super().connection_lost(exc)
        if self._running is not None:  # uvicorn tells the newest request only
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()
        self._running = self._held = None
        self.cycle = None  # type: ignore[assignment]  # as it is in uvicorn before the first request

    def data_received(self, data: bytes) -> None:
        while data and not (self.transport.is_closing() or self._ignores_input):
            if self._begun_line is not None:
                data = self._mend_line(data)
            piece, data = self._next_piece(data)
            if piece and not self._parse(piece, data):
                break
        self._watch()

    def _next_piece(self, data: bytes) -> tuple[bytes, bytes]:
        """What to parse next, and the rest: where a request may end, so that the line of the one behind it is looked
        at. It is only if the parser says so too: a wrong guess here changes nothing."""
        if self._input is Phase.BODY:
            length = dict(self.headers).get(b"content-length", b"")
            end = int(length) - self._body_bytes if length.isdigit() else 0
        elif data.startswith(_LINE_ENDS):  # an empty line, perhaps, behind what was read before
            end = data.index(b"\n") + 1
        else:
            found = _HEAD_END.search(data)
            end = 0 if found is None else found.end()
            if end < len(data) and (said := _LENGTH.search(data, 0, end)) and end + int(said[1]) == len(data):
                end = 0  # one request and its body, as nearly always
        return (data[:end], data[end:]) if end > 0 else (data, b"")

    def _parse(self, data: bytes, rest: bytes) -> bool:
        """Whether to go on with the rest."""
        if self._input is Phase.BODY:
            self._framing_bytes += len(data)
        else:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as end:
            if self._is_upgrade:
                self._hand_over(data[end.args[0] :] + rest)
            else:  # the request is answered as if it had not asked, and ends the connection
                self._end_after_answers()
            return False
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request", "this is not a valid HTTP request")
            return False
        if self._input is Phase.HEAD and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", f"the head has more than {MAX_HEAD_BYTES} bytes")
        elif self._input is Phase.BODY and self._framing_bytes > MAX_FRAMING_BYTES:
            self.transport.close()
        return True

    def _mend_line(self, data: bytes) -> bytes:
        """What comes at the beginning of a request, without empty lines before it. A first line that has not come whole
        yet is held back."""
        data = self._begun_line + data if self._begun_line else data.lstrip(b"\r\n")
        if not data:
            return b""
        end = data.find(b"\n")
        if end < 0 and may_begin(data) and len(data) < MAX_HEAD_BYTES:
            self._begun_line = data
            self._input = Phase.HEAD
            return b""
        self._begun_line = b""
        if end < 0 or (data.count(b" ", 0, end) == 2 and data[end - 1 : end] == b"\r"):
            return data
        whole = completed(data)
        return mended(data[:end]) + data[end:] if whole is None else whole

    def eof_received(self) -> None:
        self.loop.call_soon(self._watch)  # the transport closes itself after this

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    # -- the parser calls; what is raised here ends the parsing -----------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._messages:  # what came before the first message counts for its head
            self._head_bytes = 0
        self._messages += 1
        self._input = Phase.HEAD
        self._begun_line = None

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._input is Phase.HEAD:  # and no trailer, which nobody would read
            name = name.lower()
            self.headers.append((name, value))
            if name == b"content-length" and len(value) > MAX_LENGTH_DIGITS:
                raise ValueError("no body is that long")
            if name == b"expect":
                self.expect_100_continue = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")
        self._is_upgrade = self._asks_for_upgrade()
        super().on_headers_complete()
        self._input = Phase.BODY
        # Between chunks, a proxy in front need not take LF for the end of a line: it would see other requests than we.
        self.parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=False)
        self._body_bytes = self._framing_bytes = 0
        self._body_began_s = self.loop.time()

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0
        self._body_bytes += len(body)
        if self.cycle.response_complete and self._body_bytes > self._settings.max_body_bytes:
            self.transport.close()  # it is answered, nobody reads the rest, and there is no end of it
        super().on_body(body)
        if self._held is not None and len(self.cycle.body) > MAX_BODY_BYTES:
            self._let_application_answer(self.cycle, self._held)

    def on_message_complete(self) -> None:
        self._input = Phase.IDLE
        self._begun_line = b""
        self.parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        super().on_message_complete()
        if self._held is not None:
            self._answer_quickly(self.cycle, self._held)

    # -- another protocol ------------------------------------------------------------------------------------

    def _asks_for_upgrade(self) -> bool:
        """Behind a request that is not answered yet, nothing is upgraded: its answer would get among the frames."""
        if self._upgrade is None or not self.parser.should_upgrade() or self._running is not None or self.pipeline:
            return False
        names = {name for name, _ in self.headers}
        if self.parser.get_method() != b"GET" or not names.isdisjoint((b"content-length", b"transfer-encoding")):
            return False
        asked = [value.strip().lower() for name, value in self.headers if name == b"upgrade"]
        return asked == [b"websocket"] and self._upgrade.wants(self._path(), self.headers)

    def _should_upgrade(self) -> bool:
        """uvicorn asks, and makes nothing of the request then."""
        return self._is_upgrade

    def _path(self) -> str:
        return httptools.parse_url(self.url).path.decode("ascii")

    def _hand_over(self, received: bytes) -> None:
        assert self._upgrade is not None
        self.flow.resume_reading()
        version = self.parser.get_http_version()
        if self._upgrade.take_over(self.transport, self._path(), version, self.headers, received):
            self._is_lost = True
            self._deadline.close()
            self.connections.discard(self)
            self.parser = None  # type: ignore[assignment]  # as uvicorn does when a connection is lost
        else:
            self._ignores_input = True

    # -- answering ------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        if not self._quick.may_take(cycle):
            self._let_application_answer(cycle, app)
        elif cycle.more_body:
            self._held = app
        else:
            self._answer_quickly(cycle, app)

    def _answer_quickly(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._held = None
        if not self._quick.take(cycle):
            self._let_application_answer(cycle, app)

    def _let_application_answer(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._held = None
        task = self.loop.create_task(cycle.run_asgi(_with_own_head(app, cycle, self._heads)))
        self.tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._watch()  # a handler that failed has closed the transport

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._running = None
        if not self.transport.is_closing():
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            self.flow.resume_reading()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        self._refuse(b"400 Bad Request", msg)

    def _refuse(self, status: bytes, reason: str) -> None:
        """Take nothing more, and say so unless that would get into an answer under way."""
        if self.transport.is_closing():
            return
        if self._running is not None and self._input is not Phase.BODY:
            self._end_after_answers()
            return
        if self._input is not Phase.BODY:  # with a part of the body, the request may be answered already
            body = reason.encode()
            head = b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close" % len(body)
            self.transport.write(b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, head, body))
        self.transport.close()

    def _end_after_answers(self) -> None:
        """Requests that came whole are answered; whatever follows them is not looked at."""
        self._ignores_input = True
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self.transport.close()

    # -- deadlines ------------------------------------------------------------------------------------------

    def _phase(self) -> Phase:
        if self.transport.is_closing() or self.flow.write_paused:
            return Phase.DRAINING
        if self.pipeline or self._ignores_input:
            return Phase.ANSWERING  # a head or body that is under way waits for us
        if self._input is Phase.IDLE and self._running is not None:
            return Phase.ANSWERING
        return self._input

    def _watch(self) -> None:
        """Have the deadline that belongs to what is waited for now."""
        if self._is_lost:
            return
        phase = self._phase()
        watched = Watch(phase, self._messages if phase in (Phase.HEAD, Phase.BODY) else 0)
        if watched == self._watched:
            return
        self._watched = watched
        if phase is Phase.ANSWERING:
            self._deadline.lift()
            return
        if phase is Phase.HEAD:
            timeout_s = self._settings.header_timeout_s
        elif phase is Phase.BODY:
            timeout_s = self._body_time_left_s()
        elif phase is Phase.IDLE:
            timeout_s = self._settings.keep_alive_s
        else:
            timeout_s = self._settings.write_timeout_s
            self._undrained_bytes = self.transport.get_write_buffer_size()
        self._deadline.set(timeout_s)

    def _overdue(self) -> None:
        assert self._watched is not None
        phase, self._watched = self._watched.phase, None
        if phase is Phase.HEAD:
            self._refuse(b"408 Request Timeout", "the head of the request did not arrive in time")
        elif phase is Phase.IDLE:
            self.transport.close()
        elif phase is Phase.DRAINING:
            drained_bytes = self._undrained_bytes - self.transport.get_write_buffer_size()
            if drained_bytes < MIN_BYTES_PER_S * self._settings.write_timeout_s:
                self.transport.abort()
                return
        elif self.flow.read_paused:
            self._body_began_s = self.loop.time()  # the delay is ours
        elif self._body_time_left_s() <= 0:
            log.debug("a request body did not arrive in time", received_bytes=self._body_bytes)
            self.transport.close()
        self._watch()

    def _body_time_left_s(self) -> float:
        allowed_s = self._settings.body_timeout_s + self._body_bytes / MIN_BYTES_PER_S
        return self._body_began_s + allowed_s - self.loop.time()


class _Flow(FlowControl):
    """Reads nothing more while requests wait, whoever asks."""

    def __init__(self, transport: asyncio.Transport, pipeline: Pipeline) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


def _with_own_head(app: ASGI3Application, cycle: RequestResponseCycle, heads: Heads) -> ASGI3Application:
    """The application, sending the heads of its answers the way we spell them; bodies go uvicorn's way."""

    async def send(message: ASGISendEvent) -> None:
        if message["type"] != "http.response.start" or cycle.response_started:
            await cycle.send(message)
            return
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        method, headers = cycle.scope["method"], message.get("headers", ())
        head = heads.render(message["status"], headers, method=method, keep_alive=cycle.keep_alive)
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        cycle.keep_alive = head.keeps_alive
        cycle.chunked_encoding = head.is_chunked
        cycle.expected_content_length = head.content_length
        cycle.transport.write(head.rendered)

    async def answer(scope: Scope, receive: ASGIReceiveCallable, _: ASGISendCallable) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            # The server stops, and the task ends here. uvicorn would log it as a fault and answer 500.
            cycle.disconnected = True
            cycle.transport.close()

    return answer
