"""My Channels and everything below one channel: charts, settings, keys, the danger zone."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, Conflict
from headwater.model.entry import FIELD_NUMBERS
from headwater.registry.entities import Channel, ChannelSettings
from headwater.web.console.channel_cards import cards_of, page_of
from headwater.web.console.channel_form import (
    WHOLE_FORM,
    channel_form_errors,
    days_of,
    more_numbers,
    parse_channel_form,
)
from headwater.web.console.chart_panels import chart_panels, options_of
from headwater.web.console.console import Console, Visit, Visitor
from headwater.web.console.errors import sentence_of
from headwater.web.console.public_view import author_of, is_owner, public_page, view_of, viewable
from headwater.web.console.snippets import (
    first_entry_line,
    mqtt_publish_line,
    rest_snippets,
    topic_snippets,
    write_commands,
)
from headwater.web.console.update_limit_form import AS_THE_ACCOUNT, CHOICES, describe, parse_update_limit

CHANNELS_PER_PAGE = 24
MAX_SHARED_SHOWN = 60
_QUERY_MAX = 255


class ChannelPages:
    """The pages of channels; another account's channel is as unknown as one that never was."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._channels = console.services.channels
        self._entries = console.services.entries
        self._policies = console.services.update_policies

    def routes(self) -> list[BaseRoute]:
        get, post = self._console.get, self._console.post
        one = "/channels/{channel_id:int}"
        return [
            get("/channels", self.index),
            get("/channels/new", self.new),
            post("/channels/new", self.create),
            self._console.open_get(one, self.show),
            get(f"{one}/settings", self.settings),
            post(f"{one}/settings", self.save_settings),
            post(f"{one}/update_limit", self.save_update_limit),
            post(f"{one}/clear", self.clear),
            post(f"{one}/delete", self.delete),
            get(f"{one}/api_keys", self.keys),
            post(f"{one}/api_keys/write", self.rotate_write_key),
            post(f"{one}/api_keys/read", self.add_read_key),
            post(f"{one}/api_keys/{{key_id:int}}/note", self.set_note),
            post(f"{one}/api_keys/{{key_id:int}}/delete", self.remove_read_key),
        ]

    async def index(self, visit: Visit) -> Response:
        owned = await self._channels.owned(visit.account.id)
        query = visit.request.query_params.get("q", "").strip()[:_QUERY_MAX]
        found = [channel for channel in owned if _is_match(channel, query)]
        shared = self._console.services.access.channels_shared_with(visit.account.id)[:MAX_SHARED_SHOWN]
        shown, page, pages = page_of(found, visit.request.query_params.get("page", "1"), CHANNELS_PER_PAGE)
        return self._console.render(
            visit,
            "channels.html",
            cards=await cards_of(self._console.services, shown),
            shared=await cards_of(self._console.services, shared),
            authors={channel.id: author_of(self._console.services, channel) for channel in shared},
            total=len(owned),
            found=len(found),
            query=query,
            page=page,
            pages=pages,
        )

    async def new(self, visit: Visit) -> Response:
        return self._form(visit, None, ChannelSettings())

    async def create(self, visit: Visit) -> Response:
        settings = parse_channel_form(visit.form)
        errors = channel_form_errors(settings, self._channels.max_fields)
        if errors:
            return self._form(visit, None, settings, errors, status=400)
        try:
            channel = await self._channels.create(visit.account.id, settings)
        except Conflict as error:
            return self._form(visit, None, settings, {WHOLE_FORM: sentence_of(str(error))}, status=409)
        return self._console.redirect(
            visit, f"/channels/{channel.id}", "Channel created. Send it a first entry and watch it appear."
        )

    async def show(self, visit: Visitor) -> Response:
        """The private view for the owner; what others may see of it for them."""
        channel = viewable(self._console.services, visit)
        if not is_owner(visit, channel):
            return await public_page(self._console, visit, channel)
        options = await options_of(self._console.services, channel)
        return self.private_page(visit, channel, chart_panels(channel, options, self._console.addresses(visit.request)))

    def private_page(self, visit: Visitor, channel: Channel, charts: dict[int, Any], status: int = 200) -> Response:
        """The private view with these charts."""
        limits = self._console.services.update_limits
        limit = self._policies.effective(channel)
        return self._page(
            visit,
            "channel.html",
            channel,
            tab="view",
            status=status,
            is_public_view=False,
            charts=charts,
            days=days_of(channel.settings.retention_s),
            refused=self._console.services.refusals.of_channel(channel.id),
            first_entry=first_entry_line(channel, self._console.addresses(visit.request)),
            limit=limit,
            limit_words=describe(limit),
            limit_counts=limits.counts_of(channel.id),
            limit_waiting=limits.waiting_of(channel.id),
        )

    async def settings(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        return self._form(visit, channel, channel.settings)

    async def save_settings(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        settings = parse_channel_form(visit.form, channel.settings)
        errors = channel_form_errors(settings, self._channels.max_fields)
        if errors:
            return self._form(visit, channel, settings, errors, status=400)
        await self._channels.update(visit.account.id, channel.id, settings)
        return self._console.redirect(visit, f"/channels/{channel.id}/settings", "Settings saved.")

    async def save_update_limit(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        limit, errors = parse_update_limit(visit.form, self._policies.effective(channel))
        if errors:
            return self._form(visit, channel, channel.settings, errors, status=400)
        await self._policies.set_for_channel(visit.account.id, channel.id, limit)
        return self._console.redirect(visit, f"/channels/{channel.id}/settings", "Update limit saved.")

    async def clear(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        if visit.form.text("confirmation") != str(channel.id):
            return self._unconfirmed(visit, channel, "clear")
        await self._entries.clear(channel)
        return self._console.redirect(
            visit, f"/channels/{channel.id}", "All entries were deleted. Entry ids start at 1 again."
        )

    async def delete(self, visit: Visit) -> Response:
        channel = await self._owned(visit)
        if visit.form.text("confirmation") != str(channel.id):
            return self._unconfirmed(visit, channel, "delete")
        await self._channels.delete(visit.account.id, channel.id)
        return self._console.redirect(visit, "/channels", f"Channel {channel.id} was deleted.", "note")

    async def keys(self, visit: Visit) -> Response:
        return self._keys_page(visit, await self._owned(visit))

    async def rotate_write_key(self, visit: Visit) -> Response:
        channel_id = visit.path_id("channel_id")
        await self._channels.rotate_write_key(visit.account.id, channel_id)
        return self._to_keys(
            visit, channel_id, "There is a new write key. Devices with the old one can no longer write."
        )

    async def add_read_key(self, visit: Visit) -> Response:
        channel_id = visit.path_id("channel_id")
        note = visit.form.text("note")
        try:
            await self._channels.add_read_key(visit.account.id, channel_id, note)
        except (BadRequest, Conflict) as error:
            channel = await self._owned(visit)
            return self._keys_page(visit, channel, sentence_of(str(error)), note, status=400)
        return self._to_keys(visit, channel_id, "Read key added.")

    async def set_note(self, visit: Visit) -> Response:
        channel_id, key_id = visit.path_id("channel_id"), visit.path_id("key_id")
        try:
            await self._channels.set_key_note(visit.account.id, channel_id, key_id, visit.form.text("note"))
        except BadRequest as error:
            channel = await self._owned(visit)
            return self._keys_page(visit, channel, sentence_of(str(error)), status=400)
        return self._to_keys(visit, channel_id, "Note saved.")

    async def remove_read_key(self, visit: Visit) -> Response:
        channel_id, key_id = visit.path_id("channel_id"), visit.path_id("key_id")
        await self._channels.remove_read_key(visit.account.id, channel_id, key_id)
        return self._to_keys(visit, channel_id, "Read key deleted. Whoever used it can no longer read.")

    # -- helpers ----------------------------------------------------------------------------------------------

    async def _owned(self, visit: Visit) -> Channel:
        return await self._channels.get_owned(visit.account.id, visit.path_id("channel_id"))

    def _page(
        self, visit: Visitor, template: str, channel: Channel, tab: str, status: int = 200, **values: Any
    ) -> Response:
        values |= view_of(self._console.services, channel)
        return self._console.render(visit, template, status=status, channel=channel, tab=tab, **values)

    def _form(
        self,
        visit: Visit,
        channel: Channel | None,
        settings: ChannelSettings,
        errors: dict[str, str] | None = None,
        status: int = 200,
        unconfirmed: str = "",
    ) -> Response:
        values: dict[str, Any] = {
            "settings": settings,
            "errors": errors or {},
            "field_numbers": FIELD_NUMBERS,
            "more_numbers": more_numbers(settings, self._channels.max_fields),
            "days": days_of(settings.retention_s),
            "unconfirmed": unconfirmed,
        }
        if channel is None:
            return self._console.render(visit, "channel_new.html", status=status, **values)
        own, of_account = self._policies.of_channel(channel.id), self._policies.of_account(channel.account_id)
        values |= {
            "limit_choices": CHOICES,
            "limit_choice": visit.form.text("limit") or (AS_THE_ACCOUNT if own is None else own.action.value),
            "limit_interval_s": visit.form.text("interval_s") or (own or of_account).interval_s,
            "account_limit": describe(of_account),
        }
        return self._page(visit, "channel_settings.html", channel, "settings", status, **values)

    def _unconfirmed(self, visit: Visit, channel: Channel, action: str) -> Response:
        return self._form(visit, channel, channel.settings, status=400, unconfirmed=action)

    def _keys_page(
        self, visit: Visit, channel: Channel, error: str = "", note: str = "", status: int = 200
    ) -> Response:
        addresses = self._console.addresses(visit.request)
        return self._page(
            visit,
            "channel_keys.html",
            channel,
            "keys",
            status,
            error=error,
            note=note,
            requests=rest_snippets(channel, addresses),
            commands=write_commands(channel, addresses),
            topics=topic_snippets(channel),
            publish_line=mqtt_publish_line(channel, addresses),
        )

    def _to_keys(self, visit: Visit, channel_id: int, text: str) -> Response:
        return self._console.redirect(visit, f"/channels/{channel_id}/api_keys", text)


def _is_match(channel: Channel, query: str) -> bool:
    if not query:
        return True
    settings = channel.settings
    needle = query.casefold()
    return (
        query == str(channel.id)
        or needle in settings.name.casefold()
        or any(needle == tag.casefold() for tag in settings.tags)
    )
