"""Configurations and sketches for firmware that people flash, with a device's own credentials. Pure.

Headwater makes these credentials of letters and digits, and `Addresses` holds a host that means nothing to a shell: so
every text stands in quotes as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from headwater.registry.entities import Channel
from headwater.web.console.snippets import Addresses, Snippet, example_payload

EVERY_S = 60
"""How often the sketches send; the server itself sets no pace."""
FLUX_DEVICES = ("BME280", "SCD40", "SGP40")
"""Stand for the sensors that a board has, which write to a channel each."""


class Sender(NamedTuple):
    """A device that may publish."""

    client_id: str
    password: str
    channels: Sequence[Channel]
    """Those it may publish to, one at least; sketches show the first."""


def firmware_snippets(sender: Sender, at: Addresses) -> list[Snippet]:
    """One for each firmware that can reach one of the server's listeners."""
    found = [Snippet("Arduino (ESP32 or ESP8266 with PubSubClient)", _arduino(sender, at))]
    if at.ports.plain is not None:
        found.append(Snippet("ESPHome", _esphome(sender, at)))
        found.append(Snippet("Tasmota (line by line into its console)", _tasmota(sender, at)))
    if at.ports.tls is not None:
        found.append(Snippet("SparkFun Flux (into its JSON settings)", _flux(sender, at)))
    return found


def _arduino(sender: Sender, at: Addresses) -> str:
    channel = sender.channels[0]
    name, password, host = (json.dumps(text) for text in (sender.client_id, sender.password, at.host))
    if at.ports.plain is not None:
        port, network, trust = at.ports.plain, "WiFiClient network;", ""
    else:
        port, network = at.ports.tls or 8883, "WiFiClientSecure network;  // #include <WiFiClientSecure.h>"
        source = f"{at.base_url}/ca.crt" if at.has_own_ca else "the root certificate that signed the server's"
        network += f'\nconst char* CA = R"(the text of {source})";'
        trust = "  network.setCACert(CA);\n"
    return (
        "#include <WiFi.h>  // on an ESP8266: ESP8266WiFi.h\n"
        "#include <PubSubClient.h>\n\n"
        f"{network}\n"
        "PubSubClient mqtt(network);\n\n"
        "void setup() {\n"
        '  WiFi.begin("YOUR_WIFI", "YOUR_WIFI_PASSWORD");\n'
        "  while (WiFi.status() != WL_CONNECTED) delay(250);\n"
        f"{trust}"
        f"  mqtt.setServer({host}, {port});\n"
        "}\n\n"
        "void loop() {\n"
        "  static unsigned long sentAt = 0;\n"
        f"  if (!mqtt.connected() && !mqtt.connect({name}, {name}, {password})) {{\n"
        "    delay(5000);\n"
        "    return;\n"
        "  }\n"
        "  mqtt.loop();\n"
        f"  if (sentAt != 0 && millis() - sentAt < {EVERY_S}000UL) return;\n"
        f'  mqtt.publish("channels/{channel.id}/publish", "{example_payload(channel)}");\n'
        "  sentAt = millis();\n"
        "}\n"
    )


def _esphome(sender: Sender, at: Addresses) -> str:
    channel = sender.channels[0]
    field = example_payload(channel).partition("=")[0]
    return (
        "mqtt:\n"
        f"  broker: {json.dumps(at.host)}\n"
        f"  port: {at.ports.plain}\n"
        f"  client_id: {json.dumps(sender.client_id)}\n"
        f"  username: {json.dumps(sender.client_id)}\n"
        f"  password: {json.dumps(sender.password)}\n"
        "  # A channel takes entries and nothing else: no topics of ESPHome's own.\n"
        "  topic_prefix: null\n"
        "  discovery: false\n"
        "  log_topic: null\n"
        "  birth_message:\n"
        "  will_message:\n\n"
        "interval:\n"
        f"  - interval: {EVERY_S}s\n"
        "    then:\n"
        "      - mqtt.publish:\n"
        f"          topic: channels/{channel.id}/publish\n"
        "          payload: !lambda |-\n"
        f'            return "{field}=" + to_string(id(your_sensor).state);\n'
    )


def _tasmota(sender: Sender, at: Addresses) -> str:
    channel = sender.channels[0]
    field = example_payload(channel).partition("=")[0]
    return (
        f"Backlog MqttHost {at.host}; MqttPort {at.ports.plain}; MqttClient {sender.client_id}; "
        f"MqttUser {sender.client_id}; MqttPassword {sender.password}\n"
        f"Rule1 ON Tele-AM2301#Temperature DO Publish channels/{channel.id}/publish {field}=%value% ENDON\n"
        "Rule1 1\n"
        f"TelePeriod {EVERY_S}\n"
    )


def _flux(sender: Sender, at: Addresses) -> str:
    pairs = [f"{name}={channel.id}" for name, channel in zip(FLUX_DEVICES, sender.channels, strict=False)]
    settings = {
        "Enabled": True,
        "Port": at.ports.tls,
        "Server": at.host,
        "MQTT Topic": "",
        "Client Name": sender.client_id,
        "Buffer Size": 0,
        "Username": sender.client_id,
        "Password": sender.password,
        "CA Cert Filename": "ca.crt" if at.has_own_ca else "root-ca.pem",
        "Client Cert Filename": "",
        "Client Key Filename": "",
        "Channels": ", ".join(pairs),
    }
    return json.dumps({"ThingSpeak MQTT": settings}, indent=2) + "\n"
