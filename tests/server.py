"""A real Headwater process for tests, and what a person or a device does with it."""

from __future__ import annotations

import html
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect, Publish

ADMIN_NAME = "admin"
ADMIN_PASSWORD = "correct horse battery staple"
ADMIN_TOKEN = "test-account-token-0123456789-abcdef"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 12.0


class Credentials(NamedTuple):
    """What an MQTT device signs in with."""

    client_id: str
    username: str
    password: str


class ChannelKeys(NamedTuple):
    id: int
    write_key: str
    read_key: str


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def headwater(*arguments: str | Path, code: int = 0, stdin: str = "") -> str:
    """Run a command; what it printed, on standard error if it failed."""
    command = [sys.executable, "-m", "headwater", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0, what: str = "the condition") -> None:
    """Return as soon as something is true; fail when it does not become so."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)


@dataclass
class Server:
    """One running process."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    data: Path
    log_path: Path
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def http_port(self) -> int:
        return self._port("http")

    @property
    def https_port(self) -> int:
        return self._port("https")

    @property
    def mqtt_port(self) -> int:
        return self._port("mqtt")

    @property
    def mqtts_port(self) -> int:
        return self._port("mqtts")

    def _port(self, scheme: str) -> int:
        return int(self.ready[scheme][0].rsplit(":", 1)[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def ca_path(self) -> Path:
        return self.data / "certificates" / "ca.crt"

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    # -- HTTP -----------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: dict[str, str] | None = None,
        **query: object,
    ) -> Answer:
        """One request, as the standard library sends it."""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def raw_call(self, request: bytes) -> bytes:
        """The bytes that come back for the bytes of a request, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.http_port), timeout=20) as client:
            client.sendall(request)
            answer = b""
            while chunk := client.recv(65_536):
                answer += chunk
            return answer

    def create_channel(self, name: str = "n", **settings: object) -> ChannelKeys:
        """A channel of the administrator with two named fields unless said otherwise."""
        form = {"field1": "Temp", "field2": "Hum"} | {key: str(value) for key, value in settings.items()}
        body = urllib.parse.urlencode(form | {"name": name, "api_key": ADMIN_TOKEN})
        channel = self.call("POST", "/channels.json", body).json()
        write, read = (key["api_key"] for key in channel["api_keys"])
        return ChannelKeys(channel["id"], write, read)

    def feeds(self, channel: ChannelKeys, **query: object) -> list[dict[str, Any]]:
        """The entries that `feeds.json` returns."""
        answer = self.call("GET", f"/channels/{channel.id}/feeds.json", api_key=channel.read_key, **query)
        assert answer.status == 200, answer
        feeds: list[dict[str, Any]] = answer.json()["feeds"]
        return feeds

    # -- the console, as a browser without scripts uses it --------------------------------------------------

    def sign_in(self) -> None:
        self.submit("/sign-in", name=ADMIN_NAME, password=ADMIN_PASSWORD, next="/channels")

    def visit(self, path: str) -> Answer:
        """A page of the console."""
        return self._visit("GET", path)

    def submit(self, path: str, page: str | None = None, **form: object) -> Answer:
        """Fill in the form of a page and send it."""
        shown = self._visit("GET", page or path)
        token = re.search(rb'name="csrf" value="([0-9a-f]+)"', shown.body)
        assert token is not None, shown
        pairs = [("csrf", token[1].decode())]
        for name, value in form.items():
            pairs += [(name, str(v)) for v in (value if isinstance(value, list | tuple) else [value])]
        answer = self._visit("POST", path, urllib.parse.urlencode(pairs))
        assert answer.status in (200, 303), answer
        return answer

    def _visit(self, method: str, path: str, body: str | None = None) -> Answer:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=20)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            for cookie in response.msg.get_all("Set-Cookie", []):
                name, _, value = cookie.split(";")[0].partition("=")
                self.cookies[name.strip()] = value
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def create_device(
        self, publish: Sequence[ChannelKeys] = (), subscribe: Sequence[ChannelKeys] = (), name: str = "device"
    ) -> Credentials:
        """*Add a new device* in the console; its credentials from the page that shows them once."""
        if not self.cookies:
            self.sign_in()
        form = {"publish": [c.id for c in publish], "subscribe": [c.id for c in subscribe]}
        return _shown_credentials(self.submit("/devices/new", name=name, **form))

    def create_account_device(self, device_id: str, credential: str = "") -> Credentials:
        """*Add an account device* in the console, with this credential or one that Headwater makes."""
        if not self.cookies:
            self.sign_in()
        return _shown_credentials(self.submit("/devices/account/new", device_id=device_id, credential=credential))

    def new_credentials(self, path: str, page: str, **form: object) -> Credentials:
        """Those that a form of a device's page makes."""
        return _shown_credentials(self.submit(path, page=page, **form))

    def device_path(self, name: str) -> str:
        """The console's page of the device of this name, of either kind."""
        page = html.unescape(self.visit("/devices").body.decode())
        found = re.search(rf'<a [^>]*href="(/devices/(?:account/)?\d+)"[^>]*>{re.escape(name)}<', page)
        assert found is not None, page
        return found[1]

    def add_token(self, name: str) -> tuple[str, str]:
        """A new account token from the profile page, and the path that removes it."""
        if not self.cookies:
            self.sign_in()
        page = self.submit("/profile/tokens", page="/profile", name=name).body.decode()
        secret = re.search(r'aria-labelledby="new-token".*?<code>([^<]+)</code>', page, re.DOTALL)
        removal = re.findall(r'action="(/profile/tokens/\d+/delete)"', page)
        assert secret is not None, page
        return html.unescape(secret[1]), removal[-1]

    def add_account(self, name: str) -> str:
        """The User API Key of a new account, which the running server knows then."""
        arguments = ("account", "add", name, "--password-stdin", "--data", self.data)
        key = headwater(*arguments, stdin=ADMIN_PASSWORD).split()[-1]
        wait_until(lambda: self.call("GET", "/channels.json", api_key=key).status == 200, what="the account")
        return key

    # -- MQTT, byte by byte ---------------------------------------------------------------------------------

    def mqtt_socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.mqtt_port), timeout=10)

    def mqtt_client(self, credentials: Credentials | None = None) -> socket.socket:
        """A client that has signed in; without credentials with the administrator's token."""
        who = credentials or Credentials("", "any", ADMIN_TOKEN)
        client = self.mqtt_socket()
        connect = Connect(who.client_id, username=who.username, password=who.password.encode())
        client.sendall(render_packet(connect))
        assert client.recv(4) == b"\x20\x02\x00\x00"
        return client

    def publish_acknowledged(self, client: socket.socket, topic: str, payload: bytes, packet_id: int = 1) -> None:
        """Publish with QoS 1 and wait for PUBACK: then it is stored."""
        client.sendall(render_packet(Publish(topic, payload, 1, packet_id)))
        expected = b"\x40\x02" + packet_id.to_bytes(2, "big")
        assert client.recv(4) == expected

    # -- the process ----------------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL: no warning, no flush."""
        self.process.kill()
        self.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it the polite way; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit code. What it printed after the `ready` line must be nothing."""
        rest, _ = self.process.communicate(timeout=STOP_TIMEOUT_S)
        assert rest == ""
        return self.process.returncode


def _shown_credentials(shown: Answer) -> Credentials:
    """Those on the page that shows them once."""
    text = re.search(rb'<pre id="credentials-file"[^>]*>(.*?)</pre>', shown.body, re.DOTALL)
    assert text is not None, shown
    lines = html.unescape(text[1].decode()).splitlines()
    values = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return Credentials(values["client id"], values["username"], values["password"])


def start_server(data: Path, *arguments: str, **environment: str) -> Server:
    """Start Headwater on a data directory, with every listener on a free port."""
    command = [sys.executable, "-m", "headwater", "serve", "--data", str(data)]
    for scheme in ("http", "https", "mqtt", "mqtts"):
        if f"--{scheme}" not in arguments:
            command += [f"--{scheme}", "127.0.0.1:0"]
    seed = {
        "HEADWATER_ADMIN_USER": ADMIN_NAME,
        "HEADWATER_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "HEADWATER_ADMIN_TOKEN": ADMIN_TOKEN,
    }
    log_path = data.parent / f"{data.name}.log"
    with log_path.open("a") as log:
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | seed | environment,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("ready "):
        process.wait(timeout=START_TIMEOUT_S)
        process.stdout.close()
        raise AssertionError(f"the server did not start: {log_path.read_text()}")
    return Server(process, json.loads(line.removeprefix("ready ")), data, log_path)


@contextmanager
def running_server(data: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """A server for the length of a `with` block; it must end well."""
    server = start_server(data, *arguments, **environment)
    try:
        yield server
    finally:
        if server.process.returncode is None:
            assert server.stop() == 0, server.log


def require_program(name: str) -> str:
    """The path of a system program. In CI it must be there; elsewhere the test is skipped with what to do."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        import pytest

        message = f"{name} is not installed; `make test` installs it as root on Debian"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
