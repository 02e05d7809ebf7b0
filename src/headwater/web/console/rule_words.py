"""Rules in words, as the console shows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from headwater.registry.entities import Channel
from headwater.services.rules.carriers import describe_action
from headwater.services.rules.definitions import (
    Action,
    CallThingHttp,
    Condition,
    Every,
    Geofence,
    Numeric,
    Once,
    QueueCommand,
    Schedule,
    Silence,
    Status,
    Text,
    Timed,
    Trigger,
    Watch,
    Weekly,
)
from headwater.services.rules.rules import Things
from headwater.web.console.rule_forms import CHECKS, DAYS

_COMPARED = {
    "<": "is less than",
    "<=": "is at most",
    ">": "is greater than",
    ">=": "is at least",
    "==": "is",
    "!=": "is not",
    "contains": "contains",
    "starts with": "starts with",
    "ends with": "ends with",
}


def trigger_words(trigger: Trigger, channel: Channel | None) -> str:
    """When a rule runs."""
    match trigger:
        case Watch(condition):
            return condition_words(condition, channel.settings.fields if channel is not None else {})
        case Timed(schedule, fuzzy_min):
            return schedule_words(schedule) + (f", up to {_count(fuzzy_min, 'minute')} off" if fuzzy_min else "")


def check_words(watch: Watch) -> str:
    """What of the channel is looked at, and how often the rule runs for it."""
    often = "only the first time" if watch.is_first_only else "each time"
    if isinstance(watch.condition, Silence):
        return f"Runs {'once for each silence' if watch.is_first_only else 'again after each such time of silence'}"
    pause = f", at most every {_count(watch.pause_s // 60, 'minute')}" if watch.pause_s else ""
    return f"Checks {CHECKS[watch.every_min]}, runs {often} the condition is met{pause}"


def action_words(action: Action, things: Things) -> str:
    """What an action does, with the name of what it uses."""
    match action:
        case CallThingHttp(thing_http_id):
            name = things.thing_https.get(thing_http_id)
        case QueueCommand(talkback_id, _):
            name = things.talkbacks.get(talkback_id)
        case _:
            name = None
    return describe_action(action) + (f" ({name})" if name else "")


def condition_words(condition: Condition, fields: Mapping[int, str]) -> str:
    def named(number: int) -> str:
        return f"Field {number}" + (f" ({fields[number]})" if number in fields else "")

    match condition:
        case Numeric(field, operator, value):
            return f"{named(field)} {_COMPARED[operator]} {value:.15g}"
        case Text(field, operator, text):
            return f"{named(field)} {_COMPARED[operator]} “{text}”"
        case Status(operator, text):
            return f"Status {_COMPARED[operator]} “{text}”"
        case Geofence(latitude, longitude, radius_m, is_inside):
            distance = f"{radius_m / 1000:.15g} km" if radius_m >= 1000 else f"{radius_m:.15g} m"
            side = "within" if is_inside else "more than"
            return f"Location is {side} {distance} {'of' if is_inside else 'from'} {latitude}, {longitude}"
        case Silence(minutes, field_or_any):
            what = "No data" if field_or_any is None else f"No {named(field_or_any)}"
            return f"{what} for {_duration(minutes)}"


def schedule_words(schedule: Schedule) -> str:
    match schedule:
        case Once(at, zone):
            return f"Once, {at.replace('T', ' ')} ({zone})"
        case Every(minutes, _):
            return f"Every {_duration(minutes)}"
        case Weekly(days, hour, minute, zone):
            return f"{_days_words(days)} at {hour:02}:{minute:02} ({zone})"


def _days_words(days: tuple[int, ...]) -> str:
    if len(days) == len(DAYS):
        return "Daily"
    if days == (0, 1, 2, 3, 4):
        return "Monday to Friday"
    return ", ".join(DAYS[day] for day in days)


def _duration(minutes: int) -> str:
    if minutes % 1440 == 0:
        return _count(minutes // 1440, "day")
    return _count(minutes // 60, "hour") if minutes % 60 == 0 else _count(minutes, "minute")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
