"""Down-sampling of a channel: its rules, how far they are, a new one, and one less."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, Conflict
from headwater.services.rollup_computing import FUNCTIONS
from headwater.store.aggregates import Function
from headwater.web.console.channel_form import is_web_address
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import sentence_of
from headwater.web.console.forms import Form

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
YEAR_S = 365 * DAY_S
WINDOWS = {
    MINUTE_S: "1 minute",
    5 * MINUTE_S: "5 minutes",
    10 * MINUTE_S: "10 minutes",
    15 * MINUTE_S: "15 minutes",
    30 * MINUTE_S: "30 minutes",
    HOUR_S: "1 hour",
    3 * HOUR_S: "3 hours",
    6 * HOUR_S: "6 hours",
    12 * HOUR_S: "12 hours",
    DAY_S: "1 day",
}
KEEP = {
    0: "for ever",
    30 * DAY_S: "30 days",
    90 * DAY_S: "90 days",
    YEAR_S: "1 year",
    2 * YEAR_S: "2 years",
    5 * YEAR_S: "5 years",
    10 * YEAR_S: "10 years",
}
USUAL_WINDOW_S = HOUR_S
USUAL_FUNCTIONS = (Function.MEAN, Function.MIN, Function.MAX)


class RollupPages:
    """The page of one channel's rules."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._channels = console.services.channels
        self._rollups = console.services.rollups

    def routes(self) -> list[BaseRoute]:
        get, post = self._console.get, self._console.post
        one = "/channels/{channel_id:int}/down-sampling"
        return [
            get(one, self.show),
            post(one, self.add),
            post(f"{one}/{{rollup_id:int}}/delete", self.remove),
        ]

    async def show(self, visit: Visit) -> Response:
        return await self._page(visit, Form())

    async def add(self, visit: Visit) -> Response:
        channel = await self._channels.get_owned(visit.account.id, visit.path_id("channel_id"))
        form = visit.form
        try:
            await self._rollups.add(
                visit.account.id,
                channel.id,
                window_s=_choice(form.text("window"), WINDOWS),
                functions=_functions_of(form),
                keep_s=_choice(form.text("keep"), KEEP) or None,
            )
        except (BadRequest, Conflict) as error:
            return await self._page(visit, form, sentence_of(str(error)), 400)
        return self._to_page(visit, "Down-sampling has begun, with all that is stored.")

    async def remove(self, visit: Visit) -> Response:
        channel_id, rollup_id = visit.path_id("channel_id"), visit.path_id("rollup_id")
        await self._rollups.remove(visit.account.id, channel_id, rollup_id)
        return self._to_page(visit, "The rule and its results were deleted.")

    async def _page(self, visit: Visit, form: Form, error: str = "", status: int = 200) -> Response:
        channel = await self._channels.get_owned(visit.account.id, visit.path_id("channel_id"))
        links = [link for link in (channel.settings.url, channel.settings.github_url) if is_web_address(link)]
        ticked = set(form.values.get("aggregate", ())) if form.has("window") else set(USUAL_FUNCTIONS)
        return self._console.render(
            visit,
            "channel_rollups.html",
            status=status,
            channel=channel,
            tab="rollups",
            links=links,
            reports=await self._rollups.reports(visit.account.id, channel.id),
            window_names=WINDOWS,
            keep_names=KEEP,
            functions=[function.value for function in FUNCTIONS],
            window=form.text("window") or str(USUAL_WINDOW_S),
            keep=form.text("keep") or "0",
            ticked=ticked,
            error=error,
        )

    def _to_page(self, visit: Visit, text: str) -> Response:
        return self._console.redirect(visit, f"/channels/{visit.path_id('channel_id')}/down-sampling", text)


def _choice(text: str, choices: dict[int, str]) -> int:
    """One of the values that a list offers."""
    for value in choices:
        if text == str(value):
            return value
    raise BadRequest("choose a window and a time to keep from the lists")


def _functions_of(form: Form) -> list[Function]:
    names = form.values.get("aggregate", ())
    if not names or not set(names) <= {function.value for function in FUNCTIONS}:
        raise BadRequest("choose at least one aggregate")
    return [Function(name) for name in names]
