"""Which topics mean something, and what they mean. Pure.

Those with a key in them, and with a form (`.../subscribe/json/<readkey>`), are from the time before MQTT devices; they
live on in much firmware.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from headwater.dialects.thingspeak.field_names import is_own_name, is_topic_level
from headwater.dialects.thingspeak.forms import Form

_FORMS = {"json": Form.JSON, "xml": Form.XML, "csv": Form.CSV}
_KEY = re.compile(r"[0-9A-Z]{16}", re.ASCII)
"""A level that has this shape is a key, and so no wildcard."""


class PublishTopic(NamedTuple):
    channel_id: int
    field: str | None
    """As the topic has it; whether the channel has such a field is another question."""
    key: str | None
    bulk: Form | None = None
    """Of the message, for many entries at once."""


class SubscribeFilter(NamedTuple):
    """What is asked for; the number of a field does not matter here, its subscribers get no other."""

    channel_id: int
    is_field: bool
    ending: str = ""
    """What stands at the end of the topics of its messages: a form, the channel's read key, or both."""
    name: str = ""
    """Of one field, as its owner calls it; empty for fields by number."""

    @property
    def form(self) -> Form:
        """Of entries; the value of a field has none."""
        return _FORMS.get(self.ending.split("/")[1] if self.ending else "", Form.JSON)

    @property
    def key(self) -> str | None:
        """The key in it."""
        last = self.ending.rpartition("/")[2]
        return last if _KEY.fullmatch(last) else None


def parse_publish_topic(topic: str) -> PublishTopic | None:
    """A topic to publish to, such as `channels/7/publish`, or None when it is none."""
    bulk: Form | None = None
    match topic.split("/"):
        case ["channels", channel_id, "bulk_update", ("json" | "csv") as form, *keys] if len(keys) <= 1:
            field, key, bulk = None, (keys[0] if keys else None), _FORMS[form]
        case ["channels", channel_id, "publish"]:
            field, key = None, None
        case ["channels", channel_id, "publish", "fields", name]:
            field, key = name, None
        case ["channels", channel_id, "publish", key]:
            field = None
        case ["channels", channel_id, "publish", "fields", name, key]:
            field = name
        case _:
            return None
    if not _is_id(channel_id) or (field is not None and not is_topic_level(field)):
        return None
    return PublishTopic(int(channel_id), field, key, bulk)


def parse_subscribe_filter(topic_filter: str) -> SubscribeFilter | None:
    """A filter that may be subscribed to, or None when it is none."""
    match topic_filter.split("/"):
        case ["channels", channel_id, "subscribe", *rest] if _is_id(channel_id) and channel_id == str(int(channel_id)):
            pass  # other spellings of the number are other topics, which nothing is sent to
        case _:
            return None
    match rest:
        case []:
            return SubscribeFilter(int(channel_id), is_field=False)
        case ["fields", level, *keys] if level == "+" or is_topic_level(level):
            is_field, name = True, level if level != "+" and is_own_name(level) else ""
        case [form, *keys] if form in _FORMS:
            is_field, name = False, ""
        case _:
            return None
    if len(keys) > 1 or not all(map(_KEY.fullmatch, keys)):
        return None
    endings = keys if is_field else [form, *keys]
    return SubscribeFilter(int(channel_id), is_field, "".join(f"/{one}" for one in endings), name)


def field_level(topic_filter: str) -> str | None:
    """What a filter that may be subscribed to says of a field: a number, a name or `+`; None where it asks for
    entries."""
    levels = topic_filter.split("/")
    return levels[4] if len(levels) > 4 and levels[3] == "fields" else None


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
