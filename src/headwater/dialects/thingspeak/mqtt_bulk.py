"""Bulk updates over MQTT, beyond upstream: `channels/<id>/bulk_update/json` and `/csv`, by the rights of the principal,
with the channel's write key as a last level, or with `write_api_key` in the message. Knows no connection.

A message is what the path of the same name takes as a body. It is acknowledged once all of it is on disk. One message
is worked on at a time, since one may take a hundred times its size of memory; those that wait count as entries that
wait for the disk, so that reading from sockets pauses.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable

from headwater.dialects.thingspeak.bulk import parse_bulk_csv, parse_bulk_json
from headwater.dialects.thingspeak.bulk_writing import BulkWriting
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.topics import PublishTopic
from headwater.errors import HeadwaterError, NotAuthorized, RequestError, StorageError
from headwater.logs import Log
from headwater.model.principal import Principal
from headwater.mqtt.publish_properties import PublishProperties
from headwater.mqtt.publishing import Pending, PublishTarget, Refused
from headwater.registry.entities import Channel
from headwater.services import Services
from headwater.services.promise import Promise

log = Log(__name__)

_ENTRY_BYTES = 50
"""About what an entry takes in a message."""

Refuse = Callable[[Principal, Channel | None, str], None]
"""Notes for the owner why something was refused."""


class BulkTopics:
    """Who takes bulk updates. `refuse` is called for each that is not taken."""

    def __init__(self, services: Services, writing: BulkWriting, refuse: Refuse) -> None:
        self._services = services
        self._writing = writing
        self._refuse = refuse
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def target(self, principal: Principal, topic: PublishTopic) -> PublishTarget:
        """Who takes messages for a topic. Whether there is such a channel is not told to those who may not write."""

        def take(
            payload: bytes, _flags: int, now_ns: int, _properties: PublishProperties | None
        ) -> Pending | Refused | None:
            promise = Promise()
            work = self._carry_out(promise, principal, topic, payload, now_ns)
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return promise

        return take

    async def _carry_out(
        self, promise: Promise, principal: Principal, topic: PublishTopic, payload: bytes, now_ns: int
    ) -> None:
        error: HeadwaterError | None = None
        ingest, held = self._services.ingest, len(payload) // _ENTRY_BYTES + 1
        ingest.hold_room(held)
        try:
            async with self._turn:
                await self._write(principal, topic, payload, now_ns)
        except RequestError as refusal:
            error = refusal
            self._refuse(principal, self._services.access.channel(topic.channel_id), str(refusal))
        except HeadwaterError as failure:
            error = failure
        except Exception:
            log.exception("a bulk update failed unexpectedly")
            error = StorageError("the bulk update failed unexpectedly; the log says more")
        finally:
            ingest.free_room(held)
        promise.resolve(error)

    async def _write(self, principal: Principal, topic: PublishTopic, payload: bytes, now_ns: int) -> None:
        refusal = NotAuthorized(
            f"no right to write to channel {topic.channel_id}: send as a device that may publish to it, with its write "
            "key at the end of the topic, or with write_api_key in the message"
        )
        channel = self._services.access.channel(topic.channel_id)
        if topic.key is not None and not _is_write_key(topic.key, channel):
            raise refusal
        if topic.bulk is Form.JSON:
            message = await self._services.query.run(lambda: parse_bulk_json(payload))
        else:
            message = parse_bulk_csv({}, payload)
        may_write = channel is not None and (
            topic.key is not None
            or principal.may_publish(channel.id, channel.account_id)
            or _is_write_key(message.write_api_key, channel)
        )
        if channel is None or not may_write:
            raise refusal
        await self._writing.write(channel, message, now_ns, waits_for_room=False)


def _is_write_key(text: str, channel: Channel | None) -> bool:
    return channel is not None and hmac.compare_digest(text.strip().encode(), channel.write_key.encode())
