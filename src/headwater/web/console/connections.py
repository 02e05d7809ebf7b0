"""Connections: who is connected over MQTT, what passes, what was dropped and why, and the button that ends one.

An account sees and ends its own connections, an administrator everybody's; another account's is as unknown as one that
never was. Rates are worked out by the page, from the counters that it asks for every moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from headwater.errors import BadRequest, NotFound
from headwater.logs import Log
from headwater.registry.entities import Account
from headwater.services.presence import AccountTotals, ClientInfo, Totals
from headwater.web.console.connection_list import (
    CONNECTIONS_PER_PAGE,
    MAX_SEARCH_LENGTH,
    ORDER_LABELS,
    TRANSPORT_LABELS,
    View,
    account_choices,
    list_clients,
    name_of,
    parse_view,
    size_of,
)
from headwater.web.console.console import Console, Visit, json_response
from headwater.web.console.snippets import connect_line

log = Log(__name__)

_NUMBER_MAX_DIGITS = 18
_GONE = "this connection has ended already"
_SHARED_COUNTERS = ("connections", "messages_in", "messages_out", "bytes_in", "bytes_out")


class ConnectionPages:
    """The page, the counters behind its rates, and the end of a connection."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._presence = console.services.presence
        self._access = console.services.access
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        return [
            self._console.get("/connections", self.index),
            self._console.get_data("/connections/data", self.data),
            self._console.post("/connections/{number:int}/disconnect", self.disconnect),
        ]

    async def index(self, visit: Visit) -> Response:
        view = self._view(visit)
        clients = self._presence.clients(_scope_of(visit.account))
        is_admin = visit.account.is_admin
        return self._console.render(
            visit,
            "connections.html",
            view=view,
            listing=list_clients(clients, view, self._access, visit.account),
            total=len(clients),
            counters=self._counters(visit.account),
            broker=self._presence.totals() if is_admin else None,
            accounts=account_choices(clients, view.account, self._access) if is_admin else [],
            orders=ORDER_LABELS,
            max_search_length=MAX_SEARCH_LENGTH,
            size_of=size_of,
            transports=TRANSPORT_LABELS,
            connect_line=connect_line(self._console.addresses(visit.request)),
        )

    async def data(self, visit: Visit) -> Response:
        numbers = parse_numbers(visit.request.query_params.get("numbers", ""))
        scope = _scope_of(visit.account)
        found = [self._presence.client(number, scope) for number in numbers]
        return json_response(
            {
                "at_s": self._clock(),
                "counters": self._counters(visit.account),
                "clients": {str(client.number): _data_of(client) for client in found if client is not None},
            }
        )

    async def disconnect(self, visit: Visit) -> Response:
        number, scope = visit.path_id("number"), _scope_of(visit.account)
        client = self._presence.client(number, scope)
        if client is None or not self._presence.disconnect(number, scope):
            raise NotFound(_GONE)
        log.info("client disconnected by hand", client_id=client.client_id, by=visit.account.name)
        text = f"“{name_of(client, self._access)[:80]}”, client ID {client.client_id[:80]}, was disconnected."
        return self._console.redirect(visit, "/connections" + self._view(visit).address(), text, "note")

    # -- helpers ----------------------------------------------------------------------------------------------

    def _view(self, visit: Visit) -> View:
        view = parse_view(visit.request.query_params)
        return view if visit.account.is_admin else View(view.text, "", view.order, view.page)

    def _counters(self, account: Account) -> dict[str, int]:
        """What passed since the start, of all that the visitor may see."""
        if account.is_admin:
            totals: Totals | AccountTotals | None = self._presence.totals()
        else:
            by_account = self._presence.account_totals()
            totals = next((one for one in by_account if one.account_id == account.id), None)
        counters = {name: 0 if totals is None else int(getattr(totals, name)) for name in _SHARED_COUNTERS}
        return counters | {"dropped": _dropped_of(totals)}


def _scope_of(account: Account) -> int | None:
    """Whose connections this visitor may see; None: everybody's."""
    return None if account.is_admin else account.id


def _dropped_of(totals: Totals | AccountTotals | None) -> int:
    if totals is None:
        return 0
    return sum(totals.dropped.values()) if isinstance(totals.dropped, Mapping) else totals.dropped


def _data_of(client: ClientInfo) -> dict[str, Any]:
    """What moves in the row of a connection."""
    return {
        "active_at_s": client.active_at_ns // 1_000_000 / 1000,
        "messages_in": client.messages_in,
        "messages_out": client.messages_out,
        "bytes_in": client.bytes_in,
        "bytes_out": client.bytes_out,
        "subscriptions": client.subscriptions,
        "queued": client.queued,
        "in_flight": client.in_flight,
        "dropped": dict(client.dropped),
    }


def parse_numbers(text: str) -> list[int]:
    """The numbers of connections, separated by commas; as many at most as a page shows."""
    parts = text.split(",", CONNECTIONS_PER_PAGE) if text else []
    if len(parts) > CONNECTIONS_PER_PAGE:
        raise BadRequest(f"at most {CONNECTIONS_PER_PAGE} connections at a time")
    if not all(part.isascii() and part.isdigit() and len(part) <= _NUMBER_MAX_DIGITS for part in parts):
        raise BadRequest("numbers must be whole numbers, separated by commas")
    return [int(part) for part in parts]
