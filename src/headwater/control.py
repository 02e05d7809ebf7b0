"""How a command speaks with the server that runs on a data directory: a socket in that directory.

One request for each connection: a line of JSON that names the command, with its arguments beside. The answer is
frames: a letter for the kind, four bytes for the length, then content. `I` is information (JSON), `D` data; the last
one is `.` (done) or `E` (why it cannot be done, for people), and an answer without it was cut off. Behind its request a
command may send data in the same frames, up to `.`. Only the user who runs the server, and root, can connect: the
socket has mode 0600. Knows no command.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from headwater.errors import HeadwaterError
from headwater.logs import Log, reason_of

log = Log(__name__)

SOCKET_NAME = "headwater.sock"
MAX_REQUEST_BYTES = 65_536
MAX_FRAME_BYTES = 2**20
MAX_CONNECTIONS = 8
PATIENCE_S = 60.0
"""How long a command may let the server wait for its request, or for room to write to."""
CLOSING_S = 3.0
"""How long the end of the server waits for commands that were cut off."""
_MAX_PATH_BYTES = 100
"""The system's limit is 108 or 104, with the byte that ends it."""
_FRAME = struct.Struct(">cI")
_INFORMATION, _DATA, _DONE, _ERROR = b"I", b"D", b".", b"E"


class _Frames:
    """One side of a conversation. Every method blocks, and raises OSError when the other side has gone."""

    def __init__(self, connection: socket.socket, stream: BinaryIO) -> None:
        self._connection = connection
        self._stream = stream
        self._unread = b""
        self._has_ended = False

    def inform(self, **information: object) -> None:
        self._send(_INFORMATION, json.dumps(information).encode())

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), MAX_FRAME_BYTES):
            self._send(_DATA, view[start : start + MAX_FRAME_BYTES])

    def end(self, error: str | None = None) -> None:
        self._send(*((_DONE, b"") if error is None else (_ERROR, error.encode()[:MAX_FRAME_BYTES])))

    def _send(self, kind: bytes, content: bytes | memoryview) -> None:
        self._connection.sendall(_FRAME.pack(kind, len(content)))
        if content:  # who got a last frame without any may be gone already
            self._connection.sendall(content)

    def frames(self) -> Iterator[dict[str, Any] | bytes]:
        """Information and data as they come. Raises HeadwaterError with the other side's words when it cannot do what
        was asked, or when it ended in the middle of it."""
        while not self._has_ended:
            head = self._stream.read(_FRAME.size)
            kind, length = _FRAME.unpack(head) if len(head) == _FRAME.size else (b"", 0)
            content = self._stream.read(length) if length <= MAX_FRAME_BYTES else b""
            if len(content) != length or kind not in (_INFORMATION, _DATA, _DONE, _ERROR):
                raise HeadwaterError(self._cut_off)
            self._has_ended = kind in (_DONE, _ERROR)
            if kind == _ERROR:
                raise HeadwaterError(content.decode(errors="replace"))
            if kind != _DONE:
                yield content if kind == _DATA else json.loads(content)

    def read(self, size: int) -> bytes:
        """So much of the data, less only at its end. Raises as `frames`; information is passed over."""
        parts, left = [], size
        while left:
            if not self._unread:
                frame = next(self.frames(), None)
                if frame is None:
                    break
                self._unread = frame if isinstance(frame, bytes) else b""
            parts.append(self._unread[:left])
            self._unread = self._unread[left:]
            left -= len(parts[-1])
        return b"".join(parts)

    _cut_off = "the other side ended in the middle of it"


class Reply(_Frames):
    """The answer to one request, and what the command sends behind it."""

    _cut_off = "the command ended in the middle of it"

    def read(self, size: int) -> bytes:
        self._connection.settimeout(None)  # a person may type what is sent; the end of the server ends the wait
        try:
            return super().read(size)
        finally:
            self._connection.settimeout(PATIENCE_S)


Command: TypeAlias = Callable[[Mapping[str, Any], Reply], None]
"""Answers one request in a thread of its own. A HeadwaterError that it raises is told to whoever asked."""


class ControlSocket:
    """Listens as long as it is open. Where there can be no such socket, the log says so, and nothing else is amiss.

    The data directory must be this process's (see `instance`): what stands in the socket's place is taken for a
    leftover.
    """

    def __init__(self, data: Path, commands: Mapping[str, Command]) -> None:
        self._path = data / SOCKET_NAME
        self._commands = commands
        self._lock = threading.Lock()
        self._is_closing = False
        self._answering: dict[threading.Thread, socket.socket] = {}
        try:
            self._path.unlink(missing_ok=True)
            self._listener: socket.socket | None = _listen(self._path)
        except OSError as error:
            log.warning("commands cannot reach this server", reason=str(error), path=str(self._path))
            self._listener = None
            return
        self._acceptor = threading.Thread(target=self._accept, args=[self._listener], name="control", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Listen no more; commands that are being answered are cut off."""
        if self._listener is None:
            return
        with self._lock:
            self._is_closing = True
            answering = dict(self._answering)
        self._path.unlink(missing_ok=True)
        for connection in (self._listener, *answering.values()):
            with suppress(OSError):  # the other side may have gone
                connection.shutdown(socket.SHUT_RDWR)
        deadline_s = time.monotonic() + CLOSING_S
        for thread in (self._acceptor, *answering):
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if not self._is_closing:
                    log.error("commands can reach this server no more", reason=str(error))
                return
            with self._lock:
                count = len(self._answering)
                if self._is_closing or count >= 2 * MAX_CONNECTIONS:
                    connection.close()
                    continue
                arguments = connection, count >= MAX_CONNECTIONS
                thread = threading.Thread(target=self._answer, args=arguments, name="control-answer", daemon=True)
                self._answering[thread] = connection
            thread.start()

    def _answer(self, connection: socket.socket, is_too_many: bool) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                connection.settimeout(PATIENCE_S)
                reply = Reply(connection, stream)
                try:
                    request = _read_request(stream)
                    if is_too_many:
                        raise HeadwaterError(
                            f"{MAX_CONNECTIONS} commands are being answered already: try again when one has ended"
                        )
                    command = self._commands.get(str(request.get("command")))
                    if command is None:
                        raise HeadwaterError(
                            "the running server does not know this command: restart it after an upgrade"
                        )
                    command(request, reply)
                except HeadwaterError as error:
                    # Of what the engine said, whoever asked is told less than the operator.
                    log.warning("a command was refused", **reason_of(error))
                    reply.end(str(error))
                else:
                    reply.end()
        except OSError as error:
            if not self._is_closing:
                log.warning("a command was not answered in full", reason=str(error))
        except Exception:
            log.exception("a command could not be answered")
        finally:
            with self._lock:
                del self._answering[threading.current_thread()]


def _read_request(stream: BinaryIO) -> dict[str, Any]:
    received = stream.readline(MAX_REQUEST_BYTES)
    if not received.endswith(b"\n"):
        raise HeadwaterError("this is no request")
    try:
        request = json.loads(received)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise HeadwaterError("this is no request")
    return request


class Answer(_Frames):
    """What the server answers, frame by frame; and the way to send it more than the request."""

    _cut_off = "the server ended before it had answered"


@contextmanager
def ask_server(data: Path, command: str, **arguments: object) -> Iterator[Answer]:
    """Ask the server that runs on this directory. Raises HeadwaterError when it cannot be reached, and when the request
    is too long."""
    request = json.dumps({**arguments, "command": command}).encode() + b"\n"
    if len(request) > MAX_REQUEST_BYTES:
        raise HeadwaterError(f"what is asked of the server is too long (more than {MAX_REQUEST_BYTES} bytes)")
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with _short_name(data / SOCKET_NAME) as name:
                connection.connect(name)
            connection.sendall(request)
        except OSError as error:
            raise HeadwaterError(
                f"the running server cannot be reached through {data / SOCKET_NAME} ({error.strerror or error}): "
                "run this as the user who runs the server, or stop the server first"
            ) from error
        try:
            with connection.makefile("rb") as stream:
                yield Answer(connection, stream)
        except ConnectionError as error:
            raise HeadwaterError("the server ended before it had answered") from error


def _listen(path: Path) -> socket.socket:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        # Between `bind` and a later `chmod`, others could connect.
        former = os.umask(0o177)
        try:
            with _short_name(path) as name:
                listener.bind(name)
        finally:
            os.umask(former)
        listener.listen(MAX_CONNECTIONS)
        stack.pop_all()
        return listener


@contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """A name for a path that may be longer than a socket's address can be."""
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        yield str(path)
        return
    if not Path("/proc/self/fd").is_dir():
        raise OSError(f"the path has more than {_MAX_PATH_BYTES} bytes, which is too long for a socket")
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
