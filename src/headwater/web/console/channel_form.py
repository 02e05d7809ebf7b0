"""The channel form: values to settings, and what is wrong with them, input by input. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from headwater.errors import BadRequest
from headwater.registry.entities import ChannelSettings
from headwater.services.channels import FIELD_NUMBERS, check_settings
from headwater.web.console.errors import sentence_of
from headwater.web.console.forms import Form

_TEXTS = ("description", "latitude", "longitude", "elevation", "url", "github_url", "metadata")
_INPUTS = frozenset({"name", "tags", *_TEXTS, *(f"field{number}" for number in FIELD_NUMBERS)})
_WEB_ADDRESS = re.compile(r"https?://[^\s/]+\S*", re.IGNORECASE)
WHOLE_FORM = ""
"""Where an error stands that belongs to no single input."""


def parse_channel_form(form: Form, before: ChannelSettings | None = None) -> ChannelSettings:
    """The settings as the form has them; what the form does not ask for stays as it was."""
    before = before or ChannelSettings()
    names = {number: form.text(f"field{number}") for number in FIELD_NUMBERS}
    return replace(
        before,
        name=form.text("name"),
        fields={number: name for number, name in names.items() if name},
        is_public=form.text("access") == "public" if form.has("access") else before.is_public,
        tags=_parse_tags(form.text("tags")) if form.has("tags") else before.tags,
        **{name: form.text(name) for name in _TEXTS if form.has(name)},
    )


def channel_form_errors(settings: ChannelSettings) -> dict[str, str]:
    """What to say beside which input; empty when all is well."""
    errors: dict[str, str] = {}
    if not settings.name:
        errors["name"] = "Give the channel a name."
    for name in ("url", "github_url"):
        address = getattr(settings, name)
        if address and not is_web_address(address):
            errors[name] = "Enter a full web address that starts with http:// or https://."
    try:
        check_settings(settings)
    except BadRequest as error:
        place, message = locate(error)
        errors.setdefault(place, message)
    return errors


def locate(error: BadRequest) -> tuple[str, str]:
    """The input that a refusal names with its first word, and the refusal as a sentence."""
    message = str(error)
    first_word = message.partition(" ")[0].rstrip(":")
    place = first_word if first_word in _INPUTS else WHOLE_FORM
    return place, sentence_of(message.replace("_", " "))


def is_web_address(text: str) -> bool:
    """Whether a text may be made a link: anything but http and https could run a script."""
    return _WEB_ADDRESS.fullmatch(text) is not None


def _parse_tags(text: str) -> tuple[str, ...]:
    return tuple(tag for part in text.split(",") if (tag := " ".join(part.split())))
