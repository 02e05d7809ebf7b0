"""Filling templates. Knows how a page is put together, not what any page says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from headwater import __version__
from headwater.registry.entities import Account
from headwater.web.console.flash import FLASH_COOKIE, Flashes

WEB_DIRECTORY = Path(__file__).parent.parent
UPLOT_DIRECTORY = "vendor/uplot-1.6.32"
BROWSER_ZONE = "UTC"
"""The zone every account starts with. The console then shows the browser's own zone; who wants UTC picks Etc/UTC."""


class Pages:
    """Turns a template and its values into an answer that no cache keeps."""

    def __init__(
        self, flashes: Flashes, clock: Callable[[], float], *, has_own_ca: bool, is_shared: Callable[[int], bool]
    ) -> None:
        """`is_shared`: whether the channel of an id is shared with somebody by name."""
        self._flashes = flashes
        self._clock = clock
        self._environment = Environment(
            loader=FileSystemLoader(WEB_DIRECTORY / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            version=__version__, uplot=f"/static/{UPLOT_DIRECTORY}", has_own_ca=has_own_ca, is_shared=is_shared
        )
        self._environment.filters.update(
            iso=iso_of,
            iso_ns=iso_of_ns,
            readable=readable_of,
            readable_ns=readable_of_ns,
            clock_ns=clock_of_ns,
            grouped=grouped,
        )

    def render(
        self,
        request: Request,
        template: str,
        *,
        account: Account | None = None,
        csrf: str = "",
        status: int = 200,
        is_visitor: bool = False,
        **values: Any,
    ) -> HTMLResponse:
        """The page of a template. `account` None gives the frame of somebody who is not signed in; `is_visitor`: who
        looks around and may sign in."""
        zone = account.time_zone if account is not None else BROWSER_ZONE
        html = self.fragment(
            template,
            account=account,
            csrf=csrf,
            is_visitor=is_visitor,
            path=request.url.path,
            flash=self._flashes.take(request),
            time_zone="" if zone == BROWSER_ZONE else zone,
            now_ns=int(self._clock() * 1e9),
            **values,
        )
        response = HTMLResponse(html, status, headers={"Cache-Control": "no-store"})
        if FLASH_COOKIE in request.cookies:
            self._flashes.clear(response)
        return response

    def fragment(self, template: str, **values: Any) -> str:
        """A template by itself, for a script that puts it into a page; escaped as in the page."""
        return self._environment.get_template(template).render(**values)


def iso_of(at: datetime) -> str:
    """A time for machines: the browser's scripts turn it into the reader's own zone."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_of_ns(at_ns: int) -> str:
    return iso_of(datetime.fromtimestamp(at_ns // 1_000_000_000, UTC))


def readable_of(at: datetime) -> str:
    """A time for people whose browser runs no scripts."""
    return at.astimezone(UTC).strftime("%-d %b %Y, %H:%M UTC")


def readable_of_ns(at_ns: int) -> str:
    return readable_of(datetime.fromtimestamp(at_ns // 1_000_000_000, UTC))


def clock_of_ns(at_ns: int) -> str:
    """The time of day."""
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%H:%M:%S UTC")


def grouped(number: int) -> str:
    """A count with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")
