"""Limits on updates, of accounts and of single channels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    for owner, owners in (("account", "accounts"), ("bucket", "buckets")):
        table = "channel_update_policies" if owner == "bucket" else "account_update_policies"
        op.create_table(
            table,
            sa.Column(f"{owner}_id", sa.Integer(), nullable=False),
            sa.Column("action", sa.String(16), nullable=False),
            sa.Column("interval_s", sa.Integer(), nullable=False),
            sa.PrimaryKeyConstraint(f"{owner}_id", name=f"pk_{table}"),
            sa.ForeignKeyConstraint(
                [f"{owner}_id"], [f"{owners}.id"], name=f"fk_{table}_{owner}_id", ondelete="CASCADE"
            ),
        )
