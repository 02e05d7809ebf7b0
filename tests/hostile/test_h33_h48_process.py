"""H33, H34, H46 and H48, and whatever else only a real process shows: descriptors, the disk, other protocols."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect, Publish, Subscribe, Subscription
from server import ADMIN_TOKEN, Server, running_server, wait_until

from .attack import GROWTH_LIMIT_BYTES, cpu_s, memory_bytes


@pytest.fixture
def fresh(data: Path) -> Iterator[Server]:
    """A server of the test's own, to take things away from."""
    with running_server(data) as server:
        yield server


def check_served(server: Server, client: socket.socket) -> None:
    started_s = time.monotonic()
    client.sendall(b"\xc0\x00")
    assert client.recv(2) == b"\xd0\x00"
    assert time.monotonic() - started_s < 1


def test_h33_handshakes_that_are_never_finished(server: Server) -> None:
    """300 at once; `tests/broker/test_tls_listener.py` has deadlines and limits. Who is there is served meanwhile."""
    hello = bytes.fromhex("160301") + (500).to_bytes(2, "big")
    with server.mqtt_client() as client:
        before = memory_bytes(server)
        handshakes = [socket.create_connection(("127.0.0.1", server.mqtts_port), timeout=10) for _ in range(300)]
        for handshake in handshakes:
            handshake.sendall(hello)
        check_served(server, client)
        for handshake in handshakes:
            handshake.close()
        check_served(server, client)
        wait_until(lambda: memory_bytes(server) - before < GROWTH_LIMIT_BYTES, what="memory to come back")


def test_h34_no_descriptors_left(fresh: Server) -> None:
    """Who is there is served; nothing spins; and when there are descriptors again, clients are let in again."""
    pid = fresh.process.pid
    with fresh.mqtt_client() as client:
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 10, hard))
        waiting = [fresh.mqtt_socket() for _ in range(40)]
        wait_until(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) >= used + 9, what="descriptors to be used up")
        used_s, started_s = cpu_s(fresh), time.monotonic()
        while time.monotonic() - started_s < 1.0:
            check_served(fresh, client)
            time.sleep(0.05)
        assert cpu_s(fresh) - used_s < 0.5, "a busy loop"
        for other in waiting:
            other.close()

        def is_let_in() -> bool:
            with fresh.mqtt_socket() as newcomer:
                newcomer.settimeout(1)
                newcomer.sendall(render_packet(Connect("new", username="any", password=ADMIN_TOKEN.encode())))
                try:
                    return newcomer.recv(4) == b"\x20\x02\x00\x00"
                except (TimeoutError, ConnectionError):
                    return False

        wait_until(is_let_in, 20, "a newcomer to be let in")
        check_served(fresh, client)


@pytest.mark.parametrize(
    ("port", "sent"),
    [
        ("mqtt", bytes.fromhex("1603010200010001fc0303") + bytes(512)),
        ("mqtt", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("mqtt", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        ("mqtt", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12)),
        ("mqtts", render_packet(Connect("x"))),
        ("mqtts", b"GET / HTTP/1.1\r\n\r\n"),
        ("http", render_packet(Connect("x"))),
    ],
    ids=["TLS", "HTTP", "PROXY 1", "PROXY 2", "plain MQTT to TLS", "HTTP to TLS", "MQTT to HTTP"],
)
def test_h46_other_protocols(server: Server, port: str, sent: bytes) -> None:
    """Closed, with one line in the log; what a listener with the PROXY protocol does is in
    `tests/broker/test_proxy_protocol.py`."""
    before = server.log.count("\n")
    with socket.create_connection(("127.0.0.1", server._port(port)), timeout=15) as client:
        client.sendall(sent)
        answer = b""
        try:
            while chunk := client.recv(4_096):
                answer += chunk
        except ConnectionResetError:
            pass
    assert b"\x20\x02" not in answer
    assert "Traceback" not in server.log
    assert server.log.count("\n") - before <= 2
    with server.mqtt_client() as client:
        check_served(server, client)


def test_h48_no_room_on_the_disk(fresh: Server) -> None:
    """No file may grow any more (RLIMIT_FSIZE): what cannot be stored is not acknowledged, the server goes on, and when
    there is room again everything works as before. What was acknowledged is there."""
    pid = fresh.process.pid
    lasting = Connect("away", False, username="any", password=ADMIN_TOKEN.encode())
    with fresh.mqtt_socket() as away:
        away.sendall(render_packet(lasting) + render_packet(Subscribe(1, (Subscription("t", 1),))))
        assert away.recv(100) + away.recv(100) == b"\x20\x02\x00\x00\x90\x03\x00\x01\x01"
        away.sendall(b"\xe0\x00")
    with fresh.mqtt_client() as bystander:
        with fresh.mqtt_client() as publisher:
            fresh.publish_acknowledged(publisher, "t", b"before")
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
            publisher.sendall(render_packet(Publish("t", b"unsure" * 1_000, 1, 2)))
            publisher.settimeout(5)
            with contextlib.suppress(TimeoutError):  # it may be tried again: without an answer the client keeps it
                assert publisher.recv(4) == b"", "acknowledged, but not stored"
            check_served(fresh, bystander)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

        def is_stored() -> bool:
            with fresh.mqtt_client() as again:
                again.settimeout(3)
                again.sendall(render_packet(Publish("t", b"after", 1, 3)))
                try:
                    return again.recv(4) == b"\x40\x02\x00\x03"
                except (TimeoutError, ConnectionError):
                    return False

        wait_until(is_stored, 20, "messages to be stored again")
        check_served(fresh, bystander)
    fresh.kill()
    with running_server(fresh.data) as restarted, restarted.mqtt_socket() as away:
        away.sendall(render_packet(lasting))
        received = b""
        while b"after" not in received:
            received += away.recv(65_536)
        assert received.startswith(b"\x20\x02\x01\x00")
        assert b"before" in received
