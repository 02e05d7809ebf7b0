"""The registry's history of alerts: one transaction each, in the manner of `registry.py`."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, String, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from headwater.registry.tables import AccountRow, Base
from headwater.registry.transactions import Transactions


class AlertStatus(enum.StrEnum):
    QUEUED = "queued"
    """The mail server has not taken it yet; for ever, if the server was killed meanwhile."""
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Alert:
    """A mail that somebody asked for with an account's alerts key."""

    id: int
    account_id: int
    created_at: datetime
    subject: str
    body: str
    status: AlertStatus
    reason: str
    """Why it failed; empty unless it did."""


class AlertRow(Base):
    __tablename__ = "alerts"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  SQLAlchemy's own form

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(AccountRow.id, ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    subject: Mapped[str] = mapped_column(String(255))
    body: Mapped[str]
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str]

    def entity(self) -> Alert:
        return Alert(
            self.id, self.account_id, self.created_at, self.subject, self.body, AlertStatus(self.status), self.reason
        )


class AlertRegistry(Transactions):
    """The part of `Registry` that keeps alerts."""

    def alerts_of(self, account_id: int) -> list[Alert]:
        """An account's, newest first."""
        with self._transaction() as session:
            wanted = select(AlertRow).where(AlertRow.account_id == account_id).order_by(AlertRow.id.desc())
            return [row.entity() for row in session.scalars(wanted)]

    def add_alert(
        self, account_id: int, *, subject: str, body: str, status: AlertStatus, reason: str, most: int
    ) -> Alert:
        """Of more than `most`, the oldest are forgotten."""
        with self._transaction() as session:
            self._account(session, account_id)
            row = AlertRow(
                account_id=account_id, created_at=self._now(), subject=subject, body=body, status=status, reason=reason
            )
            session.add(row)
            session.flush()
            kept = select(AlertRow.id).where(AlertRow.account_id == account_id).order_by(AlertRow.id.desc()).limit(most)
            session.execute(delete(AlertRow).where(AlertRow.account_id == account_id, AlertRow.id.not_in(kept)))
            return row.entity()

    def set_alert_status(self, alert_id: int, status: AlertStatus, reason: str) -> None:
        """How it ended; nothing happens when it is forgotten already."""
        with self._transaction() as session:
            row = session.get(AlertRow, alert_id)
            if row is not None:
                row.status, row.reason = status, reason
