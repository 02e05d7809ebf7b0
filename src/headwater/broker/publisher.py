"""Messages that the server publishes in an account's name, as a client of that account would. Knows no connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from headwater.broker.broker import Broker
from headwater.errors import ProtocolError, RequestError, StorageError
from headwater.model.principal import Principal, PrincipalKind
from headwater.mqtt.publishing import Pending, Refused
from headwater.mqtt.topics import check_topic_name, parse_text
from headwater.services.access import Access
from headwater.services.outbound import OutboundFailed
from headwater.services.promise import Promise

MAX_WAITING = 1_000
"""Messages that may wait for room or for the disk; more fail."""
TIMEOUT_S = 10.0


class BrokerPublisher:
    """A `services.outbound.Publisher`; call it from the event loop's thread.

    Args: `timeout_s` is how long one message may wait for room and for the disk.
    """

    def __init__(
        self,
        broker: Broker,
        access: Access,
        *,
        timeout_s: float = TIMEOUT_S,
        max_waiting: int = MAX_WAITING,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._broker = broker
        self._access = access
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._clock_ns = clock_ns
        self._waiting = 0

    async def publish(self, account_id: int, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """As `Publisher.publish` says."""
        self._check(topic, payload, qos)
        if self._waiting >= self._max_waiting:
            raise OutboundFailed("too many messages are waiting to be stored: try again later")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._room()
                pending = self._hand_on(account_id, topic, payload, qos << 1 | retain)
                if pending is not None and qos:
                    stored = Promise()
                    pending.add_callback(stored.resolve)
                    await stored.wait()
        except TimeoutError:
            raise OutboundFailed(f"the message was not stored within {self._timeout_s:g} s; it may be later") from None
        except (RequestError, StorageError) as error:
            raise OutboundFailed(str(error)) from error
        finally:
            self._waiting -= 1

    def _check(self, topic: str, payload: bytes, qos: int) -> None:
        """Raises OutboundFailed for what no client could send."""
        try:
            raw_topic = topic.encode()
            parse_text(raw_topic)
            check_topic_name(topic, max_levels=self._broker.settings.max_topic_levels)
        except (ProtocolError, UnicodeEncodeError) as error:
            reason = error if isinstance(error, ProtocolError) else "a topic is not Unicode text"
            raise OutboundFailed(f"this cannot be published: {reason}") from None
        if len(raw_topic) + len(payload) > self._broker.settings.max_packet_bytes or len(raw_topic) > 65_535:
            raise OutboundFailed("this cannot be published: it is larger than mqtt.max_packet_bytes")
        if qos not in (0, 1, 2):
            raise OutboundFailed("this cannot be published: QoS is 0, 1 or 2")

    async def _room(self) -> None:
        """Returns once the server takes messages in, as connections are read again then."""
        broker, loop = self._broker, asyncio.get_running_loop()
        while broker.ingest.is_full or broker.journal.is_full:
            room: asyncio.Future[None] = loop.create_future()
            broker.when_room(partial(_wake, room))
            await room

    def _hand_on(self, account_id: int, topic: str, payload: bytes, flags: int) -> Pending | None:
        """With the rights of now. Raises OutboundFailed and StorageError."""
        principal = self._access.renewed(Principal(PrincipalKind.ACCOUNT, account_id))
        if principal is None:
            raise OutboundFailed("the account is gone")
        taken = self._broker.router.resolve_publish(principal, topic, None)(payload, flags, self._clock_ns(), None)
        if isinstance(taken, Refused):
            raise OutboundFailed(taken.reason)
        return taken


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():  # somebody may wait no more
        waiter.set_result(None)
