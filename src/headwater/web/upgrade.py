"""What another protocol must offer that takes connections over from the HTTP listeners, and what its paths answer to
plain requests. Knows no such protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

_HINT = (
    "This is the address of MQTT over WebSocket: give it to an MQTT client, with ws:// in place of http://, or "
    "wss:// in place of https://.\n"
)
_HEADERS = {"Upgrade": "websocket", "Connection": "Upgrade", "X-Content-Type-Options": "nosniff"}

RawHeaders = Iterable[tuple[bytes, bytes]]


class Upgrade(Protocol):
    """A protocol that begins as an HTTP request."""

    @property
    def paths(self) -> Sequence[str]:
        """Those that are good for nothing else."""

    def wants(self, path: str, headers: RawHeaders) -> bool:
        """Whether a request without a body that asks for an upgrade to WebSocket is meant for it. Header names are in
        lower case."""

    def take_over(
        self, transport: asyncio.Transport, path: str, http_version: str, headers: RawHeaders, received: bytes
    ) -> bool:
        """Answer such a request. True: the transport has another protocol now, which has got `received`, all that came
        after the request. False: the answer was a refusal, and the transport is closing."""


def hint_routes(upgrade: Upgrade) -> list[BaseRoute]:
    """Answers for whoever comes without asking for the upgrade."""

    async def hint(_: Request) -> Response:
        return PlainTextResponse(_HINT, HTTPStatus.UPGRADE_REQUIRED, _HEADERS)

    return [Route(path, hint) for path in upgrade.paths]
