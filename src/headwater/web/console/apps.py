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
)


class AppsPage:
    """Lists them."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def routes(self) -> list[BaseRoute]:
        return [self._console.get("/apps", self.index)]

    async def index(self, visit: Visit) -> Response:
        return self._console.render(visit, "apps.html", apps=APPS)
