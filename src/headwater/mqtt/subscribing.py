"""Which topic filters are refused, and what SUBACK says about it (5.0 sections 3.8 and 3.9). Knows no rights: those
are for whoever makes the subscription."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from headwater.mqtt.errors import MalformedPacket
from headwater.mqtt.limits import ProtocolLimits
from headwater.mqtt.packets import ProtocolLevel
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.topics import check_filter_form, judge_topic_filter


class NotGranted(NamedTuple):
    """A subscription that was not made. MQTT 5 clients read the reason, so it holds nothing that a client has sent and
    tells nobody whether another's things exist; empty where the client need not know."""

    reason: str
    reason_code: ReasonCode = ReasonCode.NOT_AUTHORIZED


def judge_filter(topic_filter: str, level: int, limits: ProtocolLimits) -> NotGranted | None:
    """Why nobody may subscribe with this filter, or None. Raises MqttProtocolError for one that spoils the packet:
    before MQTT 5, every malformed one."""
    check_filter_form(topic_filter)
    if len(topic_filter.encode()) > limits.max_topic_bytes:
        reason = f"a topic filter is longer than {limits.max_topic_bytes} bytes"
        return NotGranted(reason, ReasonCode.TOPIC_FILTER_INVALID)
    problem = judge_topic_filter(topic_filter, max_levels=limits.max_topic_levels)
    if problem is not None:
        if level != ProtocolLevel.V5:
            raise MalformedPacket(problem)
        return NotGranted(problem, ReasonCode.TOPIC_FILTER_INVALID)
    if topic_filter.count("+") > limits.max_wildcard_levels:
        reason = f"a topic filter has more than {limits.max_wildcard_levels} levels of '+': use '#' or several filters"
        return NotGranted(reason, ReasonCode.QUOTA_EXCEEDED)
    return None


def too_many_filters(limits: ProtocolLimits) -> NotGranted:
    """Why those were not looked at that are beyond the limit of one packet."""
    reason = f"a SUBSCRIBE has more than {limits.max_subscribe_filters} topic filters: send the rest in another one"
    return NotGranted(reason, ReasonCode.QUOTA_EXCEEDED)


def first_reason(answers: Iterable[NotGranted | None]) -> str:
    """What SUBACK says in words: why the first filter was refused of those that were."""
    return next((answer.reason for answer in answers if answer is not None), "")
