"""The page of apps: what can act on a channel's entries, or be asked by devices."""

from __future__ import annotations

from typing import NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.web.console.console import Console, Visit


class App(NamedTuple):
    """One entry of the page."""

    path: str
    name: str
    what: str
    """A sentence."""


APPS = (
    App(
        "/apps/talkbacks",
        "TalkBack",
        "A queue of commands, which a device asks for one by one, also along with its updates.",
    ),
    App(
        "/apps/thinghttp",
        "ThingHTTP",
        "A request to another server, kept here and sent when a device or a rule says so.",
    ),
    App(
        "/apps/react",
        "React",
        "Does something when a channel's data meet a condition, or when they stay away.",
    ),
    App(
        "/apps/timecontrol",
        "TimeControl",
        "Does something at a time of your choice, once or again and again.",
    ),
    App("/profile/alerts", "Alerts", "Mails that your programs send to you with a key of their own."),
)


class AppsPage:
    """Lists them."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def routes(self) -> list[BaseRoute]:
        return [self._console.get("/apps", self.index)]

    async def index(self, visit: Visit) -> Response:
        return self._console.render(visit, "apps.html", apps=APPS)
