"""TalkBacks and their commands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "talkbacks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("api_key", sa.String(length=16), nullable=False),
        sa.Column("log_bucket_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_talkbacks"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_talkbacks_account_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["log_bucket_id"], ["buckets.id"], name="fk_talkbacks_log_bucket_id", ondelete="SET NULL"
        ),
        sa.UniqueConstraint("api_key", name="uq_talkbacks_api_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_talkbacks_account_id", "talkbacks", ["account_id"])
    op.create_index("ix_talkbacks_log_bucket_id", "talkbacks", ["log_bucket_id"])
    op.create_table(
        "talkback_commands",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("talkback_id", sa.Integer(), nullable=False),
        sa.Column("command_string", sa.String(length=255), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=True),
        sa.Column("executed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_talkback_commands"),
        sa.ForeignKeyConstraint(
            ["talkback_id"], ["talkbacks.id"], name="fk_talkback_commands_talkback_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_talkback_commands_talkback_id_place", "talkback_commands", ["talkback_id", "place"])
