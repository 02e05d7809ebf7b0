"""paho-mqtt as an `MqttClient`."""

from __future__ import annotations

import os
import queue
import socket
from collections.abc import Iterable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from mqtt_client import TIMEOUT_S, Answer, Connected, MqttClient, Options, Received

_NAMES = {"userProperties": "UserProperty"}
_MACHINERY = {"packetType", "types", "names", "properties"}
"""Attributes of `Properties` that are no properties."""


class PahoClient(MqttClient):
    """With its network thread."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._connacks: queue.Queue[Connected] = queue.Queue()
        self._acknowledged: queue.Queue[tuple[int, list[int], str]] = queue.Queue()
        self.library = paho.Client(CallbackAPIVersion.VERSION2)

    def _build(self) -> paho.Client:
        """Anew for each connection: started twice, the network thread leaves sockets of the first time open."""
        options = self.options
        route, is_v5 = options.route, options.route.level == 5
        made = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.who.client_id,
            clean_session=None if is_v5 else options.clean,
            protocol=MQTTProtocolVersion(route.level),
            transport="websockets" if route.transport in ("ws", "wss") else "tcp",
            reconnect_on_failure=False,
            manual_ack=options.manual_ack,
        )
        if options.who.username:
            made.username_pw_set(options.who.username, options.who.password)
        if route.transport in ("tls", "wss"):
            made.tls_set(ca_certs=str(options.server.ca_path))
        made.max_inflight_messages_set(0)
        if (will := options.will) is not None:
            properties = {"willDelayInterval": will.delay_s} if will.delay_s else {}
            made.will_set(
                will.topic, will.payload, will.qos, will.retain, self._properties(PacketTypes.WILLMESSAGE, properties)
            )
        made.on_connect = self._on_connect
        made.on_disconnect = self._on_disconnect
        made.on_message = self._on_message
        made.on_publish = lambda _c, _d, mid, code, given: self._note(mid, [code], given)
        made.on_subscribe = lambda _c, _d, mid, codes, given: self._note(mid, codes, given)
        made.on_unsubscribe = lambda _c, _d, mid, codes, given: self._note(mid, codes, given)
        return made

    def connect(self) -> Connected:
        options = self.options
        self.library = self._build()
        is_v5 = options.route.level == 5
        self.library.connect(
            "localhost",
            options.route.port(options.server),
            options.keep_alive_s,
            clean_start=options.clean if is_v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=self._properties(PacketTypes.CONNECT, options.properties),
        )
        self.library.loop_start()
        return self._connacks.get(timeout=TIMEOUT_S)

    def subscribe(
        self,
        topic_filter: str,
        qos: int = 0,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        subscription_id: int = 0,
    ) -> int:
        if self.options.route.level != 5:
            _, mid = self.library.subscribe(topic_filter, qos)
        else:
            subscribe_options = SubscribeOptions(qos, no_local, retain_as_published, retain_handling)
            properties = {"subscriptionIdentifier": subscription_id} if subscription_id else {}
            _, mid = self.library.subscribe(
                topic_filter,
                options=subscribe_options,
                properties=self._properties(PacketTypes.SUBSCRIBE, properties),
            )
        return self._wait(mid)[0][0]

    def unsubscribe(self, topic_filter: str) -> int:
        _, mid = self.library.unsubscribe(topic_filter)
        codes = self._wait(mid)[0]
        return codes[0] if codes else 0

    def publish_all(
        self, topic: str, payloads: Iterable[str], qos: int = 0, retain: bool = False, **properties: Any
    ) -> list[Answer]:
        given = self._properties(PacketTypes.PUBLISH, properties)
        infos = [self.library.publish(topic, payload, qos, retain, given) for payload in payloads]
        answers: dict[int, Answer] = {}
        for _ in infos:
            mid, codes, reason = self._acknowledged.get(timeout=TIMEOUT_S)
            answers[mid] = Answer(codes[0], reason)
        return [answers[info.mid] for info in infos]

    def disconnect(self, code: int = 0) -> None:
        if self.options.route.level == 5:
            self.library.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=code))
        else:
            self.library.disconnect()
        self.wait_end()
        self.library.loop_stop()

    def vanish(self) -> None:
        own_socket = self.library.socket()
        assert own_socket is not None
        with socket.socket(fileno=os.dup(own_socket.fileno())) as raw:  # whatever is wrapped around it
            raw.shutdown(socket.SHUT_RDWR)
        self.wait_end()
        self.library.loop_stop()

    def close(self) -> None:
        self.library.disconnect()
        self.library.loop_stop()

    # -- callbacks ------------------------------------------------------------------------------------------------

    def _on_connect(
        self, _client: paho.Client, _data: object, flags: paho.ConnectFlags, code: ReasonCode, given: Properties | None
    ) -> None:
        self._connacks.put(Connected(code.value, flags.session_present, _read(given)))

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        _given: Properties | None,
    ) -> None:
        self.ends.put(code.value if flags.is_disconnect_packet_from_server else 0)

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        given = getattr(message, "properties", None)
        self.messages.put(
            Received(message.topic, bytes(message.payload), message.qos, bool(message.retain), _read(given))
        )

    def _note(self, mid: int, codes: list[ReasonCode], given: Properties | None) -> None:
        self._acknowledged.put((mid, [code.value for code in codes], _read(given).get("reasonString", "")))

    def _wait(self, mid: int | None) -> tuple[list[int], str]:
        answered, codes, reason = self._acknowledged.get(timeout=TIMEOUT_S)
        assert answered == mid
        return codes, reason

    def _properties(self, packet_type: int, values: dict[str, Any]) -> Properties | None:
        if self.options.route.level != 5:
            assert not values
            return None
        made = Properties(packet_type)
        for name, value in values.items():
            for one in value if name == "userProperties" else [value]:
                setattr(made, _NAMES.get(name, name[0].upper() + name[1:]), one)
        return made


def _read(given: Properties | None) -> dict[str, Any]:
    if given is None:
        return {}
    values = {name[0].lower() + name[1:]: value for name, value in vars(given).items() if name not in _MACHINERY}
    if "userProperty" in values:
        values["userProperties"] = values.pop("userProperty")
    return values
