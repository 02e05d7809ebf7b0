"""ThingHTTP over REST: a key runs its stored request and gets that request's answer."""

from __future__ import annotations

import re

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from headwater.dialects.thingspeak.endpoint import REFUSED_READ, Call, Endpoint, KeyRefused
from headwater.dialects.thingspeak.forms import Form
from headwater.services import Services
from headwater.services.outbound import OutboundAnswer, OutboundFailed

MAX_BODY_BYTES = 65_536
_CHARSET = re.compile(r"charset=\"?([A-Za-z0-9._-]{1,40})", re.IGNORECASE)
_ISOLATED = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "no-store"}
"""What a foreign server answers must not act in the name of this one, whatever a browser takes it for."""


class ThingHttpCalls:
    """The handler takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services) -> None:
        self._thing_https = services.thing_https

    async def send(self, call: Call) -> Response:
        """The foreign answer's body, with status 200. A key that runs nothing is told like one that reads nothing; when
        no answer comes, the reason is told with 502."""
        thing_http = await self._thing_https.of_key(call.key) if call.key else None
        if thing_http is None:
            raise KeyRefused(REFUSED_READ)
        try:
            answer = await self._thing_https.run(thing_http.account_id, thing_http.id)
        except OutboundFailed as error:
            return Response(f"{error}\n", 502, _ISOLATED, media_type="text/plain")
        return Response(answer.body, headers=_ISOLATED | {"Content-Type": _shown_type(answer)})


def _shown_type(answer: OutboundAnswer) -> str:
    """JSON stays JSON; everything else is plain text, pages with scripts too."""
    kind = answer.content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return "application/json"
    charset = _CHARSET.search(answer.content_type)
    return f"text/plain; charset={charset[1] if charset else 'utf-8'}"


def thing_http_routes(services: Services) -> list[BaseRoute]:
    calls = ThingHttpCalls(services)
    endpoint = Endpoint(dict.fromkeys(("GET", "POST"), calls.send), MAX_BODY_BYTES, Form.TEXT)
    return [Route("/apps/thinghttp/send_request", endpoint)]
