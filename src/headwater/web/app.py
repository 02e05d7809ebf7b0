"""The ASGI application: the dialects' routes, the console's, and what every answer goes through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from headwater.errors import HeadwaterError
from headwater.services import Services
from headwater.settings import WebSettings
from headwater.web import console
from headwater.web.body_limit import BodyLimit
from headwater.web.console.errors import headers_of, problem_of
from headwater.web.metrics import Metrics

_NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}


def build_app(
    services: Services,
    dialect_routes: Sequence[BaseRoute],
    options: console.ConsoleOptions,
    settings: WebSettings,
    *,
    ca_certificate: Path | None,
    metrics_token: str = "",
) -> ASGIApp:
    """Dialect paths come first: they are the busy ones, and the console stays away from them."""
    shared = console.Console(services, options)
    metrics = Metrics(
        services,
        metrics_token,
        max_failures=settings.sign_in_failures_per_minute,
        block_s=settings.sign_in_block_s,
    )
    routes = [*dialect_routes, *_ca_routes(ca_certificate), *metrics.routes(), *console.routes(shared)]
    app = Starlette(
        routes=routes,
        exception_handlers={
            404: _not_found(shared),
            HeadwaterError: _render_unhandled,
            Exception: _render_failure,
        },
    )
    app.router.redirect_slashes = False
    return BodyLimit(app, settings.max_body_bytes)


def _ca_routes(ca_certificate: Path | None) -> list[BaseRoute]:
    """Our own CA's certificate, for devices to trust. Public: it is no secret, and a device has no credentials yet."""
    if ca_certificate is None:
        return []

    async def ca(_: Request) -> Response:
        return FileResponse(ca_certificate, media_type="application/x-x509-ca-cert", filename="ca.crt")

    return [Route("/ca.crt", ca)]


def _not_found(shared: console.Console):  # type: ignore[no-untyped-def]
    page = console.unknown_page(shared)

    async def answer(request: Request, _: Exception) -> Response:
        return await page(request)

    return answer


async def _render_unhandled(_: Request, error: Exception) -> Response:
    """An error that a route did not put into its own form."""
    assert isinstance(error, HeadwaterError)
    return PlainTextResponse(str(error), problem_of(error).status, headers_of(error) | _NO_SNIFFING)


async def _render_failure(_: Request, error: Exception) -> Response:
    """A fault of ours: the log has the traceback (uvicorn writes it), the caller gets no details."""
    return PlainTextResponse("Something went wrong here. It has been logged.", 500, _NO_SNIFFING)
