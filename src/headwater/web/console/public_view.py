"""What of channels is for others than their owner: the public view of one, and the list of all that are public.

Shows no key and no setting. A channel that somebody may not see is as unknown to them as one that never was.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import NotFound
from headwater.registry.entities import Channel, ChannelSettings
from headwater.services import Services
from headwater.web.console.channel_cards import cards_of, page_of
from headwater.web.console.channel_form import is_web_address
from headwater.web.console.chart_panels import chart_panels, options_of
from headwater.web.console.console import Console, Visitor

CHANNELS_PER_PAGE = 12
_TAG_MAX = 64
_NOWHERE = ("", "0", "0.0")
"""What the coordinates of a channel read whose owner set none."""


class PublicPages:
    """`/channels/public`, and the public view of a channel."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._services = console.services

    def routes(self) -> list[BaseRoute]:
        return [
            self._console.open_get("/channels/public", self.index),
            self._console.open_get("/channels/{channel_id:int}/public", self.show),
        ]

    async def index(self, visit: Visitor) -> Response:
        tag = " ".join(visit.request.query_params.get("tag", "").split())[:_TAG_MAX]
        public = [channel for channel in self._services.access.channels() if channel.settings.is_public]
        found = [channel for channel in public if not tag or has_tag(channel.settings, tag)]
        found.sort(key=lambda channel: -channel.id)
        shown, page, pages = page_of(found, visit.request.query_params.get("page", "1"), CHANNELS_PER_PAGE)
        return self._console.render(
            visit,
            "channels_public.html",
            cards=await cards_of(self._services, shown),
            authors={channel.id: author_of(self._services, channel) for channel in shown},
            total=len(public),
            tag=tag,
            page=page,
            pages=pages,
        )

    async def show(self, visit: Visitor) -> Response:
        return await public_page(self._console, visit, viewable(self._services, visit))


def viewable(services: Services, visit: Visitor) -> Channel:
    """The channel of the path, if this visitor may see what it holds. Raises NotFound."""
    channel_id = visit.path_id("channel_id")
    channel = services.access.channel(channel_id)
    if channel is None or not services.access.may_view(channel, visit.account):
        raise NotFound(f"there is no channel {channel_id}")
    return channel


def is_owner(visit: Visitor, channel: Channel) -> bool:
    """Whether somebody looks at what is theirs."""
    return visit.account is not None and visit.account.id == channel.account_id


async def public_page(console: Console, visit: Visitor, channel: Channel) -> Response:
    """The channel as others see it. Its owner has the tabs above it."""
    tab: dict[str, Any] = {"tab": "public"} if is_owner(visit, channel) else {}
    return console.render(
        visit,
        "channel.html",
        channel=channel,
        author=author_of(console.services, channel),
        is_public_view=True,
        charts=chart_panels(channel, await options_of(console.services, channel), None),
        **view_of(console.services, channel),
        **tab,
    )


def view_of(services: Services, channel: Channel) -> dict[str, Any]:
    """What both views of a channel show."""
    settings = channel.settings
    return {
        "links": [link for link in (settings.url, settings.github_url) if is_web_address(link)],
        "entries": services.entries.last_entry_id(channel.id),
        "location": location_of(settings),
    }


def author_of(services: Services, channel: Channel) -> str:
    """The name of the account that has a channel."""
    account = services.access.account(channel.account_id)
    return account.name if account is not None else ""


def location_of(settings: ChannelSettings) -> str:
    """Where a channel is, in words; nothing where nobody said it."""
    if settings.latitude in _NOWHERE and settings.longitude in _NOWHERE:
        return ""
    place = f"{settings.latitude or '?'}, {settings.longitude or '?'}"
    return f"{place}, {settings.elevation} m" if settings.elevation else place


def has_tag(settings: ChannelSettings, tag: str) -> bool:
    """Whether a channel has this tag, in capitals or not."""
    return tag.casefold() in (one.casefold() for one in settings.tags)
