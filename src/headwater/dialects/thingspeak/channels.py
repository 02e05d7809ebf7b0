"""Channels themselves, and the people who have them: made, listed, shown, changed, deleted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from headwater.dialects.thingspeak.callers import Callers
from headwater.dialects.thingspeak.endpoint import Call
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.parameters import parse_int
from headwater.dialects.thingspeak.parse import parse_changed_settings, parse_channel_settings
from headwater.dialects.thingspeak.render import render_channel, render_user, to_json
from headwater.dialects.thingspeak.xml import to_xml
from headwater.errors import NotAuthenticated, NotFound
from headwater.registry.entities import Account, Channel
from headwater.services import Services

_PER_PAGE = 15
_KM_PER_DEGREE = 111.195


class Channels:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._callers = Callers(services.access)

    async def create(self, call: Call) -> Response:
        account = self._callers.signed_in(call)
        channel = await self._services.channels.create(account.id, parse_channel_settings(call.parameters))
        return self._show(call, channel, with_keys=True)

    async def show(self, call: Call) -> Response:
        channel = self._callers.channel(call)
        account = self._callers.account(call)
        if not self._services.access.may_read(channel, call.key, account):
            raise NotAuthenticated("Please provide proper authentication details.")
        is_owner = account is not None and account.id == channel.account_id
        return self._show(call, channel, with_keys=is_owner)

    async def update(self, call: Call) -> Response:
        """Change what is named; the rest stays as it is."""
        channel = self._owned(call)
        settings = parse_changed_settings(call.parameters, channel.settings)
        changed = await self._services.channels.update(channel.account_id, channel.id, settings)
        return self._show(call, changed, with_keys=True)

    async def delete(self, call: Call) -> Response:
        """Answers the channel as it was."""
        channel = self._owned(call)
        shown = self._rendered(channel, with_keys=True)
        await self._services.channels.delete(channel.account_id, channel.id)
        return _respond(call, "channel", shown)

    async def clear(self, call: Call) -> Response:
        """Delete all entries: their numbers begin anew."""
        channel = self._owned(call)
        await self._services.entries.clear(channel)
        return _respond(call, "feeds", [])

    async def list_own(self, call: Call) -> Response:
        account = self._callers.signed_in(call)
        channels = self._services.access.channels_of(account.id)
        return _respond(call, "channels", [self._rendered(channel, with_keys=True) for channel in channels])

    async def list_public(self, call: Call) -> Response:
        """A page of the public channels; by tag, by owner, or around a place."""
        found = [channel for channel in self._services.access.channels() if self._is_asked_for(channel, call)]
        found.sort(key=lambda channel: channel.id)
        page = max(1, parse_int(call.parameters.get("page")) or 1)
        shown = found[(page - 1) * _PER_PAGE : page * _PER_PAGE]
        pagination = {"current_page": page, "per_page": _PER_PAGE, "total_entries": len(found)}
        channels = [
            self._rendered(channel, with_keys=False, username=self._name_of_owner(channel)) for channel in shown
        ]
        return _respond(call, "response", {"pagination": pagination, "channels": channels})

    def _is_asked_for(self, channel: Channel, call: Call) -> bool:
        if not channel.settings.is_public:
            return False
        tag, name = call.parameters.get("tag", "").strip(), call.parameters.get("username", "").strip()
        if tag and tag.lower() not in (one.lower() for one in channel.settings.tags):
            return False
        if name and self._name_of_owner(channel) != name:
            return False
        return _is_near(channel, call)

    def _name_of_owner(self, channel: Channel) -> str | None:
        account = self._services.access.account(channel.account_id)
        return None if account is None else account.name

    # -- people -------------------------------------------------------------------------------------------------

    async def user(self, call: Call) -> Response:
        account = self._named(call)
        return _respond(call, "user", render_user(account, is_themselves=self._callers.account(call) == account))

    async def user_channels(self, call: Call) -> Response:
        """Public ones; all with keys for whoever has them."""
        account = self._named(call)
        is_owner = self._callers.account(call) == account
        channels = self._services.access.channels_of(account.id)
        shown = [
            self._rendered(channel, with_keys=is_owner)
            for channel in channels
            if is_owner or channel.settings.is_public
        ]
        return _respond(call, "response", {"channels": shown})

    def _named(self, call: Call) -> Account:
        """The account in the path. Nobody learns whether there is one who has nothing public."""
        account = self._services.access.account_named(call.path["user"])
        if account is not None:
            if self._callers.account(call) == account:
                return account
            if any(channel.settings.is_public for channel in self._services.access.channels_of(account.id)):
                return account
        raise NotFound("There is no user of this name who shows anything to you.")

    # -- both ---------------------------------------------------------------------------------------------------

    def _owned(self, call: Call) -> Channel:
        """The channel of the path, which belongs to the caller. Raises NotFound and NotAuthenticated."""
        channel = self._callers.channel(call)
        account = self._callers.signed_in(call)
        if account.id != channel.account_id:
            raise NotAuthenticated("Please provide the User API Key of the channel's owner as api_key.")
        return channel

    def _show(self, call: Call, channel: Channel, *, with_keys: bool) -> Response:
        return _respond(call, "channel", self._rendered(channel, with_keys=with_keys))

    def _rendered(self, channel: Channel, *, with_keys: bool, username: str | None = None) -> dict[str, Any]:
        last_entry_id = self._services.entries.last_entry_id(channel.id)
        return render_channel(channel, last_entry_id, with_keys=with_keys, username=username)


def _respond(call: Call, root: str, value: dict[str, Any] | Sequence[Any]) -> Response:
    return call.respond(to_xml(root, value) if call.form is Form.XML else to_json(value))


def _is_near(channel: Channel, call: Call) -> bool:
    """Whether a channel is as near to a place as was asked for; all are when none was."""
    place = [_float_of(call.parameters.get(name)) for name in ("latitude", "longitude", "distance")]
    latitude, longitude, distance_km = place
    if latitude is None or longitude is None or distance_km is None:
        return True
    own_latitude, own_longitude = _float_of(channel.settings.latitude), _float_of(channel.settings.longitude)
    if own_latitude is None or own_longitude is None:
        return False
    return _distance_km(latitude, longitude, own_latitude, own_longitude) <= distance_km


def _float_of(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _distance_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Along a great circle."""
    a, b = math.radians(latitude), math.radians(other_latitude)
    across = math.radians(other_longitude - longitude)
    cosine = math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(across)
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine)))) * _KM_PER_DEGREE
