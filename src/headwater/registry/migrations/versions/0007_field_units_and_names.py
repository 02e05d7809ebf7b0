"""Units and display names of fields, and channels whose fields may be called by name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    empty = sa.text("''")
    op.add_column("channel_fields", sa.Column("unit", sa.String(32), nullable=False, server_default=empty))
    op.add_column("channel_fields", sa.Column("label", sa.String(255), nullable=False, server_default=empty))
    op.add_column("channels", sa.Column("takes_names", sa.Boolean(), nullable=False, server_default=sa.false()))
