"""What a rule is made of, as values, and their form as JSON. Decides nothing.

Every struct is tagged and takes no unknown member: a later version may add kinds, and an older one says so instead of
misreading them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from headwater.errors import StorageError

NumberOperator: TypeAlias = Literal["<", "<=", ">", ">=", "==", "!="]
TextOperator: TypeAlias = Literal["==", "!=", "contains", "starts with", "ends with"]


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all values here have in common."""


# -- conditions -------------------------------------------------------------------------------------------------------


class Numeric(_Value, frozen=True, tag="numeric"):
    """A field's number compared with another."""

    field: int
    operator: NumberOperator
    value: float


class Text(_Value, frozen=True, tag="text"):
    """A field's text compared with another."""

    field: int
    operator: TextOperator
    text: str


class Status(_Value, frozen=True, tag="status"):
    """An entry's status compared with a text."""

    operator: TextOperator
    text: str


class Geofence(_Value, frozen=True, tag="geofence"):
    """Whether an entry's location lies in a circle, its edge included."""

    latitude: float
    longitude: float
    radius_m: float
    is_inside: bool


class Silence(_Value, frozen=True, tag="silence"):
    """Nothing was received for so long: no entry, or none with the field."""

    minutes: int
    field: int | None = None


Condition: TypeAlias = Numeric | Text | Status | Geofence | Silence


# -- schedules --------------------------------------------------------------------------------------------------------


class Once(_Value, frozen=True, tag="once"):
    """One moment: local time as `2026-03-29T14:30`."""

    at: str
    zone: str


class Every(_Value, frozen=True, tag="every"):
    """Every so many minutes, counted from a moment."""

    minutes: int
    since_ns: int


class Weekly(_Value, frozen=True, tag="weekly"):
    """On some days of the week, 0 is Monday, at one local time."""

    weekdays: tuple[int, ...]
    hour: int
    minute: int
    zone: str


Schedule: TypeAlias = Once | Every | Weekly


# -- triggers ---------------------------------------------------------------------------------------------------------


class Watch(_Value, frozen=True, tag="watch"):
    """Runs when a condition is met on the bucket that the rule watches."""

    condition: Condition
    every_min: int = 0
    """How often the newest entry is looked at; 0: each entry is, when it is stored. Silence is noticed by itself."""
    is_first_only: bool = True
    """Whether it runs only when the condition becomes met, not each time it is found met."""
    pause_s: int = 0
    """The least time between two runs."""


class Timed(_Value, frozen=True, tag="timed"):
    """Runs at the times of a schedule."""

    schedule: Schedule
    fuzzy_min: int = 0
    """Up to so many minutes earlier or later, at random."""


Trigger: TypeAlias = Watch | Timed


# -- actions ----------------------------------------------------------------------------------------------------------


class CallThingHttp(_Value, frozen=True, tag="thing_http"):
    """Send a stored request."""

    thing_http_id: int


class QueueCommand(_Value, frozen=True, tag="talkback"):
    """Append a command to a queue."""

    talkback_id: int
    command: str


class Publish(_Value, frozen=True, tag="publish"):
    """Publish an MQTT message in the account's name."""

    topic: str
    payload: str
    qos: int = 0
    retain: bool = False


class SendMail(_Value, frozen=True, tag="mail"):
    """Send a mail; to nobody in particular means to the account's own address."""

    to: tuple[str, ...]
    subject: str
    body: str


class CallWebhook(_Value, frozen=True, tag="webhook"):
    """Send an HTTP request."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""


Action: TypeAlias = CallThingHttp | QueueCommand | Publish | SendMail | CallWebhook


# -- the rule and its runs --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """What an owner says about a rule."""

    name: str
    trigger: Trigger
    bucket_id: int | None = None
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as the engine follows it. Its actions stay sealed until they are needed."""

    id: int
    account_id: int
    kind: str
    """Which app shows it."""
    name: str
    is_enabled: bool
    bucket_id: int | None
    trigger: Trigger
    sealed_actions: bytes
    created_at: datetime


class ActionResult(_Value, frozen=True):
    """How one action went."""

    what: str
    is_done: bool
    detail: str
    tries: int = 1


Outcome: TypeAlias = Literal["done", "failed", "not done"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a rule."""

    rule_id: int
    at_ns: int
    reason: str
    entry_id: int | None
    is_test: bool
    outcome: Outcome
    duration_ms: int
    results: tuple[ActionResult, ...]


# -- JSON -------------------------------------------------------------------------------------------------------------


class _TriggerV1(msgspec.Struct, frozen=True, tag_field="version", tag=1, forbid_unknown_fields=True):
    trigger: Trigger


class _ActionsV1(msgspec.Struct, frozen=True, tag_field="version", tag=1, forbid_unknown_fields=True):
    actions: tuple[Action, ...]


def render_trigger(trigger: Trigger) -> bytes:
    return msgspec.json.encode(_TriggerV1(trigger))


def parse_trigger(content: bytes) -> Trigger:
    """Raises StorageError for what this version does not know."""
    try:
        return msgspec.json.decode(content, type=_TriggerV1).trigger
    except msgspec.MsgspecError as error:
        raise StorageError(f"a rule is damaged or of a newer version: {error}") from error


def render_actions(actions: tuple[Action, ...]) -> bytes:
    return msgspec.json.encode(_ActionsV1(actions))


def parse_actions(content: bytes) -> tuple[Action, ...]:
    """Raises StorageError for what this version does not know."""
    try:
        return msgspec.json.decode(content, type=_ActionsV1).actions
    except msgspec.MsgspecError:  # its text may hold a part of them
        raise StorageError("a rule's actions are damaged or of a newer version") from None
