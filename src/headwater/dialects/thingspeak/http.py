"""ThingSpeak's REST API: which path is answered by whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from starlette.routing import BaseRoute, Route

from headwater.dialects.thingspeak.aggregation import Method
from headwater.dialects.thingspeak.alerts import alert_routes
from headwater.dialects.thingspeak.channels import Channels
from headwater.dialects.thingspeak.editing import Editing
from headwater.dialects.thingspeak.endpoint import REFUSED_WRITE, Endpoint, Handler
from headwater.dialects.thingspeak.export import Export
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.keys import key_routes
from headwater.dialects.thingspeak.parse import write_limits
from headwater.dialects.thingspeak.preflight import Preflight
from headwater.dialects.thingspeak.reads import Reads
from headwater.dialects.thingspeak.talkbacks import Talkbacks
from headwater.dialects.thingspeak.thing_http import thing_http_routes
from headwater.dialects.thingspeak.writes import Writes
from headwater.services import Services
from headwater.services.dialect import ChartPoints
from headwater.settings import Settings

MAX_SETTINGS_BYTES = 65_536
_CHANGED_IN = (".json", ".xml")


def routes(services: Services, settings: Settings) -> Sequence[BaseRoute]:
    """Every path of the dialect. Singular aliases (`/feed`, `/field/N`) are all that the Node and Java clients use."""
    limits = write_limits(settings)
    writes = Writes(services, limits, settings.thingspeak.max_bulk_entries)
    reads = Reads(services, settings.thingspeak.max_results)
    channels = Channels(services)
    talkbacks = Talkbacks(services)
    answering = talkbacks.answering
    write_bytes = limits.max_message_bytes
    both = ("GET", "POST")
    text = Endpoint(dict.fromkeys(both, answering(writes.update_text)), write_bytes, Form.TEXT, refusal=REFUSED_WRITE)
    json = Endpoint(dict.fromkeys(both, answering(writes.update_json)), write_bytes)
    xml = Endpoint(dict.fromkeys(both, answering(writes.update_xml)), write_bytes, Form.XML)
    streamed = dict.fromkeys(both, Export(services, settings.thingspeak.max_results).stream)
    bulk_bytes = settings.web.max_body_bytes
    return [
        Route("/update", text),
        Route("/update.json", json),
        Route("/update.xml", xml),
        Route(
            "/channels/{channel_id}/bulk_update.json",
            Endpoint({"POST": writes.bulk_json}, bulk_bytes, has_own_body=True),
        ),
        Route(
            "/channels/{channel_id}/bulk_update.csv",
            Endpoint({"POST": writes.bulk_csv}, bulk_bytes, has_own_body=True),
        ),
        *_of_channels(channels),
        *key_routes(services),
        *_below_channel(channels, reads, Editing(services, limits)),
        *(
            Route(f"/stream/channels/{{channel_id}}/feeds{ending}", Endpoint(streamed, MAX_SETTINGS_BYTES, Form.CSV))
            for ending in ("", Form.CSV.extension)
        ),
        *talkbacks.routes(),
        *thing_http_routes(services),
        *alert_routes(services),
        Route(
            "/channels/{channel_id}/charts/{field}",
            Endpoint(_of_reading(reads.chart), MAX_SETTINGS_BYTES, Form.TEXT),
        ),
        Preflight(Endpoint({}, 0)),
    ]


def chart_points(services: Services, settings: Settings) -> ChartPoints:
    """What the console's charts show that have data of their own."""
    return Reads(services, settings.thingspeak.max_results).chart_points


def _of_channels(channels: Channels) -> Iterator[Route]:
    """Channels and people, in the two forms that they have."""
    for form in (Form.JSON, Form.XML):

        def route(path: str, handlers: Mapping[str, Handler], form: Form = form) -> Route:
            return Route(f"{path}{form.extension}", Endpoint(handlers, MAX_SETTINGS_BYTES, form))

        one = _of_reading(channels.show) | {"PUT": channels.update, "DELETE": channels.delete}
        yield route("/channels", _of_reading(channels.list_own) | {"POST": channels.create})
        yield route("/channels/public", _of_reading(channels.list_public))
        yield route("/channels/{channel_id}", one)
        yield route("/users/{user}", _of_reading(channels.user))
        yield route("/users/{user}/channels", _of_reading(channels.user_channels))


def _below_channel(channels: Channels, reads: Reads, editing: Editing) -> Iterator[Route]:
    """Entries. Without an extension, a list is JSON, and what clients without a parser ask for is text.

    Singular aliases (`/feed`, `/field/N`) are all that the Node and Java clients use.
    """
    one = {"PUT": editing.edit, "PATCH": editing.edit, "DELETE": editing.delete}
    for feed, all_entries in (("feeds", {"DELETE": channels.clear}), ("feed", None)):
        yield from _in_forms(f"/{feed}", reads.feeds, Form.JSON, all_entries)
        yield from _in_forms(f"/{feed}/last_data_age", reads.age, Form.TEXT)
        yield from _last_buckets(f"/{feed}", reads)
        yield from _in_forms(f"/{feed}/entry/{{entry}}", reads.entry, Form.TEXT, one)
        yield from _in_forms(f"/{feed}/{{entry}}", reads.entry, Form.TEXT, one)
    for field in ("fields", "field"):
        yield from _in_forms(f"/{field}/{{field}}/last_data_age", reads.age, Form.TEXT)
        yield from _last_buckets(f"/{field}/{{field}}", reads)
        yield from _in_forms(f"/{field}/{{field}}/{{entry}}", reads.entry, Form.TEXT)
        yield from _in_forms(f"/{field}/{{field}}", reads.feeds, Form.JSON)
    for status in ("status", "statuses"):
        yield from _in_forms(f"/{status}", reads.statuses, Form.JSON)
        yield from _in_forms(f"/{status}/last", reads.last_status, Form.JSON)


def _last_buckets(path: str, reads: Reads) -> Iterator[Route]:
    for method in (Method.SUM, Method.AVERAGE, Method.MEDIAN):
        yield from _in_forms(f"{path}/last_{method}", reads.last_bucket(method), Form.TEXT)


def _in_forms(
    path: str, handler: Handler, without_extension: Form, changes: Mapping[str, Handler] | None = None
) -> Iterator[Route]:
    """A path below a channel with each extension, and without. The last part of the path matches up to its dot.
    `changes`: other methods by name, with an extension of the forms that channels have."""
    forms = [(form.extension, form) for form in Form if form is not Form.TEXT or without_extension is Form.TEXT]
    for extension, form in (*forms, ("", without_extension)):
        handlers = _of_reading(handler)
        if changes is not None and extension in _CHANGED_IN:
            handlers |= changes
        endpoint = Endpoint(handlers, MAX_SETTINGS_BYTES, form, keeps_body=changes is not None)
        yield Route(f"/channels/{{channel_id}}{path}{extension}", endpoint)


def _of_reading(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}
