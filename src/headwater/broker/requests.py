"""What a client that has signed in asks of the broker, with the rights of its principal. Knows no socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwater.model.principal import ANONYMOUS, KEY_ONLY, Principal
from headwater.mqtt.packets import Subscription
from headwater.mqtt.protocol import ServerProtocol
from headwater.mqtt.publishing import PublishTarget
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.subscribing import NotGranted
from headwater.mqtt.topic_tree import Grant
from headwater.mqtt.topics import SHARE_PREFIX

if TYPE_CHECKING:
    from headwater.broker.broker import Broker


class Requests:
    """This part of `mqtt.answers.ProtocolHandler`; `connection.Connection` adds the rest."""

    __slots__ = ("_broker", "principal", "protocol")

    protocol: ServerProtocol

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.principal: Principal = KEY_ONLY

    def resolve_publish(self, topic: str) -> PublishTarget:
        return self._broker.router.resolve_publish(self.principal, topic, self.protocol.session)

    def subscribe(self, subscription: Subscription, subscription_id: int) -> NotGranted | None:
        session = self.protocol.session
        assert session is not None
        known = session.subscriptions
        is_new = known is None or subscription.topic_filter not in known
        refused = self._broker.sessions.subscribe(session, self.principal, subscription, subscription_id)
        if refused is None:
            self._send_retained(subscription, subscription_id, is_new=is_new)
            self._broker.first_messages.send(self, subscription, subscription_id)
        elif self.principal == ANONYMOUS and refused.reason_code == ReasonCode.NOT_AUTHORIZED:
            return NotGranted("", ReasonCode.UNSPECIFIED_ERROR)  # whoever does not say who they are need not know why
        return refused

    def subscription_refused(self, topic_filter: str, refused: NotGranted) -> None:
        self._broker.note_refused_subscription(self.principal, topic_filter, refused.reason)

    def _send_retained(self, subscription: Subscription, subscription_id: int, *, is_new: bool) -> None:
        """By the Retain Handling of the subscription [MQTT-3.3.1-9] to [MQTT-3.3.1-11]; a shared one gets none."""
        if subscription.retain_handling == 2 or (subscription.retain_handling == 1 and not is_new):
            return
        if subscription.topic_filter.startswith(SHARE_PREFIX):
            return
        messages = self._broker.router.retained_for(self.principal, subscription.topic_filter)
        if messages is not None:
            ids = (subscription_id,) if subscription_id else ()
            grant = Grant(subscription.qos, subscription_ids=ids)
            self.protocol.send_retained(subscription.topic_filter, messages, grant)

    def unsubscribe(self, topic_filter: str) -> int:
        session = self.protocol.session
        assert session is not None
        if self._broker.sessions.unsubscribe(session, self.principal, topic_filter):
            return ReasonCode.SUCCESS
        return ReasonCode.NO_SUBSCRIPTION_EXISTED

    def apply_rights(self, principal: Principal) -> None:
        """Rights have changed: forget what was resolved with the old ones. Subscriptions are the session's."""
        self.principal = principal
        self.protocol.forget_targets()
