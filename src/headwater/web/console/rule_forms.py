"""The forms of rules: values to triggers and actions, and back. Pure; what a rule may say, `services.rules` checks.

Every refusal is one sentence about one input, as `BadRequest`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, get_args

from headwater.errors import BadRequest
from headwater.services.rules.definitions import (
    Action,
    CallThingHttp,
    CallWebhook,
    Condition,
    Every,
    Geofence,
    NumberOperator,
    Numeric,
    Once,
    Publish,
    QueueCommand,
    Schedule,
    SendMail,
    Silence,
    Status,
    Text,
    TextOperator,
    Timed,
    Trigger,
    Watch,
    Weekly,
)
from headwater.web.console.forms import Form, parse_id

NUMBER_OPERATORS: tuple[NumberOperator, ...] = get_args(NumberOperator)
TEXT_OPERATORS: tuple[TextOperator, ...] = get_args(TextOperator)
CONDITIONS = {
    "numeric": ("Numeric", "The number of a field, compared with another"),
    "text": ("String", "The text of a field, compared with another"),
    "status": ("Status", "The status of an entry, compared with a text"),
    "geofence": ("Geofence", "The location of an entry, inside or outside of a circle"),
    "silence": ("No data", "Nothing has come for some time"),
}
SCHEDULES = {
    "once": ("One time", "At a date and a time of day"),
    "every": ("Every so often", "Every so many minutes or hours"),
    "weekly": ("Days of the week", "At a time of day, daily or on some days"),
}
ACTIONS = {
    "webhook": ("Webhook", "An HTTP request to any address"),
    "publish": ("MQTT message", "To one of your topics or channels"),
    "mail": ("E-mail", "To you or others"),
    "talkback": ("TalkBack command", "Added to a TalkBack’s queue"),
    "thing_http": ("ThingHTTP", "One of your stored requests"),
}
CHECKS = {0: "each entry", 10: "the newest entry every 10 minutes", 30: "the newest entry every 30 minutes"}
CHECKS[60] = "the newest entry every 60 minutes"
FUZZY = (0, 1, 3, 5, 10, 15, 30, 60)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
METHODS = ("POST", "GET", "PUT", "PATCH", "DELETE")
NEW_REACT: Mapping[str, Any] = {
    "condition": "numeric",
    "numeric_operator": ">",
    "text_operator": "==",
    "status_operator": "==",
    "side": "inside",
    "unit": "m",
    "silence_minutes": "30",
    "check": "0",
    "run": "first",
    "pause": "0",
}
NEW_TIMECONTROL: Mapping[str, Any] = {"schedule": "weekly", "days": list("0123456"), "time": "08:00", "fuzzy": "0"}
NEW_ACTION: Mapping[str, Any] = {"action": "webhook", "method": "POST", "qos": "0"}

_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::[0-9]{2})?")
_WHOLE = re.compile(r"[0-9]{1,9}")


# -- React ------------------------------------------------------------------------------------------------------------


def parse_react(form: Form) -> Watch:
    """The trigger in the form of a React."""
    condition = _parse_condition(form)
    is_silence = isinstance(condition, Silence)
    return Watch(
        condition,
        0 if is_silence else _choice(form, "check", CHECKS, "how often the condition is checked"),
        form.text("run") != "each",
        _whole(form, "pause", "the pause in minutes") * 60,
    )


def _parse_condition(form: Form) -> Condition:
    match form.text("condition"):
        case "numeric":
            operator = _one_of(form, "numeric_operator", NUMBER_OPERATORS)
            return Numeric(
                _field(form, "numeric_field"), operator, _number(form, "value", "the number to compare with")
            )
        case "text":
            return Text(_field(form, "text_field"), _one_of(form, "text_operator", TEXT_OPERATORS), form.text("text"))
        case "status":
            return Status(_one_of(form, "status_operator", TEXT_OPERATORS), form.text("status"))
        case "geofence":
            radius = _number(form, "radius", "the radius") * (1000 if form.text("unit") == "km" else 1)
            latitude, longitude = _number(form, "latitude", "the latitude"), _number(form, "longitude", "the longitude")
            return Geofence(latitude, longitude, radius, form.text("side") != "outside")
        case "silence":
            field = form.text("silence_field")
            minutes = _whole(form, "silence_minutes", "the minutes without data")
            return Silence(minutes, _field(form, "silence_field") if field else None)
    raise BadRequest("choose a condition type")


def react_values(watch: Watch) -> dict[str, Any]:
    """What the form of a React shows for a trigger."""
    values = dict(NEW_REACT) | {
        "check": str(watch.every_min),
        "run": "first" if watch.is_first_only else "each",
        "pause": str(watch.pause_s // 60),
    }
    match watch.condition:
        case Numeric(field, operator, value):
            values |= {"condition": "numeric", "numeric_field": str(field), "numeric_operator": operator}
            values["value"] = f"{value:.15g}"
        case Text(field, text_operator, text):
            values |= {"condition": "text", "text_field": str(field), "text_operator": text_operator, "text": text}
        case Status(text_operator, text):
            values |= {"condition": "status", "status_operator": text_operator, "status": text}
        case Geofence(latitude, longitude, radius_m, is_inside):
            is_km = radius_m >= 1000 and radius_m % 100 == 0
            values |= {"condition": "geofence", "latitude": str(latitude), "longitude": str(longitude)}
            values |= {"radius": f"{radius_m / (1000 if is_km else 1):.15g}", "unit": "km" if is_km else "m"}
            values["side"] = "inside" if is_inside else "outside"
        case Silence(minutes, silent_field):
            values |= {"condition": "silence", "silence_minutes": str(minutes)}
            values["silence_field"] = "" if silent_field is None else str(silent_field)
    return values


# -- TimeControl ------------------------------------------------------------------------------------------------------


def parse_timecontrol(form: Form, now_ns: int, before: Trigger | None) -> Timed:
    """The trigger in the form of a TimeControl. One that goes on every so often keeps its beat if that is the same."""
    return Timed(_parse_schedule(form, now_ns, before), _whole(form, "fuzzy", "the fuzzy time"))


def _parse_schedule(form: Form, now_ns: int, before: Trigger | None) -> Schedule:
    match form.text("schedule"):
        case "once":
            return Once(form.text("at"), form.text("zone"))
        case "every":
            minutes = _whole(form, "every", "how often") * (60 if form.text("every_unit") == "hours" else 1)
            if isinstance(before, Timed) and isinstance(before.schedule, Every) and before.schedule.minutes == minutes:
                return before.schedule
            return Every(minutes, now_ns)
        case "weekly":
            found = _TIME.fullmatch(form.text("time"))
            if found is None:
                raise BadRequest("enter the time of day as hours and minutes, such as 08:30")
            days = tuple(sorted({_day(text) for text in form.values.get("days", ())}))
            return Weekly(days, int(found[1]), int(found[2]), form.text("zone"))
    raise BadRequest("choose a kind of schedule")


def timecontrol_values(timed: Timed) -> dict[str, Any]:
    """What the form of a TimeControl shows for a trigger."""
    values = dict(NEW_TIMECONTROL) | {"fuzzy": str(timed.fuzzy_min)}
    match timed.schedule:
        case Once(at, zone):
            values |= {"schedule": "once", "at": at, "zone": zone}
        case Every(minutes, _):
            is_hours = minutes % 60 == 0
            values |= {"schedule": "every", "every": str(minutes // 60 if is_hours else minutes)}
            values["every_unit"] = "hours" if is_hours else "minutes"
        case Weekly(days, hour, minute, zone):
            values |= {"schedule": "weekly", "days": [str(day) for day in days], "zone": zone}
            values["time"] = f"{hour:02}:{minute:02}"
    return values


# -- actions ----------------------------------------------------------------------------------------------------------


def parse_action(form: Form) -> Action:
    """The action in its form."""
    match form.text("action"):
        case "webhook":
            headers = tuple(_header(line) for line in form.text("headers").splitlines() if line.strip())
            return CallWebhook(form.text("method"), form.text("url"), headers, form.exact("webhook_body"))
        case "publish":
            qos = _whole(form, "qos", "the QoS")
            return Publish(form.text("topic"), form.exact("payload"), qos, form.has("retain"))
        case "mail":
            to = tuple(address.strip() for address in form.text("to").split(",") if address.strip())
            return SendMail(to, form.text("subject"), form.exact("mail_body"))
        case "talkback":
            return QueueCommand(_thing(form, "talkback", "TalkBack"), form.text("command"))
        case "thing_http":
            return CallThingHttp(_thing(form, "thing_http", "ThingHTTP"))
    raise BadRequest("choose what the rule does")


def action_values(action: Action) -> dict[str, Any]:
    """What the form of an action shows."""
    values = dict(NEW_ACTION)
    match action:
        case CallWebhook(method, url, headers, body):
            values |= {"action": "webhook", "method": method, "url": url, "webhook_body": body}
            values["headers"] = "\n".join(f"{name}: {value}" for name, value in headers)
        case Publish(topic, payload, qos, retain):
            values |= {"action": "publish", "topic": topic, "payload": payload, "qos": str(qos), "retain": retain}
        case SendMail(to, subject, body):
            values |= {"action": "mail", "to": ", ".join(to), "subject": subject, "mail_body": body}
        case QueueCommand(talkback_id, command):
            values |= {"action": "talkback", "talkback": str(talkback_id), "command": command}
        case CallThingHttp(thing_http_id):
            values |= {"action": "thing_http", "thing_http": str(thing_http_id)}
    return values


def form_values(form: Form) -> dict[str, Any]:
    """What was sent, to be shown again."""
    values: dict[str, Any] = {name: sent[0] for name, sent in form.values.items() if sent}
    return values | {"days": list(form.values.get("days", ()))}


# -- helpers ----------------------------------------------------------------------------------------------------------


def _number(form: Form, name: str, what: str) -> float:
    try:
        number = float(form.text(name))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadRequest(f"enter {what} as a number")
    return number


def _whole(form: Form, name: str, what: str) -> int:
    text = form.text(name)
    if not _WHOLE.fullmatch(text):
        raise BadRequest(f"enter {what} as a whole number")
    return int(text)


def _field(form: Form, name: str) -> int:
    return _whole(form, name, "the field")


def _choice(form: Form, name: str, choices: Mapping[int, str], what: str) -> int:
    number = _whole(form, name, what)
    if number not in choices:
        raise BadRequest(f"choose {what} from the list")
    return number


def _one_of(form: Form, name: str, choices: tuple[Any, ...]) -> Any:
    text = form.text(name)
    if text not in choices:
        raise BadRequest("choose how to compare from the list")
    return text


def _thing(form: Form, name: str, what: str) -> int:
    if not form.text(name):
        raise BadRequest(f"choose a {what}")
    return parse_id(form.text(name))


def _day(text: str) -> int:
    if text not in tuple("0123456"):
        raise BadRequest("choose days of the week")
    return int(text)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise BadRequest("write each header as “Name: value” in a line of its own")
    return name.strip(), value.strip()
