"""The settings of MQTT, as the limits of the parts of a broker."""

from __future__ import annotations

from headwater.broker.retained import RetainedLimits
from headwater.broker.sessions import SessionsLimits
from headwater.mqtt.limits import ProtocolLimits
from headwater.mqtt.properties import PropertyLimits
from headwater.mqtt.queue_budget import SessionLimits
from headwater.settings import MqttSettings


def protocol_limits(settings: MqttSettings) -> ProtocolLimits:
    return ProtocolLimits(
        max_packet_bytes=settings.max_packet_bytes,
        max_connect_bytes=settings.max_connect_bytes,
        max_subscribe_bytes=settings.max_subscribe_bytes,
        max_control_bytes=settings.max_control_bytes,
        max_topic_bytes=settings.max_topic_bytes,
        max_topic_levels=settings.max_topic_levels,
        max_wildcard_levels=settings.max_wildcard_levels,
        max_client_id_bytes=settings.max_client_id_bytes,
        max_subscribe_filters=settings.max_filters_per_subscribe,
        max_in_flight=settings.max_in_flight,
        receive_maximum=settings.receive_maximum,
        max_unreleased=settings.max_unreleased,
        topic_alias_maximum=settings.topic_alias_maximum,
        max_session_expiry_s=settings.max_session_expiry_s,
        properties=PropertyLimits(settings.max_user_properties, settings.max_user_property_bytes),
    )


def retained_limits(settings: MqttSettings) -> RetainedLimits:
    return RetainedLimits(
        max_messages=settings.max_retained_messages,
        max_messages_per_account=settings.max_retained_messages_per_account,
        max_bytes=settings.max_retained_bytes,
        max_bytes_per_account=settings.max_retained_bytes_per_account,
    )


def sessions_limits(settings: MqttSettings) -> SessionsLimits:
    return SessionsLimits(
        SessionLimits(settings.max_queued_messages, settings.max_queued_bytes),
        max_queued_bytes_total=settings.max_queued_bytes_total,
        max_queued_bytes_per_account=settings.max_queued_bytes_per_account,
        max_subscriptions=settings.max_subscriptions,
        max_sessions_per_account=settings.max_sessions_per_account,
    )
