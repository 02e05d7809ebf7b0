"""Retention of buckets, and rules for down-sampling them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("buckets", sa.Column("retention_s", sa.BigInteger(), nullable=True))
    op.create_table(
        "rollups",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column("target_bucket_id", sa.Integer(), nullable=False),
        sa.Column("window_s", sa.BigInteger(), nullable=False),
        sa.Column("aggregates", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollups"),
        sa.ForeignKeyConstraint(["bucket_id"], ["buckets.id"], name="fk_rollups_bucket_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["target_bucket_id"], ["buckets.id"], name="fk_rollups_target_bucket_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("target_bucket_id", name="uq_rollups_target_bucket_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_rollups_bucket_id", "rollups", ["bucket_id"])
