"""With whom channels are shared, and how their charts look."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "channel_shares",
        sa.Column("bucket_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("bucket_id", "account_id", name="pk_channel_shares"),
        sa.ForeignKeyConstraint(
            ["bucket_id"], ["channels.bucket_id"], name="fk_channel_shares_bucket_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_channel_shares_account_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_channel_shares_account_id", "channel_shares", ["account_id"])
    op.create_table(
        "chart_options",
        sa.Column("bucket_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("bucket_id", "number", name="pk_chart_options"),
        sa.ForeignKeyConstraint(
            ["bucket_id"], ["channels.bucket_id"], name="fk_chart_options_bucket_id", ondelete="CASCADE"
        ),
    )
