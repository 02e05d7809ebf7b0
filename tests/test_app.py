"""The whole server as an operator meets it: start, listeners, the `ready` line, reload, stop."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shlex
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from headwater.certificates import certificate_end
from headwater.file_limit import raise_file_limit, what_is_short
from headwater.reload import ListenerTls, Reload
from headwater.services import Services
from headwater.settings import Settings
from headwater.store.duck import open_duck_store
from server import ADMIN_NAME, ADMIN_TOKEN, Answer, Server, require_program, running_server, start_server, wait_until

FILE_SIZE_LIMIT_BYTES = 2_000_000
NO_ADMIN = {"HEADWATER_ADMIN_USER": "", "HEADWATER_ADMIN_PASSWORD": "", "HEADWATER_ADMIN_TOKEN": ""}


def account_command(data: Path, *arguments: str, password: str = "") -> str:
    """Run `headwater account`; what it printed."""
    command = [sys.executable, "-m", "headwater", "account", *arguments, "--data", str(data)]
    done = subprocess.run(command, input=password, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stored_buckets(data: Path) -> set[int]:
    """The channels of which a stopped server's store has anything."""
    with closing(open_duck_store(data / "telemetry", memory_limit_mb=64, threads=1, wal_limit_mb=8)) as store:
        return {series.key.bucket_id for series in store.catalogue()}


def test_the_ready_line_and_nothing_else_is_on_standard_output(data: Path) -> None:
    with running_server(data, "--http", "127.0.0.1:0", "--http", "[::1]:0", "--https", "off") as server:
        assert set(server.ready) == {"http", "https", "mqtt", "mqtts", "data", "pid"}
        assert server.ready["data"] == str(data)
        assert server.ready["pid"] == server.process.pid
        assert server.ready["https"] == []
        first, second = server.ready["http"]
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d+", first)
        assert re.fullmatch(r"\[::1\]:[1-9]\d+", second)
        with socket.create_connection(("::1", int(second.rsplit(":", 1)[1]))) as client:
            client.sendall(b"GET /ca.crt HTTP/1.0\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        assert server.stop() == 0


def test_https_and_mqtts_verify_against_the_ca_it_serves(data: Path) -> None:
    with running_server(data) as server:
        ca = server.call("GET", "/ca.crt").body.decode()
        context = ssl.create_default_context(cadata=ca)
        for port in (server.https_port, server.mqtts_port):
            for name in ("localhost", "127.0.0.1"):
                with (
                    socket.create_connection(("127.0.0.1", port)) as plain,
                    context.wrap_socket(plain, server_hostname=name) as client,
                ):
                    assert client.version() in ("TLSv1.2", "TLSv1.3")


def test_first_start_shows_what_it_generated_once(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AssertionError) as failure:
        start_server(data, "--mqtts", f"127.0.0.1:{taken.getsockname()[1]}", **NO_ADMIN)
    assert "Shown only now" not in str(failure.value)
    first = start_server(data, **NO_ADMIN)
    assert first.stop() == 0
    password = re.search(r"^  password +(\S{16,})$", first.log, re.MULTILINE)
    token = re.search(r"^  token +(\S{32,})$", first.log, re.MULTILINE)
    assert password is not None
    assert token is not None
    before = len(first.log)
    with running_server(data) as second:
        assert second.call("POST", "/channels.json", f"api_key={token[1]}&name=n").status == 200
        assert second.call("POST", "/channels.json", f"api_key={ADMIN_TOKEN}&name=n").status == 401
        assert "password" not in second.log[before:]
        assert second.log[before:].count("ignored: accounts exist already") == 1


def test_an_account_that_was_added_first_does_not_keep_the_administrator_from_being_made(data: Path) -> None:
    account_command(data, "add", "anna", "--password-stdin", password="a long password")
    with running_server(data) as server:
        server.create_channel()
        assert account_command(data, "list").count("\tadmin\t") == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HEADWATER_ADMIN_USER", "a b"), ("HEADWATER_ADMIN_PASSWORD", "short"), ("HEADWATER_ADMIN_TOKEN", "a b c d e f")],
)
def test_an_administrator_that_cannot_be_names_the_variable(data: Path, variable: str, value: str) -> None:
    with pytest.raises(AssertionError) as failure:
        start_server(data, **{variable: value})
    assert f"headwater: {variable}: " in str(failure.value)
    assert value not in str(failure.value)


def test_an_account_in_the_administrator_s_place_names_the_way_out(data: Path) -> None:
    account_command(data, "add", ADMIN_NAME, "--password-stdin", password="a long password")
    with pytest.raises(AssertionError, match="HEADWATER_ADMIN_USER"):
        start_server(data)


def test_what_the_environment_gives_is_not_shown(data: Path) -> None:
    with running_server(data) as server:
        assert "Shown only now" not in server.log
        assert ADMIN_TOKEN not in server.log


def test_files_are_private(data: Path) -> None:
    with running_server(data) as server:
        channel = server.create_channel()
        server.call("GET", "/update", api_key=channel.write_key, field1=1)
        for path in data.rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            if path.name in ("ca.crt", "server.crt", "headwater.pid"):
                continue
            assert mode & 0o077 == 0 or stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0, (path, oct(mode))


def test_a_second_server_on_the_same_data_is_refused(data: Path) -> None:
    with running_server(data) as server:
        command = [sys.executable, "-m", "headwater", "serve", "--data", str(data)]
        for scheme in ("http", "https", "mqtt", "mqtts"):
            command += [f"--{scheme}", "127.0.0.1:0"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert second.returncode == 2
        assert second.stdout == ""
        assert str(server.process.pid) in second.stderr
        assert len(second.stderr.splitlines()) == 1


def test_a_port_that_is_taken_names_the_way_out(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port} for mqtt.*--mqtt"):
            start_server(data, "--mqtt", f"127.0.0.1:{port}")
    with running_server(data):
        pass  # the failed start has left nothing that is in the way


def test_a_host_that_does_not_resolve_is_not_called_a_busy_port(data: Path) -> None:
    with pytest.raises(AssertionError, match="name an address of this machine with --http") as failure:
        start_server(data, "--http", "no-such-host.invalid:0")
    assert "free the port" not in str(failure.value)


def test_the_registry_may_be_in_any_directory(tmp_path: Path) -> None:
    with running_server(tmp_path / "what? 50%41#", HEADWATER_STORE_ENGINE="memory") as server:
        server.create_channel()
    assert (tmp_path / "what? 50%41#" / "registry.db").exists()


def test_as_many_files_as_the_system_grants_may_be_open(data: Path) -> None:
    with running_server(data) as server:
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert soft == hard
    assert what_is_short(25_000, Settings()) is None
    assert "lower mqtt.max_connections" in (what_is_short(24_999, Settings()) or "")


def test_raising_the_file_limit_answers_what_is_granted() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        granted = raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] in (granted, resource.RLIM_INFINITY)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_sighup_takes_up_certificates_and_log_settings(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "headwater.toml"
    config.write_text('log.level = "info"\n')

    def served_certificate(port: int) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as client:
            certificate = client.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate

    with running_server(data, "--config", str(config)) as server, server.mqtt_client() as client:
        before = served_certificate(server.mqtts_port)
        config.write_text('log.level = "info"\nlog.format = "json"\ntls.host_names = ["greenhouse.example"]\n')
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: '"reloaded' in server.log, what="the reload")
        assert served_certificate(server.mqtts_port) != before
        assert served_certificate(server.https_port) == served_certificate(server.mqtts_port)
        client.sendall(b"\xc0\x00")
        assert client.recv(2) == b"\xd0\x00", "connections stay"

        for number, bad in enumerate(("log.level = 7\n", 'tls.certificate = "no.crt"\ntls.key = "no.key"\n'), 1):
            config.write_text(bad)
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda n=number: server.log.count("reload kept the old settings") == n, what="the refusal")
            assert server.log.splitlines()[-1].startswith("{"), "the logs stay as they were, too"
            client.sendall(b"\xc0\x00")
            assert client.recv(2) == b"\xd0\x00"

        config.write_text("mqtt.max_packet_bytes = 2048\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "needs a restart: mqtt.max_packet_bytes" in server.log, what="the notice")


def test_a_reload_that_is_asked_for_during_the_start_happens(data: Path) -> None:
    def ask() -> None:
        pid_file = data / "headwater.pid"
        wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), what="the lock")
        os.kill(int(pid_file.read_text()), signal.SIGHUP)

    asking = threading.Thread(target=ask)
    asking.start()
    with running_server(data) as server:
        asking.join()
        wait_until(lambda: "reloaded registry" in server.log, what="the reload")


def test_the_own_certificate_is_renewed_while_the_server_runs(data: Path) -> None:
    now = datetime.now(UTC)
    settings = Settings(data=data)

    async def renew() -> None:
        nonlocal now
        tls = ListenerTls(settings, now=lambda: now)
        path = data / "certificates" / "server.crt"
        first, made_ns = certificate_end(path), path.stat().st_mtime_ns
        assert not await tls.renew()
        assert path.stat().st_mtime_ns == made_ns
        now = first - timedelta(days=1)
        nothing = cast("Services", None)  # a renewal needs none
        reload = Reload(asyncio.Event(), settings, nothing, tls, None, colour=False, renewal_interval_s=0.001)
        task = asyncio.create_task(reload.run())
        async with asyncio.timeout(10):
            while certificate_end(path) == first:
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(renew())


def test_telemetry_of_an_account_that_is_removed_beside_the_server_goes_too(data: Path) -> None:
    def write(server: Server, name: str) -> int:
        added = account_command(data, "add", name, "--password-stdin", password="a long password")
        key = added.rsplit(" ", 1)[1].strip()
        created: list[Answer] = []

        def create() -> bool:
            created.append(server.call("POST", "/channels.json", f"api_key={key}&name=n"))
            return created[-1].status == 200

        wait_until(create, what="the account")
        channel = created[-1].json()
        write_key = next(one["api_key"] for one in channel["api_keys"] if one["write_flag"])
        assert server.call("GET", "/update", api_key=write_key, field1=1).body == b"1"
        return int(channel["id"])

    with running_server(data) as server:
        kept = server.create_channel()
        assert server.call("GET", "/update", api_key=kept.write_key, field1=1).body == b"1"
        first, second = write(server, "anna"), write(server, "bob")
        reloads = server.log.count("reloaded registry")
        account_command(data, "remove", "anna", "--yes")
        wait_until(lambda: server.log.count("reloaded registry") > reloads, what="the reload")
    assert stored_buckets(data) == {kept.id, second}
    assert first not in (kept.id, second)
    account_command(data, "remove", "bob", "--yes")
    with running_server(data):
        pass
    assert stored_buckets(data) == {kept.id}


def test_an_account_made_beside_the_running_server_is_known_at_once(data: Path) -> None:
    with running_server(data) as server:
        command = [sys.executable, "-m", "headwater", "account", "add", "anna", "--password-stdin", "--data", str(data)]
        added = subprocess.run(command, input="a long password\n", capture_output=True, text=True, timeout=30)
        assert added.returncode == 0, added.stderr
        key = added.stdout.rsplit(" ", 1)[1].strip()
        wait_until(
            lambda: server.call("POST", "/channels.json", f"api_key={key}&name=n").status == 200, what="the account"
        )


def test_sigterm_ends_soon_with_clients_of_every_kind_connected(data: Path) -> None:
    server = start_server(data)
    server.sign_in()
    channel = server.create_channel()
    live = socket.create_connection(("127.0.0.1", server.http_port))
    cookie = "; ".join(f"{name}={value}" for name, value in server.cookies.items())
    live.sendall(f"GET /channels/{channel.id}/live HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
    assert live.recv(12) == b"HTTP/1.1 200"
    idle = socket.create_connection(("127.0.0.1", server.http_port))
    clients = [server.mqtt_client() for _ in range(20)]
    silent = server.mqtt_socket()
    started_s = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started_s < 5
    assert all(client.recv(10) == b"" for client in clients)
    for client in (*clients, live, idle, silent):
        client.close()


def test_sigint_is_like_sigterm(data: Path) -> None:
    server = start_server(data)
    assert server.stop(signal.SIGINT) == 0


def test_the_memory_engine_forgets(data: Path) -> None:
    with running_server(data, HEADWATER_STORE_ENGINE="memory") as server:
        channel = server.create_channel()
        assert server.call("GET", "/update", api_key=channel.write_key, field1=1).body == b"1"
        assert len(server.feeds(channel)) == 1
    with running_server(data, HEADWATER_STORE_ENGINE="memory") as server:
        assert server.feeds(channel) == []


def test_anonymous_clients_share_a_tree_only_where_allowed(data: Path) -> None:
    from headwater.mqtt.encode import render_packet
    from headwater.mqtt.packets import Connect, Publish, Subscribe, Subscription

    def subscribe(server_socket: socket.socket) -> bytes:
        server_socket.sendall(render_packet(Connect("")))
        assert server_socket.recv(4) == b"\x20\x02\x00\x00"
        server_socket.sendall(render_packet(Subscribe(1, (Subscription("a/#", 0),))))
        return server_socket.recv(5)

    with running_server(data) as server, server.mqtt_socket() as client:
        assert subscribe(client) == b"\x90\x03\x00\x01\x80"
    with running_server(data, HEADWATER_MQTT_ALLOW_ANONYMOUS="true") as server, server.mqtt_socket() as client:
        assert subscribe(client) == b"\x90\x03\x00\x01\x00"
        with server.mqtt_client() as account:
            server.publish_acknowledged(account, "a/b", b"an account's")
        with server.mqtt_socket() as other:
            packet = render_packet(Publish("a/b", b"shared"))
            other.sendall(render_packet(Connect("")) + packet)
            assert client.recv(100) == packet


class TestDemo:
    def test_the_station_publishes_what_the_printed_page_shows(self, data: Path) -> None:
        with running_server(data, "--demo") as server:
            assert "The demo's weather station is publishing." in server.log
            assert f"http://127.0.0.1:{server.http_port}/channels/1" in server.log
            assert "mosquitto_pub" in server.log
            demo = json.loads((data / "demo.json").read_text())
            channel = f"/channels/{demo['channel_id']}"
            server.cookies.clear()
            server.submit("/sign-in", name="demo", password=demo["password"], next="/channels")

            def entries() -> int:
                return len(server.visit(f"{channel}/data?results=8000").body)

            wait_until(lambda: entries() > 5_000, what="the history")
            before = entries()
            wait_until(lambda: entries() > before, what="another entry")
            assert stat.S_IMODE((data / "demo.json").stat().st_mode) == 0o600

    def test_it_goes_on_after_a_restart(self, data: Path) -> None:
        with running_server(data, "--demo"):
            pass
        demo = (data / "demo.json").read_text()
        with running_server(data, "--demo") as server:
            assert (data / "demo.json").read_text() == demo
            assert ADMIN_NAME not in server.log

    @pytest.mark.parametrize("allow_topic_keys", ["true", "false"])
    def test_the_printed_command_works_beside_the_station(self, data: Path, allow_topic_keys: str) -> None:
        program = require_program("mosquitto_pub")
        for _ in range(2):
            with running_server(data, "--demo", HEADWATER_MQTT_ALLOW_TOPIC_KEYS=allow_topic_keys) as server:
                printed = re.findall(r"mosquitto_pub [^\n]*\n[^\n]*", server.log)[-1]
                command = shlex.split(printed.replace("\\\n", "").replace("field1=30", "field1=43210"))
                sent = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=20)
                assert (sent.returncode, sent.stderr) == (0, "")
                demo = json.loads((data / "demo.json").read_text())
                server.cookies.clear()
                server.submit("/sign-in", name="demo", password=demo["password"], next="/channels")
                page = f"/channels/{demo['channel_id']}/data?results=8000"
                wait_until(lambda s=server, p=page: b"43210" in s.visit(p).body)
                assert "reconnects" not in server.log
        assert bool(demo["guest_id"]) == (allow_topic_keys == "false")
        assert stat.S_IMODE((data / "demo.json").stat().st_mode) == 0o600

    def test_a_password_that_was_changed_is_not_printed(self, data: Path) -> None:
        with running_server(data, "--demo") as server:
            old = json.loads((data / "demo.json").read_text())["password"]
            assert f"(sign in as demo with {old})" in server.log
        account_command(data, "reset-password", "demo", "--password-stdin", password="another password")
        before = len(server.log)
        with running_server(data, "--demo") as server:
            assert "(sign in as demo)" in server.log[before:]
            assert old not in server.log[before:]

    def test_it_needs_a_listener(self, data: Path) -> None:
        with pytest.raises(AssertionError, match="needs an MQTT listener"):
            start_server(data, "--demo", "--mqtt", "off")


def test_a_failing_disk_refuses_writes_and_loses_nothing_acknowledged(data: Path) -> None:
    """The file-size limit of the process stands in for a full disk."""
    server = start_server(data)
    channel = server.create_channel()
    assert server.call("GET", "/update", api_key=channel.write_key, field1=1).body == b"1"
    _limit_file_size(server.process.pid)
    try:
        text = "x" * 250
        fields = {f"field{n}": text for n in range(1, 9)}

        acknowledged = 1

        def is_refused() -> bool:
            nonlocal acknowledged
            status = server.call("GET", "/update.json", api_key=channel.write_key, **fields).status
            acknowledged += status == 200
            return status == 503

        wait_until(is_refused, timeout_s=30, what="the refusal")
        answer = server.call("GET", "/update.json", api_key=channel.write_key, **fields)
        assert answer.json()["error"]["error_code"] == "error_service_unavailable"
    finally:
        server.kill()
    with running_server(data) as again:
        entries = again.feeds(channel, results=8000)
        assert entries[0]["field1"] == "1"
        assert len(entries) >= acknowledged


def _limit_file_size(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_SIZE_LIMIT_BYTES, FILE_SIZE_LIMIT_BYTES))


def test_entries_without_their_registry_are_neither_deleted_nor_given_away(data: Path) -> None:
    with running_server(data) as server:
        channel = server.create_channel()
        assert server.call("GET", "/update", api_key=channel.write_key, field1=1).body == b"1"
    kept = data.parent / "kept"
    kept.mkdir()
    for path in data.glob("registry.db*"):
        path.rename(kept / path.name)
    with pytest.raises(AssertionError, match="the registry is missing or older than the stored entries"):
        start_server(data)
    for path in data.glob("registry.db*"):
        path.unlink()
    for path in kept.iterdir():
        path.rename(data / path.name)
    with running_server(data) as server:
        assert [entry["field1"] for entry in server.feeds(channel)] == ["1"]
