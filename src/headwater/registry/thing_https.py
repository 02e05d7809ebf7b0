"""The registry's ThingHTTP requests: one transaction each, in the manner of `registry.py`.

What a request looks like is sealed before it comes here; the name and the key are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from headwater.registry.keys import hash_secret
from headwater.registry.tables import AccountRow, Base
from headwater.registry.transactions import Transactions, known_id, leave_room, not_found

_THING = "ThingHTTP"


@dataclass(frozen=True, slots=True)
class ThingHttp:
    """A stored request to somewhere else."""

    id: int
    account_id: int
    name: str
    api_key: str = field(repr=False)
    """Runs this one request over REST. 16 characters of 0-9A-Z."""
    sealed: bytes = field(repr=False)
    """What it looks like."""
    created_at: datetime
    updated_at: datetime


class ThingHttpRow(Base):
    __tablename__ = "thing_https"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  SQLAlchemy's own form

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(AccountRow.id, ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    api_key: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    """By which it is found, so that the time this takes says nothing about other keys."""
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def give_key(self, api_key: str) -> None:
        self.api_key = api_key
        self.key_hash = hash_secret(api_key)

    def entity(self) -> ThingHttp:
        return ThingHttp(
            self.id, self.account_id, self.name, self.api_key, self.sealed, self.created_at, self.updated_at
        )


class ThingHttpRegistry(Transactions):
    """The part of `Registry` that keeps ThingHTTP requests."""

    def thing_https_of(self, account_id: int) -> list[ThingHttp]:
        """An account's, oldest first."""
        with self._transaction() as session:
            wanted = select(ThingHttpRow).where(ThingHttpRow.account_id == account_id).order_by(ThingHttpRow.id)
            return [row.entity() for row in session.scalars(wanted)]

    def thing_http(self, account_id: int, thing_http_id: int) -> ThingHttp:
        with self._transaction() as session:
            return self._thing_http(session, account_id, thing_http_id).entity()

    def thing_http_of_key(self, api_key: str) -> ThingHttp | None:
        with self._transaction() as session:
            row = session.scalar(select(ThingHttpRow).where(ThingHttpRow.key_hash == hash_secret(api_key)))
            return None if row is None else row.entity()

    def add_thing_http(self, account_id: int, *, name: str, api_key: str, sealed: bytes, most: int) -> ThingHttp:
        with self._transaction() as session:
            self._account(session, account_id)
            leave_room(session, ThingHttpRow.account_id, account_id, most, "ThingHTTP requests")
            now = self._now()
            row = ThingHttpRow(account_id=account_id, name=name, sealed=sealed, created_at=now, updated_at=now)
            row.give_key(api_key)
            session.add(row)
            session.flush()
            return row.entity()

    def update_thing_http(self, account_id: int, thing_http_id: int, *, name: str, sealed: bytes) -> ThingHttp:
        with self._transaction() as session:
            row = self._thing_http(session, account_id, thing_http_id)
            row.name, row.sealed, row.updated_at = name, sealed, self._now()
            return row.entity()

    def set_thing_http_key(self, account_id: int, thing_http_id: int, api_key: str) -> ThingHttp:
        with self._transaction() as session:
            row = self._thing_http(session, account_id, thing_http_id)
            row.give_key(api_key)
            return row.entity()

    def remove_thing_http(self, account_id: int, thing_http_id: int) -> ThingHttp:
        """Returns it as it was."""
        with self._transaction() as session:
            row = self._thing_http(session, account_id, thing_http_id)
            session.delete(row)
            return row.entity()

    def _thing_http(self, session: Session, account_id: int, thing_http_id: int) -> ThingHttpRow:
        row = session.get(ThingHttpRow, known_id(thing_http_id, _THING))
        if row is None or row.account_id != account_id:
            raise not_found(_THING, thing_http_id)
        return row
