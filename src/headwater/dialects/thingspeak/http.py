"""ThingSpeak's REST API: parse, act, render. Knows no socket; the answers' wire form is `web/`'s.

So far: `/update`, channel creation and settings, feeds, last entry and one field's feed, all as JSON (`/update` also
as plain text).
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from headwater.dialects.thingspeak.errors import METHOD_INVALID, problem_of, render_problem
from headwater.dialects.thingspeak.parse import (
    ReadQuery,
    WriteLimits,
    find_key,
    json_number_fields,
    parse_channel_settings,
    parse_field_number,
    parse_parameters,
    parse_read_query,
    parse_update,
    parse_zone,
    write_limits,
)
from headwater.dialects.thingspeak.render import (
    render_channel,
    render_entry,
    render_feed,
    render_update,
    to_json,
)
from headwater.errors import HeadwaterError, NotAuthenticated, NotFound, TooLarge
from headwater.model.entry import Entry
from headwater.registry.entities import Account, Channel
from headwater.services import Services
from headwater.settings import Settings

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, OPTIONS, DELETE, PATCH",
    "Access-Control-Allow-Headers": "origin, content-type, X-Requested-With",
    "Access-Control-Max-Age": "1800",
}
RENDERED_AT_ONCE = 200
"""Entries that are rendered on the event loop; more are rendered beside it."""
_EVERY_ANSWER = CORS_HEADERS | {"X-Content-Type-Options": "nosniff"}
_CHANNEL_ID = re.compile(r"[0-9]{1,18}")
_AUTHORIZATION = re.compile(r"(?:Token|Bearer) +(\S+) *", re.IGNORECASE)
_REFUSED_WRITE, _REFUSED_READ = b"0", b"-1"


class Call(NamedTuple):
    """A request, taken apart."""

    path: Mapping[str, str]
    parameters: Mapping[str, str]
    key: str | None


Handler = Callable[[Call], Awaitable[Response]]


class Endpoint:
    """One path: chooses the handler by method, adds the headers of every answer, turns errors into ThingSpeak's form.

    An ASGI application rather than a function, so that every method gets ThingSpeak's own answer.
    """

    def __init__(self, handlers: Mapping[str, Handler], max_body_bytes: int, is_text: bool = False) -> None:
        self._handlers = handlers
        self._max_body_bytes = max_body_bytes
        self._is_text = is_text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return  # nobody is left to be answered; what was taken in is stored all the same
        except HeadwaterError as error:
            response = self._render_error(error)
        response.headers.update(_EVERY_ANSWER)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=200)
        handler = self._handlers.get(request.method)
        if handler is None:
            allowed = ", ".join(self._handlers)
            problem = render_problem(METHOD_INVALID, f"This path takes {allowed}.")
            return Response(to_json(problem), METHOD_INVALID.status, {"Allow": allowed}, "application/json")
        body = await request.body()
        if len(body) > self._max_body_bytes:
            raise TooLarge(f"The body has {len(body)} bytes; at most {self._max_body_bytes} are taken here.")
        content_type = request.headers.get("content-type", "")
        parameters = parse_parameters(request.scope["query_string"], content_type, body)
        key = find_key(parameters, request.headers.raw) or _authorization_key(request.headers.get("authorization", ""))
        return await handler(Call(request.path_params, parameters, key))

    def _render_error(self, error: HeadwaterError) -> Response:
        problem = problem_of(error)
        if self._is_text:
            return Response(_REFUSED_WRITE, problem.status, media_type="text/plain")
        return Response(to_json(render_problem(problem, str(error))), problem.status, media_type="application/json")


def _authorization_key(header: str) -> str | None:
    """The key in `Authorization: Token …` or `Bearer …`, as tools send it that know no `api_key`."""
    match = _AUTHORIZATION.fullmatch(header)
    return match[1] if match else None


def json_response(value: object) -> Response:
    return Response(to_json(value), media_type="application/json")


class Rest:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(
        self,
        services: Services,
        limits: WriteLimits,
        max_results: int,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._services = services
        self._write_limits = limits
        self._max_results = max_results
        self._clock_ns = clock_ns

    # -- writing --------------------------------------------------------------------------------------------

    async def update_text(self, call: Call) -> Response:
        written = await self._write(call)
        return _refuse_write() if written is None else Response(str(written[1].entry_id), media_type="text/plain")

    async def update_json(self, call: Call) -> Response:
        written = await self._write(call)
        if written is None:
            return _refuse_write()
        channel, entry = written
        numbers = json_number_fields(call.parameters)
        return json_response(render_update(channel.id, entry, parse_zone(call.parameters), numbers))

    async def _write(self, call: Call) -> tuple[Channel, Entry] | None:
        """The stored entry, or None without a write key that is known."""
        channel = self._services.access.channel_of_write_key(call.key) if call.key else None
        if channel is None:
            return None
        update = parse_update(call.parameters, self._write_limits)
        await self._services.ingest.room()
        if self._services.access.channel(channel.id) is None:
            return None  # deleted while this waited
        if update.created_at_ns is None:
            entry, receipt = self._services.entries.write(channel, update, self._clock_ns())
            await receipt.wait()
            return channel, entry
        dated = self._services.entries.write_dated(channel, update, self._clock_ns())
        await dated.wait()
        assert dated.entry is not None
        return channel, dated.entry

    # -- reading --------------------------------------------------------------------------------------------

    async def feeds(self, call: Call) -> Response:
        return await self._feed(call, None)

    async def field_feed(self, call: Call) -> Response:
        return await self._feed(call, parse_field_number(call.path["field"]))

    async def _feed(self, call: Call, number: int | None) -> Response:
        channel = self._readable(call)
        if channel is None:
            return _refuse_read()
        if "field" in call.path and number is None:
            raise NotFound("A channel has field1 to field8.")
        query = parse_read_query(call.parameters, self._clock_ns(), self._max_results)
        entries = await self._read(channel, query)
        numbers = [number] if number is not None else sorted(channel.settings.fields)
        last_entry_id = self._services.entries.last_entry_id(channel.id)

        def render() -> bytes:
            return to_json(render_feed(channel, last_entry_id, entries, numbers, query))

        is_long = len(entries) > RENDERED_AT_ONCE  # thousands of entries would hold up everybody else
        rendered = await self._services.query.run(render) if is_long else render()
        return Response(rendered, media_type="application/json")

    async def last(self, call: Call) -> Response:
        channel = self._readable(call)
        if channel is None:
            return _refuse_read()
        query = parse_read_query(call.parameters, self._clock_ns(), self._max_results)
        entries = await self._services.entries.newest(channel, 1)
        if not entries:
            raise NotFound("The channel has no entries yet.")
        return json_response(render_entry(entries[-1], sorted(channel.settings.fields), query))

    async def _read(self, channel: Channel, query: ReadQuery) -> list[Entry]:
        return await self._services.entries.newest(channel, query.results, query.start_ns, query.end_ns)

    def _readable(self, call: Call) -> Channel | None:
        """The channel, or None when this caller may not read it. Raises NotFound."""
        channel = self._channel(call)
        account = self._account(call)
        return channel if self._services.access.may_read(channel, call.key, account) else None

    # -- channels -------------------------------------------------------------------------------------------

    async def create_channel(self, call: Call) -> Response:
        account = self._account(call)
        if account is None:
            raise NotAuthenticated("Please provide the User API Key as api_key; it stands on My Profile.")
        channel = await self._services.channels.create(account.id, parse_channel_settings(call.parameters))
        return json_response(render_channel(channel, 0, with_keys=True))

    async def show_channel(self, call: Call) -> Response:
        channel = self._channel(call)
        account = self._account(call)
        if not self._services.access.may_read(channel, call.key, account):
            raise NotAuthenticated("Please provide proper authentication details.")
        is_owner = account is not None and account.id == channel.account_id
        last_entry_id = self._services.entries.last_entry_id(channel.id)
        return json_response(render_channel(channel, last_entry_id, with_keys=is_owner))

    def _channel(self, call: Call) -> Channel:
        channel_id = call.path["channel_id"]
        channel = self._services.access.channel(int(channel_id)) if _CHANNEL_ID.fullmatch(channel_id) else None
        if channel is None:
            raise NotFound("There is no channel with this id.")
        return channel

    def _account(self, call: Call) -> Account | None:
        return self._services.access.account_of_key(call.key) if call.key else None


def _refuse_write() -> Response:
    return Response(_REFUSED_WRITE, 400, media_type="text/plain")


def _refuse_read() -> Response:
    return Response(_REFUSED_READ, 400, media_type="text/plain")


MAX_SETTINGS_BYTES = 65_536


def routes(services: Services, settings: Settings) -> Sequence[BaseRoute]:
    """Every path of the dialect. Singular aliases (`/feed`, `/field/N`) are all that the Node and Java clients use."""
    limits = write_limits(settings)
    rest = Rest(services, limits, settings.thingspeak.max_results)
    write_bytes = limits.max_message_bytes
    both = ("GET", "POST")
    text = Endpoint(dict.fromkeys(both, rest.update_text), write_bytes, is_text=True)
    json = Endpoint(dict.fromkeys(both, rest.update_json), write_bytes)

    def reads(handler: Handler) -> Endpoint:
        return Endpoint({"GET": handler, "HEAD": handler}, MAX_SETTINGS_BYTES)

    channel = "/channels/{channel_id}"
    return [
        Route("/update", text),
        Route("/update.json", json),
        Route("/channels.json", Endpoint({"POST": rest.create_channel}, MAX_SETTINGS_BYTES)),
        Route(f"{channel}.json", reads(rest.show_channel)),
        *(Route(f"{channel}/{name}.json", reads(rest.feeds)) for name in ("feeds", "feed")),
        *(Route(f"{channel}/{name}/last.json", reads(rest.last)) for name in ("feeds", "feed")),
        *(Route(f"{channel}/{name}/{{field}}.json", reads(rest.field_feed)) for name in ("fields", "field")),
    ]
