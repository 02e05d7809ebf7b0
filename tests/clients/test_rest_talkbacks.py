"""TalkBack over REST on a real server: every call in every form, wrong keys, and updates that bring a command back."""

from __future__ import annotations

import re
import signal
import socket
import threading
import urllib.parse
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server import ADMIN_TOKEN, Answer, ChannelKeys, Server, headwater, running_server, wait_until

ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass
class TalkBack:
    """One on a server, and how programs speak to it."""

    server: Server
    id: int
    key: str

    def call(self, method: str, path: str = "", key: str | None = None, **form: object) -> Answer:
        """Key and parameters as a form, but in the query for GET."""
        parameters = {"api_key": self.key if key is None else key, **form}
        target = f"/talkbacks/{self.id}/commands{path}"
        if method == "GET":
            return self.server.call(method, target, **parameters)
        return self.server.call(method, target, urllib.parse.urlencode(parameters))

    def add(self, text: str, **form: object) -> dict[str, Any]:
        answer = self.call("POST", ".json", command_string=text, **form)
        assert answer.status == 200, answer
        added: dict[str, Any] = answer.json()
        return added

    def waiting(self) -> list[str]:
        return [command["command_string"] for command in self.call("GET", ".json").json()]


def create(server: Server, name: str = "door", **form: object) -> TalkBack:
    """*New TalkBack* in the console."""
    if not server.cookies:
        server.sign_in()
    path = server.submit("/apps/talkbacks/new", name=name, **form).headers["Location"]
    key = re.search(r"commands/execute\?api_key=([0-9A-Z]{16})", server.visit(path).body.decode())
    assert key is not None
    return TalkBack(server, int(path.rsplit("/", 1)[1]), key[1])


@pytest.fixture
def talkback(server: Server) -> TalkBack:
    return create(server)


# -- the calls --------------------------------------------------------------------------------------------------------


def test_a_command_from_add_to_executed(talkback: TalkBack) -> None:
    added = talkback.call("POST", ".json", command_string="ON")
    (shown,) = talkback.call("GET", ".json").json()
    assert ISO_TIME.fullmatch(shown["created_at"])
    when = shown["created_at"]
    text = f'{{"id":{shown["id"]},"command_string":"ON","position":1,"executed_at":null,"created_at":"{when}"}}'
    assert (added.status, added.body.decode()) == (200, text)
    assert talkback.call("GET", f"/{shown['id']}.json").body.decode() == text
    executed = talkback.call("GET", "/execute.json").json()
    assert (executed["id"], executed["position"]) == (shown["id"], None)
    assert ISO_TIME.fullmatch(executed["executed_at"])
    assert talkback.call("GET", f"/{shown['id']}.json").json() == executed
    assert talkback.call("GET", "/last.json").json() == executed
    assert talkback.call("GET", ".json").body == b"[]"


def test_the_plain_form(talkback: TalkBack) -> None:
    """What a device without a parser gets: bare texts without a line end."""
    for number, text in enumerate(("ON", "OFF", "ÄÖ")):
        answer = talkback.call("POST", command_string=text)
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert int(answer.body) > 0, number
    command_id = int(talkback.call("POST", command_string="LAST").body)
    assert talkback.call("GET").body.decode() == "ON\nOFF\nÄÖ\nLAST"
    assert talkback.call("GET", f"/{command_id}").body == b"LAST"
    assert talkback.call("PUT", f"/{command_id}", command_string="X", position=2).body == b"X"
    assert talkback.call("GET", "/execute").body == b"ON"
    assert talkback.call("POST", "/execute").body == b"X"
    assert talkback.call("GET", "/last").body == b"X"
    assert talkback.call("DELETE", f"/{command_id}").body == b"X"
    cleared = talkback.call("DELETE")
    assert (cleared.status, cleared.body) == (200, b"")
    empty = talkback.call("GET", "/execute")
    assert (empty.status, empty.body, empty.headers["Content-Length"]) == (200, b"", "0")
    assert talkback.call("GET", "/execute.json").body == b"{}"
    assert talkback.call("GET", "/last.json").body == b"{}"


def test_xml(talkback: TalkBack) -> None:
    added = ET.fromstring(talkback.call("POST", ".xml", command_string="<ON>").body)
    assert [child.tag for child in added] == ["id", "command-string", "position", "executed-at", "created-at"]
    assert (added.tag, added.findtext("command-string")) == ("command", "<ON>")
    assert added[3].attrib == {"type": "dateTime", "nil": "true"}
    listed = ET.fromstring(talkback.call("GET", ".xml").body)
    assert (listed.tag, listed.attrib, len(listed)) == ("commands", {"type": "array"}, 1)
    executed = ET.fromstring(talkback.call("POST", "/execute.xml").body)
    assert executed[2].attrib == {"type": "integer", "nil": "true"}
    assert len(ET.fromstring(talkback.call("POST", "/execute.xml").body)) == 0
    assert ET.fromstring(talkback.call("DELETE", ".xml").body).tag == "commands"


def test_positions_are_dense_whatever_happens(talkback: TalkBack) -> None:
    ids = {text: talkback.add(text)["id"] for text in "abc"}
    assert talkback.add("first", position=1)["position"] == 1
    assert talkback.add("far", position=999)["position"] == 5
    assert talkback.add("blank", position="")["position"] == 6
    assert talkback.call("PUT", f"/{ids['c']}.json", position=1).json()["position"] == 1
    removed = talkback.call("DELETE", f"/{ids['a']}.json").json()
    assert (removed["command_string"], removed["position"]) == ("a", 3)
    commands = talkback.call("GET", ".json").json()
    assert [one["command_string"] for one in commands] == ["c", "first", "b", "far", "blank"]
    assert [one["position"] for one in commands] == [1, 2, 3, 4, 5]
    assert talkback.call("DELETE", ".json").body == b"[]"
    assert talkback.waiting() == []


@pytest.mark.parametrize("content_type", ["text/html", "text/plain", "application/octet-stream", ""])
def test_bodies_with_odd_content_types(talkback: TalkBack, content_type: str) -> None:
    body = f"api_key={talkback.key}&command_string=TURN%20ON&position=1"
    answer = talkback.server.call(
        "POST", f"/talkbacks/{talkback.id}/commands", body, {"Content-Type": content_type} if content_type else {}
    )
    assert answer.status == 200
    assert talkback.call("POST", "/execute").body == b"TURN ON"


def test_the_key_and_parameters_wherever_clients_put_them(talkback: TalkBack) -> None:
    server, target = talkback.server, f"/talkbacks/{talkback.id}/commands.json"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    json = {"Content-Type": "application/json"}
    answers = [
        server.call("POST", target, None, api_key=talkback.key, command_string="a"),
        server.call("POST", target, "command_string=b", form | {"X-THINGSPEAKAPIKEY": talkback.key}),
        server.call("POST", target, "command_string=c", form | {"thingspeakapikey": f"{talkback.key} "}),
        server.call("POST", target, f'{{"api_key":"{talkback.key}","command_string":"d","position":1}}', json),
        server.call("POST", target, f"key={talkback.key}&command_string=5", form),
        server.call("POST", target, "command_string=f", form | {"Authorization": f"Bearer {ADMIN_TOKEN}"}),
        server.call("POST", target, f'{{"api_key":"{talkback.key}","command_string":12}}'),
    ]
    assert [answer.status for answer in answers] == [200] * 7
    assert talkback.waiting() == ["d", "a", "b", "c", "5", "f", "12"]


def test_what_cannot_be_taken(talkback: TalkBack) -> None:
    wrong: list[dict[str, object]] = [
        {},
        {"command_string": ""},
        {"command_string": "x" * 256},
        {"command_string": "x", "position": 0},
        {"command_string": "x", "position": "first"},
    ]
    for form in wrong:
        answer = talkback.call("POST", ".json", **form)
        assert (answer.status, answer.json()["error"]["error_code"]) == (400, "error_bad_request"), form
    assert talkback.call("POST", command_string="").body == b"error_bad_request"
    assert talkback.call("POST", ".json", command_string="ü" * 255).status == 200
    for path in ("/999999.json", "/x.json", f"/{10**18}.json", f"/{'9' * 30}.json"):
        for method in ("GET", "PUT", "DELETE"):
            assert talkback.call(method, path, command_string="x").status == 404, (method, path)
    executed = talkback.call("POST", "/execute.json").json()
    answer = talkback.call("PUT", f"/{executed['id']}.json", command_string="again")
    assert (answer.status, answer.json()["error"]["error_code"]) == (409, "error_conflict")
    assert talkback.call("PATCH", ".json").status == 405


def test_looking_with_head_takes_nothing(talkback: TalkBack) -> None:
    talkback.add("ON")
    assert (
        talkback.server.call("HEAD", f"/talkbacks/{talkback.id}/commands/execute?api_key={talkback.key}").status == 405
    )
    assert talkback.waiting() == ["ON"]


# -- who may ----------------------------------------------------------------------------------------------------------

CALLS = [
    ("GET", ".json"),
    ("POST", ".json"),
    ("DELETE", ".json"),
    ("GET", "/execute.json"),
    ("POST", "/execute"),
    ("GET", "/last.json"),
    ("GET", "/{}.json"),
    ("PUT", "/{}.json"),
    ("DELETE", "/{}"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_no_other_key_opens_it(talkback: TalkBack, channel: ChannelKeys, method: str, path: str) -> None:
    command = talkback.add("ON")
    other = create(talkback.server, "other")
    path = path.format(command["id"])
    missing = TalkBack(talkback.server, 10**6, "")
    for key in ("", "0" * 16, channel.write_key, channel.read_key, other.key):
        answer = talkback.call(method, path, key=key, command_string="x")
        nothing = missing.call(method, path, key=key, command_string="x")
        assert answer.status == 401, key
        assert (answer.status, answer.body) == (nothing.status, nothing.body)
    assert missing.call(method, path, key=ADMIN_TOKEN, command_string="x").status == 404
    assert [(one["id"], one["command_string"]) for one in talkback.call("GET", ".json").json()] == [
        (command["id"], "ON")
    ]


def test_a_command_of_another_talkback_is_none(talkback: TalkBack) -> None:
    command = create(talkback.server, "other").add("ON")
    for method in ("GET", "PUT", "DELETE"):
        assert talkback.call(method, f"/{command['id']}.json", command_string="x").status == 404


def test_another_account_sees_nothing_and_accounts_take_theirs_along(data: Path) -> None:
    with running_server(data) as server:
        talkback = create(server)
        command = talkback.add("ON")
        added = headwater("account", "add", "bob", "--password-stdin", "--data", data, stdin="a long enough password\n")
        user_key = re.search(r"\b[0-9A-Z]{16}\b", added)
        assert user_key is not None
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.call("GET", "/channels.json", api_key=user_key[0]).status == 200)
        for method, path in CALLS:
            path = path.format(command["id"])
            theirs = talkback.call(method, path, key=user_key[0], command_string="x")
            none = TalkBack(server, 10**6, "").call(method, path, key=user_key[0], command_string="x")
            assert theirs.status == none.status == 404
            assert theirs.body.replace(str(talkback.id).encode(), b"1000000") == none.body
        assert talkback.waiting() == ["ON"]
        server.cookies.clear()
        server.submit("/sign-in", name="bob", password="a long enough password", next="/channels")
        own = create(server)
        own.add("ON")
        assert own.call("GET", "/execute").body == b"ON"
        headwater("account", "remove", "bob", "--yes", "--data", data)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: own.call("GET", "/execute").status == 401)
        assert talkback.call("GET", "/execute").body == b"ON"


# -- many at once, and afterwards -------------------------------------------------------------------------------------


def test_devices_that_ask_at_once_get_different_commands(talkback: TalkBack) -> None:
    for number in range(24):
        talkback.add(str(number))
    got: list[bytes] = []

    def ask() -> None:
        while (text := talkback.call("POST", "/execute").body) != b"":
            got.append(text)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, got)) == list(range(24))


def test_queue_and_key_survive_a_kill(data: Path) -> None:
    with running_server(data) as server:
        talkback = create(server)
        for text in ("ON", "OFF"):
            talkback.add(text)
        assert talkback.call("GET", "/execute").body == b"ON"
        server.kill()
    with running_server(data) as server:
        again = TalkBack(server, talkback.id, talkback.key)
        assert again.call("GET", "/last").body == b"ON"
        assert again.call("GET", "/execute").body == b"OFF"


def test_limits_are_settings(data: Path) -> None:
    limits = {"HEADWATER_LIMITS_COMMANDS_PER_TALKBACK": "2", "HEADWATER_LIMITS_TALKBACKS_PER_ACCOUNT": "1"}
    with running_server(data, **limits) as server:
        talkback = create(server)
        for text in ("a", "b"):
            talkback.add(text)
        answer = talkback.call("POST", ".json", command_string="c")
        assert (answer.status, answer.json()["error"]["error_code"]) == (409, "error_conflict")
        page = server.visit("/apps/talkbacks/new").body.decode()
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
        assert token is not None
        body = urllib.parse.urlencode({"csrf": token[1], "name": "second"})
        refused = server._visit("POST", "/apps/talkbacks/new", body)
        assert (refused.status, b"at most 1 TalkBacks" in refused.body) == (400, True)


# -- with updates -----------------------------------------------------------------------------------------------------


def test_an_update_brings_the_next_command_back(talkback: TalkBack, channel: ChannelKeys) -> None:
    server = talkback.server
    for text in ("ON", "OFF", "BLINK"):
        talkback.add(text)
    keys = {"api_key": channel.write_key, "talkback_key": talkback.key}
    plain = server.call("POST", "/update", urllib.parse.urlencode(keys | {"field1": 1}))
    assert (plain.status, plain.body) == (200, b"ON")
    json = server.call("GET", "/update.json", field1=2, **keys).json()
    assert list(json) == ["id", "command_string", "position", "executed_at", "created_at"]
    assert (json["command_string"], json["position"]) == ("OFF", None)
    xml = ET.fromstring(server.call("GET", "/update.xml", field1=3, **keys).body)
    assert (xml.tag, xml.findtext("command-string")) == ("command", "BLINK")
    empty = server.call("GET", "/update", field1=4, **keys)
    assert (empty.status, empty.body) == (200, b"")
    assert server.call("GET", "/update.json", field1=5, **keys).body == b"{}"
    assert [entry["field1"] for entry in server.feeds(channel)] == ["1", "2", "3", "4", "5"]
    assert server.call("GET", "/update", api_key=channel.write_key, field1=6, talkback_key=" ").body == b"6"


def test_an_update_with_an_unknown_talkback_key_is_stored_and_the_owner_told(
    talkback: TalkBack, channel: ChannelKeys
) -> None:
    server = talkback.server
    keys = {"api_key": channel.write_key, "talkback_key": "0" * 16}
    assert server.call("GET", "/update", field1=1, **keys).body == b""
    assert server.call("GET", "/update.json", field1=2, **keys).body == b"{}"
    assert [entry["field1"] for entry in server.feeds(channel)] == ["1", "2"]
    assert b"opens no TalkBack" in server.visit(f"/channels/{channel.id}").body


def test_an_update_that_is_refused_takes_no_command(talkback: TalkBack, channel: ChannelKeys) -> None:
    talkback.add("ON")
    for key in ("0" * 16, channel.read_key, talkback.key):
        answer = talkback.server.call("POST", "/update", api_key=key, talkback_key=talkback.key, field1=1)
        assert (answer.status, answer.body) == (400, b"0")
    assert talkback.waiting() == ["ON"]


def test_an_executed_command_is_the_status_of_an_entry_of_the_log(server: Server, channel: ChannelKeys) -> None:
    talkback = create(server, log_channel=channel.id)
    talkback.add("OPENDOOR")
    assert talkback.call("GET", "/execute").body == b"OPENDOOR"
    wait_until(lambda: server.feeds(channel), what="the entry")
    (entry,) = server.feeds(channel, status="true")
    assert (entry["status"], entry["field1"], entry["entry_id"]) == ("OPENDOOR", None, 1)


def test_the_request_of_an_arduino_sketch(talkback: TalkBack) -> None:
    """As the sketches in the vendor's examples send it, and read it: headers, an empty line, the command."""
    talkback.add("TURN_ON")
    body = f"api_key={talkback.key}"
    request = (
        f"POST /talkbacks/{talkback.id}/commands/execute HTTP/1.1\nHost: api.thingspeak.com\nConnection: close\n"
        f"Content-Type: application/x-www-form-urlencoded\nContent-Length: {len(body)}\n\n{body}"
    ).encode()
    head, _, text = talkback.server.raw_call(request).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 7" in head
    assert text == b"TURN_ON"


def test_a_device_that_hangs_up_at_once(talkback: TalkBack) -> None:
    """The server stays whole, and the queue is a queue still."""
    for text in ("a", "b", "c"):
        talkback.add(text)
    with socket.create_connection(("127.0.0.1", talkback.server.http_port), timeout=10) as client:
        client.sendall(
            f"GET /talkbacks/{talkback.id}/commands/execute?api_key={talkback.key} HTTP/1.1\r\n\r\n".encode()
        )
    assert talkback.call("POST", command_string="d").status == 200
    assert talkback.waiting()[-2:] == ["c", "d"]
