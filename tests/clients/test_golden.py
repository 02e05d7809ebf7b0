"""Answers byte for byte, over raw sockets: what `tests/vectors/thingspeak` says, and what takes more than words."""

from __future__ import annotations

import socket

import pytest
from conversation import FOLDER, Conversation

from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Publish, Subscribe, Subscription
from server import ChannelKeys, Server, wait_until


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.txt")))
def test_conversation(server: Server, name: str) -> None:
    conversation = Conversation(server, (FOLDER / f"{name}.txt").read_text(encoding="utf-8"))
    assert conversation.exchanges
    conversation.hold()


def test_a_wrong_answer_is_noticed(server: Server) -> None:
    """The comparison itself: another spelling, and a length that is not the body's."""
    said = (
        "channel name=n\n> GET /update?api_key=$write_key HTTP/1.0\n>\n< HTTP/1.1 200 OK\n< Content-Length: $length\n"
    )
    said += "< Content-Type: text/plain; charset=utf-8\n< $every\n<\n< 1\n"
    Conversation(server, said).hold()
    for right, wrong in (("Content-Length", "content-length"), ("< 1\n", "< 2\n"), ("< 1\n", "< 1\n<\n")):
        with pytest.raises(AssertionError, match="is answered"):
            Conversation(server, said.replace(right, wrong)).hold()


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /update?api_key={key}&field1=7 HTTP/1.1\r\nHost: api.thingspeak.com\r\n\r\n",
        "POST /update HTTP/1.1\nHost: x\nContent-Length: 33\n\napi_key={key}&field1=7",
    ],
    ids=["GET", "POST"],
)
@pytest.mark.parametrize("is_half", [False, True], ids=["closed", "half closed"])
def test_a_connection_that_closes_before_the_answer(
    server: Server, channel: ChannelKeys, request_text: str, is_half: bool
) -> None:
    """The update counts: sketches send and stop at once."""
    request = request_text.format(key=channel.write_key).encode()
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as client:
        client.sendall(request)
        if is_half:
            client.shutdown(socket.SHUT_WR)
    wait_until(lambda: server.feeds(channel), what="the entry")
    assert [entry["field1"] for entry in server.feeds(channel)] == ["7"]


def test_what_subscribers_receive(server: Server, channel: ChannelKeys) -> None:
    """Section 2.4, to the byte: packets of one entry that came over REST."""
    base, key = f"channels/{channel.id}/subscribe", channel.read_key
    nulls = "".join(f'"field{number}":null,' for number in range(3, 9))
    nils = "".join(f'  <field{number} nil="true"/>\n' for number in range(3, 9))
    entry = (
        f'{{"channel_id":{channel.id},"created_at":"2026-01-02T03:04:05Z","entry_id":1,"field1":"21.5","field2":"a,b",'
        f'{nulls}"latitude":null,"longitude":"8.5","elevation":null,"status":"ok & well"}}'
    )
    document = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<feed>\n  <channel-id type="integer">{channel.id}</channel-id>\n'
        '  <created-at type="dateTime">2026-01-02T03:04:05Z</created-at>\n  <entry-id type="integer">1</entry-id>\n'
        f"  <field1>21.5</field1>\n  <field2>a,b</field2>\n{nils}"
        '  <latitude type="decimal" nil="true"/>\n  <longitude type="decimal">8.5</longitude>\n'
        '  <elevation type="decimal" nil="true"/>\n  <status>ok &amp; well</status>\n'
        '  <id type="integer" nil="true"/>\n</feed>\n'
    )
    expected = {
        base: entry,
        f"{base}/json": entry,
        f"{base}/json/{key}": entry,
        f"{base}/xml/{key}": document,
        f"{base}/csv/{key}": '2026-01-02T03:04:05Z,1,21.5,"a,b",,,,,,,,8.5,,ok & well',
        f"{base}/fields/field1": "21.5",
        f"{base}/fields/field2/{key}": "a,b",
    }
    with server.mqtt_client() as client:
        client.sendall(render_packet(Subscribe(1, tuple(Subscription(topic, 0) for topic in expected))))
        assert client.recv(64) == b"\x90\x09\x00\x01" + bytes(len(expected))
        form = {"field1": "21.5", "field2": "a,b", "long": "8.5", "status": "ok & well"}
        query = {"api_key": channel.write_key, "created_at": "2026-01-02T03:04:05Z", **form}
        assert server.call("POST", "/update", **query).body == b"1"
        packets = {render_packet(Publish(topic, payload.encode())) for topic, payload in expected.items()}
        length, got = sum(map(len, packets)), b""
        while len(got) < length:
            got += client.recv(65_536)
    assert len(got) == length
    assert all(packet in got for packet in packets), got
