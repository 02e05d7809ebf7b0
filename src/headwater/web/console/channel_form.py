"""The channel form: values to settings, and what is wrong with them, input by input. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from headwater.errors import BadRequest
from headwater.model.entry import FIELD_NUMBERS, MAX_FIELDS
from headwater.registry.entities import ChannelSettings
from headwater.services.channels import MAX_RETENTION_S, MIN_RETENTION_S, check_settings, field_texts
from headwater.web.console.errors import sentence_of
from headwater.web.console.forms import Form

_TEXTS = ("description", "latitude", "longitude", "elevation", "url", "github_url", "metadata")
_INPUTS = frozenset({"name", "tags", "retention_s", *_TEXTS})
_NUMBERED = re.compile(r"(field|unit|label)[1-9][0-9]*", re.ASCII)
_MORE_AT_ONCE = 8
_WEB_ADDRESS = re.compile(r"https?://[^\s/]+\S*", re.IGNORECASE)
_DAYS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_DAY_S = 86_400
_NO_RETENTION = 0
"""Stands for days that cannot be read, until the form is shown again."""
WHOLE_FORM = ""
"""Where an error stands that belongs to no single input."""


def parse_channel_form(form: Form, before: ChannelSettings | None = None) -> ChannelSettings:
    """The settings as the form has them; what the form does not ask for stays as it was."""
    before = before or ChannelSettings()
    values = {name: form.text(name) for name in form.values}
    texts: dict[str, Any] = {name: form.text(name) for name in _TEXTS if form.has(name)}
    return replace(
        before,
        name=form.text("name"),
        fields=field_texts(values, "field", {n: before.fields[n] for n in before.fields if n not in FIELD_NUMBERS}),
        units=field_texts(values, "unit", before.units),
        labels=field_texts(values, "label", before.labels),
        takes_names=form.text("called") == "names" if form.has("called") else before.takes_names,
        is_public=form.text("access") == "public" if form.has("access") else before.is_public,
        tags=_parse_tags(form.text("tags")) if form.has("tags") else before.tags,
        retention_s=_parse_retention(form, before) if form.has("keep") else before.retention_s,
        **texts,
    )


def more_numbers(settings: ChannelSettings, most: int) -> Sequence[int]:
    """The fields above the eighth that the form offers: those that are named, and some that could be."""
    greatest = max(settings.fields, default=0)
    offered = max(greatest // _MORE_AT_ONCE + 1, 2) * _MORE_AT_ONCE
    return range(FIELD_NUMBERS[-1] + 1, max(min(offered, most), greatest) + 1)


def channel_form_errors(settings: ChannelSettings, max_fields: int = MAX_FIELDS) -> dict[str, str]:
    """What to say beside which input; empty when all is well."""
    errors: dict[str, str] = {}
    if not settings.name:
        errors["name"] = "Give the channel a name."
    for name in ("url", "github_url"):
        address = getattr(settings, name)
        if address and not is_web_address(address):
            errors[name] = "Enter a full web address that starts with http:// or https://."
    if settings.retention_s is not None and not MIN_RETENTION_S <= settings.retention_s <= MAX_RETENTION_S:
        most = MAX_RETENTION_S // _DAY_S
        errors["retention_s"] = (
            f"Enter a number of days, from 0.05 (about an hour) to {most:,}, or keep entries for ever."
        )
    try:
        check_settings(settings, max_fields)
    except BadRequest as error:
        place, message = locate(error)
        errors.setdefault(place, message)
    return errors


def locate(error: BadRequest) -> tuple[str, str]:
    """The input that a refusal names with its first word, and the refusal as a sentence."""
    message = str(error)
    first_word = message.partition(" ")[0].rstrip(":")
    place = first_word if first_word in _INPUTS or _NUMBERED.fullmatch(first_word) else WHOLE_FORM
    return place, sentence_of(message.replace("_", " "))


def is_web_address(text: str) -> bool:
    """Whether a text may be made a link: anything but http and https could run a script."""
    return _WEB_ADDRESS.fullmatch(text) is not None


def days_of(retention_s: int | None) -> str:
    """A retention as the form shows it: in days, with a fraction where it is not a whole number of them."""
    if retention_s is None or retention_s == _NO_RETENTION:
        return ""
    return f"{retention_s / _DAY_S:.6f}".rstrip("0").rstrip(".")


def _parse_retention(form: Form, before: ChannelSettings) -> int | None:
    if form.text("keep") != "days":
        return None
    text = form.text("days")
    if before.retention_s is not None and text == days_of(before.retention_s):  # shown rounded, perhaps: not a change
        return before.retention_s
    return round(Decimal(text) * _DAY_S) if _DAYS.fullmatch(text) else _NO_RETENTION


def _parse_tags(text: str) -> tuple[str, ...]:
    return tuple(tag for part in text.split(",") if (tag := " ".join(part.split())))
