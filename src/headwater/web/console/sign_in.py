"""Signing in and out."""

from __future__ import annotations

import re
import secrets

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, HeadwaterError, NotAuthenticated, TooManyRequests
from headwater.web.console.console import SESSION_COOKIE, Console, Visit
from headwater.web.console.csrf import FORM_FIELD
from headwater.web.console.errors import headers_of, problem_of, waiting_time
from headwater.web.console.forms import read_form

VISITOR_COOKIE = "headwater_visitor"
"""Binds the token of the sign-in form to one browser, before there is a session."""
HOME = "/channels"
_LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""One slash, then printable ASCII without backslash: browsers read `//host` and `/\\host` as another server."""
_NAME_MAX, _PASSWORD_MAX = 64, 1024


class SignInPages:
    """`/`, `/sign-in` and `/sign-out`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def routes(self) -> list[BaseRoute]:
        return [
            self._console.route("/", self.home, "GET"),
            self._console.route("/sign-in", self.show, "GET"),
            self._console.route("/sign-in", self.submit, "POST"),
            self._console.post("/sign-out", self.sign_out),
        ]

    async def home(self, request: Request) -> Response:
        target = HOME if self._console.visitor(request) else "/sign-in"
        return RedirectResponse(target, 303, headers={"Cache-Control": "no-store"})

    async def show(self, request: Request) -> Response:
        target = local_path(request.query_params.get("next", ""))
        if self._console.visitor(request):
            return RedirectResponse(target, 303, headers={"Cache-Control": "no-store"})
        return self._page(request, target)

    async def submit(self, request: Request) -> Response:
        console = self._console
        name, target = "", HOME
        try:
            form = await read_form(request, console.options.max_form_bytes)
            target = local_path(form.text("next"))
            console.csrf.check(request.headers, request.cookies.get(VISITOR_COOKIE, ""), form.exact(FORM_FIELD))
            name, password = form.text("name")[:_NAME_MAX], form.exact("password")
            if not name or not password or len(password) > _PASSWORD_MAX:
                raise BadRequest("Enter your name and your password.")
            address = request.client.host if request.client is not None else ""
            account = await console.services.accounts.sign_in(name, password, address)
        except TooManyRequests as error:
            wait = waiting_time(error.retry_after_s)
            response = self._page(
                request, target, name, f"Too many failed attempts. Please wait {wait}, then try again.", 429
            )
            response.headers.update(headers_of(error))
            return response
        except NotAuthenticated:
            return self._page(request, target, name, "That name and password do not match.", 401)
        except HeadwaterError as error:
            problem = problem_of(error)
            return self._page(request, target, name, problem.detail, problem.status)
        response = RedirectResponse(target, 303, headers={"Cache-Control": "no-store"})
        console.start_session(request, response, account)
        response.delete_cookie(VISITOR_COOKIE, httponly=True, samesite="lax")
        return response

    async def sign_out(self, visit: Visit) -> Response:
        self._console.sessions.close(visit.session)
        self._console.live.wake_session(visit.session.id)
        response = self._console.redirect(visit, "/sign-in", "You are signed out.", "note")
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
        return response

    def _page(self, request: Request, target: str, name: str = "", error: str = "", status: int = 200) -> Response:
        console = self._console
        visitor = request.cookies.get(VISITOR_COOKIE, "")
        is_new = not 16 <= len(visitor) <= 64
        if is_new:
            visitor = secrets.token_urlsafe(24)
        response = console.pages.render(
            request,
            "sign_in.html",
            csrf=console.csrf.token(visitor),
            status=status,
            next=target,
            name=name,
            error=error,
        )
        if is_new:
            response.set_cookie(
                VISITOR_COOKIE, visitor, httponly=True, samesite="lax", secure=console.is_secure(request)
            )
        return response


def local_path(text: str) -> str:
    """Where to go after signing in: the asked path when it is one of this server, else the home page."""
    return text if _LOCAL_PATH.fullmatch(text) and text != "/" else HOME
