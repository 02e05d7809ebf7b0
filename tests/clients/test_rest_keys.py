"""Keys of a channel over REST: listed, made, noted, renewed and deleted by their owner alone."""

from __future__ import annotations

from typing import Any

from server import ADMIN_TOKEN, Answer, ChannelKeys, Server


def call(
    server: Server, method: str, channel: ChannelKeys, path: str, key: str = ADMIN_TOKEN, **form: object
) -> Answer:
    return server.call(method, f"/channels/{channel.id}/api_keys{path}", api_key=key, **form)


def listed(server: Server, channel: ChannelKeys) -> list[dict[str, Any]]:
    answer = call(server, "GET", channel, ".json")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    found: list[dict[str, Any]] = answer.json()
    return found


def test_the_write_key_is_renewed(server: Server, channel: ChannelKeys) -> None:
    answer = call(server, "POST", channel, "/write.json")
    new = answer.json()
    assert answer.status == 200
    assert list(new) == ["id", "api_key", "write_flag", "note", "created_at"]
    assert new["write_flag"] is True
    assert new["api_key"] != channel.write_key
    assert server.call("POST", "/update", api_key=channel.write_key, field1=1).body == b"0", "the old one opens nothing"
    assert server.call("POST", "/update", api_key=new["api_key"], field1=1).body == b"1"
    assert [key["api_key"] for key in listed(server, channel)] == [new["api_key"], channel.read_key]


def test_read_keys_come_and_go(server: Server, channel: ChannelKeys) -> None:
    new = call(server, "POST", channel, "/read.json", note="the kitchen display").json()
    assert (new["write_flag"], new["note"]) == (False, "the kitchen display")
    assert server.call("GET", f"/channels/{channel.id}/feeds.json", api_key=new["api_key"]).status == 200
    assert [key["api_key"] for key in listed(server, channel)][1:] == [channel.read_key, new["api_key"]]
    changed = call(server, "PUT", channel, f"/{new['id']}.json", note="the hall").json()
    assert changed == new | {"note": "the hall"}
    assert call(server, "GET", channel, f"/{new['id']}.json").json() == changed
    assert call(server, "DELETE", channel, f"/{new['id']}.json").json() == changed
    assert server.call("GET", f"/channels/{channel.id}/feeds.json", api_key=new["api_key"]).status == 400
    assert call(server, "DELETE", channel, f"/{new['id']}.json").status == 404


def test_as_xml(server: Server, channel: ChannelKeys) -> None:
    body = call(server, "GET", channel, ".xml").body.decode()
    assert f"<api-key>{channel.write_key}</api-key>" in body
    assert '<write-flag type="boolean">true</write-flag>' in body
    assert b"<note>n</note>" in call(server, "POST", channel, "/read.xml", note="n").body


def test_what_cannot_be(server: Server, channel: ChannelKeys) -> None:
    write_id = listed(server, channel)[0]["id"]
    answer = call(server, "DELETE", channel, f"/{write_id}.json")
    assert answer.status == 409
    assert "api_keys/write.json replaces it" in answer.json()["error"]["details"]
    for missing in ("0", "x", "9" * 30):
        assert call(server, "DELETE", channel, f"/{missing}.json").status == 404
    assert call(server, "POST", channel, "/read.json", note="x" * 256).status == 400
    assert call(server, "DELETE", channel, "/write.json").status == 405


def test_only_the_owner_may(server: Server, channel: ChannelKeys, stranger: str) -> None:
    key_id = listed(server, channel)[1]["id"]
    other = server.create_channel()
    nowhere = other._replace(id=999_999_999)
    paths = [("GET", ".json"), ("POST", "/write.json"), ("POST", "/read.json")]
    paths += [(method, f"/{key_id}.json") for method in ("GET", "PUT", "DELETE")]
    for method, path in paths:
        here, there = (call(server, method, one, path, stranger) for one in (channel, nowhere))
        assert (here.status, here.body) == (there.status, there.body)
        assert here.status == 404
        for key in ("", "nonsense", channel.write_key, channel.read_key):
            here, there = (call(server, method, one, path, key) for one in (channel, nowhere))
            assert (here.status, here.body) == (there.status, there.body)
            assert here.status == 401
    assert call(server, "GET", other, f"/{key_id}.json").status == 404, "a key of another channel"
    assert [key["api_key"] for key in listed(server, channel)] == [channel.write_key, channel.read_key]
