"""Rules, and what they have done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "rules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("bucket_id", sa.Integer(), nullable=True),
        sa.Column("trigger", sa.LargeBinary(), nullable=False),
        sa.Column("actions", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_met", sa.Boolean(), nullable=False),
        sa.Column("last_due_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_run_ns", sa.BigInteger(), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rules"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_rules_account_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["bucket_id"], ["buckets.id"], name="fk_rules_bucket_id", ondelete="SET NULL"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_rules_account_id", "rules", ["account_id"])
    op.create_index("ix_rules_bucket_id", "rules", ["bucket_id"])
    op.create_table(
        "rule_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rule_id", sa.Integer(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(1000), nullable=False),
        sa.Column("entry_id", sa.BigInteger(), nullable=True),
        sa.Column("is_test", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("results", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rule_runs"),
        sa.ForeignKeyConstraint(["rule_id"], ["rules.id"], name="fk_rule_runs_rule_id", ondelete="CASCADE"),
    )
    op.create_index("ix_rule_runs_rule_id", "rule_runs", ["rule_id"])
