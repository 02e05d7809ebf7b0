"""Channels and people over REST, as their owner, another account, and nobody."""

from __future__ import annotations

import urllib.parse
import xml.etree.ElementTree as ET

import pytest

from server import ADMIN_NAME, ADMIN_TOKEN, ChannelKeys, Server


def put(server: Server, channel: ChannelKeys, **settings: object) -> dict[str, object]:
    form = urllib.parse.urlencode({"api_key": ADMIN_TOKEN, **settings})
    answer = server.call("PUT", f"/channels/{channel.id}.json", form)
    assert answer.status == 200, answer.body
    found: dict[str, object] = answer.json()
    return found


def names(server: Server, **query: object) -> list[str]:
    return [one["name"] for one in server.call("GET", "/channels/public.json", **query).json()["channels"]]


def test_settings_that_are_not_named_stay(server: Server, channel: ChannelKeys) -> None:
    changed = put(server, channel, description="d", tags="a, b", public_flag="true", latitude="47.5")
    assert (changed["name"], changed["description"], changed["public_flag"]) == ("n", "d", True)
    assert [tag["name"] for tag in changed["tags"]] == ["a", "b"]  # type: ignore[attr-defined]
    assert len(changed["api_keys"]) == 2  # type: ignore[arg-type]
    changed = put(server, channel, name="new", field2="", field3="Wind", public_flag="false")
    assert (changed["name"], changed["description"], changed["latitude"]) == ("new", "d", "47.5")
    head = server.call("GET", f"/channels/{channel.id}/feeds.json", api_key=channel.read_key).json()["channel"]
    assert {name: head[name] for name in head if name.startswith("field")} == {"field1": "Temp", "field3": "Wind"}


def test_put_takes_parameters_from_the_query_too(server: Server, channel: ChannelKeys) -> None:
    answer = server.call("PUT", f"/channels/{channel.id}.json", api_key=ADMIN_TOKEN, name="q")
    assert answer.json()["name"] == "q"
    wrong = server.call("PUT", f"/channels/{channel.id}.json", api_key=ADMIN_TOKEN, latitude="91")
    assert (wrong.status, wrong.json()["error"]["error_code"]) == (400, "error_bad_request")


def test_delete_answers_the_channel_as_it_was(server: Server, channel: ChannelKeys) -> None:
    answer = server.call("DELETE", f"/channels/{channel.id}.json", f"api_key={ADMIN_TOKEN}")
    assert (answer.status, answer.json()["name"]) == (200, "n")
    assert server.call("GET", f"/channels/{channel.id}.json", api_key=ADMIN_TOKEN).status == 404
    assert server.call("POST", "/update", api_key=channel.write_key, field1=1).body == b"0"


def test_clearing_begins_entry_ids_anew(server: Server, channel: ChannelKeys) -> None:
    for _ in range(2):
        assert server.call("POST", "/update", api_key=channel.write_key, field1=1).body == b"1"
        answer = server.call("DELETE", f"/channels/{channel.id}/feeds.json", api_key=ADMIN_TOKEN)
        assert (answer.status, answer.body) == (200, b"[]")
        assert server.feeds(channel) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/channels/{id}.json"),
        ("DELETE", "/channels/{id}.json"),
        ("DELETE", "/channels/{id}/feeds.json"),
        ("GET", "/channels.json"),
        ("POST", "/channels.json"),
    ],
)
def test_only_the_owner_s_key_opens(server: Server, channel: ChannelKeys, method: str, path: str) -> None:
    other = server.create_channel()
    server.call("POST", "/update", api_key=channel.write_key, field1=1)
    keys = ("", "0123456789ABCDEF", channel.write_key, channel.read_key, other.write_key)
    for key in keys:
        answer = server.call(method, path.format(id=channel.id), f"api_key={key}&name=stolen")
        assert answer.status == 401, key
        assert answer.json()["error"]["error_code"] == "error_auth_required"
    assert len(server.feeds(channel)) == 1
    assert server.call("GET", f"/channels/{channel.id}.json", api_key=channel.read_key).json()["name"] == "n"


def test_one_s_own_channels(server: Server, channel: ChannelKeys) -> None:
    own = server.call("GET", "/channels.json", api_key=ADMIN_TOKEN).json()
    (found,) = [one for one in own if one["id"] == channel.id]
    assert found["api_keys"][0] == {"api_key": channel.write_key, "write_flag": True}
    tree = ET.fromstring(server.call("GET", "/channels.xml", api_key=ADMIN_TOKEN).body)
    assert tree.tag == "channels"
    assert str(channel.id) in [one.findtext("id") for one in tree]


def test_public_channels(server: Server) -> None:
    place = {"latitude": "47.5", "longitude": "8.5"}
    server.create_channel("Zurich", public_flag="true", tags="Weather,alps", **place)
    server.create_channel("Bern", public_flag="true", latitude="46.95", longitude="7.45")
    server.create_channel("Hidden", tags="weather", **place)
    found = server.call("GET", "/channels/public.json").json()
    assert list(found) == ["pagination", "channels"]
    assert list(found["pagination"]) == ["current_page", "per_page", "total_entries"]
    assert all("api_keys" not in one for one in found["channels"])
    assert "Hidden" not in names(server)
    assert names(server, tag="weather") == ["Zurich"]
    assert names(server, username=ADMIN_NAME, tag="alps") == ["Zurich"]
    assert names(server, username="nobody") == []
    assert "Bern" not in names(server, **place, distance="50")
    assert {"Zurich", "Bern"} <= set(names(server, **place, distance="150"))
    assert server.call("GET", "/channels/public.json", page=1000).json()["channels"] == []
    assert ET.fromstring(server.call("GET", "/channels/public.xml").body).find("pagination/per-page") is not None


def test_pages_of_public_channels(server: Server) -> None:
    for number in range(17):
        server.create_channel(f"page {number}", public_flag="true", tags="pages")
    assert len(names(server, tag="pages")) == 15
    assert len(names(server, tag="pages", page=2)) == 2


def test_people(server: Server) -> None:
    path = f"/users/{ADMIN_NAME}.json"
    mine = server.call("GET", path, api_key=ADMIN_TOKEN).json()
    assert list(mine) == ["id", "login", "created_at", "email", "website", "bio"]
    channel = server.create_channel("mine")
    shown = server.create_channel("shown", public_flag="true")
    assert list(server.call("GET", path).json()) == ["id", "login", "created_at"]
    ids = [one["id"] for one in server.call("GET", f"/users/{ADMIN_NAME}/channels.json").json()["channels"]]
    assert shown.id in ids
    assert channel.id not in ids
    own = server.call("GET", f"/users/{ADMIN_NAME}/channels.json", api_key=ADMIN_TOKEN).json()["channels"]
    assert channel.id in [one["id"] for one in own]
    assert server.call("GET", "/users/nobody.json").status == 404
    assert server.call("GET", "/users/nobody/channels.json").status == 404


def test_update_as_xml(server: Server, channel: ChannelKeys) -> None:
    answer = server.call("POST", "/update.xml", api_key=channel.write_key, field1="1")
    assert answer.headers["Content-Type"] == "application/xml"
    feed = ET.fromstring(answer.body)
    assert (feed.tag, feed.findtext("channel-id"), feed.findtext("entry-id")) == ("feed", str(channel.id), "1")
    assert server.call("POST", "/update.xml", field1="1").body == b"0"


def test_a_channel_as_xml(server: Server, channel: ChannelKeys) -> None:
    tree = ET.fromstring(server.call("GET", f"/channels/{channel.id}.xml", api_key=ADMIN_TOKEN).body)
    assert tree.tag == "channel"
    assert tree.findtext("api-keys/api-key/api-key") == channel.write_key
    missing = server.call("GET", "/channels/99999999.xml")
    assert (missing.status, ET.fromstring(missing.body).findtext("error-code")) == (404, "error_resource_not_found")
