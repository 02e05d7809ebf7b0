"""An owner's limit on updates on a real server: over REST and MQTT, through a kill and a stop."""

from __future__ import annotations

import socket
import threading
import time
import urllib.parse
from pathlib import Path

import pytest

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect, Publish
from server import ADMIN_TOKEN, ChannelKeys, Server, headwater, running_server, start_server, wait_until

LONG_S = 86_400


def limit(server: Server, channel: ChannelKeys, action: str, interval_s: int = LONG_S) -> None:
    if not server.cookies:
        server.sign_in()
    page = f"/channels/{channel.id}/settings"
    server.submit(f"/channels/{channel.id}/update_limit", page=page, limit=action, interval_s=interval_s)


def update(server: Server, channel: ChannelKeys, path: str = "/update", **fields: object) -> bytes:
    form = urllib.parse.urlencode({"api_key": channel.write_key, **fields})
    answer = server.call("POST", path, form)
    assert answer.status == 200, answer
    return answer.body


def bulk(server: Server, channel: ChannelKeys, *times: str) -> tuple[int, bytes]:
    updates = ",".join(f'{{"created_at":"{at}","field1":1}}' for at in times)
    body = f'{{"write_api_key":"{channel.write_key}","updates":[{updates}]}}'
    answer = server.call("POST", f"/channels/{channel.id}/bulk_update.json", body)
    return answer.status, answer.body


def channel_page(server: Server, channel: ChannelKeys) -> str:
    return " ".join(server.visit(f"/channels/{channel.id}").body.decode().split())


def publish(client: socket.socket, channel: ChannelKeys, payload: bytes, qos: int = 0, packet_id: int = 0) -> None:
    client.sendall(render_packet(Publish(f"channels/{channel.id}/publish", payload, qos, packet_id)))


def values(server: Server, channel: ChannelKeys) -> list[str | None]:
    return [entry["field1"] for entry in server.feeds(channel)]


def test_reject_is_one_limit_for_rest_and_mqtt(server: Server, channel: ChannelKeys) -> None:
    with server.mqtt_client() as client:
        server.publish_acknowledged(client, f"channels/{channel.id}/publish", b"field1=before")
        limit(server, channel, "reject")
        server.publish_acknowledged(client, f"channels/{channel.id}/publish", b"field1=first")  # on the same connection
        server.publish_acknowledged(client, f"channels/{channel.id}/publish", b"field1=refused", 2)
        publish(client, channel, b"field1=refused")
        for path in ("/update", "/update.json", "/update.xml"):
            assert update(server, channel, path, field1="refused") == b"0"
        refused = "6 times"  # with the publish to the field
        client.sendall(render_packet(Publish(f"channels/{channel.id}/publish/fields/field1", b"refused", 0, 0)))
        wait_until(lambda: refused in channel_page(server, channel))
        assert f"updates of the channel come faster than every {LONG_S} s" in channel_page(server, channel)
        assert values(server, channel) == ["before", "first"]
        limit(server, channel, "none")
        server.publish_acknowledged(client, f"channels/{channel.id}/publish", b"field1=free", 3)
        assert update(server, channel, field1="free") == b"4"
    metrics = server.call("GET", "/metrics", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}).body.decode()
    assert 'headwater_fast_updates_total{action="refused"}' in metrics


def test_mqtt_5_is_told_why(server: Server, channel: ChannelKeys) -> None:
    import paho.mqtt.client as mqtt

    limit(server, channel, "reject")
    assert update(server, channel, field1=1) == b"1"
    codes: list[str] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set("any", ADMIN_TOKEN)
    client.on_publish = lambda _c, _d, _mid, code, _p: codes.append(str(code))
    client.connect("127.0.0.1", server.mqtt_port)
    client.loop_start()
    try:
        client.publish(f"channels/{channel.id}/publish", b"field1=2", 1)
        wait_until(lambda: codes)
    finally:
        client.disconnect()
        client.loop_stop()
    assert codes == ["Quota exceeded"]


def test_bulk_updates(server: Server, channel: ChannelKeys) -> None:
    limit(server, channel, "reject")
    assert bulk(server, channel, "2026-01-01T00:00:00Z") == (202, b'{"success":true}')
    status, body = bulk(server, channel, "2026-01-01T00:00:01Z")
    assert status == 429
    assert body.startswith(b'{"status":"429","error":{"error_code":"error_too_many_requests","message":"Too Many')
    assert "bulk updates of the channel come faster" in channel_page(server, channel)
    for action in ("merge", "queue"):
        limit(server, channel, action)
        for second in (1, 2):
            assert bulk(server, channel, f"2026-01-0{second}T00:00:02Z")[0] == 202
    assert len(server.feeds(channel, start="2026-01-01")) == 3


def test_merge(server: Server, channel: ChannelKeys) -> None:
    limit(server, channel, "merge")
    assert update(server, channel, field1="20.50", status="a") == b"1"
    with server.mqtt_client() as client:
        publish(client, channel, b"field2=x")
        server.publish_acknowledged(client, f"channels/{channel.id}/publish/fields/field1", b"20.5")
        assert update(server, channel, field2="7") == b"1"
        assert update(server, channel, field1="off") == b"1"
    entry = server.feeds(channel, status="true")[0]
    assert (entry["entry_id"], entry["field1"], entry["field2"], entry["status"]) == (1, "off", "7", "a")
    assert "4 updates merged since the server started" in channel_page(server, channel)
    assert b'"entry_id":2,"field1":null' in update(
        server, channel, "/update.json", created_at="2026-01-02T03:04:05Z", field2="own"
    )


def test_queue_one_an_interval_for_rest_and_mqtt(server: Server, channel: ChannelKeys) -> None:
    limit(server, channel, "queue", 1)
    started_s = time.monotonic()
    assert update(server, channel, field1="0") == b"1"
    answers: list[bytes] = []
    with server.mqtt_client() as client:
        topic = f"channels/{channel.id}/publish"
        packets = Publish(topic, b"field1=1", 0, 0), Publish(topic, b"field1=2", 1, 9), Publish("elsewhere", b"", 1, 10)
        client.sendall(b"".join(map(render_packet, packets)))
        assert client.recv(4) == b"\x40\x02\x00\x0a"  # is not held up
        thread = threading.Thread(target=lambda: answers.append(update(server, channel, field1="3")))
        thread.start()
        assert client.recv(4) == b"\x40\x02\x00\x09"
        assert time.monotonic() - started_s >= 2
        thread.join(20)
    assert answers == [b"4"]
    assert time.monotonic() - started_s >= 3
    entries = server.feeds(channel)
    assert [entry["field1"] for entry in entries] == ["0", "1", "2", "3"]


def hasty_update(server: Server, channel: ChannelKeys, value: str) -> socket.socket:
    """A request whose answer nobody has waited for yet."""
    client = socket.create_connection(("127.0.0.1", server.http_port), timeout=20)
    client.sendall(f"GET /update?api_key={channel.write_key}&field1={value} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_what_waits_when_the_server_ends(tmp_path: Path, way: str) -> None:
    """A clean stop stores what waits, whoever has gone; a kill loses nothing that was acknowledged."""
    server = start_server(tmp_path / "data")
    channel = server.create_channel()
    limit(server, channel, "queue")
    assert update(server, channel, field1="0") == b"1"
    hasty_update(server, channel, "1").close()
    wait_until(lambda: "1 now" in channel_page(server, channel))
    waiting = hasty_update(server, channel, "2")
    wait_until(lambda: "2 now" in channel_page(server, channel))
    client = server.mqtt_client()
    publish(client, channel, b"field1=3")
    publish(client, channel, b"field1=4", 1, 9)
    wait_until(lambda: "4 now" in channel_page(server, channel))
    if way == "stop":
        assert server.stop() == 0, server.log
        assert waiting.recv(4096).endswith(b"\r\n\r\n3")
        assert client.recv(4) == b"\x40\x02\x00\x09"
    else:
        server.kill()
        for one in (waiting, client):
            assert not answer_of(one)
    waiting.close()
    client.close()
    with running_server(tmp_path / "data") as again:
        assert values(again, channel) == (["0", "1", "2", "3", "4"] if way == "stop" else ["0"])
        assert update(again, channel, field1="next") == (b"6" if way == "stop" else b"2")
        again.sign_in()
        assert f"Queue, one update every {LONG_S:,} s" in channel_page(again, channel)


def answer_of(client: socket.socket) -> bytes:
    try:
        return client.recv(4096)
    except ConnectionResetError:
        return b""


def test_what_waits_goes_with_its_channel(server: Server) -> None:
    channel = server.create_channel()
    limit(server, channel, "queue")
    assert update(server, channel, field1="0") == b"1"
    waiting = hasty_update(server, channel, "1")
    with server.mqtt_client() as client:
        wait_until(lambda: "1 now" in channel_page(server, channel))
        publish(client, channel, b"field1=2", 1, 9)
        wait_until(lambda: "2 now" in channel_page(server, channel))
        assert server.call("DELETE", f"/channels/{channel.id}.json", api_key=ADMIN_TOKEN).status == 200
        assert client.recv(4) == b"\x40\x02\x00\x09"
    with waiting:
        assert waiting.recv(4096).endswith(b"\r\n\r\n0")


def test_the_accounts_limit_is_for_channels_without_one(server: Server) -> None:
    one, other = server.create_channel(), server.create_channel()
    with server.mqtt_client() as client:
        server.publish_acknowledged(client, f"channels/{one.id}/publish", b"field1=1")
        limit(server, other, "none")
        server.submit("/profile/update_limit", page="/profile", limit="reject", interval_s=LONG_S)
        try:
            for number in (2, 3):
                server.publish_acknowledged(client, f"channels/{one.id}/publish", b"field1=1", number)
            assert [update(server, other, field1=1) for _ in range(2)] == [b"1", b"2"]
            assert len(server.feeds(one)) == 2
        finally:
            server.submit("/profile/update_limit", page="/profile", limit="none", interval_s=15)


def test_only_the_owner_sets_it(server: Server, channel: ChannelKeys) -> None:
    headwater("account", "add", "mallory", "--password-stdin", "--data", server.data, stdin="mallory's password\n")
    stranger = Server(server.process, server.ready, server.data, server.log_path)
    stranger.submit("/sign-in", name="mallory", password="mallory's password", next="/channels")
    token = stranger.visit("/profile").body.decode().partition('name="csrf" value="')[2].partition('"')[0]
    for channel_id in (channel.id, 10**6):
        form = urllib.parse.urlencode({"csrf": token, "limit": "reject", "interval_s": "60"})
        answer = stranger._visit("POST", f"/channels/{channel_id}/update_limit", form)
        assert answer.status == 404
    assert [update(server, channel, field1=1) for _ in range(2)] == [b"1", b"2"]


def test_what_was_merged_is_on_disk_before_the_answer(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data")
    channel = server.create_channel()
    limit(server, channel, "merge")
    for fields in ({"field1": "20.50", "field2": "1"}, {"field1": "20.5"}, {"field2": "on"}):
        assert update(server, channel, **fields) == b"1"
    server.kill()
    with running_server(tmp_path / "data") as again:
        entries = [(entry["entry_id"], entry["field1"], entry["field2"]) for entry in again.feeds(channel)]
        assert entries == [(1, "20.5", "on")]
        assert update(again, channel, field1="next") == b"2"


def test_queue_and_qos_2_of_a_session_that_is_kept(server: Server, channel: ChannelKeys) -> None:
    """PUBREC waits for the turn, also when the message comes again meanwhile; other acknowledgements do not."""
    device = server.create_device([channel])
    limit(server, channel, "queue", 1)
    assert update(server, channel, field1="0") == b"1"
    connect = Connect(device.client_id, False, username=device.username, password=device.password.encode())
    with server.mqtt_socket() as client:
        client.sendall(render_packet(connect))
        assert client.recv(4) == b"\x20\x02\x00\x00"
        message = render_packet(Publish(f"channels/{channel.id}/publish", b"field1=1", 2, 5))
        client.sendall(message * 2 + b"\xc0\x00")
        answers = b""
        while len(answers) < 10:
            answers += client.recv(64)
        assert answers == b"\xd0\x00" + b"\x50\x02\x00\x05" * 2
        client.sendall(b"\x62\x02\x00\x05")
        assert client.recv(4) == b"\x70\x02\x00\x05"
    assert values(server, channel) == ["0", "1"]


def test_nothing_is_merged_into_an_entry_that_was_edited(server: Server, channel: ChannelKeys) -> None:
    limit(server, channel, "merge")
    assert update(server, channel, field1="old") == b"1"
    path = f"/channels/{channel.id}/feeds/1.json"
    assert server.call("PUT", path, "field1=new", api_key=channel.write_key).status == 200
    assert update(server, channel, field2="2") == b"2"
    assert [(entry["field1"], entry["field2"]) for entry in server.feeds(channel)] == [("new", None), (None, "2")]
