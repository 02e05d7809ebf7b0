"""The registry's rules for down-sampling: one transaction each, in the manner of `registry.py`.

The bucket that a rule fills is made and removed with the rule, and goes with the bucket that it is filled from.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from headwater.errors import Conflict
from headwater.registry.entities import Rollup
from headwater.registry.tables import ROLLUP_KIND, BucketRow, RollupRow
from headwater.registry.transactions import Transactions, known_id, not_found


class RollupRegistry(Transactions):
    """The part of `Registry` that keeps rules for down-sampling."""

    def add_rollup(
        self,
        account_id: int,
        bucket_id: int,
        *,
        window_s: int,
        aggregates: Sequence[str],
        keep_s: int | None,
        most: int,
    ) -> Rollup:
        """A rule and its target. `Conflict` when there is one of this window, or `most` of them."""
        with self._transaction() as session:
            source = session.get(BucketRow, known_id(bucket_id, "channel"))
            if source is None or source.account_id != account_id or source.kind == ROLLUP_KIND:
                raise not_found("channel", bucket_id)
            windows = session.scalars(select(RollupRow.window_s).where(RollupRow.bucket_id == bucket_id)).all()
            if window_s in windows:
                raise Conflict("there is a rule with this window already; remove it first")
            if len(windows) >= most:
                raise Conflict(f"a channel may have at most {most} rules for down-sampling")
            now = self._now()
            target = BucketRow(
                account_id=account_id,
                kind=ROLLUP_KIND,
                name="",
                description="",
                retention_s=keep_s,
                created_at=now,
                updated_at=now,
            )
            session.add(target)
            session.flush()
            row = RollupRow(
                bucket_id=bucket_id, target=target, window_s=window_s, aggregates=list(aggregates), created_at=now
            )
            session.add(row)
            session.flush()
            return row.entity()

    def remove_rollup(self, account_id: int, rollup_id: int) -> Rollup:
        """Remove a rule and its target. Returns it as it was."""
        with self._transaction() as session:
            row = session.get(RollupRow, known_id(rollup_id, "rule"))
            if row is None or row.target.account_id != account_id:
                raise not_found("rule", rollup_id)
            rollup = row.entity()
            session.expunge_all()
            session.execute(delete(BucketRow).where(BucketRow.id == rollup.target_bucket_id))
            return rollup


def all_rollups(session: Session) -> tuple[Rollup, ...]:
    """Every rule there is."""
    return tuple(row.entity() for row in session.scalars(select(RollupRow).order_by(RollupRow.id)))


def remove_targets(session: Session, bucket_id: int) -> None:
    """Remove the targets of a bucket that is about to be removed: the database removes the rules with them."""
    targets = select(RollupRow.target_bucket_id).where(RollupRow.bucket_id == bucket_id)
    session.execute(delete(BucketRow).where(BucketRow.id.in_(targets)))
