"""What a channel elsewhere is like here."""

from __future__ import annotations

import json

from headwater.exchange.thingspeak_target import as_request, settings_of
from headwater.registry.entities import ChannelSettings


def test_fields_above_the_eighth_keep_their_names() -> None:
    settings = settings_of({"name": "Station", "field1": "Temperature", "field9": "Rain", "field10": ""})
    assert settings == ChannelSettings(name="Station", fields={1: "Temperature", 9: "Rain"})


def test_settings_can_be_sent_to_a_running_server() -> None:
    settings = settings_of({"name": "Station", "field9": "Rain"})
    sent = json.loads(json.dumps(as_request(settings)))
    assert (sent["name"], sent["fields"], "numbers" in sent) == ("Station", {"9": "Rain"}, False)
