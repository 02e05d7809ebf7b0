"""With which accounts a channel is shared: rows and transactions, in the manner of `registry.py`.

A share lets somebody read, and goes with the channel and with the account.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ForeignKey, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from headwater.registry.tables import AccountRow, Base, ChannelRow
from headwater.registry.transactions import Transactions, known_id, not_found


class ChannelShareRow(Base):
    __tablename__ = "channel_shares"

    bucket_id: Mapped[int] = mapped_column(
        ForeignKey(ChannelRow.bucket_id, ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    account_id: Mapped[int] = mapped_column(
        ForeignKey(AccountRow.id, ondelete="CASCADE"), primary_key=True, autoincrement=False, index=True
    )


class ShareRegistry(Transactions):
    """The part of `Registry` that keeps with whom channels are shared."""

    def set_shares(self, account_id: int, channel_id: int, reader_ids: Collection[int]) -> frozenset[int]:
        """Share a channel with these accounts, and with no others. Returns their ids."""
        with self._transaction() as session:
            row = session.get(ChannelRow, known_id(channel_id, "channel"))
            if row is None or row.bucket.account_id != account_id:
                raise not_found("channel", channel_id)
            readers = frozenset(reader_ids) - {account_id}
            for reader_id in readers:
                self._account(session, reader_id)
            session.execute(delete(ChannelShareRow).where(ChannelShareRow.bucket_id == channel_id))
            session.add_all(ChannelShareRow(bucket_id=channel_id, account_id=one) for one in sorted(readers))
            return readers


def all_shares(session: Session) -> tuple[tuple[int, frozenset[int]], ...]:
    """Every channel that is shared, with its readers."""
    readers: dict[int, set[int]] = {}
    for bucket_id, account_id in session.execute(select(ChannelShareRow.bucket_id, ChannelShareRow.account_id)):
        readers.setdefault(bucket_id, set()).add(account_id)
    return tuple((bucket_id, frozenset(found)) for bucket_id, found in sorted(readers.items()))
