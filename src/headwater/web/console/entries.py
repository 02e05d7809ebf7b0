"""The entries of a channel as a table, newest first; each can be changed and deleted."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.model.entry import LOCATION, Entry
from headwater.model.series import INTEGER_MAX
from headwater.registry.entities import Channel
from headwater.services.entry_editing import STATUS, EntryChange, text_of, value_names
from headwater.web.console.channel_form import is_web_address
from headwater.web.console.console import Console, Visit
from headwater.web.console.forms import Form

ENTRIES_PER_PAGE = 50
MAX_TEXT_BYTES = 255
"""Of a new value, as in an update. A longer one that is stored may stay as it is."""
_TIME_NS = re.compile(r"[0-9]{1,19}", re.ASCII)


class Place(NamedTuple):
    """Which entries a page shows: those before a time, those from a time on, or the newest."""

    before_ns: int | None = None
    from_ns: int | None = None

    @property
    def address(self) -> str:
        """What stands behind the path of the page, and of what leads back to it."""
        if self.before_ns is not None:
            return f"?before={self.before_ns}"
        return "" if self.from_ns is None else f"?from={self.from_ns}"


class Value(NamedTuple):
    """One value of an entry, for the form that changes it."""

    name: str
    label: str
    text: str
    has_lines: bool


class EntryPages:
    """The pages of one channel's entries."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._channels = console.services.channels
        self._entries = console.services.entries
        self._editing = console.services.editing

    def routes(self) -> list[BaseRoute]:
        get, post = self._console.get, self._console.post
        one = "/channels/{channel_id:int}/entries"
        return [
            get(one, self.index),
            get(f"{one}/{{entry_id:int}}", self.show),
            post(f"{one}/{{entry_id:int}}", self.change),
            post(f"{one}/{{entry_id:int}}/delete", self.delete),
        ]

    async def index(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        place = _place_of(visit)
        if place.from_ns is not None:
            shown, next_ns = await self._entries.following(channel, ENTRIES_PER_PAGE, place.from_ns)
            has_newer, has_older = next_ns is not None, True
        else:
            found = await self._entries.newest(channel, ENTRIES_PER_PAGE + 1, end_ns=place.before_ns)
            shown = found[-ENTRIES_PER_PAGE:]
            has_newer, has_older = place.before_ns is not None, len(found) > len(shown)
        numbers = {*channel.settings.fields, *(number for entry in shown for number in entry.fields)}
        return self._page(
            visit,
            "channel_entries.html",
            channel,
            entries=shown[::-1],
            numbers=sorted(numbers),
            has_location=any(entry.latitude or entry.longitude or entry.elevation for entry in shown),
            has_status=any(entry.status is not None for entry in shown),
            place=place,
            older=Place(before_ns=shown[0].at_ns) if has_older and shown else None,
            newer=Place(from_ns=shown[-1].at_ns + 1) if has_newer and shown else None,
        )

    async def show(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        entry = await self._entries.find(channel, visit.path_id("entry_id"))
        return self._form(visit, channel, entry, _values_of(channel, entry))

    async def change(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        entry = await self._entries.find(channel, visit.path_id("entry_id"))
        values = _values_of(channel, entry)
        texts = _changed(entry, values, visit.form)
        errors = {
            name: f"At most {MAX_TEXT_BYTES} bytes, please."
            for name, text in texts.items()
            if text is not None and len(text.encode()) > MAX_TEXT_BYTES
        }
        if errors:
            typed = [value._replace(text=visit.form.exact(value.name)) for value in values]
            return self._form(visit, channel, entry, typed, errors, status=400)
        if texts:
            await self._editing.edit(channel, entry.entry_id, EntryChange(texts))
        said = f"Entry {entry.entry_id} was changed." if texts else "Nothing was changed."
        return self._to_list(visit, said)

    async def delete(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        entry = await self._editing.delete(channel, visit.path_id("entry_id"))
        return self._to_list(visit, f"Entry {entry.entry_id} was deleted.")

    async def _owned(self, visit: Visit) -> Channel:
        return await self._channels.get_owned(visit.account.id, visit.path_id("channel_id"))

    def _form(
        self,
        visit: Visit,
        channel: Channel,
        entry: Entry,
        values: list[Value],
        errors: dict[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        place = _place_of(visit)
        return self._page(
            visit, "channel_entry.html", channel, status, entry=entry, values=values, errors=errors or {}, place=place
        )

    def _page(self, visit: Visit, template: str, channel: Channel, status: int = 200, **values: Any) -> Response:
        links = [link for link in (channel.settings.url, channel.settings.github_url) if is_web_address(link)]
        return self._console.render(
            visit, template, status=status, channel=channel, tab="entries", links=links, **values
        )

    def _to_list(self, visit: Visit, text: str) -> Response:
        path = f"/channels/{visit.path_id('channel_id')}/entries{_place_of(visit).address}"
        return self._console.redirect(visit, path, text)


def _place_of(visit: Visit) -> Place:
    """What the address asks for; the newest entries where it makes no sense."""
    found = {}
    for name in ("before", "from"):
        text = visit.request.query_params.get(name, "")
        if _TIME_NS.fullmatch(text) and int(text) <= INTEGER_MAX:
            found[name] = int(text)
    if "before" in found:
        return Place(before_ns=found["before"])
    return Place(from_ns=found.get("from"))


def _values_of(channel: Channel, entry: Entry) -> list[Value]:
    """All that can be changed of an entry: of the fields, those that are named or have a value."""
    fields = channel.settings.fields
    numbers = sorted({*fields, *entry.fields})
    labels = {f"field{number}": channel.settings.field_title(number) for number in numbers}
    labels |= {name: name.capitalize() for name in (*LOCATION, STATUS)}
    return [_value(name, labels[name], text_of(entry, name) or "") for name in value_names(numbers)]


def _value(name: str, label: str, text: str) -> Value:
    return Value(name, label, text, "\n" in text or "\r" in text)


def _changed(entry: Entry, values: list[Value], form: Form) -> dict[str, str | None]:
    """What is other in the form than in the entry. What is empty there has no value from then on; what is an empty text
    already, stays one."""
    changed: dict[str, str | None] = {}
    for value in values:
        if not form.has(value.name):
            continue
        typed, before = form.exact(value.name), text_of(entry, value.name)
        if typed != (before or "").replace("\r\n", "\n").replace("\r", "\n"):
            changed[value.name] = typed or None
    return changed
