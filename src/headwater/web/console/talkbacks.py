"""TalkBacks in the console: the list, a new one, and the page of one with its queue."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, Conflict, NotFound
from headwater.registry.entities import Channel
from headwater.registry.talkback_tables import TalkBack
from headwater.services.talkbacks import MAX_COMMAND_LENGTH, MAX_NAME_LENGTH
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import sentence_of
from headwater.web.console.forms import Form, parse_id
from headwater.web.console.snippets import Addresses, Snippet

SHOWN_COMMANDS = 100
"""Of each list; the REST API gives all that wait."""
ROOT = "/apps/talkbacks"


class TalkBackPages:
    """The pages of an account's TalkBacks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._talkbacks = console.services.talkbacks
        self._access = console.services.access

    def routes(self) -> list[BaseRoute]:
        get, post = self._console.get, self._console.post
        one = f"{ROOT}/{{talkback_id:int}}"
        commands = f"{one}/commands"
        command = f"{commands}/{{command_id:int}}"
        return [
            get(ROOT, self.index),
            get(f"{ROOT}/new", self.new),
            post(f"{ROOT}/new", self.create),
            get(one, self.show),
            post(one, self.save),
            post(f"{one}/key", self.rotate_key),
            post(f"{one}/delete", self.delete),
            post(commands, self.add_command),
            post(f"{commands}/clear", self.clear),
            post(command, self.change_command),
            post(f"{command}/delete", self.remove_command),
        ]

    async def index(self, visit: Visit) -> Response:
        waiting = await self._talkbacks.waiting_counts(visit.account.id)
        rows = [
            (talkback, waiting.get(talkback.id, 0), self._log_channel(talkback))
            for talkback in self._talkbacks.owned(visit.account.id)
        ]
        return self._console.render(visit, "talkbacks.html", rows=rows)

    async def new(self, visit: Visit) -> Response:
        return self._new_page(visit, Form())

    async def create(self, visit: Visit) -> Response:
        form = visit.form
        try:
            made = await self._talkbacks.create(visit.account.id, form.text("name"), _log_channel_in(form))
        except (BadRequest, Conflict, NotFound) as error:
            return self._new_page(visit, form, sentence_of(str(error)))
        return self._to(visit, made.id, "TalkBack created. Add a command, and have your device ask for it.")

    async def show(self, visit: Visit) -> Response:
        return await self._page(visit)

    async def save(self, visit: Visit) -> Response:
        talkback, form = self._owned(visit), visit.form
        try:
            await self._talkbacks.update(
                visit.account.id, talkback.id, name=form.text("name"), log_channel_id=_log_channel_in(form)
            )
        except (BadRequest, NotFound) as error:
            return await self._page(visit, {"settings": sentence_of(str(error))}, name=form.text("name"))
        return self._to(visit, talkback.id, "Settings saved.")

    async def rotate_key(self, visit: Visit) -> Response:
        talkback = await self._talkbacks.rotate_key(visit.account.id, visit.path_id("talkback_id"))
        return self._to(visit, talkback.id, "There is a new API key. Devices with the old one get no more commands.")

    async def delete(self, visit: Visit) -> Response:
        talkback = await self._talkbacks.delete(visit.account.id, visit.path_id("talkback_id"))
        return self._console.redirect(visit, ROOT, f"TalkBack “{talkback.name}” was deleted.", "note")

    # -- commands ---------------------------------------------------------------------------------------------

    async def add_command(self, visit: Visit) -> Response:
        talkback, form = self._owned(visit), visit.form
        text = form.text("command_string")
        try:
            await self._talkbacks.add_command(visit.account.id, talkback.id, text, _position_in(form))
        except (BadRequest, Conflict) as error:
            return await self._page(visit, {"commands": sentence_of(str(error))}, command_string=text)
        return self._to(visit, talkback.id, "Command added.")

    async def change_command(self, visit: Visit) -> Response:
        talkback, form = self._owned(visit), visit.form
        try:
            await self._talkbacks.change_command(
                visit.account.id,
                talkback.id,
                visit.path_id("command_id"),
                form.text("command_string"),
                _position_in(form),
            )
        except (BadRequest, Conflict) as error:
            return await self._page(visit, {"commands": sentence_of(str(error))})
        return self._to(visit, talkback.id, "Command changed.")

    async def remove_command(self, visit: Visit) -> Response:
        talkback_id = visit.path_id("talkback_id")
        await self._talkbacks.remove_command(visit.account.id, talkback_id, visit.path_id("command_id"))
        return self._to(visit, talkback_id, "Command deleted.")

    async def clear(self, visit: Visit) -> Response:
        talkback_id = visit.path_id("talkback_id")
        await self._talkbacks.clear(visit.account.id, talkback_id)
        return self._to(visit, talkback_id, "All commands were deleted.")

    # -- helpers ----------------------------------------------------------------------------------------------

    def _owned(self, visit: Visit) -> TalkBack:
        return self._talkbacks.get_owned(visit.account.id, visit.path_id("talkback_id"))

    def _log_channel(self, talkback: TalkBack) -> Channel | None:
        return None if talkback.log_channel_id is None else self._access.channel(talkback.log_channel_id)

    def _new_page(self, visit: Visit, form: Form, error: str = "") -> Response:
        return self._console.render(
            visit,
            "talkback_new.html",
            status=400 if error else 200,
            error=error,
            name=form.text("name"),
            log_channel=form.text("log_channel"),
            channels=self._access.channels_of(visit.account.id),
            max_name_length=MAX_NAME_LENGTH,
        )

    async def _page(self, visit: Visit, errors: dict[str, str] | None = None, **typed: Any) -> Response:
        talkback = self._owned(visit)
        queue = await self._talkbacks.commands(talkback)
        at = self._console.addresses(visit.request)
        values: dict[str, Any] = {"name": talkback.name, "command_string": "", **typed}
        return self._console.render(
            visit,
            "talkback.html",
            status=400 if errors else 200,
            talkback=talkback,
            here=f"{ROOT}/{talkback.id}",
            waiting=queue.waiting[:SHOWN_COMMANDS],
            more=max(0, len(queue.waiting) - SHOWN_COMMANDS),
            executed=queue.executed,
            log_channel=str(talkback.log_channel_id or ""),
            channels=self._access.channels_of(visit.account.id),
            requests=talkback_snippets(talkback, at, self._some_channel(talkback)),
            errors=errors or {},
            max_name_length=MAX_NAME_LENGTH,
            max_command_length=MAX_COMMAND_LENGTH,
            **values,
        )

    def _some_channel(self, talkback: TalkBack) -> Channel | None:
        """One to show an update of: that with the log, or the first."""
        channels = self._access.channels_of(talkback.account_id)
        return next((one for one in channels if one.id == talkback.log_channel_id), channels[0] if channels else None)

    def _to(self, visit: Visit, talkback_id: int, text: str) -> Response:
        return self._console.redirect(visit, f"{ROOT}/{talkback_id}", text)


def talkback_snippets(talkback: TalkBack, at: Addresses, channel: Channel | None) -> list[Snippet]:
    """How a program adds commands and a device gets them."""
    commands = f"{at.base_url}/talkbacks/{talkback.id}/commands"
    key = f"api_key={talkback.api_key}"
    snippets = [
        Snippet("Execute the next command", f"GET {commands}/execute?{key}"),
        Snippet("Add a command", f"curl -d {key} -d command_string=ON \\\n  {commands}.json"),
        Snippet("See what waits", f"GET {commands}.json?{key}"),
    ]
    if channel is not None:
        update = f"{at.base_url}/update?api_key={channel.write_key}&field1=21.5"
        snippets.append(
            Snippet("Update a channel and get the next command", f"GET {update}&talkback_key={talkback.api_key}")
        )
    return snippets


def _log_channel_in(form: Form) -> int | None:
    text = form.text("log_channel")
    return parse_id(text) if text else None


def _position_in(form: Form) -> int | None:
    text = form.text("position")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadRequest("position must be a whole number from 1, which is the next command, or be left empty")
    return int(text)
