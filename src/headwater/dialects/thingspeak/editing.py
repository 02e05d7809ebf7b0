"""Changing and deleting single entries, beyond upstream: PUT or PATCH and DELETE of `/channels/<id>/feeds/<entry>`."""

from __future__ import annotations

from starlette.responses import Response

from headwater.dialects.thingspeak.callers import Callers
from headwater.dialects.thingspeak.endpoint import Call
from headwater.dialects.thingspeak.field_names import names_of
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.parameters import null_names
from headwater.dialects.thingspeak.parse import WriteLimits, parse_entry_change
from headwater.dialects.thingspeak.reads import parse_entry_id
from headwater.dialects.thingspeak.render import render_update, to_json
from headwater.dialects.thingspeak.times import parse_precision, parse_zone
from headwater.dialects.thingspeak.xml import to_xml
from headwater.model.entry import Entry
from headwater.registry.entities import Channel
from headwater.services import Services


class Editing:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services, limits: WriteLimits) -> None:
        self._services = services
        self._callers = Callers(services.access)
        self._limits = limits

    async def edit(self, call: Call) -> Response:
        """Change what is named; answers the entry as it is then."""
        channel = self._callers.changeable(call)
        change = parse_entry_change(call.parameters, null_names(call.body), self._limits, names_of(channel.settings))
        entry_id = parse_entry_id(call.path["entry"])
        precision = parse_precision(call.parameters)
        entry = await self._services.editing.edit(channel, entry_id, change)
        return _show(call, channel, entry, precision)

    async def delete(self, call: Call) -> Response:
        """Answers the entry as it was."""
        channel = self._callers.changeable(call)
        entry_id = parse_entry_id(call.path["entry"])
        precision = parse_precision(call.parameters)
        entry = await self._services.editing.delete(channel, entry_id)
        return _show(call, channel, entry, precision)


def _show(call: Call, channel: Channel, entry: Entry, precision: int) -> Response:
    zone, numbers = parse_zone(call.parameters), channel.settings.numbers
    shown = render_update(channel.id, entry, zone, shown=numbers, precision=precision)
    return call.respond(to_xml("feed", shown) if call.form is Form.XML else to_json(shown))
