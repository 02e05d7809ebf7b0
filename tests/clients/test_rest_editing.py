"""Changing and deleting single entries over real sockets."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path

import pytest

from server import ADMIN_TOKEN, Answer, ChannelKeys, Server, start_server


def write(server: Server, channel: ChannelKeys, **parameters: object) -> int:
    answer = server.call("POST", "/update", urllib.parse.urlencode({"api_key": channel.write_key, **parameters}))
    assert answer.status == 200
    return int(answer.body)


def edit(
    server: Server, channel: ChannelKeys, entry: int | str, key: str | None = None, **parameters: object
) -> Answer:
    form = urllib.parse.urlencode({"api_key": key or channel.write_key, **parameters})
    return server.call("PUT", f"/channels/{channel.id}/feeds/{entry}.json", form)


def delete(server: Server, channel: ChannelKeys, entry: int | str, key: str | None = None) -> Answer:
    return server.call("DELETE", f"/channels/{channel.id}/feeds/{entry}.json", api_key=key or channel.write_key)


def test_what_is_named_changes_and_the_rest_stays(server: Server, channel: ChannelKeys) -> None:
    entry = write(
        server, channel, field1="21.50", field2="on", lat="48.1", status="ok", created_at="2026-01-02 03:04:05"
    )
    answer = edit(server, channel, entry, field1="broken", field2="")
    whole = {f"field{n}": None for n in range(3, 9)}
    expected = {
        **{"channel_id": channel.id, "created_at": "2026-01-02T03:04:05Z", "entry_id": 1},
        **{"field1": "broken", "field2": "", **whole, "latitude": "48.1", "longitude": None, "elevation": None},
        "status": "ok",
    }
    assert (answer.status, answer.json()) == (200, expected)
    assert answer.body.startswith(b'{"channel_id":%d,"created_at":' % channel.id)
    (feed,) = server.feeds(channel, status="true", location="true")
    assert feed == {name: expected[name] for name in feed}


def test_json_numbers_null_and_remove(server: Server, channel: ChannelKeys) -> None:
    write(server, channel, field1="1", field2="2", field3="3", status="ok")
    path = f"/channels/{channel.id}/feeds/1.json"
    body = json.dumps(
        {"api_key": channel.write_key, "field1": 7.5, "field2": None, "remove": "status, 3", "field9": None}
    )
    answer = server.call("PATCH", path, body, {"Content-Type": "application/json"})
    assert [answer.json()[name] for name in ("field1", "field2", "field3", "status")] == ["7.5", None, None, None]
    assert server.feeds(channel, status="true")[0]["status"] is None


def test_a_number_of_thousands_of_digits_is_too_long(server: Server, channel: ChannelKeys) -> None:
    write(server, channel, field1="1")
    body = f'{{"api_key": "{channel.write_key}", "field1": 1{"0" * 5_000}}}'
    answer = server.call("PUT", f"/channels/{channel.id}/feeds/1.json", body, {"Content-Type": "application/json"})
    assert answer.status == 413


def test_as_xml_and_with_a_user_key(server: Server, channel: ChannelKeys) -> None:
    write(server, channel, field1="1")
    answer = server.call("PUT", f"/channels/{channel.id}/feeds/entry/1.xml", f"api_key={ADMIN_TOKEN}&field1=2")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/xml")
    assert b"<field1>2</field1>" in answer.body
    answer = server.call("DELETE", f"/channels/{channel.id}/feeds/1.xml", api_key=ADMIN_TOKEN)
    assert b"<field1>2</field1>" in answer.body, "as it was"
    assert server.feeds(channel) == []


def test_a_deleted_entry_is_gone_and_its_number_is_not_given_again(server: Server, channel: ChannelKeys) -> None:
    for text in ("1", "2", "3"):
        write(server, channel, field1=text)
    answer = delete(server, channel, 3)
    assert (answer.status, answer.json()["field1"], answer.json()["entry_id"]) == (200, "3", 3)
    assert delete(server, channel, 3).status == 404
    assert write(server, channel, field1="4") == 4
    assert [feed["entry_id"] for feed in server.feeds(channel)] == [1, 2, 4]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"field1": "1", "created_at": "2026-01-01"}, "created_at of an entry cannot change"),
        ({}, "Name what is to change"),
        ({"remove": "colour"}, "colour in remove is no value"),
        ({"remove": "created_at"}, "no value of an entry"),
        ({"remove": "field1", "field1": "1"}, "both given and to be removed"),
    ],
)
def test_what_cannot_be(server: Server, channel: ChannelKeys, parameters: dict[str, str], says: str) -> None:
    entry = write(server, channel, field1="1")
    answer = edit(server, channel, entry, **parameters)
    assert answer.status == 400
    assert says in answer.json()["error"]["details"]
    assert [feed["field1"] for feed in server.feeds(channel)] == ["1"]


def test_too_long_texts_and_entries_that_are_not_there(server: Server, channel: ChannelKeys) -> None:
    entry = write(server, channel, field1="1")
    assert edit(server, channel, entry, field1="x" * 256).status == 413
    for missing in ("2", "0", "x", "9" * 30, "last"):
        assert edit(server, channel, missing, field1="2").status == 404
        assert delete(server, channel, missing).status == 404
    assert [feed["field1"] for feed in server.feeds(channel)] == ["1"]


def test_other_peoples_keys_see_no_channel(server: Server, channel: ChannelKeys, stranger: str) -> None:
    write(server, channel, field1="1")
    other = server.create_channel()
    for key in (other.write_key, other.read_key, channel.read_key, stranger, "nonsense"):
        for method in ("PUT", "PATCH", "DELETE"):
            here = server.call(method, f"/channels/{channel.id}/feeds/1.json", api_key=key, field1="2")
            nowhere = server.call(method, "/channels/999999999/feeds/1.json", api_key=key, field1="2")
            assert here.status == 404
            assert (here.status, here.body) == (nowhere.status, nowhere.body)
    assert server.call("DELETE", f"/channels/{channel.id}/feeds/1.json").status == 401
    assert server.call("DELETE", "/channels/999999999/feeds/1.json").status == 401
    assert [feed["field1"] for feed in server.feeds(channel)] == ["1"]


def test_what_was_answered_survives_sigkill(data: Path) -> None:
    server = start_server(data)
    try:
        channel = server.create_channel()
        for number in range(1, 7):
            write(server, channel, field1=str(number), field2="text")
        assert edit(server, channel, 1, field1="on", remove="field2").status == 200
        assert edit(server, channel, 2, field2="2.50").status == 200
        for entry in (4, 6, 5):
            assert delete(server, channel, entry).status == 200
        server.kill()
        server = start_server(data)
        feeds = [(feed["entry_id"], feed["field1"], feed["field2"]) for feed in server.feeds(channel)]
        assert feeds == [(1, "on", None), (2, "2", "2.50"), (3, "3", "text")]
        assert write(server, channel, field1="next") == 7
    finally:
        server.kill()
    assert "Traceback" not in server.log
