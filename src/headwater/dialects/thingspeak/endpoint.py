"""A path of the REST API: takes a request apart, chooses the handler by method, and gives each answer what all of them
has. Knows no channel; the answers' wire form is `web/`'s."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headwater.dialects.thingspeak.errors import METHOD_INVALID, problem_of, render_problem
from headwater.dialects.thingspeak.parameters import find_key, parse_parameters
from headwater.dialects.thingspeak.render import to_json
from headwater.errors import HeadwaterError, TooLarge

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, OPTIONS, DELETE, PATCH",
    "Access-Control-Allow-Headers": "origin, content-type, X-Requested-With",
    "Access-Control-Max-Age": "1800",
}
_EVERY_ANSWER = CORS_HEADERS | {"X-Content-Type-Options": "nosniff"}
_AUTHORIZATION = re.compile(r"(?:Token|Bearer) +(\S+) *", re.IGNORECASE)
_REFUSED_WRITE, _REFUSED_READ = b"0", b"-1"


class Call(NamedTuple):
    """A request, taken apart."""

    path: Mapping[str, str]
    parameters: Mapping[str, str]
    key: str | None


Handler = Callable[[Call], Awaitable[Response]]


class Endpoint:
    """One path: chooses the handler by method, adds the headers of every answer, turns errors into ThingSpeak's form.

    An ASGI application rather than a function, so that every method gets ThingSpeak's own answer.
    """

    def __init__(self, handlers: Mapping[str, Handler], max_body_bytes: int, is_text: bool = False) -> None:
        self._handlers = handlers
        self._max_body_bytes = max_body_bytes
        self._is_text = is_text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return  # nobody is left to be answered; what was taken in is stored all the same
        except HeadwaterError as error:
            response = self._render_error(error)
        response.headers.update(_EVERY_ANSWER)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=200)
        handler = self._handlers.get(request.method)
        if handler is None:
            allowed = ", ".join(self._handlers)
            problem = render_problem(METHOD_INVALID, f"This path takes {allowed}.")
            return Response(to_json(problem), METHOD_INVALID.status, {"Allow": allowed}, "application/json")
        body = await request.body()
        if len(body) > self._max_body_bytes:
            raise TooLarge(f"The body has {len(body)} bytes; at most {self._max_body_bytes} are taken here.")
        content_type = request.headers.get("content-type", "")
        parameters = parse_parameters(request.scope["query_string"], content_type, body)
        key = find_key(parameters, request.headers.raw) or _authorization_key(request.headers.get("authorization", ""))
        return await handler(Call(request.path_params, parameters, key))

    def _render_error(self, error: HeadwaterError) -> Response:
        problem = problem_of(error)
        if self._is_text:
            return Response(_REFUSED_WRITE, problem.status, media_type="text/plain")
        return Response(to_json(render_problem(problem, str(error))), problem.status, media_type="application/json")


def _authorization_key(header: str) -> str | None:
    """The key in `Authorization: Token …` or `Bearer …`, as tools send it that know no `api_key`."""
    match = _AUTHORIZATION.fullmatch(header)
    return match[1] if match else None


def json_response(value: object) -> Response:
    return Response(to_json(value), media_type="application/json")


def refuse_write() -> Response:
    """Without a key that may write."""
    return Response(_REFUSED_WRITE, 400, media_type="text/plain")


def refuse_read() -> Response:
    """Without a key that may read."""
    return Response(_REFUSED_READ, 400, media_type="text/plain")
