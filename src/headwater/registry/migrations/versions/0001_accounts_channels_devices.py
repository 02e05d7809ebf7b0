"""Accounts with their tokens, ThingSpeak channels with their fields and keys, MQTT devices with their
grants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("user_api_key", sa.String(16), nullable=False),
        sa.Column("mqtt_api_key", sa.String(16), nullable=False),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("session_epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("name", name="uq_accounts_name"),
        sa.UniqueConstraint("user_api_key", name="uq_accounts_user_api_key"),
        sa.UniqueConstraint("mqtt_api_key", name="uq_accounts_mqtt_api_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "account_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_account_tokens"),
        _foreign_key("account_tokens", "account_id", "accounts.id"),
        sa.UniqueConstraint("token_hash", name="uq_account_tokens_token_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_account_tokens_account_id", "account_tokens", ["account_id"])
    op.create_table(
        "buckets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_buckets"),
        _foreign_key("buckets", "account_id", "accounts.id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_buckets_account_id", "buckets", ["account_id"])
    op.create_table(
        "channels",
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column("latitude", sa.String(32), nullable=False),
        sa.Column("longitude", sa.String(32), nullable=False),
        sa.Column("elevation", sa.String(32), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("github_url", sa.String(), nullable=False),
        sa.Column("metadata", sa.String(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("bucket_id", name="pk_channels"),
        _foreign_key("channels", "bucket_id", "buckets.id"),
    )
    op.create_table(
        "channel_fields",
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("bucket_id", "number", name="pk_channel_fields"),
        _foreign_key("channel_fields", "bucket_id", "channels.bucket_id"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(16), nullable=False),
        sa.Column("allows_write", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        _foreign_key("api_keys", "bucket_id", "buckets.id"),
        sa.UniqueConstraint("key", name="uq_api_keys_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_api_keys_bucket_id", "api_keys", ["bucket_id"])
    op.create_table(
        "mqtt_devices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("client_id", sa.String(23), nullable=False),
        sa.Column("username", sa.String(23), nullable=False),
        sa.Column("password_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mqtt_devices"),
        _foreign_key("mqtt_devices", "account_id", "accounts.id"),
        sa.UniqueConstraint("client_id", name="uq_mqtt_devices_client_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_mqtt_devices_account_id", "mqtt_devices", ["account_id"])
    op.create_table(
        "grants",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column("allow_publish", sa.Boolean(), nullable=False),
        sa.Column("allow_subscribe", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "bucket_id", name="pk_grants"),
        _foreign_key("grants", "device_id", "mqtt_devices.id"),
        _foreign_key("grants", "bucket_id", "buckets.id"),
    )
    op.create_index("ix_grants_bucket_id", "grants", ["bucket_id"])


def _foreign_key(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"fk_{table}_{column}", ondelete="CASCADE")
