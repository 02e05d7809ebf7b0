"""Alerts: mails to the owner of an account, which a program asks for with the account's alerts key.

An alert is taken when it is in the history; the mail server gets it right after, and the history says how that ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headwater.errors import Conflict, NotFound, StorageError, TooManyRequests
from headwater.logs import Log, reason_of
from headwater.registry.alerts import Alert, AlertStatus
from headwater.registry.entities import Account
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.checks import check_line, check_text
from headwater.services.outbound import Mail, Mailer, OutboundFailed
from headwater.services.quotas import Quota

MAX_SUBJECT_LENGTH = 60
MAX_BODY_LENGTH = 500
MAX_HISTORY = 100
"""Alerts of one account that are remembered."""
WINDOW_S = 1800.0
DEFAULT_SUBJECT = "Alert"
CLOSE_TIMEOUT_S = 1.0

log = Log(__name__)


class Alerts:
    """The alerts of every account. `close()` waits a moment for mails under way.

    Args: an account may ask for `most` alerts within half an hour; `clock` gives seconds, never going back.
    """

    def __init__(
        self, worker: RegistryWorker, access: Access, mailer: Mailer, *, most: int, clock: Callable[[], float]
    ) -> None:
        self._worker = worker
        self._access = access
        self._mailer = mailer
        self._most = most
        self._quota = Quota(most, WINDOW_S, clock)
        self._under_way: set[asyncio.Task[None]] = set()

    async def send(self, account_id: int, subject: str, body: str) -> Alert:
        """Take an alert; a subject need not be there.

        Raises: `BadRequest`; `TooManyRequests`; `Conflict`, which the history tells too, when there is no mail server
        or no address to send it to.
        """
        account = self._access.account(account_id)
        if account is None:
            raise NotFound("there is no such account")
        check_text("subject", subject, MAX_SUBJECT_LENGTH)
        check_line("body", " ".join(body.splitlines()), MAX_BODY_LENGTH)
        if (wait_s := self._quota.take(account_id)) > 0:
            raise TooManyRequests(f"an account may send {self._most} alerts within 30 minutes", wait_s)
        reason = self._why_not(account)
        status = AlertStatus.FAILED if reason else AlertStatus.QUEUED
        title = subject.strip() or DEFAULT_SUBJECT
        alert = await self._worker.write(
            lambda registry: registry.add_alert(
                account_id, subject=title, body=body, status=status, reason=reason, most=MAX_HISTORY
            )
        )
        if reason:
            raise Conflict(reason)
        task = asyncio.get_running_loop().create_task(self._deliver(alert, account.email))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return alert

    async def history(self, account_id: int) -> list[Alert]:
        """An account's last alerts, newest first."""
        return await self._worker.read(lambda registry: registry.alerts_of(account_id))

    async def close(self) -> None:
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=CLOSE_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _why_not(self, account: Account) -> str:
        """Why no mail can go to this account; empty when one can."""
        if not self._mailer.is_set_up:
            return "no mail server is set up: the operator names one with the setting mail.host"
        return "" if account.email else "the account has no e-mail address: enter one on My Profile"

    async def _deliver(self, alert: Alert, address: str) -> None:
        status, reason = AlertStatus.SENT, ""
        try:
            await self._mailer.send(alert.account_id, Mail((address,), alert.subject, alert.body))
        except OutboundFailed as error:
            status, reason = AlertStatus.FAILED, str(error)
        except asyncio.CancelledError:  # by `close` alone
            status, reason = AlertStatus.FAILED, "the server stopped before the mail server had taken it"
        try:
            await self._worker.write(lambda registry: registry.set_alert_status(alert.id, status, reason))
        except StorageError as error:
            log.error("what became of an alert could not be written down", alert_id=alert.id, **reason_of(error))
