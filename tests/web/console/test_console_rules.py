"""React and TimeControl in the console: made, shown, tried, changed and deleted, without a script."""

from __future__ import annotations

from dataclasses import replace

import pytest
from console_site import Browser, Site, until

from headwater.registry.entities import Account
from headwater.services.rules.carriers import Carriers
from headwater.services.rules.definitions import (
    Action,
    CallThingHttp,
    CallWebhook,
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
)
from headwater.web.console import rule_forms as forms
from headwater.web.console.forms import Form
from headwater.web.console.rule_words import check_words, trigger_words

REACT = {
    "name": "Too hot",
    "condition": "numeric",
    "numeric_field": "1",
    "numeric_operator": ">",
    "value": "30.5",
    "check": "0",
    "run": "first",
    "pause": "5",
}
TIMECONTROL = {
    "name": "Morning",
    "schedule": "weekly",
    "days": ["0", "6"],
    "time": "08:30",
    "zone": "Europe/Berlin",
    "fuzzy": "5",
}
PUBLISH = {"action": "publish", "topic": "alarms", "payload": "hot: %%field1%%", "qos": "1", "retain": "yes"}
TRIGGERS: list[Trigger] = [
    Watch(Numeric(3, "<=", -0.25), 10, False, 3600),
    Watch(Text(1, "starts with", "on")),
    Watch(Status("!=", "ok")),
    Watch(Geofence(52.5, 13.4, 2500.0, False)),
    Watch(Geofence(52.5, 13.4, 12.5, True)),
    Watch(Silence(90)),
    Watch(Silence(90, 2)),
    Timed(Once("2026-03-29T02:30", "Europe/Berlin"), 15),
    Timed(Every(120, 7)),
    Timed(Every(45, 7), 10),
    Timed(Weekly((0, 6), 8, 5, "UTC")),
]
ACTIONS: list[Action] = [
    CallThingHttp(3),
    QueueCommand(4, "OPEN"),
    Publish("a/b", "x", 1, True),
    SendMail(("ada@example.org", "bob@example.org"), "Hot", "It is\nhot"),
    CallWebhook("PUT", "https://example.org/x", (("X-Key", "a:b"), ("Accept", "*/*")), "body"),
]


def as_form(values: dict[str, object]) -> Form:
    texts = {name: [str(value)] for name, value in values.items() if value is not False and name != "days"}
    return Form(texts | {"days": values.get("days", [])})  # type: ignore[operator]


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_trigger_comes_back_from_its_form(trigger: Trigger) -> None:
    if isinstance(trigger, Watch):
        assert forms.parse_react(as_form(forms.react_values(trigger))) == trigger
        assert check_words(trigger)
    else:
        assert forms.parse_timecontrol(as_form(forms.timecontrol_values(trigger)), 99, trigger) == trigger
    assert trigger_words(trigger, None)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_comes_back_from_its_form(action: Action) -> None:
    assert forms.parse_action(as_form(forms.action_values(action))) == action


async def test_from_no_react_to_one_that_runs_and_back(site: Site, ada: Browser, ada_account: Account) -> None:
    channel = await site.channel(ada_account, "Green house")
    assert "Make your first React" in (await ada.get("/apps/react")).text
    assert f'href="/apps/react?channel={channel.id}"' in (await ada.get(f"/channels/{channel.id}")).text
    page = (await ada.get(f"/apps/react/new?channel={channel.id}")).text
    assert "Field 1: Temperature" in page
    response = await ada.post("/apps/react/new", REACT | {"channel": channel.id})
    assert "Now say what it does" in (await ada.follow(response)).text
    (rule,) = await site.services.rules.owned(ada_account.id)
    assert rule.trigger == Watch(Numeric(1, ">", 30.5), 0, True, 300)
    one = f"/apps/react/{rule.id}"
    assert "It does nothing yet: add an action." in (await ada.get(one)).text
    page = (await ada.follow(await ada.post(f"{one}/actions/new", PUBLISH))).text
    assert "MQTT alarms" in page
    assert "Field 1 (Temperature) is greater than 30.5" in page
    assert "runs only the first time the condition is met, at most every 5 minutes" in page

    await site.write(channel, field1="31")
    await until(lambda: site.services.rules.journal.state_of(rule.id).failures == 1)  # nobody publishes here
    page = (await ada.get(one)).text
    assert "field1 is “31” (&gt; 30.5)" in page
    assert "this server cannot publish for rules" in page
    assert "1 failed" in page
    page = (await ada.follow(await ada.post(f"{one}/test"))).text
    assert "The test failed: this server cannot publish for rules." in page
    assert '<span class="badge">Test</span>' in page

    assert 'value="30.5"' in (await ada.get(f"{one}/edit")).text
    changed = REACT | {"channel": channel.id, "name": "<b>Hot</b>", "condition": "silence", "silence_minutes": "90"}
    page = (await ada.follow(await ada.post(f"{one}/edit", changed))).text
    assert "&lt;b&gt;Hot&lt;/b&gt;" in page
    assert "No data for 90 minutes" in page
    assert 'value="alarms"' in (await ada.get(f"{one}/actions/0")).text
    page = (await ada.follow(await ada.post(f"{one}/actions/0", PUBLISH | {"topic": "other"}))).text
    assert "MQTT other" in page
    assert "is disabled" in (await ada.follow(await ada.post(f"{one}/disable"))).text
    assert "is enabled" in (await ada.follow(await ada.post(f"{one}/enable"))).text
    assert "does nothing yet" in (await ada.follow(await ada.post(f"{one}/actions/0/delete"))).text
    assert "was deleted" in (await ada.follow(await ada.post(f"{one}/delete"))).text
    assert await site.services.rules.owned(ada_account.id) == []


async def test_a_timecontrol_shows_its_next_time(site: Site, ada: Browser, ada_account: Account) -> None:
    assert 'name="zone" value="UTC"' in (await ada.get("/apps/timecontrol/new")).text
    page = (await ada.follow(await ada.post("/apps/timecontrol/new", TIMECONTROL))).text
    (rule,) = await site.services.rules.owned(ada_account.id, kind="timecontrol")
    assert rule.trigger == Timed(Weekly((0, 6), 8, 30, "Europe/Berlin"), 5)
    await ada.follow(await ada.post(f"/apps/timecontrol/{rule.id}/actions/new", PUBLISH))
    page = (await ada.get(f"/apps/timecontrol/{rule.id}")).text
    assert "Monday, Sunday at 08:30 (Europe/Berlin), up to 5 minutes off" in page
    assert "Next: <time" in page
    assert "Morning" in (await ada.get("/apps/timecontrol")).text
    assert "Make your first React" in (await ada.get("/apps/react")).text
    assert (await ada.get(f"/apps/react/{rule.id}")).status_code == 404


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": " "}, "Name must not be empty."),
        ({"channel": ""}, "Channel: choose the channel that the rule watches."),
        ({"condition": "x"}, "Choose a condition type."),
        ({"value": "hot"}, "Enter the number to compare with as a number."),
        ({"value": "nan"}, "Enter the number to compare with as a number."),
        ({"numeric_field": "9999"}, "Field: a number from 1 to"),
        ({"numeric_operator": "~"}, "Choose how to compare from the list."),
        ({"check": "5"}, "Choose how often the condition is checked from the list."),
        ({"pause": "-1"}, "Enter the pause in minutes as a whole number."),
    ],
)
async def test_a_react_that_cannot_be_is_refused(
    site: Site, ada: Browser, ada_account: Account, change: dict[str, str], message: str
) -> None:
    channel = await site.channel(ada_account)
    await ada.get("/apps/react/new")
    response = await ada.post("/apps/react/new", REACT | {"channel": channel.id} | change)
    assert response.status_code == 400
    assert message in response.text
    assert change.get("value", "30.5") in response.text  # what was typed is still there
    assert await site.services.rules.owned(ada_account.id) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "x"}, "Choose a kind of schedule."),
        ({"days": []}, "Weekdays: choose at least one day of the week."),
        ({"days": ["7"]}, "Choose days of the week."),
        ({"time": "late"}, "Enter the time of day as hours and minutes"),
        ({"zone": "Berlin"}, "the time zone must be an IANA name"),
        ({"schedule": "once", "at": "soon"}, "At: a date and a time of day"),
        ({"schedule": "every", "every": "0"}, "Minutes: from 1 to"),
        ({"fuzzy": "90"}, "from 0 to 60"),
    ],
)
async def test_a_timecontrol_that_cannot_be_is_refused(
    site: Site, ada: Browser, ada_account: Account, change: dict[str, object], message: str
) -> None:
    await ada.get("/apps/timecontrol/new")
    response = await ada.post("/apps/timecontrol/new", TIMECONTROL | change)
    assert response.status_code == 400
    assert message in response.text


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"action": "x"}, "Choose what the rule does."),
        (PUBLISH | {"topic": "#"}, "Topic: a topic name holds a wildcard."),
        ({"action": "webhook", "method": "POST", "url": "example.org"}, "Url: a full web address"),
        ({"action": "webhook", "method": "POST", "url": "https://a.b", "headers": "X"}, "Write each header as"),
        ({"action": "mail", "to": "ada", "subject": "s"}, "such as ada@example.org."),
        ({"action": "talkback", "command": "x"}, "Choose a TalkBack."),
        ({"action": "talkback", "talkback": "5", "command": "x"}, "This server has no TalkBack."),
    ],
)
async def test_an_action_that_cannot_be_is_refused(
    site: Site, ada: Browser, ada_account: Account, form: dict[str, str], message: str
) -> None:
    await ada.get("/apps/timecontrol/new")
    await ada.follow(await ada.post("/apps/timecontrol/new", TIMECONTROL))
    (rule,) = await site.services.rules.owned(ada_account.id)
    path = f"/apps/timecontrol/{rule.id}/actions"
    response = await ada.post(f"{path}/new", form)
    assert response.status_code == 400
    assert message in response.text
    assert (await ada.get(f"{path}/0")).status_code == 404


async def test_talkbacks_and_things_are_offered_where_there_are_any(
    site: Site, ada: Browser, ada_account: Account
) -> None:
    async def names(account_id: int) -> dict[int, str]:
        return {5: f"of {account_id}"}

    rules = site.services.rules
    await ada.get("/apps/timecontrol/new")
    await ada.follow(await ada.post("/apps/timecontrol/new", TIMECONTROL))
    (rule,) = await rules.owned(ada_account.id)
    path = f"/apps/timecontrol/{rule.id}/actions/new"
    assert "TalkBack command" not in (await ada.get(path)).text
    rules.runner.carriers = replace(Carriers(), talkback_names=names, thing_http_names=names)
    page = (await ada.get(path)).text
    assert page.count(f'<option value="5">of {ada_account.id}</option>') == 2
    form = {"action": "talkback", "talkback": "5", "command": "OPEN"}
    assert f"TalkBack 5 (of {ada_account.id})" in (await ada.follow(await ada.post(path, form))).text
    assert f"TalkBack 5 (of {ada_account.id})" in (await ada.get("/apps/timecontrol")).text


async def test_the_limit_of_rules_is_told(site: Site, ada: Browser, ada_account: Account) -> None:
    await ada.get("/apps/timecontrol/new")
    for _ in range(5):
        await ada.post("/apps/timecontrol/new", TIMECONTROL)
    response = await ada.post("/apps/timecontrol/new", TIMECONTROL)
    assert "An account may have at most 5 rules." in response.text


@pytest.mark.parametrize("path", ["/apps/react", "/apps/timecontrol", "/apps/thinghttp", "/apps/talkbacks"])
async def test_the_list_of_an_app_leads_back_to_all_apps(ada: Browser, path: str) -> None:
    page = (await ada.get(path)).text
    assert '<p class="crumb"><a href="/apps">Apps</a></p>' in page
    assert f'<a href="{path}">' in (await ada.get("/apps")).text
