"""A path of the REST API: takes a request apart, chooses the handler by method, and gives each answer what all of them
has. Knows no channel; the answers' wire form is `web/`'s."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headwater.dialects.thingspeak.errors import (
    METHOD_INVALID,
    Problem,
    problem_of,
    render_problem,
    render_problem_xml,
)
from headwater.dialects.thingspeak.forms import Form
from headwater.dialects.thingspeak.parameters import find_key, parse_parameters
from headwater.dialects.thingspeak.render import to_json
from headwater.errors import HeadwaterError, TooLarge
from headwater.services.update_limits import UpdateTooFast

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, OPTIONS, DELETE, PATCH",
    "Access-Control-Allow-Headers": "origin, content-type, X-Requested-With",
    "Access-Control-Max-Age": "1800",
}
_EVERY_ANSWER = CORS_HEADERS | {"X-Content-Type-Options": "nosniff"}
_AUTHORIZATION = re.compile(r"(?:Token|Bearer) +(\S+) *", re.IGNORECASE)
_CALLBACK = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.]{0,99}", re.ASCII)
"""Of a name that a script may have, and nothing that could do more than be called."""
REFUSED_WRITE, REFUSED_READ = b"0", b"-1"


class Call(NamedTuple):
    """A request, taken apart."""

    path: Mapping[str, str]
    parameters: Mapping[str, str]
    key: str | None
    form: Form
    body: bytes
    """Only where a path takes more than parameters."""

    def respond(self, body: bytes) -> Response:
        """An answer in the form that was asked for; JSON as a call of a function of the page's, where one is named."""
        callback = self.parameters.get("callback", "")
        if self.form is Form.JSON and _CALLBACK.fullmatch(callback):
            return Response(b"%s(%s)" % (callback.encode(), body), media_type="application/javascript")
        return Response(body, media_type=self.form.value)


class KeyRefused(HeadwaterError):
    """No key, or one that does not open this. Shipped clients know the answer by its body, whatever form was asked
    for: 0 to a write, -1 to a read."""

    def __init__(self, body: bytes) -> None:
        super().__init__("The key does not open this.")
        self.body = body


Handler = Callable[[Call], Awaitable[Response]]


class Endpoint:
    """One path: chooses the handler by method, adds the headers of every answer, turns errors into ThingSpeak's form.

    An ASGI application rather than a function, so that every method gets ThingSpeak's own answer.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        max_body_bytes: int,
        form: Form = Form.JSON,
        refusal: bytes | None = None,
        has_own_body: bool = False,
        keeps_body: bool = False,
    ) -> None:
        """`refusal`: what stands for every error, where clients know nothing else. `has_own_body`: the handler reads
        the body itself; parameters are those of the query. `keeps_body`: it gets the body besides the parameters."""
        self._handlers = handlers
        self._max_body_bytes = max_body_bytes
        self._form = form
        self._refusal = refusal
        self._has_own_body = has_own_body
        self._keeps_body = has_own_body or keeps_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return  # nobody is left to be answered; what was taken in is stored all the same
        except HeadwaterError as error:
            response = self.render_error(error)
        await finished(response)(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=200)
        handler = self._handlers.get(request.method)
        if handler is None:
            allowed = ", ".join(self._handlers)
            response = self._render_problem(METHOD_INVALID, f"This path takes {allowed}.")
            response.headers["Allow"] = allowed
            return response
        body = await request.body()
        if len(body) > self._max_body_bytes:
            raise TooLarge(f"The body has {len(body)} bytes; at most {self._max_body_bytes} are taken here.")
        content_type = request.headers.get("content-type", "")
        own_body = body if self._keeps_body else b""
        parameters = parse_parameters(request.scope["query_string"], content_type, b"" if self._has_own_body else body)
        key = find_key(parameters, request.headers.raw) or _authorization_key(request.headers.get("authorization", ""))
        return await handler(Call(request.path_params, parameters, key, self._form, own_body))

    def render_error(self, error: HeadwaterError) -> Response:
        """What went wrong, in the form that this path has."""
        if isinstance(error, KeyRefused):
            return Response(error.body, 400, media_type="text/plain")
        if isinstance(error, UpdateTooFast):  # for every form, as upstream
            return Response(REFUSED_WRITE, 200, media_type="text/plain")
        problem = problem_of(error)
        if self._refusal is not None:
            return Response(self._refusal, problem.status, media_type="text/plain")
        return self._render_problem(problem, str(error))

    def _render_problem(self, problem: Problem, details: str) -> Response:
        if self._form is Form.JSON:
            return Response(to_json(render_problem(problem, details)), problem.status, media_type=Form.JSON.value)
        if self._form is Form.XML:
            return Response(render_problem_xml(problem, details), problem.status, media_type=Form.XML.value)
        return Response(problem.code, problem.status, media_type=Form.TEXT.value)


def finished(response: Response) -> Response:
    """With the headers that every answer has."""
    response.headers.update(_EVERY_ANSWER)
    return response


def _authorization_key(header: str) -> str | None:
    """The key in `Authorization: Token …` or `Bearer …`, as tools send it that know no `api_key`."""
    match = _AUTHORIZATION.fullmatch(header)
    return match[1] if match else None


def json_response(value: object, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")
