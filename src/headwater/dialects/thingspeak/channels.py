"""Channels themselves: made and shown."""

from __future__ import annotations

from starlette.responses import Response

from headwater.dialects.thingspeak.callers import Callers
from headwater.dialects.thingspeak.endpoint import Call, json_response
from headwater.dialects.thingspeak.parse import parse_channel_settings
from headwater.dialects.thingspeak.render import render_channel
from headwater.errors import NotAuthenticated
from headwater.services import Services


class Channels:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._callers = Callers(services.access)

    async def create_channel(self, call: Call) -> Response:
        account = self._callers.signed_in(call)
        channel = await self._services.channels.create(account.id, parse_channel_settings(call.parameters))
        return json_response(render_channel(channel, 0, with_keys=True))

    async def show_channel(self, call: Call) -> Response:
        channel = self._callers.channel(call)
        account = self._callers.account(call)
        if not self._services.access.may_read(channel, call.key, account):
            raise NotAuthenticated("Please provide proper authentication details.")
        is_owner = account is not None and account.id == channel.account_id
        last_entry_id = self._services.entries.last_entry_id(channel.id)
        return json_response(render_channel(channel, last_entry_id, with_keys=is_owner))
