"""What people copy: right addresses and keys, and nothing a shell could take amiss."""

from __future__ import annotations

import ast
import json
import shlex
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.datastructures import URL

from headwater.dialects.thingspeak.topics import parse_subscribe_filter
from headwater.registry.entities import ApiKey, Channel, ChannelSettings
from headwater.web.console.options import MqttPorts
from headwater.web.console.snippets import (
    account_device_snippets,
    addresses_of,
    credentials_text,
    device_snippets,
    first_entry_line,
    mqtt_publish_line,
    rest_snippets,
    topic_snippets,
    write_commands,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
PORTS = MqttPorts(1883, 8883)


def channel(is_public: bool = False, read_keys: int = 1) -> Channel:
    keys = [ApiKey(1, "W" * 16, True, "", AT)] + [ApiKey(2 + n, "R" * 16, False, "", AT) for n in range(read_keys)]
    return Channel(7, 1, ChannelSettings(name="n", fields={3: "x", 2: "y"}, is_public=is_public), tuple(keys), AT, AT)


def test_requests_name_keys_only_where_they_are_needed() -> None:
    at = addresses_of(URL("http://station.local:8080/x"), PORTS)
    write, read, one, status, last = (snippet.text for snippet in rest_snippets(channel(), at))
    assert write == f"GET http://station.local:8080/update?api_key={'W' * 16}&field2=21.5"
    assert read == f"GET http://station.local:8080/channels/7/feeds.json?api_key={'R' * 16}&results=2"
    assert one == f"GET http://station.local:8080/channels/7/fields/2.json?api_key={'R' * 16}&results=2"
    assert status == f"GET http://station.local:8080/channels/7/status.json?api_key={'R' * 16}"
    assert last == f"GET http://station.local:8080/channels/7/feeds/last.json?api_key={'R' * 16}"
    for open_channel in (channel(is_public=True), channel(read_keys=0)):
        assert not any("R" * 16 in snippet.text for snippet in rest_snippets(open_channel, at))


def test_commands_that_write_with_post() -> None:
    at = addresses_of(URL("http://station.local:8080/x"), PORTS)
    one, bulk = (shlex.split(snippet.text.replace("\\\n", "")) for snippet in write_commands(channel(), at))
    assert one == ["curl", "http://station.local:8080/update.json", "-d", f"api_key={'W' * 16}", "-d", "field2=21.5"]
    assert json.loads(bulk[-1])["write_api_key"] == "W" * 16
    assert bulk[1] == "http://station.local:8080/channels/7/bulk_update.json"


def test_topics_name_keys_only_where_they_are_needed() -> None:
    publish, with_key, subscribe, with_read_key = (snippet.text for snippet in topic_snippets(channel()))
    assert publish == "channels/7/publish\nchannels/7/publish/fields/field2"
    assert with_key == f"channels/7/publish/{'W' * 16}"
    assert "R" * 16 not in subscribe
    for topic in with_read_key.splitlines():
        parsed = parse_subscribe_filter(topic)
        assert parsed is not None
        assert parsed.key == "R" * 16
    assert "R" * 16 not in topic_snippets(channel(is_public=True))[-1].text


def test_commands_are_one_shell_command_each() -> None:
    at = addresses_of(URL("https://station.local/"), PORTS)
    for line in (mqtt_publish_line(channel(), at), first_entry_line(channel(), at)):
        words = shlex.split(line.replace("\\\n", ""))
        assert words[0] in ("mosquitto_pub", "curl")
        assert not any(mark in word for word in words if word != words[-1] for mark in ";|$`")


def test_a_device_gets_programs_for_what_it_may_do() -> None:
    at = addresses_of(URL("http://h:1/"), PORTS)
    assert device_snippets("c", "p", None, None, at) == []
    publish, python, subscribe, beside = device_snippets("c", "p", channel(), replace(channel(), id=8), at)
    assert shlex.split(publish.text.replace("\\\n", ""))[-2:] == ["-m", "field2=21.5"]
    ast.parse(python.text)
    assert '"field2=21.5"' in python.text
    assert "ca.crt" in python.text
    assert "8883" in python.text
    assert "channels/8/subscribe" in subscribe.text
    # the same client id once more would end the subscription
    assert f"channels/8/publish/{'W' * 16}" in beside.text
    assert " -i " not in beside.text
    assert "-P" not in beside.text


@settings(deadline=None, max_examples=50)
@given(
    credential=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=6, max_size=40),
    device_id=st.from_regex("[a-zA-Z0-9_-]{1,32}", fullmatch=True),
)
@example(credential="'; rm -rf $HOME `id` \"\\", device_id="-h")
def test_a_chosen_credential_is_one_word_and_one_text_whatever_is_in_it(credential: str, device_id: str) -> None:
    at = addresses_of(URL("http://h:1/"), MqttPorts(1883, None))
    publish, python, subscribe = account_device_snippets(device_id, "ada", credential, at)
    for snippet, program in ((publish, "mosquitto_pub"), (subscribe, "mosquitto_sub")):
        words = shlex.split(snippet.text.replace("\\\n", ""))
        assert words[:5] == [program, "-h", "h", "-p", "1883"]
        assert words[5:11] == ["-i", device_id, "-u", "ada", "-P", credential]
    texts = [node.value for node in ast.walk(ast.parse(python.text)) if isinstance(node, ast.Constant)]
    assert {device_id, "ada", credential, "telemetry", '{"temperature": 21.5}'} <= set(texts)


def test_without_a_tls_port_the_program_needs_no_certificate() -> None:
    at = addresses_of(URL("http://h:1/"), MqttPorts(1883, None))
    python = device_snippets("c", "p", channel(), None, at)[1].text
    assert "tls" not in python
    assert "1883" in python


def test_with_only_a_tls_port_the_commands_use_it() -> None:
    at = addresses_of(URL("http://h:1/"), MqttPorts(None, 8883))
    assert "-p 8883 --cafile ca.crt" in mqtt_publish_line(channel(), at)


def test_with_an_operators_certificate_the_systems_cas_do() -> None:
    at = addresses_of(URL("http://h:1/"), MqttPorts(None, 8883), has_own_ca=False)
    python = device_snippets("c", "p", channel(), None, at)[1].text
    assert "client.tls_set()\n" in python
    texts = [mqtt_publish_line(channel(), at), python, credentials_text("d", {}, at)]
    assert "-p 8883 --tls-use-os-certs" in texts[0]
    assert not any("ca.crt" in text for text in texts)


@pytest.mark.parametrize(
    "url", ["http://a;rm -rf/", "http://$(id)/", "http://a`b`/", "http://a'b/", "http:///x", "http://a:b/"]
)
def test_a_host_that_means_something_to_a_shell_is_not_repeated(url: str) -> None:
    assert addresses_of(URL(url), PORTS).host == "localhost"


def test_an_ipv6_host() -> None:
    at = addresses_of(URL("http://[::1]:8080/"), PORTS)
    assert (at.host, at.base_url) == ("::1", "http://[::1]:8080")


def test_the_file_of_credentials_keeps_to_its_lines() -> None:
    text = credentials_text("a\nhost: evil", {"password": "p"}, addresses_of(URL("http://h/"), PORTS))
    assert text.splitlines()[0] == "MQTT device: a host: evil"
    assert "password: p" in text.splitlines()
