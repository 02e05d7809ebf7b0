"""ThingHTTP requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "thing_https",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("api_key", sa.String(16), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_thing_https"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_thing_https_account_id", ondelete="CASCADE"),
        sa.UniqueConstraint("key_hash", name="uq_thing_https_key_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_thing_https_account_id", "thing_https", ["account_id"])
