"""The API keys of a channel over REST, beyond upstream, where only the site changes them. For its owner alone,
with the User API Key or an account token: no key of a channel opens these paths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from headwater.dialects.thingspeak.callers import Callers
from headwater.dialects.thingspeak.endpoint import Call, Endpoint
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.render import render_datetime, to_json
from headwater.dialects.thingspeak.xml import to_xml
from headwater.errors import Conflict, NotFound
from headwater.registry.entities import ApiKey, Channel
from headwater.services import Services

MAX_BYTES = 65_536
_MAX_ID_DIGITS = 18


def key_routes(services: Services) -> Iterator[Route]:
    """Every path has an extension: without one, they are the console's."""
    keys = Keys(services)
    one = {"GET": keys.show, "PUT": keys.change, "DELETE": keys.delete}
    for form in (Form.JSON, Form.XML):
        for path, handlers in (
            ("", {"GET": keys.list_all}),
            ("/write", {"POST": keys.renew_write_key}),
            ("/read", {"POST": keys.add_read_key}),
            ("/{key_id}", one),
        ):
            endpoint = Endpoint(handlers, MAX_BYTES, form)
            yield Route(f"/channels/{{channel_id}}/api_keys{path}{form.extension}", endpoint)


class Keys:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services) -> None:
        self._channels = services.channels
        self._callers = Callers(services.access)

    async def list_all(self, call: Call) -> Response:
        """The write key first, then read keys by age."""
        channel = self._callers.owned(call)
        return _respond(call, "api-keys", [_rendered(key) for key in channel.api_keys])

    async def show(self, call: Call) -> Response:
        return _show(call, _key_of(call, self._callers.owned(call)))

    async def renew_write_key(self, call: Call) -> Response:
        """A new write key takes the place of the old one, which opens nothing from now on."""
        channel = self._callers.owned(call)
        changed = await self._channels.rotate_write_key(channel.account_id, channel.id)
        return _show(call, next(key for key in changed.api_keys if key.allows_write))

    async def add_read_key(self, call: Call) -> Response:
        """One more read key, with a `note` of what it is for."""
        channel = self._callers.owned(call)
        note = call.parameters.get("note", "").strip()
        changed = await self._channels.add_read_key(channel.account_id, channel.id, note)
        known = {key.id for key in channel.api_keys}
        return _show(call, max((key for key in changed.api_keys if key.id not in known), key=lambda key: key.id))

    async def change(self, call: Call) -> Response:
        """Another `note`."""
        channel = self._callers.owned(call)
        key = _key_of(call, channel)
        note = call.parameters.get("note", key.note).strip()
        changed = await self._channels.set_key_note(channel.account_id, channel.id, key.id, note)
        return _show(call, _key_of(call, changed))

    async def delete(self, call: Call) -> Response:
        """Answers the read key as it was."""
        channel = self._callers.owned(call)
        key = _key_of(call, channel)
        if key.allows_write:
            raise Conflict("A channel always has a write key: POST api_keys/write.json replaces it by a new one.")
        await self._channels.remove_read_key(channel.account_id, channel.id, key.id)
        return _show(call, key)


def _key_of(call: Call, channel: Channel) -> ApiKey:
    """The channel's key of the number in the path. Raises NotFound."""
    text = call.path["key_id"]
    key_id = int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_ID_DIGITS else 0
    for key in channel.api_keys:
        if key.id == key_id:
            return key
    raise NotFound("The channel has no key with this id: api_keys.json lists them.")


def _rendered(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "api_key": key.key,
        "write_flag": key.allows_write,
        "note": key.note,
        "created_at": render_datetime(key.created_at),
    }


def _show(call: Call, key: ApiKey) -> Response:
    return _respond(call, "api-key", _rendered(key))


def _respond(call: Call, root: str, value: dict[str, Any] | list[dict[str, Any]]) -> Response:
    response = call.respond(to_xml(root, value) if call.form is Form.XML else to_json(value))
    response.headers["Cache-Control"] = "no-store"  # a key stands in it
    return response
