"""Taking in a bulk update that has been read and may be written, over REST and MQTT alike. Checks no rights."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from headwater.dialects.thingspeak.bulk import BulkMessage, entry_updates
from headwater.dialects.thingspeak.field_names import names_of
from headwater.dialects.thingspeak.parse import WriteLimits
from headwater.errors import BadRequest, Conflict, NotFound
from headwater.model.entry import EntryUpdate
from headwater.registry.entities import Channel
from headwater.services import Services

_TAKEN_IN_AT_ONCE = 200
"""Of a bulk update: they take the event loop some milliseconds."""


class BulkWriting:
    """Writes the entries of bulk updates; they are not told to those who watch the channel."""

    def __init__(self, services: Services, limits: WriteLimits, max_entries: int) -> None:
        self._services = services
        self._limits = limits
        self._max_entries = max_entries

    async def write(self, channel: Channel, message: BulkMessage, now_ns: int, *, waits_for_room: bool = True) -> None:
        """Take in what is new, and return once all is on disk. An entry of a time that the channel has already is
        passed over: who did not get the answer sends everything once more. `waits_for_room`: not for who counts as
        waiting already, and would wait for itself.

        Raises TooLarge, BadRequest, NotFound, TooManyRequests where the channel's limit refuses, and what
        `Entries.write` raises.
        """
        updates = await self._services.query.run(
            lambda: entry_updates(message, now_ns, self._limits, self._max_entries, names_of(channel.settings))
        )
        self._check_times(channel, updates)
        self._admit(channel)
        entries = self._services.entries
        writes = []
        for start in range(0, len(updates), _TAKEN_IN_AT_ONCE):
            if waits_for_room:
                await self._services.ingest.room()
            if self._services.access.channel(channel.id) is None:
                raise NotFound("The channel was deleted meanwhile.")
            portion = updates[start : start + _TAKEN_IN_AT_ONCE]
            writes += [entries.write_dated(channel, update, now_ns, is_told=False) for update in portion]
            await asyncio.sleep(0)  # others come in between
        entries.tell_bulk(channel.id, writes)
        for write in writes:
            with suppress(Conflict):
                await write.wait()

    def _check_times(self, channel: Channel, updates: Sequence[EntryUpdate]) -> None:
        """All or nothing, as far as that can be known beforehand. Raises BadRequest, which names the entry."""
        for number, update in enumerate(updates, 1):
            assert update.created_at_ns is not None
            try:
                self._services.entries.check_time(channel, update.created_at_ns)
            except BadRequest as error:
                raise BadRequest(f"Update {number}: {error}.") from None

    def _admit(self, channel: Channel) -> None:
        """Raises TooManyRequests where the channel's limit refuses."""
        limit = self._services.update_limits.of(channel)
        if limit is not None:
            limit.admit_bulk()
