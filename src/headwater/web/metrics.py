"""`GET /metrics`: what the process counts, in the text format that Prometheus reads (0.0.4).

For the operator only: whoever asks shows the metrics token or an account token of an administrator. Knows no page of
the console and no connection of the broker.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from headwater import __version__
from headwater.errors import NotAuthenticated, NotAuthorized, TooManyRequests
from headwater.services import Services
from headwater.services.networks import network_of
from headwater.services.presence import AccountTotals, Totals
from headwater.services.throttle import Throttle
from headwater.services.update_limits import LimitCounts
from headwater.web.console.errors import headers_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NO_ACCOUNT = "(none)"
"""The label of clients without an account; no account can have this name."""
HOW_TO = (
    "Metrics are for the operator. Send `Authorization: Bearer TOKEN` with the token of the setting web.metrics_token "
    "(environment variable HEADWATER_WEB_METRICS_TOKEN), or with an account token of an administrator, which is made "
    "on the profile page of the console.\n"
)
WRONG_TOKEN = f"The token that was sent is not known here. {HOW_TO}"
_CHALLENGE = 'Bearer realm="headwater metrics"'
_WRONG_TOKEN_CHALLENGE = f'{_CHALLENGE}, error="invalid_token"'
_NOT_AN_ADMINISTRATOR = (
    "This account token is valid, but its account is not an administrator. Use an account token of an administrator, "
    "or the token of the setting web.metrics_token.\n"
)
_AUTHORIZATION = re.compile(r"(?:Bearer|Token) +(\S{1,1024}) *", re.IGNORECASE)
_FAILURES_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything there is to tell, taken in one turn of the loop; rendered on a thread."""

    broker: Totals | None
    accounts: Sequence[tuple[str, AccountTotals]]
    """By the account's name."""
    stored_points: int
    commits: int
    pending_points: int
    refused_messages: int
    too_fast: LimitCounts
    """Of all channels with a limit."""
    waiting_updates: int
    rule_runs: Mapping[str, int]
    """By how they ended."""
    uptime_s: float


class Metrics:
    """The endpoint. `token` is the operator's own token for it; empty: only administrators' tokens open it.

    Args: after `max_failures` wrong tokens within a minute, an address must wait `block_s`; `clock` gives seconds that
    never go back.
    """

    def __init__(
        self,
        services: Services,
        token: str,
        *,
        max_failures: int,
        block_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services = services
        self._token = token.encode()
        self._throttle = Throttle(max_failures=max_failures, window_s=_FAILURES_WINDOW_S, block_s=block_s, clock=clock)
        self._process = ProcessCollector(registry=None)
        self._clock = clock
        self._started_at_s = clock()

    def routes(self) -> list[BaseRoute]:
        return [Route("/metrics", self.answer)]

    async def answer(self, request: Request) -> Response:
        """The metrics, or what is missing to get them."""
        address = request.client.host if request.client is not None else ""
        try:
            match = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
            if match is None:
                return _plain(HOW_TO, 401, {"WWW-Authenticate": _CHALLENGE})
            with self._throttle.attempt([network_of(address)]):
                self._check(match[1])
        except NotAuthenticated as error:
            return _plain(str(error), 401, {"WWW-Authenticate": _WRONG_TOKEN_CHALLENGE})
        except NotAuthorized as error:
            return _plain(str(error), 403)
        except TooManyRequests as error:
            return _plain("Too many wrong tokens. Try again later.\n", 429, headers_of(error))
        # With thousands of accounts it takes longer than the loop may stand still.
        text = await asyncio.to_thread(self._render, self._snapshot())
        return Response(text, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    def _check(self, token: str) -> None:
        """Raises NotAuthenticated for an unknown token, NotAuthorized when it is not an administrator's."""
        if self._token and hmac.compare_digest(token.encode(), self._token):
            return
        account = self._services.access.account_of_key(token)
        # A user API key travels in URLs of ThingSpeak clients, so it does not open this.
        if account is None or hmac.compare_digest(token.encode(), account.user_api_key.encode()):
            raise NotAuthenticated(WRONG_TOKEN)
        if not account.is_admin:
            raise NotAuthorized(_NOT_AN_ADMINISTRATOR)

    def _snapshot(self) -> Snapshot:
        services = self._services
        return Snapshot(
            broker=services.presence.totals(),
            accounts=list(self._named(services.presence.account_totals())),
            stored_points=services.ingest.stored_points,
            commits=services.ingest.commits,
            pending_points=services.ingest.pending_points,
            refused_messages=services.refusals.total,
            too_fast=replace(services.update_limits.totals),
            waiting_updates=services.update_limits.waiting,
            rule_runs=dict(services.rules.outcomes),
            uptime_s=self._clock() - self._started_at_s,
        )

    def _named(self, accounts: Iterable[AccountTotals]) -> Iterator[tuple[str, AccountTotals]]:
        """With their names; accounts that were removed meanwhile have none and are left out."""
        for totals in accounts:
            if totals.account_id is None:
                yield NO_ACCOUNT, totals
            elif (account := self._services.access.account(totals.account_id)) is not None:
                yield account.name, totals

    def _render(self, snapshot: Snapshot) -> bytes:
        return generate_latest(_Families([*families_of(snapshot), *self._process.collect()]))


@dataclass(frozen=True, slots=True)
class _Families:
    """Metrics in the form in which the library takes them."""

    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def families_of(snapshot: Snapshot) -> Iterator[Metric]:
    """Every metric of Headwater's own; the process's come from the library."""
    yield _gauge("headwater_build_info", "The version that runs; always 1.", 1, {"version": __version__})
    yield _gauge("headwater_uptime_seconds", "Time since the start.", snapshot.uptime_s)
    yield _counter("headwater_stored_points_total", "Points on disk since the start.", snapshot.stored_points)
    yield _counter("headwater_commits_total", "Transactions of the store since the start.", snapshot.commits)
    yield _gauge("headwater_pending_points", "Points that wait for the store.", snapshot.pending_points)
    yield _counter(
        "headwater_refused_messages_total",
        "Messages of devices that were refused, for want of a right, for what is in them, or as too many.",
        snapshot.refused_messages,
    )
    yield _counters(
        "headwater_fast_updates_total",
        "Updates that came too fast for the limit of their channel.",
        "action",
        asdict(snapshot.too_fast),
    )
    yield _gauge("headwater_waiting_updates", "Updates that wait for their turn.", snapshot.waiting_updates)
    yield _counters(
        "headwater_rule_runs_total", "Runs of rules since the start, tests apart.", "outcome", snapshot.rule_runs
    )
    if snapshot.broker is not None:
        yield from _broker_families(snapshot.broker)
        yield from _account_families(snapshot.accounts)


def _broker_families(totals: Totals) -> Iterator[Metric]:
    prefix = "headwater_mqtt_"
    for name, text, number in (
        ("connections", "MQTT clients that are connected.", totals.connections),
        ("connections_max", "The most MQTT clients that were connected at the same time.", totals.max_connections),
        ("subscriptions", "Subscriptions of all sessions.", totals.subscriptions),
        ("sessions", "Sessions, connected or not.", totals.sessions),
        ("sessions_offline", "Sessions that wait for their client.", totals.sessions_offline),
        ("queued_messages", "Messages of QoS 1 and 2 that clients are owed.", totals.queued_messages),
        ("queued_bytes", "Their bytes.", totals.queued_bytes),
        ("retained_messages", "Retained messages.", totals.retained_messages),
        ("retained_bytes", "Bytes of retained messages.", totals.retained_bytes),
    ):
        yield _gauge(prefix + name, text, number)
    for name, text, number in (
        ("connections_total", "MQTT clients that have signed in since the start.", totals.connections_total),
        ("messages_received_total", "Messages from clients.", totals.messages_in),
        ("messages_sent_total", "Messages to clients.", totals.messages_out),
        ("bytes_received_total", "Bytes from clients.", totals.bytes_in),
        ("bytes_sent_total", "Bytes to clients.", totals.bytes_out),
    ):
        yield _counter(prefix + name, text, number)
    yield _counters(
        prefix + "messages_dropped_total", "Messages to clients that a limit dropped.", "limit", totals.dropped
    )
    yield _counters(
        prefix + "refused_total", "Connections that were refused or ended for a fault.", "reason", totals.refused
    )


def _account_families(accounts: Sequence[tuple[str, AccountTotals]]) -> Iterator[Metric]:
    prefix = "headwater_account_"
    connections = GaugeMetricFamily(prefix + "connections", "MQTT clients by account.", labels=["account"])
    for name, totals in accounts:
        connections.add_metric([name], totals.connections)
    yield connections
    for family, text, field in (
        ("messages_received_total", "Messages from clients, by account.", "messages_in"),
        ("messages_sent_total", "Messages to clients, by account.", "messages_out"),
        ("bytes_received_total", "Bytes from clients, by account.", "bytes_in"),
        ("bytes_sent_total", "Bytes to clients, by account.", "bytes_out"),
        ("messages_dropped_total", "Messages to clients that a limit dropped, by account.", "dropped"),
    ):
        yield _counters(prefix + family, text, "account", {name: getattr(one, field) for name, one in accounts})


def _gauge(name: str, text: str, value: float, labels: Mapping[str, str] | None = None) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels or ()))
    family.add_metric(list((labels or {}).values()), value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for label_value, value in sorted(values.items()):
        family.add_metric([label_value], value)
    return family


def _plain(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    fixed = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return PlainTextResponse(text, status, {**fixed, **(headers or {})})
