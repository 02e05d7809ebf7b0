"""How the charts of a channel look: saved by its owner. What is saved, everybody sees who sees the charts."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import NotFound
from headwater.web.console.channels import ChannelPages
from headwater.web.console.chart_form import parse_chart_form
from headwater.web.console.chart_panels import chart_panels, options_of
from headwater.web.console.console import Console, Visit
from headwater.web.console.public_view import is_owner, viewable


class ChartOptionPages:
    """The form below each chart of one's own channel."""

    def __init__(self, console: Console, channel_pages: ChannelPages) -> None:
        self._console = console
        self._channel_pages = channel_pages
        self._services = console.services

    def routes(self) -> list[BaseRoute]:
        one = "/channels/{channel_id:int}/chart_options/{field_number:int}"
        return [self._console.post(one, self.save)]

    async def save(self, visit: Visit) -> Response:
        channel, number = viewable(self._services, visit), visit.path_id("field_number")
        if not is_owner(visit, channel) or number not in channel.settings.fields:
            raise NotFound("there is no such chart")
        options, errors = ({}, {}) if visit.form.has("reset") else parse_chart_form(visit.form)
        if errors:
            tried = await options_of(self._services, channel) | {number: options}
            charts = chart_panels(channel, tried, self._console.addresses(visit.request))
            charts[number]["errors"] = errors
            return self._channel_pages.private_page(visit, channel, charts, 400)
        await self._services.registry.write(
            lambda registry: registry.set_chart_options(visit.account.id, channel.id, number, options)
        )
        return self._console.redirect(visit, f"/channels/{channel.id}#chart-{number}", "Chart saved.")
