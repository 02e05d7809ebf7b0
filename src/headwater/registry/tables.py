"""The registry's tables, and each row's way into an entity. Knows no query and no transaction.

Whoever changes a table here adds a migration; a test compares the two. Ids of accounts, buckets and devices
are never reused (AUTOINCREMENT): an old session, topic or stored series must not come to mean somebody else's
thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from headwater.model.principal import Grant
from headwater.registry.entities import (
    Account,
    AccountDevice,
    AccountToken,
    ApiKey,
    Channel,
    ChannelSettings,
    MqttDevice,
    Rollup,
)

CHANNEL_KIND = "thingspeak"
"""`buckets.kind` of a ThingSpeak channel."""
ROLLUP_KIND = "rollup"
"""`buckets.kind` of what down-sampling fills."""

_EMPTY = text("''")
_NEVER_REUSED = {"sqlite_autoincrement": True}


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC times, also on SQLite, which keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    # Named constraints, because a later migration can only alter what has a name.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, bytes: LargeBinary}  # noqa: RUF012  SQLAlchemy's own form


class AccountRow(Base):
    __tablename__ = "accounts"
    __table_args__ = _NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    is_admin: Mapped[bool]
    user_api_key: Mapped[str] = mapped_column(String(16), unique=True)
    mqtt_api_key: Mapped[str] = mapped_column(String(16), unique=True)
    time_zone: Mapped[str] = mapped_column(String(64))
    session_epoch: Mapped[int]
    created_at: Mapped[datetime]
    email: Mapped[str] = mapped_column(String(254), server_default=_EMPTY)
    alerts_api_key: Mapped[str] = mapped_column(String(16), server_default=_EMPTY, unique=True, index=True)

    def entity(self) -> Account:
        return Account(
            id=self.id,
            name=self.name,
            is_admin=self.is_admin,
            user_api_key=self.user_api_key,
            mqtt_api_key=self.mqtt_api_key,
            time_zone=self.time_zone,
            created_at=self.created_at,
            session_epoch=self.session_epoch,
            email=self.email,
            alerts_api_key=self.alerts_api_key,
        )


class AccountTokenRow(Base):
    __tablename__ = "account_tokens"
    __table_args__ = _NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(AccountRow.id, ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    created_at: Mapped[datetime]

    def entity(self) -> AccountToken:
        return AccountToken(self.id, self.account_id, self.name, self.created_at)


class BucketRow(Base):
    __tablename__ = "buckets"
    __table_args__ = _NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(AccountRow.id, ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str]
    retention_s: Mapped[int | None] = mapped_column(BigInteger)
    """For how long points are kept; None for ever."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    api_keys: Mapped[list[ApiKeyRow]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", passive_deletes=True
    )


class RollupRow(Base):
    """A rule for down-sampling one bucket into another, which exists for nothing else and goes with its rule."""

    __tablename__ = "rollups"
    __table_args__ = _NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    bucket_id: Mapped[int] = mapped_column(ForeignKey(BucketRow.id, ondelete="CASCADE"), index=True)
    target_bucket_id: Mapped[int] = mapped_column(ForeignKey(BucketRow.id, ondelete="CASCADE"), unique=True)
    window_s: Mapped[int] = mapped_column(BigInteger)
    aggregates: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime]

    target: Mapped[BucketRow] = relationship(lazy="joined", innerjoin=True, foreign_keys=target_bucket_id)

    def entity(self) -> Rollup:
        return Rollup(
            id=self.id,
            account_id=self.target.account_id,
            bucket_id=self.bucket_id,
            target_bucket_id=self.target_bucket_id,
            window_s=self.window_s,
            aggregates=tuple(self.aggregates),
            keep_s=self.target.retention_s,
            created_at=self.created_at,
        )


class ChannelFieldRow(Base):
    __tablename__ = "channel_fields"

    bucket_id: Mapped[int] = mapped_column(ForeignKey("channels.bucket_id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(255))
    unit: Mapped[str] = mapped_column(String(32), server_default=text("''"))
    label: Mapped[str] = mapped_column(String(255), server_default=text("''"))


class ApiKeyRow(Base):
    __tablename__ = "api_keys"
    __table_args__ = _NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    bucket_id: Mapped[int] = mapped_column(ForeignKey(BucketRow.id, ondelete="CASCADE"), index=True)
    key: Mapped[str] = mapped_column(String(16), unique=True)
    allows_write: Mapped[bool]
    note: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime]

    def entity(self) -> ApiKey:
        return ApiKey(self.id, self.key, self.allows_write, self.note, self.created_at)


class ChannelRow(Base):
    """What a ThingSpeak channel has beyond every bucket."""

    __tablename__ = "channels"

    bucket_id: Mapped[int] = mapped_column(ForeignKey(BucketRow.id, ondelete="CASCADE"), primary_key=True)
    latitude: Mapped[str] = mapped_column(String(32))
    longitude: Mapped[str] = mapped_column(String(32))
    elevation: Mapped[str] = mapped_column(String(32))
    is_public: Mapped[bool]
    url: Mapped[str]
    github_url: Mapped[str]
    # `metadata` is taken on a declarative class, so the attribute has another name than its column.
    channel_metadata: Mapped[str] = mapped_column("metadata")
    tags: Mapped[list[str]] = mapped_column(JSON)
    takes_names: Mapped[bool] = mapped_column(server_default=false())

    bucket: Mapped[BucketRow] = relationship(lazy="joined", innerjoin=True)
    fields: Mapped[list[ChannelFieldRow]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by=ChannelFieldRow.number
    )

    def apply(self, settings: ChannelSettings) -> None:
        """Take over every setting; the bucket's name, description and retention included."""
        self.bucket.name = settings.name
        self.bucket.description = settings.description
        self.bucket.retention_s = settings.retention_s
        self.latitude = settings.latitude
        self.longitude = settings.longitude
        self.elevation = settings.elevation
        self.is_public = settings.is_public
        self.url = settings.url
        self.github_url = settings.github_url
        self.channel_metadata = settings.metadata
        self.tags = list(settings.tags)
        self.takes_names = settings.takes_names
        self.fields = [
            ChannelFieldRow(
                number=number, name=name, unit=settings.units.get(number, ""), label=settings.labels.get(number, "")
            )
            for number, name in sorted(settings.fields.items())
        ]

    def entity(self) -> Channel:
        settings = ChannelSettings(
            name=self.bucket.name,
            description=self.bucket.description,
            fields={field.number: field.name for field in self.fields},
            latitude=self.latitude,
            longitude=self.longitude,
            elevation=self.elevation,
            is_public=self.is_public,
            url=self.url,
            github_url=self.github_url,
            metadata=self.channel_metadata,
            tags=tuple(self.tags),
            retention_s=self.bucket.retention_s,
            units={field.number: field.unit for field in self.fields if field.unit},
            labels={field.number: field.label for field in self.fields if field.label},
            takes_names=self.takes_names,
        )
        return Channel(
            id=self.bucket_id,
            account_id=self.bucket.account_id,
            settings=settings,
            api_keys=tuple(
                key.entity() for key in sorted(self.bucket.api_keys, key=lambda key: (not key.allows_write, key.id))
            ),
            created_at=self.bucket.created_at,
            updated_at=self.bucket.updated_at,
        )


class GrantRow(Base):
    __tablename__ = "grants"

    device_id: Mapped[int] = mapped_column(ForeignKey("mqtt_devices.id", ondelete="CASCADE"), primary_key=True)
    bucket_id: Mapped[int] = mapped_column(ForeignKey(BucketRow.id, ondelete="CASCADE"), primary_key=True, index=True)
    allow_publish: Mapped[bool]
    allow_subscribe: Mapped[bool]


class MqttDeviceRow(Base):
    __tablename__ = "mqtt_devices"
    __table_args__ = _NEVER_REUSED

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(AccountRow.id, ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    client_id: Mapped[str] = mapped_column(String(23), unique=True)
    username: Mapped[str] = mapped_column(String(23))
    password_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    is_enabled: Mapped[bool]
    created_at: Mapped[datetime]

    grants: Mapped[list[GrantRow]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by=GrantRow.bucket_id
    )

    def grant(self, grants: Sequence[Grant]) -> None:
        """Take over every grant in place of those before."""
        self.grants = [
            GrantRow(
                bucket_id=grant.bucket_id,
                allow_publish=grant.allow_publish,
                allow_subscribe=grant.allow_subscribe,
            )
            for grant in sorted(grants, key=lambda grant: grant.bucket_id)
        ]

    def entity(self) -> MqttDevice:
        return MqttDevice(
            id=self.id,
            account_id=self.account_id,
            name=self.name,
            client_id=self.client_id,
            username=self.username,
            is_enabled=self.is_enabled,
            grants=tuple(Grant(grant.bucket_id, grant.allow_publish, grant.allow_subscribe) for grant in self.grants),
            created_at=self.created_at,
        )


class AccountDeviceRow(Base):
    __tablename__ = "account_devices"
    # The index of the constraint begins with the account, so finding an account's devices needs none of its own.
    __table_args__ = (UniqueConstraint("account_id", "device_id"), _NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(AccountRow.id, ondelete="CASCADE"))
    device_id: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(255))
    credential_hash: Mapped[str] = mapped_column(String(255))
    is_enabled: Mapped[bool]
    created_at: Mapped[datetime]

    def entity(self) -> AccountDevice:
        return AccountDevice(
            id=self.id,
            account_id=self.account_id,
            device_id=self.device_id,
            name=self.name,
            is_enabled=self.is_enabled,
            created_at=self.created_at,
        )
