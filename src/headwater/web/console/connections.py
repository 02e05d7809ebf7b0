"""Connections: who is connected over MQTT, what passes, what was dropped and why, and the button that ends one.

An account sees and ends its own connections, an administrator everybody's; another account's is as unknown as one that
never was. Rates are worked out by the page, from the counters that it asks for every moment. With them it says which
rows it shows and of which state its list is; if that is not the latest, it gets the list, and the rows it lacks.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
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
    Listing,
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
        self._key = secrets.token_bytes(16)

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
            **self._list_values(view, list_clients(clients, view, self._access, visit.account)),
            state=self._state(visit.account),
            server=self._mark("server"),
            most=CONNECTIONS_PER_PAGE,
            total=len(clients),
            counters=self._counters(visit.account),
            broker=self._presence.totals() if is_admin else None,
            accounts=account_choices(clients, view.account, self._access) if is_admin else [],
            orders=ORDER_LABELS,
            max_search_length=MAX_SEARCH_LENGTH,
            connect_line=connect_line(self._console.addresses(visit.request)),
        )

    async def data(self, visit: Visit) -> Response:
        numbers = parse_numbers(visit.request.query_params.get("numbers", ""))
        scope = _scope_of(visit.account)
        found = [self._presence.client(number, scope) for number in numbers]
        state = self._state(visit.account)
        is_latest = visit.request.query_params.get("state") == state
        return json_response(
            {
                "at_s": self._clock(),
                "counters": self._counters(visit.account),
                "clients": {str(client.number): _data_of(client) for client in found if client is not None},
                "server": self._mark("server"),
                "state": state,
                "list": None if is_latest else self._list(visit, frozenset(numbers)),
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

    def _list(self, visit: Visit, known: frozenset[int]) -> dict[str, Any]:
        """The list as a page loaded now would show it; its rows as HTML, but for those that the page has."""
        view, clients = self._view(visit), self._presence.clients(_scope_of(visit.account))
        listing = list_clients(clients, view, self._access, visit.account)
        lacking = replace(listing, rows=[row for row in listing.rows if row.client.number not in known])
        return {
            "total": len(clients),
            "numbers": [row.client.number for row in listing.rows],
            "rows": self._console.fragment(visit, "_connection_rows.html", **self._list_values(view, lacking)),
            "pager": self._console.fragment(visit, "_connection_pager.html", view=view, listing=listing),
        }

    def _list_values(self, view: View, listing: Listing) -> dict[str, Any]:
        return {"view": view, "listing": listing, "size_of": size_of, "transports": TRANSPORT_LABELS}

    def _state(self, account: Account) -> str:
        """Another one whenever somebody has come or gone: to list ten thousand clients takes a while, and an open page
        asks every moment."""
        totals = self._presence.totals()
        return "" if totals is None else self._mark(f"{totals.connections_total} {totals.connections} {account.id}")

    def _mark(self, text: str) -> str:
        """Tells whether two texts are the same and made by the same process, and not what they say: how many others
        come and go is not an account's to know."""
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=8).hexdigest()

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
