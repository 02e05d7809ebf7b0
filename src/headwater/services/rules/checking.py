"""What a rule may say. Pure; whether the things that it names exist and are its owner's, `rules` asks."""

from __future__ import annotations

import math
import re
import zoneinfo
from datetime import datetime
from urllib.parse import urlsplit

from headwater.errors import BadRequest, ProtocolError
from headwater.model.entry import MAX_FIELDS
from headwater.mqtt.topics import check_topic_name
from headwater.services.checks import check_line, check_text
from headwater.services.rules.definitions import (
    Action,
    CallThingHttp,
    CallWebhook,
    Condition,
    Draft,
    Every,
    Geofence,
    Numeric,
    Once,
    Publish,
    QueueCommand,
    Schedule,
    SendMail,
    Silence,
    Status,
    Text,
    Timed,
    Watch,
    Weekly,
)
from headwater.services.rules.placeholders import MARK

MAX_NAME_LENGTH = 255
MAX_TEXT_LENGTH = 255
MAX_RADIUS_M = 20_100_000
"""Half around the earth and a little more."""
MAX_SILENCE_MIN = 366 * 1440
CHECK_MINUTES = (0, 10, 30, 60)
MAX_PAUSE_S = 7 * 86_400
MAX_PERIOD_MIN = 366 * 1440
MAX_FUZZY_MIN = 60
LAST_YEAR = 2200
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
MAX_URL_LENGTH = 2000
MAX_BODY_LENGTH = 16_384
MAX_HEADERS = 20
MAX_HEADER_LENGTH = 1000
MAX_COMMAND_LENGTH = 255
MAX_ADDRESSES = 10
MAX_TOPIC_LENGTH = 1024
_MAX_LEVELS = 32

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_ADDRESS = re.compile(r"[^\s@<>,;:\"\\()\[\]]{1,64}@[A-Za-z0-9.-]{1,255}", re.ASCII)
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade"})
"""Headers that the sender sets: another value would make two requests of one."""


def check_draft(draft: Draft, *, max_actions: int) -> None:
    """Raises BadRequest, which begins with the name of what cannot be."""
    check_line("name", draft.name, MAX_NAME_LENGTH)
    match draft.trigger:
        case Watch(condition, every_min, _, pause_s):
            if draft.bucket_id is None:
                raise BadRequest("channel: choose the channel that the rule watches")
            _check_condition(condition)
            if every_min not in CHECK_MINUTES:
                raise BadRequest("every_min: each entry (0), or every 10, 30 or 60 minutes")
            _check_range("pause_s", pause_s, 0, MAX_PAUSE_S)
        case Timed(schedule, fuzzy_min):
            _check_schedule(schedule)
            _check_range("fuzzy_min", fuzzy_min, 0, MAX_FUZZY_MIN)
            if isinstance(schedule, Every) and 2 * fuzzy_min > schedule.minutes:
                raise BadRequest("fuzzy_min: at most half of the time between two runs")
    if len(draft.actions) > max_actions:
        raise BadRequest(f"actions: a rule may have at most {max_actions}")
    for action in draft.actions:
        _check_action(action)


def _check_condition(condition: Condition) -> None:
    match condition:
        case Numeric(field, _, value):
            _check_field(field)
            if not math.isfinite(value):
                raise BadRequest("value: a finite number")
        case Text(field, _, text):
            _check_field(field)
            check_text("text", text, MAX_TEXT_LENGTH)
        case Status(_, text):
            check_text("text", text, MAX_TEXT_LENGTH)
        case Geofence(latitude, longitude, radius_m, _):
            _check_range("latitude", latitude, -90, 90)
            _check_range("longitude", longitude, -180, 180)
            _check_range("radius_m", radius_m, 1, MAX_RADIUS_M)
        case Silence(minutes, field):
            _check_range("minutes", minutes, 1, MAX_SILENCE_MIN)
            if field is not None:
                _check_field(field)


def _check_schedule(schedule: Schedule) -> None:
    match schedule:
        case Once(at, zone):
            try:
                local = datetime.fromisoformat(at)
            except ValueError:
                raise BadRequest("at: a date and a time of day, such as 2026-03-29T14:30") from None
            if local.tzinfo is not None or not 1970 < local.year <= LAST_YEAR:
                raise BadRequest(f"at: a local time before the year {LAST_YEAR + 1}, without a zone")
            _check_zone(zone)
        case Every(minutes, _):
            _check_range("minutes", minutes, 1, MAX_PERIOD_MIN)
        case Weekly(weekdays, hour, minute, zone):
            if not weekdays or not set(weekdays) <= set(range(7)):
                raise BadRequest("weekdays: choose at least one day of the week")
            _check_range("time", hour, 0, 23)
            _check_range("time", minute, 0, 59)
            _check_zone(zone)


def _check_action(action: Action) -> None:
    match action:
        case CallThingHttp():
            pass  # it names something of the account's; that it does, `rules` has to ask
        case QueueCommand(_, command):
            check_line("command", command, MAX_COMMAND_LENGTH)
        case Publish(topic, payload, qos, _):
            _check_topic(topic)
            check_text("payload", payload, MAX_BODY_LENGTH, lines=True)
            _check_range("qos", qos, 0, 2)
        case SendMail(to, subject, body):
            if len(to) > MAX_ADDRESSES or not all(map(_ADDRESS.fullmatch, to)):
                raise BadRequest(f"to: at most {MAX_ADDRESSES} mail addresses, such as ada@example.org")
            check_line("subject", subject, MAX_TEXT_LENGTH)
            check_text("body", body, MAX_BODY_LENGTH, lines=True)
        case CallWebhook():
            _check_webhook(action)


def _check_webhook(webhook: CallWebhook) -> None:
    if webhook.method not in METHODS:
        raise BadRequest(f"method: one of {', '.join(METHODS)}")
    check_line("url", webhook.url, MAX_URL_LENGTH)
    try:
        parts = urlsplit(webhook.url)
        parts.port  # noqa: B018  raises for what is no port
    except ValueError:
        raise BadRequest("url: this is no web address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", webhook.url):
        raise BadRequest("url: a full web address that starts with http:// or https://")
    if "@" in parts.netloc:
        raise BadRequest("url: put a user name and password into an Authorization header, not into the address")
    if MARK in parts.netloc:
        raise BadRequest("url: placeholders may stand behind the host, not in it")
    if len(webhook.headers) > MAX_HEADERS:
        raise BadRequest(f"headers: at most {MAX_HEADERS}")
    for name, value in webhook.headers:
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS:
            raise BadRequest(f"headers: {name[:40]!r} cannot be set")
        check_text("headers", value, MAX_HEADER_LENGTH)
    check_text("body", webhook.body, MAX_BODY_LENGTH, lines=True)


def _check_topic(topic: str) -> None:
    check_line("topic", topic, MAX_TOPIC_LENGTH)
    try:
        check_topic_name(topic, max_levels=_MAX_LEVELS)
    except ProtocolError as error:
        raise BadRequest(f"topic: {error}") from None
    if topic.startswith("$"):
        raise BadRequest("topic: those that begin with $ belong to the server")


def _check_field(number: int) -> None:
    if not 1 <= number <= MAX_FIELDS:
        raise BadRequest(f"field: a number from 1 to {MAX_FIELDS}")


def _check_range(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise BadRequest(f"{what}: from {least:,} to {most:,}")


def _check_zone(zone: str) -> None:
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise BadRequest("zone: the time zone must be an IANA name, such as Europe/Berlin or UTC") from None
