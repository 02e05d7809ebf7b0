"""ThingSpeak channels: made, changed and deleted by their owner, with their keys. Knows no dialect and no
entry.

Every method takes the account that asks; another account's channel is `NotFound`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from headwater.errors import BadRequest, NotFound
from headwater.model.entry import MAX_FIELDS
from headwater.model.series import INTEGER_MAX
from headwater.registry.entities import Account, Channel, ChannelSettings
from headwater.registry.keys import generate_api_key
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.checks import check_text

MAX_NAME_LENGTH = 255
MAX_UNIT_LENGTH = 32
MAX_DESCRIPTION_LENGTH = 8000
MAX_METADATA_LENGTH = 8000
MAX_URL_LENGTH = 2000
MAX_COORDINATE_LENGTH = 32
MAX_TAGS = 32
MAX_TAG_LENGTH = 64
MAX_NOTE_LENGTH = 255
MIN_RETENTION_S = 3600
"""Whoever needs less wants the last entry, not a history; and what has expired is removed by the hour."""
MAX_RETENTION_S = INTEGER_MAX // 1_000_000_000
"""292 years: as far back as nanoseconds reach."""

ChangeRetention: TypeAlias = Callable[[int, int | None, Callable[[], Awaitable[Channel]]], Awaitable[Channel]]
"""See `Retention.change`."""

_NUMBERED = re.compile(r"(field|unit|label)([1-9][0-9]{0,2})", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


class Channels:
    """The channels of every account.

    Args: `on_deleted` is awaited with each deleted channel once the registry has let go of it, even when the
    caller went away meanwhile; `change_retention` has a retention changed, so that what has expired stays gone; the
    limits raise `Conflict`.
    """

    def __init__(
        self,
        worker: RegistryWorker,
        access: Access,
        *,
        on_deleted: Callable[[Channel], Awaitable[None]] | None = None,
        change_retention: ChangeRetention | None = None,
        max_channels_per_account: int = 10_000,
        max_read_keys_per_channel: int = 100,
        max_fields_per_channel: int = MAX_FIELDS,
        max_shares_per_channel: int = 100,
    ) -> None:
        self._worker = worker
        self._access = access
        self._on_deleted = on_deleted
        self._change_retention = change_retention
        self._max_channels = max_channels_per_account
        self._max_read_keys = max_read_keys_per_channel
        self.max_fields = max_fields_per_channel
        self._max_shares = max_shares_per_channel

    async def owned(self, account_id: int) -> list[Channel]:
        """An account's channels, oldest first."""
        return self._access.channels_of(account_id)

    async def get_owned(self, account_id: int, channel_id: int) -> Channel:
        channel = self._access.channel(channel_id)
        if channel is None or channel.account_id != account_id:
            raise NotFound(f"there is no channel {channel_id}")
        return channel

    async def create(self, account_id: int, settings: ChannelSettings) -> Channel:
        """A new channel with one write key and one read key.

        Raises: `BadRequest` naming the setting that cannot be; `Conflict` at the limit of channels.
        """
        checked = check_settings(settings, self.max_fields)
        return await self._worker.write(
            lambda registry: registry.add_channel(
                account_id,
                checked,
                write_key=generate_api_key(),
                read_key=generate_api_key(),
                most=self._max_channels,
            ),
            self._access.put_channel,
        )

    async def update(self, account_id: int, channel_id: int, settings: ChannelSettings) -> Channel:
        """Replace all settings. Raises: `BadRequest` naming the setting that cannot be."""
        checked = check_settings(settings, self.max_fields)

        async def commit() -> Channel:
            return await self._worker.write(
                lambda registry: registry.update_channel(account_id, channel_id, checked), self._access.put_channel
            )

        before = await self.get_owned(account_id, channel_id)
        if self._change_retention is None or checked.retention_s == before.settings.retention_s:
            return await commit()
        return await self._change_retention(channel_id, checked.retention_s, commit)

    async def delete(self, account_id: int, channel_id: int) -> Channel:
        """Delete a channel, its keys and the grants on it. Returns it as it was."""

        async def forget(channel: Channel) -> None:
            self._access.drop_channel(channel.id)
            if self._on_deleted is not None:
                await self._on_deleted(channel)

        return await self._worker.write(lambda registry: registry.remove_channel(account_id, channel_id), forget)

    async def rotate_write_key(self, account_id: int, channel_id: int) -> Channel:
        return await self._worker.write(
            lambda registry: registry.set_write_key(account_id, channel_id, generate_api_key()),
            self._access.put_channel,
        )

    async def add_read_key(self, account_id: int, channel_id: int, note: str = "") -> Channel:
        """One more read key. Raises: `Conflict` at the limit of read keys."""
        check_text("note", note, MAX_NOTE_LENGTH)
        return await self._worker.write(
            lambda registry: registry.add_read_key(
                account_id, channel_id, generate_api_key(), note=note, most=self._max_read_keys
            ),
            self._access.put_channel,
        )

    async def set_key_note(self, account_id: int, channel_id: int, key_id: int, note: str) -> Channel:
        check_text("note", note, MAX_NOTE_LENGTH)
        return await self._worker.write(
            lambda registry: registry.set_key_note(account_id, channel_id, key_id, note),
            self._access.put_channel,
        )

    async def remove_read_key(self, account_id: int, channel_id: int, key_id: int) -> Channel:
        """The write key cannot be removed, only rotated: its id is `NotFound` here."""
        return await self._worker.write(
            lambda registry: registry.remove_read_key(account_id, channel_id, key_id),
            self._access.put_channel,
        )

    def shared_with(self, channel: Channel) -> list[Account]:
        """Those who may read a channel because its owner shares it with them, by name."""
        readers = map(self._access.account, self._access.shared_with(channel.id))
        return sorted((one for one in readers if one is not None), key=lambda account: account.name)

    async def share(self, account_id: int, channel_id: int, names: Iterable[str]) -> None:
        """Share a channel with the accounts of these names, and with no others: they may read it, and no more.

        Raises: `BadRequest` for a name that no other account has, and for too many.
        """
        channel = await self.get_owned(account_id, channel_id)
        reader_ids = []
        for name in dict.fromkeys(names):
            reader = self._access.account_named(name)
            if reader is None:
                raise BadRequest(f"there is no account {name[:64]!r} on this server")
            if reader.id == account_id:
                raise BadRequest("the channel is yours: leave your own name out")
            reader_ids.append(reader.id)
        if len(reader_ids) > self._max_shares:
            raise BadRequest(f"a channel may be shared with at most {self._max_shares} accounts")
        if self._access.shared_with(channel.id) != frozenset(reader_ids):
            await self._worker.write(
                lambda registry: registry.set_shares(account_id, channel_id, reader_ids),
                lambda readers: self._access.put_shares(channel_id, readers),
            )


def check_settings(settings: ChannelSettings, max_fields: int = MAX_FIELDS) -> ChannelSettings:
    """The settings as they are kept: blanks around short texts, unnamed fields (with their units and labels) and
    repeated or empty tags left out.

    Raises: `BadRequest`, naming the setting and its limit.
    """
    fields = _check_fields(settings.fields, max_fields)
    checked = replace(
        settings,
        name=settings.name.strip(),
        fields=fields,
        units=_check_field_texts("unit", settings.units, fields, MAX_UNIT_LENGTH),
        labels=_check_field_texts("label", settings.labels, fields, MAX_NAME_LENGTH),
        latitude=settings.latitude.strip(),
        longitude=settings.longitude.strip(),
        elevation=settings.elevation.strip(),
        url=settings.url.strip(),
        github_url=settings.github_url.strip(),
        tags=_check_tags(settings.tags),
    )
    check_text("name", checked.name, MAX_NAME_LENGTH)
    check_text("description", checked.description, MAX_DESCRIPTION_LENGTH, lines=True)
    check_text("metadata", checked.metadata, MAX_METADATA_LENGTH, lines=True)
    check_text("elevation", checked.elevation, MAX_COORDINATE_LENGTH)
    _check_coordinate("latitude", checked.latitude, 90)
    _check_coordinate("longitude", checked.longitude, 180)
    _check_url("url", checked.url)
    _check_url("github_url", checked.github_url)
    if checked.retention_s is not None and not MIN_RETENTION_S <= checked.retention_s <= MAX_RETENTION_S:
        raise BadRequest(f"retention_s must be {MIN_RETENTION_S} (an hour) to {MAX_RETENTION_S} seconds, or none")
    return checked


def field_texts(values: Mapping[str, str], what: str, before: Mapping[int, str]) -> dict[int, str]:
    """`field1`, `field2` and so on (or `unit1`, `label1`) by number, as forms and requests have them, in place of those
    before; without empty ones."""
    found = dict(before)
    for name, value in values.items():
        if (match := _NUMBERED.fullmatch(name)) and match[1] == what:
            found[int(match[2])] = value.strip()
    return {number: found[number] for number in sorted(found) if found[number]}


def _check_fields(fields: Mapping[int, str], most: int) -> dict[int, str]:
    if any(not 1 <= number <= most for number in fields):
        raise BadRequest(f"field numbers go from 1 to {most}")
    return _check_field_texts("field", fields, fields, MAX_NAME_LENGTH)


def _check_field_texts(what: str, texts: Mapping[int, str], of: Collection[int], most: int) -> dict[int, str]:
    """Texts by field number, without empty ones and those of other fields."""
    checked: dict[int, str] = {}
    for number, text in sorted(texts.items()):
        if number in of and (stripped := text.strip()):
            check_text(f"{what}{number}", stripped, most)
            checked[number] = stripped
    return checked


def _check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    checked = tuple(dict.fromkeys(stripped for tag in tags if (stripped := tag.strip())))
    if len(checked) > MAX_TAGS:
        raise BadRequest(f"tags: at most {MAX_TAGS}")
    for tag in checked:
        check_text("each tag", tag, MAX_TAG_LENGTH)
        if "," in tag:
            raise BadRequest("a tag must not contain a comma")
    return checked


def _check_coordinate(what: str, text: str, most: int) -> None:
    if text == "":
        return
    check_text(what, text, MAX_COORDINATE_LENGTH)
    if not _NUMBER.fullmatch(text) or abs(float(text)) > most:
        raise BadRequest(f"{what} must be a number from -{most} to {most}, or empty")


def _check_url(what: str, text: str) -> None:
    """Pages show it as a link, so no scheme may get in that a browser would run (`javascript:`)."""
    check_text(what, text, MAX_URL_LENGTH)
    scheme, colon, _ = text.partition(":")
    if colon and not any(mark in scheme for mark in "/?#") and scheme.lower() not in ("http", "https"):
        raise BadRequest(f"{what} must begin with http:// or https://")
