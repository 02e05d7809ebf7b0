"""TalkBack: a queue of commands that people and programs fill and a device empties, one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from headwater.dialects.thingspeak.callers import Callers
from headwater.dialects.thingspeak.endpoint import REFUSED_WRITE, Call, Endpoint, Handler
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.parameters import parse_int
from headwater.dialects.thingspeak.render import render_time, to_json
from headwater.dialects.thingspeak.times import parse_zone
from headwater.dialects.thingspeak.xml import to_xml
from headwater.errors import BadRequest, NotAuthenticated, NotFound
from headwater.registry.talkback_tables import Command, TalkBack
from headwater.services import Services

MAX_BODY_BYTES = 65_536

_UNKNOWN_KEY = "the talkback_key of an update opens no TalkBack; the entry was stored, and no command answered"
_ID = re.compile(r"[0-9]{1,18}")


class Talkbacks:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services) -> None:
        self._callers = Callers(services.access)
        self._talkbacks = services.talkbacks
        self._refusals = services.refusals

    def routes(self) -> Iterator[Route]:
        """Each path as `.json`, `.xml` and plain, which is what devices without a parser ask for."""
        below = "/talkbacks/{talkback_id}/commands"
        listing = _of_reading(self.list) | {"POST": self.add, "DELETE": self.clear}
        # Not for HEAD: a command must not be lost to somebody who only looks.
        executing = {"GET": self.execute, "POST": self.execute}
        one = _of_reading(self.show) | {"PUT": self.change, "DELETE": self.remove}
        for form, extension in ((Form.JSON, ".json"), (Form.XML, ".xml"), (Form.TEXT, "")):
            for path, handlers in (
                ("", listing),
                ("/execute", executing),
                ("/last", _of_reading(self.last)),
                ("/{command_id}", one),
            ):
                yield Route(f"{below}{path}{extension}", Endpoint(handlers, MAX_BODY_BYTES, form))

    # -- the queue ----------------------------------------------------------------------------------------------

    async def list(self, call: Call) -> Response:
        """Those that wait, the next one first."""
        waiting = (await self._talkbacks.commands(self._opened(call))).waiting
        if call.form is Form.TEXT:
            return call.respond("\n".join(command.command_string for command in waiting).encode())
        return _respond(call, "commands", [_render(call, command) for command in waiting])

    async def add(self, call: Call) -> Response:
        talkback = self._opened(call)
        text = call.parameters.get("command_string", "")
        added = await self._talkbacks.add_command(talkback.account_id, talkback.id, str(text), _position_in(call))
        return call.respond(str(added.id).encode()) if call.form is Form.TEXT else _respond_one(call, added)

    async def clear(self, call: Call) -> Response:
        talkback = self._opened(call)
        await self._talkbacks.clear(talkback.account_id, talkback.id)
        return call.respond(b"") if call.form is Form.TEXT else _respond(call, "commands", [])

    async def execute(self, call: Call) -> Response:
        """Take the next command from the queue."""
        return _respond_one(call, await self._talkbacks.execute(self._opened(call)))

    async def last(self, call: Call) -> Response:
        """The command that was executed last."""
        return _respond_one(call, await self._talkbacks.last_command(self._opened(call)))

    # -- one command --------------------------------------------------------------------------------------------

    async def show(self, call: Call) -> Response:
        return _respond_one(call, await self._talkbacks.command(self._opened(call), _command_id(call)))

    async def change(self, call: Call) -> Response:
        talkback, command_id = self._opened(call), _command_id(call)
        text, position = call.parameters.get("command_string"), _position_in(call)
        changed = await self._talkbacks.change_command(
            talkback.account_id, talkback.id, command_id, None if text is None else str(text), position
        )
        return _respond_one(call, changed)

    async def remove(self, call: Call) -> Response:
        talkback = self._opened(call)
        return _respond_one(
            call, await self._talkbacks.remove_command(talkback.account_id, talkback.id, _command_id(call))
        )

    # -- with an update -----------------------------------------------------------------------------------------

    def answering(self, update: Handler) -> Handler:
        """A handler of `/update` that with `talkback_key` answers the next command in place of the entry, once that is
        stored. A key that opens nothing is answered as an empty queue is: the entry is stored, so the device must not
        send it again, and what it reads must not look like a command."""

        async def answer(call: Call) -> Response:
            response = await update(call)
            key = call.parameters.get("talkback_key", "").strip()
            if not key or response.status_code != 200 or response.body == REFUSED_WRITE:
                return response
            talkback = self._talkbacks.of_key(key)
            if talkback is None:
                self._refusals.note(_UNKNOWN_KEY, channel_id=self._callers.writable(call).id)
                return _respond_one(call, None)
            return _respond_one(call, await self._talkbacks.execute(talkback))

        return answer

    # -- who may ------------------------------------------------------------------------------------------------

    def _opened(self, call: Call) -> TalkBack:
        """The TalkBack of the path, for whoever brings its own key, or its owner's User API Key or token. Raises
        NotFound to an owner of others, NotAuthenticated to everybody else, whether there is such a TalkBack or not."""
        text = call.path["talkback_id"]
        talkback_id = int(text) if _ID.fullmatch(text) else 0
        talkback = self._talkbacks.of_key(call.key) if call.key else None
        if talkback is not None and talkback.id == talkback_id:
            return talkback
        account = self._callers.account(call)
        if account is None:
            raise NotAuthenticated(
                "Please provide this TalkBack's API key as api_key; it stands on the TalkBack's page."
            )
        return self._talkbacks.get_owned(account.id, talkback_id)


def _command_id(call: Call) -> int:
    text = call.path["command_id"]
    if not _ID.fullmatch(text):
        raise NotFound("There is no command with this id.")
    return int(text)


def _position_in(call: Call) -> int | None:
    text = call.parameters.get("position", "").strip()
    if not text:
        return None
    position = parse_int(text)
    if position is None:
        raise BadRequest("position must be a whole number from 1, which is the next command, or be left out")
    return position


def _render(call: Call, command: Command) -> dict[str, Any]:
    zone = parse_zone(call.parameters)

    def time(at_s: float) -> str:
        return render_time(int(at_s) * 1_000_000_000, zone)

    return {
        "id": command.id,
        "command_string": command.command_string,
        "position": command.position,
        "executed_at": None if command.executed_at is None else time(command.executed_at.timestamp()),
        "created_at": time(command.created_at.timestamp()),
    }


def _respond_one(call: Call, command: Command | None) -> Response:
    """A command, or that there is none."""
    if call.form is Form.TEXT:
        return call.respond(b"" if command is None else command.command_string.encode())
    return _respond(call, "command", {} if command is None else _render(call, command))


def _respond(call: Call, root: str, value: Mapping[str, Any] | list[dict[str, Any]]) -> Response:
    return call.respond(to_xml(root, value) if call.form is Form.XML else to_json(value))


def _of_reading(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}
