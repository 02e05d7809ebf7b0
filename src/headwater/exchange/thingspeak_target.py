"""The channel that an import from ThingSpeak fills: the one that it began with, or a new one that is like the old. The
server's part, which a command without a server does itself."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from headwater.control import Reply
from headwater.errors import BadRequest, Conflict
from headwater.exchange.loading import begin_note, noted_channel_ids
from headwater.exchange.on_loop import wait_for
from headwater.exchange.opening import account_of
from headwater.model.entry import MAX_FIELDS
from headwater.registry.entities import Channel, ChannelSettings
from headwater.services import Services
from headwater.services.channels import MAX_DESCRIPTION_LENGTH, MAX_METADATA_LENGTH, MAX_NAME_LENGTH


class Target(NamedTuple):
    """Where entries go."""

    channel_id: int
    name: str
    is_new: bool


class Targets:
    """Finds and makes them. To be made on the event loop's thread, or with its loop."""

    def __init__(self, services: Services, data: Path, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._services = services
        self._data = data
        self._loop = asyncio.get_running_loop() if loop is None else loop

    def answer(self, request: Mapping[str, Any], reply: Reply) -> None:
        """The command's part of the conversation. Raises HeadwaterError."""
        try:
            wanted = dict(request["settings"])
            for by_number in ("fields", "units", "labels"):
                wanted[by_number] = {int(number): str(text) for number, text in wanted[by_number].items()}
            wanted["tags"] = tuple(wanted["tags"])
            settings = ChannelSettings(**wanted)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadRequest("what was sent is no settings of a channel") from None
        target = self.find_or_make(str(request["fingerprint"]), settings, request.get("account"))
        reply.inform(**target._asdict())

    def find_or_make(self, fingerprint: str, settings: ChannelSettings, account: str | None) -> Target:
        """The channel that an earlier import of this fingerprint filled; else a new one, of the only account or the one
        of this name. Blocks, in a thread beside the event loop's. Raises HeadwaterError."""
        return wait_for(self._loop, self._find_or_make(fingerprint, settings, account))

    async def _find_or_make(self, fingerprint: str, settings: ChannelSettings, account: str | None) -> Target:
        access = self._services.access
        noted = map(access.channel, noted_channel_ids(self._data, fingerprint))
        found = [channel for channel in noted if channel is not None]
        if len(found) > 1:
            ids = ", ".join(str(channel.id) for channel in found)
            raise Conflict(f"this was imported into several channels: name one of them ({ids}) with --into")
        if found:
            return _target(found[0], is_new=False)
        owner = account_of(access, account)
        made = await self._services.channels.create(owner.id, settings)
        # Now, and not with the first entry: who is stopped in between must find this channel the next time.
        begin_note(self._data, made, fingerprint)
        return _target(made, is_new=True)


def _target(channel: Channel, *, is_new: bool) -> Target:
    return Target(channel.id, channel.settings.name, is_new)


def settings_of(channel: Mapping[str, str | None]) -> ChannelSettings:
    """Settings like those of a channel elsewhere, as far as it tells them and they can be. A new channel is private:
    whether the old one was public, its entries do not say."""
    fields = {number: _line(channel.get(f"field{number}")) for number in range(1, MAX_FIELDS + 1)}
    return ChannelSettings(
        name=_line(channel.get("name")),
        description=_lines(channel.get("description"), MAX_DESCRIPTION_LENGTH),
        fields={number: name for number, name in fields.items() if name},
        latitude=_coordinate(channel.get("latitude"), 90) or "0.0",
        longitude=_coordinate(channel.get("longitude"), 180) or "0.0",
        elevation=_line(channel.get("elevation"))[:32],
        metadata=_lines(channel.get("metadata"), MAX_METADATA_LENGTH),
    )


def as_request(settings: ChannelSettings) -> dict[str, Any]:
    """What `Targets.answer` takes as settings."""
    return {one.name: getattr(settings, one.name) for one in dataclasses.fields(settings) if one.init}


def _line(text: str | None) -> str:
    return " ".join("".join(one if one.isprintable() else " " for one in text or "").split())[:MAX_NAME_LENGTH]


def _lines(text: str | None, most: int) -> str:
    return "".join(one for one in text or "" if one.isprintable() or one in "\n\t")[:most]


def _coordinate(text: str | None, most: int) -> str:
    try:
        number = float(text or "")
    except ValueError:
        return ""
    return (text or "").strip()[:32] if math.isfinite(number) and abs(number) <= most else ""
