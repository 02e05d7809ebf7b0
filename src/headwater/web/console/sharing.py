"""Sharing of a channel: private, public, or with accounts of this server by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest
from headwater.registry.entities import Channel
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import sentence_of
from headwater.web.console.public_view import view_of

PRIVATE, PUBLIC, SHARED = "private", "public", "shared"
_BETWEEN_NAMES = re.compile(r"[\s,;]+")


class SharingPages:
    """The page of one channel's sharing, for its owner."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._channels = console.services.channels

    def routes(self) -> list[BaseRoute]:
        path = "/channels/{channel_id:int}/sharing"
        return [self._console.get(path, self.show), self._console.post(path, self.save)]

    async def show(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        names = [account.name for account in self._channels.shared_with(channel)]
        access = PUBLIC if channel.settings.is_public else SHARED if names else PRIVATE
        return self._page(visit, channel, access, names)

    async def save(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        access = visit.form.text("access")
        names = [name for name in _BETWEEN_NAMES.split(visit.form.text("names")) if name]
        try:
            if access not in (PRIVATE, PUBLIC, SHARED):
                raise BadRequest("choose who may read the channel")
            if access == SHARED and not names:
                raise BadRequest("name at least one account, or keep the channel private")
            # What is taken away goes first: no moment may show the channel to more than were asked for.
            await self._channels.share(visit.account.id, channel.id, names if access == SHARED else ())
            settings = replace(channel.settings, is_public=access == PUBLIC)
            if settings != channel.settings:
                await self._channels.update(visit.account.id, channel.id, settings)
        except BadRequest as error:
            return self._page(visit, channel, access, names, sentence_of(str(error)))
        return self._console.redirect(visit, f"/channels/{channel.id}/sharing", _TOLD[access])

    async def _owned(self, visit: Visit) -> Channel:
        return await self._channels.get_owned(visit.account.id, visit.path_id("channel_id"))

    def _page(self, visit: Visit, channel: Channel, access: str, names: Sequence[str], error: str = "") -> Response:
        return self._console.render(
            visit,
            "channel_sharing.html",
            status=400 if error else 200,
            channel=channel,
            tab="sharing",
            access=access,
            names=names,
            errors={"names": error} if error else {},
            share_url=f"{self._console.addresses(visit.request).base_url}/channels/{channel.id}",
            **view_of(self._console.services, channel),
        )


_TOLD = {
    PRIVATE: "The channel is private: reading it needs one of its keys.",
    PUBLIC: "The channel is public: anybody may read it.",
    SHARED: "The channel is shared with the people you named.",
}
