"""Topic names and topic filters: what is well formed, and what matches what. Pure functions on text."""

from __future__ import annotations

import re

from headwater.mqtt.errors import MalformedPacket

# U+0000 must not occur [MQTT-1.5.3-2]. The other control characters and the non-characters may be refused; they are,
# in every string of the protocol: no honest client sends them, and they spoil logs and pages.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
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


def check_topic_filter(topic_filter: str, *, max_levels: int) -> None:
    """A filter to subscribe with (3.1.1 section 4.7). Raises MalformedPacket."""
    if not topic_filter:
        raise MalformedPacket("a topic filter is empty")
    _check_levels(topic_filter, max_levels)
    *above, last = topic_filter.split("/")
    if any("#" in level for level in above) or ("#" in last and last != "#"):
        raise MalformedPacket("'#' must be the whole last level of a topic filter")  # [MQTT-4.7.1-2]
    if any("+" in level and level != "+" for level in (*above, last)):
        raise MalformedPacket("'+' must be a whole level of a topic filter")  # [MQTT-4.7.1-3]


def _check_levels(topic: str, max_levels: int) -> None:
    if topic.count("/") >= max_levels:
        raise MalformedPacket(f"a topic has more than {max_levels} levels")
