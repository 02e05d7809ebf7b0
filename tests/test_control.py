"""The socket between commands and a running server: answers, refusals, endings, and who may connect."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from headwater.control import MAX_CONNECTIONS, MAX_FRAME_BYTES, SOCKET_NAME, ControlSocket, Reply, ask_server
from headwater.errors import HeadwaterError, StorageError


def echo(request: Mapping[str, Any], reply: Reply) -> None:
    reply.inform(**request)
    reply.write(b"x" * (2 * MAX_FRAME_BYTES + 1))


def refuse(request: Mapping[str, Any], reply: Reply) -> None:
    reply.write(b"half")
    raise StorageError("the disk is full")


def fail(request: Mapping[str, Any], reply: Reply) -> None:
    raise ZeroDivisionError


def count(request: Mapping[str, Any], reply: Reply) -> None:
    begin = reply.read(request["begin"])
    reply.inform(begin=begin.decode())
    size = 0
    while part := reply.read(1_000_000):
        size += len(part)
    reply.inform(size=size)


@pytest.fixture(params=["short", "a-name-" + "of-many-letters-" * 8])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    directory = tmp_path / str(request.param)
    directory.mkdir()
    return directory


@pytest.fixture
def control(data: Path) -> Iterator[ControlSocket]:
    (data / SOCKET_NAME).write_text("what a server that was killed left behind")
    with closing(ControlSocket(data, {"echo": echo, "refuse": refuse, "fail": fail, "count": count})) as opened:
        yield opened


@pytest.mark.usefixtures("control")
def test_an_answer_comes_in_frames(data: Path) -> None:
    assert stat.S_IMODE((data / SOCKET_NAME).stat().st_mode) == 0o600
    for _ in range(2):
        with ask_server(data, "echo") as answer:
            first, *parts = answer.frames()
        assert first == {"command": "echo"}
        assert b"".join(part for part in parts if isinstance(part, bytes)) == b"x" * (2 * MAX_FRAME_BYTES + 1)


@pytest.mark.usefixtures("control")
def test_arguments_come_with_the_command(data: Path) -> None:
    with ask_server(data, "echo", text="grün", number=7) as answer:
        assert next(iter(answer.frames())) == {"command": "echo", "text": "grün", "number": 7}
    with pytest.raises(HeadwaterError, match="too long"), ask_server(data, "echo", text="x" * 65_536):
        pass


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize(
    ("command", "words"),
    [("refuse", "the disk is full"), ("fail", "ended before"), ("unheard-of", "does not know this command")],
)
def test_what_cannot_be_done_is_told(data: Path, command: str, words: str) -> None:
    with pytest.raises(HeadwaterError, match=words), ask_server(data, command) as answer:
        list(answer.frames())


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("request_line", [b"[]\n", b"{\n", b"\xff\n", b"x" * 100_000, b"{}\n", b""])
def test_what_is_no_request_is_refused(tmp_path: Path, data: Path, request_line: bytes) -> None:
    short = tmp_path / "s"
    short.symlink_to(data)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(str(short / SOCKET_NAME))
            client.sendall(request_line)
            client.shutdown(socket.SHUT_WR)
            answer = client.makefile("rb").read()
        except ConnectionError:  # closed while we were still sending
            return
    assert answer.startswith(b"E")


def test_one_command_too_many_is_told_so(data: Path) -> None:
    may_end = threading.Event()

    def wait(request: Mapping[str, Any], reply: Reply) -> None:
        reply.inform(is_waiting=True)
        may_end.wait(30)

    with ExitStack() as stack:
        stack.callback(ControlSocket(data, {"wait": wait}).close)
        for _ in range(MAX_CONNECTIONS):
            answer = stack.enter_context(ask_server(data, "wait"))
            assert next(answer.frames()) == {"is_waiting": True}
        with pytest.raises(HeadwaterError, match="try again"), ask_server(data, "wait") as answer:
            list(answer.frames())
        may_end.set()


def test_closing_cuts_off_an_answer_that_nobody_reads(data: Path) -> None:
    is_answering, has_ended = threading.Event(), threading.Event()

    def pour(request: Mapping[str, Any], reply: Reply) -> None:
        try:
            while True:
                reply.write(b"x" * MAX_FRAME_BYTES)
                is_answering.set()
        finally:
            has_ended.set()

    control = ControlSocket(data, {"pour": pour})
    with ask_server(data, "pour") as answer:
        next(answer.frames())
        assert is_answering.wait(10)
        control.close()
        assert has_ended.is_set()
        with pytest.raises(HeadwaterError, match="ended before"):
            list(answer.frames())
    assert not (data / SOCKET_NAME).exists()
    with pytest.raises(HeadwaterError, match="cannot be reached"), ask_server(data, "pour"):
        pass


def test_a_command_sends_data_behind_its_request(control: ControlSocket, data: Path) -> None:
    with ask_server(data, "count", begin=7) as answer:
        answer.write(b"beg")
        answer.write(b"innin" + b"x" * (3 * MAX_FRAME_BYTES))
        answer.end()
        assert list(answer.frames()) == [{"begin": "beginni"}, {"size": 3 * MAX_FRAME_BYTES + 1}]


def test_a_command_that_ends_in_the_middle_is_no_end_of_data(control: ControlSocket, data: Path) -> None:
    with ask_server(data, "count", begin=2) as answer:
        answer.write(b"four")
        frames = answer.frames()
        assert next(frames) == {"begin": "fo"}
        answer._connection.shutdown(socket.SHUT_WR)
        with pytest.raises(HeadwaterError, match="the command ended in the middle"):
            next(frames)
