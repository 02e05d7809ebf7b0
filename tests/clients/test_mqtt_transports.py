"""The same client over every way in: TCP, TLS with and without its own certificate, WebSocket, and behind a proxy."""

from __future__ import annotations

import queue
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from server import ADMIN_NAME, ADMIN_TOKEN, Server, running_server, wait_until

TIMEOUT_S = 20


class Paho:
    """A client that signs in with the administrator's token."""

    def __init__(self, server: Server, client_id: str, transport: str, path: str = "/mqtt") -> None:
        over_websocket = transport in ("ws", "wss")
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id, transport="websockets" if over_websocket else "tcp"
        )
        self.client.username_pw_set(ADMIN_NAME, ADMIN_TOKEN)
        if over_websocket:
            self.client.ws_set_options(path=path)
        if transport in ("tls", "wss"):
            self.client.tls_set_context(ssl.create_default_context(cafile=server.ca_path))
        self.port = {
            "tcp": server.mqtt_port,
            "tls": server.mqtts_port,
            "ws": server.http_port,
            "wss": server.https_port,
        }[transport]
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.subscribed, self.disconnected = threading.Event(), threading.Event()
        self.client.on_message = lambda _, __, message: self.messages.put((message.topic, message.payload))
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_disconnect = lambda *_: self.disconnected.set()

    def start(self) -> None:
        self.client.connect("localhost" if self.client._ssl else "127.0.0.1", self.port)
        self.client.loop_start()
        wait_until(self.client.is_connected, TIMEOUT_S, "the connection")

    def subscribe(self, topic_filter: str) -> None:
        self.client.subscribe(topic_filter, 1)
        assert self.subscribed.wait(TIMEOUT_S)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def connected(server: Server, client_id: str, transport: str, **options: Any) -> Iterator[Paho]:
    client = Paho(server, client_id, transport, **options)
    client.start()
    try:
        yield client
    finally:
        client.stop()


@pytest.mark.parametrize("transport", ["tcp", "tls", "ws", "wss"])
def test_messages_go_both_ways(data: Path, transport: str) -> None:
    with running_server(data) as server, connected(server, "a", transport) as client:
        client.subscribe("house/#")
        for payload in (b"", b"x", bytes(100_000)):
            client.client.publish("house/room", payload, 1).wait_for_publish(TIMEOUT_S)
            assert client.messages.get(timeout=TIMEOUT_S) == ("house/room", payload)
        with connected(server, "b", "tcp") as other:
            for number in range(200):
                other.client.publish("house/count", str(number), 1)
            counted = [client.messages.get(timeout=TIMEOUT_S)[1] for _ in range(200)]
            assert counted == [str(number).encode() for number in range(200)]


@pytest.mark.parametrize("path", ["/", "/ws", "/mqtt"])
def test_websocket_at_every_path(data: Path, path: str) -> None:
    with running_server(data) as server:
        with connected(server, "a", "ws", path=path) as client:
            client.subscribe("t")
            client.client.publish("t", b"x", 1).wait_for_publish(TIMEOUT_S)
            assert client.messages.get(timeout=TIMEOUT_S) == ("t", b"x")
        assert server.call("GET", "/mqtt").status == server.call("GET", "/ws").status == 426
        assert server.call("GET", "/").status in (200, 303)


def test_a_websocket_without_connect_has_the_deadline_of_connect(data: Path) -> None:
    with (
        running_server(data, HEADWATER_MQTT_CONNECT_TIMEOUT_S="0.5") as server,
        socket.create_connection(("127.0.0.1", server.http_port), timeout=TIMEOUT_S) as client,
    ):
        client.sendall(
            b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        answer = b""
        while chunk := client.recv(65_536):
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert "no CONNECT in time" in server.log


def test_the_server_stops_with_websockets_open(data: Path) -> None:
    with running_server(data) as server, connected(server, "a", "ws") as one, connected(server, "b", "wss") as two:
        assert server.stop(signal.SIGTERM) == 0
        assert one.disconnected.wait(TIMEOUT_S)
        assert two.disconnected.wait(TIMEOUT_S)


def test_behind_a_proxy_the_client_s_address_is_known(data: Path) -> None:
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01p"
    with running_server(data, "--mqtt-proxied", "127.0.0.1:0") as server:
        port = int(server.ready["mqtt_proxied"][0].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as client:
            client.sendall(b"PROXY TCP4 203.0.113.7 192.0.2.1 5 6\r\n" + connect)
            assert client.recv(4) == b"\x20\x02\x00\x00"
            client.sendall(b"\x00\x00")
            assert client.recv(1) == b""
        wait_until(lambda: "203.0.113.7" in server.log, what="the log")
        for said, listener in ((connect, port), (b"PROXY TCP4 203.0.113.7 192.0.2.1 5 6\r\n", server.mqtt_port)):
            with socket.create_connection(("127.0.0.1", listener), timeout=TIMEOUT_S) as client:
                client.sendall(said)
                try:
                    assert client.recv(1) == b""
                except ConnectionResetError:
                    continue


class Ca:
    """Signs clients' certificates."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
        path.write_bytes(self._sign(self.name, self.key, is_ca=True))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def give(self, path: Path, name: str) -> Path:
        """A file with a key and a certificate for a client of this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        path.write_bytes(private + self._sign(subject, key, is_ca=False))
        return path


def test_client_certificates_are_required_and_reloaded(data: Path, tmp_path: Path) -> None:
    old, new = Ca(tmp_path / "old.crt"), Ca(tmp_path / "new.crt")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(old.path.read_bytes())
    environment = {
        "HEADWATER_TLS_CLIENT_CA": str(trusted),
        "HEADWATER_TLS_CLIENT_CERTIFICATES": "required",
    }

    def with_certificate(server: Server, client_id: str, certificate: Path | None) -> Paho:
        client = Paho(server, client_id, "tls")
        context = ssl.create_default_context(cafile=server.ca_path)
        if certificate is not None:
            context.load_cert_chain(certificate)
        client.client._ssl_context = context
        return client

    def is_refused(server: Server, certificate: Path | None) -> bool:
        client = with_certificate(server, "refused", certificate)
        try:
            client.client.connect("localhost", client.port)
        except (ssl.SSLError, ConnectionError):
            return True
        client.client.loop_start()
        try:
            return client.disconnected.wait(TIMEOUT_S) and not client.client.is_connected()
        finally:
            client.stop()

    of_old, of_new = old.give(tmp_path / "of_old.pem", "porch"), new.give(tmp_path / "of_new.pem", "cellar")
    with running_server(data, **environment) as server:
        first = with_certificate(server, "first", of_old)
        first.start()
        assert is_refused(server, None)
        assert is_refused(server, of_new)
        wait_until(lambda: server.log.count("TLS handshake failed") >= 2, what="the log")
        trusted.write_bytes(new.path.read_bytes())
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded registry" in server.log, what="the reload")
        second = with_certificate(server, "second", of_new)
        second.start()
        assert is_refused(server, of_old)
        second.subscribe("t")
        first.client.publish("t", b"still here", 1).wait_for_publish(TIMEOUT_S)
        assert second.messages.get(timeout=TIMEOUT_S) == ("t", b"still here")
        assert not first.disconnected.is_set()
        with connected(server, "browser", "wss") as browser:
            browser.subscribe("t")  # web listeners ask nobody for a certificate
        first.stop()
        second.stop()
