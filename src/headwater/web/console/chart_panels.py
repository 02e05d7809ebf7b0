"""The charts of a channel's page with the options that its owner has given them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headwater.registry.entities import Channel
from headwater.services import Services
from headwater.web.console.chart_form import COMBINATIONS, MINUTES, TITLE_MAX, TYPES, form_values, frame_code
from headwater.web.console.snippets import Addresses


async def options_of(services: Services, channel: Channel) -> dict[int, dict[str, str]]:
    """The options of a channel's charts, by field."""
    return await services.registry.read(lambda registry: registry.chart_options(channel.id))


def chart_panels(
    channel: Channel, options: Mapping[int, Mapping[str, str]], at: Addresses | None
) -> dict[int, dict[str, Any]]:
    """What each chart of the page shows; where `at` is given, with the form and the code for other pages."""
    panels: dict[int, dict[str, Any]] = {}
    for number, name in channel.settings.fields.items():
        own = options.get(number, {})
        panels[number] = {"options": own, "title": own.get("title") or channel.settings.labels.get(number) or name}
        if at is not None:
            panels[number] |= {
                "errors": {},
                "values": form_values(own),
                "code": frame_code(channel, number, own, at),
                "types": TYPES,
                "combinations": COMBINATIONS,
                "minutes": MINUTES,
                "title_max": TITLE_MAX,
            }
    return panels
