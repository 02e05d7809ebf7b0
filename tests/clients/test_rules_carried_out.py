"""Rules with those who carry their actions out, on a real server: a web site, a mail server, the broker, a queue of
commands. Whatever way an entry comes, each of them gets what is theirs."""

from __future__ import annotations

import html
import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from test_rest_alerts import HEADER as ALERTS_HEADER
from test_rest_alerts import key_of as alerts_key
from test_rest_talkbacks import TalkBack
from test_rest_talkbacks import create as create_talkback
from test_rest_thing_http import store as store_thing_http
from test_rules import REACT, bulk, runs, update
from test_update_limits_on_a_server import limit

from beside import beside
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Publish
from mail_server import MailServer, mail_server
from server import ADMIN_PASSWORD, ADMIN_TOKEN, ChannelKeys, Server, headwater, running_server, start_server, wait_until
from web_site import WebSite, answering, web_site

HOT = "Too hot in “the cellar”"
SECRET = "key-in-the-path"


@dataclass
class House:
    """A server, and what it calls."""

    server: Server
    site: WebSite
    mails: MailServer


def environment(mails: MailServer) -> dict[str, str]:
    return {
        "HEADWATER_HOOKS_ALLOW_PRIVATE": "true",
        "HEADWATER_MAIL_HOST": "127.0.0.1",
        "HEADWATER_MAIL_PORT": str(mails.port),
        "HEADWATER_MAIL_SECURITY": "none",
        "HEADWATER_MAIL_FROM_ADDRESS": "headwater@example.org",
    }


@contextmanager
def house(data: Path) -> Iterator[House]:
    with (
        beside(mail_server()) as mails,
        beside(web_site(answering())) as site,
        running_server(data, **environment(mails)) as server,
    ):
        server.sign_in()
        server.submit("/profile/email", page="/profile", email="ada@example.com")
        yield House(server, site, mails)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house") / "data") as opened:
        yield opened


def add_rule(server: Server, channel: ChannelKeys, **changes: str) -> str:
    """A React without actions; its path."""
    if not server.cookies:
        server.sign_in()
    form = REACT | {"name": HOT, "channel": str(channel.id), "run": "each"} | changes
    return server.submit("/apps/react/new", **form).headers["Location"].removesuffix("/actions/new")


def add_action(server: Server, path: str, action: str, **fields: str) -> None:
    assert server.submit(f"{path}/actions/new", action=action, **fields).status == 303


def page(server: Server, path: str) -> str:
    return html.unescape(server.visit(path).body.decode())


@dataclass
class Everything:
    """A rule that does all there is to do."""

    path: str
    channel: ChannelKeys
    log: ChannelKeys
    talkback: TalkBack
    subscriber: socket.socket


def do_everything(at: House) -> Everything:
    server, port = at.server, at.site.port
    channel, log = server.create_channel("cellar"), server.create_channel()
    talkback = create_talkback(server)
    store_thing_http(server, f"http://127.0.0.1:{port}/thing?t=%%channel_{channel.id}_field_1%%", name=f"{channel.id}")
    [thing_id] = re.findall(
        rf'/apps/thinghttp/(\d+)"[^>]*>{channel.id}<', server.visit("/apps/thinghttp").body.decode()
    )
    path = add_rule(server, channel)
    add_action(
        server,
        path,
        "webhook",
        method="POST",
        url=f"http://127.0.0.1:{port}/{SECRET}/hook?t=%%field1%%",
        headers="Content-Type: application/json",
        webhook_body='{"rule":"%%rule_name%%","t":%%field1%%,"id":%%entry_id%%,"text":"%%status%%"}',
    )
    add_action(server, path, "thing_http", thing_http=thing_id)
    add_action(server, path, "talkback", talkback=str(talkback.id), command="FAN %%field1%%")
    add_action(server, path, "publish", topic=f"channels/{log.id}/publish", payload="field1=%%field1%%", qos="1")
    add_action(server, path, "publish", topic=f"alarm/{channel.id}", payload="%%channel_name%% %%field1%%", qos="0")
    add_action(server, path, "mail", to="", subject="%%rule_name%%", mail_body="It is %%field1%%.")
    subscriber = server.mqtt_client()
    topic = f"alarm/{channel.id}".encode()
    subscriber.sendall(b"\x82%c\x00\x01\x00%c%s\x00" % (len(topic) + 5, len(topic), topic))
    assert subscriber.recv(5) == b"\x90\x03\x00\x01\x00"
    return Everything(path, channel, log, talkback, subscriber)


def check_everything(at: House, all_of: Everything, entry_id: int, value: str) -> None:
    """That one run for this entry has done all, once."""
    server = at.server
    wait_until(lambda: runs(server, all_of.path)[-1:] == [entry_id], what="the run")
    shown = page(server, all_of.path)
    assert "so far, 0 failed" in shown, shown
    assert SECRET not in shown
    [hook] = [asked for asked in at.site.asked if asked.line == f"POST /{SECRET}/hook?t={value} HTTP/1.1"]
    assert json.loads(hook.body) == {"rule": HOT, "t": float(value), "id": entry_id, "text": ""}
    assert sum(asked.line.startswith(f"GET /thing?t={value} ") for asked in at.site.asked) == 1
    assert all_of.talkback.waiting()[-1] == f"FAN {value}"
    assert server.feeds(all_of.log)[-1]["field1"] == value
    assert all_of.subscriber.recv(1000).endswith(f"alarm/{all_of.channel.id}cellar {value}".encode())
    [mail] = [mail for mail in at.mails.mails if mail.get_content().strip() == f"It is {value}."]
    assert (mail["To"], mail["Subject"]) == ("ada@example.com", HOT)


def test_one_entry_over_rest_by_bulk_and_by_mqtt_does_all_there_is_to_do(at: House) -> None:
    all_of = do_everything(at)
    with all_of.subscriber:
        update(at.server, all_of.channel, "20")
        update(at.server, all_of.channel, "31")
        check_everything(at, all_of, 2, "31")
        bulk(at.server, all_of.channel, "10", "32", "33")
        wait_until(lambda: runs(at.server, all_of.path) == [2, 4])
        assert [asked.line for asked in at.site.asked if "/hook?t=3" in asked.line][-1].endswith("=32 HTTP/1.1")
        # A ThingHTTP has places of its own, for the newest entry by its time: the bulk was of the year's first day.
        assert sum(asked.line.startswith("GET /thing?t=31 ") for asked in at.site.asked) == 2
        assert all_of.subscriber.recv(1000).endswith(b"cellar 32")
        with at.server.mqtt_client() as client:
            at.server.publish_acknowledged(client, f"channels/{all_of.channel.id}/publish", b"field1=36")
        check_everything(at, all_of, 6, "36")
    assert runs(at.server, all_of.path) == [2, 4, 6]


def test_what_fails_is_in_the_history_with_its_reason_and_keeps_nothing_else_back(at: House) -> None:
    server, channel, log = at.server, at.server.create_channel(), at.server.create_channel()
    path = add_rule(server, channel)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    add_action(server, path, "webhook", method="GET", url=f"http://127.0.0.1:{port}/{SECRET}", headers="")
    talkback = create_talkback(server)
    add_action(server, path, "talkback", talkback=str(talkback.id), command="%%status%%")
    add_action(server, path, "publish", topic=f"channels/{log.id}/publish", payload="field1=%%field1%%", qos="1")
    server.submit(f"{path}/test", page=path)
    shown = page(server, path)
    assert "refuses the connection" in shown
    assert "command_string must not be empty" in shown
    assert SECRET not in shown
    assert len(server.feeds(log)) == 1


def test_a_rule_that_publishes_to_its_own_channel_comes_to_an_end(at: House) -> None:
    server, channel = at.server, at.server.create_channel()
    path = add_rule(server, channel)
    add_action(server, path, "publish", topic=f"channels/{channel.id}/publish", payload="field1=%%field1%%", qos="1")
    update(server, channel, "31")
    wait_until(lambda: "it ran 30 times within a minute" in page(server, path), what="the limit")
    time.sleep(0.3)
    assert len(server.feeds(channel)) == 31
    update(server, channel, "32")  # who writes is not kept from it
    assert len(server.feeds(channel)) == 32


def test_what_a_rule_names_may_be_deleted(at: House) -> None:
    server, channel = at.server, at.server.create_channel()
    path = add_rule(server, channel)
    talkback = create_talkback(server)
    store_thing_http(server, f"http://127.0.0.1:{at.site.port}/", name=f"of {channel.id}")
    list_page = server.visit("/apps/thinghttp").body.decode()
    [thing_id] = re.findall(rf'/apps/thinghttp/(\d+)"[^>]*>of {channel.id}<', list_page)
    add_action(server, path, "talkback", talkback=str(talkback.id), command="OPEN")
    add_action(server, path, "thing_http", thing_http=thing_id)
    server.submit(f"/apps/talkbacks/{talkback.id}/delete", page=f"/apps/talkbacks/{talkback.id}")
    assert f"There is no TalkBack {talkback.id}" in page(server, path)
    update(server, channel, "31")
    wait_until(lambda: runs(server, path) == [1])
    assert f"there is no TalkBack {talkback.id}" in page(server, path)
    server.submit(f"{path}/actions/0/delete", page=path)
    server.submit(f"/apps/thinghttp/{thing_id}/delete", page=f"/apps/thinghttp/{thing_id}")
    assert f"There is no ThingHTTP {thing_id}" in page(server, path)
    for edit in (f"{path}/edit", f"{path}/actions/0", "/apps/react", "/apps/react/new", f"{path}/actions/new"):
        assert server.visit(edit).status == 200
    settings = f"/channels/{channel.id}/settings"
    server.submit(f"/channels/{channel.id}/delete", page=settings, confirmation=channel.id)
    assert "is gone: choose another" in page(server, path)
    assert server.visit(f"{path}/edit").status == 200
    server.submit(f"{path}/test", page=path)
    assert "The test failed" in page(server, path)


def test_a_timecontrol_runs_at_its_time_and_no_data_is_noticed(at: House) -> None:
    """A minute is the shortest time that either can be given."""
    server, channel = at.server, at.server.create_channel()
    update(server, channel, "31")
    silent = add_rule(server, channel, condition="silence", silence_minutes="1", silence_field="", run="first")
    add_action(server, silent, "webhook", method="GET", url=f"http://127.0.0.1:{at.site.port}/silent", headers="")
    soon = datetime.now(UTC) + timedelta(seconds=62)
    form = {"schedule": "once", "at": f"{soon:%Y-%m-%dT%H:%M}", "zone": "UTC", "fuzzy": "0"}
    made = server.submit("/apps/timecontrol/new", name="once", **form)
    timed = made.headers["Location"].removesuffix("/actions/new")
    add_action(server, timed, "webhook", method="GET", url=f"http://127.0.0.1:{at.site.port}/timed", headers="")

    def asked(path: str) -> int:
        return sum(one.line == f"GET {path} HTTP/1.1" for one in at.site.asked)

    wait_until(lambda: asked("/silent") and asked("/timed"), 80.0, "both")
    assert (asked("/silent"), asked("/timed")) == (1, 1)
    assert "no data for 1 min" in page(server, silent)
    assert "its time had come" in page(server, timed)


def test_a_backup_and_a_reload_keep_rules_and_whatever_they_remember(tmp_path: Path) -> None:
    data, backup, restored = tmp_path / "data", tmp_path / "backup.tar", tmp_path / "restored"
    with beside(web_site(answering())) as site:
        allowed = {"HEADWATER_HOOKS_ALLOW_PRIVATE": "true"}
        with running_server(data, **allowed) as server:
            channel = server.create_channel()
            path = add_rule(server, channel, run="first")
            add_action(server, path, "webhook", method="GET", url=f"http://127.0.0.1:{site.port}/?%%field1%%")
            key = store_thing_http(server, f"http://127.0.0.1:{site.port}/thing")
            talkback = create_talkback(server)
            talkback.add("OPEN")
            update(server, channel, "31")
            wait_until(lambda: runs(server, path) == [1])
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "reloaded registry" in server.log)
            for value in ("32", "20", "33"):
                update(server, channel, value)
            wait_until(lambda: runs(server, path) == [1, 4])
            headwater("backup", backup, "--data", data)
        headwater("restore", backup, "--data", restored)
        with running_server(restored, **allowed) as server:
            server.sign_in()
            for value in ("34", "20", "35"):
                update(server, channel, value)
            wait_until(lambda: runs(server, path) == [1, 4, 7])
            assert server.call("GET", "/apps/thinghttp/send_request", api_key=key).body == b"hello"
            assert replace(talkback, server=server).waiting() == ["OPEN"]
        assert [one.line.split()[1] for one in site.asked] == ["/?31", "/?33", "/?35", "/thing"]


def test_what_is_an_accounts_ends_when_it_is_removed_beside_the_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with (
        beside(web_site(answering("503 Service Unavailable"))) as site,
        running_server(data, HEADWATER_HOOKS_ALLOW_PRIVATE="true") as server,
    ):
        token = server.add_account("bob")
        server.submit("/sign-in", name="bob", password=ADMIN_PASSWORD, next="/channels")
        made = server.call("POST", "/channels.json", f"api_key={token}&name=n&field1=t").json()
        channel = ChannelKeys(made["id"], *(key["api_key"] for key in made["api_keys"]))
        path = add_rule(server, channel)
        add_action(server, path, "webhook", method="GET", url=f"http://127.0.0.1:{site.port}/")
        key = store_thing_http(server, f"http://127.0.0.1:{site.port}/")
        talkback = create_talkback(server)
        update(server, channel, "31")
        wait_until(lambda: site.asked, what="the first try")
        headwater("account", "remove", "bob", "--yes", "--data", data)
        wait_until(lambda: talkback.call("GET", ".json").status == 401)
        assert server.call("GET", "/apps/thinghttp/send_request", api_key=key).status == 400
        assert server.call("GET", "/update", api_key=channel.write_key, field1="32").status == 400
    assert "ERROR" not in server.log


def waiting_updates(server: Server) -> int:
    """How many updates of all channels wait for their turn."""
    metrics = server.call("GET", "/metrics", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}).body.decode()
    [found] = re.findall(r"^headwater_waiting_updates (\S+)", metrics, re.MULTILINE)
    return int(float(found))


def stop_within(server: Server, limit_s: float) -> None:
    began_s = time.monotonic()
    assert server.stop() == 0, server.log
    assert time.monotonic() - began_s < limit_s


def test_sigterm_ends_soon_while_nobody_who_is_called_answers(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with beside(mail_server()) as mails, socket.create_server(("127.0.0.1", 0), backlog=50) as hole:
        mails.is_silent = True
        silent = f"http://127.0.0.1:{hole.getsockname()[1]}/"
        server = start_server(data, **environment(mails))
        server.sign_in()
        server.submit("/profile/email", page="/profile", email="ada@example.com")
        channel, queued = server.create_channel(), server.create_channel()
        path = add_rule(server, channel)
        add_action(server, path, "webhook", method="GET", url=silent)
        add_action(server, path, "mail", to="", subject="s", mail_body="b")
        for _ in range(5):
            update(server, channel, "31")
        alert = {ALERTS_HEADER: alerts_key(server), "Content-Type": "application/x-www-form-urlencoded"}
        assert server.call("POST", "/alerts/send", "body=pump", alert).status == 202
        key = store_thing_http(server, silent)
        limit(server, queued, "queue")
        live = socket.create_connection(("127.0.0.1", server.http_port))
        cookie = "; ".join(f"{name}={value}" for name, value in server.cookies.items())
        live.sendall(f"GET /channels/{channel.id}/live HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
        assert live.recv(12) == b"HTTP/1.1 200"
        asking = socket.create_connection(("127.0.0.1", server.http_port))
        asking.sendall(f"GET /apps/thinghttp/send_request?api_key={key} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client = server.mqtt_client()
        for number in range(1, 11):  # the first is taken, the others wait for their turn
            client.sendall(render_packet(Publish(f"channels/{queued.id}/publish", b"field1=%d" % number, 1, number)))
        assert client.recv(4) == b"\x40\x02\x00\x01"
        wait_until(lambda: waiting_updates(server) == 9, what="the queue")
        stop_within(server, 8.0)
        acknowledged = client.recv(1000)
        for one in (live, asking, client):
            one.close()
    with running_server(data) as again:
        again.sign_in()
        stored = [int(entry["field1"]) for entry in again.feeds(queued)]
        assert stored == list(range(1, 11))
        assert len(acknowledged) == 9 * 4
        assert sorted(runs(again, path)) == [1, 2, 3, 4, 5]
        assert "broken off, because the server stopped" in page(again, path)
        history = again.call("GET", "/alerts/history", headers={ALERTS_HEADER: alert[ALERTS_HEADER]}).json()
        assert [one["status"] for one in history] == ["failed"]
