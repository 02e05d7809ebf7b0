"""The registry's devices of both kinds: one transaction each, in the manner of `registry.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from headwater.errors import Conflict
from headwater.model.principal import Grant
from headwater.registry.entities import AccountDevice, MqttDevice
from headwater.registry.tables import CHANNEL_KIND, AccountDeviceRow, BucketRow, MqttDeviceRow
from headwater.registry.transactions import Transactions, known_id, leave_room, not_found

DeviceRow = TypeVar("DeviceRow", MqttDeviceRow, AccountDeviceRow)

_KINDS = {MqttDeviceRow: "MQTT device", AccountDeviceRow: "account device"}
"""What people call them."""


class DeviceRegistry(Transactions):
    """The part of `Registry` that keeps devices."""

    # MQTT devices and their grants

    def add_device(
        self,
        account_id: int,
        *,
        name: str,
        client_id: str,
        password_hash: bytes,
        grants: Sequence[Grant],
        most: int,
    ) -> MqttDevice:
        with self._transaction() as session:
            self._account(session, account_id)
            leave_room(session, MqttDeviceRow.account_id, account_id, most, "MQTT devices")
            _check_grants(session, account_id, grants)
            row = MqttDeviceRow(
                account_id=account_id,
                name=name,
                client_id=client_id,
                username=client_id,
                password_hash=password_hash,
                is_enabled=True,
                created_at=self._now(),
            )
            row.grant(grants)
            session.add(row)
            session.flush()
            return row.entity()

    def update_device(
        self,
        account_id: int,
        device_id: int,
        *,
        name: str | None = None,
        grants: Sequence[Grant] | None = None,
        is_enabled: bool | None = None,
    ) -> MqttDevice:
        """Change what is given, leave what is None."""
        with self._transaction() as session:
            row = _owned(session, MqttDeviceRow, account_id, device_id)
            if grants is not None:
                _check_grants(session, account_id, grants)
                row.grant(grants)
            _change(row, name, is_enabled)
            return row.entity()

    def set_device_password(self, account_id: int, device_id: int, password_hash: bytes) -> MqttDevice:
        with self._transaction() as session:
            row = _owned(session, MqttDeviceRow, account_id, device_id)
            row.password_hash = password_hash
            return row.entity()

    def remove_device(self, account_id: int, device_id: int) -> MqttDevice:
        """Returns the device as it was."""
        with self._transaction() as session:
            return _remove(session, _owned(session, MqttDeviceRow, account_id, device_id)).entity()

    # Account devices

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
            row = _owned(session, AccountDeviceRow, account_id, id_)
            _change(row, name, is_enabled)
            return row.entity()

    def set_account_device_credential(self, account_id: int, id_: int, credential_hash: str) -> AccountDevice:
        with self._transaction() as session:
            row = _owned(session, AccountDeviceRow, account_id, id_)
            row.credential_hash = credential_hash
            return row.entity()

    def remove_account_device(self, account_id: int, id_: int) -> AccountDevice:
        """Returns the device as it was."""
        with self._transaction() as session:
            return _remove(session, _owned(session, AccountDeviceRow, account_id, id_)).entity()


def _owned(session: Session, kind: type[DeviceRow], account_id: int, id_: int) -> DeviceRow:
    row = session.get(kind, known_id(id_, _KINDS[kind]))
    if row is None or row.account_id != account_id:
        raise not_found(_KINDS[kind], id_)
    return row


def _change(row: MqttDeviceRow | AccountDeviceRow, name: str | None, is_enabled: bool | None) -> None:
    if name is not None:
        row.name = name
    if is_enabled is not None:
        row.is_enabled = is_enabled


def _remove(session: Session, row: DeviceRow) -> DeviceRow:
    """The row is gone from the database; the grants it had, the database removes."""
    session.expunge(row)
    session.execute(delete(type(row)).where(type(row).id == row.id))
    return row


def _check_grants(session: Session, account_id: int, grants: Sequence[Grant]) -> None:
    """Raise `NotFound` for the first grant on something that is not a channel of this account."""
    wanted = [known_id(grant.bucket_id, "channel") for grant in grants]
    owned = set(
        session.scalars(
            select(BucketRow.id).where(
                BucketRow.account_id == account_id, BucketRow.kind == CHANNEL_KIND, BucketRow.id.in_(wanted)
            )
        )
    )
    for bucket_id in wanted:
        if bucket_id not in owned:
            raise not_found("channel", bucket_id)
