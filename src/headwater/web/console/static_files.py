"""Style sheets, scripts and pictures. Knows how long a browser may keep which."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from headwater.web.console.pages import WEB_DIRECTORY
from headwater.web.console.security_headers import SecurityHeaders

_FOREVER = "public, max-age=31536000, immutable"
_ASK_FIRST = "no-cache"


class CachedFiles(StaticFiles):
    """Vendored files carry their version in the path and never change; for ours the browser asks again each time."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _FOREVER if path.startswith("vendor/") else _ASK_FIRST
        return response


def static_files() -> Mount:
    """Everything under `/static/`."""
    return Mount("/static", app=SecurityHeaders(CachedFiles(directory=WEB_DIRECTORY / "static")))
