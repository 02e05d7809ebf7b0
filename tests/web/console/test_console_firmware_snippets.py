"""What people flash: each in the form that its firmware reads, with the device's credentials in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from starlette.datastructures import URL
from test_console_snippets import channel

from headwater.web.console.firmware_snippets import Sender, firmware_snippets
from headwater.web.console.options import MqttPorts
from headwater.web.console.snippets import addresses_of

yaml = pytest.importorskip("yaml")

WHO = Sender("CLIENT1", "secret9", [channel(), replace(channel(), id=8)])


def snippets(plain: int | None, tls: int | None, *, has_own_ca: bool = True) -> dict[str, str]:
    at = addresses_of(URL("http://station.local:8080/"), MqttPorts(plain, tls), has_own_ca=has_own_ca)
    return {snippet.title.split(" ")[0]: snippet.text for snippet in firmware_snippets(WHO, at)}


def test_each_firmware_that_can_connect_is_there() -> None:
    assert list(snippets(1883, 8883)) == ["Arduino", "ESPHome", "Tasmota", "SparkFun"]
    assert list(snippets(1883, None)) == ["Arduino", "ESPHome", "Tasmota"]
    assert list(snippets(None, 8883)) == ["Arduino", "SparkFun"]


def test_flux_is_json_with_the_names_that_it_reads() -> None:
    block = json.loads(snippets(1883, 8883)["SparkFun"])["ThingSpeak MQTT"]
    assert (block["Enabled"], block["Port"], block["Server"]) == (True, 8883, "station.local")
    assert (block["Client Name"], block["Username"], block["Password"]) == ("CLIENT1", "CLIENT1", "secret9")
    assert block["CA Cert Filename"] == "ca.crt"
    pairs = [pair.strip().split("=") for pair in block["Channels"].split(",")]
    assert [number for _, number in pairs] == ["7", "8"]
    assert json.loads(snippets(None, 8883, has_own_ca=False)["SparkFun"])["ThingSpeak MQTT"]["CA Cert Filename"]


def test_esphome_is_yaml_and_publishes_nothing_of_its_own() -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!lambda", lambda loader, node: loader.construct_scalar(node))
    read = yaml.load(snippets(1883, 8883)["ESPHome"], Loader)
    mqtt = read["mqtt"]
    assert (mqtt["broker"], mqtt["port"]) == ("station.local", 1883)
    assert (mqtt["client_id"], mqtt["username"], mqtt["password"]) == ("CLIENT1", "CLIENT1", "secret9")
    assert [mqtt[name] for name in ("topic_prefix", "log_topic", "birth_message", "will_message")] == [None] * 4
    assert mqtt["discovery"] is False
    publish = read["interval"][0]["then"][0]["mqtt.publish"]
    assert publish["topic"] == "channels/7/publish"
    assert publish["payload"] == 'return "field2=" + to_string(id(your_sensor).state);'


def test_tasmota_has_a_command_on_each_line() -> None:
    backlog, rule, on, period = snippets(1883, 8883)["Tasmota"].splitlines()
    commands = dict(one.strip().split(" ", 1) for one in backlog.removeprefix("Backlog ").split(";"))
    assert commands == {
        "MqttHost": "station.local",
        "MqttPort": "1883",
        "MqttClient": "CLIENT1",
        "MqttUser": "CLIENT1",
        "MqttPassword": "secret9",
    }
    assert re.fullmatch(r"Rule1 ON \S+#\S+ DO Publish channels/7/publish field2=%value% ENDON", rule)
    assert (on, period) == ("Rule1 1", "TelePeriod 60")


def test_the_sketch_connects_and_publishes() -> None:
    for ports, port in (((1883, 8883), 1883), ((None, 8883), 8883)):
        sketch = snippets(*ports)["Arduino"]
        assert f'mqtt.setServer("station.local", {port});' in sketch
        assert 'mqtt.connect("CLIENT1", "CLIENT1", "secret9")' in sketch
        assert 'mqtt.publish("channels/7/publish", "field2=21.5");' in sketch
        assert sketch.count("{") == sketch.count("}")
        assert sketch.count("(") == sketch.count(")")
        assert ("setCACert" in sketch) is (port == 8883)
