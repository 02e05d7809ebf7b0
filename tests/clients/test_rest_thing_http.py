"""ThingHTTP of a real server: stored in the console, run over REST."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from beside import beside
from server import ChannelKeys, Server, headwater, running_server
from web_site import Answer, WebSite, answering, web_site

PATH = "/apps/thinghttp/send_request"
PASSWORD = "password-of-the-lamp"


def running_site(answer: Answer) -> AbstractContextManager[WebSite]:
    return beside(web_site(answer))


def store(server: Server, url: str, **fields: str) -> str:
    """A ThingHTTP of the administrator; its key."""
    if not server.cookies:
        server.sign_in()
    form = {"name": "Lamp", "url": url, "method": "GET", "http_version": "1.1"} | fields
    made = server.submit("/apps/thinghttp/new", **form)
    assert made.status == 303, made.body
    page = server.visit(made.headers["Location"]).body.decode()
    found = re.search(r"send_request\?api_key=([0-9A-Z]{16})", page)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may call this machine."""
    data = tmp_path_factory.mktemp("caller") / "data"
    with running_server(data, HEADWATER_HOOKS_ALLOW_HOSTS="127.0.0.0/8") as running:
        yield running


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_key_gets_the_answer_of_the_stored_request(caller: Server, method: str) -> None:
    with running_site(answering("404 Not Found", b'{"main":{"temp":21.5}}', Content_Type="application/json")) as lamp:
        url = f"http://127.0.0.1:{lamp.port}/state"
        whole = store(caller, url, username="ada", password=PASSWORD)
        answer = caller.call(method, f"{PATH}?api_key={whole}")
        assert (answer.status, answer.body) == (200, b'{"main":{"temp":21.5}}')
        assert answer.headers["Content-Type"] == "application/json"
        part = store(caller, url, parse_string="main.temp")
        answer = caller.call(method, PATH, headers={"X-THINGSPEAKAPIKEY": part})
        assert (answer.body, answer.headers["Content-Type"]) == (b"21.5", "text/plain; charset=utf-8")
        assert lamp.asked[0].headers["authorization"].startswith("Basic ")
    assert PASSWORD not in caller.log
    assert whole not in caller.log


def test_a_foreign_page_does_nothing_in_the_name_of_this_server(caller: Server) -> None:
    page = "<script>alert('ü')</script>".encode("latin-1")
    with running_site(answering(body=page, Content_Type="text/html; charset=ISO-8859-1", Set_Cookie="a=b")) as site:
        answer = caller.call("GET", PATH, api_key=store(caller, f"http://127.0.0.1:{site.port}"))
    assert answer.body == page
    assert answer.headers["Content-Type"] == "text/plain; charset=ISO-8859-1"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "Set-Cookie" not in answer.headers


def test_last_values_are_filled_in(caller: Server) -> None:
    channel = caller.create_channel()
    for field1 in ("20.5", "21.50 °C & more"):
        assert caller.call("POST", "/update", api_key=channel.write_key, field1=field1).status == 200
    body = f'{{"t":"%%channel_{channel.id}_field_1%%","h":"%%channel_{channel.id}_field_2%%"}}'
    with running_site(answering()) as site:
        url = f"http://127.0.0.1:{site.port}/?t=%%channel_{channel.id}_field_1%%"
        key = store(caller, url, method="PUT", content_type="application/json", body=body)
        assert caller.call("GET", PATH, api_key=key).body == b"hello"
        [asked] = site.asked
    assert asked.line == "PUT /?t=21.50%20%C2%B0C%20%26%20more HTTP/1.1"
    assert json.loads(asked.body) == {"t": "21.50 °C & more", "h": ""}


def test_a_wrong_key_is_told_like_one_that_reads_nothing(caller: Server, channel: ChannelKeys) -> None:
    for key in ("", "0" * 16, channel.write_key, "x" * 1000):
        answer = caller.call("GET", PATH, api_key=key)
        assert (answer.status, answer.body) == (400, b"-1")
    assert caller.call("GET", PATH).body == b"-1"
    assert caller.call("DELETE", PATH).status == 405


def test_without_a_word_of_the_operator_this_machine_is_not_called(server: Server) -> None:
    with running_site(answering()) as site:
        key = store(server, f"http://localhost:{site.port}/?key=hidden-in-the-query")
        answer = server.call("GET", PATH, api_key=key)
        assert site.asked == []
    assert answer.status == 502
    assert answer.body.startswith(b"localhost is this machine or in a private network")
    assert b"hooks.allow_hosts" in answer.body
    assert b"hidden-in-the-query" not in answer.body
    assert "hidden-in-the-query" not in server.log


def test_requests_are_sealed_with_a_key_that_is_kept_and_backed_up(data: Path, tmp_path: Path) -> None:
    backup, restored = tmp_path / "backup.tar", tmp_path / "restored"
    with running_site(answering()) as site:
        allowed = {"HEADWATER_HOOKS_ALLOW_HOSTS": "127.0.0.1"}
        with running_server(data, **allowed) as server:
            key = store(server, f"http://127.0.0.1:{site.port}", username="ada", password=PASSWORD)
            secret = (data / "secrets.key").read_bytes()
            assert (data / "secrets.key").stat().st_mode & 0o777 == 0o600
            assert not any(PASSWORD.encode() in path.read_bytes() for path in data.glob("registry.db*"))
            headwater("backup", backup, "--data", data)
        headwater("restore", backup, "--data", restored)
        with running_server(restored, **allowed) as server:
            assert server.call("GET", PATH, api_key=key).body == b"hello"
        (restored / "secrets.key").unlink()
        with running_server(restored, **allowed) as server:
            answer = server.call("GET", PATH, api_key=key)
            assert (answer.status, answer.body) == (409, b"error_conflict")
            server.sign_in()
            page = server.visit("/apps/thinghttp").body
            assert b"cannot be read" in page
            assert b"sealed with another secrets.key" in server.visit("/apps/thinghttp/1").body
            assert (restored / "secrets.key").read_bytes() != secret
