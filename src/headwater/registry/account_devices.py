"""The registry's account devices: one transaction each, in the manner of `registry.py`."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from headwater.errors import Conflict
from headwater.registry.entities import AccountDevice
from headwater.registry.tables import AccountDeviceRow
from headwater.registry.transactions import Transactions, known_id, leave_room, not_found


class AccountDeviceRegistry(Transactions):
    """The part of `Registry` that keeps account devices."""

    def add_account_device(
        self, account_id: int, device_id: str, *, name: str, credential_hash: str, most: int
    ) -> AccountDevice:
        with self._transaction() as session:
            self._account(session, account_id)
            leave_room(session, AccountDeviceRow.account_id, account_id, most, "account devices")
            taken = select(AccountDeviceRow.id).where(
                AccountDeviceRow.account_id == account_id, AccountDeviceRow.device_id == device_id
            )
            if session.scalar(taken) is not None:
                raise Conflict(f"there is a device {device_id} already")
            row = AccountDeviceRow(
                account_id=account_id,
                device_id=device_id,
                name=name,
                credential_hash=credential_hash,
                is_enabled=True,
                created_at=self._now(),
            )
            session.add(row)
            session.flush()
            return row.entity()

    def update_account_device(
        self, account_id: int, id_: int, *, name: str | None = None, is_enabled: bool | None = None
    ) -> AccountDevice:
        """Change what is given, leave what is None."""
        with self._transaction() as session:
            row = self._account_device(session, account_id, id_)
            if name is not None:
                row.name = name
            if is_enabled is not None:
                row.is_enabled = is_enabled
            return row.entity()

    def set_account_device_credential(self, account_id: int, id_: int, credential_hash: str) -> AccountDevice:
        with self._transaction() as session:
            row = self._account_device(session, account_id, id_)
            row.credential_hash = credential_hash
            return row.entity()

    def remove_account_device(self, account_id: int, id_: int) -> AccountDevice:
        """Returns the device as it was."""
        with self._transaction() as session:
            device = self._account_device(session, account_id, id_).entity()
            session.execute(delete(AccountDeviceRow).where(AccountDeviceRow.id == id_))
            return device

    def _account_device(self, session: Session, account_id: int, id_: int) -> AccountDeviceRow:
        row = session.get(AccountDeviceRow, known_id(id_, "account device"))
        if row is None or row.account_id != account_id:
            raise not_found("account device", id_)
        return row
