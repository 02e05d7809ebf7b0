"""Data Import / Export of a channel: all its entries as a file, and a CSV file into it."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, NotFound, TooLarge
from headwater.registry.entities import Channel
from headwater.services.dialect import ChannelFiles
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import sentence_of
from headwater.web.console.public_view import view_of
from headwater.web.console.snippets import Snippet

_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json", "xml": "application/xml"}


class DataFilePages:
    """The page of one channel's files, for its owner."""

    def __init__(self, console: Console, files: ChannelFiles) -> None:
        self._console = console
        self._files = files
        self._channels = console.services.channels

    def routes(self) -> list[BaseRoute]:
        one = "/channels/{channel_id:int}"
        return [
            self._console.get(f"{one}/import_export", self.show),
            self._console.get(f"{one}/export", self.export),
            self._console.post_file(f"{one}/import", self.load),
        ]

    async def show(self, visit: Visit) -> Response:
        return await self._page(visit, await self._owned(visit))

    async def export(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        form = visit.request.query_params.get("form", "csv")
        if form not in self._files.forms:
            raise NotFound("there is no such form of a file")
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="channel-{channel.id}.{form}"',
        }
        if visit.request.method == "HEAD":
            return Response(headers=headers, media_type=_TYPES[form])
        return StreamingResponse(self._files.write(channel, form), headers=headers, media_type=_TYPES[form])

    async def load(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        zone = visit.form.text("time_zone")
        try:
            if not visit.file:
                raise BadRequest("choose a CSV file that is not empty")
            if zone not in await self._console.time_zones():
                raise BadRequest("pick a time zone from the list")
            loaded = await self._files.load(channel, visit.file, ZoneInfo(zone))
        except (BadRequest, TooLarge) as error:
            return await self._page(visit, channel, 400, errors={"file": sentence_of(str(error))}, zone=zone)
        return await self._page(visit, channel, loaded=loaded, zone=zone)

    async def _owned(self, visit: Visit) -> Channel:
        return await self._channels.get_owned(visit.account.id, visit.path_id("channel_id"))

    async def _page(self, visit: Visit, channel: Channel, status: int = 200, **values: Any) -> Response:
        shared: dict[str, Any] = {"errors": {}, "loaded": None, "zone": "Etc/UTC"}
        return self._console.render(
            visit,
            "channel_files.html",
            status=status,
            channel=channel,
            tab="files",
            forms=self._files.forms,
            zones=await self._console.time_zones(),
            commands=commands(channel),
            **view_of(self._console.services, channel),
            **shared | values,
        )


def commands(channel: Channel) -> list[Snippet]:
    """What does the same, and more, on the machine of the server."""
    return [
        Snippet("Every measurement, into CSV, Parquet, JSON lines and more", f"headwater export {channel.id} data.csv"),
        Snippet("A file of any size, on where it was interrupted", f"headwater import data.csv {channel.id}"),
    ]
