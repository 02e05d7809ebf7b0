"""Alerts in the console: how a program sends one, a test, and what became of the last ones."""

from __future__ import annotations

import shlex

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import Conflict, TooManyRequests
from headwater.registry.entities import Account
from headwater.web.console.console import Console, Visit
from headwater.web.console.errors import sentence_of, waiting_time
from headwater.web.console.snippets import Addresses, Snippet

ROOT = "/profile/alerts"


class AlertPages:
    """The page of an account's alerts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._alerts = console.services.alerts

    def routes(self) -> list[BaseRoute]:
        return [self._console.get(ROOT, self.show), self._console.post(f"{ROOT}/test", self.test)]

    async def show(self, visit: Visit) -> Response:
        return await self._page(visit)

    async def test(self, visit: Visit) -> Response:
        """Send one, as a program would."""
        try:
            await self._alerts.send(
                visit.account.id, "Test alert", "This is a test. Alerts from Headwater arrive here."
            )
        except Conflict as error:
            return await self._page(visit, sentence_of(str(error)), 409)
        except TooManyRequests as error:
            wait = waiting_time(error.retry_after_s)
            return await self._page(visit, f"{sentence_of(str(error))} The next may go in {wait}.", 429)
        return self._console.redirect(visit, ROOT, f"A test alert is on its way to {visit.account.email}.")

    async def _page(self, visit: Visit, error: str = "", status: int = 200) -> Response:
        return self._console.render(
            visit,
            "alerts.html",
            status=status,
            error=error,
            alerts=await self._alerts.history(visit.account.id),
            is_set_up=self._console.services.mailer.is_set_up,
            requests=alert_snippets(visit.account, self._console.addresses(visit.request)),
        )


def alert_snippets(account: Account, at: Addresses) -> list[Snippet]:
    """How a program sends an alert, and asks what became of the last ones."""
    header = f"-H 'ThingSpeak-Alerts-API-Key: {account.alerts_api_key}'"
    body = shlex.quote('{"subject": "Cellar", "body": "The pump does not run."}')
    send = f"curl {at.base_url}/alerts/send \\\n  {header} \\\n  -H 'Content-Type: application/json' \\\n  -d {body}"
    return [
        Snippet("Send an alert", send),
        Snippet("The last alerts", f"curl {at.base_url}/alerts/history \\\n  {header}"),
    ]
