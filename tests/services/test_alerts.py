"""Alerts: taken, sent or not, and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from headwater.errors import BadRequest, Conflict, NotFound, TooManyRequests
from headwater.registry.alerts import Alert, AlertStatus
from headwater.services.alerts import MAX_HISTORY, Alerts
from headwater.services.outbound import Mail, OutboundFailed


class RecordingMailer:
    """Takes mails, or fails as it is told."""

    def __init__(self) -> None:
        self.is_set_up = True
        self.mails: list[tuple[int, Mail]] = []
        self.failure = ""
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def send(self, account_id: int, mail: Mail) -> None:
        await self.let_go.wait()
        if self.failure:
            raise OutboundFailed(self.failure)
        self.mails.append((account_id, mail))


@pytest.fixture
async def at(house: Any) -> AsyncIterator[SimpleNamespace]:
    mailer = RecordingMailer()
    alerts = Alerts(house.worker, house.access, mailer, most=2, clock=house.clock)
    ada = await house.account()
    await house.accounts.set_email(ada.id, "ada@example.com")
    yield SimpleNamespace(house=house, mailer=mailer, alerts=alerts, ada=house.access.account(ada.id))
    await alerts.close()


async def settled(alerts: Alerts, account_id: int) -> list[Alert]:
    """The history, once nothing of it is queued."""
    async with asyncio.timeout(5):
        while True:
            found = await alerts.history(account_id)
            if all(one.status is not AlertStatus.QUEUED for one in found):
                return found
            await asyncio.sleep(0.001)


async def test_an_alert_is_sent_to_the_owner_and_remembered(at: SimpleNamespace) -> None:
    alert = await at.alerts.send(at.ada.id, "Cellar", "The pump\ndoes not run.")
    assert alert.status is AlertStatus.QUEUED
    [found] = await settled(at.alerts, at.ada.id)
    assert (found.subject, found.body, found.status, found.reason) == ("Cellar", alert.body, AlertStatus.SENT, "")
    assert at.mailer.mails == [(at.ada.id, Mail(("ada@example.com",), "Cellar", "The pump\ndoes not run."))]


async def test_what_the_mail_server_says_is_remembered(at: SimpleNamespace) -> None:
    at.mailer.failure = "the mail server refuses: 554 spam"
    await at.alerts.send(at.ada.id, "", "The pump does not run.")
    [found] = await settled(at.alerts, at.ada.id)
    assert (found.subject, found.status, found.reason) == ("Alert", AlertStatus.FAILED, at.mailer.failure)


async def test_without_a_mail_server_or_an_address_it_says_what_to_do(at: SimpleNamespace) -> None:
    at.mailer.is_set_up = False
    with pytest.raises(Conflict, match=r"mail\.host"):
        await at.alerts.send(at.ada.id, "Cellar", "body")
    at.mailer.is_set_up = True
    await at.house.accounts.set_email(at.ada.id, "")
    with pytest.raises(Conflict, match="My Profile"):
        await at.alerts.send(at.ada.id, "Cellar", "body")
    newest, oldest = await at.alerts.history(at.ada.id)
    assert {newest.status, oldest.status} == {AlertStatus.FAILED}
    assert ("My Profile" in newest.reason, "mail.host" in oldest.reason) == (True, True)
    assert at.mailer.mails == []


@pytest.mark.parametrize(
    ("subject", "body"),
    [("x" * 61, "body"), ("a\nb", "body"), ("s", ""), ("s", "  \n "), ("s", "x" * 501), ("s", "\x00"), ("s", "\ud800")],
)
async def test_what_is_no_alert_is_refused_and_not_counted(at: SimpleNamespace, subject: str, body: str) -> None:
    for _ in range(3):
        with pytest.raises(BadRequest):
            await at.alerts.send(at.ada.id, subject, body)
    assert await at.alerts.history(at.ada.id) == []


async def test_so_many_within_half_an_hour(at: SimpleNamespace) -> None:
    for _ in range(2):
        await at.alerts.send(at.ada.id, "", "body")
    at.house.clock.now_s += 600
    with pytest.raises(TooManyRequests) as raised:
        await at.alerts.send(at.ada.id, "", "body")
    assert raised.value.retry_after_s == 1200
    at.house.clock.now_s += 1200
    await at.alerts.send(at.ada.id, "", "body")
    assert len(await settled(at.alerts, at.ada.id)) == 3


async def test_the_history_is_bounded_and_ones_own(at: SimpleNamespace) -> None:
    bob = await at.house.account("bob")
    for number in range(MAX_HISTORY + 3):
        at.house.clock.now_s += 1800
        await at.alerts.send(at.ada.id, str(number), "body")
    found = await settled(at.alerts, at.ada.id)
    assert [alert.subject for alert in found] == [str(number) for number in range(MAX_HISTORY + 2, 2, -1)]
    assert await at.alerts.history(bob.id) == []
    with pytest.raises(NotFound):
        await at.alerts.send(999, "", "body")


async def test_closing_waits_for_a_mail_under_way(at: SimpleNamespace) -> None:
    at.mailer.let_go.clear()
    await at.alerts.send(at.ada.id, "", "body")
    closing = asyncio.create_task(at.alerts.close())
    await asyncio.sleep(0)
    at.mailer.let_go.set()
    await closing
    assert [alert.status for alert in await at.alerts.history(at.ada.id)] == [AlertStatus.SENT]


async def test_a_mail_that_closing_breaks_off_is_told_as_failed(
    at: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.services.alerts.CLOSE_TIMEOUT_S", 0.01)
    at.mailer.let_go.clear()
    await at.alerts.send(at.ada.id, "", "body")
    await at.alerts.close()
    [alert] = await at.alerts.history(at.ada.id)
    assert (alert.status, "the server stopped" in alert.reason) == (AlertStatus.FAILED, True)


async def test_keys_and_addresses(at: SimpleNamespace) -> None:
    access, accounts = at.house.access, at.house.accounts
    bob = await at.house.account("bob")
    assert len({at.ada.alerts_api_key, bob.alerts_api_key, at.ada.user_api_key, at.ada.mqtt_api_key}) == 4
    assert access.account_of_alerts_key(bob.alerts_api_key) == bob
    for wrong in ("", "0" * 16, bob.user_api_key, "\ud800"):
        assert access.account_of_alerts_key(wrong) is None
    assert access.account_of_key(bob.alerts_api_key) is None
    changed = await accounts.rotate_alerts_api_key(bob.id)
    assert access.account_of_alerts_key(bob.alerts_api_key) is None
    assert access.account_of_alerts_key(changed.alerts_api_key) == changed
    await accounts.remove("bob")
    assert access.account_of_alerts_key(changed.alerts_api_key) is None
    for wrong in (
        "ada",
        "ada@",
        "a@b@c",
        "Ada <ada@example.com>",
        "ada@example.com\n",
        "ä@example.com",
        "x" * 260 + "@a",
    ):
        with pytest.raises(BadRequest):
            await accounts.set_email(at.ada.id, wrong)
