"""A channel that keeps its entries for a day, on a real server: what is shown and refused, and where that is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from server import ChannelKeys, Server


def keep(server: Server, channel: ChannelKeys, **form: object) -> None:
    if not server.cookies:
        server.sign_in()
    server.submit(f"/channels/{channel.id}/settings", name="n", field1="Temp", **form)


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


def values(server: Server, channel: ChannelKeys) -> list[str]:
    return [entry["field1"] for entry in server.feeds(channel)]


def test_entries_are_shown_and_taken_in_for_as_long_as_the_channel_keeps_them(server: Server) -> None:
    channel = server.create_channel()
    for value, created_at in (("old", ago(days=3)), ("young", ago(hours=20))):
        server.call("POST", "/update", api_key=channel.write_key, field1=value, created_at=created_at)
    assert values(server, channel) == ["old", "young"]

    keep(server, channel, keep="days", days="1")
    assert values(server, channel) == ["young"]
    refused = server.call("POST", "/update.json", api_key=channel.write_key, field1="late", created_at=ago(days=2))
    assert refused.status == 400
    assert b"longer ago than entries are kept here" in refused.body

    credentials = server.create_device(publish=[channel], name="late device")
    with server.mqtt_client(credentials) as client:
        payload = f"field1=late&created_at={ago(days=2)}".encode()
        server.publish_acknowledged(client, f"channels/{channel.id}/publish", payload)
        server.publish_acknowledged(client, f"channels/{channel.id}/publish", b"field1=new", 2)
    told = server.visit(server.device_path("late device")).body
    assert b"longer ago than entries are kept here" in told
    assert values(server, channel) == ["young", "new"]

    keep(server, channel, keep="days", days="7")
    assert values(server, channel) == ["young", "new"]  # what had expired stays gone
    late = server.call("POST", "/update", api_key=channel.write_key, field1="late", created_at=ago(days=2))
    assert late.body == b"4"
    keep(server, channel, keep="forever")
    assert values(server, channel) == ["late", "young", "new"]
