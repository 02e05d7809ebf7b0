"""Topic names and topic filters: what is well formed, and what matches what. Pure functions on text."""

from __future__ import annotations

import re

from headwater.mqtt.errors import MalformedPacket, MqttProtocolError

# U+0000 must not occur [MQTT-1.5.3-2]. The other control characters and the non-characters may be refused; they are,
# in every string of the protocol: no honest client sends them, and they spoil logs and pages.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
SHARE_PREFIX = "$share/"
_PLANE_ENDS = re.compile("[" + "".join(chr(p << 16 | e) for p in range(1, 17) for e in (0xFFFE, 0xFFFF)) + "]")


def parse_text(raw: bytes) -> str:
    """A UTF-8 encoded string of the protocol (3.1.1 section 1.5.3). Raises MalformedPacket."""
    try:
        text = raw.decode("utf-8")  # strict: refuses surrogates and overlong forms [MQTT-1.5.3-1]
    except UnicodeDecodeError:
        raise MalformedPacket("a string is not well-formed UTF-8") from None
    if not text.isascii() and _PLANE_ENDS.search(text):
        raise MalformedPacket("a string holds a Unicode non-character")
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise MalformedPacket("a string holds a control character")
    return text


def check_topic_name(topic: str, *, max_levels: int) -> None:
    """A name to publish to: not empty [MQTT-4.7.3-1], no wildcards [MQTT-3.3.2-2]. Raises MalformedPacket."""
    if not topic:
        raise MalformedPacket("a topic name is empty")
    if "+" in topic or "#" in topic:
        raise MalformedPacket("a topic name holds a wildcard")
    _check_levels(topic, max_levels)


def check_filter_form(topic_filter: str) -> None:
    """What spoils the whole SUBSCRIBE: an empty filter [MQTT-4.7.3-1], and a shared subscription without a name or a
    filter of its own [MQTT-4.8.2-1] [MQTT-4.8.2-2]. Raises MqttProtocolError [MQTT-4.13.1-1]."""
    if not topic_filter:
        raise MalformedPacket("a topic filter is empty")
    group, bare_filter = split_share(topic_filter)
    if group is not None and (not group or "+" in group or "#" in group):
        raise MqttProtocolError("a shared subscription needs a name without '+' and '#'")
    if not bare_filter:
        raise MqttProtocolError("a shared subscription needs a topic filter behind its name")


def judge_topic_filter(topic_filter: str, *, max_levels: int) -> str | None:
    """What is wrong with a filter that passes `check_filter_form` (5.0 section 4.7), or None."""
    _, bare_filter = split_share(topic_filter)
    if bare_filter.count("/") >= max_levels:
        return f"a topic has more than {max_levels} levels"
    *above, last = bare_filter.split("/")
    if any("#" in level for level in above) or ("#" in last and last != "#"):
        return "'#' must be the whole last level of a topic filter"  # [MQTT-4.7.1-1]
    if any("+" in level and level != "+" for level in (*above, last)):
        return "'+' must be a whole level of a topic filter"  # [MQTT-4.7.1-2]
    return None


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter (without `$share/`) matches a topic name (5.0 section 4.7)."""
    filter_levels, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and filter_levels[0] in ("+", "#"):  # [MQTT-4.7.2-1]
        return False
    for depth, wanted in enumerate(filter_levels):
        if wanted == "#":
            return True
        if depth >= len(levels) or wanted not in ("+", levels[depth]):
            return False
    return len(filter_levels) == len(levels)


def split_share(topic_filter: str) -> tuple[str | None, str]:
    """The group and the filter of `$share/GROUP/FILTER`; no group for any other filter. Both may be malformed."""
    if not topic_filter.startswith(SHARE_PREFIX):
        return None, topic_filter
    group, _, rest = topic_filter.removeprefix(SHARE_PREFIX).partition("/")
    return group, rest


def _check_levels(topic: str, max_levels: int) -> None:
    if topic.count("/") >= max_levels:
        raise MalformedPacket(f"a topic has more than {max_levels} levels")
