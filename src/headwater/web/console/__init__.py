"""The web console: what people see of Headwater in a browser.

One file per concern; `routes` puts them together. A request goes through `console.py` (who asks, is the form genuine),
then to one handler in the file of its pages (what devices of both kinds share is in `device_pages.py`). Pages for
everybody (`open_get`) take a `Visitor`, the others a `Visit` of somebody who is signed in. The console shares
`/channels/` with the ThingSpeak dialect and stays away from that dialect's paths: nothing here ends in an extension, or
in `feeds`, `fields`, `status` or `charts`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute

from headwater.web.console.account_devices import AccountDevicePages
from headwater.web.console.alerts import AlertPages
from headwater.web.console.apps import AppsPage
from headwater.web.console.channel_live import ChannelLive
from headwater.web.console.channels import ChannelPages
from headwater.web.console.chart_options import ChartOptionPages
from headwater.web.console.connections import ConnectionPages
from headwater.web.console.console import Console
from headwater.web.console.data_files import DataFilePages
from headwater.web.console.devices import DeviceList, MqttDevicePages
from headwater.web.console.entries import EntryPages
from headwater.web.console.errors import UNKNOWN_PAGE
from headwater.web.console.options import ConsoleOptions, MqttPorts
from headwater.web.console.pages import WEB_DIRECTORY
from headwater.web.console.profile import ProfilePages
from headwater.web.console.public_view import PublicPages
from headwater.web.console.rollups import RollupPages
from headwater.web.console.rules import FACES, RulePages
from headwater.web.console.security_headers import SECURITY_HEADERS
from headwater.web.console.sharing import SharingPages
from headwater.web.console.sign_in import SignInPages
from headwater.web.console.static_files import static_files
from headwater.web.console.talkbacks import TalkBackPages
from headwater.web.console.thing_https import ThingHttpPages

__all__ = ["Console", "ConsoleOptions", "MqttPorts", "routes", "unknown_page"]


def routes(console: Console) -> list[BaseRoute]:
    """All routes of the console. They need no middleware around them."""
    console.services.access.on_change(console.live.wake_changed)
    channel_pages = ChannelPages(console)

    async def icon(_: Request) -> Response:
        return FileResponse(WEB_DIRECTORY / "static" / "favicon.svg", media_type="image/svg+xml")

    return [
        static_files(),
        console.route("/favicon.ico", icon, "GET"),
        *SignInPages(console).routes(),
        *channel_pages.routes(),
        *ChannelLive(console).routes(),
        *EntryPages(console).routes(),
        *ChartOptionPages(console, channel_pages).routes(),
        *PublicPages(console).routes(),
        *SharingPages(console).routes(),
        *(DataFilePages(console, console.options.files).routes() if console.options.files is not None else ()),
        *RollupPages(console).routes(),
        *DeviceList(console).routes(),
        *MqttDevicePages(console, console.services.devices).routes(),
        *AccountDevicePages(console, console.services.account_devices).routes(),
        *AppsPage(console).routes(),
        *TalkBackPages(console).routes(),
        *ConnectionPages(console).routes(),
        *ThingHttpPages(console).routes(),
        *(route for face in FACES for route in RulePages(console, face).routes()),
        *ProfilePages(console).routes(),
        *AlertPages(console).routes(),
    ]


def unknown_page(console: Console) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint for addresses that nobody else answers. Takes the console that has the routes: it knows who has
    signed out."""

    async def answer(request: Request) -> Response:
        response = console.problem(request, UNKNOWN_PAGE)
        response.headers.update(SECURITY_HEADERS)
        return response

    return answer
