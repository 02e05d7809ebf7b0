"""React and TimeControl: the two faces of rules, with their actions, a Test button and a history.

Both are the same pages with another form. A rule of one face is not there under the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, Conflict, NotFound
from headwater.model.entry import FIELD_NUMBERS
from headwater.registry.entities import Channel
from headwater.services.rules import checking
from headwater.services.rules.definitions import Action, Draft, Rule, Timed, Trigger, Watch
from headwater.services.rules.placeholders import NAMES
from headwater.services.rules.rules import RuleReport, Things
from headwater.web.console import rule_forms as forms
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import sentence_of
from headwater.web.console.forms import parse_id
from headwater.web.console.rule_words import action_words, check_words, trigger_words


@dataclass(frozen=True, slots=True)
class Face:
    """What one of the two apps is called, and where it is."""

    kind: str
    path: str
    name: str
    lead: str


REACT = Face("react", "/apps/react", "React", "Acts on the data of a channel, or when no data comes")
TIMECONTROL = Face("timecontrol", "/apps/timecontrol", "TimeControl", "Acts at a time, once or again and again")
FACES = (REACT, TIMECONTROL)


@dataclass(frozen=True, slots=True)
class _Card:
    """A rule as the pages show it."""

    report: RuleReport
    channel: Channel | None
    when: str
    check: str
    actions: list[str]

    @property
    def rule(self) -> Rule:
        return self.report.rule


class RulePages:
    """The pages of one face."""

    def __init__(self, console: Console, face: Face) -> None:
        self._console = console
        self._rules = console.services.rules
        self._access = console.services.access
        self._face = face

    def routes(self) -> list[BaseRoute]:
        get, post = self._console.get, self._console.post
        root, one = self._face.path, f"{self._face.path}/{{rule_id:int}}"
        action = f"{one}/actions/{{position:int}}"
        return [
            get(root, self.index),
            get(f"{root}/new", self.new),
            post(f"{root}/new", self.create),
            get(one, self.show),
            get(f"{one}/edit", self.edit),
            post(f"{one}/edit", self.save),
            post(f"{one}/enable", self.enable),
            post(f"{one}/disable", self.disable),
            post(f"{one}/test", self.test),
            post(f"{one}/delete", self.delete),
            get(f"{one}/actions/new", self.new_action),
            post(f"{one}/actions/new", self.add_action),
            get(action, self.edit_action),
            post(action, self.save_action),
            post(f"{action}/delete", self.delete_action),
        ]

    # -- the list and one rule --------------------------------------------------------------------------------

    async def index(self, visit: Visit) -> Response:
        channel = self._channel_in_query(visit)
        rules = await self._rules.owned(
            visit.account.id, kind=self._face.kind, bucket_id=None if channel is None else channel.id
        )
        things = await self._rules.things(visit.account.id)
        cards = [await self._card(rule, things) for rule in rules]
        return self._render(visit, "rules.html", cards=cards, channel=channel, faces=FACES)

    async def show(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        history = await self._rules.history(visit.account.id, rule.id)
        card = await self._card(rule, await self._rules.things(visit.account.id))
        problem = sentence_of(card.report.problem)
        return self._render(visit, "rule.html", card=card, problem=problem, history=history)

    async def test(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        run = await self._rules.test(visit.account.id, rule.id)
        if run.outcome == "done":
            return self._to_rule(visit, rule, "The test went well.")
        reasons = "; ".join(result.detail for result in run.results if not result.is_done)
        text = f"The test failed: {reasons}" if run.results else "There was nothing to do: add an action."
        return self._console.redirect(visit, self._path(rule), sentence_of(text), "note")

    async def enable(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        await self._rules.set_enabled(visit.account.id, rule.id, True)
        return self._to_rule(visit, rule, f"The {self._face.name} is enabled.")

    async def disable(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        await self._rules.set_enabled(visit.account.id, rule.id, False)
        return self._to_rule(visit, rule, f"The {self._face.name} is disabled.")

    async def delete(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        await self._rules.delete(visit.account.id, rule.id)
        return self._console.redirect(visit, self._face.path, f"{rule.name} was deleted.", "note")

    # -- what it watches, or when it is due -------------------------------------------------------------------

    async def new(self, visit: Visit) -> Response:
        channel = self._channel_in_query(visit)
        values = {"channel": "" if channel is None else str(channel.id)}
        return self._form(visit, None, self._new_values(visit) | values)

    async def create(self, visit: Visit) -> Response:
        try:
            rule = await self._rules.create(visit.account.id, self._face.kind, self._parse(visit, None))
        except (BadRequest, Conflict) as error:
            return self._form(visit, None, forms.form_values(visit.form), sentence_of(str(error)), 400)
        return self._console.redirect(visit, f"{self._path(rule)}/actions/new", "Saved. Now say what it does.")

    async def edit(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        values = {"name": rule.name, "channel": "" if rule.bucket_id is None else str(rule.bucket_id)}
        return self._form(visit, rule, self._new_values(visit) | _values_of(rule.trigger) | values)

    async def save(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        try:
            await self._rules.update(visit.account.id, rule.id, self._parse(visit, rule))
        except BadRequest as error:
            return self._form(visit, rule, forms.form_values(visit.form), sentence_of(str(error)), 400)
        return self._to_rule(visit, rule, "Saved.")

    def _parse(self, visit: Visit, rule: Rule | None) -> Draft:
        form = visit.form
        actions = () if rule is None else self._rules.actions_of(rule)
        if self._face is TIMECONTROL:
            now_ns = int(self._console.options.clock() * 1e9)
            trigger: Trigger = forms.parse_timecontrol(form, now_ns, None if rule is None else rule.trigger)
            return Draft(form.text("name"), trigger, None, actions)
        channel_id = parse_id(form.text("channel")) if form.text("channel") else None
        return Draft(form.text("name"), forms.parse_react(form), channel_id, actions)

    def _new_values(self, visit: Visit) -> dict[str, Any]:
        if self._face is TIMECONTROL:
            return {**forms.NEW_TIMECONTROL, "zone": visit.account.time_zone}
        return dict(forms.NEW_REACT)

    def _form(
        self, visit: Visit, rule: Rule | None, values: Mapping[str, Any], error: str = "", status: int = 200
    ) -> Response:
        channels = self._access.channels_of(visit.account.id)
        chosen = next((one for one in channels if str(one.id) == values.get("channel")), None)
        if chosen is None and len(channels) == 1:
            chosen = channels[0]
        return self._render(
            visit,
            "rule_form.html",
            status,
            rule=rule,
            values=values,
            error=error,
            channels=channels,
            chosen=chosen,
            field_numbers=chosen.settings.numbers if chosen else FIELD_NUMBERS,
            forms=forms,
            limits=checking,
        )

    # -- what it does -----------------------------------------------------------------------------------------

    async def new_action(self, visit: Visit) -> Response:
        return await self._action_form(visit, await self._owned(visit), None, forms.NEW_ACTION)

    async def add_action(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        return await self._save_action(visit, rule, None)

    async def edit_action(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        position = self._position(visit, rule)
        return await self._action_form(visit, rule, position, forms.action_values(self._actions(rule)[position]))

    async def save_action(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        return await self._save_action(visit, rule, self._position(visit, rule))

    async def delete_action(self, visit: Visit) -> Response:
        rule = await self._owned(visit)
        actions = self._actions(rule)
        del actions[self._position(visit, rule)]
        await self._update_actions(rule, actions)
        return self._to_rule(visit, rule, "The action was removed.")

    async def _save_action(self, visit: Visit, rule: Rule, position: int | None) -> Response:
        actions = self._actions(rule)
        try:
            action = forms.parse_action(visit.form)
            if position is None:
                actions.append(action)
            else:
                actions[position] = action
            await self._update_actions(rule, actions)
        except BadRequest as error:
            message = sentence_of(str(error).removeprefix("actions: "))
            return await self._action_form(visit, rule, position, forms.form_values(visit.form), message, 400)
        return self._to_rule(visit, rule, "Saved.")

    async def _update_actions(self, rule: Rule, actions: list[Action]) -> None:
        draft = Draft(rule.name, rule.trigger, rule.bucket_id, tuple(actions))
        await self._rules.update(rule.account_id, rule.id, draft)

    async def _action_form(
        self,
        visit: Visit,
        rule: Rule,
        position: int | None,
        values: Mapping[str, Any],
        error: str = "",
        status: int = 200,
    ) -> Response:
        things = await self._rules.things(visit.account.id)
        return self._render(
            visit,
            "rule_action.html",
            status,
            rule=rule,
            position=position,
            values=values,
            error=error,
            things=things,
            placeholders=NAMES,
            forms=forms,
            limits=checking,
        )

    # -- helpers ----------------------------------------------------------------------------------------------

    async def _owned(self, visit: Visit) -> Rule:
        rule = await self._rules.get_owned(visit.account.id, visit.path_id("rule_id"))
        if rule.kind != self._face.kind:
            raise NotFound(f"there is no rule {rule.id}")
        return rule

    def _actions(self, rule: Rule) -> list[Action]:
        return list(self._rules.actions_of(rule))

    def _position(self, visit: Visit, rule: Rule) -> int:
        position = visit.path_id("position")
        if position >= len(self._actions(rule)):
            raise NotFound("there is no such action")
        return position

    def _channel_in_query(self, visit: Visit) -> Channel | None:
        """The account's channel that the address names, if it names one."""
        text = visit.request.query_params.get("channel", "")
        owned = self._access.channels_of(visit.account.id)
        return next((channel for channel in owned if str(channel.id) == text), None)

    async def _card(self, rule: Rule, things: Things) -> _Card:
        report = await self._rules.report(rule)
        channel = None if rule.bucket_id is None else self._access.channel(rule.bucket_id)
        check = check_words(rule.trigger) if isinstance(rule.trigger, Watch) else ""
        actions = [action_words(action, things) for action in report.actions]
        return _Card(report, channel, trigger_words(rule.trigger, channel), check, actions)

    def _render(self, visit: Visit, template: str, status: int = 200, **values: Any) -> Response:
        return self._console.render(visit, template, status, face=self._face, **values)

    def _path(self, rule: Rule) -> str:
        return f"{self._face.path}/{rule.id}"

    def _to_rule(self, visit: Visit, rule: Rule, text: str) -> Response:
        return self._console.redirect(visit, self._path(rule), text)


def _values_of(trigger: Trigger) -> dict[str, Any]:
    return forms.timecontrol_values(trigger) if isinstance(trigger, Timed) else forms.react_values(trigger)
