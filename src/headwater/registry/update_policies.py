"""The registry's limits on updates, as their owners set them: one for all channels of an account, others for single
channels. What is not here has no limit of its own. One transaction each, in the manner of `registry.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from headwater.model.update_policy import TooFast, UpdatePolicy
from headwater.registry.tables import CHANNEL_KIND, AccountRow, Base, BucketRow
from headwater.registry.transactions import Transactions, known_id, not_found


class AccountUpdatePolicyRow(Base):
    """For every channel of an account that has none of its own."""

    __tablename__ = "account_update_policies"

    account_id: Mapped[int] = mapped_column(ForeignKey(AccountRow.id, ondelete="CASCADE"), primary_key=True)
    action: Mapped[str] = mapped_column(String(16))
    interval_s: Mapped[int]


class ChannelUpdatePolicyRow(Base):
    """For one channel, in place of the account's."""

    __tablename__ = "channel_update_policies"

    bucket_id: Mapped[int] = mapped_column(ForeignKey(BucketRow.id, ondelete="CASCADE"), primary_key=True)
    action: Mapped[str] = mapped_column(String(16))
    interval_s: Mapped[int]


class KnownUpdatePolicies(NamedTuple):
    """All of them, by account and by channel."""

    of_accounts: dict[int, UpdatePolicy]
    of_channels: dict[int, UpdatePolicy]


class UpdatePolicyRegistry(Transactions):
    """The part of `Registry` that keeps limits on updates."""

    def update_policies(self) -> KnownUpdatePolicies:
        with self._transaction() as session:
            accounts = session.scalars(select(AccountUpdatePolicyRow))
            channels = session.scalars(select(ChannelUpdatePolicyRow))
            return KnownUpdatePolicies(
                {row.account_id: _policy_of(row) for row in accounts},
                {row.bucket_id: _policy_of(row) for row in channels},
            )

    def set_account_update_policy(self, account_id: int, policy: UpdatePolicy) -> None:
        with self._transaction() as session:
            account_id = self._account(session, account_id).id
            session.merge(
                AccountUpdatePolicyRow(account_id=account_id, action=policy.action.value, interval_s=policy.interval_s)
            )

    def set_channel_update_policy(self, account_id: int, channel_id: int, policy: UpdatePolicy | None) -> None:
        """None: the account's applies again."""
        with self._transaction() as session:
            _check_owned(session, account_id, channel_id)
            if policy is not None:
                session.merge(
                    ChannelUpdatePolicyRow(
                        bucket_id=channel_id, action=policy.action.value, interval_s=policy.interval_s
                    )
                )
            elif (row := session.get(ChannelUpdatePolicyRow, channel_id)) is not None:
                session.delete(row)


def _policy_of(row: AccountUpdatePolicyRow | ChannelUpdatePolicyRow) -> UpdatePolicy:
    return UpdatePolicy(TooFast(row.action), row.interval_s)


def _check_owned(session: Session, account_id: int, channel_id: int) -> None:
    bucket = session.get(BucketRow, known_id(channel_id, "channel"))
    if bucket is None or bucket.account_id != account_id or bucket.kind != CHANNEL_KIND:
        raise not_found("channel", channel_id)
