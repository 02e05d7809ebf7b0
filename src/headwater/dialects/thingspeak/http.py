"""ThingSpeak's REST API: which path is answered by whom."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route

from headwater.dialects.thingspeak.channels import Channels
from headwater.dialects.thingspeak.endpoint import Endpoint, Handler
from headwater.dialects.thingspeak.parse import write_limits
from headwater.dialects.thingspeak.reads import Reads
from headwater.dialects.thingspeak.writes import Writes
from headwater.services import Services
from headwater.settings import Settings

MAX_SETTINGS_BYTES = 65_536


def routes(services: Services, settings: Settings) -> Sequence[BaseRoute]:
    """Every path of the dialect. Singular aliases (`/feed`, `/field/N`) are all that the Node and Java clients use."""
    limits = write_limits(settings)
    writes = Writes(services, limits)
    feeds = Reads(services, settings.thingspeak.max_results)
    channels = Channels(services)
    write_bytes = limits.max_message_bytes
    both = ("GET", "POST")
    text = Endpoint(dict.fromkeys(both, writes.update_text), write_bytes, is_text=True)
    json = Endpoint(dict.fromkeys(both, writes.update_json), write_bytes)

    def reads(handler: Handler) -> Endpoint:
        return Endpoint({"GET": handler, "HEAD": handler}, MAX_SETTINGS_BYTES)

    channel = "/channels/{channel_id}"
    return [
        Route("/update", text),
        Route("/update.json", json),
        Route("/channels.json", Endpoint({"POST": channels.create_channel}, MAX_SETTINGS_BYTES)),
        Route(f"{channel}.json", reads(channels.show_channel)),
        *(Route(f"{channel}/{name}.json", reads(feeds.feeds)) for name in ("feeds", "feed")),
        *(Route(f"{channel}/{name}/last.json", reads(feeds.last)) for name in ("feeds", "feed")),
        *(Route(f"{channel}/{name}/{{field}}.json", reads(feeds.field_feed)) for name in ("fields", "field")),
    ]
