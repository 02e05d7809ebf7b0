"""mosquitto_pub, mosquitto_sub and mosquitto_rr with what they can say of MQTT 3.1, 3.1.1 and 5.0."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from server import ADMIN_TOKEN, Credentials, Server, require_program, wait_until

VERSIONS = ("mqttv31", "mqttv311", "mqttv5")
TIMEOUT_S = 20

Listen = Callable[..., "Listener"]


def command(program: str, server: Server, who: Credentials | None, version: str, *, tls: bool = False) -> list[str]:
    """The program with how to connect; without credentials with the administrator's token."""
    made = [require_program(program), "-h", "localhost", "-V", version]
    made += ["-p", str(server.mqtts_port), "--cafile", str(server.ca_path)] if tls else ["-p", str(server.mqtt_port)]
    if who is None:
        return [*made, "-u", "any", "-P", ADMIN_TOKEN]
    made += ["-i", who.client_id]
    return [*made, "-u", who.username, "-P", who.password] if who.username else made


def publish(
    server: Server, *arguments: str, version: str = "mqttv311", who: Credentials | None = None
) -> subprocess.CompletedProcess[str]:
    given = [*command("mosquitto_pub", server, who, version), *arguments]
    return subprocess.run(given, capture_output=True, text=True, timeout=TIMEOUT_S)


def sub(server: Server, *arguments: str, version: str = "mqttv311", who: Credentials | None = None) -> list[str]:
    """mosquitto_sub until it ends by itself; the lines that it printed."""
    given = [*command("mosquitto_sub", server, who, version), *arguments]
    done = subprocess.run(given, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


class Listener:
    """mosquitto_sub (or another of its family) in the background."""

    def __init__(self, given: list[str], ready: str) -> None:
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", *given], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_until(lambda: any(ready in line for line in self.lines), what=ready)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What `-F %j` printed of each."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.messages) >= count, what=f"{count} messages: {self.lines}")
        return self.messages

    def vanish(self) -> None:
        self.process.kill()
        self.process.wait(timeout=TIMEOUT_S)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=TIMEOUT_S)
        self._reader.join(timeout=TIMEOUT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def listen(server: Server) -> Iterator[Listen]:
    """Starts mosquitto_sub with these arguments, and waits until it is subscribed."""
    with ExitStack() as stack:

        def start(
            *arguments: str, version: str = "mqttv311", who: Credentials | None = None, **options: Any
        ) -> Listener:
            at = options.pop("at", server)
            given = [*command("mosquitto_sub", at, who, version, **options), "-d", "-F", "%j", *arguments]
            made = Listener(given, "Subscribed")
            stack.callback(made.close)
            return made

        yield start


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_arrive_in_order(
    server: Server, listen: Listen, prefix: str, version: str, qos: int, tls: bool
) -> None:
    listener = listen("-t", f"{prefix}/+", "-q", str(qos), version=version, tls=tls)
    given = [*command("mosquitto_pub", server, None, version, tls=tls), "-t", f"{prefix}/a", "-q", str(qos), "-l"]
    lines = "".join(f"message {n}\n" for n in range(40))
    assert subprocess.run(given, input=lines, text=True, timeout=TIMEOUT_S).returncode == 0
    messages = listener.wait_for(40)
    assert [message["payload"] for message in messages] == lines.splitlines()
    assert {(message["topic"], message["qos"], message["retain"]) for message in messages} == {(f"{prefix}/a", qos, 0)}


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages(server: Server, prefix: str, version: str) -> None:
    for payload in ("1", "2"):
        assert publish(server, "-t", f"{prefix}/a", "-m", payload, "-q", "1", "-r", version=version).returncode == 0
    got = sub(server, "-t", f"{prefix}/#", "-C", "1", "-F", "%r %p", version=version)
    assert got == ["1 2"]
    assert publish(server, "-t", f"{prefix}/a", "-n", "-q", "1", "-r", version=version).returncode == 0
    publish(server, "-t", f"{prefix}/end", "-m", "end", "-q", "1", "-r")
    assert sub(server, "-t", f"{prefix}/+", "-C", "1", version=version) == ["end"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_will(server: Server, listen: Listen, prefix: str, version: str) -> None:
    watcher = listen("-t", f"{prefix}/will", "-q", "1")
    will = ("--will-topic", f"{prefix}/will", "--will-payload", "Offline", "--will-qos", "1", "--will-retain")
    mortal = listen("-t", f"{prefix}/a", *will, version=version)
    mortal.vanish()
    (message,) = watcher.wait_for(1)
    assert (message["payload"], message["qos"]) == ("Offline", 1)
    assert sub(server, "-t", f"{prefix}/will", "-C", "1", "-F", "%r %p") == ["1 Offline"]


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_wait_for_a_client_that_is_away(server: Server, prefix: str, version: str) -> None:
    who = Credentials(f"{prefix}-away", "any", ADMIN_TOKEN)
    lasting = ("-c", "-x", "100") if version == "mqttv5" else ("-c",)
    assert sub(server, *lasting, "-t", prefix, "-q", "2", "-E", version=version, who=who) == []
    for n in range(5):
        publish(server, "-t", prefix, "-m", str(n), "-q", str(1 + n % 2))
    got = sub(server, *lasting, "-t", prefix, "-q", "2", "-C", "5", version=version, who=who)
    assert sorted(got) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_newer_connection_takes_the_place_of_an_older_one(
    listen: Listen, server: Server, prefix: str, version: str
) -> None:
    who = Credentials(f"{prefix}-same", "any", ADMIN_TOKEN)
    older = listen("-t", prefix, version=version, who=who)
    newer = listen("-t", prefix, version=version, who=who)
    if version == "mqttv5":
        wait_until(lambda: "Received DISCONNECT (142)" in older.lines, what="being told")
    else:  # it does not know why, and comes again
        wait_until(lambda: sum("sending CONNECT" in line for line in older.lines) > 1, what="the end of the older")
    older.vanish()
    newer.vanish()


def test_wildcards_and_dollar_topics(server: Server, listen: Listen, prefix: str) -> None:
    listener = listen("-t", f"{prefix}/+/c", "-t", f"{prefix}/d/#", "-t", "end/#", "-q", "1")
    everything = listen("-t", "#", "-q", "1")
    for topic in ("a/c", "/c", "a/b/c", "d", "d/e/f", "D"):
        publish(server, "-t", f"{prefix}/{topic}", "-m", "x", "-q", "1")
    publish(server, "-t", f"end/{prefix}", "-m", "x", "-q", "1")
    wait_until(lambda: any(m["topic"] == f"end/{prefix}" for m in listener.messages), what="the last")
    heard = [message["topic"].removeprefix(f"{prefix}/") for message in listener.messages]
    assert heard == ["a/c", "/c", "d", "d/e/f", f"end/{prefix}"]
    wait_until(lambda: any(m["topic"] == f"end/{prefix}" for m in everything.messages), what="the last")
    assert not any(message["topic"].startswith("$") for message in everything.messages)
    (uptime,) = sub(server, "-t", "$SYS/broker/uptime", "-C", "1")
    assert uptime


@pytest.mark.parametrize("version", VERSIONS)
def test_a_shared_subscription(server: Server, listen: Listen, prefix: str, version: str) -> None:
    members = [listen("-t", f"$share/g/{prefix}/#", "-q", "1", version=version) for _ in range(2)]
    publish(server, "-t", f"{prefix}/a", "-m", "x", "-q", "1", "--repeat", "20")
    wait_until(lambda: sum(len(member.messages) for member in members) == 20, what="20 messages in the group")
    assert all(member.messages for member in members)


def test_request_and_response(server: Server, listen: Listen, prefix: str) -> None:
    """mosquitto_rr asks; the answer goes where its question says."""
    answering = listen("-t", f"{prefix}/question", "-q", "1", "-F", "%j", version="mqttv5")
    asking = subprocess.Popen(
        [
            *command("mosquitto_rr", server, None, "mqttv5"),
            *("-t", f"{prefix}/question", "-e", f"{prefix}/answer", "-m", "how many?", "-q", "1", "-W", "15"),
            *("-D", "publish", "correlation-data", "number 7"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    (question,) = answering.wait_for(1)
    assert (question["payload"], question["properties"]["correlation-data"]) == ("how many?", "number 7")
    publish(server, "-t", question["properties"]["response-topic"], "-m", "seven", "-q", "1", version="mqttv5")
    out, _ = asking.communicate(timeout=TIMEOUT_S)
    assert (asking.returncode, out) == (0, "seven\n")


def test_what_a_message_carries(server: Server, listen: Listen, prefix: str) -> None:
    listener = listen(
        *("-t", f"{prefix}/#", "-q", "1", "-D", "subscribe", "subscription-identifier", "11"), version="mqttv5"
    )
    carried = [
        *("-D", "publish", "content-type", "text/plain", "-D", "publish", "message-expiry-interval", "60"),
        *("-D", "publish", "user-property", "b", "2", "-D", "publish", "user-property", "a", "1"),
        *("-D", "publish", "payload-format-indicator", "1", "-D", "publish", "topic-alias", "3"),
    ]
    publish(server, "-t", f"{prefix}/a", "-m", "x", "-q", "1", "--repeat", "3", *carried, version="mqttv5")
    for message in listener.wait_for(3):
        properties = message["properties"]
        assert message["topic"] == f"{prefix}/a"
        assert (properties["content-type"], properties["payload-format-indicator"]) == ("text/plain", 1)
        assert properties["user-properties"] == {"b": "2", "a": "1"}
        assert 50 < properties["message-expiry-interval"] <= 60


def test_refusals_are_told_where_mqtt_has_words_for_it(server: Server) -> None:
    channel = server.create_channel()
    device = server.create_device(subscribe=[channel])
    topic = ("-t", f"channels/{channel.id}/publish", "-m", "field1=1", "-q", "1")
    told = publish(server, *topic, version="mqttv5", who=device)
    assert "Not authorized" in told.stderr
    assert publish(server, *topic, who=device).returncode == 0  # MQTT 3 could not say it
    assert server.feeds(channel) == []
    given = [*command("mosquitto_sub", server, device, "mqttv5"), "-d", "-t", "#", "-E"]
    refused = subprocess.run(given, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert "All subscription requests were denied" in refused.stderr + refused.stdout


def test_an_account_device_and_anonymous_clients(
    server: Server, open_server: Server, listen: Listen, prefix: str
) -> None:
    device = server.create_account_device(prefix)
    listener = listen("-t", f"{prefix}/#", "-q", "1")
    assert publish(server, "-t", f"{prefix}/a", "-m", "x", "-q", "1", who=device).returncode == 0
    assert listener.wait_for(1)[0]["payload"] == "x"
    nobody = Credentials(f"{prefix}-nobody", "", "")
    anonymous = listen("-t", "#", "-q", "1", at=open_server, who=nobody)
    other = nobody._replace(client_id=f"{prefix}-other")
    assert publish(open_server, "-t", f"{prefix}/a", "-m", "y", "-q", "1", who=other).returncode == 0
    assert anonymous.wait_for(1)[0]["payload"] == "y"
