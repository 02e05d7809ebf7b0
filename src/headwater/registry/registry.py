"""The registry's reads and writes: each method is one transaction and gives entities.

Every method may block on disk: the services call them through `RegistryWorker`. Ownership is checked here, in
the transaction that makes the change: what belongs to another account is `NotFound`. Texts and limits are the
services' business and come in as arguments. Errors: `NotFound`, `Conflict` (a limit is reached, or a name or
key is taken), `StorageError` for whatever the database refuses.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from headwater.errors import Conflict
from headwater.registry.alerts import AlertRegistry
from headwater.registry.chart_options import ChartOptionsRegistry
from headwater.registry.devices import DeviceRegistry
from headwater.registry.entities import (
    Account,
    AccountDevice,
    AccountToken,
    Channel,
    ChannelSettings,
    MqttDevice,
    Rollup,
)
from headwater.registry.rollups import RollupRegistry, all_rollups, remove_targets
from headwater.registry.rules import RuleRegistry
from headwater.registry.shares import ShareRegistry, all_shares
from headwater.registry.tables import (
    CHANNEL_KIND,
    ROLLUP_KIND,
    AccountDeviceRow,
    AccountRow,
    AccountTokenRow,
    ApiKeyRow,
    BucketRow,
    ChannelRow,
    MqttDeviceRow,
)
from headwater.registry.talkback_tables import TalkBack
from headwater.registry.talkbacks import TalkBackRegistry, all_talkbacks
from headwater.registry.thing_https import ThingHttpRegistry
from headwater.registry.transactions import known_id, leave_room, not_found
from headwater.registry.update_policies import UpdatePolicyRegistry


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that decides who may do what, at one moment."""

    accounts: tuple[Account, ...]
    tokens: tuple[tuple[AccountToken, bytes], ...]
    """With the SHA-256 of each token."""
    channels: tuple[Channel, ...]
    devices: tuple[tuple[MqttDevice, bytes], ...]
    """With the SHA-256 of each password."""
    account_devices: tuple[tuple[AccountDevice, str], ...]
    """With the hash of each credential."""
    retentions: tuple[tuple[int, int], ...]
    """Buckets of any kind whose points are not kept for ever, with their retention in seconds. Results of
    down-sampling are not among them: their rules say how long they are kept."""
    rollups: tuple[Rollup, ...] = ()
    talkbacks: tuple[TalkBack, ...] = ()
    shares: tuple[tuple[int, frozenset[int]], ...] = ()
    """Channels that are shared, with the ids of the accounts that may read them."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to keep: its name and the SHA-256 of its text."""

    name: str
    token_hash: bytes


class Registry(
    DeviceRegistry,
    RollupRegistry,
    TalkBackRegistry,
    ThingHttpRegistry,
    AlertRegistry,
    RuleRegistry,
    UpdatePolicyRegistry,
    ShareRegistry,
    ChartOptionsRegistry,
):
    """Accounts, channels and devices in a database. `open_registry` makes one; `close()` gives the file free."""

    def close(self) -> None:
        self._engine.dispose()

    def last_bucket_id(self) -> int:
        """The greatest id that a bucket ever got, also one that is gone; 0 before the first."""
        with self._transaction() as session:
            sequence = session.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'buckets'"))
            return int(sequence or 0)

    def snapshot(self) -> Snapshot:
        with self._transaction() as session:
            accounts = session.scalars(select(AccountRow).order_by(AccountRow.id))
            tokens = session.scalars(select(AccountTokenRow).order_by(AccountTokenRow.id))
            channels = session.scalars(select(ChannelRow).order_by(ChannelRow.bucket_id))
            devices = session.scalars(select(MqttDeviceRow).order_by(MqttDeviceRow.id))
            account_devices = session.scalars(select(AccountDeviceRow).order_by(AccountDeviceRow.id))
            retentions = session.execute(
                select(BucketRow.id, BucketRow.retention_s).where(
                    BucketRow.retention_s.is_not(None), BucketRow.kind != ROLLUP_KIND
                )
            )
            return Snapshot(
                accounts=tuple(row.entity() for row in accounts),
                tokens=tuple((row.entity(), row.token_hash) for row in tokens),
                channels=tuple(row.entity() for row in channels),
                devices=tuple((row.entity(), row.password_hash) for row in devices),
                account_devices=tuple((row.entity(), row.credential_hash) for row in account_devices),
                retentions=tuple((bucket_id, retention_s) for bucket_id, retention_s in retentions if retention_s),
                rollups=all_rollups(session),
                talkbacks=all_talkbacks(session),
                shares=all_shares(session),
            )

    # Accounts and their tokens

    def add_account(
        self,
        name: str,
        *,
        password_hash: str,
        user_api_key: str,
        mqtt_api_key: str,
        alerts_api_key: str,
        is_admin: bool,
        time_zone: str,
        token: NewToken | None = None,
    ) -> tuple[Account, AccountToken | None]:
        with self._transaction() as session:
            if session.scalar(select(AccountRow.id).where(AccountRow.name == name)) is not None:
                raise Conflict(f"there is an account named {name} already")
            account = AccountRow(
                name=name,
                password_hash=password_hash,
                is_admin=is_admin,
                user_api_key=user_api_key,
                mqtt_api_key=mqtt_api_key,
                alerts_api_key=alerts_api_key,
                email="",
                time_zone=time_zone,
                session_epoch=1,
                created_at=self._now(),
            )
            session.add(account)
            session.flush()
            added = None if token is None else self._add_token(session, account.id, token)
            return account.entity(), added

    def remove_account(self, account_id: int) -> None:
        """Remove an account and everything it owns here."""
        with self._transaction() as session:
            self._account(session, account_id)
            session.execute(delete(AccountRow).where(AccountRow.id == account_id))

    def password_of(self, name: str) -> tuple[int, str] | None:
        """Id and password hash of the account of this name."""
        with self._transaction() as session:
            row = session.execute(
                select(AccountRow.id, AccountRow.password_hash).where(AccountRow.name == name)
            ).one_or_none()
            return None if row is None else (row.id, row.password_hash)

    def set_password(self, account_id: int, password_hash: str) -> Account:
        """A new password, which ends the sessions that began with an older one."""
        with self._transaction() as session:
            row = self._account(session, account_id)
            row.password_hash = password_hash
            row.session_epoch += 1
            return row.entity()

    def renew_password_hash(self, account_id: int, old_hash: str, new_hash: str) -> None:
        """The same password hashed anew; nothing happens when the password was changed meanwhile."""
        with self._transaction() as session:
            row = self._account(session, account_id)
            if row.password_hash == old_hash:
                row.password_hash = new_hash

    def set_user_api_key(self, account_id: int, key: str) -> Account:
        with self._transaction() as session:
            row = self._account(session, account_id)
            row.user_api_key = key
            return row.entity()

    def set_mqtt_api_key(self, account_id: int, key: str) -> Account:
        with self._transaction() as session:
            row = self._account(session, account_id)
            row.mqtt_api_key = key
            return row.entity()

    def set_alerts_api_key(self, account_id: int, key: str) -> Account:
        with self._transaction() as session:
            row = self._account(session, account_id)
            row.alerts_api_key = key
            return row.entity()

    def set_email(self, account_id: int, email: str) -> Account:
        with self._transaction() as session:
            row = self._account(session, account_id)
            row.email = email
            return row.entity()

    def set_time_zone(self, account_id: int, time_zone: str) -> Account:
        with self._transaction() as session:
            row = self._account(session, account_id)
            row.time_zone = time_zone
            return row.entity()

    def add_token(self, account_id: int, token: NewToken, *, most: int) -> AccountToken:
        with self._transaction() as session:
            self._account(session, account_id)
            leave_room(session, AccountTokenRow.account_id, account_id, most, "tokens")
            return self._add_token(session, account_id, token)

    def remove_token(self, account_id: int, token_id: int) -> AccountToken:
        with self._transaction() as session:
            row = session.get(AccountTokenRow, known_id(token_id, "token"))
            if row is None or row.account_id != account_id:
                raise not_found("token", token_id)
            session.delete(row)
            return row.entity()

    # Channels and their keys

    def add_channel(
        self, account_id: int, settings: ChannelSettings, *, write_key: str, read_key: str, most: int
    ) -> Channel:
        with self._transaction() as session:
            self._account(session, account_id)
            leave_room(session, BucketRow.account_id, account_id, most, "channels", BucketRow.kind == CHANNEL_KIND)
            now = self._now()
            bucket = BucketRow(account_id=account_id, kind=CHANNEL_KIND, created_at=now, updated_at=now)
            bucket.api_keys = [
                ApiKeyRow(key=write_key, allows_write=True, note="", created_at=now),
                ApiKeyRow(key=read_key, allows_write=False, note="", created_at=now),
            ]
            row = ChannelRow(bucket=bucket)
            row.apply(settings)
            session.add(row)
            session.flush()
            return row.entity()

    def update_channel(self, account_id: int, channel_id: int, settings: ChannelSettings) -> Channel:
        with self._transaction() as session:
            row = self._channel(session, account_id, channel_id)
            row.apply(settings)
            row.bucket.updated_at = self._now()
            return row.entity()

    def remove_channel(self, account_id: int, channel_id: int) -> Channel:
        """Remove a channel, its keys, the grants on it, and what it is down-sampled to. Returns it as it was."""
        with self._transaction() as session:
            channel = self._channel(session, account_id, channel_id).entity()
            remove_targets(session, channel_id)
            session.execute(delete(BucketRow).where(BucketRow.id == channel_id))
            return channel

    def set_write_key(self, account_id: int, channel_id: int, key: str) -> Channel:
        with self._transaction() as session:
            row = self._channel(session, account_id, channel_id)
            write_key = next(api_key for api_key in row.bucket.api_keys if api_key.allows_write)
            write_key.key = key
            write_key.created_at = self._now()
            return row.entity()

    def add_read_key(self, account_id: int, channel_id: int, key: str, *, note: str, most: int) -> Channel:
        with self._transaction() as session:
            row = self._channel(session, account_id, channel_id)
            if sum(not api_key.allows_write for api_key in row.bucket.api_keys) >= most:
                raise Conflict(f"a channel may have at most {most} read keys")
            row.bucket.api_keys.append(ApiKeyRow(key=key, allows_write=False, note=note, created_at=self._now()))
            session.flush()
            return row.entity()

    def set_key_note(self, account_id: int, channel_id: int, key_id: int, note: str) -> Channel:
        with self._transaction() as session:
            row = self._channel(session, account_id, channel_id)
            for api_key in row.bucket.api_keys:
                if api_key.id == key_id:
                    api_key.note = note
                    return row.entity()
            raise not_found("key", key_id)

    def remove_read_key(self, account_id: int, channel_id: int, key_id: int) -> Channel:
        with self._transaction() as session:
            row = self._channel(session, account_id, channel_id)
            for api_key in row.bucket.api_keys:
                if api_key.id == key_id and not api_key.allows_write:
                    row.bucket.api_keys.remove(api_key)
                    return row.entity()
            raise not_found("read key", key_id)

    # What the methods share

    def _add_token(self, session: Session, account_id: int, token: NewToken) -> AccountToken:
        row = AccountTokenRow(
            account_id=account_id, name=token.name, token_hash=token.token_hash, created_at=self._now()
        )
        session.add(row)
        session.flush()
        return row.entity()

    def _channel(self, session: Session, account_id: int, channel_id: int) -> ChannelRow:
        row = session.get(ChannelRow, known_id(channel_id, "channel"))
        if row is None or row.bucket.account_id != account_id:
            raise not_found("channel", channel_id)
        return row
