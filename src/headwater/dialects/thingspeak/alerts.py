"""The Alerts API: mails to the owner of an account, and what became of them."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from headwater.dialects.thingspeak.endpoint import Call, Endpoint, Handler, json_response
from headwater.dialects.thingspeak.forms import Form
from headwater.errors import NotAuthenticated
from headwater.registry.alerts import Alert
from headwater.registry.entities import Account
from headwater.services import Services

MAX_BODY_BYTES = 16_384


class AlertCalls:
    """The handlers. Each takes a `Call` and answers a response or raises HeadwaterError."""

    def __init__(self, services: Services) -> None:
        self._alerts = services.alerts
        self._access = services.access

    async def send(self, call: Call) -> Response:
        account = self._account(call)
        await self._alerts.send(account.id, call.parameters.get("subject", ""), call.parameters.get("body", ""))
        return Response(status_code=202)

    async def history(self, call: Call) -> Response:
        account = self._account(call)
        return json_response([_render(alert) for alert in await self._alerts.history(account.id)])

    def _account(self, call: Call) -> Account:
        account = self._access.account_of_alerts_key(call.key) if call.key else None
        if account is None:
            raise NotAuthenticated(
                "Please provide the Alerts API Key in the header ThingSpeak-Alerts-API-Key; it stands on My Profile."
            )
        return account


class ByAccept:
    """Errors in full for clients that ask for JSON, and as a bare code for others."""

    def __init__(self, detailed: ASGIApp, plain: ASGIApp) -> None:
        self._detailed = detailed
        self._plain = plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wants_json = "json" in Headers(scope=scope).get("accept", "").lower()
        await (self._detailed if wants_json else self._plain)(scope, receive, send)


def _render(alert: Alert) -> dict[str, str | None]:
    return {
        "created_at": alert.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "subject": alert.subject,
        "body": alert.body,
        "status": alert.status.value,
        "error": alert.reason or None,
    }


def alert_routes(services: Services) -> list[BaseRoute]:
    calls = AlertCalls(services)

    def route(path: str, handlers: dict[str, Handler]) -> Route:
        detailed, plain = (Endpoint(handlers, MAX_BODY_BYTES, form) for form in (Form.JSON, Form.TEXT))
        return Route(path, ByAccept(detailed, plain))

    return [
        route("/alerts/send", {"POST": calls.send}),
        route("/alerts/history", {"GET": calls.history, "HEAD": calls.history}),
    ]
