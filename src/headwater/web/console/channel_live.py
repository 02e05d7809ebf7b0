"""What the charts of a channel page fetch: the newest entries as columns, and each new one as it is stored.

A page opens the stream first and asks for the columns once it is open: so nothing falls between the two, and what comes
twice it knows by id and time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest
from headwater.model.entry import Entry
from headwater.registry.entities import Channel
from headwater.services.networks import network_of
from headwater.web.console.chart_data import columns_of, seconds_of
from headwater.web.console.chart_form import DATA_OPTIONS
from headwater.web.console.chart_panels import options_of
from headwater.web.console.console import Console, Visitor, json_response
from headwater.web.console.live import EntryFeed, LiveResponse
from headwater.web.console.public_view import viewable

DEFAULT_RESULTS, MAX_RESULTS = 100, 8000
MAX_MISSED = 1000
"""A page that missed more loads its data again."""


class ChannelLive:
    """`/channels/<id>/data` and `/channels/<id>/live`, for whoever may see the channel."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._services = console.services

    def routes(self) -> list[BaseRoute]:
        return [
            self._console.open_data("/channels/{channel_id:int}/data", self.data),
            self._console.open_data("/channels/{channel_id:int}/live", self.live),
        ]

    async def data(self, visit: Visitor) -> Response:
        count = parse_count("results", visit.request.query_params.get("results", str(DEFAULT_RESULTS)))
        if not 1 <= count <= MAX_RESULTS:
            raise BadRequest(f"results must be between 1 and {MAX_RESULTS}")
        channel = viewable(self._services, visit)
        last_entry_id = self._services.entries.last_entry_id(channel.id)
        entries = await self._services.entries.newest(channel, count)
        own = await self._own_columns(channel)

        def render() -> Response:
            fields = columns_of(entries, sorted(channel.settings.fields))
            for number, columns in own.items():
                fields[str(number)] |= columns
            return json_response(
                {
                    "channel_id": channel.id,
                    "last_entry_id": last_entry_id,
                    "entry_ids": [entry.entry_id for entry in entries],
                    "at_s": [seconds_of(entry.at_ns) for entry in entries],
                    "fields": fields,
                }
            )

        # 8,000 entries of 8 fields take tens of milliseconds, too long for the loop that serves everybody
        return await asyncio.to_thread(render)

    async def _own_columns(self, channel: Channel) -> dict[int, dict[str, Any]]:
        """The columns of the charts that show other data than those beside them, by their options."""
        points_of = self._console.options.chart_points
        if points_of is None:
            return {}
        found: dict[int, dict[str, Any]] = {}
        for number, options in (await options_of(self._services, channel)).items():
            if number in channel.settings.fields and options.keys() & DATA_OPTIONS:
                points = await points_of(channel, number, options)
                found[number] = {
                    "at_s": [seconds_of(at_ns) for at_ns, _ in points],
                    "numbers": [value for _, value in points],
                    "is_own": True,
                }
        return found

    async def live(self, visit: Visitor) -> Response:
        channel = viewable(self._services, visit)
        text = visit.request.headers.get("last-event-id", "")
        after = parse_count("Last-Event-ID", text) if text else None
        options = self._console.options
        holder = visit.account.id if visit.account is not None else network_of(visit.address)
        self._console.live.check_room(holder)
        session_id = visit.session.id if visit.session is not None else ""
        feed = EntryFeed(session_id, holder, channel.id, options.live_queue_entries)

        async def missed() -> tuple[list[Entry], bool]:
            entries, may_go_on = await self._missed(channel, after)
            return [self._shown(channel.id, entry) for entry in entries], may_go_on

        def watch(callback: Callable[[Entry], None]) -> Callable[[], None]:
            return self._services.entries.watch(channel.id, lambda entry: callback(self._shown(channel.id, entry)))

        return LiveResponse(
            feed,
            self._console.live,
            watch=watch,
            first_id=self._services.entries.last_entry_id(channel.id) if after is None else None,
            missed=missed,
            remaining_s=lambda: self._remaining_s(visit, channel.id),
            heartbeat_s=options.heartbeat_s,
        )

    def _shown(self, channel_id: int, entry: Entry) -> Entry:
        """An entry with the fields that have a chart: no page shows those without a name."""
        channel = self._services.access.channel(channel_id)
        named = channel.settings.fields if channel is not None else ()
        return entry._replace(fields={number: text for number, text in entry.fields.items() if number in named})

    async def _missed(self, channel: Channel, after: int | None) -> tuple[list[Entry], bool]:
        """The entries after one id, by id, and whether the page can go on from there.

        The store is asked for the newest by time. An entry that was missed but has an older time of its own
        (`created_at`) is not among them; then too few are found, and the page must load again.
        """
        if after is None:
            return [], True
        gap = self._services.entries.last_entry_id(channel.id) - after
        if not 0 <= gap <= MAX_MISSED:  # below 0: the channel was cleared and counts from 1 again
            return [], False
        newest = await self._services.entries.newest(channel, gap) if gap else []
        missed = sorted(entry for entry in newest if entry.entry_id > after)
        return (missed, True) if len(missed) >= gap else ([], False)

    def _remaining_s(self, visit: Visitor, channel_id: int) -> float:
        """How long this visitor may go on watching; 0 once the session, the channel or the right to see it is gone."""
        sessions = self._console.sessions
        account = sessions.account_of(visit.session)
        if visit.session is not None and account is None:
            return 0
        channel = self._services.access.channel(channel_id)
        if channel is None or not self._services.access.may_view(channel, account):
            return 0
        return math.inf if visit.session is None else sessions.remaining_s(visit.session)


def parse_count(name: str, text: str) -> int:
    """A whole number from 0 up; BadRequest names the parameter."""
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise BadRequest(f"{name} must be a whole number")
    return int(text)
