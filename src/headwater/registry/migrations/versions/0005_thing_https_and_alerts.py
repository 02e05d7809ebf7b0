"""ThingHTTP requests; alerts, with an address and a key of each account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from headwater.registry.keys import generate_api_key

revision = "0005"
down_revision = "0004"


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
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_alerts_account_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alerts_account_id", "alerts", ["account_id"])
    # Added to the table as it is: to make it anew would take along everything that belongs to an account.
    op.add_column("accounts", sa.Column("email", sa.String(254), nullable=False, server_default=sa.text("''")))
    op.add_column("accounts", sa.Column("alerts_api_key", sa.String(16), nullable=False, server_default=sa.text("''")))
    accounts = sa.table("accounts", sa.column("id", sa.Integer()), sa.column("alerts_api_key", sa.String()))
    connection = op.get_bind()
    for account_id in connection.scalars(sa.select(accounts.c.id)).all():
        with_key = accounts.update().where(accounts.c.id == account_id).values(alerts_api_key=generate_api_key())
        connection.execute(with_key)
    op.create_index("ix_accounts_alerts_api_key", "accounts", ["alerts_api_key"], unique=True)
