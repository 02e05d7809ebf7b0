"""What a dialect sends to a new subscription at once: looked up beside everything else, and sent to that client alone,
after its SUBACK."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headwater.errors import HeadwaterError, RequestError
from headwater.logs import Log
from headwater.mqtt.message import message_of
from headwater.mqtt.packets import Subscription
from headwater.mqtt.topic_tree import Grant
from headwater.mqtt.topics import SHARE_PREFIX
from headwater.services import dialect

if TYPE_CHECKING:
    from headwater.broker.broker import Broker
    from headwater.broker.requests import Requests

log = Log(__name__)

MAX_LOOK_UPS = 10_000
"""At the same time, of all clients. Whoever subscribes beyond gets no first messages, and all that follow."""


class FirstMessages:
    """The look-ups under way."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, client: Requests, subscription: Subscription, subscription_id: int) -> None:
        """A subscription was granted. A shared one gets none, as of retained messages."""
        topic_filter = subscription.topic_filter
        if topic_filter.startswith(SHARE_PREFIX) or len(self._tasks) >= MAX_LOOK_UPS:
            return
        messages = self._broker.router.first_messages(topic_filter)
        if messages is not None:
            grant = Grant(subscription.qos, subscription_ids=(subscription_id,) if subscription_id else ())
            task = self._broker.loop.create_task(self._send(client, topic_filter, messages, grant))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _send(self, client: Requests, topic_filter: str, look_up: dialect.FirstMessages, grant: Grant) -> None:
        session = client.protocol.session
        assert session is not None
        try:
            messages = await look_up()
        except HeadwaterError as error:
            # Clients can bring about that too many ask at once: no reason to fill the log.
            tell = log.debug if isinstance(error, RequestError) else log.warning
            topic = self._broker.router.logged(topic_filter)
            tell("the first messages of a subscription could not be read", topic=topic, reason=str(error))
            return
        if session.record is not None:
            await self._broker.journal.drain()  # its SUBACK waits for that
        if session.link is not client.protocol or topic_filter not in (session.subscriptions or ()):
            return  # the client has gone, or the subscription, or the right to it
        for topic, payload in messages:
            message = message_of(
                topic,
                topic.encode(),
                payload,
                1 << 1,  # QoS 1, or less if the subscription has less
                None,
                self._broker.loop.time(),
                self._broker.settings.max_message_expiry_s,
            )
            session.deliver(message, grant)
