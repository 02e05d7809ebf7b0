"""What a rule may say, and its form as JSON."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from headwater.errors import BadRequest, StorageError
from headwater.services.rules.checking import check_draft
from headwater.services.rules.definitions import (
    Action,
    CallThingHttp,
    CallWebhook,
    Draft,
    Every,
    Geofence,
    Numeric,
    Once,
    Publish,
    QueueCommand,
    SendMail,
    Silence,
    Status,
    Text,
    Timed,
    Trigger,
    Watch,
    Weekly,
    parse_actions,
    parse_trigger,
    render_actions,
    render_trigger,
)

WEBHOOK = CallWebhook("POST", "https://example.org/x?y=%%field1%%", (("X-Key", "k"),), "b")
TRIGGERS: list[Trigger] = [
    Watch(Numeric(1, ">", 5.0)),
    Watch(Text(8, "contains", "")),
    Watch(Status("==", "on"), 10, False, 60),
    Watch(Geofence(52.5, 13.4, 100.0, True)),
    Watch(Silence(10, 3)),
    Timed(Once("2026-03-29T02:30", "Europe/Berlin"), 60),
    Timed(Every(10, 5), 5),
    Timed(Weekly((0, 6), 23, 59, "UTC")),
]
ACTIONS: list[Action] = [
    CallThingHttp(3),
    QueueCommand(4, "OPEN"),
    Publish("a/b", "x\ny", 1, True),
    SendMail(("ada@example.org",), "Hot", "It is\nhot"),
    WEBHOOK,
]


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_what_may_be_said_comes_back_from_json(trigger: Trigger) -> None:
    check_draft(Draft("n", trigger, 1, tuple(ACTIONS)), max_actions=5)
    assert parse_trigger(render_trigger(trigger)) == trigger
    assert parse_actions(render_actions(tuple(ACTIONS))) == tuple(ACTIONS)


def test_what_a_newer_version_says_is_not_misread() -> None:
    for content in (
        b"{}",
        b'{"version":2,"trigger":{}}',
        render_trigger(TRIGGERS[0]).replace(b'"field"', b'"f"'),
        b"x",
    ):
        with pytest.raises(StorageError, match="damaged or of a newer version"):
            parse_trigger(content)
        with pytest.raises(StorageError, match="damaged or of a newer version"):
            parse_actions(content)


@pytest.mark.parametrize(
    ("trigger", "place"),
    [
        (Watch(Numeric(0, ">", 5.0)), "field"),
        (Watch(Text(10_000, "==", "")), "field"),
        (Watch(Numeric(1, ">", float("nan"))), "value"),
        (Watch(Numeric(1, ">", float("inf"))), "value"),
        (Watch(Text(1, "==", "x" * 256)), "text"),
        (Watch(Status("==", "\x00")), "text"),
        (Watch(Geofence(90.1, 0.0, 1.0, True)), "latitude"),
        (Watch(Geofence(0.0, float("nan"), 1.0, True)), "longitude"),
        (Watch(Geofence(0.0, 0.0, 0.0, True)), "radius_m"),
        (Watch(Silence(0)), "minutes"),
        (Watch(Silence(1, 0)), "field"),
        (Watch(Silence(1), 7), "every_min"),
        (Watch(Silence(1), pause_s=-1), "pause_s"),
        (Timed(Once("soon", "UTC")), "at"),
        (Timed(Once("2026-03-29T02:30+01:00", "UTC")), "at"),
        (Timed(Once("9999-03-29T02:30", "UTC")), "at"),
        (Timed(Once("2026-03-29T02:30", "Berlin")), "zone"),
        (Timed(Once("2026-03-29T02:30", "../../etc/passwd")), "zone"),
        (Timed(Every(0, 0)), "minutes"),
        (Timed(Every(9, 0), 5), "fuzzy_min"),
        (Timed(Weekly((), 1, 1, "UTC")), "weekdays"),
        (Timed(Weekly((7,), 1, 1, "UTC")), "weekdays"),
        (Timed(Weekly((1,), 24, 1, "UTC")), "time"),
        (Timed(Weekly((1,), 2, 1, "UTC"), 61), "fuzzy_min"),
    ],
)
def test_triggers_that_cannot_be_are_named(trigger: Trigger, place: str) -> None:
    with pytest.raises(BadRequest, match=f"^{place}\\b"):
        check_draft(Draft("n", trigger, 1), max_actions=5)


@pytest.mark.parametrize(
    ("action", "place"),
    [
        (QueueCommand(1, " "), "command"),
        (QueueCommand(1, "x" * 256), "command"),
        (Publish("a/#", ""), "topic"),
        (Publish("", ""), "topic"),
        (Publish("$SYS/x", ""), "topic"),
        (Publish("a", "", 3), "qos"),
        (SendMail(("ada",), "s", ""), "to"),
        (SendMail(("a@b.c\nBcc: d@e.f",), "s", ""), "to"),
        (SendMail(("a@b.c",) * 11, "s", ""), "to"),
        (SendMail((), "s\nBcc: d@e.f", ""), "subject"),
        (msgspec.structs.replace(WEBHOOK, method="TRACE"), "method"),
        (msgspec.structs.replace(WEBHOOK, url="file:///etc/passwd"), "url"),
        (msgspec.structs.replace(WEBHOOK, url="https://%%field1%%/"), "url"),
        (msgspec.structs.replace(WEBHOOK, url="https://u:p@example.org/"), "url"),
        (msgspec.structs.replace(WEBHOOK, url="https://example.org:x/"), "url"),
        (msgspec.structs.replace(WEBHOOK, url="https://[::1/"), "url"),
        (msgspec.structs.replace(WEBHOOK, url="https://example.org/a b"), "url"),
        (msgspec.structs.replace(WEBHOOK, headers=(("Host", "x"),)), "headers"),
        (msgspec.structs.replace(WEBHOOK, headers=(("X Y", "x"),)), "headers"),
        (msgspec.structs.replace(WEBHOOK, headers=(("X", "a\r\nY: b"),)), "headers"),
        (msgspec.structs.replace(WEBHOOK, body="x" * 16_385), "body"),
    ],
)
def test_actions_that_cannot_be_are_named(action: Action, place: str) -> None:
    with pytest.raises(BadRequest, match=f"^{place}\\b"):
        check_draft(Draft("n", TRIGGERS[0], 1, (action,)), max_actions=5)


def test_a_rule_has_a_name_a_channel_and_not_too_many_actions() -> None:
    draft = Draft("n", TRIGGERS[0], 1, (WEBHOOK,) * 3)
    check_draft(draft, max_actions=3)
    for change, place in (({"name": " "}, "name"), ({"bucket_id": None}, "channel")):
        with pytest.raises(BadRequest, match=f"^{place}\\b"):
            check_draft(replace(draft, **change), max_actions=3)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="at most 2"):
        check_draft(draft, max_actions=2)
