"""What browsers ask before a page of another site may call: `OPTIONS` is answered on every path, as upstream. Knows no
path."""

from __future__ import annotations

from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Receive, Scope, Send


class Preflight(BaseRoute):
    """`OPTIONS` of paths that no other route has taken. It grants a page nothing: cookies do not come with such calls,
    and what the console answers no other site may read."""

    def __init__(self, endpoint: ASGIApp) -> None:
        self._endpoint = endpoint

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_asked = scope["type"] == "http" and scope["method"] == "OPTIONS"
        return (Match.FULL if is_asked else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: object) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(scope, receive, send)
