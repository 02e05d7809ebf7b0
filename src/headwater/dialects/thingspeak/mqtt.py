"""ThingSpeak's topics: who may publish and subscribe where, and what subscribers get. Knows no connection.

Publish: `channels/<id>/publish` and `.../publish/fields/field<N>`, by the rights of the principal, or with the
channel's write key as a last level; what `.../bulk_update/json` and `/csv` take is in `mqtt_bulk`. Subscribe:
`channels/<id>/subscribe`, also with `/json`, `/xml` or `/csv`, `.../subscribe/fields/field<N>` and
`.../subscribe/fields/+`, by rights, of a public channel, or with one of the channel's keys as a last level. In place of
`field<N>` there may be a field's own name. MQTT 3.1.1 has no way to refuse a publish, so refusals are kept for the
owner.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from headwater.dialects.thingspeak.bulk_writing import BulkWriting
from headwater.dialects.thingspeak.field_names import find_field, is_own_name, is_usual_spelling, names_of
from headwater.dialects.thingspeak.mqtt_bulk import BulkTopics
from headwater.dialects.thingspeak.pages import render_update_as
from headwater.dialects.thingspeak.parse import WriteLimits, parse_field_publish, parse_publish, write_limits
from headwater.dialects.thingspeak.topics import (
    SubscribeFilter,
    field_level,
    parse_publish_topic,
    parse_subscribe_filter,
)
from headwater.errors import RequestError
from headwater.model.entry import Entry, EntryUpdate
from headwater.model.principal import Principal, PrincipalKind
from headwater.model.update_policy import TooFast
from headwater.mqtt.publish_properties import PublishProperties
from headwater.mqtt.publishing import OutOfTurn, Pending, PublishTarget, Refused
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.subscribing import NotGranted
from headwater.registry.entities import Channel
from headwater.services import Services
from headwater.services.dialect import Deliver, FirstMessages, TopicSpace
from headwater.services.update_limits import ChannelLimit, UpdateTooFast
from headwater.settings import Settings


class ThingSpeakTopics(TopicSpace):
    """The tree below `channels`, shared by all accounts."""

    root = "channels"

    def __init__(self, services: Services, limits: WriteLimits, max_bulk_entries: int) -> None:
        self._services = services
        self._limits = limits
        self._bulk = BulkTopics(services, BulkWriting(services, limits, max_bulk_entries), self._refuse)
        self._deliver: Deliver = _deliver_nowhere
        self._filters: dict[int, dict[SubscribeFilter, int]] = {}
        self._unwatch: dict[int, Callable[[], None]] = {}

    def connect(self, deliver: Deliver) -> None:
        self._deliver = deliver

    # -- publish --------------------------------------------------------------------------------------------

    def resolve_publish(self, principal: Principal, topic: str) -> PublishTarget:
        parsed = parse_publish_topic(topic)
        if parsed is None:
            return self._refusing(principal, None, _NO_PUBLISH_TOPIC)
        if parsed.bulk is not None:
            return self._bulk.target(principal, parsed)
        channel = self._services.access.channel(parsed.channel_id)
        if channel is None:
            return self._refusing(principal, None, f"there is no channel {parsed.channel_id}")
        if parsed.key is None:
            if not principal.may_publish(channel.id, channel.account_id):
                return self._refusing(principal, channel, _why_not(principal, channel))
        elif not hmac.compare_digest(parsed.key.strip().encode(), channel.write_key.encode()):
            return self._refusing(principal, channel, "the key in the topic is not the channel's write key")
        if parsed.field is None:
            return self._taking(principal, channel, None)
        field = find_field(channel.settings, parsed.field)
        if field is None:
            return self._refusing(principal, channel, _NO_PUBLISH_TOPIC)
        return self._taking(principal, channel, field)

    def _taking(self, principal: Principal, channel: Channel, field: int | None) -> PublishTarget:
        limit = self._services.update_limits.of(channel)  # asked once: whoever changes it has targets resolved anew
        if limit is not None:
            return self._taking_limited(principal, channel, field, limit)
        limits, entries, names = self._limits, self._services.entries, names_of(channel.settings)

        def take(
            payload: bytes, _flags: int, now_ns: int, _properties: PublishProperties | None
        ) -> Pending | Refused | None:
            try:
                if field is None:
                    update = parse_publish(payload, limits, names)
                else:
                    update = parse_field_publish(field, payload, limits)
                created_at_ns = update.created_at_ns
                if created_at_ns is None or entries.is_newest(channel, created_at_ns):
                    return entries.append(channel, update, now_ns)
            except RequestError as error:
                self._refuse(principal, channel, str(error))
                return Refused(str(error), ReasonCode.PAYLOAD_FORMAT_INVALID)
            return self._take_dated(principal, channel, update, now_ns)

        return take

    def _taking_limited(
        self, principal: Principal, channel: Channel, field: int | None, limit: ChannelLimit
    ) -> PublishTarget:
        names = names_of(channel.settings)
        parse = partial(parse_publish, names=names) if field is None else partial(parse_field_publish, field)
        waits = limit.policy.action is TooFast.QUEUE

        def take(
            payload: bytes, _flags: int, now_ns: int, _properties: PublishProperties | None
        ) -> Pending | Refused | None:
            try:
                write = limit.write(parse(payload, limits=self._limits), now_ns)
            except RequestError as error:
                is_too_fast = isinstance(error, UpdateTooFast)
                self._refuse(principal, channel, str(error))
                return Refused(
                    str(error), ReasonCode.QUOTA_EXCEEDED if is_too_fast else ReasonCode.PAYLOAD_FORMAT_INVALID
                )
            write.add_callback(self._noting(principal, channel))
            return OutOfTurn(write) if waits else write

        return take

    def _noting(self, principal: Principal, channel: Channel) -> Callable[[Exception | None], None]:
        """What keeps the reason of a promise that broke for something the sender did."""

        def settle(error: Exception | None) -> None:
            if isinstance(error, RequestError):
                self._refuse(principal, channel, str(error))

        return settle

    def _take_dated(self, principal: Principal, channel: Channel, update: EntryUpdate, now_ns: int) -> Pending:
        """An entry with a time that exists already, perhaps; then the promise breaks with a RequestError."""
        write = self._services.entries.write_dated(channel, update, now_ns)
        write.add_callback(self._noting(principal, channel))
        return write

    def _refusing(self, principal: Principal, channel: Channel | None, reason: str) -> PublishTarget:
        channel_id = None if channel is None else channel.id
        return self._services.refusals.refusing(principal, reason, channel_id)

    def _refuse(self, principal: Principal, channel: Channel | None, reason: str) -> None:
        channel_id = None if channel is None else channel.id
        self._services.refusals.note(
            reason,
            device_id=principal.device_id,
            account_device_id=principal.account_device_id,
            channel_id=channel_id,
        )

    # -- subscribe ------------------------------------------------------------------------------------------

    def judge_subscription(self, principal: Principal, topic_filter: str) -> NotGranted | None:
        parsed = parse_subscribe_filter(topic_filter)
        if parsed is None:
            return _NO_SUBSCRIBE_FILTER
        channel = self._services.access.channel(parsed.channel_id)
        if channel is not None:
            if parsed.key is not None:
                if not self._services.access.opens(channel, parsed.key):
                    return NotGranted(f"the key in the topic is none of channel {parsed.channel_id}'s")
                return _judge_field(channel, topic_filter)
            may_view = principal.kind is not PrincipalKind.DEVICE and self._may_view(channel, principal)
            if may_view or principal.may_subscribe(channel.id, channel.account_id):  # devices: one by one
                return _judge_field(channel, topic_filter)
        return NotGranted(f"no right to subscribe to channel {parsed.channel_id}: {_WHY_NO_MESSAGES[principal.kind]}")

    def _may_view(self, channel: Channel, principal: Principal) -> bool:
        """Whether a channel is public, or shared with the account that acts in person."""
        access, account_id = self._services.access, principal.account_id
        account = None
        if principal.kind is PrincipalKind.ACCOUNT and account_id is not None:
            account = access.account(account_id)
        return access.may_view(channel, account)

    def subscribed(self, topic_filter: str) -> None:
        parsed = parse_subscribe_filter(topic_filter)
        if parsed is None:
            return
        filters = self._filters.setdefault(parsed.channel_id, {})
        filters[parsed] = filters.get(parsed, 0) + 1
        if parsed.channel_id not in self._unwatch:
            channel_id = parsed.channel_id
            self._unwatch[channel_id] = self._services.entries.watch(
                channel_id, lambda entry: self._publish_entry(channel_id, entry)
            )

    def unsubscribed(self, topic_filter: str) -> None:
        parsed = parse_subscribe_filter(topic_filter)
        filters = None if parsed is None else self._filters.get(parsed.channel_id)
        if parsed is None or filters is None or parsed not in filters:
            return
        filters[parsed] -= 1
        if not filters[parsed]:
            del filters[parsed]
        if not filters:
            del self._filters[parsed.channel_id]
            self._unwatch.pop(parsed.channel_id)()

    def first_messages(self, topic_filter: str) -> FirstMessages | None:
        """The last entry, where a form or a key in the topic says that the client is from the time when it came."""
        parsed = parse_subscribe_filter(topic_filter)
        channel = None if parsed is None or not parsed.ending else self._services.access.channel(parsed.channel_id)
        if parsed is None or channel is None:
            return None
        return partial(
            self._last_entry, channel, parsed, topic_filter, self._services.entries.last_entry_id(channel.id)
        )

    async def _last_entry(
        self, channel: Channel, wanted: SubscribeFilter, topic_filter: str, last_id: int
    ) -> Sequence[tuple[str, bytes]]:
        entries = self._services.entries
        last = await entries.newest(channel, 1)
        if not last or entries.last_entry_id(channel.id) != last_id:
            return []  # one that came meanwhile is sent like any other
        return [
            (topic, payload)
            for topic, payload in _messages_of(channel, last[0], wanted)
            if not wanted.is_field or topic == topic_filter or f"/fields/+{wanted.ending}" in topic_filter
        ]

    def _publish_entry(self, channel_id: int, entry: Entry) -> None:
        channel = self._services.access.channel(channel_id)
        if channel is None:
            return
        for wanted in self._filters[channel_id]:
            for topic, payload in _messages_of(channel, entry, wanted):
                # Only to those who ask by name: a + gets it by its number.
                self._deliver(topic, payload, is_exact=wanted.name != "")


def _messages_of(channel: Channel, entry: Entry, wanted: SubscribeFilter) -> Iterator[tuple[str, bytes]]:
    """What subscribers get: the whole entry in their form, and each field that was sent, as text. The topic is what
    they subscribed to, with a key in it too: their libraries look for the very text."""
    base = f"channels/{channel.id}/subscribe"
    if wanted.name:
        text = entry.fields.get(find_field(channel.settings, wanted.name) or 0)
        if text is not None:
            yield f"{base}/fields/{wanted.name}{wanted.ending}", text.encode()
    elif wanted.is_field:
        for number, text in entry.fields.items():
            yield f"{base}/fields/field{number}{wanted.ending}", text.encode()
    else:
        shown = channel.settings.numbers
        yield f"{base}{wanted.ending}", render_update_as(channel.id, entry, wanted.form, shown)


_WHY_NOT = {
    PrincipalKind.DEVICE: '"Allow Publish" is not set for this device',
    PrincipalKind.ACCOUNT_DEVICE: "account devices cannot use channels: add an MQTT device, or use an account token",
    PrincipalKind.ACCOUNT: "the channel belongs to another account",
    PrincipalKind.KEY_ONLY: "you are not signed in: do so, or put the channel's write key at the end of the topic",
    PrincipalKind.ANONYMOUS: "you are not signed in: do so, or put the channel's write key at the end of the topic",
}
"""Why somebody may not publish to a channel that exists."""


_WHY_NO_MESSAGES = {
    PrincipalKind.DEVICE: '"Allow Subscribe" is not set for this device',
    PrincipalKind.ACCOUNT_DEVICE: _WHY_NOT[PrincipalKind.ACCOUNT_DEVICE],
    PrincipalKind.ACCOUNT: "it is no channel of this account",
    PrincipalKind.KEY_ONLY: "sign in as an MQTT device or with an account token",
    PrincipalKind.ANONYMOUS: "sign in as an MQTT device or with an account token",
}
"""Why somebody may not subscribe to a channel, whether it exists or not."""
_NO_PUBLISH_TOPIC = (
    "the topic is none of channels/<id>/publish[/fields/field<N>] and channels/<id>/bulk_update/json or /csv"
)
_NO_SUBSCRIBE_FILTER = NotGranted(
    "no right to subscribe to this topic: below channels/ there is only "
    "channels/<id>/subscribe[/json|/xml|/csv|/fields/field<N>][/<read key>]"
)


def _judge_field(channel: Channel, topic_filter: str) -> NotGranted | None:
    """Whether a channel that somebody may subscribe to has the field that the filter names."""
    level = field_level(topic_filter)
    if level is None or level == "+":
        return None
    number = find_field(channel.settings, level)
    if number is None or (is_own_name(level) and not is_usual_spelling(level, channel.settings.fields[number])):
        return _NO_SUBSCRIBE_FILTER
    return None


def _why_not(principal: Principal, channel: Channel) -> str:
    return f"no right to publish to channel {channel.id}: {_WHY_NOT[principal.kind]}"


def _deliver_nowhere(topic: str, payload: bytes, *, is_exact: bool = False) -> None:
    """Before the broker is there, nobody can have subscribed."""


def topics(services: Services, settings: Settings) -> Sequence[TopicSpace]:
    """The one tree of this dialect."""
    return [ThingSpeakTopics(services, write_limits(settings), settings.thingspeak.max_bulk_entries)]
