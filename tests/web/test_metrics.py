"""`GET /metrics`: the format, what is told, and who is told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from fake_presence import TOTALS, FakeBroker
from headwater import __version__
from headwater.registry.opening import open_registry
from headwater.registry.passwords import Passwords
from headwater.registry.worker import RegistryWorker
from headwater.services import Services
from headwater.services.access import Access
from headwater.services.accounts import Accounts
from headwater.services.presence import AccountTotals, Presence
from headwater.services.refusals import Refusals
from headwater.services.update_limits import LimitCounts
from headwater.web.metrics import CONTENT_TYPE, Metrics

TOKEN = "the-operators-own-token"
BLOCK_S = 300.0


class Clock:
    """Seconds that pass when a test says so."""

    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


class Endpoint:
    """The endpoint with a client, and what it looks at."""

    def __init__(self, services: Any, accounts: Accounts, token: str = TOKEN) -> None:
        self.services = services
        self.accounts = accounts
        self.clock = Clock()
        self.token = token
        metrics = Metrics(cast(Services, services), token, max_failures=3, block_s=BLOCK_S, clock=self.clock)
        transport = httpx.ASGITransport(Starlette(routes=metrics.routes()))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://h")

    async def get(self, token: str | None, scheme: str = "Bearer") -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"{scheme} {token}"}
        return await self.client.get("/metrics", headers=headers)

    async def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Every sample by name and labels, read by Prometheus's own parser."""
        response = await self.get(self.token)
        assert response.status_code == 200
        families = text_string_to_metric_families(response.text)
        return {
            (sample.name, tuple(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    worker = RegistryWorker(open_registry(f"sqlite:///{tmp_path}/registry.db"))
    passwords = Passwords(time_cost=1, memory_cost_kib=8)
    access = Access()

    async def keep(_: object) -> None:
        """Nothing is stored for channels here."""

    accounts = Accounts(worker, access, passwords, on_channel_deleted=keep)
    services = SimpleNamespace(
        access=access,
        presence=Presence(),
        refusals=Refusals(),
        ingest=SimpleNamespace(stored_points=7, commits=3, pending_points=2),
        update_limits=SimpleNamespace(totals=LimitCounts(merged=4, queued=5, refused=6), waiting=1),
        rules=SimpleNamespace(outcomes={"done": 9, "failed": 8, "not done": 0}),
    )
    endpoint = Endpoint(services, accounts)
    yield endpoint
    await endpoint.client.aclose()
    await worker.close()
    passwords.close()


async def test_what_is_told_of_the_process_and_the_store(endpoint: Endpoint) -> None:
    endpoint.services.refusals.note("for a reason")
    endpoint.clock.now_s += 12.5
    samples = await endpoint.samples()
    assert samples["headwater_build_info", (("version", __version__),)] == 1
    assert samples["headwater_uptime_seconds", ()] == 12.5
    for action, count in (("merged", 4), ("queued", 5), ("refused", 6)):
        assert samples["headwater_fast_updates_total", (("action", action),)] == count
    assert samples["headwater_waiting_updates", ()] == 1
    for outcome, count in (("done", 9), ("failed", 8), ("not done", 0)):
        assert samples["headwater_rule_runs_total", (("outcome", outcome),)] == count
    assert samples["headwater_stored_points_total", ()] == 7
    assert samples["headwater_commits_total", ()] == 3
    assert samples["headwater_pending_points", ()] == 2
    assert samples["headwater_refused_messages_total", ()] == 1
    assert samples["process_resident_memory_bytes", ()] > 1e6
    assert samples["process_open_fds", ()] > 0
    assert not any(name.startswith("headwater_mqtt_") for name, _ in samples)


async def test_what_is_told_of_the_broker(endpoint: Endpoint) -> None:
    endpoint.services.presence.attach(FakeBroker())
    samples = await endpoint.samples()
    expected = {
        "connections": 3,
        "connections_max": 9,
        "connections_total": 40,
        "messages_received_total": 1000,
        "messages_sent_total": 2000,
        "bytes_received_total": 30_000,
        "bytes_sent_total": 60_000,
        "subscriptions": 6,
        "sessions": 5,
        "sessions_offline": 2,
        "queued_messages": 11,
        "queued_bytes": 1100,
        "retained_messages": 13,
        "retained_bytes": 1300,
    }
    for name, value in expected.items():
        assert samples[f"headwater_mqtt_{name}", ()] == value, name
    assert samples["headwater_mqtt_messages_dropped_total", (("limit", "max_queued_messages"),)] == 7
    assert samples["headwater_mqtt_refused_total", (("reason", "bad credentials"),)] == 4


async def test_what_is_told_by_account(endpoint: Endpoint) -> None:
    ada = await endpoint.accounts.add("ada", "correct horse")
    by_account = [AccountTotals(number, 1, 2, 3, 4, 5, 6) for number in (ada.id, None, 99)]
    endpoint.services.presence.attach(FakeBroker(by_account=by_account))
    samples = await endpoint.samples()
    for account in ("ada", "(none)"):
        for value, name in enumerate(
            [
                "connections",
                "messages_received_total",
                "messages_sent_total",
                "bytes_received_total",
                "bytes_sent_total",
                "messages_dropped_total",
            ],
            1,
        ):
            assert samples[f"headwater_account_{name}", (("account", account),)] == value
    assert {labels for name, labels in samples if name == "headwater_account_connections"} == {
        (("account", "ada"),),
        (("account", "(none)"),),
    }


async def test_names_are_escaped(endpoint: Endpoint) -> None:
    reason = 'a "b"\\c\nd'
    endpoint.services.presence.attach(FakeBroker(told=replace(TOTALS, refused={reason: 5})))
    assert (await endpoint.samples())["headwater_mqtt_refused_total", (("reason", reason),)] == 5


async def test_the_answer_is_in_prometheus_text_format(endpoint: Endpoint) -> None:
    response = await endpoint.get(TOKEN)
    assert response.headers["content-type"] == CONTENT_TYPE
    assert response.headers["cache-control"] == "no-store"
    assert "# TYPE headwater_stored_points_total counter\n" in response.text
    assert "# HELP headwater_pending_points " in response.text
    assert response.text.endswith("\n")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Token"])
async def test_an_administrators_token_opens_it(endpoint: Endpoint, scheme: str) -> None:
    admin = await endpoint.accounts.add("root", "correct horse", is_admin=True)
    _, token = await endpoint.accounts.add_token(admin.id, "scraper")
    assert (await endpoint.get(token, scheme)).status_code == 200


async def test_another_accounts_token_does_not(endpoint: Endpoint) -> None:
    ada = await endpoint.accounts.add("ada", "correct horse")
    _, token = await endpoint.accounts.add_token(ada.id, "t")
    response = await endpoint.get(token)
    assert response.status_code == 403
    assert "not an administrator" in response.text
    assert "Use an account token of an administrator, or the token of the setting web.metrics_token." in response.text


async def test_an_administrators_user_api_key_does_not(endpoint: Endpoint) -> None:
    admin = await endpoint.accounts.add("root", "correct horse", is_admin=True)
    assert (await endpoint.get(admin.user_api_key)).status_code == 401


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], "x" * 2000, "t\xf6ken"])
async def test_without_a_token_that_is_known(endpoint: Endpoint, token: str | None) -> None:
    headers = {} if token is None else {b"Authorization": b"Bearer " + token.encode("latin-1")}
    response = await endpoint.client.get("/metrics", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "web.metrics_token" in response.text
    assert "headwater_" not in response.text


@pytest.mark.parametrize("authorization", ["Basic dGhlOm9wZXJhdG9ycw==", TOKEN, "Bearer", f"Bearer {TOKEN} more"])
async def test_other_schemes_are_not_understood(endpoint: Endpoint, authorization: str) -> None:
    response = await endpoint.client.get("/metrics", headers={"Authorization": authorization})
    assert response.status_code == 401


async def test_without_the_setting_nothing_stands_for_the_token(endpoint: Endpoint) -> None:
    closed = Endpoint(endpoint.services, endpoint.accounts, token="")
    async with closed.client:
        assert (await closed.get("")).status_code == 401
        assert (await closed.get(None)).status_code == 401


async def test_guessing_is_slowed_down(endpoint: Endpoint) -> None:
    for _ in range(3):
        assert (await endpoint.get("wrong")).status_code == 401
    response = await endpoint.get(TOKEN)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "300"
    endpoint.clock.now_s += BLOCK_S
    assert (await endpoint.get(TOKEN)).status_code == 200


async def test_who_shows_no_token_guesses_nothing(endpoint: Endpoint) -> None:
    for _ in range(5):
        assert (await endpoint.get(None)).status_code == 401
    assert (await endpoint.get(TOKEN)).status_code == 200


async def test_no_secret_is_logged(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "headwater")
    await endpoint.get(TOKEN)
    await endpoint.get("a-wrong-token")
    assert TOKEN not in caplog.text
    assert "a-wrong-token" not in caplog.text
