"""How the owner of a channel wants its charts to look: rows and transactions, in the manner of `registry.py`.

Options are texts by name, as a chart's address has them; what they mean is for whoever draws.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import JSON, ForeignKey, select
from sqlalchemy.orm import Mapped, mapped_column

from headwater.registry.tables import Base, ChannelRow
from headwater.registry.transactions import Transactions, known_id, not_found


class ChartOptionsRow(Base):
    __tablename__ = "chart_options"

    bucket_id: Mapped[int] = mapped_column(
        ForeignKey(ChannelRow.bucket_id, ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Of the field."""
    options: Mapped[dict[str, str]] = mapped_column(JSON)


class ChartOptionsRegistry(Transactions):
    """The part of `Registry` that keeps what charts look like."""

    def chart_options(self, channel_id: int) -> dict[int, dict[str, str]]:
        """The options of a channel's charts, by field; charts without any are not there."""
        with self._transaction() as session:
            rows = session.scalars(select(ChartOptionsRow).where(ChartOptionsRow.bucket_id == channel_id))
            return {row.number: dict(row.options) for row in rows}

    def set_chart_options(self, account_id: int, channel_id: int, number: int, options: Mapping[str, str]) -> None:
        """Keep the options of one field's chart in place of those before."""
        with self._transaction() as session:
            channel = session.get(ChannelRow, known_id(channel_id, "channel"))
            if channel is None or channel.bucket.account_id != account_id:
                raise not_found("channel", channel_id)
            row = session.get(ChartOptionsRow, (channel_id, number))
            if row is not None:
                session.delete(row)
                session.flush()
            if options:
                session.add(ChartOptionsRow(bucket_id=channel_id, number=number, options=dict(options)))
