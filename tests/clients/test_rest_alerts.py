"""The Alerts API of a real server, with a real little mail server."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from beside import beside
from mail_server import MailServer, mail_server
from server import ADMIN_NAME, ADMIN_TOKEN, Server, running_server, wait_until

HEADER = "ThingSpeak-Alerts-API-Key"
DETAILED = {"Accept": "application/json,application/problem+json"}
PASSWORD = "password-of-the-mail-server"


class Post(NamedTuple):
    server: Server
    mails: MailServer
    key: str


def key_of(server: Server) -> str:
    """The administrator's alerts key, from the profile."""
    if not server.cookies:
        server.sign_in()
    found = re.search(rb"Alerts API Key</h3>.*?<code>([0-9A-Z]{16})</code>", server.visit("/profile").body, re.DOTALL)
    assert found is not None
    return found[1].decode()


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    data = tmp_path_factory.mktemp("post") / "data"
    with beside(mail_server()) as mails:
        environment = {
            "HEADWATER_MAIL_HOST": "127.0.0.1",
            "HEADWATER_MAIL_PORT": str(mails.port),
            "HEADWATER_MAIL_SECURITY": "none",
            "HEADWATER_MAIL_USERNAME": "headwater",
            "HEADWATER_MAIL_PASSWORD": PASSWORD,
            "HEADWATER_MAIL_FROM_ADDRESS": "headwater@example.org",
        }
        with running_server(data, **environment) as server:
            key = key_of(server)
            server.submit("/profile/email", page="/profile", email="ada@example.com")
            yield Post(server, mails, key)
            assert PASSWORD not in server.log
            assert key not in server.log


def history(post: Post) -> list[dict[str, str]]:
    answer = post.server.call("GET", "/alerts/history", headers={HEADER: post.key})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    found: list[dict[str, str]] = answer.json()
    return found


@pytest.mark.parametrize("form", ["json", "form"])
def test_an_alert_arrives_and_is_in_the_history(post: Post, form: str) -> None:
    values = {"subject": f"As {form}", "body": "Größer als 30 °C & mehr"}
    body = json.dumps(values) if form == "json" else urllib.parse.urlencode(values)
    kind = "application/json" if form == "json" else "application/x-www-form-urlencoded"
    answer = post.server.call("POST", "/alerts/send", body, {HEADER: post.key, "Content-Type": kind})
    assert (answer.status, answer.body) == (202, b"")
    wait_until(lambda: history(post)[0]["status"] != "queued", what="the mail to be sent")
    newest = history(post)[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", newest.pop("created_at"))
    assert newest == values | {"status": "sent", "error": None}
    [mail] = [mail for mail in post.mails.mails if mail["Subject"] == values["subject"]]
    assert mail["To"] == "ada@example.com"
    assert mail.get_content().strip() == values["body"]


def test_what_the_mail_server_refuses_is_in_the_history(post: Post) -> None:
    post.mails.replies["RCPT"] = "550 no such user"
    try:
        answer = post.server.call("POST", "/alerts/send", '{"subject":"lost","body":"b"}', {HEADER: post.key})
        assert answer.status == 202
        wait_until(lambda: history(post)[0]["status"] != "queued", what="the mail to fail")
        assert "550 no such user" in history(post)[0]["error"]
    finally:
        del post.mails.replies["RCPT"]


@pytest.mark.parametrize("path", ["/alerts/send", "/alerts/history"])
def test_only_the_alerts_key_opens_it(post: Post, path: str) -> None:
    method = "POST" if path.endswith("send") else "GET"
    channel = post.server.create_channel()
    for key in ("", "0" * 16, ADMIN_TOKEN, channel.write_key, channel.read_key):
        plain = post.server.call(method, path, "body=b" if method == "POST" else None, {HEADER: key})
        assert (plain.status, plain.body) == (401, b"error_auth_required")
        detailed = post.server.call(method, path, None, {HEADER: key} | DETAILED)
        assert detailed.status == 401
        assert HEADER in detailed.json()["error"]["details"]
    assert post.server.call("POST", "/update", None, {"X-THINGSPEAKAPIKEY": post.key}, field1=1).body == b"0"
    assert post.server.call("GET", "/channels.json", api_key=post.key).status == 401


def test_errors_in_full_for_who_asks_for_them(post: Post) -> None:
    too_long = json.dumps({"subject": "s", "body": "x" * 501})
    plain = post.server.call("POST", "/alerts/send", too_long, {HEADER: post.key})
    assert (plain.status, plain.body) == (400, b"error_bad_request")
    detailed = post.server.call("POST", "/alerts/send", too_long, {HEADER: post.key} | DETAILED)
    assert detailed.json()["error"]["details"] == "body may have at most 500 characters"
    assert post.server.call("GET", "/alerts/send", None, {HEADER: post.key}).status == 405


def test_the_address_is_shown_to_its_owner_alone(post: Post) -> None:
    post.server.create_channel(public_flag="true")
    path = f"/users/{ADMIN_NAME}.json"
    assert post.server.call("GET", path, api_key=ADMIN_TOKEN).json()["email"] == "ada@example.com"
    assert "email" not in post.server.call("GET", path).json()


def test_a_new_key_ends_the_old_one(post: Post) -> None:
    other = post.server
    before = key_of(other)
    other.submit("/profile/alerts_api_key", page="/profile")
    after = key_of(other)
    assert other.call("GET", "/alerts/history", None, {HEADER: before}).status == 401
    assert other.call("GET", "/alerts/history", None, {HEADER: after}).status == 200


def test_without_a_mail_server_it_says_what_to_do(server: Server) -> None:
    key = key_of(server)
    answer = server.call("POST", "/alerts/send", '{"body":"b"}', {HEADER: key} | DETAILED)
    assert answer.status == 409
    assert "mail.host" in answer.json()["error"]["details"]
    [newest, *_] = server.call("GET", "/alerts/history", None, {HEADER: key}).json()
    assert newest["status"] == "failed"
    assert "mail.host" in newest["error"]
