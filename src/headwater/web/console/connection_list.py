"""Which connections a page lists, in which order, and what it calls them. Pure: clients and rights in, rows out."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from headwater.registry.entities import Account, AccountDevice, MqttDevice
from headwater.services.access import Access
from headwater.services.presence import ClientInfo

CONNECTIONS_PER_PAGE = 50
MAX_SEARCH_LENGTH = 255
MAX_ACCOUNT_CHOICES = 200
"""Accounts that the filter offers, those with the most connections; the search finds the others by name."""
NO_ACCOUNT = "none"
_SIZE_STEP = 1000
_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB")


class Order(enum.StrEnum):
    """How connections are sorted. The value stands in the address of the page."""

    NEWEST = "newest"
    OLDEST = "oldest"
    MESSAGES = "messages"
    DROPPED = "dropped"


ORDER_LABELS = {
    Order.NEWEST: "Newest first",
    Order.OLDEST: "Oldest first",
    Order.MESSAGES: "Most messages",
    Order.DROPPED: "Most dropped",
}
TRANSPORT_LABELS = {
    "tcp": "TCP",
    "tls": "TLS",
    "proxied": "Through a proxy",
    "websocket": "WebSocket",
    "secure websocket": "WebSocket over TLS",
}
_SORT_KEYS: dict[Order, Callable[[ClientInfo], tuple[int, int]]] = {
    Order.NEWEST: lambda client: (-client.connected_at_ns, -client.number),
    Order.OLDEST: lambda client: (client.connected_at_ns, client.number),
    Order.MESSAGES: lambda client: (-client.messages_in - client.messages_out, client.number),
    Order.DROPPED: lambda client: (-sum(client.dropped.values()), client.number),
}


@dataclass(frozen=True, slots=True)
class View:
    """What the visitor wants to see, as the page's address says it."""

    text: str = ""
    account: str = ""
    """The id of an account, or `none` for clients without one; empty for all."""
    order: Order = Order.NEWEST
    page: int = 1

    @property
    def is_narrowed(self) -> bool:
        return bool(self.text or self.account)

    def address(self, page: int | None = None) -> str:
        """The page's own address, or that of another page of the same list."""
        view = self if page is None else replace(self, page=page)
        parameters = {"q": view.text, "account": view.account}
        if view.order is not Order.NEWEST:
            parameters["sort"] = view.order
        if view.page > 1:
            parameters["page"] = str(view.page)
        query = urlencode({name: value for name, value in parameters.items() if value})
        return f"?{query}" if query else ""


def parse_view(parameters: Mapping[str, str]) -> View:
    """What cannot be is left out: an old or mistyped address still shows a list."""
    account, order, page = parameters.get("account", ""), parameters.get("sort", ""), parameters.get("page", "")
    return View(
        text=parameters.get("q", "").strip()[:MAX_SEARCH_LENGTH],
        account=account if account == NO_ACCOUNT or _is_number(account) else "",
        order=Order(order) if order in tuple(Order) else Order.NEWEST,
        page=max(1, int(page)) if _is_number(page) else 1,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One connection as a list shows it."""

    client: ClientInfo
    name: str
    link: str
    """Where the visitor finds more about it; empty when that is not the visitor's to see."""
    account_name: str

    @property
    def device_link(self) -> str:
        """The page of the device whose client id this is; empty where there is none."""
        return self.link if self.client.device_id is not None or self.client.account_device_id is not None else ""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list."""

    rows: Sequence[Row]
    found: int
    page: int
    pages: int


def list_clients(clients: Sequence[ClientInfo], view: View, access: Access, viewer: Account) -> Listing:
    """The page of a view. `clients` are those that the viewer may see."""
    chosen = [client for client in clients if _is_of_account(client, view.account)]
    if view.text:
        needle = view.text.casefold()
        chosen = [client for client in chosen if _is_match(client, needle, access)]
    chosen.sort(key=_SORT_KEYS[view.order])
    pages = max(1, -(-len(chosen) // CONNECTIONS_PER_PAGE))
    page = min(view.page, pages)
    shown = chosen[(page - 1) * CONNECTIONS_PER_PAGE : page * CONNECTIONS_PER_PAGE]
    return Listing([_row_of(client, access, viewer) for client in shown], len(chosen), page, pages)


def account_choices(clients: Iterable[ClientInfo], chosen: str, access: Access) -> list[tuple[str, str]]:
    """Value and label of each account that can be filtered by, by name; clients without an account come first."""
    counts = Counter(client.account_id for client in clients)
    without = counts.pop(None, 0)
    choices = [(NO_ACCOUNT, f"No account ({without})")] if without or chosen == NO_ACCOUNT else []
    named = dict(counts.most_common(MAX_ACCOUNT_CHOICES))
    if _is_number(chosen):
        named.setdefault(int(chosen), counts[int(chosen)])
    accounts = ((access.account(account_id), number) for account_id, number in named.items() if account_id is not None)
    found = sorted((account.name, account.id, number) for account, number in accounts if account is not None)
    return choices + [(str(account_id), f"{name} ({number})") for name, account_id, number in found]


def name_of(client: ClientInfo, access: Access) -> str:
    """What people call a connection: its device, else its account."""
    device = _device_of(client, access)
    return device.name if device is not None else _account_name(client, access) or "No account"


def size_of(count: int) -> str:
    """A number of bytes for people, in one piece."""
    value = float(count)
    for unit in _SIZE_UNITS:
        if value < _SIZE_STEP or unit == _SIZE_UNITS[-1]:
            break
        value /= _SIZE_STEP
    digits = 0 if unit == "B" or value >= 100 else 1
    return f"{value:.{digits}f}\N{NO-BREAK SPACE}{unit}"


def _row_of(client: ClientInfo, access: Access, viewer: Account) -> Row:
    name = name_of(client, access)
    return Row(client, name, _link_of(client, access, viewer), _account_name(client, access))


def _link_of(client: ClientInfo, access: Access, viewer: Account) -> str:
    if client.account_id != viewer.id:
        return ""
    match _device_of(client, access):
        case MqttDevice(id=id_):
            return f"/devices/{id_}"
        case AccountDevice(id=id_):
            return f"/devices/account/{id_}"
    return "/profile"


def _device_of(client: ClientInfo, access: Access) -> MqttDevice | AccountDevice | None:
    if client.device_id is not None:
        return access.device(client.device_id)
    return None if client.account_device_id is None else access.account_device(client.account_device_id)


def _account_name(client: ClientInfo, access: Access) -> str:
    account = None if client.account_id is None else access.account(client.account_id)
    return account.name if account is not None else ""


def _is_of_account(client: ClientInfo, account: str) -> bool:
    if not account:
        return True
    return client.account_id == (None if account == NO_ACCOUNT else int(account))


def _is_match(client: ClientInfo, needle: str, access: Access) -> bool:
    return (
        needle in client.client_id.casefold()
        or needle in client.address.casefold()
        or needle in name_of(client, access).casefold()
        or needle in _account_name(client, access).casefold()
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
