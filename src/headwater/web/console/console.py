"""The edge of every console page: who asks, may they, is the form genuine, and how an error is shown.

Handlers behind it take a `Visit`, raise `HeadwaterError` when they cannot do what was asked, and know no cookie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit
from zoneinfo import available_timezones

import msgspec
from starlette.datastructures import URL
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from headwater.errors import HeadwaterError, NotFound
from headwater.registry.entities import Account
from headwater.services import Services
from headwater.web.console.csrf import FORM_FIELD, Csrf
from headwater.web.console.errors import METHOD_NOT_ALLOWED, Problem, headers_of, problem_of
from headwater.web.console.flash import Flashes, FlashKind
from headwater.web.console.forms import ID_MAX, Form, read_form
from headwater.web.console.live import LiveStreams
from headwater.web.console.options import ConsoleOptions
from headwater.web.console.pages import Pages
from headwater.web.console.security_headers import SecurityHeaders
from headwater.web.console.sessions import Session, Sessions
from headwater.web.console.snippets import Addresses, addresses_of
from headwater.web.console.uploads import read_upload

SESSION_COOKIE = "headwater_session"


@dataclass(frozen=True, slots=True)
class Visitor:
    """One request of anybody; who is not signed in has neither account nor session."""

    request: Request
    account: Account | None
    session: Session | None

    def path_id(self, name: str) -> int:
        """An id in the path. NotFound when no such thing can exist."""
        number = int(self.request.path_params[name])
        if number > ID_MAX:
            raise NotFound("there is no such thing")
        return number

    @property
    def address(self) -> str:
        """Where the request comes from, for rate limits."""
        client = self.request.client
        return client.host if client is not None else ""


@dataclass(frozen=True, slots=True)
class Visit(Visitor):
    """One request of somebody who is signed in."""

    account: Account
    session: Session
    form: Form = field(default_factory=Form)
    """Empty unless the request is a POST."""
    file: bytes = b""
    """What was sent along with the form; empty unless the page takes a file."""


Handler = Callable[[Visit], Awaitable[Response]]
OpenHandler = Callable[[Visitor], Awaitable[Response]]


class Console:
    """What all console pages share."""

    def __init__(self, services: Services, options: ConsoleOptions) -> None:
        self.services = services
        self.options = options
        self.sessions = Sessions(options.secret, options.session_s, services.access, options.clock)
        self.csrf = Csrf(options.secret)
        self.flashes = Flashes(options.secret)
        self.pages = Pages(
            self.flashes,
            options.clock,
            has_own_ca=options.has_own_ca,
            is_shared=lambda channel_id: bool(services.access.shared_with(channel_id)),
        )
        self._zones: tuple[str, ...] = ()
        self.live = LiveStreams(options.live_streams_per_account, options.live_streams_per_address)

    def get(self, path: str, handler: Handler) -> Route:
        """A page for people who are signed in."""
        return self.route(path, partial(self._answer, handler), "GET")

    def post(self, path: str, handler: Handler) -> Route:
        """A form for people who are signed in."""
        return self.route(path, partial(self._answer, handler), "POST")

    def post_file(self, path: str, handler: Handler) -> Route:
        """As `post`, for a form that a file may come with; how large it may be, the limit of all bodies says."""
        return self.route(path, partial(self._answer, handler, takes_file=True), "POST")

    def get_data(self, path: str, handler: Handler) -> Route:
        """Data for the scripts of a page: errors are JSON, and nobody is sent to a sign-in page."""
        return self.route(path, partial(self._answer_data, handler), "GET")

    def open_get(self, path: str, handler: OpenHandler) -> Route:
        """A page for everybody. What is not there for somebody who is not signed in may be there for them later: they
        are sent to the sign-in page."""
        return self.route(path, partial(self._answer_open, handler), "GET")

    def open_data(self, path: str, handler: OpenHandler) -> Route:
        """Data for the scripts of a page that is for everybody."""
        return self.route(path, partial(self._answer_open_data, handler), "GET")

    def is_secure(self, request: Request) -> bool:
        """Whether the browser speaks HTTPS, to this server or to a proxy in front of it."""
        public = urlsplit(self.options.public_url)
        is_behind_proxy = public.scheme == "https" and public.netloc == request.headers.get("host")
        return request.url.scheme == "https" or is_behind_proxy

    async def time_zones(self) -> tuple[str, ...]:
        """The zones to pick from. Finding them walks the zone database, so once must do."""
        if not self._zones:
            names = await asyncio.to_thread(available_timezones)
            self._zones = tuple(sorted(name for name in names if "/" in name))
        return self._zones

    def addresses(self, request: Request) -> Addresses:
        """Where devices of the people behind this request find the server."""
        url = URL(self.options.public_url) if self.options.public_url else request.url
        return addresses_of(url, self.options.mqtt_ports(), has_own_ca=self.options.has_own_ca)

    def route(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], method: str) -> Route:
        """A route with the console's headers, for anybody."""
        return ConsoleRoute(self, path, endpoint, method)

    def visitor(self, request: Request) -> tuple[Session, Account] | None:
        """Who is signed in."""
        session = self.sessions.read(request.cookies.get(SESSION_COOKIE))
        account = self.sessions.account_of(session)
        return (session, account) if session is not None and account is not None else None

    def render(self, visit: Visitor, template: str, status: int = 200, **values: Any) -> Response:
        """A page inside the frame of whoever is signed in, or of visitors."""
        return self.pages.render(
            visit.request,
            template,
            account=visit.account,
            csrf=self.csrf.token(visit.session.id) if visit.session is not None else "",
            status=status,
            is_visitor=visit.account is None,
            **values,
        )

    def fragment(self, visit: Visit, template: str, **values: Any) -> str:
        """A part of a page, for the page's script; its forms are good for whoever is signed in."""
        return self.pages.fragment(template, account=visit.account, csrf=self.csrf.token(visit.session.id), **values)

    def redirect(self, visit: Visit, path: str, text: str = "", kind: FlashKind = "good") -> Response:
        """On to another page, with a message there."""
        response = RedirectResponse(path, 303, headers={"Cache-Control": "no-store"})
        if text:
            self.flashes.put(response, text, kind, is_secure=self.is_secure(visit.request))
        return response

    def start_session(self, request: Request, response: Response, account: Account) -> None:
        """Sign this browser in."""
        response.set_cookie(
            SESSION_COOKIE,
            self.sessions.seal(self.sessions.open(account)),
            max_age=self.options.session_s,
            httponly=True,
            samesite="lax",
            secure=self.is_secure(request),
        )

    def problem(self, request: Request, problem: Problem) -> Response:
        """The error page."""
        visitor = self.visitor(request)
        return self.pages.render(
            request,
            "problem.html",
            account=visitor[1] if visitor else None,
            csrf=self.csrf.token(visitor[0].id) if visitor else "",
            status=problem.status,
            problem=problem,
        )

    async def _answer(self, handler: Handler, request: Request, *, takes_file: bool = False) -> Response:
        visitor = self.visitor(request)
        if visitor is None:
            return _to_sign_in(request)
        session, account = visitor
        try:
            form, file = Form(), b""
            if request.method == "POST":
                if takes_file:
                    form, file = await read_upload(request, self.options.max_form_bytes)
                else:
                    form = await read_form(request, self.options.max_form_bytes)
                self.csrf.check(request.headers, session.id, form.exact(FORM_FIELD))
            return await handler(Visit(request, account, session, form, file))
        except HeadwaterError as error:
            response = self.problem(request, problem_of(error))
            response.headers.update(headers_of(error))
            return response

    async def _answer_open(self, handler: OpenHandler, request: Request) -> Response:
        visitor = self._visitor(request)
        try:
            return await handler(visitor)
        except HeadwaterError as error:
            if visitor.account is None and isinstance(error, NotFound):
                return _to_sign_in(request)
            response = self.problem(request, problem_of(error))
            response.headers.update(headers_of(error))
            return response

    def _visitor(self, request: Request) -> Visitor:
        session, account = self.visitor(request) or (None, None)
        return Visitor(request, account, session)

    async def _answer_data(self, handler: Handler, request: Request) -> Response:
        visitor = self.visitor(request)
        if visitor is None:
            return _sign_in_first()
        try:
            return await handler(Visit(request, visitor[1], visitor[0]))
        except HeadwaterError as error:
            return _error_data(error)

    async def _answer_open_data(self, handler: OpenHandler, request: Request) -> Response:
        visitor = self._visitor(request)
        try:
            return await handler(visitor)
        except HeadwaterError as error:
            if visitor.account is None and isinstance(error, NotFound):
                return _sign_in_first()
            return _error_data(error)


class ConsoleRoute(Route):
    """A route that answers in the console's manner even where the request does not fit it."""

    def __init__(
        self, console: Console, path: str, endpoint: Callable[[Request], Awaitable[Response]], method: str
    ) -> None:
        super().__init__(path, endpoint, methods=[method], middleware=[Middleware(SecurityHeaders)])
        self._console = console

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        try:
            return super().matches(scope)
        except ValueError:  # an id of more digits than Python turns into a number
            return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = self._console.problem(Request(scope, receive), METHOD_NOT_ALLOWED)
        response.headers["Allow"] = ", ".join(sorted(self.methods or ()))
        await SecurityHeaders(response)(scope, receive, send)


def json_response(value: object, status: int = 200) -> Response:
    """Compact JSON that no cache keeps."""
    return Response(
        msgspec.json.encode(value),
        status,
        headers={"Cache-Control": "no-store"},
        media_type="application/json",
    )


def _sign_in_first() -> Response:
    return json_response({"error": "Please sign in."}, 401)


def _error_data(error: HeadwaterError) -> Response:
    problem = problem_of(error)
    response = json_response({"error": problem.detail}, problem.status)
    response.headers.update(headers_of(error))
    return response


def _to_sign_in(request: Request) -> Response:
    target = "/sign-in"
    if request.method in ("GET", "HEAD") and request.url.path != "/":
        target += "?next=" + quote(request.url.path, safe="/")
    return RedirectResponse(target, 303, headers={"Cache-Control": "no-store"})
